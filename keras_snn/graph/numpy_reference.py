"""What a graph computes, in plain NumPy: the reference that passes are tested against."""

import functools

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.functions import keras_function
from keras_snn.graph.geometry import pad_widths

__all__ = ["affine_windows", "evaluate", "pool_windows", "value_of"]


def evaluate(graph, inputs, *, everything=False):
    """Return the outputs of `graph` for `inputs`, in float64.

    Args:
        graph: A `Graph`.
        inputs: Arrays `(batch, …)`, nested like `graph.inputs`.
        everything: Whether to return a dict of the value of every node instead.

    Returns:
        Arrays `(batch, …)`, nested like `graph.outputs`.
    """
    values = dict(zip(keras.tree.flatten(graph.inputs), keras.tree.flatten(inputs), strict=True))
    values = {name: np.asarray(value, "float64") for name, value in values.items()}
    for node in graph.nodes.values():
        if not isinstance(node, kinds.Input):
            values[node.name] = value_of(node, *(values[name] for name in node.inputs))
    if everything:
        return values
    return keras.tree.map_structure(values.__getitem__, graph.outputs)


@functools.singledispatch
def value_of(node, *inputs):
    """Return the value of one node."""
    raise NotImplementedError(type(node).__name__)


@value_of.register
def _value_of_affine(node: kinds.Affine, x):
    kernel = node.kernel.astype("float64")
    window = kernel.shape[:-2]
    if not window:
        return x @ kernel + node.bias
    patches = affine_windows(node, x)
    if node.transposed:
        kernel = kernel[(slice(None, None, -1),) * len(window)]
    *positions, channels = patches.shape[: x.ndim]
    grouped = patches.reshape(*positions, node.groups, channels // node.groups, -1)
    kernel = kernel.reshape(-1, kernel.shape[-2], node.groups, kernel.shape[-1] // node.groups)
    y = np.einsum("...gcw,wcgu->...gu", grouped, kernel)
    return y.reshape(*positions, -1) + node.bias


@value_of.register
def _value_of_channel_affine(node: kinds.ChannelAffine, x):
    return x * node.scale + node.shift


@value_of.register
def _value_of_activation(node: kinds.Activation, x):
    if node.levels:
        step, lowest = node.max_value / node.levels, 0 if node.function == "relu" else -node.levels
        return step * np.clip(np.floor(x / step + 0.5), lowest, node.levels)
    if node.function == "relu":
        return np.clip(x, 0.0, node.max_value)
    if node.is_binary:
        y = np.where(x == 0, node.at_zero, np.sign(x))
        return np.maximum(y, 0.0) if node.function == "heaviside" else y
    return _of_readout(node, x)


@value_of.register(kinds.Readout)
def _of_readout(node, x):
    if node.function == "softmax":
        e = np.exp(x - x.max(axis=node.axis, keepdims=True))
        return e / e.sum(axis=node.axis, keepdims=True)
    return keras.ops.convert_to_numpy(keras_function(node.function)(keras.ops.convert_to_tensor(x)))


@value_of.register
def _value_of_spike(node: kinds.Spike, x):
    return node.neuron.asymptotic_rate(x)


@value_of.register
def _value_of_encode(node: kinds.Encode, x):
    return np.clip(x * (node.rate / node.scale), -1.0, 1.0)


@value_of.register
def _value_of_pool(node: kinds.Pool, x):
    patches = pool_windows(node, x, fill=np.nan)
    axes = tuple(range(x.ndim, patches.ndim))
    return np.nanmax(patches, axes) if node.function == "max" else np.nanmean(patches, axes)


@value_of.register
def _value_of_rearrange(node: kinds.Rearrange, x):
    return node.move(x, leading=1)


@value_of.register
def _value_of_add(_node: kinds.Add, *inputs):
    return functools.reduce(np.add, inputs)


@value_of.register
def _value_of_concatenate(node: kinds.Concatenate, *inputs):
    return np.concatenate(inputs, axis=node.axis)


@value_of.register
def _value_of_opaque(node: kinds.Opaque, *inputs):
    y = node.model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    return keras.ops.convert_to_numpy(y).astype("float64")


def pool_windows(node, x, *, fill):
    """Return the windows of a pool over `x`, `(batch, *positions, channels, *window)`, padded with `fill`."""
    return _windows(x, node.window, node.strides, (1,) * len(node.window), node.padding, fill=fill)


def affine_windows(node, x):
    """Return the windows of a convolution over `x`, `(batch, *positions, channels, *window)`, padded with 0.

    Of a transposed one they are those of the kernel reversed.
    """
    if node.transposed:
        return _spread(x, node)
    return _windows(x, node.window, node.strides, node.dilation, node.padding, fill=0.0)


def _spread(x, node):
    """Return the windows over `x` with zeros between its values, for a transposed convolution."""
    batch, *spatial, channels = x.shape
    wide = [(size - 1) * stride + 1 for size, stride in zip(spatial, node.strides, strict=True)]
    between = np.zeros((batch, *wide, channels))
    between[(slice(None), *(slice(None, None, stride) for stride in node.strides))] = x
    padded = np.pad(between, ((0, 0), *node.transposed_padding(), (0, 0)))
    return _windows(padded, node.window, (1,) * len(wide), node.dilation, "valid", fill=0.0)


def _windows(x, window, strides, dilation, padding, *, fill):
    """Return the windows of `x`, of shape `(batch, *positions, channels, *window)`."""
    spatial = x.shape[1:-1]
    widths = [
        pad_widths(size, *axis, padding)
        for size, axis in zip(spatial, zip(window, strides, dilation, strict=True), strict=True)
    ]
    x = np.pad(x, ((0, 0), *widths, (0, 0)), constant_values=fill)
    reach = tuple(d * (w - 1) + 1 for w, d in zip(window, dilation, strict=True))
    axes = tuple(range(1, x.ndim - 1))
    patches = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
    every_stride = (slice(None), *(slice(None, None, s) for s in strides), slice(None))
    return patches[(*every_stride, *(slice(None, None, d) for d in dilation))]
