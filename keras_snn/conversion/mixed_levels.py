"""Choosing the levels of every layer of time codes: fewer operations, as exact as with the same everywhere.

What a layer loses by rounding changes the outputs in proportion to how much they heed that layer. Both are
measured. Of all levels of the layers that lose so little together, the network has those with which it needs
the fewest operations. Sums that no relu rectifies may be handed on as numbers, which lose nothing.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_snn._data import Batches
from keras_snn.conversion.normalization import relus, sharing
from keras_snn.conversion.relays import without_costly_relays
from keras_snn.conversion.rounding import RoundedNetwork
from keras_snn.conversion.scales import scales_of
from keras_snn.conversion.sending_costs import SendingCosts, reach_of
from keras_snn.conversion.tuning import spread
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds

__all__ = ["NumberOrSpikes", "with_mixed_levels"]

_MEASURES, _JUDGES = 0, 1
# Samples, of which one half measures and the other one judges: as many as have so many values, in limits.
_VALUES, _FEWEST, _MOST = 2**26, 64, 256
# Steps of the bisection of how much errors weigh beside operations, and the range of the weight.
_STEPS, _RANGE = 16, 1e4
# What may be lost is so much of what the same levels everywhere lose, if more turns out to be too much.
_SHARES = (1.0, 0.85, 0.7, 0.5, 0.3)
# The largest integers of some dtypes.
_HELD = {"float16": 2**11, "bfloat16": 2**8}


@dataclasses.dataclass(frozen=True, eq=False)
class NumberOrSpikes:
    """What a layer may send.

    Attributes:
        neuron: The neuron, whose base may still be chosen; `None` for numbers.
        base: Base of the digits that is counted with; `None` for numbers.
        window: Steps in which spikes come.
        additions: Operations at synapses for one sample.
        error: Mean square of what rounding changes.
        rounding: Levels and unit.
    """

    neuron: object = None
    base: int | None = None
    window: int = 0
    additions: float = 0.0
    error: float = 0.0
    rounding: tuple | None = None


def with_mixed_levels(graph, data, measured, options_of, method, dtype):
    """Return the `Options` of every activation, in which neurons of mixed levels are some of chosen levels.

    Where these are relays of which it is to be chosen whether they pay, that is chosen too.

    Args:
        graph: A folded `Graph` with relays, before neurons are put in.
        data: Calibration data.
        measured: `Measured` of the graph.
        options_of: `Options` by name of the activation.
        method: Normalization in the place of `"auto"`.
        dtype: Policy that the network computes in.

    Returns:
        Dict by name of the activation.
    """
    if not any(options_of[node.name].neuron.mixtures for node in relus(graph)):
        return options_of
    chosen = _Choice(graph, data, measured, options_of, method, dtype).result()
    return {name: _decided(options, chosen.get(name)) for name, options in options_of.items()}


def _decided(options, option):
    """Return the `Options` of a layer that sends what was chosen."""
    if option is None:
        return options
    neuron = option.neuron or options.neuron.mixtures[0]
    relays = option.neuron is not None if options.relays == "auto" else options.relays
    fields = {"neuron": neuron, "relays": relays, "timesteps": None, "layer_options": None}
    return dataclasses.replace(options, **fields)


class _Choice:
    """The search for levels."""

    def __init__(self, graph, data, measured, options_of, method, dtype):
        self.graph, self.options_of, self.histograms = graph, options_of, measured.histograms
        self.groups = [tuple(node.name for node in group) for group in sharing(graph)]
        self.costs = SendingCosts(graph)
        held = _HELD.get(dtype.compute_dtype)
        names = [node.name for node in relus(graph)]
        self.tried = {name: _tried(graph, name, options_of[name].neuron, held) for name in names}
        self.scales = _Scales(graph, measured, options_of, method, self.tried)
        self.options = self._options(reach_of(graph, names))
        self.same = self._same(self.scales.with_neurons({}))
        batch_size = next(iter(options_of.values())).batch_size
        parts = _samples(graph, data, batch_size)
        self.network = RoundedNetwork(graph, parts, dtype=dtype, batch_size=batch_size)

    def result(self):
        """Return the `NumberOrSpikes` by name of the layers of mixed levels."""
        heeded = self._heeded()
        allowed = self._error(self.same, heeded)
        judged = self._judged(self.same)
        mixed = {name for name in self.options if self.options_of[name].neuron.mixtures}
        for share in _SHARES if allowed > 0 else ():
            found = self._cheapest_within(share * allowed, heeded)
            if self._judged(found) <= judged:
                return {name: found[name] for name in mixed}
        return {name: self.same[name] for name in mixed}

    def _options(self, reach):
        """Return all `NumberOrSpikes` by name."""
        found = {}
        for name, tried in self.tried.items():
            histogram, relays = self.histograms[name], self.options_of[name].relays
            is_relay = self.graph.nodes[name].is_relay
            sent = [option for neuron in tried for option in self._spikes(name, neuron, reach[name])]
            number = [_number(histogram, reach[name])] if is_relay and relays is not True else []
            found[name] = number if is_relay and relays is False else [*sent, *number]
        return found

    def _spikes(self, name, neuron, reach):
        """Yield what a layer may send in the codes of a neuron."""
        histogram, unit = self.histograms[name], self.scales.of(name, neuron) / neuron.levels
        values, counts = histogram.used()
        values = np.broadcast_to(values, counts.shape)
        per_unit = np.reshape(unit, (-1, 1))
        numbers = np.abs(neuron.ideal_rate(values / per_unit, 1))
        number = counts.sum(axis=1) + histogram.zeros
        error = np.sum(counts * (values - numbers * per_unit) ** 2) / max(number.sum(), 1)
        for code in neuron.alternatives:
            events = keras.ops.convert_to_numpy(code.events_of(numbers.astype("float32")))
            rates = np.sum(counts * events, axis=1) / np.maximum(number, 1)
            additions = float(np.sum(rates * (reach[0] + reach[1])))
            rounding = neuron.levels, unit
            yield NumberOrSpikes(neuron, code.base, code.window, additions, float(error), rounding)

    def _same(self, scales):
        """Return the choice of the same levels everywhere, with the relays that pay."""
        kept, _ = without_costly_relays(self.graph, self.histograms, scales, self.options_of)

        def is_same(name, option):
            levels = self.options_of[name].neuron.levels
            return option.neuron.levels == levels if option.neuron else name not in kept.nodes

        allowed = {
            name: [o for o in of_one if is_same(name, o) and (o.neuron is None) == (name not in kept.nodes)]
            for name, of_one in self.options.items()
        }
        start = {name: of_one[0] for name, of_one in allowed.items()}
        return self._descended(start, allowed, dict.fromkeys(start, 0.0))

    def _heeded(self):
        """Return the square of the error of the outputs for each of that of a layer, by name."""
        heeded = {}
        for names in self.groups:
            rounded = {name: self.same[name] for name in names}
            for name in names:
                if rounded[name].neuron is None:
                    levels = self.options_of[name].neuron.levels
                    sent = [o for o in self.options[name] if o.neuron and o.neuron.levels == levels]
                    rounded[name] = (sent or [self.same[name]])[0]
            changed = self.network.error(_MEASURES, _roundings(rounded))
            error = sum(option.error for option in rounded.values())
            heeded |= dict.fromkeys(names, changed / error if error else 0.0)
        return heeded

    def _error(self, chosen, heeded):
        return sum(heeded[name] * option.error for name, option in chosen.items())

    def _judged(self, chosen):
        """Return the square of the error of the outputs on other samples, with the scales of these levels."""
        neurons = {name: option.neuron for name, option in chosen.items() if option.neuron}
        scales = self.scales.with_neurons(neurons)
        roundings = {name: (of.levels, np.asarray(scales[name]) / of.levels) for name, of in neurons.items()}
        return self.network.error(_JUDGES, roundings)

    def _cheapest_within(self, allowed, heeded):
        """Return the cheapest choice found with an error of at most so much."""
        best, middle = self.same, self.costs.total(self.same) / allowed
        low, high = middle / _RANGE, middle * _RANGE
        for _ in range(_STEPS):
            weight = np.sqrt(low * high)
            weights = {name: weight * of_one for name, of_one in heeded.items()}
            found = self._descended(best, self.options, weights)
            if self._error(found, heeded) <= allowed:
                high = weight
                best = min((best, found), key=self.costs.total)
            else:
                low = weight
        return best

    def _descended(self, start, options, weights):
        """Return a choice in which no layer alone could add less to operations and weighted errors."""
        chosen, before = dict(start), None

        def cost(names, i):
            of_layers = {name: options[name][i] for name in names}
            chosen.update(of_layers)
            errors = sum(weights[name] * option.error for name, option in of_layers.items())
            return self.costs.around(names, chosen) + errors

        while chosen != before:
            before = dict(chosen)
            for names in self.groups:
                costs = [cost(names, i) for i in range(len(options[names[0]]))]
                cost(names, int(np.argmin(costs)))
        return chosen


class _Scales:
    """λ of the layers at all levels: interpolated between fewest, same and most, in logarithms of both.

    Args:
        graph, measured, options_of, method: As of `scales_of`.
        tried: Neurons by name of the activation.
    """

    def __init__(self, graph, measured, options_of, method, tried):
        self.graph, self.measured, self.options_of, self.method = graph, measured, options_of, method
        self.known = {name: [] for name in tried}
        for choose in (lambda of: of[0], lambda of: of[len(of) // 2], lambda of: of[-1]):
            neurons = {name: choose(of) for name, of in tried.items()}
            scales = self.with_neurons(neurons)
            for name, neuron in neurons.items():
                self.known[name].append((np.log2(neuron.levels), np.log(scales[name])))

    def with_neurons(self, neurons):
        """Return λ by name if some layers have other neurons."""
        changed = {
            name: dataclasses.replace(options, neuron=neurons[name], timesteps=None, layer_options=None)
            if name in neurons
            else options
            for name, options in self.options_of.items()
        }
        return scales_of(self.graph, self.measured, changed, self.method)

    def of(self, name, neuron):
        """Return λ of a layer, a number or one for each channel."""
        places, logs = zip(*self.known[name], strict=True)
        i = int(np.searchsorted(places[1:-1], np.log2(neuron.levels)))
        width = places[i + 1] - places[i]
        share = (np.log2(neuron.levels) - places[i]) / width if width else 0.0
        return np.exp((1 - share) * logs[i] + share * logs[i + 1])


def _tried(graph, name, neuron, held):
    """Return the neurons of which one is chosen for a layer, fewest levels first."""
    if graph.nodes[name].levels or not neuron.mixtures:
        return tuple(one for one in neuron.mixtures if one.levels == neuron.levels) or (neuron,)
    largest = np.inf if held is None else max(held, neuron.levels)
    return tuple(one for one in neuron.mixtures if one.levels <= largest)


def _number(histogram, reach):
    """Return what a layer may send as numbers: a product and an addition at every weight."""
    _, counts = histogram.used()
    density = counts.sum(axis=1) / np.maximum(counts.sum(axis=1) + histogram.zeros, 1)
    return NumberOrSpikes(additions=float(np.sum(density * (2 * reach[0] + reach[1]))))


def _roundings(chosen):
    return {name: option.rounding for name, option in chosen.items() if option.rounding}


def _samples(graph, data, batch_size):
    """Return two parts of some samples from all over the data, each nested as the inputs."""
    shapes = {node.name: node.shape for node in graph.nodes.values() if isinstance(node, kinds.Input)}
    batches = Batches(
        data,
        graph.inputs,
        shapes,
        batch_size=batch_size,
        argument="calibration_data",
        error=CalibrationError,
    )
    values = sum(math.prod(node.shape) for node in relus(graph))
    x = spread(batches, min(max(_VALUES // values, _FEWEST), _MOST))
    return [keras.tree.map_structure(lambda a, first=first: a[first::2], x) for first in (0, 1)]
