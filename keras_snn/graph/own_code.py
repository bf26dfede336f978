"""What the code of a layer or model does with `keras.ops` and other layers, as a functional model."""

import contextlib
import inspect
import itertools
import threading

import keras

from keras_snn.graph import nodes as kinds
from keras_snn.graph.fallback import cause_of, differ, tried, values_of
from keras_snn.graph.masked import nodes_in, placed
from keras_snn.graph.own_operations import conv_transpose
from keras_snn.graph.rules.registry import Refusal
from keras_snn.graph.tracing import is_graph, unwrapped

__all__ = ["OfCode", "as_functional", "is_own_code", "recorded", "symbolic_call"]

# Operators of variables that meet tensors without values: `self.gamma * x`.
_OPERATORS = {
    "__add__": keras.ops.add,
    "__sub__": keras.ops.subtract,
    "__mul__": keras.ops.multiply,
    "__truediv__": keras.ops.divide,
    "__matmul__": keras.ops.matmul,
}
_LOCK = threading.RLock()
_MISSING = object()


class OfCode(keras.Model):
    """The functional model of what a subclassed one does; its operations have names by chance."""


def is_own_code(layer):
    """Whether a layer or model is of a class that Keras does not have."""
    is_layer = isinstance(layer, keras.layers.Layer)
    return is_layer and type(layer).__module__.partition(".")[0] not in ("keras", "keras_snn")


def as_functional(model, example=None):
    """Return the functional model of what the `call` of a subclassed model does, with its variables.

    Args:
        model: A model. One that has a graph of layers, or is none of Keras, is returned as it is, and so is
            one that is not built and comes without an example.
        example: Some samples, nested as the model takes them; `None` for inputs as it was built for. A model
            that is not built is, by calling it on them.

    Raises:
        ValueError: If its `call` cannot be traced.
    """
    if not isinstance(model, keras.Model) or not is_own_code(model) or is_graph(model):
        return model
    if example is not None and not model.built:
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False)
    given = _inputs(model, example)
    if given is None:
        return model
    structure = _nodes(given)
    try:
        flat = recorded(model, (structure,), {}, keep_names=True)
    except Exception as error:
        cause = error.reason if isinstance(error, Refusal) else cause_of(error)
        raise ValueError(
            f"`model` must be a Sequential or Functional model, or its `call` made of keras.ops and layers. "
            f"Received: subclassed model '{model.name}' ({type(model).__name__}), whose call cannot be "
            f"traced ({cause}). Rebuild it as keras.Model(inputs, outputs), with inputs = keras.Input(…)."
        ) from error
    inputs = keras.tree.pack_sequence_as(structure, flat.inputs)
    return OfCode(inputs, unwrapped(flat.output), name=model.name)


def _inputs(model, example):
    """Return a tensor without values for each input of a model, nested as it takes them, or `None`."""
    if getattr(model, "inputs", None):
        return model.input
    if example is not None:
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, _dtype_of(x)), example)
    shapes = model.get_build_config() if model.built else None
    if not shapes or "input_shape" not in shapes:
        return None
    return keras.tree.map_shape_structure(keras.KerasTensor, shapes["input_shape"])


def _nodes(tensors):
    """Return a node for every tensor, nested in the same way; one of a dict has the name of its key."""
    numbers = itertools.count(1)
    names = tensors if isinstance(tensors, dict) else {}
    names = {id(tensor): str(key) for key, tensor in names.items()}

    def node(x):
        name = names.get(id(x)) or f"input_{next(numbers)}"
        return kinds.Input(name=name, shape=tuple(x.shape[1:]), dtype=x.dtype)

    return keras.tree.map_structure(node, tensors)


def _dtype_of(array):
    """Return the dtype of an input for arrays like one: numbers are in that of Keras."""
    return keras.config.floatx() if array.dtype.kind == "f" else str(array.dtype)


def recorded(layer, args, kwargs, *, keep_names=False):
    """Return the functional model of what the code of a layer does.

    The model shares with the layer what the code uses, as variables. Its inputs are the nodes of the
    arguments, each once.

    Args:
        layer: The layer. Not changed, but for what the layers in it remember of their calls.
        args: Arguments of the call, with nodes in the place of tensors.
        kwargs: Those by name.
        keep_names: Whether the inputs of the model have the names of the nodes.

    Raises:
        Refusal: If the code cannot be run on numbers, or is not a function of its sample.
        Exception: Whatever it raises for tensors without values.
    """
    _, batch, values = tried(layer, args, kwargs)
    model = _functional(layer, args, kwargs, keep_names=keep_names)
    try:
        found = _values(model, batch)
    except Exception:
        # A shape that it is given may have the size of the batch, which is not known.
        found = _values(_functional(layer, args, kwargs, batch_size=len(values[0])), batch)
    if differ(found, values, _tolerance(layer)):
        raise ValueError("it computes something else with tensors that have no values")
    return model


def _functional(layer, args, kwargs, *, batch_size=None, keep_names=False):
    tensors = {
        node.name: keras.Input(
            node.shape, batch_size, dtype=node.dtype, name=node.name if keep_names else None
        )
        for node in nodes_in((args, kwargs))
    }
    given, named = placed((args, kwargs), tensors)
    # Named, so that the automatic names of the user's models do not change.
    return keras.Model(list(tensors.values()), symbolic_call(layer, *given, **named), name=layer.name)


def _values(model, batch):
    """Return what a functional model makes of a dict of arrays, in its order."""
    return values_of(model, lambda of_batch: ((list(of_batch.values()),), {}), batch)


def symbolic_call(layer, *args, **kwargs):
    """Return what the code of a layer makes of tensors without values, as in `predict`.

    Raises:
        Exception: Whatever the code raises for them.
    """
    if "training" in inspect.signature(layer.call).parameters:
        kwargs = {**kwargs, "training": False}
    # Nothing that the code assigns reaches the layer.
    with _operands_beside_tensors(), keras.StatelessScope():
        return layer.call(*args, **kwargs)


def _tolerance(layer):
    """Return how far two runs of a layer may be apart, by the dtype that it computes in."""
    return 1e-4 if layer.compute_dtype in ("float32", "float64") else 2e-2


@contextlib.contextmanager
def _operands_beside_tensors():
    """Let operators of variables and arrays, and all of `keras.ops`, take tensors without values."""
    tensor, variable = keras.KerasTensor, keras.Variable
    changes = [(variable, name, _beside(getattr(variable, name), of)) for name, of in _OPERATORS.items()]
    # Operators of NumPy and of JAX leave it to those of the tensor then.
    changes += [(tensor, "__array_ufunc__", None), (tensor, "__jax_array__", _MISSING)]
    changes += [(keras.ops, "conv_transpose", conv_transpose)]
    with _LOCK:
        before = [(owner, name, vars(owner).get(name, _MISSING)) for owner, name, _ in changes]
        for change in changes:
            _set(*change)
        try:
            yield
        finally:
            for change in before:
                _set(*change)


def _set(owner, name, value):
    """Set an attribute of a class, or take it away."""
    if value is not _MISSING:
        setattr(owner, name, value)
    elif name in vars(owner):
        delattr(owner, name)


def _beside(method, operation):
    def operate(self, other):
        return operation(self, other) if isinstance(other, keras.KerasTensor) else method(self, other)

    return operate
