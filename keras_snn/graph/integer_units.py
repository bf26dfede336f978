"""Units in which sums become integers: one for each channel of all that is added up."""

import dataclasses

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.channel_affine import channel_affine, rows_of
from keras_snn.graph.graph import Graph

__all__ = ["SumUnits", "refuse", "weights_in_units", "with_factors"]

# Weights of a channel may be so much smaller than those of its layer before they lose bits.
_SMALLEST = 1 / 64
# Currents of inputs are rounded so that thresholds are from 2ⁿ to 2ⁿ⁺¹ units.
_CURRENT_BITS = 10
# Of larger weights, a part shows how well they are rounded.
_ROWS = 2**14
_MOVES = (kinds.Pool, kinds.Rearrange, kinds.Concatenate)


def refuse(node, what, way_out):
    """Raise the `ValueError` for a node that cannot be of integers."""
    name = node.origins[0] if node.origins else node.name
    raise ValueError(
        f"`weight_bits` needs layers that add integers up. Received: layer '{name}' with {what}. "
        f"{way_out[0].upper()}{way_out[1:]}, or leave weight_bits out."
    )


def with_factors(graph):
    """Return the graph with a factor of 1 wherever something goes into a sum or into neurons as it is.

    In a sum it becomes the integer that is added for one unit of what comes in.
    """
    nodes, sums = dict(graph.nodes), _Sums(graph)
    for node in graph.nodes.values():
        if not isinstance(node, (kinds.Add, kinds.Spike)):
            continue
        inputs = list(node.inputs)
        for i, name in enumerate(inputs):
            if not sums.is_made_of(name):
                source = nodes[name]
                factor = channel_affine(nodes, f"{node.name}/factor", source, 1.0, 0.0, origins=node.origins)
                nodes[factor.name], inputs[i] = factor, factor.name
        nodes[node.name] = dataclasses.replace(node, inputs=tuple(inputs))
    return Graph(nodes, graph.inputs, graph.outputs).with_nodes(nodes)


class _Sums:
    """Which nodes of a graph are sums, whose unit can be chosen."""

    def __init__(self, graph):
        self.nodes, self.users = graph.nodes, graph.users()
        self.before_neurons = _before_neurons(graph)

    def has(self, node):
        """Whether the unit of a node can be chosen, alone or with others."""
        return isinstance(node, (kinds.Affine, kinds.Add)) or self.follows(node) or self.is_factor(node)

    def follows(self, node):
        """Whether a node scales or shifts a sum channel by channel: its unit follows from that of the sum."""
        if not isinstance(node, kinds.ChannelAffine) or node.scale.ndim > 1 or np.any(node.scale == 0):
            return False
        before = self.nodes[node.inputs[0]]
        return isinstance(before, (kinds.Affine, kinds.Add)) or self.follows(before)

    def is_factor(self, node):
        """Whether a node multiplies spikes that are then added up, or shifted, so that it is a weight.

        Of spikes that it only multiplies for the weights after it, it is a part of these.
        """
        if not isinstance(node, kinds.ChannelAffine) or self.is_made_of(node.inputs[0]):
            return False
        if node.shift.any() and node.inputs[0] not in self.before_neurons:
            return True
        taken_by = self._taken_by(node)
        is_added = any(isinstance(user, (kinds.Add, kinds.Spike)) for user in taken_by)
        return is_added and not any(isinstance(user, kinds.Affine) for user in taken_by)

    def _taken_by(self, node):
        """Return who takes the value of a node, moved or scaled."""
        found, pending = [], [node.name]
        while pending:
            for name in self.users[pending.pop()]:
                found.append(self.nodes[name])
                if isinstance(self.nodes[name], (kinds.ChannelAffine, *_MOVES)):
                    pending.append(name)
        return found

    def is_made_of(self, name):
        """Whether a value is of sums only, moved or scaled."""
        node = self.nodes[name]
        hands_on = isinstance(node, (kinds.ChannelAffine, *_MOVES))
        return self.has(node) or (hands_on and all(map(self.is_made_of, node.inputs)))

    def neighbours(self, node):
        """Yield the sums whose unit is in a fixed proportion to that of another: names and proportions."""
        if self.follows(node):
            yield node.inputs[0], 1 / np.abs(node.scale)
        elif isinstance(node, kinds.Add):
            for name in node.inputs:
                if self.has(self.nodes[name]):
                    yield name, np.ones(())
        for name in self.users[node.name]:
            user = self.nodes[name]
            if isinstance(user, kinds.Add):
                yield name, np.ones(())
            elif self.follows(user):
                yield name, np.abs(user.scale)


def _before_neurons(graph):
    """Return the names of the nodes whose value is of inputs, and not of spikes."""
    found = set()
    for node in graph.nodes.values():
        if not isinstance(node, (kinds.Spike, kinds.Encode)) and found.issuperset(node.inputs):
            found.add(node.name)
    return found


class SumUnits:
    """The units of sums, chosen when they are asked for.

    Args:
        graph: A `Graph`, of `with_factors`.
        largest: The largest integer that a weight may be.
        unit_of: Function of the unit of any node by name.
        rounds_currents: Whether what linear layers make of inputs is rounded to a unit that is coarser than
            that of their weights.

    Attributes:
        times: Of linear layers of inputs, how many units of their own the unit is, a power of 2 for each
            channel; by name, once the unit is chosen.
    """

    def __init__(self, graph, largest, unit_of, *, rounds_currents):
        self.graph, self.largest, self.unit_of = graph, largest, unit_of
        self.rounds_currents = rounds_currents
        self.sums = _Sums(graph)
        self._found, self._pending, self.times = {}, set(), {}

    def has(self, name):
        """Whether the node of a name is a sum."""
        return self.sums.has(self.graph.nodes[name])

    def unit(self, name):
        """Return the unit of a sum, `(channels,)`."""
        if name not in self._found:
            node = self.graph.nodes[name]
            if name in self._pending:
                refuse(node, "a sum of its own input", "leave the linear layer before it out")
            proportions = self._together(node)
            self._pending |= set(proportions)
            unit = self._chosen(proportions)
            self._found |= {other: unit * times for other, times in proportions.items()}
        return self._found[name]

    def _together(self, node):
        """Return the sums that have a unit together with one, and its size there, by name."""
        found, pending = {node.name: np.ones(node.shape[-1])}, [node]
        while pending:
            one = pending.pop()
            for name, times in self.sums.neighbours(one):
                if name not in found:
                    found[name] = found[one.name] * times
                    pending.append(self.graph.nodes[name])
        return found

    def _chosen(self, proportions):
        """Return the unit of some sums that have one together."""
        nodes = [self.graph.nodes[name] for name in proportions]
        linear = [node for node in nodes if isinstance(node, kinds.Affine)]
        of_spikes = [node for node in linear if not self._is_rounded(node)]
        weighted = of_spikes or linear or [node for node in nodes if self.sums.is_factor(node)]
        weights = {
            node.name: self._weights(node) / proportions[node.name]
            for node in nodes
            if node in linear or node in weighted
        }
        unit, times = self._best(
            [weights[node.name] for node in weighted], proportions, not of_spikes and linear
        )
        for node in linear:
            if self._is_rounded(node):
                finest = np.abs(weights[node.name]).max(axis=0) / self.largest
                own = 2.0 ** np.floor(np.log2(unit / np.maximum(finest, np.finfo("float32").tiny)))
                self.times[node.name] = np.clip(own, 1, 2**24) if of_spikes else times
        return unit

    def _is_rounded(self, node):
        """Whether what a linear layer gives is rounded: values of inputs, whose units are small."""
        return self.rounds_currents and node.name in self.sums.before_neurons

    def _weights(self, node):
        found = weights_in_units(self.graph, node, self.unit_of)
        return found.reshape(-1, found.shape[-1])

    def _best(self, weights, proportions, are_of_inputs):
        """Return the unit at which weights are rounded least, and how many of theirs it is."""
        largest = np.max([np.abs(one).max(axis=0) for one in weights], axis=0)
        largest = np.maximum(largest, (largest.max() or 1.0) * _SMALLEST)
        weights = np.concatenate([one[:: -(-len(one) // _ROWS)] for one in weights])
        best, least = (np.ones_like(largest), np.ones_like(largest)), np.full(len(largest), np.inf)
        for part in _parts_of_largest(self.largest):
            fine = largest * (part / self.largest)
            times = np.ones_like(fine)
            if are_of_inputs:
                finest = np.floor(np.log2(self._threshold(proportions) / fine))
                times = 2.0 ** np.maximum(finest - _CURRENT_BITS, 0)
            unit = self._reachable(fine * times, proportions)
            rounded = np.clip(np.round(weights * (times / unit)), -self.largest, self.largest)
            error = np.sum((weights - rounded * (unit / times)) ** 2, axis=0)
            best = tuple(
                np.where(error < least, new, old) for new, old in zip((unit, times), best, strict=True)
            )
            least = np.minimum(error, least)
        return best

    def _threshold(self, proportions):
        """Return the threshold of the neurons that take some sums, in the unit of the first of these."""
        found = self._neurons_after(proportions)
        return 1.0 if found is None else np.asarray(found[0].v_threshold) / found[1]

    def _reachable(self, unit, proportions):
        """Return the unit nearest to another at which the neurons after the sums have whole thresholds."""
        found = self._neurons_after(proportions)
        if found is None:
            return unit
        wished = self._threshold(proportions)
        return wished / found[0].whole_thresholds(wished / unit)

    def _neurons_after(self, proportions):
        """Return the first neurons that take some sums, and the proportion of the sum that they take."""
        for name, times in proportions.items():
            pending = [name]
            while pending:
                for user in (self.graph.nodes[n] for n in self.sums.users[pending.pop()]):
                    if isinstance(user, kinds.Spike):
                        return user.neuron, times
                    if isinstance(user, _MOVES):
                        pending.append(user.name)
        return None


def _parts_of_largest(largest):
    """Return what parts of the largest weight the largest integer may stand for; few bits gain by clipping.

    More than the largest weight, where thresholds are powers of 2.
    """
    above = (1.0, 1.1, 1.25, 1.45)
    return (*np.linspace(0.4, 0.975, 24), *above) if largest < 2**8 else above


def weights_in_units(graph, node, unit_of):
    """Return the weights of a linear layer or of a factor, times the units of what it takes: float64."""
    given = unit_of(node.inputs[0])
    if not isinstance(node, kinds.Affine):
        return np.broadcast_to(
            given * node.scale, np.broadcast_shapes(given.shape, node.scale.shape, node.shape[-1:])
        )
    if given.ndim > 1:
        refuse(node, "values in other units at every place", "leave out what scales places apart")
    channels = graph.nodes[node.inputs[0]].shape[-1]
    return node.kernel.astype("float64") * rows_of(node, np.broadcast_to(given, channels))
