"""Functions with exact values and a chosen gradient, where their own is 0 almost everywhere.

The gradient costs nothing unless one is asked for: no operation of it runs in `predict`.
"""

import contextlib
import contextvars

from keras import ops

__all__ = ["floor", "round_half_up", "triangle", "with_gradient", "within", "without_gradients"]

_NOT_ASKED_FOR = contextvars.ContextVar("not_asked_for", default=False)


@contextlib.contextmanager
def without_gradients():
    """Return a context in which nobody asks for a gradient, as in `predict`.

    TensorFlow keeps every graph with a chosen gradient for as long as the process lives.
    """
    token = _NOT_ASKED_FOR.set(True)
    try:
        yield
    finally:
        _NOT_ASKED_FOR.reset(token)


def with_gradient(function, slope, *inputs):
    """Return `function(*inputs)`, whose derivative by the first input is taken to be `slope(*inputs)`.

    By the others it is 0.

    >>> ops.convert_to_numpy(with_gradient(ops.floor, ops.ones_like, ops.array([1.5], "float32")))
    array([1.], dtype=float32)
    """
    if _NOT_ASKED_FOR.get():
        return function(*inputs)

    @ops.custom_gradient
    def chosen(*inputs):
        def gradient(*upstreams, upstream=None):
            upstream = upstreams[0] if upstream is None else upstream
            first = upstream * slope(*inputs)
            return (first, *map(ops.zeros_like, inputs[1:])) if len(inputs) > 1 else first

        return function(*inputs), gradient

    return chosen(*inputs)


def floor(x):
    """Return the largest integers up to x, in the dtype of x.

    >>> ops.convert_to_numpy(floor(ops.array([1.5, -0.5], "float32")))
    array([ 1., -1.], dtype=float32)
    """
    # On PyTorch it would be float32 (keras-team/keras#23223), and what it is multiplied by with it.
    return ops.cast(ops.floor(x), x.dtype)


def round_half_up(x):
    """Return floor(x + ½), with the gradient of x.

    >>> ops.convert_to_numpy(round_half_up(ops.array([0.5, 1.49, -0.75], "float32")))
    array([ 1.,  1., -1.], dtype=float32)
    """
    return with_gradient(lambda x: floor(x + 0.5), ops.ones_like, x)


def triangle(v, at, width):
    """Return a triangle over v, of area 1: max(0, 1 − |v − at|/width)/width."""
    return ops.relu(1.0 - ops.abs(v - at) / width) / width


def within(v, low, high):
    """Return 1 where low ≤ v < high, else 0."""
    return ops.cast(ops.logical_and(v >= low, v < high), v.dtype)
