"""From a program to a model: the only place that makes spiking layers."""

import dataclasses
import math

import keras

from keras_snn import layers as spiking_layers
from keras_snn.graph import nodes as kinds
from keras_snn.graph.functions import keras_function
from keras_snn.graph.integer_bounds import exact_steps
from keras_snn.graph.program import constant_nodes, same_node
from keras_snn.graph.to_keras import analog_layer, layer_names
from keras_snn.layers.linear import SpikingLinear
from keras_snn.simulation.model import SpikingModel

__all__ = ["build", "build_with_nodes", "rebuilt"]

_TWINS = {
    twin.analog_class: twin
    for twin in vars(spiking_layers).values()
    if isinstance(twin, type) and issubclass(twin, SpikingLinear)
}


def build(program, *, unroll="auto", name=None):
    """Return the `SpikingModel` of a `Program`; arguments as of `build_with_nodes`."""
    return build_with_nodes(program, unroll=unroll, name=name)[0]


def build_with_nodes(program, *, unroll="auto", name=None):
    """Return the `SpikingModel` of a `Program`, and the nodes that each of its calls stands for.

    A linear layer and the neurons after it, with a constant that is added between them, become one spiking
    layer, under the name of the linear layer; every other node becomes a layer of its own. Calls of a shared
    layer that came out with equal weights are calls of one layer again.

    Args:
        program: A `Program`.
        unroll: Time steps per pass through the loop over time, or `"auto"`.
        name: Name of the model.

    Returns:
        `(model, nodes)`, the latter a dict of tuples of nodes by name of the call.
    """
    graph = program.graph
    builder = _Builder(program)
    for nodes in builder.groups():
        builder.add(nodes)
    model = SpikingModel(
        builder.layers,
        builder.calls,
        inputs=graph.inputs,
        outputs=keras.tree.map_structure(builder.known_as.__getitem__, graph.outputs),
        shapes={i: list(graph.nodes[i].shape) for i in keras.tree.flatten(graph.inputs)},
        timesteps=program.timesteps,
        unroll=unroll,
        events=program.events,
        dtypes={i: graph.nodes[i].dtype for i in keras.tree.flatten(graph.inputs) if graph.nodes[i].dtype},
        name=name,
        dtype=program.dtype,
        weight_bits=program.weight_bits,
        exact_steps=_exact_steps(program),
    )
    return model, builder.stands_for


def _exact_steps(program):
    """Return for how many time steps sums are proved to be exact, `None` for any or if nobody promised it."""
    longest = math.inf if program.weight_bits is None else exact_steps(program)
    return None if math.isinf(longest) else int(longest)


def rebuilt(model, program, **options):
    """Return the model of another program of the same layers, with what else belongs to `model`.

    Args:
        model: A converted `SpikingModel`.
        program: A `Program`.
        options: Options of `convert` that its report names otherwise.
    """
    new = build(program, unroll=model.unroll, name=model.name)
    new.engine = model.engine
    if hasattr(model, "output_names"):
        new.output_names = list(model.output_names)
    trainable = {layer.name: layer.trainable for layer in model.layers}
    for layer in new.layers:
        # What training makes of integers are none.
        layer.trainable = trainable.get(layer.name, False) and program.weight_bits is None
    report = model.conversion_report
    new.conversion_report = dataclasses.replace(report, options={**report.options, **options})
    return new


class _Builder:
    """The layers made so far from the nodes of a graph, and who calls whom.

    Attributes:
        layers: The layers.
        calls: For every call a dict of its name, the name of the layer and those of its inputs.
        stands_for: Tuple of nodes by name of the call.
    """

    def __init__(self, program):
        self.graph, self.dtype = program.graph, program.dtype
        self.users = self.graph.users()
        self.names = layer_names(self.graph)
        self.layers, self.calls, self.stands_for = [], [], {}
        self.known_as = {name: name for name in keras.tree.flatten(self.graph.inputs)}
        self.constant = constant_nodes(self.graph, program.events)

    def groups(self):
        """Return tuples of the nodes that become one layer, in order of their last."""
        nodes = [node for node in self.graph.nodes.values() if not isinstance(node, kinds.Input)]
        of_neurons = {node.name: self._with_linear(node) for node in nodes if isinstance(node, kinds.Spike)}
        inside = {node.name for group in of_neurons.values() for node in group[:-1]}
        return [of_neurons.get(node.name, (node,)) for node in nodes if node.name not in inside]

    def _with_linear(self, spike):
        """Return neurons, after the linear layer and the constant before them if no other takes those."""
        linear, before = self.graph.weighted_before(spike), self.graph.nodes[spike.inputs[0]]
        nodes = (linear, spike) if before is linear else (linear, before, spike)
        alone = all(
            len(self.users[node.name]) == 1 and node.name not in self.graph.output_names
            for node in nodes[:-1]
        )
        return nodes if isinstance(linear, kinds.Affine) and alone else (spike,)

    def add(self, nodes):
        """Make the layer of some nodes, or call one that is there."""
        name, inputs = self.names[nodes[0].name], nodes[0].inputs
        shapes = [self.graph.nodes[i].shape for i in inputs]
        layer = self._shared_layer(nodes, shapes)
        if layer is None:
            layer, weights = self._new_layer(nodes, name)
            _build(layer, shapes, weights)
        self._call(name, layer, [self.known_as[i] for i in inputs], nodes)
        self.known_as[nodes[-1].name] = name

    def _call(self, name, layer, inputs, nodes):
        if layer not in self.layers:
            self.layers.append(layer)
        self.calls.append({"name": name, "layer": layer.name, "inputs": inputs})
        self.stands_for[name] = nodes

    def _shared_layer(self, nodes, shapes):
        """Return the layer that another call of the same source layer became, if it would be the same."""
        for call in self.calls:
            others = self.stands_for[call["name"]]
            same_source = others[0].source == nodes[0].source is not None
            others_shapes = [self.graph.nodes[i].shape for i in others[0].inputs]
            if same_source and others_shapes == shapes and self._alike(others, nodes):
                return next(layer for layer in self.layers if layer.name == call["layer"])
        return None

    def _alike(self, first, second):
        """Whether nodes make the same of their inputs, which change in time or do not alike."""
        driven = [self.constant.issuperset(nodes[0].inputs) for nodes in (first, second)]
        if driven[0] != driven[1] or len(first) != len(second):
            return False
        pairs = zip(first, second, strict=True)
        return all(same_node(one, other, besides=("name", "inputs", "origins")) for one, other in pairs)

    def _new_layer(self, nodes, name):
        """Return the unbuilt layer of a node, or of a linear layer and its neurons; and its weights."""
        options = {"name": name, "dtype": self.dtype}
        node = nodes[-1]
        if len(nodes) > 1:
            analog, weights = analog_layer(nodes[0], **options)
            config = {k: v for k, v in analog.get_config().items() if k != "activation"}
            added = [between.shift for between in nodes[1:-1]]
            twin = _TWINS[type(analog)](**config, neuron=node.neuron, bias_per_place=bool(added))
            return twin, [*added, *weights]
        if isinstance(node, kinds.Spike):
            return spiking_layers.SpikingActivation("relu", neuron=node.neuron, **options), []
        if isinstance(node, kinds.Encode):
            return spiking_layers.PoissonEncoder(node.rate, node.scale, node.seed, **options), []
        if isinstance(node, kinds.Readout):
            return _readout(node, options), []
        analog, weights = analog_layer(node, **options)
        if isinstance(node, kinds.Pool) and node.method:
            twin = getattr(spiking_layers, f"Spiking{type(analog).__name__}")
            return twin(**analog.get_config(), method=node.method), []
        if isinstance(node, (kinds.Activation, kinds.Opaque)) and not node.per_step:
            return spiking_layers.NonSpiking(analog, **options), weights
        return spiking_layers.PerTimestep(analog, **options), weights


def _readout(node, options):
    options |= {name: getattr(node, name) for name in ("delay", "scale", "weighting", "shift")}
    if node.function != "softmax":
        return spiking_layers.Readout(keras_function(node.function), **options)
    return spiking_layers.SpikingSoftmax(node.axis, method=node.method, seed=node.seed, **options)


def _build(layer, shapes, weights):
    """Build a layer for sequences of values of `shapes` and set its weights."""
    sequences = [(None, None, *shape) for shape in shapes]
    layer.build(sequences if len(sequences) > 1 else sequences[0])
    layer.set_weights(weights)
