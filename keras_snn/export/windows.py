"""Windows of convolutions as other formats describe them: one padding for both ends of an axis."""

import numpy as np

from keras_snn.graph.composing import dense_kernel
from keras_snn.graph.geometry import pad_widths

__all__ = ["dense_kernel", "embedded_kernel"]


def embedded_kernel(node, sizes, pads, *, square):
    """Return the same convolution with as many zeros before an axis as after it.

    Keras may pad more after than before, which formats with one number per axis cannot
    express. Such a kernel is put into a larger one of zeros, which is exact.

    Args:
        node: An `Affine` with a window.
        sizes: Size of the input along each axis of the window.
        pads: Zeros `(before, after)` along each axis that come in front of the padding of `node`.
        square: Whether the window is to have one size along all axes.

    Returns:
        `(kernel, padding, dilation)`, the latter two one integer per axis; `None` if there is none, as
        for a square around a window of 2 × 3 values without padding.

    >>> from keras_snn.graph.nodes import Affine
    >>> node = Affine(
    ...     name="", kernel=np.ones((3, 1, 1)), bias=None, strides=(2,), dilation=(1,), padding="same"
    ... )
    >>> kernel, padding, dilation = embedded_kernel(node, (8,), ((0, 0),), square=False)
    >>> kernel.ravel(), padding, dilation
    (array([0., 1., 1., 1.]), (1,), (1,))
    """
    axes = []
    for size, width, stride, step, (before, after) in zip(
        sizes, node.window, node.strides, node.dilation, pads, strict=True
    ):
        own = pad_widths(size + before + after, width, stride, step, node.padding)
        axes.append((size, stride, before + own[0], after + own[1]))
    for kernel, dilation in _dilations(node):
        window = kernel.shape[:-2]
        places = _places(axes, window, dilation, square=square)
        if places is not None:
            widths = [(front, back) for _, front, back in places]
            padding = tuple(padding for padding, _, _ in places)
            return np.pad(kernel, (*widths, (0, 0), (0, 0))), padding, dilation
    return None


def _dilations(node):
    """Yield `(kernel, dilation)`: those of the node, and with the zeros of a dilated kernel in it."""
    yield node.kernel, tuple(node.dilation)
    if any(step > 1 for step in node.dilation):
        wide = [step * (n - 1) + 1 for n, step in zip(node.window, node.dilation, strict=True)]
        kernel = np.zeros((*wide, *node.kernel.shape[-2:]), node.kernel.dtype)
        kernel[tuple(slice(None, None, step) for step in node.dilation)] = node.kernel
        yield kernel, (1,) * len(wide)


def _places(axes, window, dilation, *, square):
    """Return `(padding, front, back)` of every axis in the smallest larger window, or `None`."""
    largest = max(window) + max(sum(axis[2:]) for axis in axes) + 2
    shared = range(max(window), largest)
    found = []
    for axis, width, step in zip(axes, window, dilation, strict=True):
        wanted = shared if square else range(width, largest)
        found.append({n: _place(*axis, width, step, n) for n in wanted})
    if square:
        return next((places for n in shared if None not in (places := [of[n] for of in found])), None)
    places = [next(filter(None, of.values()), None) for of in found]
    return None if None in places else places


def _place(size, stride, before, after, width, dilation, wanted):
    """Return `(padding, front, back)` for a window in one of `wanted` values, or `None`.

    `front` and `back` are the zeros before and after the window in the larger one.
    """
    positions = (size + before + after - dilation * (width - 1) - 1) // stride + 1
    for front in range(wanted - width + 1):
        padding = before + dilation * front
        if (size + 2 * padding - dilation * (wanted - 1) - 1) // stride + 1 == positions:
            return padding, front, wanted - width - front
    return None
