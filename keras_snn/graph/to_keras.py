"""The Keras layers that compute nodes, and a whole graph of them."""

import functools

import keras
import numpy as np
from keras import layers as keras_layers

from keras_snn import layers as spiking_layers
from keras_snn.graph import nodes as kinds
from keras_snn.graph.fallback import copy_of_model
from keras_snn.graph.functions import keras_function
from keras_snn.graph.graph import free_name
from keras_snn.layers.stateless import Sides

__all__ = ["analog_layer", "analog_tensors", "as_numbers", "build_analog", "build_model", "layer_names"]


def build_model(graph, *, dtype=None, name=None):
    """Return the Functional model that computes `graph`, one without neurons; its layers go by the nodes."""
    values = analog_tensors(graph, dtype=dtype, names=layer_names(graph))
    inputs, outputs = (
        keras.tree.map_structure(values.__getitem__, names) for names in (graph.inputs, graph.outputs)
    )
    return keras.Model(inputs, outputs, name=name)


def build_analog(graph, observe, *, dtype=None, inputs_too=False, of_inputs=False):
    """Return a Keras model of `graph` that returns an observation of every relu, and of the size of relays.

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
            numbers = as_numbers(values[node.name], keras.config.floatx())
            observations[node.name] = observe(node.name)(keras.ops.abs(numbers))
        elif isinstance(node, kinds.Activation) and node.has_scale:
            seen = values[node.inputs[0] if of_inputs else node.name]
            # Of a relay the sign does not matter to its scale.
            is_size = node.is_relay and not of_inputs
            observations[node.name] = observe(node.name)(keras.ops.abs(seen) if is_size else seen)
    return keras.Model(keras.tree.map_structure(values.__getitem__, graph.inputs), observations)


def analog_tensors(graph, *, dtype=None, names=None):
    """Return the values of all nodes of a graph as tensors of a functional Keras model, by name.

    Args:
        graph: A `Graph` without neurons.
        dtype: Dtype or policy of the layers.
        names: Name of the layer for every node, or `None` for what Keras names it.
    """
    values = {}
    for node in graph.nodes.values():
        if isinstance(node, kinds.Input):
            input_dtype = node.dtype or _compute_dtype(dtype)
            values[node.name] = keras.Input(node.shape, dtype=input_dtype, name=node.name)
            continue
        layer, weights = analog_layer(node, dtype=dtype, name=names and names[node.name])
        inputs = [values[name] for name in node.inputs]
        if node.dtype is not None:
            layer.autocast = False
        if not node.keeps_dtypes:
            inputs = [as_numbers(x, _compute_dtype(dtype)) for x in inputs]
        values[node.name] = layer(inputs if len(inputs) > 1 else inputs[0])
        layer.set_weights(weights)
    return values


def as_numbers(x, dtype):
    """Return a tensor of integers as numbers of a dtype; others as they are, which layers cast."""
    return x if "float" in keras.backend.standardize_dtype(x.dtype) else keras.ops.cast(x, dtype)


def _compute_dtype(dtype):
    return keras.dtype_policies.get(dtype or keras.config.dtype_policy()).compute_dtype


@functools.singledispatch
def analog_layer(node, **options):
    """Return the Keras layer that computes a node, and its weights as a list of arrays.

    The layer is not built. `options` are the arguments `name` and `dtype` of the layer.
    """
    raise NotImplementedError(type(node).__name__)


@analog_layer.register
def _layer_of_affine(node: kinds.Affine, **options):
    use_bias = bool(node.bias.any())
    kernel = np.swapaxes(node.kernel, -1, -2) if node.transposed else node.kernel
    weights = [kernel, node.bias] if use_bias else [kernel]
    # The weights are set right away, so that none need to be drawn.
    options.update(use_bias=use_bias)
    *window, inputs, units = node.kernel.shape
    if not window:
        return keras_layers.Dense(units, kernel_initializer="zeros", **options), weights
    rank = len(window)
    options.update(
        kernel_size=window,
        strides=node.strides,
        padding=node.padding,
        dilation_rate=node.dilation,
        data_format="channels_last",
    )
    is_depthwise = node.groups > 1 and inputs == 1
    if is_depthwise and rank < 3 and len(set(node.strides)) == 1 and node.padding != "causal":
        weights[0] = kernel.reshape(*window, node.groups, units // node.groups)
        layer_class = getattr(keras_layers, f"DepthwiseConv{rank}D")
        multiplier = units // node.groups
        layer = layer_class(depth_multiplier=multiplier, depthwise_initializer="zeros", **options)
        return layer, weights
    options["kernel_initializer"] = "zeros"
    if node.transposed:
        layer_class = getattr(keras_layers, f"Conv{rank}DTranspose")
        return layer_class(units, output_padding=node.output_padding, **options), weights
    return getattr(keras_layers, f"Conv{rank}D")(units, groups=node.groups, **options), weights


@analog_layer.register
def _layer_of_channel_affine(node: kinds.ChannelAffine, **options):
    shape = node.scale.shape if node.scale.ndim >= node.shift.ndim else node.shift.shape
    weights = [v + 0 * w for v, w in ((node.scale, node.shift), (node.shift, node.scale))]
    return spiking_layers.ScaleShift(shape, **options), weights


@analog_layer.register
def _layer_of_activation(node: kinds.Activation, **options):
    if node.function == "softmax":
        return keras_layers.Softmax(node.axis, **options), []
    if node.is_binary:
        return spiking_layers.BinaryActivation(node.function, node.at_zero, **options), []
    if node.levels:
        signed = node.function == "linear"
        layer = spiking_layers.QuantizedClip(node.levels, node.max_value, signed, **options)
        return layer, [np.asarray(node.max_value)]
    if node.function != "relu":
        return keras_layers.Activation(keras_function(node.function), **options), []
    limit = None if node.max_value == float("inf") else node.max_value
    return keras_layers.ReLU(max_value=limit, **options), []


@analog_layer.register
def _layer_of_pool(node: kinds.Pool, **options):
    layer_class = getattr(keras_layers, f"{node.function.capitalize()}Pooling{len(node.window)}D")
    options.update(pool_size=node.window, strides=node.strides, padding=node.padding)
    return layer_class(data_format="channels_last", **options), []


@analog_layer.register
def _layer_of_rearrange(node: kinds.Rearrange, **options):
    return spiking_layers.Rearrange(node.function, node.argument, **options), []


@analog_layer.register
def _layer_of_opaque(node: kinds.Opaque, *, name=None, **_):
    layer = copy_of_model(node.model)
    if name is None:
        # Other nodes, as of a graph beside this one, may have a copy of the same model.
        layer.name = node.name.replace("/", "_")
    return layer, node.model.get_weights()


@analog_layer.register
def _layer_of_add(_node: kinds.Add, **options):
    return keras_layers.Add(**options), []


@analog_layer.register
def _layer_of_concatenate(node: kinds.Concatenate, **options):
    if node.again or node.stands_for:
        return Sides(node.axis, node.again, node.stands_for, **options), []
    return keras_layers.Concatenate(node.axis, **options), []


def layer_names(graph):
    """Return a valid, unique Keras name for every node."""
    names, taken = {}, set()
    for path in graph.nodes:
        names[path] = free_name(path.replace("/", "_"), taken)
        taken.add(names[path])
    return names
