"""Windows that move over axes, the zeros at their ends and how many positions there are; moves of values."""

import math

import numpy as np

__all__ = ["moved", "pad_widths", "transposed_pad_widths", "window_shape"]


def pad_widths(size, window, stride, dilation, padding):
    """Return the zeros before and after an axis of `size`, as Keras pads it.

    >>> pad_widths(5, window=3, stride=2, dilation=1, padding="same")
    (1, 1)
    """
    reach = dilation * (window - 1) + 1
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return reach - 1, 0
    total = max(0, (math.ceil(size / stride) - 1) * stride + reach - size)
    return total // 2, total - total // 2


def transposed_pad_widths(window, stride, dilation, padding, output_padding):
    """Return the zeros before and after an axis with `stride` − 1 zeros between its values.

    A convolution of these with the kernel reversed is the transposed one, as Keras defines it.

    >>> transposed_pad_widths(3, stride=2, dilation=1, padding="valid", output_padding=None)
    (2, 2)
    """
    reach = dilation * (window - 1) + 1
    if padding == "valid":
        extra = max(reach, stride) - reach if output_padding is None else output_padding
        return reach - 1, reach - 1 + extra
    total = reach + (stride if output_padding is None else reach % 2 + output_padding) - 2
    before = min(total - total // 2, reach - 1)
    return before, total - before


def window_shape(shape, window, strides, dilation, padding):
    """Return the number of window positions along each axis of `shape`."""
    positions = []
    for size, width, stride, step in zip(shape, window, strides, dilation, strict=True):
        if size is None:
            positions.append(None)
            continue
        before, after = pad_widths(size, width, stride, step, padding)
        positions.append((size + before + after - step * (width - 1) - 1) // stride + 1)
    return tuple(positions)


def moved(array, function, argument, *, leading=0, mode="constant"):
    """Return an array as a `keras_snn.graph.nodes.Rearrange` moves it.

    Args:
        array: The array.
        function: That of the node.
        argument: That of the node.
        leading: Number of axes in front that stay.
        mode: What is padded, as in `numpy.pad`.
    """
    first = range(leading)
    if function == "reshape":
        return array.reshape((*array.shape[:leading], *argument))
    if function == "transpose":
        return array.transpose(*first, *(leading + axis for axis in argument))
    if function == "pad":
        return np.pad(array, (*((0, 0) for _ in first), *argument), mode=mode)
    if function == "slice":
        return array[(*(slice(None) for _ in first), *(slice(*bounds) for bounds in argument))]
    for axis, how in enumerate(argument, start=leading):
        if function == "repeat":
            array = np.repeat(array, how, axis=axis)
        elif how is not None:
            array = np.take(array, how, axis=axis)
    return array
