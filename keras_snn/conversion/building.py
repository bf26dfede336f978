"""From a graph to Keras models, analog and spiking."""

import dataclasses

import keras
import numpy as np

from keras_snn import layers as spiking_layers
from keras_snn.conversion.spiking import seed_for
from keras_snn.graph import nodes as kinds
from keras_snn.graph.analog import analog_layer, analog_tensors, as_numbers
from keras_snn.graph.functions import keras_function
from keras_snn.layers.linear import SpikingLinear
from keras_snn.simulation.model import SpikingModel

__all__ = ["Choices", "build_analog", "build_model", "build_spiking"]

_TWINS = {
    twin.analog_class: twin
    for twin in vars(spiking_layers).values()
    if isinstance(twin, type) and issubclass(twin, SpikingLinear)
}


def build_model(graph, *, dtype=None, name=None):
    """Return the Functional model that computes `graph`, one without neurons; its layers go by the nodes."""
    values = analog_tensors(graph, dtype=dtype, names=_layer_names(graph))
    inputs, outputs = (
        keras.tree.map_structure(values.__getitem__, names) for names in (graph.inputs, graph.outputs)
    )
    return keras.Model(inputs, outputs, name=name)


def build_analog(graph, observe, *, dtype=None, inputs_too=False, of_inputs=False):
    """Return a Keras model of `graph` that returns an observation of every relu.

    Args:
        graph: A `Graph` before neurons are put in.
        observe: Function of the name of a node that returns a layer; it sees the values.
        dtype: Dtype or policy of the layers.
        inputs_too: Whether to observe the absolute values of the inputs as well.
        of_inputs: Whether to observe what goes into the relus instead of what comes out.

    Returns:
        A Functional model that takes the inputs of the graph and returns a dict by node name.
    """
    values = analog_tensors(graph, dtype=dtype)
    observations = {}
    for node in graph.nodes.values():
        if isinstance(node, kinds.Input) and inputs_too:
            observations[node.name] = observe(node.name)(
                keras.ops.abs(as_numbers(values[node.name], keras.config.floatx()))
            )
        elif isinstance(node, kinds.Activation) and node.function == "relu":
            seen = node.inputs[0] if of_inputs else node.name
            observations[node.name] = observe(node.name)(values[seen])
    return keras.Model(keras.tree.map_structure(values.__getitem__, graph.inputs), observations)


@dataclasses.dataclass(frozen=True)
class Choices:
    """How layers behave that the graph says no more of; options of `convert`."""

    max_pool: str = "exact"
    softmax: str = "potential"
    readout_delay: int = 0
    seed: int = 0
    events: bool = False


def build_spiking(graph, choices, *, timesteps, unroll, name, dtype=None):
    """Return the `SpikingModel` of a graph with neurons, and the nodes that each call stands for.

    A linear layer and the neurons behind it become one spiking layer, under the name of
    the linear layer; every other node becomes a layer of its own. Calls of a shared layer
    that came out with equal weights are calls of one layer again.

    Returns:
        `(model, nodes)`, the latter a dict of tuples of nodes by name of the call.
    """
    builder = _Builder(graph, choices, dtype)
    for node in graph.nodes.values():
        if not isinstance(node, kinds.Input) and not builder.belongs_to_next(node):
            builder.add(node)
    outputs = {output: builder.read_out(output) for output in dict.fromkeys(graph.output_names)}
    model = SpikingModel(
        builder.layers,
        builder.calls,
        inputs=graph.inputs,
        outputs=keras.tree.map_structure(outputs.__getitem__, graph.outputs),
        shapes={i: list(graph.nodes[i].shape) for i in keras.tree.flatten(graph.inputs)},
        timesteps=timesteps,
        unroll=unroll,
        events=choices.events,
        dtypes={i: graph.nodes[i].dtype for i in keras.tree.flatten(graph.inputs) if graph.nodes[i].dtype},
        name=name,
        dtype=dtype,
    )
    return model, builder.stands_for


class _Builder:
    """The layers made so far from the nodes of a graph, and who calls whom.

    Attributes:
        layers: The layers.
        calls: For every call a dict of its name, the name of the layer and those of its inputs.
        stands_for: Tuple of nodes by name of the call.
    """

    def __init__(self, graph, choices, dtype):
        self.graph, self.choices, self.dtype = graph, choices, dtype
        self.users = graph.users()
        self.names = _layer_names(graph)
        self.layers, self.calls, self.stands_for = [], [], {}
        inputs = [node.name for node in graph.nodes.values() if isinstance(node, kinds.Input)]
        self.known_as = {name: name for name in inputs}
        # What is the same at every step.
        self.constant = set() if choices.events else set(inputs)
        self.roles = {}

    def belongs_to_next(self, node):
        """Whether `node` is a linear layer whose value only neurons take: they become one layer."""
        if node.name in self.graph.output_names or len(self.users[node.name]) != 1:
            return False
        user = self.graph.nodes[self.users[node.name][0]]
        return isinstance(node, kinds.Affine) and isinstance(user, kinds.Spike)

    def add(self, node):
        """Make the layer of a node, or call one that is there."""
        nodes = (node,)
        if isinstance(node, kinds.Spike) and self.belongs_to_next(self.graph.nodes[node.inputs[0]]):
            nodes = (self.graph.nodes[node.inputs[0]], node)
        name, inputs = self.names[nodes[0].name], nodes[0].inputs
        shapes = [self.graph.nodes[i].shape for i in inputs]
        self.roles[name] = self._role(nodes)
        layer = self._shared_layer(nodes, shapes, self.roles[name])
        if layer is None:
            layer, weights = self._new_layer(nodes, name)
            _build(layer, shapes, weights)
        if not isinstance(layer, spiking_layers.SpikingLayer) and self.constant.issuperset(inputs):
            self.constant.add(node.name)
        self._call(name, layer, [self.known_as[i] for i in inputs], nodes)
        self.known_as[node.name] = name

    def read_out(self, output):
        """Return the name of the call whose value the model returns for an output of the graph."""
        node = self.graph.nodes[output]
        source = self.known_as[output]
        if _is_readout(node, self.users) and not next(x for x in self.layers if x.name == source).draws:
            return source
        taken = {*self.known_as.values(), *(call["name"] for call in self.calls)}
        name = kinds.free_name(f"{source}_readout", taken)
        readout = spiking_layers.Readout(delay=self.choices.readout_delay, name=name, dtype=self.dtype)
        _build(readout, [node.shape], [])
        self._call(name, readout, [source], ())
        return name

    def _call(self, name, layer, inputs, nodes):
        if layer not in self.layers:
            self.layers.append(layer)
        self.calls.append({"name": name, "layer": layer.name, "inputs": inputs})
        self.stands_for[name] = nodes

    def _role(self, nodes):
        """Return what else than the nodes decides on the layer: constant input, and being the read-out."""
        return self.constant.issuperset(nodes[0].inputs), _is_readout(nodes[-1], self.users)

    def _shared_layer(self, nodes, shapes, role):
        """Return the layer that another call of the same source layer became, if it would be the same."""
        for call in self.calls:
            others = self.stands_for[call["name"]]
            if not others or self.roles[call["name"]] != role:
                continue
            if others[0].source == nodes[0].source is not None and _alike(others, nodes):
                others_shapes = [self.graph.nodes[i].shape for i in others[0].inputs]
                if others_shapes == shapes:
                    return next(layer for layer in self.layers if layer.name == call["layer"])
        return None

    def _new_layer(self, nodes, name):
        """Return the unbuilt layer of a node, or of a linear layer and its neurons; and its weights."""
        options = {"name": name, "dtype": self.dtype}
        node = nodes[-1]
        if len(nodes) > 1:
            analog, weights = analog_layer(nodes[0], **options)
            config = {k: v for k, v in analog.get_config().items() if k != "activation"}
            return _TWINS[type(analog)](**config, neuron=node.neuron), weights
        if isinstance(node, kinds.Spike):
            return spiking_layers.SpikingActivation("relu", neuron=node.neuron, **options), []
        if isinstance(node, kinds.Encode):
            return spiking_layers.PoissonEncoder(node.rate, node.scale, node.seed, **options), []
        is_constant, is_readout = self._role(nodes)
        if is_readout:
            return self._new_readout(node, options), []
        analog, weights = analog_layer(node, **options)
        if isinstance(node, kinds.Pool) and node.function == "max" and not is_constant:
            twin = getattr(spiking_layers, f"Spiking{type(analog).__name__}")
            return twin(**analog.get_config(), method=self.choices.max_pool), []
        if isinstance(node, (kinds.Activation, kinds.Opaque)) and not is_constant:
            return spiking_layers.NonSpiking(analog, **options), weights
        return spiking_layers.PerTimestep(analog, **options), weights

    def _new_readout(self, node, options):
        options |= {"delay": self.choices.readout_delay}
        if node.function != "softmax":
            return spiking_layers.Readout(keras_function(node.function), **options)
        seed = seed_for(self.choices.seed, "softmax", len(self.layers))
        return spiking_layers.SpikingSoftmax(node.axis, method=self.choices.softmax, seed=seed, **options)


def _is_readout(node, users):
    """Whether a node is an activation whose value only the output takes: it acts on the average."""
    return isinstance(node, kinds.Activation) and not users[node.name]


def _alike(first, second):
    """Whether nodes say the same of their inputs."""
    if [type(node) for node in first] != [type(node) for node in second]:
        return False
    for one, other in zip(first, second, strict=True):
        for field in dataclasses.fields(one):
            if field.name in ("name", "inputs", "origins", "moments"):
                continue
            a, b = getattr(one, field.name), getattr(other, field.name)
            arrays = isinstance(a, np.ndarray) or isinstance(b, np.ndarray)
            if not (np.array_equal(a, b) if arrays else a is b or a == b):
                return False
    return True


def _build(layer, shapes, weights):
    """Build a layer for sequences of values of `shapes` and set its weights."""
    sequences = [(None, None, *shape) for shape in shapes]
    layer.build(sequences if len(sequences) > 1 else sequences[0])
    layer.set_weights(weights)


def _layer_names(graph):
    """Return a valid, unique Keras name for every node."""
    names, taken = {}, set()
    for path in graph.nodes:
        names[path] = kinds.free_name(path.replace("/", "_"), taken)
        taken.add(names[path])
    return names
