"""Output layers: what the last currents of a network add up to."""

import keras
from keras import ops

from keras_snn._validation import check_choice
from keras_snn.layers.base import SpikingLayer, SpikingTwin, fold_time, unfold_time

__all__ = ["Readout", "SpikingSoftmax"]


def _start(shape, dtype):
    """Return the state of an average that has seen nothing: `[sum, steps]`."""
    return [ops.zeros(shape, dtype=dtype), ops.zeros(shape[:1], dtype=dtype)]


def _average(current, state, timesteps):
    """Return the average of all currents so far, after each step, and the new `[sum, steps]`."""
    potential, steps = state
    if timesteps != current.shape[1]:
        current = ops.repeat(current, timesteps, axis=1)
    potential = potential[:, None] + ops.cumsum(ops.cast(current, potential.dtype), axis=1)
    steps = steps[:, None] + ops.arange(1, timesteps + 1, dtype=steps.dtype)
    divisor = ops.reshape(steps, (-1, timesteps, *(1,) * (len(potential.shape) - 2)))
    return potential / divisor, [potential[:, -1], steps[:, -1]]


@keras.saving.register_keras_serializable(package="keras_snn")
class Readout(SpikingLayer):
    """Average of the input current over the steps so far; no spikes.

    At step t the output is Σ z / t, of the shape of the input. After the last step
    it is the value that the source network computes, with an error that vanishes as 1/t.

    Args:
        activation: Name of an activation of Keras, applied to the average.
        return_state: Whether to return `(outputs, sum, steps)`.
        stateful: Whether to go on averaging from call to call.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Softmax".
    """

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def start(self, shape):
        return _start(shape, self.state_dtype)

    def advance(self, current, state, timesteps):
        outputs, state = _average(current, state, timesteps)
        return ops.cast(self.activation(outputs), self.compute_dtype), state

    def get_config(self):
        return {**super().get_config(), "activation": keras.activations.serialize(self.activation)}


@keras.saving.register_keras_serializable(package="keras_snn")
class SpikingSoftmax(SpikingTwin, analog_class=keras.layers.Softmax):
    """Class probabilities out of a current.

    Args:
        axis: As in `keras.layers.Softmax`, of the values of one step.
        method: `"potential"`: no spikes; at step t the softmax of the current averaged
            over the steps so far. Deterministic.
        return_state: Whether to return `(outputs, sum, steps)`.
        stateful: Whether to go on averaging from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …, classes)`.
        initial_state: State to start from, as returned with `return_state=True`.

    Returns:
        Probabilities of the shape of the inputs.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Softmax".
    """

    options = {"method": "potential", **SpikingTwin.options}

    def __init__(self, *args, method="potential", **kwargs):
        super().__init__(*args, **kwargs)
        self.method = check_choice("method", method, ("potential",))

    @property
    def analog_dtype(self):
        return self.state_dtype

    def start(self, shape):
        return _start(shape, self.state_dtype)

    def advance(self, current, state, timesteps):
        averages, state = _average(current, state, timesteps)
        probabilities = unfold_time(self.analog(fold_time(averages)), timesteps)
        return ops.cast(probabilities, self.compute_dtype), state

    def get_config(self):
        return {**super().get_config(), "method": self.method}
