"""Signed neurons for values that no relu rectifies: sums, as those of linear bottlenecks, and inputs.

Where such a value goes into weights, it can be handed on as a number, which takes a multiplication at every
synapse, or be sent in spikes with a sign, which takes additions and loses what rounding loses.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_snn.analysis.fan_out import fan_out
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name

__all__ = [
    "MOVES",
    "after_spikes",
    "hands_on",
    "into_weights",
    "is_of_input",
    "taken_by_weights",
    "with_relays",
    "without_costly_relays",
]

# What spikes pass through as spikes.
MOVES = (kinds.Rearrange, kinds.Concatenate)


def with_relays(graph, *, of_inputs=False):
    """Return the graph with a relay after every sum of weighted spikes that goes into weights again.

    A relay is a linear `Activation`. Relus, maxima and outputs take the sum itself.

    Args:
        graph: A folded `Graph` before neurons are put in.
        of_inputs: Whether to put one after each input that goes into weights too, or after what is computed
            from inputs without weights.
    """
    users, nodes, instead = graph.users(), dict(graph.nodes), {}
    relayed = after_spikes(graph) | (_inputs_to_relay(graph) if of_inputs else set())
    weighted = into_weights(graph, users)
    for node in graph.nodes.values():
        if node.name not in relayed or not weighted.intersection(users[node.name]):
            continue
        relay = kinds.Activation(
            name=free_name(f"{node.name}/relay", nodes),
            inputs=(node.name,),
            shape=node.shape,
            origins=node.origins,
            function="linear",
        )
        nodes[relay.name] = relay
        instead[node.name] = relay.name
    return taken_by_weights(graph, nodes, instead)


def taken_by_weights(graph, nodes, instead):
    """Return the graph of some nodes in which what has weights takes other values.

    Args:
        graph: A `Graph`.
        nodes: Dict of its nodes, and of new ones. Changed.
        instead: By name of a value of the graph, which one is taken instead.
    """
    users, renamed = graph.users(), {}
    weighted = into_weights(graph, users)
    for name, other in instead.items():
        for user in weighted.intersection(users[name]):
            renamed.setdefault(user, {})[name] = other
    for user, of_user in renamed.items():
        inputs = tuple(of_user.get(name, name) for name in nodes[user].inputs)
        nodes[user] = dataclasses.replace(nodes[user], inputs=inputs)
    return graph.with_nodes(nodes)


def hands_on(node):
    """Whether spikes pass through a node as spikes."""
    return isinstance(node, MOVES) or (isinstance(node, kinds.Pool) and node.function == "max")


def after_spikes(graph):
    """Return the names of the nodes that compute numbers of spikes: sums, averages, maxima of sums."""
    after, sends = set(), set()
    for node in graph.nodes.values():
        fires = isinstance(node, kinds.Activation) and node.becomes_spiking
        if fires or (hands_on(node) and node.inputs and sends.issuperset(node.inputs)):
            sends.add(node.name)
        if fires or after.intersection(node.inputs):
            after.add(node.name)
    sums = (kinds.Affine, kinds.ChannelAffine, kinds.Add, kinds.Pool)
    return {name for name in after - sends if isinstance(graph.nodes[name], sums)}


def _inputs_to_relay(graph):
    """Return the names of the inputs and of what is computed from them; of what is only moved, the first."""
    found = _without_weights(graph)
    return {
        name
        for name in found
        if not (isinstance(graph.nodes[name], MOVES) and found.issuperset(graph.nodes[name].inputs))
    }


def _without_weights(graph):
    """Return the names of the nodes that are computed from the inputs without weights and spikes."""
    found = set()
    for node in graph.nodes.values():
        weighted = isinstance(node, (kinds.Affine, kinds.Activation))
        if isinstance(node, kinds.Input) or (not weighted and found.issuperset(node.inputs)):
            found.add(node.name)
    return found


def is_of_input(graph, node):
    """Return whether a node of a graph `with_relays` sends an input."""
    return node.is_relay and node.inputs[0] in _without_weights(graph)


def into_weights(graph, users):
    """Return the names of the nodes that have weights, or that move values into those that have."""
    found = set()
    for node in reversed(graph.nodes.values()):
        moves = isinstance(node, MOVES) and found.intersection(users[node.name])
        if isinstance(node, kinds.Affine) or moves:
            found.add(node.name)
    return found


def without_costly_relays(graph, histograms, scales, options_of, given=None):
    """Return the graph without the relays that do not pay or are not wanted, and why, by source layer.

    A relay pays if sending spikes takes fewer operations than a multiplication and an addition at every
    synapse of a number that is not 0, and if rounding loses no more, relative to the size of the values, than
    in that layer of rectifying neurons in which it loses most.

    Args:
        graph: A `Graph` with relays.
        histograms: `Histogram` of every activation on the calibration data, by name.
        scales: λ by name of the activation.
        options_of: `Options` by name of the activation.
        given: Those before levels were chosen, and with them relays; `options_of` if `None`.
    """
    activations = [n for n in graph.nodes.values() if isinstance(n, kinds.Activation) and n.has_scale]
    if not any(node.is_relay for node in activations):
        return graph, {}
    errors = {
        node.name: _relative_error(options_of[node.name].neuron, histograms[node.name], scales[node.name])
        for node in activations
    }
    largest = max((errors[node.name] for node in activations if not node.is_relay), default=math.inf)
    dropped, reasons = {}, {}
    for node in activations:
        options = options_of[node.name]
        if not node.is_relay or options.relays is True:
            continue
        spikes, numbers = _costs(graph, node, options.neuron, histograms[node.name], scales[node.name])
        if options.relays is False:
            is_chosen = (given or options_of)[node.name].relays == "auto"
            reasons[node.origins[0]] = "fewer operations so" if is_chosen else "as asked for"
        elif spikes >= numbers:
            reasons[node.origins[0]] = f"{spikes:,.0f} operations as spikes, {numbers:,.0f} as numbers"
        elif errors[node.name] > largest:
            reasons[node.origins[0]] = f"error {errors[node.name]:.2%} as spikes"
        else:
            continue
        dropped[node.name] = node.inputs[0]
    return graph.with_nodes(graph.nodes, dropped), reasons


def _relative_error(neuron, histogram, scale):
    """Return the relative RMS error of activations that become numbers."""
    per_unit = np.reshape(scale, (-1, 1)) / neuron.code.levels
    return histogram.relative_error(lambda values: per_unit * neuron.ideal_rate(values / per_unit, 1))


def _costs(graph, relay, neuron, histogram, scale):
    """Return the operations for one sample if values are sent as spikes, and as numbers."""
    reached = _reached(graph, relay)
    # Of the inputs of a concatenation, this one alone.
    synapses = 0.0
    for node in reached:
        shape = graph.nodes[node.inputs[0]].shape
        synapses += fan_out(node, shape).sum() * math.prod(relay.shape) / math.prod(shape)
    # Which neurons take in at once what comes as a number.
    receivers = sum(math.prod(node.shape) for node in reached)
    values, counts = histogram.used()
    number = counts.sum() + histogram.zeros.sum()
    per_unit = np.reshape(scale, (-1, 1)) / neuron.code.levels
    rounded = np.broadcast_to(neuron.ideal_rate(values / per_unit, 1), counts.shape)
    costs = []
    for code in neuron.alternatives:
        events = np.sum(counts * keras.ops.convert_to_numpy(code.events_of(rounded))) / number
        costs.append(events * synapses + receivers * code.window)
    return min(costs), 2 * synapses * counts.sum() / number + receivers


def _reached(graph, node):
    """Return the nodes with weights that take a value, moved or not."""
    users, found, pending = graph.users(), [], [node.name]
    while pending:
        for name in users[pending.pop()]:
            user = graph.nodes[name]
            if isinstance(user, kinds.Affine):
                found.append(user)
            elif isinstance(user, MOVES):
                pending.append(name)
    return found
