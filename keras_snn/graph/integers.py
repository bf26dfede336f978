"""From a program to one of integers: weights of few bits, and thresholds, biases and potentials to match.

Every value of the program is an integer times a unit, of each channel its own: v = u·n. A layer with weights
W on values of unit u_in, and the sums that it is part of, get a unit s of every channel c, and n is computed
with

    W_int = clip(round(W·u_in/s_c), −L, L),  L = 2^(bits − 1) − 1
    b_int = round(b/s_c)
    θ_int = θ/s_c,  V_int(0) = round(V(0)/s_c)

where s_c = θ/θ_int for an integer θ_int, so that thresholds are exact: the one at which the weights of the
channel are rounded least, by the sum of squares. How weights make up for each other's rounding is in
`integer_rounding`. Spikes have unit 1. A read-out multiplies by its unit, once. What comes in is rounded to
multiples of a unit, too. An average is a sum, in a smaller unit.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.channel_affine import channel_affine, compact, rearranged
from keras_snn.graph.graph import Graph, free_name
from keras_snn.graph.integer_rounding import rounded_weights
from keras_snn.graph.integer_units import SumUnits, refuse, weights_in_units, with_factors
from keras_snn.graph.pool_sums import as_convolution, window_counts
from keras_snn.neurons.thresholds import plain

__all__ = ["InputGrid", "to_integers", "with_whole_numbers"]

# A threshold may be off by so much, relatively, where a sum has its unit for other neurons.
_FARTHEST = 0.1
# Currents of inputs that are larger are cut off; in the unit of the program.
_LARGEST_CURRENT = 16


@dataclasses.dataclass(frozen=True)
class InputGrid:
    """What an input is rounded to: multiples of a unit.

    Attributes:
        unit: The unit, in the unit of the input.
        levels: The most units.
        signed: Whether it may be negative.
    """

    unit: float
    levels: int
    signed: bool


def to_integers(program, weight_bits, grids, inputs_of=None):
    """Return a program of integers that computes about the same.

    Args:
        program: A `Program`.
        weight_bits: Bits of a weight, with its sign; at least 2.
        grids: `InputGrid` of every input by name.
        inputs_of: Dict of what units of linear layers get, `(samples, inputs)`, by name of the node; without,
            weights of a layer are rounded each on its own.

    Raises:
        ValueError: If something in it cannot compute with integers; names the layer.
    """
    graph = with_factors(program.graph)
    for node in graph.nodes.values():
        _refuse_numbers(node)
    rounding = _Rounding(graph, weight_bits, grids, inputs_of or {}, rounds_currents=not program.events)
    for node in graph.nodes.values():
        rounding.add(node)
    outputs = keras.tree.map_structure(rounding.now, graph.outputs)
    graph = Graph(rounding.nodes, graph.inputs, outputs).with_nodes(rounding.nodes)
    return dataclasses.replace(program, graph=graph, weight_bits=weight_bits)


def with_whole_numbers(program):
    """Return a program of integers whose neurons have other corrections, with those rounded."""
    nodes = {
        name: dataclasses.replace(node, neuron=node.neuron.in_units(np.ones(node.shape[-1])))
        if isinstance(node, kinds.Spike)
        else node
        for name, node in program.graph.nodes.items()
    }
    return program.with_nodes(nodes)


def _refuse_numbers(node):
    """Raise a `ValueError` for a node that computes with other numbers than integers."""
    found = None
    if isinstance(node, kinds.Spike) and node.neuron.whole_thresholds(np.ones(1)) is None:
        found = f"neuron={node.neuron!r}", "convert with neuron='if', 'signed', 'multi_threshold' or 'burst'"
    elif isinstance(node, kinds.Encode):
        found = "random spikes", "convert with input_encoding='current'"
    elif isinstance(node, kinds.Readout) and node.draws:
        found = "random spikes", "convert with softmax='potential'"
    elif isinstance(node, kinds.Pool) and node.method not in (None, "exact"):
        found = f"a max pool of method '{node.method}'", "convert with max_pool='exact'"
    elif isinstance(node, kinds.Activation):
        found = f"{node.function} of numbers", "leave it out, or train with activation='relu'"
    elif isinstance(node, kinds.Opaque):
        found = f"{node.layer_class}, which does not spike", node.way_out
    if found is not None:
        refuse(node, *found)


class _Rounding:
    """The nodes of integers, made one after the other.

    Attributes:
        nodes: The nodes so far by name.
        units: Of every node of the graph its unit: an array that broadcasts against the value.
    """

    def __init__(self, graph, weight_bits, grids, inputs_of, *, rounds_currents):
        self.graph, self.grids, self.inputs_of = graph, grids, inputs_of
        self.largest = 2 ** (weight_bits - 1) - 1
        self.nodes, self.units, self._renamed = {}, {}, {}
        self.sums = SumUnits(graph, self.largest, self.unit_of, rounds_currents=rounds_currents)

    def now(self, name):
        """Return the name of the node that has the integers of a node of the graph."""
        return self._renamed.get(name, name)

    def _put(self, node):
        """Put in a node that takes values of nodes of the graph."""
        inputs = tuple(map(self.now, node.inputs))
        self.nodes[node.name] = dataclasses.replace(node, inputs=inputs)

    def unit_of(self, name):
        """Return the unit of a node, which may come later."""
        if name in self.units:
            return self.units[name]
        node = self.graph.nodes[name]
        if self.sums.has(name):
            return self.sums.unit(name)
        return self._unit_before_rounding(node)

    def _unit_before_rounding(self, node):
        """Return the unit of a node that is no sum, from those of its inputs."""
        if isinstance(node, kinds.Input):
            return np.asarray(self.grids[node.name].unit)
        if isinstance(node, kinds.Spike):
            return np.ones(())
        units = [self.unit_of(name) for name in node.inputs]
        if isinstance(node, kinds.ChannelAffine):
            return compact(units[0] * np.where(node.scale == 0, 1.0, np.abs(node.scale)), node.shape)
        if isinstance(node, kinds.Rearrange):
            return compact(rearranged(node, units[0], self.graph.nodes[node.inputs[0]].shape), node.shape)
        if isinstance(node, kinds.Concatenate):
            shapes = [self.graph.nodes[name].shape for name in node.inputs]
            whole = [np.broadcast_to(unit, shape) for unit, shape in zip(units, shapes, strict=True)]
            return compact(np.concatenate(whole, axis=node.axis), node.shape)
        if isinstance(node, kinds.Pool) and node.function == "average":
            counts = window_counts(node, self.graph.nodes[node.inputs[0]].shape)
            return self._by_channel(node, units[0]) / _common(counts)
        return units[0]

    def _by_channel(self, node, unit):
        """Return a unit that is the same at every place, or raise a `ValueError`."""
        if unit.ndim > 1:
            refuse(node, "values in other units at every place", "leave out what scales places apart")
        return unit

    def add(self, node):
        """Add what computes a node with integers."""
        self.units[node.name] = self.unit_of(node.name)
        if isinstance(node, kinds.Input):
            self._add_input(node)
        elif isinstance(node, kinds.Affine):
            self._add_affine(node)
        elif isinstance(node, kinds.ChannelAffine):
            self._add_channel_affine(node)
        elif isinstance(node, kinds.Pool) and node.function == "average":
            self._add_sum(node)
        else:
            self._put(self._with_numbers(node))

    def _with_numbers(self, node):
        """Return a node with neurons or a read-out in its units; of others, as it is."""
        if not isinstance(node, (kinds.Spike, kinds.Readout)):
            if isinstance(node, kinds.Pool):
                self._by_channel(node, self.units[node.name])
            return node
        unit = self._by_channel(node, self.units[node.inputs[0]])
        if isinstance(node, kinds.Readout):
            return dataclasses.replace(node, scale=plain(unit * np.asarray(node.scale)))
        channels = np.broadcast_to(unit, node.shape[-1:])
        neuron = node.neuron.in_units(channels)
        exact = np.asarray(node.neuron.v_threshold) / channels
        if np.any(np.abs(node.neuron.whole_thresholds(exact) / exact - 1) > _FARTHEST):
            refuse(node, f"neuron={node.neuron!r} on sums that others take too", "convert with neuron='if'")
        linear = node.inputs[0]
        if node.name == f"{linear}/spike" and self.now(linear) != linear:
            self._renamed[node.name] = linear
        return dataclasses.replace(node, name=self.now(node.name), neuron=neuron)

    def _add_input(self, node):
        """Add an input, divided by its unit and rounded."""
        grid = self.grids[node.name]
        self.nodes[node.name] = node
        self._add_rounded(node, node.name, np.asarray(1 / grid.unit), grid.levels, signed=grid.signed)

    def _add_affine(self, node):
        """Add a linear layer with integer weights and biases; of inputs, its sums are rounded to the unit."""
        unit, times = self.units[node.name], self.sums.times.get(node.name, np.ones(()))
        weights = weights_in_units(self.graph, node, self.unit_of) * (times / unit)
        rounded = self._rounded(node, weights.reshape(-1, weights.shape[-1]))
        bias = np.round(node.bias.astype("float64") * (times / unit))
        node = dataclasses.replace(
            node,
            kernel=rounded.reshape(node.kernel.shape).astype(node.kernel.dtype),
            bias=bias.astype(node.bias.dtype),
        )
        if np.all(times == 1):
            self._put(node)
            return
        # Its neurons take its name.
        fine = dataclasses.replace(node, name=free_name(f"{node.name}/current", self.graph.nodes))
        self._put(fine)
        levels = _LARGEST_CURRENT * 2 ** math.ceil(math.log2(np.max(1 / unit)))
        self._add_rounded(fine, node.name, 1 / times, levels, signed=True)

    def _rounded(self, node, weights):
        """Return the weights of a linear layer, `(inputs, units)`, rounded."""
        inputs = self.inputs_of.get(node.name)
        if inputs is not None:
            given = np.broadcast_to(self.unit_of(node.inputs[0]), node.kernel.shape[-2])
            inputs = inputs / np.tile(given, inputs.shape[-1] // len(given))
        return rounded_weights(weights, inputs, self.largest)

    def _add_rounded(self, node, name, factor, levels, *, signed):
        """Let a value times a factor, rounded, take the place of the value of a name."""
        scaled = channel_affine(self.nodes, f"{name}/units", node, factor, 0.0, origins=node.origins)
        rounded = kinds.Activation(
            name=free_name(f"{name}/integers", self.graph.nodes),
            inputs=(node.name if np.all(factor == 1) else scaled.name,),
            shape=node.shape,
            origins=node.origins,
            function="linear" if signed else "relu",
            max_value=float(levels),
            levels=levels,
            per_step=True,
            spikes=False,
        )
        self.nodes |= {scaled.name: scaled, rounded.name: rounded}
        self._renamed[name] = rounded.name

    def _add_channel_affine(self, node):
        """Add a factor of each channel, and a constant; nothing where they change no integer."""
        given, unit = self.unit_of(node.inputs[0]), self.units[node.name]
        factor, shift = np.round(given * node.scale / unit), np.round(node.shift / unit)
        source = self.graph.nodes[node.inputs[0]]
        if np.all(factor == 1) and not shift.any():
            self._renamed[node.name] = self.now(source.name)
        else:
            self._put(channel_affine((), node.name, source, factor, shift, origins=node.origins))

    def _add_sum(self, node):
        """Add a pool of averages as one of sums, times what makes the sums of all windows alike."""
        source = self.graph.nodes[node.inputs[0]]
        counts = window_counts(node, source.shape)
        factor, pool = _common(counts) / counts, node
        if counts.size == 1 and np.log2(counts.flat[0]) % 1 == 0:
            # The average is exact, and so is the sum made of it.
            factor = counts
        else:
            pool = as_convolution(node, source.shape[-1])
        if np.all(factor == 1):
            self._put(pool)
            return
        summed = dataclasses.replace(pool, name=free_name(f"{node.name}/sum", self.graph.nodes))
        self._put(summed)
        self._put(channel_affine((), node.name, summed, factor, 0.0, origins=node.origins))


def _common(counts):
    """Return the smallest number that is divisible by every one of some integers."""
    return float(np.lcm.reduce(np.unique(counts).astype("int64")))
