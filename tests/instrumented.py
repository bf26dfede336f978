"""A spiking network run spike by spike in plain NumPy, which counts every addition when it makes it.

It shares no code with the counts of the package; it uses the nodes of a program and the step of a neuron.
Sums go into accumulators, one for each neuron, read-out and sum that somebody reads; a weighted sum that is
wanted in one place only is added up in that place. It is slow, for networks with a few hundred values.
"""

import dataclasses
import itertools
import math

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import value_of
from keras_snn.neurons import Burst, MultiThreshold


@dataclasses.dataclass
class Made:
    """What a run made: operations by kind, and what came out."""

    at_synapses: int = 0
    other: int = 0
    updates: int = 0
    fired: int = 0
    outputs: list = dataclasses.field(default_factory=list)

    @property
    def operations(self):
        return self.at_synapses + self.other


@dataclasses.dataclass
class _Value:
    """Values of a node, and who sends each: the place of a sender, or −1 if it is no spike."""

    numbers: np.ndarray
    senders: np.ndarray


def run(program, inputs, passes):
    """Run a program on one sample, a list of arrays without batch (with time, of events)."""
    return _Run(program).run(inputs, passes)


def without_zeros(graph, inputs, names):
    """Operations of an analog graph on a batch, one product or addition after the other, without zeros.

    `names` are those of the nodes that count. A factor may be part of weights before it; with a shift it is
    a multiply-add. There are no products where all inputs of a layer, of all samples, are −1, 0 or 1.
    """
    values = dict(zip(keras.tree.flatten(graph.inputs), inputs, strict=True))
    values = {name: np.asarray(x, "float64") for name, x in values.items()}
    made = 0
    for name, node in graph.nodes.items():
        if isinstance(node, kinds.Input):
            continue
        taken = [values[i] for i in node.inputs]
        values[name] = value_of(node, *taken)
        if name not in names:
            continue
        if isinstance(node, kinds.Add):
            for source, x in zip(node.inputs, taken, strict=True):
                if not _is_summed_in_place(graph, source) or _is_lone_factor(graph, source):
                    made += sum(1 for v in x.ravel() if v != 0)
        elif isinstance(node, kinds.Affine):
            matrix = _matrix(node, taken[0].shape[1:])
            each = 1 if np.all(np.isin(taken[0], (-1, 0, 1))) else 2
            for sample in taken[0]:
                for value, weights in zip(sample.ravel(), matrix, strict=True):
                    if value != 0:
                        made += each * int(np.count_nonzero(weights))
            made += values[name].size if np.any(node.bias) else 0
        elif isinstance(node, kinds.ChannelAffine) and np.any(node.shift):
            made += _of_factors(node, taken[0]) + values[name].size
    return made


def _of_factors(node, x):
    if _only_adds(node):
        return 0
    return sum(
        1 for v, s in zip(x.ravel(), np.broadcast_to(node.scale, x.shape).ravel(), strict=True) if v * s
    )


class _Run:
    def __init__(self, program):
        self.program, self.graph = program, program.graph
        self.made, self.senders, self.values, self.states = Made(), [], {}, {}
        self.matrices = {}
        neurons = [node.neuron for node in self.graph.nodes.values() if isinstance(node, kinds.Spike)]
        # Neurons that run in windows are updated when something arrives; others at every step.
        self.in_windows = any(neuron.is_time_code for neuron in neurons)

    def run(self, inputs, passes):
        steady = set()
        for node in self.graph.nodes.values():
            has_state = isinstance(node, (kinds.Spike, kinds.Encode, kinds.Readout))
            if not self.program.events and not has_state and steady.issuperset(node.inputs):
                steady.add(node.name)
        self.steady = steady
        given = list(zip(keras.tree.flatten(self.graph.inputs), inputs, strict=True))
        if not self.program.events:
            values = without_zeros_of(self.graph, dict(given), steady)
            self.made.other += values.pop(None)
            self.values = {name: _Value(x, np.full(x.shape, -1)) for name, x in values.items()}
        for step in range(passes):
            if self.program.events:
                for name, x in given:
                    self.values[name] = self._given(np.asarray(x[step], "float64"))
            for node in self.graph.nodes.values():
                if node.name not in steady and not isinstance(node, kinds.Input):
                    self._compute(node)
        for name in keras.tree.flatten(self.graph.outputs):
            node = self.graph.nodes[name]
            self.made.outputs.append(value_of(node, self.states[name][None] / passes)[0])
        return self.made

    def _given(self, x):
        if "given" not in self.senders:
            self.senders.append("given")
        return _Value(x, np.where(x == np.floor(x), self.senders.index("given"), -1))

    def _compute(self, node):
        taken = [self.values.get(name) for name in node.inputs]
        if isinstance(node, kinds.Spike):
            self._fire(node)
        elif isinstance(node, kinds.Readout):
            total = self._added_up(node)
            self.states[node.name] = self.states.get(node.name, 0.0) + total
        elif isinstance(node, (kinds.Affine, kinds.ChannelAffine, kinds.Add)):
            if not _is_summed_in_place(self.graph, node.name):
                total = self._added_up(node)
                self.values[node.name] = _Value(total, np.full(node.shape, -1))
        elif isinstance(node, (kinds.Rearrange, kinds.Concatenate)):
            if all(taken):
                numbers = value_of(node, *(v.numbers[None] for v in taken))[0]
                # What is padded has no sender.
                senders = value_of(node, *(1 + v.senders[None] for v in taken))[0] - 1
                self.values[node.name] = _Value(numbers, senders.astype(int))
        elif isinstance(node, kinds.Pool) and node.function == "max":
            self._pool(node, taken[0])
        else:
            assert isinstance(node, kinds.Pool), node
            numbers = value_of(node, taken[0].numbers[None])[0]
            self.values[node.name] = _Value(numbers, np.full(node.shape, -1))

    def _pool(self, node, taken):
        """The largest sum so far, less that of the step before."""
        so_far = self.states.get(node.name, (np.zeros(taken.numbers.shape), np.zeros(node.shape)))
        total = so_far[0] + taken.numbers
        largest = value_of(node, total[None])[0]
        senders = value_of(node, taken.senders[None].astype(float))[0]
        self.values[node.name] = _Value(largest - so_far[1], senders.astype(int))
        self.states[node.name] = total, largest

    def _fire(self, node):
        neuron = node.neuron
        if node.name not in self.states:
            self.states[node.name] = neuron.initial_state((1, *node.shape), "float64")
            self.senders.append(neuron)
            self.states[node.name, "place"] = len(self.senders) - 1
        current = self._added_up(node)
        if not self.in_windows:
            self.made.updates += math.prod(node.shape)
        spikes, self.states[node.name] = neuron.step(
            keras.ops.convert_to_tensor(current[None], "float64"), self.states[node.name]
        )
        spikes = keras.ops.convert_to_numpy(spikes)[0]
        sender = self.states[node.name, "place"]
        self.values[node.name] = _Value(spikes, np.full(node.shape, sender))
        self.made.fired += sum(len(list(self._events(v, sender))) for v in spikes.ravel() if v != 0)

    # --- Accumulators ------------------------------------------------------

    def _added_up(self, node):
        """Add up what a node gets, in an accumulator of its own, and return it."""
        # The last place is for what is cut away afterwards.
        sums, arrivals = np.zeros(math.prod(node.shape) + 1), []
        places = np.arange(math.prod(node.shape))
        if isinstance(node, (kinds.Affine, kinds.ChannelAffine)):
            self._weighted(node, places, sums, arrivals)
        else:
            self.biased = False
            for name in node.inputs:
                self._into(name, places, sums, arrivals)
        if isinstance(node, kinds.Spike):
            self._corrected(node)
        if self.in_windows:
            if isinstance(node, kinds.Spike) and not self._windows(node):
                self.made.updates += math.prod(node.shape)
            self._pass_time(node, arrivals, sums)
        return sums[:-1].reshape(node.shape)

    def _into(self, name, places, sums, arrivals):
        """Add the value of a node to an accumulator, whose places its values have."""
        node = self.graph.nodes[name]
        if name not in self.steady and _is_summed_in_place(self.graph, name):
            self._into_in_place(node, places, sums, arrivals)
            return
        if isinstance(node, kinds.Concatenate) and name not in self.values:
            self._side_by_side(node, places, sums, arrivals)
            return
        value = self.values[name]
        for number, sender, place in zip(value.numbers.ravel(), value.senders.ravel(), places, strict=True):
            if name in self.steady:
                self._add(sums, place, number)
            elif number != 0 and sender < 0:
                self.made.at_synapses += 1
                sums[place] += number
            elif number != 0:
                self._spike(number, sender, np.array([place]), np.ones(1), sums, arrivals)

    def _into_in_place(self, node, places, sums, arrivals):
        """Add what a node adds up to an accumulator, product by product."""
        if isinstance(node, kinds.Add):
            for source in node.inputs:
                self._into(source, places, sums, arrivals)
        elif isinstance(node, kinds.Rearrange):
            shape = self.graph.nodes[node.inputs[0]].shape
            where = node.move(1 + np.arange(math.prod(shape)).reshape(1, *shape), leading=1).ravel()
            before = np.full(math.prod(shape) + 1, -1)
            before[where] = places
            self._into(node.inputs[0], before[1:], sums, arrivals)
        elif isinstance(node, kinds.Concatenate):
            self._side_by_side(node, places, sums, arrivals)
        elif _only_adds(node) and self._is_added_up(node.inputs[0]):
            self.biased = True
            for place, number in zip(places, np.broadcast_to(node.shift, node.shape).ravel(), strict=True):
                self._add(sums, place, number)
            self._into(node.inputs[0], places, sums, arrivals)
        else:
            self._weighted(node, places, sums, arrivals)

    def _is_added_up(self, name):
        return name not in self.steady and _is_summed_in_place(self.graph, name)

    def _side_by_side(self, node, places, sums, arrivals):
        sizes = [self.graph.nodes[name].shape[node.axis] for name in node.inputs]
        parts = np.split(places.reshape(node.shape), np.cumsum(sizes)[:-1], axis=node.axis)
        for source, part in zip(node.inputs, parts, strict=True):
            self._into(source, part.ravel(), sums, arrivals)

    def _add(self, sums, place, number):
        self.made.other += 1
        sums[place] += number

    def _weighted(self, node, places, sums, arrivals):
        (name,) = node.inputs
        shape = self.graph.nodes[name].shape
        if node.name not in self.matrices:
            self.matrices[node.name] = _matrix(node, shape)
        bias = node.bias if isinstance(node, kinds.Affine) else node.shift
        if np.any(bias):
            self.biased = True
            for place, number in zip(places, np.broadcast_to(bias, node.shape).ravel(), strict=True):
                self._add(sums, place, number)
        value = self.values[name]
        pairs = zip(value.numbers.ravel(), value.senders.ravel(), self.matrices[node.name], strict=True)
        for number, sender, weights in pairs:
            (meets,) = np.nonzero(weights)
            if number == 0:
                continue
            if sender >= 0:
                self._spike(number, sender, places[meets], weights[meets], sums, arrivals)
                continue
            for place, weight in zip(places[meets], weights[meets], strict=True):
                # A product and an addition.
                self.made.at_synapses += 2
                sums[place] += weight * number

    def _spike(self, number, sender, places, weights, sums, arrivals):
        """Add the weights of all events of a spike; those of time codes later, when they come."""
        neuron = self.senders[sender]
        if neuron != "given" and neuron.is_time_code:
            arrivals += [(neuron, event, places, weights) for event in self._events(number, sender)]
            return
        for size in self._events(number, sender):
            for place, weight in zip(places, weights, strict=True):
                self.made.at_synapses += 1
                # Weights are kept for each size of an event.
                sums[place] += weight * size

    def _events(self, number, sender):
        """The sizes of the events of a spike; of time codes place and digit, for each that is not 0."""
        neuron = self.senders[sender]
        if neuron == "given":
            return itertools.repeat(np.sign(number), int(abs(number)))
        if neuron.is_time_code:
            return self._digits(neuron, number)
        inner = neuron
        while hasattr(inner, "neuron"):
            inner = inner.neuron
        if isinstance(inner, Burst):
            return itertools.repeat(1.0, int(number))
        if isinstance(inner, MultiThreshold):
            return self._thresholds(inner, number)
        return [number]

    @staticmethod
    def _thresholds(neuron, number):
        left, sizes = abs(number), []
        for threshold in (2.0**-level for level in range(neuron.levels)):
            while left >= threshold:
                left -= threshold
                sizes.append(math.copysign(threshold, number))
                if threshold < 1:
                    break
        assert left == 0
        return sizes

    @staticmethod
    def _digits(neuron, number):
        if neuron.code is None:
            return [(0, number)]
        places, rest, sign = [], abs(int(number)), int(np.sign(number))
        for place in range(neuron.code.digits):
            rest, digit = divmod(rest, neuron.code.base)
            if digit:
                places.append((place, sign * digit))
        return places

    # --- Windows of time codes -----------------------------------------------

    def _windows(self, node):
        """The longest of the windows that arrive at a node, in digits, by base."""
        found = {}
        for name in node.inputs:
            if name in self.steady:
                continue
            if _is_summed_in_place(self.graph, name) or name not in self.values:
                parts = self._windows(self.graph.nodes[name])
            else:
                parts = {}
                for sender in np.unique(self.values[name].senders):
                    if sender >= 0:
                        code = self.senders[sender].code
                        base, digits = (2, 1) if code is None else (code.base, code.digits)
                        parts[base] = max(parts.get(base, 0), digits)
            found = {base: max(found.get(base, 0), parts.get(base, 0)) for base in {*found, *parts}}
        return found

    def _pass_time(self, node, arrivals, sums):
        """Let the windows pass, in which spikes arrive: slopes, and potentials that follow them."""
        for base, digits in self._windows(node).items():
            of_base = [a for a in arrivals if (2 if a[0].code is None else a[0].code.base) == base]
            charge = np.zeros_like(sums)
            for place in reversed(range(digits)):
                # What is there is added base − 1 times more.
                slope = charge.copy()
                for step in range(1, base):
                    for _, (of_digit, digit), places, weights in of_base:
                        if of_digit == place and step == base - abs(digit):
                            for at, weight in zip(places, weights, strict=True):
                                self.made.at_synapses += 1
                                slope[at] += weight * np.sign(digit)
                    charge += slope
                    self.made.updates += len(sums) - 1
            sums += charge

    def _corrected(self, node):
        current = np.asarray(node.neuron.correction("current"), float)
        if current.any() and not self.biased and node.inputs[0] not in self.steady:
            self.made.other += int(np.count_nonzero(np.broadcast_to(current, node.shape)))


def without_zeros_of(graph, given, names):
    """The values of the nodes of these names, by name, and how many operations they took, by `None`."""
    values = {name: np.asarray(x, "float64") for name, x in given.items()}
    for name, node in graph.nodes.items():
        if name in names and name not in values:
            values[name] = value_of(node, *(values[i][None] for i in node.inputs))[0]
    inputs = [np.asarray(given[name])[None] for name in keras.tree.flatten(graph.inputs)]
    made = without_zeros(_Part(graph, names), inputs, names)
    return {**values, None: made}


class _Part:
    """Some nodes of a graph."""

    def __init__(self, graph, names):
        self.inputs = graph.inputs
        self.nodes = {name: node for name, node in graph.nodes.items() if name in names}
        self.whole = graph


def _matrix(node, shape):
    """The weight of every input for every output, `(inputs, outputs)`."""
    bias = "bias" if isinstance(node, kinds.Affine) else "shift"
    plain = dataclasses.replace(node, **{bias: np.zeros_like(getattr(node, bias))})
    size = math.prod(shape)
    return value_of(plain, np.eye(size).reshape(size, *shape)).reshape(size, -1)


def _is_summed_in_place(graph, name):
    """Whether a value is a sum, or sums rearranged, that one sum, neuron or read-out alone wants."""
    graph = getattr(graph, "whole", graph)
    node = graph.nodes[name]
    if isinstance(node, (kinds.Rearrange, kinds.Concatenate)):
        if not all(_is_summed_in_place(graph, i) for i in node.inputs):
            return False
    elif not isinstance(node, (kinds.Affine, kinds.ChannelAffine, kinds.Add)):
        return False
    return _is_wanted_once(graph, name)


def _is_wanted_once(graph, name):
    users = [user for user in graph.nodes.values() for i in user.inputs if i == name]
    if len(users) != 1:
        return False
    (user,) = users
    if isinstance(user, kinds.Concatenate) or (isinstance(user, kinds.Rearrange) and not _repeats(user)):
        return _is_wanted_once(graph, user.name)
    if _only_adds(user):
        return _is_wanted_once(graph, user.name)
    return isinstance(user, (kinds.Add, kinds.Spike, kinds.Readout, kinds.Activation))


def _repeats(node):
    if node.function == "take":
        return any(places is not None and np.bincount(places).max() > 1 for places in node.argument)
    return node.function == "repeat"


def _only_adds(node):
    return isinstance(node, kinds.ChannelAffine) and bool(np.all(node.scale == 1))


def _is_lone_factor(graph, name):
    graph = getattr(graph, "whole", graph)
    node = graph.nodes[name]
    while isinstance(node, (kinds.Rearrange, kinds.Concatenate)):
        node = graph.nodes[node.inputs[0]]
    return isinstance(node, kinds.ChannelAffine) and not np.any(node.shift)
