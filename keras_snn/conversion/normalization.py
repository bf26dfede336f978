"""Choosing the scale λ of every activation, and rescaling the network by it.

λ is the activation that becomes one spike per time step. It comes from measured
activations, or without data from what batch normalization and the weights say about
their mean and variance.
"""

import dataclasses
import functools
import math
import operator

import numpy as np

from keras_snn._validation import check_choice, check_number
from keras_snn.graph import nodes as kinds
from keras_snn.graph.evaluation import value_of
from keras_snn.graph.passes import fold, insert_scale

__all__ = [
    "assumed_maxima",
    "check_normalization",
    "normalize",
    "relus",
    "scales_from_data",
    "scales_from_moments",
    "trained_scales",
]

_METHODS = ("percentile", "max", "none")
_ROWS = 512


def check_normalization(normalization, percentile):
    """Return the percentile that `normalization` stands for; max is the 100th, and none is `None`.

    Raises:
        ValueError, TypeError: If one of the two is not what it may be.
    """
    check_choice("normalization", normalization, _METHODS)
    hint = "Use 99.9 to ignore the largest 0.1 % of activations."
    percentile = check_number("percentile", percentile, above=0, at_most=100, hint=hint)
    return {"max": 100.0, "none": None}.get(normalization, percentile)


def relus(graph):
    """Return the activations of `graph` that have a scale, in order."""
    return [
        node
        for node in graph.nodes.values()
        if isinstance(node, kinds.Activation) and node.function == "relu"
    ]


def _sharing(graph):
    """Return the relus in groups: those behind the calls of one shared layer are together.

    With one λ for all its calls, a shared layer keeps one set of weights.
    """
    groups = []
    for node in relus(graph):
        before = graph.nodes[node.inputs[0]]
        for others, group in groups:
            if isinstance(before, kinds.Affine) and _share_weights(before, others):
                group.append(node)
                break
        else:
            groups.append((before, [node]))
    return [group for _, group in groups]


def _share_weights(node, other):
    """Whether two nodes say the same linear layer with equal weights."""
    if not isinstance(other, kinds.Affine) or node.source != other.source or node.source is None:
        return False
    return np.array_equal(node.kernel, other.kernel) and np.array_equal(node.bias, other.bias)


def scales_from_data(graph, histograms, percentile):
    """Return λ of every relu by name: a percentile of its non-zero activations.

    A relu that was silent on all data gets 1, or its `max_value` if that is smaller. Relus
    behind the calls of a shared layer get one λ, of the activations of all.

    Source:
        Diehl et al. (2015), IJCNN, for the maximum; Rueckauer et al. (2017),
        doi:10.3389/fnins.2017.00682, "Parameter Normalization", for the percentile.
    """
    scales = {}
    for group in _sharing(graph):
        histogram = functools.reduce(operator.add, (histograms[node.name] for node in group))
        scale = histogram.percentile(percentile) if histogram.maximum > 0 else 1.0
        scales |= {node.name: min(scale, node.max_value) for node in group}
    return scales


def trained_scales(graph):
    """Return λ by name of the relus that saturate and round at levels up to it: training chose it."""
    return {node.name: node.max_value for node in relus(graph) if node.levels}


def scales_from_moments(graph, percentile):
    """Return λ of every relu by name, without data.

    Takes every input of a relu as normally distributed, channel by channel. A batch norm
    knows its mean and variance; through other layers they are propagated as if inputs
    were independent, from an input of uniform values in [0, 1], or in
    [0, 255] in front of a rescaling of images. λ is the percentile of
    the positive part of the mixture of the channels.

    Args:
        graph: A `Graph` before folding, which would lose what the batch norms know.
        percentile: In percent.
    """
    moments, scales, maxima = {}, {}, assumed_maxima(graph)
    for node in graph.nodes.values():
        if isinstance(node, kinds.Input):
            channels, largest = node.shape[-1] if node.shape else 1, maxima[node.name]
            moments[node.name] = np.full(channels, largest / 2), np.full(channels, largest**2 / 12)
            continue
        inputs = [moments[name] for name in node.inputs]
        if isinstance(node, kinds.Activation) and node.function == "relu":
            scale = _positive_percentile(*inputs[0], percentile)
            scales[node.name] = min(scale, node.max_value)
        shapes = [graph.nodes[name].shape for name in node.inputs]
        moments[node.name] = _propagate(node, *inputs, shapes=shapes)
    for group in _sharing(graph):
        largest = max(scales[node.name] for node in group)
        scales |= {node.name: largest for node in group}
    return scales


def normalize(graph, scales):
    """Return the graph with every relu rescaled so that its value is a firing rate.

    Divides by λ before the relu and multiplies by λ behind it, then folds both into the
    linear layers around: W → W·λ_in/λ_out, b → b/λ_out. What the graph computes stays.

    Args:
        graph: A `Graph`.
        scales: λ by name of the relu; positive, in activation units.

    Raises:
        ValueError: If a scale is not positive and finite.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Parameter Normalization".
    """
    for node in relus(graph):
        scale = check_number(f"scale of '{node.name}'", scales[node.name], above=0)
        limited = dataclasses.replace(graph.nodes[node.name], max_value=node.max_value / scale)
        graph = graph.with_nodes({**graph.nodes, node.name: limited})
        graph = insert_scale(graph, 1 / scale, before=node.name)
        graph = insert_scale(graph, scale, after=node.name)
    return fold(graph)


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


def _positive_percentile(mean, variance, percentile):
    """Return the percentile of the positive values of a mixture of normal distributions."""
    deviation = np.sqrt(np.maximum(variance, 1e-12))

    def above(value):
        return np.mean(_normal_tail((value - mean) / deviation))

    highest = float(np.max(mean + 8 * deviation))
    if percentile == 100 or highest <= 0:
        # A normal distribution has no maximum; four deviations leave out one value in 30,000.
        return max(float(np.max(mean + 4 * deviation)), 1e-3)
    wanted = above(0.0) * (1 - percentile / 100)
    low, high = 0.0, highest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) > wanted else (low, middle)
    return high


def _normal_tail(z):
    return 0.5 * np.vectorize(math.erfc, otypes=[float])(np.asarray(z) / math.sqrt(2))


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
def _(node: kinds.Affine, moments, *, shapes):
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
def _(node: kinds.ChannelAffine, moments, *, shapes):
    mean, variance = moments if node.moments is None else node.moments
    scale, shift = (v if v.ndim < 2 else v.reshape(-1, v.shape[-1]).mean(0) for v in (node.scale, node.shift))
    return mean * scale + shift, variance * scale**2


@_propagate.register
def _(node: kinds.Pool, moments, *, shapes):
    return moments


@_propagate.register
def _(node: kinds.Activation, moments, *, shapes):
    if node.function != "relu":
        return _propagate.dispatch(object)(node, moments, shapes=shapes)
    mean, variance = moments
    # Moments of the positive part of a normal variable.
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    z = mean / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    positive = 1 - _normal_tail(z)
    first = mean * positive + deviation * density
    second = (mean**2 + variance) * positive + mean * deviation * density
    return first, np.maximum(second - first**2, 0.0)


@_propagate.register
def _(node: kinds.Rearrange, moments, *, shapes):
    mode = "edge" if node.function == "pad" else "constant"
    moved = [node.move(np.broadcast_to(v if shapes[0] else v[0], shapes[0]), mode=mode) for v in moments]
    return tuple(v.reshape(-1, v.shape[-1] if node.shape else 1).mean(axis=0) for v in moved)


@_propagate.register
def _(node: kinds.Add, *inputs, shapes):
    means, variances = zip(*inputs, strict=True)
    return sum(means), sum(variances)


@_propagate.register
def _(node: kinds.Concatenate, *inputs, shapes):
    if node.axis != -1:
        return tuple(np.mean(values, axis=0) for values in zip(*inputs, strict=True))
    return tuple(np.concatenate(values) for values in zip(*inputs, strict=True))
