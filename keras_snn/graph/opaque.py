"""Layers without a rule, as models of their own: whether one may stay as it is.

A layer that is a function of its sample may run on averages instead of spikes. That is
found out on a copy of it and random numbers; the layer of the user is not touched.
"""

import inspect

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.registry import Refusal

__all__ = ["nodes_in", "on_its_own"]


def nodes_in(arguments):
    """Return the nodes in nested arguments, each once."""
    found = [x for x in keras.tree.flatten(arguments) if isinstance(x, kinds.Node)]
    return list({node.name: node for node in found}.values())


def on_its_own(layer, args, kwargs, path):
    """Return a model for every output of a call of a layer, on a copy of the layer.

    Raises:
        Refusal: If the layer cannot be copied, or is not a function of its inputs.
    """
    inputs = {node.name: keras.Input(node.shape) for node in nodes_in((args, kwargs))}

    def arguments(values):
        return keras.tree.map_structure(
            lambda x: values[x.name] if isinstance(x, kinds.Node) else x, (args, kwargs)
        )

    try:
        copy = type(layer).from_config(layer.get_config())
        given, named = arguments(inputs)
        outputs = keras.tree.flatten(copy(*given, **named))
        if isinstance(layer, keras.layers.Layer):
            copy.set_weights(layer.get_weights())
        flaw = _flaw(layer, copy, arguments, inputs)
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0][:80]
        raise Refusal(f"it cannot be copied ({type(error).__name__}: {line})", "") from error
    if flaw:
        raise Refusal(flaw, "")
    name = path.replace("/", "_")
    given = list(inputs.values()) if len(inputs) > 1 else next(iter(inputs.values()))
    return [keras.Model(given, y, name=f"{name}_{i}") for i, y in enumerate(outputs)]


def _flaw(layer, copy, arguments, inputs):
    """Return why a layer may not run on averages, or `None`; found out on random numbers.

    Args:
        layer: The layer. Not changed.
        copy: The copy of it.
        arguments: Function that puts a dict of inputs into the arguments of the call.
        inputs: Dict of symbolic inputs.
    """
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(3, *x.shape[1:])).astype("float32") for name, x in inputs.items()}
    if {id(v) for v in getattr(layer, "variables", ())} & {id(v) for v in getattr(copy, "variables", ())}:
        return "a copy made from its get_config shares its variables"

    def run(callee, values):
        # stateless_call hands on what it gets, and PyTorch does not add tensors to arrays.
        tensors = {name: keras.ops.convert_to_tensor(x) for name, x in values.items()}
        args, kwargs = arguments(tensors)
        return _call_without_trace(callee, args, kwargs)

    def differ(first, second, tolerance):
        pairs = zip(first, second, strict=True)
        return any(not np.allclose(a, b, tolerance, tolerance, equal_nan=True) for a, b in pairs)

    values, changed = run(copy, batch)
    if changed or differ(values, run(copy, batch)[0], 0.0):
        return "its value changes from call to call (it is random or keeps a state)"
    alone, _ = run(copy, {name: x[:1] for name, x in batch.items()})
    if any(y.shape[:1] != (3,) for y in values) or differ(alone, [y[:1] for y in values], 1e-3):
        return "its value for a sample depends on the others of the batch"
    if differ(values, run(layer, batch)[0], 1e-4):
        return "a copy made from its get_config computes something else"
    return None


def _call_without_trace(callee, args, kwargs):
    """Return the outputs of a layer or operation, and whether it would have changed variables."""
    to_numpy = keras.ops.convert_to_numpy
    if not isinstance(callee, keras.layers.Layer):
        return [to_numpy(y) for y in keras.tree.flatten(callee(*args, **kwargs))], False
    if "training" in inspect.signature(callee.call).parameters:
        kwargs = {**kwargs, "training": False}
    trainable, others = (
        [v.value for v in group] for group in (callee.trainable_variables, callee.non_trainable_variables)
    )
    outputs, updated = callee.stateless_call(trainable, others, *args, **kwargs)
    changed = any(not np.array_equal(to_numpy(a), to_numpy(b)) for a, b in zip(others, updated, strict=True))
    return [to_numpy(y) for y in keras.tree.flatten(outputs)], changed
