"""Spiking twins of the layers with weights, and of an activation on its own.

The linear part is the Keras layer itself, run once over batch and time folded
together; only the neuron loops over time.
"""

from typing import Any

import keras
from keras import ops

from keras_snn import neurons
from keras_snn._types import Config, Shape, State, Tensor, Tensors
from keras_snn.layers.base import SpikingTwin

__all__ = [
    "SpikingActivation",
    "SpikingConv1D",
    "SpikingConv1DTranspose",
    "SpikingConv2D",
    "SpikingConv2DTranspose",
    "SpikingConv3D",
    "SpikingConv3DTranspose",
    "SpikingDense",
    "SpikingDepthwiseConv1D",
    "SpikingDepthwiseConv2D",
    "SpikingLinear",
    "SpikingSeparableConv1D",
    "SpikingSeparableConv2D",
]


_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.ops.relu)


class SpikingLinear(SpikingTwin):
    """The linear layer, with spiking neurons in the place of its activation.

    Takes the arguments of the Keras layer of the same name, in the same order with
    the same defaults, and these:

    Args:
        neuron: Name or object of `keras_snn.neurons`.
        bias_per_place: Whether there is a bias of every neuron, and not of every channel alone: the first
            weight, `place_bias`.
        return_state: Whether to return `(spikes, *state)`.
        stateful: Whether to keep the membrane potential from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …)`.
        initial_state: State to start from, as returned with `return_state=True`.

    Returns:
        Spikes of shape `(batch, time, …)`, 0 or 1, or what else `neuron` fires.

    Raises:
        ValueError: If `activation` is not `None`, `"linear"` or `"relu"`: the neuron
            is the activation.
    """

    options = {"neuron": "if", "bias_per_place": False, **SpikingTwin.options}

    def __init__(
        self,
        *args: Any,
        neuron: str | neurons.Neuron = "if",
        bias_per_place: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.neuron = neurons.get(neuron)
        self.bias_per_place = bias_per_place
        function = self.analog.activation
        self._activation = keras.activations.serialize(function)
        # Of another function the name may be the same.
        if not any(function is known for known in _ACTIVATIONS):
            raise ValueError(
                f"`activation` of {type(self).__name__} must be None, 'linear' or 'relu', because the "
                f"neuron is the activation. Received: activation={self._activation!r}. Put another "
                "activation in a layer of its own."
            )
        self.analog.activation = keras.activations.linear

    def build(self, input_shape: Any) -> None:
        if self.bias_per_place:
            shape = self.current_shape(input_shape)[2:]
            self.place_bias = self.add_weight(shape=shape, initializer="zeros", name="place_bias")
        super().build(input_shape)

    def current(self, inputs: Tensors) -> Tensor:
        current = self.analog(inputs)
        if self.bias_per_place:
            current = current + ops.cast(self.place_bias, current.dtype)
        return current

    def current_shape(self, input_shape: Any) -> Any:
        batch, timesteps, *shape = input_shape
        return (batch, timesteps, *self.analog.compute_output_shape((batch, *shape))[1:])

    def start(self, shape: Shape) -> State:
        return self.neuron.initial_state(shape, self.state_dtype)

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        return self.neuron.step(current, state)

    def get_config(self) -> Config:
        own = {"activation": self._activation, "neuron": self.neuron.serialized()}
        return {**super().get_config(), **own, "bias_per_place": self.bias_per_place}


class SpikingDense(SpikingLinear, analog_class=keras.layers.Dense): ...


class SpikingConv1D(SpikingLinear, analog_class=keras.layers.Conv1D): ...


class SpikingConv2D(SpikingLinear, analog_class=keras.layers.Conv2D): ...


class SpikingConv3D(SpikingLinear, analog_class=keras.layers.Conv3D): ...


class SpikingDepthwiseConv1D(SpikingLinear, analog_class=keras.layers.DepthwiseConv1D): ...


class SpikingDepthwiseConv2D(SpikingLinear, analog_class=keras.layers.DepthwiseConv2D): ...


class SpikingSeparableConv1D(SpikingLinear, analog_class=keras.layers.SeparableConv1D): ...


class SpikingSeparableConv2D(SpikingLinear, analog_class=keras.layers.SeparableConv2D): ...


class SpikingConv1DTranspose(SpikingLinear, analog_class=keras.layers.Conv1DTranspose): ...


class SpikingConv2DTranspose(SpikingLinear, analog_class=keras.layers.Conv2DTranspose): ...


class SpikingConv3DTranspose(SpikingLinear, analog_class=keras.layers.Conv3DTranspose): ...


class SpikingActivation(SpikingLinear, analog_class=keras.layers.Activation): ...
