"""A spiking network written by hand, as a `SpikingModel` that takes events."""

import keras

from keras_snn.graph.lowering import record_calls
from keras_snn.graph.nodes import free_name
from keras_snn.layers import PerTimestep, Readout, SpikingLayer
from keras_snn.simulation.model import SpikingModel

__all__ = ["as_spiking_model", "is_by_hand"]


def is_by_hand(model):
    """Whether a model is no `SpikingModel` and has spiking layers."""
    layers = () if isinstance(model, SpikingModel) else getattr(model, "layers", ())
    return any(isinstance(layer, SpikingLayer) for layer in layers)


def as_spiking_model(model):
    """Return a copy of a Sequential or Functional model of spiking layers as a `SpikingModel`.

    Args:
        model: A `keras.Model` on input `(batch, time, …)`. Not changed.

    Raises:
        ValueError: If it has layers of which it is not known that they act on every step on its own, or
            inputs without a number of time steps.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    others = [layer.name for layer in copy.layers if not _is_allowed(layer)]
    steps = {x.shape[1] if len(x.shape) > 1 else None for x in copy.inputs}
    if others or len(steps) > 1 or None in steps:
        came = f"layers {', '.join(map(repr, others))}" if others else f"time steps {steps}"
        raise ValueError(
            f"Model '{model.name}' must have one known number of time steps, and of layers only those of "
            f"keras_snn.layers. Received: {came}. Put others into keras_snn.layers.PerTimestep."
        )
    clone, recorded = record_calls(copy, [tuple(x.shape[1:]) for x in copy.inputs])
    names = {id(tensor): f"input_{i}" for i, tensor in enumerate(clone.inputs)}
    layers, calls, called = [], [], {}
    for layer, arguments, outputs in recorded:
        given = [names[id(x)] for x in keras.tree.flatten(arguments) if isinstance(x, keras.KerasTensor)]
        names[id(outputs)] = free_name(layer.name, names.values())
        calls.append({"name": names[id(outputs)], "layer": layer.name, "inputs": given})
        called[names[id(outputs)]] = layer
        layers += [] if layer in layers else [layer]
    # A value that is returned twice has one read-out.
    shapes = {names[id(x)]: tuple(x.shape) for x in clone.outputs}
    readouts = {name: name for name in shapes}
    for name, shape in shapes.items():
        if not isinstance(called[name], SpikingLayer):
            layers.append(Readout(name=free_name(f"{name}_readout", names.values())))
            layers[-1].build(shape)
            readouts[name] = layers[-1].name
            calls.append({"name": readouts[name], "layer": readouts[name], "inputs": [name]})
    outputs = [readouts[names[id(x)]] for x in clone.outputs]
    inputs = [names[id(x)] for x in clone.inputs]
    return SpikingModel(
        layers,
        calls,
        inputs=inputs[0] if len(inputs) == 1 else inputs,
        outputs=outputs[0] if len(outputs) == 1 else outputs,
        shapes={names[id(x)]: x.shape[2:] for x in clone.inputs},
        timesteps=steps.pop(),
        events=True,
        name=model.name,
        dtype=model.dtype_policy,
    )


def _is_allowed(layer):
    return isinstance(layer, (SpikingLayer, PerTimestep, keras.layers.InputLayer))
