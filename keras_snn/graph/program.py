"""A program: a graph of neurons that holds all that decides what a spiking network computes.

`keras_snn.simulation.building.build` makes a model of a program, and
`keras_snn.simulation.source.program_of` reads the program of a model back: they are inverses.
"""

import dataclasses

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import Graph, free_name
from keras_snn.graph.passes import insert_scale

__all__ = [
    "Program",
    "constant_nodes",
    "make_program",
    "same_node",
    "source_of",
    "with_readouts",
    "with_shifts",
    "without_input",
    "without_readouts",
]

# More steps than anyone runs.
_NEVER = 2**30
# What a node is called, where it comes from and in which unit it is read do not change what it computes.
_NOTES = {"name", "inputs", "origins", "source"}
_NOTES_OF = {
    kinds.ChannelAffine: {"moments"},
    kinds.Spike: {"scale", "max_value"},
    kinds.Opaque: {"layer_class", "reason", "way_out", "is_linear"},
}


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """What a spiking network runs.

    Two programs are equal if they compute the same; the names of nodes, the layers that they come from and
    the units of firing rates do not count.

    Attributes:
        graph: A `Graph` with neurons and read-outs, whose arrays have the values that layers keep.
        timesteps: Number of time steps; 1 of neurons that send their value in one window.
        events: Whether inputs are given for every step, `(batch, time, …)`.
        dtype: Dtype policy of the layers.
        weight_bits: Bits of a weight, where all that is added up is integers, as of
            `keras_snn.graph.integers.to_integers`; else `None`.
    """

    graph: Graph
    timesteps: int
    events: bool
    dtype: keras.DTypePolicy
    weight_bits: int | None = None

    def __eq__(self, other):
        if not isinstance(other, Program):
            return NotImplemented
        options, others = (
            (one.timesteps, one.events, one.dtype.name, one.weight_bits) for one in (self, other)
        )
        return options == others and _same_graph(self.graph, other.graph)

    __hash__ = None

    def with_nodes(self, nodes):
        """Return the program with other nodes, a dict by name."""
        return dataclasses.replace(self, graph=self.graph.with_nodes(nodes))


def make_program(graph, *, timesteps, events=False, dtype=None, max_pool="exact"):
    """Return the `Program` of a graph with neurons and read-outs.

    Arrays get the values that the weights of layers can have; maxima and activations of values that change in
    time, the way they are computed.

    Args:
        graph: A `Graph` with neurons and read-outs.
        timesteps: Number of time steps.
        events: Whether inputs are given for every step.
        dtype: Dtype or policy of the layers; `None` for that of Keras.
        max_pool: Method of max pools, as of `keras_snn.layers.SpikingMaxPool`.
    """
    policy = keras.dtype_policies.get(dtype)
    constant = constant_nodes(graph, events)
    nodes = {}
    for name, node in graph.nodes.items():
        fields = _rounded_arrays(node, policy.variable_dtype)
        if isinstance(node, kinds.Pool) and node.function == "max" and name not in constant:
            fields["method"] = max_pool
        elif isinstance(node, (kinds.Activation, kinds.Opaque)):
            is_linear = isinstance(node, kinds.Opaque) and node.is_linear
            fields["per_step"] = name in constant or is_linear
            if isinstance(node, kinds.Activation):
                fields["spikes"] = False
        nodes[name] = dataclasses.replace(node, **fields)
    return Program(graph.with_nodes(nodes), timesteps, events, policy)


def constant_nodes(graph, events):
    """Return the names of the nodes whose value is the same at every time step."""
    constant = set()
    for node in graph.nodes.values():
        has_state = isinstance(node, (kinds.Spike, kinds.Encode, kinds.Readout))
        if not events and not has_state and constant.issuperset(node.inputs):
            constant.add(node.name)
    return constant


def _rounded_arrays(node, dtype):
    """Return the arrays of a node as a layer that keeps weights in `dtype` has them, by field."""
    if isinstance(node, kinds.ChannelAffine):
        shape = np.broadcast_shapes(node.scale.shape, node.shift.shape)
        arrays = {name: np.broadcast_to(getattr(node, name), shape) for name in ("scale", "shift")}
    elif isinstance(node, kinds.Affine):
        arrays = {"kernel": node.kernel, "bias": node.bias}
    else:
        return {}
    return {name: _rounded(array, dtype) for name, array in arrays.items()}


def _rounded(array, dtype):
    if dtype in ("float32", "float64"):
        return np.asarray(array, dtype)
    kept = keras.ops.convert_to_tensor(np.asarray(array, "float32"), dtype=dtype)
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(kept, "float32")))


# --- Equality ------------------------------------------------------------------


def _same_graph(one, other):
    one, other = _in_places(one), _in_places(other)
    if (one[0], len(one[1])) != (other[0], len(other[1])):
        return False
    return all(
        inputs == others_inputs and same_node(node, others_node, besides=_NOTES)
        for (inputs, node), (others_inputs, others_node) in zip(one[1], other[1], strict=True)
    )


def _in_places(graph):
    """Return the ends of a graph and its nodes, each with the places of its inputs: without names."""
    graph = graph.with_nodes(graph.nodes)
    place = {name: i for i, name in enumerate(graph.nodes)}
    nodes = [([place[i] for i in node.inputs], node) for node in graph.nodes.values()]
    return (graph.inputs, keras.tree.map_structure(place.__getitem__, graph.outputs)), nodes


def same_node(one, other, *, besides=()):
    """Whether two nodes are equal in all fields but those named, and those that compute nothing."""
    if type(one) is not type(other):
        return False
    left_out = {*besides, *_NOTES_OF.get(type(one), ())}
    fields = (field.name for field in dataclasses.fields(one) if field.name not in left_out)
    return all(_same_value(getattr(one, name), getattr(other, name)) for name in fields)


def _same_value(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, keras.Model) and isinstance(b, keras.Model):
        return a is b or _same_value_of_lists(a.get_weights(), b.get_weights())
    return a is b or a == b


def _same_value_of_lists(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


# --- From program to program ---------------------------------------------------


def with_shifts(program, shifts):
    """Return the program whose read-outs add something: a dict of tuples by place among the outputs."""
    nodes, names = dict(program.graph.nodes), program.graph.output_names
    for place, shift in shifts.items():
        nodes[names[place]] = dataclasses.replace(nodes[names[place]], shift=shift)
    return program.with_nodes(nodes)


def with_readouts(program, **fields):
    """Return the program whose read-outs average in another way: `delay` or `weighting`, as of the node."""
    nodes = {
        name: dataclasses.replace(node, **fields)
        if isinstance(node, kinds.Readout) and not node.draws
        else node
        for name, node in program.graph.nodes.items()
    }
    return program.with_nodes(nodes)


def without_input(program):
    """Return the program for the steps after the input has ended: without biases, which are input too.

    A correction of the current is input like biases. Signed neurons without levels may not fire more often
    than in every one of the steps with input. A read-out whose delay is as long as those steps never counts.

    Raises:
        ValueError: If an output draws random spikes, which no end of the input stops.
    """
    nodes = {}
    for name, node in program.graph.nodes.items():
        if isinstance(node, kinds.Readout) and node.draws:
            raise ValueError(
                "`settle` must be False for an output that draws spikes at random. Received: settle=True. "
                "Convert with softmax='potential'."
            )
        if isinstance(node, kinds.Affine):
            node = dataclasses.replace(node, bias=np.zeros_like(node.bias))
        elif isinstance(node, kinds.ChannelAffine):
            node = dataclasses.replace(node, shift=np.zeros_like(node.shift))
        elif isinstance(node, kinds.Spike):
            node = dataclasses.replace(node, neuron=node.neuron.settled(program.timesteps))
        elif isinstance(node, kinds.Readout) and node.delay >= program.timesteps:
            # Its clock stands still, which not every engine has as a number of its own.
            node = dataclasses.replace(node, delay=_NEVER)
        nodes[name] = node
    return program.with_nodes(nodes)


# --- From program to source network --------------------------------------------


def without_readouts(graph):
    """Return the graph with the functions of its read-outs as activations, and nothing for plain averages."""
    for name, node in graph.nodes.items():
        if isinstance(node, kinds.Readout) and node.scale != 1:
            nodes = {**graph.nodes, name: dataclasses.replace(node, scale=1.0)}
            graph = insert_scale(graph.with_nodes(nodes), np.asarray(node.scale), before=name)
    nodes, renamed = dict(graph.nodes), {}
    for name, node in graph.nodes.items():
        if isinstance(node, kinds.Readout) and node.function == "linear":
            source = node.inputs[0]
            renamed[name] = renamed.get(source, source)
        elif isinstance(node, kinds.Readout):
            nodes[name] = _like(node, kinds.Activation, function=node.function, axis=node.axis, spikes=False)
    return graph.with_nodes(nodes, renamed)


def source_of(program):
    """Return what a program approximates: every neuron is its activation, in units of its scale λ.

    Nothing of the source network is needed: the weights of a program are those of the normalized source,
    whose activations divided by λ are what firing rates approach.

    Returns:
        A `Graph` without neurons and read-outs. The activation that a layer of neurons stands for has the
        name of that node.
    """
    graph = without_readouts(program.graph)
    for node in graph.nodes.values():
        if isinstance(node, kinds.Encode):
            rate = np.array(node.rate / node.scale)
            node = _like(node, kinds.ChannelAffine, scale=rate, shift=np.zeros(()), origins=())
            graph = graph.with_nodes({**graph.nodes, node.name: node})
        elif isinstance(node, kinds.Spike):
            graph = _with_activation(graph, node)
    return graph


def _like(node, kind, **fields):
    shared = {field.name: getattr(node, field.name) for field in dataclasses.fields(kinds.Node)}
    return kind(**{**shared, **fields})


def _with_activation(graph, spike):
    """Return the graph with the activation that neurons stand for in their place."""
    fields, scale = spike.neuron.analog_activation(), np.ones(())
    if fields["function"] == "relu" and np.isfinite(spike.max_value):
        # It saturates at one activation, which in units of λ is another one in every channel.
        fields, scale = {**fields, "max_value": spike.max_value}, np.asarray(spike.scale)
    activation = _like(spike, kinds.Activation, **fields)
    nodes = {**graph.nodes, spike.name: activation}
    if np.any(scale != 1):
        activation = dataclasses.replace(activation, name=free_name(f"{spike.name}/relu", graph.nodes))
        rescaled = _like(spike, kinds.ChannelAffine, scale=1 / scale, shift=np.zeros(()))
        nodes[spike.name] = dataclasses.replace(rescaled, inputs=(activation.name,))
        nodes[activation.name] = activation
    graph = graph.with_nodes(nodes)
    return insert_scale(graph, scale / np.asarray(spike.neuron.v_threshold), before=activation.name)
