"""A network whose input has ended: what the neurons still owe or took too early gets through."""

import numpy as np

from keras_snn import layers
from keras_snn.layers.base import neuron_of
from keras_snn.layers.linear import SpikingLinear

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
    quiet = type(model).from_config(model.get_config())
    for layer in quiet.layers:
        if neuron_of(layer) is not None:
            layer.neuron = layer.neuron.settled(timesteps)
    return quiet


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
