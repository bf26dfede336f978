"""What the values between layers are: spikes and of which neurons, currents, or other numbers."""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import Graph
from keras_snn.graph.numpy_reference import value_of
from keras_snn.graph.program import Program, constant_nodes

__all__ = [
    "ACCUMULATING",
    "CONSTANT",
    "CURRENT",
    "NUMBER",
    "Contents",
    "SpikeSource",
    "contents_of",
    "own_sums",
]

# What a value is that is no spike: a part of the one sum that it goes into, which costs no addition of its
# own; the same at every step; any other number. Spikes have the place of their source, from 0 on.
CURRENT, CONSTANT, NUMBER = -1, -2, -3
ACCUMULATING = (kinds.Add, kinds.Spike, kinds.Readout)


@dataclasses.dataclass(frozen=True)
class SpikeSource:
    """Neurons, or an input, whose spikes have the same sizes and the same events.

    Attributes:
        unit: Value of the smallest spike.
        largest: Units of the largest spike.
        events_of: Function of units that gives the number of events, as `Neuron.events_of`.
        is_input: Whether a user gives the values: one that is no multiple of the unit is then no spike.
        is_time_code: Whether a value is a number that is sent in spikes of size 1.
    """

    unit: float
    largest: int
    events_of: Callable
    is_input: bool = False
    is_time_code: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the size of a spike is the number of its units and of its events."""
        return self.unit == self.largest == 1 and not self.is_input

    def is_like(self, other: "SpikeSource") -> bool:
        """Whether spikes of both mean the same."""
        for name in ("unit", "largest", "is_input", "is_time_code"):
            if getattr(self, name) != getattr(other, name):
                return False
        units = np.arange(self.largest + 1.0)
        return bool(np.all(ops.convert_to_numpy(ops.equal(self.events_of(units), other.events_of(units)))))


# Several spikes at once are as many events.
_GIVEN = SpikeSource(1.0, 1, ops.convert_to_tensor, is_input=True)
_RANDOM = SpikeSource(1.0, 1, ops.convert_to_tensor)


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """What the values of the nodes of a program are.

    Attributes:
        codes: For every node the place of a source in `sources`, or one of the negative codes; as an array
            that broadcasts to its value without batch.
        sources: The sources of spikes.
    """

    codes: dict[str, np.ndarray]
    sources: tuple[SpikeSource, ...]


def contents_of(program: Program) -> Contents:
    """Return what the values of a program are."""
    graph, found = program.graph, _Found()
    constant, sums = constant_nodes(graph, program.events), own_sums(graph)
    codes = {}
    for node in graph.nodes.values():
        if node.name in constant:
            codes[node.name] = np.array(CONSTANT)
        elif node.name in sums and not isinstance(node, kinds.Concatenate):
            codes[node.name] = np.array(CURRENT)
        else:
            shapes = [graph.nodes[name].shape for name in node.inputs]
            codes[node.name] = found.code(node, [codes[name] for name in node.inputs], shapes)
    return Contents(codes, tuple(found.sources))


def own_sums(graph: Graph) -> set[str]:
    """Return the names of what is added up in the place where it is wanted, and nowhere else.

    That are weighted sums, and sums of those, that go into one sum, one layer of neurons or one read-out, as
    they are or rearranged: every product is added to the sum that is wanted.
    """
    users, wanted = graph.users(), set()
    for name in reversed(graph.nodes):
        of_node = users[name]
        if len(of_node) == 1:
            user = graph.nodes[of_node[0]]
            goes_in = isinstance(user, (*ACCUMULATING, kinds.Activation))
            if goes_in or (user.name in wanted and (_moves(user) or _only_adds(user))):
                wanted.add(name)
    found = set()
    for name, node in graph.nodes.items():
        is_sum = isinstance(node, (kinds.Affine, kinds.ChannelAffine, kinds.Add))
        if name in wanted and (is_sum or (_moves(node) and found.issuperset(node.inputs))):
            found.add(name)
    return found


def _moves(node):
    """Whether a node hands every value on once, at most."""
    if isinstance(node, kinds.Rearrange):
        return not node.repeats
    return isinstance(node, kinds.Concatenate)


def _only_adds(node):
    return isinstance(node, kinds.ChannelAffine) and node.only_adds


class _Found:
    """The sources found so far."""

    def __init__(self):
        self.sources = []

    def place(self, source):
        """Return the place of a source, after those that are there if there is none like it."""
        for place, other in enumerate(self.sources):
            if source.is_like(other):
                return np.array(place)
        self.sources.append(source)
        return np.array(len(self.sources) - 1)

    def code(self, node, inputs, shapes):
        """Return the code of a node whose value changes in time, from those of its inputs."""
        if isinstance(node, kinds.Input):
            return self.place(_GIVEN)
        if isinstance(node, kinds.Encode):
            return self.place(_RANDOM)
        if isinstance(node, kinds.Spike):
            neuron = node.neuron
            largest = round(float(np.max(neuron.largest_spike)) / neuron.unit)
            is_code = bool(neuron.is_time_code)
            source = SpikeSource(float(neuron.unit), largest, neuron.events_of, is_time_code=is_code)
            return self.place(source)
        return _moved(node, inputs, shapes)


def _moved(node, inputs, shapes):
    """Return the code of what moves values or chooses among them; of others, that they are numbers."""
    if isinstance(node, (kinds.Rearrange, kinds.Concatenate)):
        # What is the same at every step, beside what is not.
        inputs = [np.where(code == CONSTANT, NUMBER, code) for code in inputs]
        if all(code.ndim == 0 and code == inputs[0] for code in inputs):
            return inputs[0]
        whole = [np.broadcast_to(code, shape)[None] for code, shape in zip(inputs, shapes, strict=True)]
        return _compact(value_of(node, *whole)[0])
    if isinstance(node, kinds.Pool) and node.function == "max":
        whole = inputs[0] if inputs[0].ndim == 0 else _pooled(node, np.broadcast_to(inputs[0], shapes[0]))
        return np.where(whole >= 0, whole, NUMBER)
    return np.array(NUMBER)


def _pooled(node, code):
    """Return the code of maxima; where sources meet in a window, that of the last."""
    return _compact(value_of(node, code[None].astype(float))[0])


def _compact(code):
    """Return a code as one number, or one for each channel, if it does not change otherwise."""
    code = code.astype("int16")
    by_channel = code.reshape(-1, code.shape[-1])
    if code.size == 0 or np.any(by_channel != by_channel[0]):
        return code
    return by_channel[0, 0].reshape(()) if np.all(by_channel[0] == by_channel[0, 0]) else by_channel[0]
