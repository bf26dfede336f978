"""From a Keras model to a graph.

The model is walked by `keras.models.clone_model`, which runs a function for every
call of every layer, in order. The clone is made of stand-ins that only know output
shapes, so the model itself is neither called nor changed.
"""

import dataclasses

import keras

from keras_snn.errors import UnsupportedLayerError
from keras_snn.graph import nodes as kinds
from keras_snn.graph import rules  # noqa: F401 - registers the rules of the Keras layers
from keras_snn.graph.registry import Refusal, rule_for

__all__ = ["lower"]


def lower(model):
    """Say a Keras model in nodes.

    Args:
        model: A built Sequential or Functional model. Not changed.

    Returns:
        A `Graph` that computes the same function.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or is subclassed and so has no graph.
        UnsupportedLayerError: If parts of it have no rule; lists all of them.
    """
    _check_model(model)
    lowering = _Lowering()
    clone, calls = _record_calls(model)
    for tensor, source in zip(clone.inputs, model.inputs, strict=True):
        lowering.add_input(tensor, source)
    lowering.run(calls)
    inputs, outputs = (
        keras.tree.map_structure(lambda t: lowering.node_of(t).name, _unwrapped(tensors))
        for tensors in (clone.input, clone.output)
    )
    graph = kinds.Graph(lowering.nodes, inputs, outputs)
    _raise_if_any(model, lowering.obstacles + _misplaced_softmax(graph))
    return graph.with_nodes(graph.nodes)


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model. Received: model={model!r} of type {type(model).__name__}. "
            "Load a saved one with keras.models.load_model."
        )
    inputs = getattr(model, "inputs", None)
    if isinstance(model, keras.Sequential) and not inputs:
        raise ValueError(
            f"`model` must be built. Received: Sequential '{model.name}' without an input shape. "
            "Call model.build((None, …)) or start it with keras.Input."
        )
    if not inputs:
        raise ValueError(
            f"`model` must be a Sequential or Functional model. Received: subclassed model '{model.name}' "
            f"({type(model).__name__}), which has no graph of layers. Rebuild it as "
            "keras.Model(inputs, outputs), with inputs = keras.Input(…)."
        )


def _unwrapped(tensors):
    """Return the tensor of a list of one: Keras takes and returns that as the tensor itself."""
    is_list = isinstance(tensors, (list, tuple))
    return tensors[0] if is_list and len(tensors) == 1 else tensors


class _StandIn(keras.Operation):
    """Takes the place of a layer in the clone: the same output shape, no computation."""

    def __init__(self, source):
        super().__init__(name=source.name)
        self.source = source

    def call(self, *args, **kwargs):
        raise NotImplementedError("A stand-in has no values.")

    def compute_output_spec(self, *args, **kwargs):
        return self.source.compute_output_spec(*args, **kwargs)


def _record_calls(model):
    """Return a clone of stand-ins and its calls `(layer, arguments, outputs)`, in order."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0])
    calls = []

    def call(stand_in, *args, **kwargs):
        outputs = stand_in(*args, **kwargs)
        calls.append((stand_in.source, (args, kwargs), outputs))
        return outputs

    clone = keras.models.clone_model(model, clone_function=_StandIn, call_function=call)
    return clone, calls


class _Lowering:
    """The nodes said so far, the tensor that each one computes, and what cannot be said."""

    def __init__(self):
        self.nodes = {}
        # Tensors are kept beside their nodes, so that no other gets their id.
        self.values = {}
        self.obstacles = []
        self.applications = {}

    def node_of(self, tensor):
        return self.nodes[self.values[id(tensor)][1]]

    def bind(self, tensor, node):
        self.values[id(tensor)] = (tensor, node.name)

    def add_input(self, tensor, source):
        shape = tuple(tensor.shape[1:])
        if None in shape:
            self.obstacles.append(
                (source.name, "keras.Input", f"shape={shape}", "give keras.Input a shape without None")
            )
        name = source.name
        if name.startswith("keras_tensor"):
            name = f"input_{len(self.nodes) + 1}"
        node = self.nodes[name] = kinds.Input(name=name, shape=shape)
        self.bind(tensor, node)

    def run(self, calls, prefix=""):
        for layer, arguments, outputs in calls:
            if isinstance(layer, keras.Model) and isinstance(arguments[0][0], dict):
                given = arguments[0][0]
                # A dict goes by the names of the inputs, whatever their order.
                keys = layer.input if isinstance(layer.input, dict) else {x.name: x for x in layer.inputs}
                order = {id(x): key for key, x in keys.items()}
                arguments = [given[order[id(x)]] for x in layer.inputs]
            inputs = [x for x in keras.tree.flatten(arguments) if isinstance(x, keras.KerasTensor)]
            self.apply(layer, prefix + layer.name, [self.node_of(x) for x in inputs], outputs)

    def apply(self, layer, path, inputs, outputs):
        count = self.applications[path] = self.applications.get(path, 0) + 1
        path = path if count == 1 else f"{path}/call_{count}"
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            self.enter(layer, path, inputs, outputs)
            return
        emit = _Emitter(self.nodes, path)
        try:
            result = self.lower_call(layer, inputs, emit)
        except Refusal as refusal:
            self.obstacles.append((path, _class_name(layer), refusal.reason, refusal.way_out))
            result = None
        for i, tensor in enumerate(keras.tree.flatten(outputs)):
            shape = tuple(tensor.shape[1:])
            # After a refusal an input stands in, so that all later obstacles are found too.
            node = result or kinds.Input(
                name=f"{path}/unsupported_{i}", inputs=tuple(x.name for x in inputs), shape=shape
            )
            self.nodes.setdefault(node.name, node)
            self.bind(tensor, node)
            if node.shape != shape:
                raise RuntimeError(
                    f"The rule for {_class_name(layer)} gave shape {node.shape} for layer '{path}', whose "
                    f"output has shape {shape}."
                )

    def lower_call(self, layer, inputs, emit):
        rule = rule_for(layer)
        if rule is None:
            raise Refusal(
                "no conversion rule",
                "replace it by one of keras_snn.supported_layers(), or teach it with keras_snn.register_rule",
            )
        if getattr(layer, "quantization_mode", None):
            raise Refusal(f"quantized to {layer.quantization_mode}", "convert it before it is quantized")
        return rule.lower(layer, *inputs, emit=emit)

    def enter(self, model, path, inputs, outputs):
        """Lower a model inside the model, in its place."""
        clone, calls = _record_calls(model)
        for tensor, node in zip(clone.inputs, inputs, strict=True):
            self.bind(tensor, node)
        self.run(calls, prefix=f"{path}/")
        inner = keras.tree.flatten(clone.outputs)
        for tensor, result in zip(keras.tree.flatten(outputs), inner, strict=True):
            self.bind(tensor, self.node_of(result))


class _Emitter:
    """Adds the nodes of one call of one layer."""

    def __init__(self, nodes, path):
        self.nodes = nodes
        self.path = path

    def __call__(self, kind, *inputs, **fields):
        word = fields.get("function", kind.__name__.lower())
        is_first = self.path not in self.nodes
        node = kind(
            name=self.path if is_first else kinds.free_name(f"{self.path}/{word}", self.nodes),
            inputs=tuple(x.name for x in inputs),
            origins=(self.path,),
            **fields,
        )
        node = dataclasses.replace(node, shape=tuple(node.output_shape(*(x.shape for x in inputs))))
        self.nodes[node.name] = node
        return node


def _misplaced_softmax(graph):
    """Return the obstacles that are a softmax whose value something else takes."""
    users = graph.users()
    return [
        (node.origins[0], "softmax", "softmax before the output", "use softmax at the output only")
        for node in graph.nodes.values()
        if isinstance(node, kinds.Activation) and node.function == "softmax" and users[node.name]
    ]


def _class_name(layer):
    name = type(layer).__name__
    if not type(layer).__module__.startswith("keras."):
        return name
    return f"keras.layers.{name}" if isinstance(layer, keras.layers.Layer) else f"keras.ops operation {name}"


def _raise_if_any(model, obstacles):
    if not obstacles:
        return
    lines = [
        f"  - '{path}' ({kind}): {reason}. Instead: {way_out}." for path, kind, reason, way_out in obstacles
    ]
    count = "1 part" if len(lines) == 1 else f"{len(lines)} parts"
    raise UnsupportedLayerError(
        "\n".join([f"Model '{model.name}' has {count} that cannot become spiking:", *lines])
    )
