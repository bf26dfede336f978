"""Mean and variance of activations without data: as batch normalization and the weights give them."""

import functools
import math

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import value_of

__all__ = ["assumed_maxima", "moments_without_data", "normal_tail"]

_ROWS = 512


def moments_without_data(graph):
    """Return `(mean, variance)` per channel of the input of every relu, by name of the relu.

    Takes it as normally distributed, channel by channel. A batch norm knows its mean and
    variance; through other layers they are propagated as if inputs were independent, from
    an input of uniform values in [0, 1], or in [0, 255] in front of a rescaling of images.

    Args:
        graph: A `Graph` before folding, which would lose what the batch norms know.
    """
    moments, of_relus, maxima = {}, {}, assumed_maxima(graph)
    for node in graph.nodes.values():
        if isinstance(node, kinds.Input):
            channels, largest = node.shape[-1] if node.shape else 1, maxima[node.name]
            moments[node.name] = np.full(channels, largest / 2), np.full(channels, largest**2 / 12)
            continue
        inputs = [moments[name] for name in node.inputs]
        if isinstance(node, kinds.Activation) and node.has_scale:
            of_relus[node.name] = inputs[0]
        shapes = [graph.nodes[name].shape for name in node.inputs]
        moments[node.name] = _propagate(node, *inputs, shapes=shapes)
    return of_relus


def normal_tail(z):
    """Return the probability that a standard normal variable exceeds z."""
    return 0.5 * np.vectorize(math.erfc, otypes=[float])(z / math.sqrt(2))


def assumed_maxima(graph):
    """Return the largest value that each input is assumed to take, by name: 1, or 255 if images are rescaled.

    Args:
        graph: A `Graph` before folding.
    """
    maxima = {node.name: 1.0 for node in graph.nodes.values() if isinstance(node, kinds.Input)}
    for node in graph.nodes.values():
        if node.inputs and node.inputs[0] in maxima and _rescales_images(node):
            maxima[node.inputs[0]] = 255.0
    return maxima


def _rescales_images(node):
    return isinstance(node, kinds.ChannelAffine) and node.moments is None and np.abs(node.scale).max() < 0.05


@functools.singledispatch
def _propagate(node, *inputs, shapes):
    """Return `(mean, variance)` per channel of the value of a node, for those of its inputs.

    By drawing normal inputs of `shapes`, where no formula below is shorter.
    """
    rng = np.random.default_rng(0)
    # Fewer samples of large values, for the sake of memory.
    samples = min(max(2**22 // math.prod(shapes[0]), 2), 64)
    drawn = [
        rng.normal(mean, np.sqrt(variance), (samples, *shape))
        for (mean, variance), shape in zip(inputs, shapes, strict=True)
    ]
    values = value_of(node, *(x.astype("float32") for x in drawn))
    values = values.reshape(-1, values.shape[-1] if node.shape else 1)
    return values.mean(axis=0), values.var(axis=0)


@_propagate.register
def _moments_of_affine(node: kinds.Affine, moments, **_):
    *window, inputs, units = node.kernel.shape
    kernel = node.kernel.reshape(math.prod(window), inputs, units)
    mean, variance = (v.reshape(node.groups, inputs) for v in moments)
    first, second = node.bias.astype("float64"), np.zeros(units)
    # Some rows at a time: all of them in float64 would be a multiple of the weights.
    for start in range(0, inputs, _ROWS):
        rows = slice(start, start + _ROWS)
        weights = kernel[:, rows].astype("float64")
        # Inputs of a group, repeated for every unit of it.
        means, variances = (np.repeat(v[:, rows], units // node.groups, axis=0).T for v in (mean, variance))
        first = first + (weights * means).sum((0, 1))
        second = second + (weights**2 * variances).sum((0, 1))
    return first, second


@_propagate.register
def _moments_of_channel_affine(node: kinds.ChannelAffine, moments, **_):
    mean, variance = moments if node.moments is None else node.moments
    scale, shift = (v if v.ndim < 2 else v.reshape(-1, v.shape[-1]).mean(0) for v in (node.scale, node.shift))
    return mean * scale + shift, variance * scale**2


@_propagate.register
def _moments_of_pool(_node: kinds.Pool, moments, **_):
    return moments


@_propagate.register
def _moments_of_activation(node: kinds.Activation, moments, *, shapes):
    if node.function != "relu":
        return _propagate.dispatch(object)(node, moments, shapes=shapes)
    mean, variance = moments
    # Moments of the positive part of a normal variable.
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    z = mean / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    positive = normal_tail(-z)
    first = mean * positive + deviation * density
    second = (mean**2 + variance) * positive + mean * deviation * density
    return first, np.maximum(second - first**2, 0.0)


@_propagate.register
def _moments_of_rearrange(node: kinds.Rearrange, moments, *, shapes):
    mode = "edge" if node.function == "pad" else "constant"
    moved = [node.move(np.broadcast_to(v if shapes[0] else v[0], shapes[0]), mode=mode) for v in moments]
    return tuple(v.reshape(-1, v.shape[-1] if node.shape else 1).mean(axis=0) for v in moved)


@_propagate.register
def _moments_of_add(_node: kinds.Add, *inputs, **_):
    means, variances = zip(*inputs, strict=True)
    return sum(means), sum(variances)


@_propagate.register
def _moments_of_concatenate(node: kinds.Concatenate, *inputs, **_):
    if node.axis != -1:
        return tuple(np.mean(values, axis=0) for values in zip(*inputs, strict=True))
    return tuple(np.concatenate(values) for values in zip(*inputs, strict=True))
