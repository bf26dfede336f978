"""Two linear maps in a row as one, or as one and what is different at borders."""

import dataclasses
import itertools
import math

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.channel_affine import union_of_origins
from keras_snn.graph.geometry import pad_widths

__all__ = ["AxisOfWindow", "Term", "axes_of_windows", "composed", "dense_kernel", "of_windows"]

# All of an axis, as a `Rearrange` cuts it.
_WHOLE = (None, None, None)


@dataclasses.dataclass(frozen=True)
class Term:
    """A map of a value that is one of several summands.

    Attributes:
        affine: The `Affine`, without a bias.
        before: What moves the value along axes of places before the map, in order: `Rearrange` nodes.
        after: What moves the result after it: tuples of the function and the argument of a `Rearrange`.
    """

    affine: kinds.Affine
    before: tuple[kinds.Rearrange, ...] = ()
    after: tuple[tuple[str, tuple], ...] = ()


@dataclasses.dataclass(frozen=True)
class AxisOfWindow:
    """How a transposed window moves along an axis: input i reaches i·stride + tap·dilation − offset.

    Attributes:
        stride, dilation, window, offset: Integers.
        size, outputs: Number of places of the input, and of the output.
    """

    stride: int
    dilation: int
    window: int
    offset: int
    size: int
    outputs: int

    def inputs_of(self, output):
        """Yield `(input, tap)` for all that reach a place of the output, which may be beyond it."""
        for tap in range(self.window):
            i, rest = divmod(output + self.offset - tap * self.dilation, self.stride)
            if not rest and 0 <= i < self.size:
                yield i, tap


def axes_of_windows(node, shape):
    """Return the `AxisOfWindow` of every axis of a transposed convolution of values of `shape`."""
    pads = [before for before, _ in node.transposed_padding()]
    axes = zip(node.strides, node.dilation, node.window, pads, shape, node.shape, strict=False)
    return [
        AxisOfWindow(stride, dilation, window, dilation * (window - 1) - before, size, outputs)
        for stride, dilation, window, before, size, outputs in axes
    ]


def composed(first, second, shape):
    """Return the `Term`s that add up to `second` of `first`, without their biases; `()` for no way to do it.

    Zeros at a border come in after the first map. If either map has no window there is one term. If the first
    one is a transposed convolution, others take off what it would give beyond the border.

    Args:
        first: The `Affine` whose value the other takes.
        second: The other `Affine`, whose name the new ones have.
        shape: Shape of the value that `first` takes.
    """
    kernels = [dense_kernel(node.kernel, node.groups) for node in (first, second)]
    if _is_pointwise(first):
        kernel, of_places = kernels[0].reshape(kernels[0].shape[-2:]) @ kernels[1], second
    elif _is_pointwise(second):
        kernel, of_places = kernels[0] @ kernels[1].reshape(kernels[1].shape[-2:]), first
    else:
        return of_windows(kernels, axes_of_windows(first, shape), second, first) if first.transposed else ()
    return (Term(_like(second, first, of_places, kernel, shape=second.shape)),)


def _like(second, first, of_places, kernel, **fields):
    return dataclasses.replace(
        of_places,
        name=second.name,
        source=second.source,
        inputs=first.inputs,
        origins=union_of_origins(second, first),
        kernel=kernel.astype(second.kernel.dtype),
        bias=np.zeros_like(second.bias),
        groups=1,
        **fields,
    )


def _is_pointwise(node):
    """Whether a map does the same at every place, with what is there."""
    return set(node.window) <= {1} and set(node.strides) <= {1} and not node.transposed


def dense_kernel(kernel, groups):
    """Return the kernel of the same convolution with one group: zeros between the groups.

    Args:
        kernel: Array of shape `(*window, inputs / groups, units)`.
        groups: Number of groups.

    Returns:
        Array of shape `(*window, inputs, units)`.
    """
    if groups == 1:
        return kernel
    *window, inputs, units = kernel.shape
    dense = np.zeros((*window, inputs * groups, units), kernel.dtype)
    for i in range(groups):
        rows, columns = (slice(i * n, (i + 1) * n) for n in (inputs, units // groups))
        dense[..., rows, columns] = kernel[..., columns]
    return dense


# --- Windows after windows -----------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _OnAxis:
    """A way along an axis from the input of the first map to the output of the second.

    Attributes:
        taps: 1 where taps of both windows together are a tap of the new one, `(window, first, second)`.
        stride: Of the new window.
        before: What of the input it takes, as a `Rearrange` cuts it.
        after: `(function, argument)` of what moves the output along the axis.
        sign: What it counts as.
    """

    taps: np.ndarray
    stride: int
    before: tuple
    after: tuple[tuple, ...]
    sign: int = 1


def of_windows(kernels, axes, second, first):
    """Return the `Term`s of `composed` for a window after a transposed one.

    Args:
        kernels: Kernels of both maps, of one group.
        axes: `AxisOfWindow` of each axis of the first map.
        second: The second map.
        first: The first map, whose input, origins and channels count.
    """
    if second.transposed or len(second.window) != len(axes):
        return ()
    ways = [_ways(axis, second, i) for i, axis in enumerate(axes)]
    if any(way is None for way in ways):
        return ()
    # Both windows, the inputs and the outputs.
    rank, both = len(axes), np.tensordot(kernels[0], kernels[1], (-1, -2))
    both = np.moveaxis(both, rank, -2).astype("float64")
    shape = (*(axis.size for axis in axes), kernels[0].shape[-2])
    pairs = enumerate(itertools.product(*ways))
    return tuple(_term(chosen, both, shape, second, first, i) for i, chosen in pairs)


def _term(chosen, both, shape, second, first, number):
    """Return the `Term` of a way for each axis."""
    rank, kernel = len(chosen), both
    for axis, way in reversed(list(enumerate(chosen))):
        kernel = np.tensordot(way.taps, kernel, ((1, 2), (rank - 1, rank + axis)))
    kernel = kernel * math.prod(way.sign for way in chosen)
    before = ()
    if any(way.before != _WHOLE for way in chosen):
        argument = (*(way.before for way in chosen), _WHOLE)
        move = kinds.Rearrange(name=f"{second.name}/edge_{number}", function="slice", argument=argument)
        shape = move.output_shape(shape)
        before = (dataclasses.replace(move, shape=shape, origins=second.origins),)
    after = []
    for step, still in (("slice", _WHOLE), ("pad", (0, 0))):
        found = tuple(dict(way.after).get(step, still) for way in chosen)
        if any(part != still for part in found):
            after.append((step, (*found, still)))
    fields = {
        "strides": tuple(way.stride for way in chosen),
        "dilation": (1,) * rank,
        "padding": "valid",
        "transposed": True,
        "output_padding": None,
    }
    affine = _like(second, first, second, kernel, **fields)
    return Term(dataclasses.replace(affine, shape=affine.output_shape(shape)), before, tuple(after))


def _ways(first, second, axis):
    """Return the `_OnAxis` that add up to both maps along an axis, or `None`.

    Args:
        first: The `AxisOfWindow` of the first map.
        second: The second map, a convolution.
        axis: Which axis.
    """
    window, dilation, size = second.window[axis], second.dilation[axis], first.outputs
    stride, outputs = second.strides[axis], second.shape[axis]
    before = pad_widths(size, window, stride, dilation, second.padding)[0]
    # What is beyond the border of what the first map gives, as far as the second one looks.
    last = outputs - 1 + (window - 1) * dilation - before
    if stride > 1 or before > 1 or last > size:
        return None
    length = (first.window - 1) * first.dilation + (window - 1) * dilation + 1
    taps = np.zeros((length, first.window, window))
    for a, b in itertools.product(range(first.window), range(window)):
        taps[a * first.dilation + (window - 1 - b) * dilation, a, b] = 1
    start = (window - 1) * dilation - before + first.offset
    whole = (first.size - 1) * first.stride + max(length, first.stride)
    ways = [_OnAxis(taps, first.stride, _WHOLE, _cut(start, outputs, whole))]
    for place in [*range(-before, 0), *range(size, last + 1)]:
        reached = list(first.inputs_of(place))
        for tap in range(window) if reached else ():
            output = place + before - tap * dilation
            if 0 <= output < outputs:
                ways.append(_beyond(first, reached, (tap, window), (output, outputs)))
    return ways


def _cut(start, count, whole):
    """Return the moves that take `count` places from `start` on, of `whole`, and zeros beyond these."""
    stop, widths = min(start + count, whole), (0, max(start + count - whole, 0))
    moves = [("slice", (start, stop, None))] if (start, stop) != (0, whole) else []
    return (*moves, *([("pad", widths)] if any(widths) else []))


def _beyond(first, reached, tap, output):
    """Return the way that takes off what the first map gives at a place beyond the border.

    Args:
        first: The `AxisOfWindow` of the first map.
        reached: Pairs of an input that reaches the place, and the tap.
        tap: The tap of the second map that meets the place, and how many it has.
        output: The place of its output, and how many there are.
    """
    lowest, highest = min(i for i, _ in reached), max(i for i, _ in reached)
    count = highest - lowest + 1
    taps = np.zeros((count, first.window, tap[1]))
    for i, of_first in reached:
        taps[highest - i, of_first, tap[0]] = 1
    cut = [("slice", (count - 1, count, None))] if count > 1 else []
    after = (*cut, ("pad", (output[0], output[1] - 1 - output[0])))
    return _OnAxis(taps, 1, (lowest, highest + 1, None), after, -1)
