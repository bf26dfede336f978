"""A constant that differs from place to place, in a format whose convolutions have a bias per channel."""

import numpy as np

from keras_snn.graph.geometry import pad_widths

__all__ = ["kernel_on_ones"]


def kernel_on_ones(node, sizes, pads, added):
    """Return the kernel of a convolution of ones that gives a constant, or `None` if there is none.

    A shift in front of a convolution is, after it, what the zeros at the border leave of the sum of its
    weights: so much a convolution of ones in the place of its input has too.

    Args:
        node: An `Affine` with a window, whose strides, dilation and padding the convolution has.
        sizes: Size of its input along each axis of the window.
        pads: Zeros `(before, after)` along each axis that come in front of the padding of `node`.
        added: The constant, of the shape of the value of `node`.

    Returns:
        Array of shape `(*window, 1, units)`.
    """
    axes = list(zip(sizes, node.window, node.strides, node.dilation, pads, strict=True))
    inside = [
        _inside(*axis, node.padding, positions) for axis, positions in zip(axes, added.shape, strict=False)
    ]
    kernel = _along([np.linalg.pinv(ones) for ones in inside], added)
    if not np.allclose(_along(inside, kernel), added, rtol=0, atol=1e-6 * np.abs(added).max()):
        return None
    return kernel[..., None, :]


def _inside(size, width, stride, dilation, pads, padding, positions):
    """Return ones where a place of a window along an axis meets a value, `(positions, window)`."""
    before = pads[0] + pad_widths(size + sum(pads), width, stride, dilation, padding)[0]
    met = np.arange(positions)[:, None] * stride + np.arange(width) * dilation - before
    return ((met >= 0) & (met < size)).astype("float64")


def _along(matrices, array):
    """Return the array multiplied by a matrix along each of its first axes."""
    for axis, matrix in enumerate(matrices):
        array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
    return array
