"""Layers without a rule, as models of their own: whether one may stay as it is.

A layer that is a function of its sample may run on averages instead of spikes. That is
found out on random numbers, without a trace in the layer of the user.
"""

import inspect
import re
import warnings

import keras
import numpy as np

from keras_snn.graph.masked import hands_on_masks, nodes_in, placed
from keras_snn.graph.rules.registry import Refusal
from keras_snn.layers.held import Held

__all__ = ["cause_of", "copy_of", "copy_of_model", "differ", "on_its_own", "tried", "values_of"]

# Sets of seeds to try on a layer that has some.
_SEEDS = 8


def on_its_own(layer, args, kwargs, path):
    """Return a model for every output of a call of a layer, which shares no weights with it.

    The model calls a copy of the layer; or, where no copy computes the same, the layer itself with
    weights of its own, see `keras_snn.layers.held.Held`.

    Raises:
        Refusal: If the layer cannot be run on numbers, or is not a function of its sample.
    """
    nodes = nodes_in((args, kwargs))
    arguments, batch, values = tried(layer, args, kwargs)
    inputs = {node.name: keras.Input(node.shape, dtype=node.dtype) for node in nodes}
    try:
        outputs = _on_a_copy(layer, arguments, inputs, batch, values)
    except Exception as error:
        given, named = arguments(inputs)
        try:
            outputs = keras.tree.flatten(Held(layer, cause_of(error))(*given, **named))
        except Exception as failed:
            raise Refusal(f"it cannot be run on its own ({cause_of(failed)})", "") from failed
    if hands_on_masks(layer, args, kwargs):
        # Here masks are values of their own; Keras warns where one on a tensor gets lost.
        outputs = [keras.ops.copy(y) for y in outputs]
    name = path.replace("/", "_")
    given = list(inputs.values()) if len(inputs) > 1 else next(iter(inputs.values()))
    return [keras.Model(given, y, name=f"{name}_{i}") for i, y in enumerate(outputs)]


def tried(layer, args, kwargs):
    """Run a layer on random numbers.

    Returns:
        `(arguments, batch, values)`: a function that puts a dict of inputs, by name of the node, into the
        arguments of the call; a dict of arrays; and what the layer made of them.

    Raises:
        Refusal: If the layer cannot be run on numbers, or is not a function of its sample.
    """
    nodes = nodes_in((args, kwargs))
    if any(node.dtype == "string" for node in nodes):
        raise Refusal("it reads text", "", may_stay=False)

    def arguments(values):
        return placed((args, kwargs), values)

    batch, values = _random_batch(layer, nodes, arguments)
    flaw = _flaw(layer, arguments, batch, values)
    if flaw:
        raise Refusal(flaw, "")
    return arguments, batch, values


def values_of(layer, arguments, batch):
    """Return what a layer makes of a dict of arrays, as a list; `arguments` as of `tried`."""
    return _run(layer, arguments, batch)[0]


def copy_of(layer):
    """Return a new layer that is as another one, without its weights.

    Raises:
        Exception: Whatever the class of the layer raises, if there is none.
    """
    if isinstance(layer, Held):
        return Held(layer.layer, layer.cause)
    if isinstance(layer, keras.Model) and type(layer).__module__.startswith("keras."):
        return copy_of_model(layer)
    with warnings.catch_warnings():
        # Of lambdas in a file.
        warnings.simplefilter("ignore")
        config = layer.get_config()
    for key in config:
        # A function has no state to share, and its config may not find it again.
        value = getattr(layer, key, None)
        if inspect.isroutine(value) and not hasattr(type(layer), key):
            config[key] = value
    return type(layer).from_config(config)


def copy_of_model(model):
    """Return a copy of a model of `on_its_own`, with weights of its own that have the same values."""
    copy = keras.models.clone_model(model, clone_function=copy_of)
    copy.set_weights(model.get_weights())
    return copy


def cause_of(error):
    """Return an error in one line: its class, and the cause that Keras wraps into a text of its own."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    text = re.split(r"Exception encountered[^\n]*?(?:\(\)\.\n|: )", text)[-1]
    text = text.split("\n\nArguments received")[0].split("\n\nCall arguments received")[0]
    text = " ".join(text.split())
    return f"{type(error).__name__}: {text[:300]}{'…' if len(text) > 300 else ''}"


def _on_a_copy(layer, arguments, inputs, batch, values):
    """Return the symbolic outputs of a copy of a layer.

    Raises:
        ValueError: If the copy shares variables with the layer, or computes something else.
        Exception: Whatever the layer raises.
    """
    copy = copy_of(layer)
    given, named = arguments(inputs)
    outputs = keras.tree.flatten(copy(*given, **named))
    if isinstance(layer, keras.layers.Layer):
        if {id(v) for v in layer.variables} & {id(v) for v in copy.variables}:
            raise ValueError("a copy made from its get_config shares its variables")
        copy.set_weights(layer.get_weights())
    if differ(_run(copy, arguments, batch)[0], values, 1e-4):
        raise ValueError("a copy made from its get_config computes something else")
    return outputs


def _random_batch(layer, nodes, arguments):
    """Return random inputs that a layer takes, as a dict of arrays by name, and what it makes of them."""
    rng = np.random.default_rng(0)
    # What looks numbers up in a table may have no place but the first.
    draws = (
        lambda shape, is_float: rng.normal(size=shape) if is_float else rng.integers(0, 2, size=shape),
        lambda shape, is_float: rng.uniform(size=shape) if is_float else np.zeros(shape),
    )
    for draw in draws:
        batch = {}
        for node in nodes:
            dtype = node.dtype or "float32"
            batch[node.name] = draw((3, *node.shape), "float" in dtype).astype(_numpy_dtype(dtype))
        try:
            return batch, _run(layer, arguments, batch)[0]
        except Exception as error:
            failed = error
    raise Refusal(f"it cannot be run on its own ({cause_of(failed)})", "") from failed


def _numpy_dtype(dtype):
    return "float32" if dtype == "bfloat16" else dtype


def _flaw(layer, arguments, batch, values):
    """Return why a layer may not run on averages, or `None`; found out on random numbers.

    Args:
        layer: The layer. Not changed.
        arguments: Function that puts a dict of inputs into the arguments of the call.
        batch: Dict of arrays.
        values: What the layer made of them.
    """
    has_seeds = len(getattr(layer, "variables", ())) > len(getattr(layer, "weights", ()))
    for seed in range(1, 1 + (_SEEDS if has_seeds else 1)):
        again, changed = _run(layer, arguments, batch, seed)
        if changed or differ(values, again, 0.0):
            return "its value changes from call to call (it is random or keeps a state)"
    alone, _ = _run(layer, arguments, {name: x[:1] for name, x in batch.items()})
    if any(y.shape[:1] != (3,) for y in values) or differ(alone, [y[:1] for y in values], 1e-3):
        return "its value for a sample depends on the others of the batch"
    return None


def differ(first, second, tolerance):
    """Whether lists of arrays are further apart than a tolerance, or of other shapes."""
    pairs = list(zip(first, second, strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return True
    return any(not np.allclose(a, b, tolerance, tolerance, equal_nan=True) for a, b in pairs)


def _run(callee, arguments, batch, seed=None):
    """Return the outputs of a layer or operation, and whether it would have changed weights.

    Args:
        callee: It. Not changed.
        arguments: Function that puts a dict of inputs into the arguments of the call.
        batch: Dict of arrays.
        seed: Integer that the state of its random numbers is drawn from; `None` leaves it.
    """
    # A call hands on what it gets, and PyTorch does not add tensors to arrays.
    args, kwargs = arguments({name: keras.ops.convert_to_tensor(x) for name, x in batch.items()})
    to_numpy = keras.ops.convert_to_numpy
    if not isinstance(callee, keras.layers.Layer):
        return [to_numpy(y) for y in keras.tree.flatten(callee(*args, **kwargs))], False
    # Layers inside get it too, whether the call of this one has it or not.
    kwargs = {**kwargs, "training": False}
    if not callee.variables:
        # A scope would hide that numbers are drawn from the state that Keras keeps for all.
        return [to_numpy(y) for y in keras.tree.flatten(callee(*args, **kwargs))], False
    weights = {id(v) for v in callee.weights}
    rng = None if seed is None else np.random.default_rng(seed)
    before = [
        (v, v.value if rng is None or id(v) in weights else rng.integers(0, 2**16, v.shape))
        for v in callee.variables
    ]
    with keras.StatelessScope(state_mapping=before) as scope:
        outputs = callee(*args, **kwargs)
        after = [scope.get_current_value(v) for v in callee.weights]
    changed = any(
        value is not None and not np.array_equal(to_numpy(value), to_numpy(v.value))
        for v, value in zip(callee.weights, after, strict=True)
    )
    return [to_numpy(y) for y in keras.tree.flatten(outputs)], changed
