"""The only place that creates Keras layers: from a graph to models."""

import functools

import keras
from keras import layers as keras_layers

from keras_snn import layers as spiking_layers
from keras_snn.graph import nodes as kinds
from keras_snn.layers.linear import SpikingLinear
from keras_snn.simulation.model import SpikingModel

__all__ = ["build_analog", "build_spiking"]

_TWINS = {
    twin.analog_class: twin
    for twin in vars(spiking_layers).values()
    if isinstance(twin, type) and issubclass(twin, SpikingLinear)
}


def build_analog(graph, observe, *, dtype=None):
    """Return a Keras model of `graph` that returns an observation of every activation.

    Args:
        graph: A `Graph` before neurons are put in.
        observe: Function without arguments that returns a layer; it sees the values of an activation.
        dtype: Dtype or policy of the layers.

    Returns:
        A Functional model that takes the inputs of the graph and returns a dict by
        activation name.
    """
    values, observations = {}, {}
    for node in graph.nodes.values():
        if isinstance(node, kinds.Input):
            values[node.name] = keras.Input(node.shape, dtype=_compute_dtype(dtype), name=node.name)
            continue
        layer, weights = analog_layer(node, dtype=dtype)
        inputs = [values[name] for name in node.inputs]
        values[node.name] = layer(inputs if len(inputs) > 1 else inputs[0])
        layer.set_weights(weights)
        if isinstance(node, kinds.Activation) and node.function == "relu":
            observations[node.name] = observe()(values[node.name])
    return keras.Model(keras.tree.map_structure(values.__getitem__, graph.inputs), observations)


def _compute_dtype(dtype):
    return keras.dtype_policies.get(dtype or keras.config.dtype_policy()).compute_dtype


def build_spiking(graph, *, timesteps, unroll, name, dtype=None):
    """Return the `SpikingModel` of a graph with neurons, and the nodes that each layer stands for.

    A linear layer and the neurons behind it become one spiking layer, under the name of
    the linear layer; every other node becomes a layer of its own.

    Returns:
        `(model, nodes)`, the latter a dict of tuples of nodes by layer name.
    """
    users = graph.users()
    names = _layer_names(graph)
    shapes = {node.name: node.shape for node in graph.nodes.values()}
    known_as, layers, wiring, constant, stands_for = {}, [], [], set(), {}
    for node in graph.nodes.values():
        if isinstance(node, kinds.Input):
            known_as[node.name] = node.name
            constant.add(node.name)
            continue
        if _fires_into_one(graph, node, users):
            continue
        layer, weights, inputs = _spiking_layer(graph, node, names, users, constant, dtype)
        _build(layer, [shapes[i] for i in inputs], weights)
        if not isinstance(layer, spiking_layers.SpikingLayer) and constant.issuperset(inputs):
            constant.add(node.name)
        known_as[node.name] = layer.name
        layers.append(layer)
        wiring.append([known_as[i] for i in inputs])
        fused = () if inputs == node.inputs else (graph.nodes[node.inputs[0]],)
        stands_for[layer.name] = (*fused, node)
    outputs = {}
    for output in dict.fromkeys(graph.output_names):
        outputs[output] = known_as[output]
        if not isinstance(graph.nodes[output], kinds.Activation):
            taken = {*known_as.values(), *(layer.name for layer in layers)}
            name_of_readout = kinds.free_name(f"{known_as[output]}_readout", taken)
            readout = spiking_layers.Readout(name=name_of_readout, dtype=dtype)
            _build(readout, [shapes[output]], [])
            layers.append(readout)
            wiring.append([known_as[output]])
            outputs[output] = readout.name
    model = SpikingModel(
        layers,
        wiring,
        inputs=graph.inputs,
        outputs=keras.tree.map_structure(outputs.__getitem__, graph.outputs),
        shapes={i: list(shapes[i]) for i in keras.tree.flatten(graph.inputs)},
        timesteps=timesteps,
        unroll=unroll,
        name=name,
        dtype=dtype,
    )
    return model, stands_for


def _fires_into_one(graph, node, users):
    """Whether `node` is a linear layer whose value only neurons take: they become one layer."""
    return (
        isinstance(node, kinds.Affine)
        and node.name not in graph.output_names
        and len(users[node.name]) == 1
        and isinstance(graph.nodes[users[node.name][0]], kinds.Spike)
    )


def _spiking_layer(graph, node, names, users, constant, dtype):
    """Return the layer of a node, its weights, and the nodes whose values it takes."""
    name = names[node.name]
    if isinstance(node, kinds.Spike):
        source = graph.nodes[node.inputs[0]]
        if _fires_into_one(graph, source, users):
            analog, weights = analog_layer(source, name=names[source.name], dtype=dtype)
            config = {k: v for k, v in analog.get_config().items() if k != "activation"}
            return _TWINS[type(analog)](**config, neuron=node.neuron), weights, source.inputs
        return (
            spiking_layers.SpikingActivation("relu", neuron=node.neuron, name=name, dtype=dtype),
            [],
            node.inputs,
        )
    analog, weights = analog_layer(node, name=name, dtype=dtype)
    if isinstance(node, kinds.Activation):
        return spiking_layers.SpikingSoftmax(node.axis, name=name, dtype=dtype), [], node.inputs
    if isinstance(node, kinds.Pool) and node.function == "max" and not constant.issuperset(node.inputs):
        twin = getattr(spiking_layers, f"Spiking{type(analog).__name__}")
        return twin(**analog.get_config()), [], node.inputs
    return spiking_layers.PerTimestep(analog, name=name, dtype=dtype), weights, node.inputs


def _build(layer, shapes, weights):
    """Build a layer for sequences of values of `shapes` and set its weights."""
    sequences = [(None, None, *shape) for shape in shapes]
    layer.build(sequences if len(sequences) > 1 else sequences[0])
    layer.set_weights(weights)


def _layer_names(graph):
    """Return a valid, unique Keras name for every node."""
    names = {}
    for path in graph.nodes:
        names[path] = kinds.free_name(path.replace("/", "_"), set(names.values()))
    return names


@functools.singledispatch
def analog_layer(node, **options):
    """Return the Keras layer that computes a node, and its weights as a list of arrays.

    The layer is not built. `options` are the arguments `name` and `dtype` of the layer.
    """
    raise NotImplementedError(type(node).__name__)


@analog_layer.register
def _(node: kinds.Affine, **options):
    use_bias = bool(node.bias.any())
    weights = [node.kernel, node.bias] if use_bias else [node.kernel]
    # The weights are set right away, so that none need to be drawn.
    options.update(use_bias=use_bias)
    *window, inputs, units = node.kernel.shape
    if not window:
        return keras_layers.Dense(units, kernel_initializer="zeros", **options), weights
    options.update(
        kernel_size=window, strides=node.strides, padding=node.padding, dilation_rate=node.dilation
    )
    rank = len(window)
    is_depthwise = node.groups > 1 and inputs == 1
    if is_depthwise and rank < 3 and len(set(node.strides)) == 1 and node.padding != "causal":
        weights[0] = node.kernel.reshape(*window, node.groups, units // node.groups)
        layer_class = getattr(keras_layers, f"DepthwiseConv{rank}D")
        multiplier = units // node.groups
        layer = layer_class(depth_multiplier=multiplier, depthwise_initializer="zeros", **options)
        return layer, weights
    layer_class = getattr(keras_layers, f"Conv{rank}D")
    return layer_class(units, groups=node.groups, kernel_initializer="zeros", **options), weights


@analog_layer.register
def _(node: kinds.ChannelAffine, **options):
    shape = node.scale.shape if node.scale.ndim >= node.shift.ndim else node.shift.shape
    weights = [v + 0 * w for v, w in ((node.scale, node.shift), (node.shift, node.scale))]
    return spiking_layers.ScaleShift(shape, **options), weights


@analog_layer.register
def _(node: kinds.Activation, **options):
    if node.function == "softmax":
        return keras_layers.Softmax(node.axis, **options), []
    limit = None if node.max_value == float("inf") else node.max_value
    return keras_layers.ReLU(max_value=limit, **options), []


@analog_layer.register
def _(node: kinds.Pool, **options):
    layer_class = getattr(keras_layers, f"{node.function.capitalize()}Pooling{len(node.window)}D")
    window = {"pool_size": node.window, "strides": node.strides, "padding": node.padding}
    return layer_class(**window, **options), []


@analog_layer.register
def _(node: kinds.Rearrange, **options):
    if node.target is not None:
        return keras_layers.Reshape(node.target, **options), []
    widths = node.padding if len(node.padding) > 1 else node.padding[0]
    return getattr(keras_layers, f"ZeroPadding{len(node.padding)}D")(widths, **options), []


@analog_layer.register
def _(node: kinds.Add, **options):
    return keras_layers.Add(**options), []


@analog_layer.register
def _(node: kinds.Concatenate, **options):
    return keras_layers.Concatenate(node.axis, **options), []
