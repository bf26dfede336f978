"""From a Keras model to a graph: every call of a layer is translated by the rule of the layer."""

import inspect
import re

import keras

from keras_snn.errors import UnsupportedLayerError, list_parts
from keras_snn.graph import nodes as kinds
from keras_snn.graph import rules  # noqa: F401 - importing it registers the rules
from keras_snn.graph.emitting import Emitter
from keras_snn.graph.fallback import cause_of, on_its_own
from keras_snn.graph.graph import Graph, free_name
from keras_snn.graph.linear_parts import with_linear_parts
from keras_snn.graph.masked import Masked, inputs_of_model, masks_of_outputs, nodes_in, without_masks
from keras_snn.graph.masks_read import have_masks, with_read_masks
from keras_snn.graph.nonspiking import computed_once, of_nonspiking, with_constants
from keras_snn.graph.own_code import OfCode, as_functional, is_own_code
from keras_snn.graph.probing import probed
from keras_snn.graph.rules.registry import Refusal, rule_for
from keras_snn.graph.tracing import (
    any_shapes,
    check_model,
    class_name,
    is_graph,
    names_of_inputs,
    record_calls,
    unwrapped,
)
from keras_snn.layers.held import WithMask

__all__ = ["inspect_model", "lower", "lower_calls"]


def lower(model, *, input_shapes=None, nonspiking="error", constant_inputs=True):
    """Translate a Keras model into a `Graph`.

    Args:
        model: A built Sequential or Functional model, or a subclassed one. Not changed.
        input_shapes: Shape without batch for every input, in order; takes the place of
            sizes that the model leaves open.
        nonspiking: `"allow"`, or `"error"` to raise for what would not spike.
        constant_inputs: Whether inputs are the same at every time step, so that what only sees them is
            computed once, whatever it is.

    Returns:
        A `Graph` that computes the same function.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or is subclassed and its `call` cannot be traced.
        UnsupportedLayerError: If parts of it have no rule; lists all of them.
    """
    graph, _, obstacles = inspect_model(
        model, input_shapes=input_shapes, nonspiking=nonspiking, constant_inputs=constant_inputs
    )
    if obstacles:
        raise UnsupportedLayerError(list_parts(model.name, "that cannot become spiking", obstacles))
    return graph.with_nodes(graph.nodes)


def lower_calls(layers, calls, shapes, outputs, *, dtypes, name):
    """Translate calls of layers into a `Graph`: what a spiking network does at every step.

    Args:
        layers: Keras layers.
        calls: For every call a dict of its `name`, the name of the `layer` and those of its `inputs`.
        shapes: Dict of the shape of every input, without batch.
        outputs: Names of the calls whose values are the outputs, nested.
        dtypes: Dict of the dtype of every input.
        name: Name of the model, for messages.

    Returns:
        A `Graph`. The origin of a node is the name of its call.

    Raises:
        UnsupportedLayerError: If a layer has no rule.
    """
    lowering = _Lowering("allow")
    by_name = {layer.name: layer for layer in layers}
    values = {
        key: lowering.nodes.setdefault(key, kinds.Input(name=key, shape=shape, dtype=dtypes[key]))
        for key, shape in shapes.items()
    }
    for call in calls:
        layer = by_name[call["layer"]]
        emit = Emitter(lowering, call["name"], lowering.number_of(layer))
        inputs = [values[name] for name in call["inputs"]]
        try:
            (values[call["name"]],) = lowering.lower_call(layer, inputs, {}, emit)
        except Refusal as refusal:
            obstacle = (call["name"], class_name(layer), refusal.reason, refusal.way_out)
            raise UnsupportedLayerError(list_parts(name, "that cannot be read back", [obstacle])) from refusal
    outputs = keras.tree.map_structure(lambda name: values[name].name, outputs)
    return Graph(lowering.nodes, tuple(shapes), outputs)


def inspect_model(model, *, input_shapes=None, nonspiking="error", constant_inputs=True):
    """Translate as much of a Keras model as has rules; arguments as in `lower`.

    Returns:
        `(graph, callees, obstacles)`: a `Graph` of all nodes, whether an output needs them or not;
        a dict of the class of the layer that is called at each path, in order; and a list of
        `(path, class, reason, way_out)` for all that has no rule, in the same order.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or is subclassed and its `call` cannot be traced.
    """
    model = as_functional(model)
    check_model(model)
    lowering = _Lowering(nonspiking)
    given = [tuple(x.shape[1:]) for x in model.inputs]
    shapes = [tuple(shape) for shape in (input_shapes or any_shapes(model))]
    try:
        clone, calls = record_calls(model, shapes)
    except ValueError:
        if input_shapes or shapes == given:
            raise
        # The sizes that stand in for open ones do not fit: nothing more is known.
        for name, source in zip(names_of_inputs(model), model.inputs, strict=True):
            lowering.refuse_open_shape(name, source)
        return Graph({}, (), ()), {}, lowering.obstacles
    for name, tensor, source in zip(names_of_inputs(model), clone.inputs, model.inputs, strict=True):
        lowering.add_input(name, tensor, source, is_open=None in source.shape[1:] and not input_shapes)
    lowering.run(calls, prefix="*" if isinstance(model, OfCode) else "")
    inputs, outputs = (
        keras.tree.map_structure(lambda t: lowering.node_of(t).name, unwrapped(tensors))
        for tensors in (clone.input, clone.output)
    )
    graph = Graph(lowering.nodes, inputs, outputs)
    if constant_inputs:
        graph = with_linear_parts(computed_once(with_constants(graph)))
    if nonspiking == "error":
        known = {path for path, *_ in lowering.obstacles}
        found = of_nonspiking(graph, lowering.callees, constant_inputs=constant_inputs)
        lowering.obstacles += [
            (path, lowering.callees[path], *rest) for path, *rest in found if path not in known
        ]
    order = {path: i for i, path in enumerate(lowering.callees)}
    obstacles = sorted(lowering.obstacles, key=lambda obstacle: order.get(obstacle[0], -1))
    return graph, lowering.callees, obstacles


class _Lowering:
    """The nodes emitted so far, the tensor that each one computes, and what has no rule.

    Args:
        nonspiking: Whether obstacles give the reason why a layer cannot stay as it is either: `"allow"`.
        parent: The lowering that this is part of: paths are counted together.
    """

    def __init__(self, nonspiking, parent=None):
        self.nonspiking = nonspiking
        self.nodes = {}
        # Tensors are kept beside their nodes, so that no other gets their id.
        self.values = {}
        # Functions that return the node of the mask, by the id of the tensor; and of calls of models.
        self.masks, self.masks_inside = {}, {}
        self.obstacles = [] if parent is None else parent.obstacles
        self.applications = {} if parent is None else parent.applications
        # Class of the layer that is called at each path, in the order of calls.
        self.callees = {} if parent is None else parent.callees
        self.layers = [] if parent is None else parent.layers

    def part(self):
        """Return a lowering for a part of the model, with nodes of its own."""
        return _Lowering(self.nonspiking, self)

    def node_of(self, tensor):
        return self.nodes[self.values[id(tensor)][1]]

    def bind(self, tensor, node):
        self.values[id(tensor)] = (tensor, node.name)

    def add_input(self, name, tensor, source, *, is_open=False):
        if is_open:
            self.refuse_open_shape(name, source)
        if getattr(source, "ragged", False):
            way_out = "pad the samples to one length"
            self.obstacles.append((name, "keras.Input", "ragged=True", way_out))
        if source.dtype == "string":
            way_out = "read the text before the model, and give it the numbers"
            self.obstacles.append((name, "keras.Input", "dtype='string'", way_out))
        node = kinds.Input(name=name, shape=tuple(tensor.shape[1:]), dtype=source.dtype)
        self.nodes[name] = node
        self.bind(tensor, node)

    def refuse_open_shape(self, name, source):
        shape = tuple(source.shape[1:])
        way_out = "give keras.Input a shape without None, or calibration data of the size to run at"
        self.obstacles.append((name, "keras.Input", f"shape={shape}", way_out))

    def run(self, calls, prefix=""):
        for layer, (args, kwargs), outputs in calls:
            given = args[0] if args else kwargs.get("inputs")
            if is_graph(layer) and isinstance(given, dict):
                # A dict goes by the names of the inputs, whatever their order.
                keys = layer.input if isinstance(layer.input, dict) else {x.name: x for x in layer.inputs}
                order = {id(x): key for key, x in keys.items()}
                args, kwargs = ([given[order[id(x)]] for x in layer.inputs],), {}
            # A model runs with training=False, whatever was recorded.
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
            args, kwargs = keras.tree.map_structure(self._argument, (args, kwargs))
            if isinstance(layer, WithMask):
                self.bind(outputs, without_masks(args[0][0]))
                self._bind_masks(outputs, [lambda mask=args[0][1]: mask])
                continue
            results = self.apply(layer, self._path_of(layer, prefix), args, kwargs, outputs)
            for tensor, node in zip(keras.tree.flatten(outputs), results, strict=True):
                self.bind(tensor, node)

    def _path_of(self, layer, prefix):
        """Return the path of a call; of operations, after a prefix that ends with `*`, a free one.

        Keras numbers those on and on, so that the names would be others every time.
        """
        if not prefix.endswith("*") or isinstance(layer, keras.layers.Layer):
            return prefix.removesuffix("*") + layer.name
        return free_name(prefix.removesuffix("*") + re.sub(r"_\d+$", "", layer.name), self.callees)

    def apply(self, layer, path, args, kwargs, outputs):
        """Lower one call of a layer to nodes; return those of its outputs."""
        count = self.applications[path] = self.applications.get(path, 0) + 1
        path = path if count == 1 else f"{path}/call_{count}"
        if is_graph(layer):
            results = self.enter(layer, path, inputs_of_model(args, kwargs))
            self._bind_masks(outputs, self.masks_inside.pop(path))
            return results
        self.callees[path] = class_name(layer)
        shapes = [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(outputs)]
        emit = Emitter(self, path, self.number_of(layer))
        try:
            results = self.lower_call(layer, args, kwargs, emit)
            if self.nonspiking == "allow" and _become_numbers(results, outputs):
                emit.forget(0)
                reason, way_out = "computes with integers", "compute with floats"
                results = self.as_it_is(layer, args, kwargs, emit, Refusal(reason, way_out))
        except Refusal as refusal:
            emit.forget(0)
            self.obstacles.append((path, self.callees[path], refusal.reason, refusal.way_out))
            # Inputs stand in, so that all later obstacles are found too.
            results = [
                kinds.Input(
                    name=f"{path}/unsupported_{i}",
                    inputs=tuple(x.name for x in nodes_in((args, kwargs))),
                    shape=shape,
                )
                for i, shape in enumerate(shapes)
            ]
            self.nodes.update({node.name: node for node in results})
        if not all(_agree(node.shape, shape) for node, shape in zip(results, shapes, strict=True)):
            raise RuntimeError(
                f"The rule for {class_name(layer)} gave shape {_listed(x.shape for x in results)} for layer "
                f"'{path}', whose output has shape {_listed(shapes)}."
            )
        masks = self.masks_inside.pop(path, [])
        if not any(masks):
            masks = masks_of_outputs(layer, args, kwargs, len(shapes), emit)
        self._bind_masks(outputs, masks)
        return results

    def _argument(self, x):
        """Return what stands for an argument of a call: of a tensor its node, with its mask if it has one."""
        if not isinstance(x, keras.KerasTensor):
            return x
        mask = self.masks.get(id(x))
        return self.node_of(x) if mask is None else Masked(self.node_of(x), mask)

    def _bind_masks(self, tensors, masks):
        pairs = zip(keras.tree.flatten(tensors), masks, strict=True)
        self.masks.update({id(tensor): mask for tensor, mask in pairs if mask is not None})

    def number_of(self, layer):
        """Return the number of a layer: the same at every call of it."""
        for number, known in enumerate(self.layers):
            if known is layer:
                return number
        self.layers.append(layer)
        return len(self.layers) - 1

    def lower_call(self, layer, args, kwargs, emit):
        """Return the nodes of the outputs of one call of a layer.

        Raises:
            Refusal: If it has no rule, or none for this use, and cannot stay as it is either.
        """
        if any(None in x.shape for x in nodes_in((args, kwargs))):
            # What came before is refused already.
            raise Refusal("a value without a batch axis", "keep the batch axis in front", may_stay=False)
        args, kwargs = with_read_masks(layer, args, kwargs)
        before = len(emit.emitted)
        try:
            return _by_rule(layer, args, kwargs, emit)
        except Refusal as refusal:
            if not refusal.may_stay:
                raise
            emit.forget(before)
            if is_own_code(layer) and rule_for(layer) is None:
                try:
                    return emit.code(layer, args, kwargs)
                except Refusal:
                    # For the same reason it cannot stay.
                    pass
                except Exception as error:
                    reason = f"{refusal.reason}, and its code cannot be traced ({cause_of(error)})"
                    refusal = Refusal(reason, refusal.way_out)
            found = probed(layer, args, kwargs, emit)
            return [found] if found is not None else self.as_it_is(layer, args, kwargs, emit, refusal)

    def as_it_is(self, layer, args, kwargs, emit, refusal):
        """Return the nodes of the outputs of a call of a layer that stays as it is.

        Raises:
            Refusal: If it cannot stay; for the reason of `refusal`.
        """
        try:
            models = on_its_own(layer, args, kwargs, emit.path)
        except Refusal as failed:
            also = f", and {failed.reason}" if self.nonspiking == "allow" else ""
            raise Refusal(refusal.reason + also, refusal.way_out, may_stay=False) from failed
        fields = {"layer_class": type(layer).__name__, "reason": refusal.reason, "way_out": refusal.way_out}
        inputs = nodes_in((args, kwargs))
        if len(models) > 1:
            # Outputs of one layer are no calls of one layer that compute the same.
            fields["source"] = None
        return [emit(kinds.Opaque, *inputs, model=model, **fields) for model in models]

    def enter(self, model, path, inputs, *, names="/"):
        """Lower a model inside the model, in its place; its calls go by the path, `names` and their own."""
        nodes = without_masks(inputs)
        clone, calls = record_calls(model, [x.shape for x in nodes])
        for tensor, node in zip(clone.inputs, nodes, strict=True):
            self.bind(tensor, node)
        self._bind_masks(clone.inputs, [x.mask if isinstance(x, Masked) else None for x in inputs])
        self.run(calls, prefix=path + names)
        self.masks_inside[path] = [self.masks.get(id(x)) for x in keras.tree.flatten(clone.outputs)]
        return [self.node_of(x) for x in keras.tree.flatten(clone.outputs)]


def _by_rule(layer, args, kwargs, emit):
    """Return the nodes of the outputs of one call of a layer, as its rule emits them.

    Raises:
        Refusal: If it has no rule, or none for this use.
    """
    if getattr(layer, "quantization_mode", None):
        way_out = "convert it before it is quantized"
        raise Refusal(f"quantized to {layer.quantization_mode}", way_out, may_stay=False)
    rule = rule_for(layer)
    if rule is None:
        raise Refusal(
            "no conversion rule",
            "replace it by one of keras_snn.supported_layers(), teach it with keras_snn.register_rule",
        )
    is_layer = isinstance(layer, keras.layers.Layer)
    if is_layer and not layer.built:
        raise Refusal("not built", "call the model on data once", may_stay=False)
    if have_masks(args, kwargs):
        raise Refusal("reads the mask of its input", "give it samples without a mask")
    given, named = (_of_layer(args, kwargs), {}) if is_layer else (args, kwargs)
    if "call" in inspect.signature(rule.lower).parameters:
        named["call"] = (args, kwargs)
    try:
        inspect.signature(rule.lower).bind(layer, *given, emit=emit, **named)
    except TypeError as error:
        raise Refusal(f"called in a way its rule does not know ({error})", "call it plainly") from error
    results = rule.lower(layer, *given, emit=emit, **named)
    if results is None:
        raise TypeError(f"The rule for {class_name(layer)} must return a node. Received: None.")
    return list(results) if isinstance(results, (list, tuple)) else [results]


def _become_numbers(results, outputs):
    """Whether outputs of a call that are integers would be computed as numbers, which round."""
    pairs = zip(results, keras.tree.flatten(outputs), strict=True)
    return any(node.dtype is None and "float" not in tensor.dtype for node, tensor in pairs)


def _of_layer(args, kwargs):
    """Return the positional arguments of a layer as a flat list: nodes, and what is constant."""
    named = {name: value for name, value in kwargs.items() if value is not None}
    if not args and sum(bool(nodes_in(value)) for value in named.values()) == 1:
        name = next(name for name, value in named.items() if nodes_in(value))
        args = (named.pop(name),)
    if named:
        raise Refusal(f"called with {', '.join(named)}=…", "call it on its inputs alone")
    return [x for x in keras.tree.flatten(args) if x is not None]


def _agree(shape, keras_shape):
    """Whether a shape agrees with that of Keras, which may leave sizes open."""
    sizes = zip(shape, keras_shape, strict=False)
    return len(shape) == len(keras_shape) and all(theirs in (None, ours) for ours, theirs in sizes)


def _listed(shapes):
    return ", ".join(map(str, shapes))
