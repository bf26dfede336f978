"""A network whose input has ended: what the neurons still owe or took too early gets through."""

import dataclasses

import keras
import numpy as np

from keras_snn import layers
from keras_snn.layers.linear import SpikingLinear
from keras_snn.neurons import Corrected, SignedIntegrateAndFire

__all__ = ["copy_weights", "without_input"]


def without_input(model, timesteps):
    """Return a copy of a spiking model, to take the weights of `copy_weights`, for after `timesteps` steps.

    A correction of the current is input like biases. Signed neurons without levels may not fire more
    often than in every one of those steps.

    Raises:
        ValueError: If the output draws random spikes, which no input ends.
    """
    if any(isinstance(layer, layers.SpikingSoftmax) and layer.draws for layer in model.layers):
        raise ValueError(
            "`settle` must be False for an output that draws spikes at random. Received: settle=True. "
            "Convert with softmax='potential'."
        )
    quiet = _copy_of(model)
    for layer in quiet.layers:
        if hasattr(layer, "neuron"):
            layer.neuron = _bounded(layer.neuron, timesteps)
    return quiet


def _copy_of(model):
    """Return a copy of a spiking model; layers of the source network that run as they are, it shares."""
    network = model.network
    # They have no biases to leave out, and perhaps no config.
    serialize, deserialize = keras.saving.serialize_keras_object, keras.saving.deserialize_keras_object
    copies = [layer if _is_as_it_is(layer) else deserialize(serialize(layer)) for layer in model.layers]
    return type(model)(
        copies,
        model.calls,
        inputs=network.inputs,
        outputs=network.outputs,
        shapes=model.input_shapes,
        timesteps=model.timesteps,
        events=network.events,
        unroll=model.unroll,
        dtypes=model.input_dtypes,
        name=model.name,
        dtype=model.dtype_policy,
    )


def _is_as_it_is(layer):
    return isinstance(getattr(layer, "layer", None), keras.Model)


def copy_weights(model, quiet):
    """Give the copy the weights of the model, but no biases: they are input like any."""
    for source, layer in zip(model.layers, quiet.layers, strict=True):
        layer.set_weights(source.get_weights())
        for bias in _biases(layer):
            bias.assign(np.zeros(bias.shape))


def _biases(layer):
    """Return the variables of a layer that are added at every step."""
    if isinstance(layer, layers.ScaleShift):
        return [layer.shift]
    if isinstance(layer, layers.PerTimestep):
        return _biases(layer.layer)
    if isinstance(layer, layers.NonSpiking):
        return []
    bias = getattr(layer.analog if isinstance(layer, SpikingLinear) else layer, "bias", None)
    return [] if bias is None else [bias]


def _bounded(neuron, timesteps):
    if isinstance(neuron, Corrected):
        return dataclasses.replace(neuron, neuron=_bounded(neuron.neuron, timesteps), current=())
    if isinstance(neuron, SignedIntegrateAndFire) and neuron.levels is None:
        return dataclasses.replace(neuron, levels=timesteps)
    return neuron
