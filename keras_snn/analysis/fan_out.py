"""How many outputs of a linear map each of its inputs reaches."""

import itertools

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.geometry import pad_widths

__all__ = ["fan_out"]


def fan_out(node, shape, *, zeros=False):
    """Return how many outputs of a linear node each input reaches, integers of the shape of the input.

    Args:
        node: An `Affine` or `ChannelAffine`.
        shape: Shape of its input, without batch.
        zeros: Whether weights that are 0 reach as well.
    """
    if isinstance(node, kinds.ChannelAffine):
        return np.broadcast_to(np.logical_or(node.scale != 0, zeros), shape).astype("int64")
    *window, inputs, _ = node.kernel.shape
    weights = np.logical_or(node.kernel != 0, zeros).reshape(*window, inputs, node.groups, -1)
    # By place in the window and input channel.
    reached = np.moveaxis(weights.sum(axis=-1), -1, -2).reshape(*window, inputs * node.groups)
    if not window:
        return np.broadcast_to(reached, shape)
    if node.transposed:
        reached = reached[(slice(None, None, -1),) * len(window)]
    for axis, size in enumerate(shape[:-1]):
        reached = np.moveaxis(np.tensordot(_contacts(node, axis, size), reached, (1, axis)), 0, axis)
    return reached


def _contacts(node, axis, size):
    """Return whether an input meets each place of some window along an axis, `(size, window)`."""
    window, stride, dilation = node.window[axis], node.strides[axis], node.dilation[axis]
    outputs = node.shape[axis]
    meets = np.zeros((size, window), "int64")
    if node.transposed:
        before, _ = node.transposed_padding()[axis]
        for i, k in itertools.product(range(size), range(window)):
            meets[i, k] = 0 <= i * stride + before - k * dilation < outputs
        return meets
    before, _ = pad_widths(size, window, stride, dilation, node.padding)
    for output, k in itertools.product(range(outputs), range(window)):
        i = output * stride + k * dilation - before
        if 0 <= i < size:
            meets[i, k] = 1
    return meets
