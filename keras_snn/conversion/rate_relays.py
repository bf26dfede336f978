"""Relays for rates: spikes in the place of numbers where a sum that no relu rectifies goes into weights.

x is relu(x) − relu(−x): two sets of neurons, each of whose spikes is an addition at every weight that it
reaches, where a number takes a multiplication and an addition at every step. What cannot be negative, as an
average of spikes, needs one set.
"""

import dataclasses
import math

import numpy as np

from keras_snn.analysis.fan_out import fan_out
from keras_snn.conversion.densities import EXPECTED_RATE, density
from keras_snn.conversion.normalization import channels_apart
from keras_snn.conversion.relays import MOVES, after_spikes, hands_on, into_weights, taken_by_weights
from keras_snn.conversion.sending_costs import reach_of
from keras_snn.graph import nodes as kinds
from keras_snn.graph.branches import with_branches
from keras_snn.graph.channel_affine import channel_affine
from keras_snn.graph.graph import free_name
from keras_snn.graph.passes import fold

__all__ = [
    "Relay",
    "can_relay",
    "pooled_as",
    "silent_sides",
    "with_all_relays",
    "with_paying_relays",
    "without_relays",
]

# The share of all operations that relays must spare together, and each: less is not worth neurons that round.
_LEAST, _LEAST_OF_ONE = 0.05, 0.001


@dataclasses.dataclass(frozen=True)
class Relay:
    """The neurons that send a value.

    Attributes:
        sides: Names of the relus of the value, and of what is negative of it if it can be.
        value: Name of the node that is the value again.
    """

    sides: tuple[str, ...]
    value: str


def can_relay(graph, options):
    """Return whether neurons that live in steps may relay sums in a network.

    What has binary activations, or levels from training, may be exact after few steps, which a relay, that
    rounds at levels of its own, would end: there it must be asked for. So must it be without normalization,
    as a scale of 1 may be too small.

    Args:
        graph: A folded `Graph` before neurons are put in.
        options: `Options` of the conversion.
    """
    is_able = _sends_rates(options.neuron) and options.calibrated
    if not is_able or options.relays is True:
        return is_able
    activations = [node for node in graph.nodes.values() if isinstance(node, kinds.Activation)]
    is_exact = any(node.becomes_spiking and (node.is_binary or node.levels) for node in activations)
    return options.normalization != "none" and not is_exact


def with_all_relays(graph):
    """Return the graph with a relay of every value that weights take as a number, and each `Relay` by name.

    Args:
        graph: A folded `Graph` before neurons are put in.
    """
    return _with_relays(graph, _sides(graph))


def without_relays(graph, relays):
    """Return the graph whose weights take the numbers themselves, as before `with_all_relays`."""
    return graph.with_nodes(graph.nodes, {relay.value: name for name, relay in relays.items()})


def with_paying_relays(graph, rates, relays=None, options_of=None):
    """Return the graph with the relays that pay or are asked for, and why others are not there, by layer.

    One pays if spikes, with the updates of its neurons, take fewer operations in a step than numbers, by a
    thousandth of those of the network at least, and if all that do spare a twentieth. That its error is
    larger is no reason against it: errors fall as 1/T and operations grow with T, so that with as many
    operations it is smaller.

    Args:
        graph: A folded `Graph` without relays, whose linear maps are composed.
        rates: Spikes in a step by name of the activation; `EXPECTED_RATE` of others.
        relays: `Relay` of each value that was measured, by name; with `None` no value was.
        options_of: `Options` by name of the sides; with `None` all relays that pay are put in.
    """
    sides = _sides(graph) if relays is None else _measured_sides(graph, relays)
    costs = _costs(graph, sides, rates)
    least = _least(costs, _total(graph, rates))
    kept, reasons = {}, {}
    for name, of_value in sides.items():
        reason = _why_not(*costs[name], least, None if options_of is None else options_of[of_value[0]])
        if not reason:
            kept[name] = of_value
        else:
            reasons |= dict.fromkeys(graph.nodes[name].origins[:1], reason)
    relayed, useless = _with_sides(graph, kept)
    for name in useless:
        reasons |= dict.fromkeys(graph.nodes[name].origins[:1], "groups of weights take other values too")
    if useless:
        relayed, _ = _with_sides(graph, {name: kept[name] for name in kept if name not in useless})
    return relayed, reasons


def _least(costs, total):
    """Return how many operations a relay must spare, which no one does if all together spare too few."""
    least = _LEAST_OF_ONE * total
    spared = sum(numbers - spikes for spikes, numbers in costs.values() if numbers - spikes > least)
    return least if spared > _LEAST * total else math.inf


def _sends_rates(neuron):
    """Return whether spikes of a neuron add up to what it got, each one an addition."""
    return neuron.has_unit_spikes and neuron.conserves_charge and not neuron.is_time_code


def _why_not(spikes, numbers, least, options):
    """Return why a value has no relay, or nothing if it has one."""
    if options is not None and not _sends_rates(options.neuron):
        return f"{options.neuron.alias or 'these'} neurons do not relay"
    if options is not None and options.relays is False:
        return "as asked for"
    if numbers - spikes > least or (options is not None and options.relays is True):
        return ""
    return f"{spikes:,.0f} operations in a step as spikes, {numbers:,.0f} as numbers"


def pooled_as(graph, measured, options_of):
    """Return what is `Measured` for another graph, in which fewer activations have scales of channels."""
    apart = channels_apart(graph, lambda name: options_of[name].per_channel)

    def pooled(histograms):
        return {
            name: one.pooled() if len(one.counts) > 1 and name not in apart else one
            for name, one in histograms.items()
        }

    return dataclasses.replace(
        measured, histograms=pooled(measured.histograms), normal=pooled(measured.normal)
    )


def silent_sides(measured):
    """Return the other side by name of each side of a relay that is 0 on all data, where the other is not.

    A sum may be positive on all data that was measured, which is nothing to warn of.
    """
    is_silent = {name: not one.counts.any() for name, one in measured.histograms.items()}
    pairs = [relay.sides for relay in measured.relays.values() if len(relay.sides) > 1]
    return {
        side: other
        for pair in pairs
        for side, other in (pair, pair[::-1])
        if is_silent.get(side, False) and not is_silent[other]
    }


def _numbers_into_weights(graph):
    """Return the names of the values that are computed of spikes, are no spikes, and go into weights."""
    users, numbers = graph.users(), after_spikes(graph)
    weighted = into_weights(graph, users)
    return [name for name in graph.nodes if name in numbers and weighted.intersection(users[name])]


def _never_negative(graph):
    """Return the names of the values that cannot be negative, whatever the input is."""
    found = set()
    for node in graph.nodes.values():
        given = bool(node.inputs) and found.issuperset(node.inputs)
        if isinstance(node, kinds.Activation):
            holds = node.function in ("relu", "heaviside", "sigmoid", "softmax")
        elif isinstance(node, kinds.Affine):
            holds = given and np.all(node.kernel >= 0) and np.all(node.bias >= 0)
        elif isinstance(node, kinds.ChannelAffine):
            holds = given and np.all(node.scale >= 0) and np.all(node.shift >= 0)
        else:
            holds = given and isinstance(node, (kinds.Add, kinds.Pool, *MOVES))
        if holds:
            found.add(node.name)
    return found


def _sides(graph):
    """Return the names of the sides of a relay of each value that weights take as a number, by its name."""
    above, nodes, sides = _never_negative(graph), dict(graph.nodes), {}
    for name in _numbers_into_weights(graph):
        both = (free_name(f"{name}/relay", nodes), free_name(f"{name}/relay_negative", nodes))
        sides[name] = both[:1] if name in above else both
    return sides


def _with_sides(graph, sides):
    """Return the graph whose weights take the sides of values, and which values some of them cannot take so.

    Those take the sum of both sides, which is a number again.
    """
    if not sides:
        return graph, []
    relayed, relays = _with_relays(graph, sides)
    relayed = fold(with_branches(relayed, pools=False, partly=True))
    return relayed, [
        name for name, one in relays.items() if len(one.sides) > 1 and one.value in relayed.nodes
    ]


def _measured_sides(graph, relays):
    """Return the names of the sides of a relay of each value that was measured, by its name.

    A sum of composed maps, with a bias maybe, is the value that the layer of the same name had before.
    """
    sides = {}
    for name in _numbers_into_weights(graph):
        known = name
        while known and known not in relays:
            known = known.rpartition("/")[0]
        if known:
            sides[name] = relays[known].sides
    return sides


def _with_relays(graph, sides):
    """Return the graph whose weights take relays of values, and each `Relay` by name.

    Args:
        graph: A folded `Graph`.
        sides: Names of the sides by name of the value.
    """
    nodes = dict(graph.nodes)
    relays = {name: _relay(nodes, graph.nodes[name], of_value) for name, of_value in sides.items()}
    instead = {name: relay.value for name, relay in relays.items()}
    return taken_by_weights(graph, nodes, instead), relays


def _relay(nodes, node, sides):
    """Add the relay of a node to `nodes`, and return it."""
    common = {"shape": node.shape, "origins": node.origins}
    nodes[sides[0]] = kinds.Activation(name=sides[0], inputs=(node.name,), function="relu", **common)
    if len(sides) == 1:
        return Relay(sides, sides[0])
    below = channel_affine(nodes, f"{node.name}/below", node, -1.0, 0.0, origins=())
    nodes[below.name] = below
    other = kinds.Activation(name=sides[1], inputs=(below.name,), function="relu", **common)
    nodes[other.name] = other
    back = channel_affine(nodes, f"{node.name}/back", other, -1.0, 0.0, origins=())
    nodes[back.name] = back
    both = kinds.Add(name=free_name(f"{node.name}/both", nodes), inputs=(sides[0], back.name), **common)
    nodes[both.name] = both
    return Relay(sides, both.name)


def _costs(graph, sides, rates):
    """Return pairs of operations in a step, as spikes and as numbers, by name of the value."""
    reach, costs = reach_of(graph, list(sides)), {}
    for name, of_value in sides.items():
        weights, size = reach[name][0], math.prod(graph.nodes[name].shape)
        spikes = sum((rates.get(side, EXPECTED_RATE) * weights).sum() + size for side in of_value)
        costs[name] = spikes, 2 * (density(graph, name, rates) * weights).sum()
    return costs


def _total(graph, rates):
    """Return the operations of a network in a step: updates of neurons, and those at weights."""
    total, constant, sends = 0.0, set(), set()
    for node in graph.nodes.values():
        fires = isinstance(node, kinds.Activation) and node.becomes_spiking
        if fires:
            total += math.prod(node.shape)
        elif constant.issuperset(node.inputs):
            constant.add(node.name)
        if fires or (node.inputs and hands_on(node) and sends.issuperset(node.inputs)):
            sends.add(node.name)
        if isinstance(node, kinds.Affine) and node.name not in constant:
            (source,) = node.inputs
            reached = density(graph, source, rates) * fan_out(node, graph.nodes[source].shape)
            total += reached.sum() * (1 if source in sends else 2)
    return total
