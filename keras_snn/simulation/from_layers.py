"""A spiking network as a Functional model of layers over time, and the other way round."""

import keras
from keras import ops

from keras_snn.graph.graph import free_name
from keras_snn.graph.tracing import record_calls
from keras_snn.layers import PerTimestep, Readout, SpikingLayer
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel

__all__ = ["as_functional", "as_spiking_model", "is_handwritten"]


def is_handwritten(model):
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
    timesteps = _steps_of(copy)
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
    readouts = {}
    for name, shape in {names[id(x)]: tuple(x.shape) for x in clone.outputs}.items():
        readouts[name] = name
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
        timesteps=timesteps,
        events=True,
        name=model.name,
        dtype=model.dtype_policy,
    )


def _steps_of(model):
    """Return the number of time steps of a model of spiking layers, or raise a `ValueError`."""
    others = [layer.name for layer in model.layers if not _is_allowed(layer)]
    steps = {x.shape[1] if len(x.shape) > 1 else None for x in model.inputs}
    if others or len(steps) > 1 or None in steps:
        came = f"layers {', '.join(map(repr, others))}" if others else f"time steps {steps}"
        raise ValueError(
            f"Model '{model.name}' must have one known number of time steps, and of layers only those of "
            f"keras_snn.layers. Received: {came}. Put others into keras_snn.layers.PerTimestep."
        )
    return steps.pop()


def as_functional(model):
    """Return a copy of a `SpikingModel` as a Functional model: all steps of a layer at once.

    The value of each layer is a tensor of its own, `(batch, time, …)`, so that
    `keras.Model(copy.inputs, copy.get_layer("conv").output)` gives its spike trains and
    `keras.utils.plot_model(copy)` draws the layers. It takes much more memory than the model, and
    random numbers are others, since the layers do not know the sample.

    Args:
        model: A `SpikingModel`. Not changed.

    Returns:
        A Functional model over `model.timesteps` steps, of layers of the same names, configs and weights,
        that takes and returns what `model` does.
    """
    network, steps = internals(model).network, model.passes
    layers = {layer.name: type(layer).from_config(layer.get_config()) for layer in model.layers}
    given = {
        name: keras.Input(
            (*((steps,) if network.events else ()), *shape),
            dtype=internals(model).inputs.dtypes[name],
            name=name,
        )
        for name, shape in internals(model).inputs.shapes.items()
    }
    # What is the same at every step has one step.
    values = {name: x if network.events else ops.expand_dims(x, 1) for name, x in given.items()}
    for call in model.calls:
        x = [values[name] for name in call["inputs"]]
        if network.is_driven(call["name"]):
            x = [ops.repeat(value, steps, axis=1) for value in x]
        values[call["name"]] = layers[call["layer"]](x if len(x) > 1 else x[0])
    for layer in model.layers:
        layers[layer.name].set_weights(layer.get_weights())
    inputs = keras.tree.map_structure(given.__getitem__, network.inputs)
    outputs = keras.tree.map_structure(lambda name: values[name][:, -1], network.outputs)
    return keras.Model(inputs, outputs, name=model.name)


def _is_allowed(layer):
    return isinstance(layer, (SpikingLayer, PerTimestep, keras.layers.InputLayer))
