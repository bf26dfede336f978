"""Choosing the scale λ of every activation, and rescaling the network by it.

λ is the activation that becomes one spike per time step: one number for a layer, or one for
each of its channels. A rule chooses it from how often the activation has which value.
"""

import dataclasses
import functools
import operator

import numpy as np

from keras_snn._validation import check_number
from keras_snn.conversion.common_scales import common_scales, touching
from keras_snn.graph import nodes as kinds
from keras_snn.graph.passes import fold, insert_scales

__all__ = [
    "ScaleRule",
    "channels_apart",
    "choose_scales",
    "normalize",
    "relus",
    "sharing",
    "trained_scales",
]

# Fewer non-zero values do not show what a channel needs: it takes the scale of its layer.
_FEWEST = 100
# The scale of the layer counts as much as so many values of a channel, and changes it at most so many times.
_WORTH_OF_LAYER, _FARTHEST = 3000, 4


@dataclasses.dataclass(frozen=True)
class ScaleRule:
    """How λ follows from the distribution of an activation a.

    `"percentile"` and `"max"`: of the non-zero activations. `"mse"`: the λ of a grid up to the maximum
    that minimises Σ (a − λ·r(a/λ))², with r the rate of an ideal neuron after T steps. `"gaussian"`: the
    same for normally distributed currents of the measured or known mean and variance. `"ltb"`:
    λ ← λ + 2·mean(max(a − λ, 0)), from λ = 0 on until that adds less than 1 %. `"none"`: λ = 1.

    Args:
        method: One of these names.
        percentile: In percent.
        neuron: Object of `keras_snn.neurons`.
        timesteps: Number of steps T.

    Source:
        Maximum: Diehl et al. (2015), IJCNN. Percentile: Rueckauer et al. (2017),
        doi:10.3389/fnins.2017.00682, "Parameter Normalization". Least squares: Li et al. (2021), ICML, "A
        free lunch from ANN". Local threshold balancing: Bu et al. (2024), arXiv:2409.03368, here with the
        activations of the network without clipping.
    """

    method: str
    percentile: float
    neuron: object
    timesteps: int

    def scales_of_each(self, histogram):
        """Return λ of each channel of a `Histogram` on its own, `(channels,)`; 1 if nothing was active."""
        if not histogram.counts.any():
            return np.ones(len(histogram.counts))
        return {
            "percentile": lambda histogram: histogram.percentile(self.percentile),
            "max": lambda histogram: histogram.maximum,
            "mse": self._least_squares,
            "gaussian": self._least_squares,
            "ltb": _balanced,
            "none": lambda histogram: np.ones(len(histogram.counts)),
        }[self.method](histogram)

    def scales(self, histogram):
        """Return λ of each channel, `(channels,)`; that of the layer for a channel with less than 100 values.

        Those that lose least on the values seen are drawn towards that of the layer, the fewer they are:
        log λ = (n·log λ_channel + k·log λ_layer)/(n + k), with n the number of non-zero values of the channel
        and k = 3,000; at most by a factor of 4.

        Args:
            histogram: A `Histogram` with channels.
        """
        own, number = self.scales_of_each(histogram), histogram.counts.sum(axis=1)
        if len(number) == 1 or not number.any():
            return own
        of_layer = self.scales_of_each(histogram.pooled())
        enough = number >= _FEWEST
        if self.method in ("mse", "gaussian", "ltb"):
            # A channel without values has no scale.
            drawn = (
                _WORTH_OF_LAYER
                / (number + _WORTH_OF_LAYER)
                * np.log(of_layer / np.where(enough, own, of_layer))
            )
            own = own * np.exp(np.clip(drawn, -np.log(_FARTHEST), np.log(_FARTHEST)))
        return np.where(enough, own, of_layer)

    def _least_squares(self, histogram):
        values, counts = histogram.used()
        rate = self.neuron.rate_of_scale(self.timesteps)
        best, least = histogram.maximum, np.full(len(counts), np.inf)
        for percent in range(100, 0, -1):
            scale = np.maximum(histogram.maximum * (percent / 100), np.finfo("float32").tiny)[:, None]
            rates = self.neuron.ideal_rate(values * (rate / scale), self.timesteps)
            error = np.sum(counts * (values - rates * (scale / rate)) ** 2, axis=1)
            best, least = np.where(error < least, scale[:, 0], best), np.minimum(error, least)
        return best


def _balanced(histogram):
    values, counts = histogram.used()
    number = np.maximum(counts.sum(axis=1) + histogram.zeros, 1)
    scale, added = np.zeros(len(counts)), np.inf
    while np.any(added > 0.01 * scale):
        added = 2 * np.sum(counts * np.maximum(values - scale[:, None], 0.0), axis=1) / number
        scale = scale + added
    return scale


def relus(graph):
    """Return the activations of `graph` that have a scale, in order: relus, and relays of sums."""
    return [node for node in graph.nodes.values() if isinstance(node, kinds.Activation) and node.has_scale]


def sharing(graph):
    """Return the relus in groups: those after the calls of one shared layer, and of `common_scales`.

    With one λ for all its calls, a shared layer keeps one set of weights.
    """
    by_name, (common, _) = {node.name: node for node in relus(graph)}, common_scales(graph)
    names = touching([*([node.name for node in group] for group in _of_one_layer(graph)), *common])
    return [[node for name, node in by_name.items() if name in group] for group in names]


def _of_one_layer(graph):
    """Return the relus in groups: those after the calls of one shared layer are together."""
    groups = []
    for node in relus(graph):
        before = graph.weighted_before(node)
        for others, group in groups:
            if isinstance(before, kinds.Affine) and _share_weights(before, others):
                group.append(node)
                break
        else:
            groups.append((before, [node]))
    return [group for _, group in groups]


def _share_weights(node, other):
    """Whether two nodes are the same linear layer with equal weights."""
    if not isinstance(other, kinds.Affine) or node.source != other.source or node.source is None:
        return False
    return np.array_equal(node.kernel, other.kernel) and np.array_equal(node.bias, other.bias)


def channels_apart(graph, per_channel):
    """Return the number of channels of the relus that have a λ for each of them, by name.

    Those after a depthwise convolution, whose channels have nothing to do with each other, and those for
    which `per_channel(name)` is true; but none that needs one λ for all, or has it in common with one that
    has one for all, see `common_scales`.
    """
    groups, whole = common_scales(graph)
    apart = {
        node.name: node.shape[-1]
        for node in relus(graph)
        if node.shape
        and node.name not in whole
        and (per_channel(node.name) or _is_depthwise(graph.weighted_before(node)))
    }
    together = {name for group in groups if not apart.keys() >= set(group) for name in group}
    return {name: channels for name, channels in apart.items() if name not in together}


def _is_depthwise(node):
    return isinstance(node, kinds.Affine) and node.groups > 1 and node.kernel.shape[-2] == 1


def choose_scales(graph, histograms, rule_of):
    """Return λ of every relu by name: a number, or an array over its channels.

    A relu that was silent on all data gets 1, or its `max_value` if that is smaller; a channel with few
    values gets what the layer would. Relus after the calls of a shared layer get one λ, of the
    activations of all, and so do those of `common_scales` if they have the same rule.

    Args:
        graph: A `Graph`.
        histograms: `Histogram` of every relu by name.
        rule_of: Function that returns the `ScaleRule` of a relu by name.
    """
    scales, calls = {}, _of_one_layer(graph)
    for group in sharing(graph):
        for rule, of_rule in _by_rule(group, calls, rule_of):
            of_group = rule.scales(
                functools.reduce(operator.add, (histograms[node.name] for node in of_rule))
            )
            for node in of_rule:
                scale = np.minimum(of_group, node.max_value)
                scales[node.name] = float(scale[0]) if len(scale) == 1 else scale
    return scales


def _by_rule(group, calls, rule_of):
    """Return pairs of a rule and the relus of a group that have it; `calls` as of `_of_one_layer`."""
    found = []
    for nodes in calls:
        if nodes[0] in group:
            rule = rule_of(nodes[0].name)
            same = next((others for known, others in found if known == rule), None)
            if same is None:
                found.append((rule, list(nodes)))
            else:
                same += nodes
    return found


def trained_scales(graph):
    """Return λ by name of the relus that saturate and round at levels up to it: training chose it."""
    return {node.name: node.max_value for node in relus(graph) if node.levels}


def normalize(graph, scales):
    """Return the graph with every relu rescaled so that its value is a firing rate.

    Divides by λ before the relu and multiplies by λ after it, then folds both into the
    linear layers around: W → W·λ_in/λ_out, b → b/λ_out. What the graph computes stays.

    Args:
        graph: A `Graph`.
        scales: λ by name of the relu; positive, in activation units; a number, or an array over channels.

    Raises:
        ValueError: If a scale is not positive and finite.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Parameter Normalization".
    """
    limited, before, after = [], {}, {}
    for node in relus(graph):
        scale = scales[node.name]
        for one in np.ravel(scale):
            check_number(f"scale of '{node.name}'", one, above=0)
        limited.append(dataclasses.replace(node, max_value=node.max_value / scale))
        before[node.name], after[node.name] = 1 / scale, scale
    return fold(insert_scales(graph, before=before, after=after, replaced=limited))
