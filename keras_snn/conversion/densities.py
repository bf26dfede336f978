"""How often values are not 0: the rates of spikes, and what is computed of them without neurons."""

import functools
import math

import numpy as np

from keras_snn.graph import nodes as kinds

__all__ = ["EXPECTED_RATE", "density", "rates_of"]

# Spikes of a neuron in a step where nothing is measured.
EXPECTED_RATE = 0.1


def rates_of(neuron, histograms, scales):
    """Return the spikes in a step by name of the activation, from what is measured of it and its λ.

    Of time codes `None`: what no relu rectifies has relays there.

    Args:
        neuron: The neuron.
        histograms: `Histogram` by name; of each channel, or of all together.
        scales: λ by name.

    Returns:
        Dict of arrays, `(channels,)` or `(1,)`.
    """
    if neuron.is_time_code:
        return None
    return {
        name: np.minimum(_means(histogram) / np.reshape(scales.get(name, 1.0), -1), 1)
        for name, histogram in histograms.items()
    }


def _means(histogram):
    values, counts = histogram.used()
    return (counts * values).sum(axis=1) / np.maximum(counts.sum(axis=1) + histogram.zeros, 1)


def density(graph, name, rates):
    """Return the share of steps in which a value is not 0, an array that broadcasts over its channels.

    Values that are computed of several are 0 where all of these are, as if they came independently. Maxima
    have the density of what they are taken of.

    Args:
        graph: A `Graph` before neurons are put in.
        name: Name of the node.
        rates: Spikes in a step by name of the activation; `EXPECTED_RATE` of others.
    """
    node = graph.nodes[name]
    if isinstance(node, kinds.Activation) and node.becomes_spiking:
        return np.asarray(rates.get(name, EXPECTED_RATE), float)
    parts = [density(graph, source, rates) for source in node.inputs]
    sizes = [graph.nodes[source].shape[-1:] for source in node.inputs]
    if isinstance(node, kinds.Concatenate) and node.axis == -1:
        return np.concatenate([np.broadcast_to(*pair) for pair in zip(parts, sizes, strict=True)])
    if isinstance(node, kinds.Add):
        return 1 - functools.reduce(np.multiply, [1 - part for part in parts])
    if isinstance(node, kinds.Affine) and not node.bias.any():
        return _of_weighted(node, parts[0], sizes[0])
    if isinstance(node, kinds.Pool) and node.function == "average":
        return 1 - (1 - parts[0]) ** math.prod(node.window)
    keeps = isinstance(node, (kinds.Rearrange, kinds.Concatenate, kinds.Pool))
    if keeps or (isinstance(node, kinds.ChannelAffine) and not np.any(node.shift)):
        return parts[0] if sizes[0] == node.shape[-1:] else np.mean(parts[0])
    return np.ones(())


def _of_weighted(node, part, size):
    """Return the density of a weighted sum without a bias."""
    window = math.prod(node.window) / (math.prod(node.strides) if node.transposed else 1)
    silent = (1 - np.broadcast_to(part, size)).reshape(node.groups, -1) ** window
    return 1 - np.repeat(silent.prod(axis=1), node.kernel.shape[-1] // node.groups)
