"""What operations a network of time codes needs by what its layers send: a quick model of the counts."""

import math

import numpy as np

from keras_snn.analysis.contents import own_sums
from keras_snn.analysis.fan_out import fan_out
from keras_snn.conversion.relays import hands_on
from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import value_of

__all__ = ["SendingCosts", "reach_of"]

_WEIGHTED = (kinds.Affine, kinds.ChannelAffine)


class SendingCosts:
    """The operations of a network of time codes for one sample, without those that no choice changes.

    A choice has, by name of the activation, an object with `additions`, the operations at synapses, `base`,
    or `None` where numbers are sent, and `window`, the steps in which spikes come.

    Args:
        graph: A folded `Graph` before neurons are put in.
    """

    def __init__(self, graph):
        self.receivers, self.of_sender = _receivers(graph), {}
        for i, (_, senders, _) in enumerate(self.receivers):
            for name in senders:
                self.of_sender.setdefault(name, []).append(i)

    def around(self, names, chosen):
        """Return the part of the operations that depends on what these layers send."""
        receivers = {i for name in names for i in self.of_sender.get(name, ())}
        additions = sum(chosen[name].additions for name in names)
        return additions + sum(self._updates(i, chosen) for i in receivers)

    def total(self, chosen):
        """Return the operations."""
        updates = sum(self._updates(i, chosen) for i in range(len(self.receivers)))
        return updates + sum(option.additions for option in chosen.values())

    def _updates(self, i, chosen):
        size, senders, fewest = self.receivers[i]
        windows = {}
        for name in senders:
            base = chosen[name].base
            if base is not None:
                windows[base] = max(windows.get(base, 0), chosen[name].window)
        return size * max(sum(windows.values()), fewest)


def _receivers(graph):
    """Return for all accumulators, those of a node together: how many, who sends to them, fewest updates."""
    own, arriving, found = own_sums(graph), {}, []
    for node in graph.nodes.values():
        senders = frozenset().union(*(arriving[name] for name in node.inputs))
        fires = isinstance(node, kinds.Activation) and node.has_scale
        if fires or not (hands_on(node) or node.name in own):
            # The inside of a pool is not counted.
            if senders and not isinstance(node, kinds.Pool):
                found.append((math.prod(node.shape), senders, 1 if fires else 0))
            senders = frozenset([node.name] if fires else [])
        arriving[node.name] = senders
    return found


def reach_of(graph, names):
    """Return how many weights all values of a channel reach, and how many sums without any, by name.

    Args:
        graph: A folded `Graph` before neurons are put in.
        names: Names of activations.

    Returns:
        Dict of pairs of arrays of one number for each channel.
    """
    sizes = [(graph.nodes[name].shape or (1,))[-1] for name in names]
    first = dict(zip(names, np.cumsum([1, *sizes])[:-1].tolist(), strict=True))
    weighted, plain = np.zeros(1 + sum(sizes)), np.zeros(1 + sum(sizes))
    # The number of the channel that sends each of the values of a node, from 1; 0 for what is no spike.
    senders = {}
    for node in graph.nodes.values():
        for source in node.inputs if isinstance(node, (*_WEIGHTED, kinds.Add, kinds.Activation)) else ():
            if senders[source].any():
                is_weighted, shape = isinstance(node, _WEIGHTED), graph.nodes[source].shape
                fan = fan_out(node, shape) if is_weighted else np.ones(shape)
                reached = np.bincount(senders[source].ravel(), fan.ravel(), len(plain))
                (weighted if is_weighted else plain)[:] += reached
        senders[node.name] = _senders(node, first, senders)
    found = {}
    for name, size in zip(names, sizes, strict=True):
        part = slice(first[name], first[name] + size)
        found[name] = weighted[part], plain[part]
    return found


def _senders(node, first, senders):
    if node.name in first:
        channels = np.arange((node.shape or (1,))[-1])
        return np.broadcast_to(first[node.name] + channels, node.shape or (1,))
    if hands_on(node):
        given = (senders[source][None].astype("float64") for source in node.inputs)
        return value_of(node, *given)[0].astype("int64")
    return np.zeros(node.shape, "int64")
