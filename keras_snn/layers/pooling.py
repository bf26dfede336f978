"""Spiking max pooling."""

import keras
from keras import ops

from keras_snn._validation import check_choice
from keras_snn.layers.base import SpikingTwin, fold_time, unfold_time

__all__ = [
    "SpikingMaxPool",
    "SpikingMaxPooling",
    "SpikingMaxPooling1D",
    "SpikingMaxPooling2D",
    "SpikingMaxPooling3D",
]


class SpikingMaxPooling(SpikingTwin):
    """The output fires as often as the busiest input of its window.

    Takes the arguments of the Keras layer of the same name, in the same order with
    the same defaults, and these:

    Args:
        method: `"exact"`: with C_i(t) the spikes of input i up to step t,
            o(t) = max_i C_i(t) − max_i C_i(t−1). Binary for binary inputs, and the
            output fires exactly max_i C_i times. It holds for currents of either
            sign too, where C_i is their sum.
        return_state: Whether to return `(outputs, *state)`.
        stateful: Whether to keep the counts from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …)`.
        initial_state: State to start from, as returned with `return_state=True`.

    Returns:
        Tensor of shape `(batch, time, …)`: spikes if the inputs are spikes.
    """

    options = {"method": "exact", **SpikingTwin.options}

    def __init__(self, *args, method="exact", **kwargs):
        super().__init__(*args, **kwargs)
        self.method = check_choice("method", method, ("exact",))

    @property
    def analog_dtype(self):
        # Counts are pooled, and a count of 257 has no bfloat16.
        return self.state_dtype

    def start(self, shape):
        counts = ops.zeros(shape, dtype=self.state_dtype)
        return [counts, self.analog(counts)]

    def advance(self, current, state, timesteps):
        counts, pooled = state
        current = ops.cast(current, self.state_dtype)
        if timesteps != current.shape[1]:
            current = ops.repeat(current, timesteps, axis=1)
        counts = counts[:, None] + ops.cumsum(current, axis=1)
        pooled_counts = unfold_time(self.analog(fold_time(counts)), timesteps)
        earlier = ops.concatenate([pooled[:, None], pooled_counts[:, :-1]], axis=1)
        outputs = ops.cast(pooled_counts - earlier, self.compute_dtype)
        return outputs, [counts[:, -1], pooled_counts[:, -1]]

    def compute_output_shape(self, input_shape, initial_state=None):
        batch, timesteps, *shape = input_shape
        return (batch, timesteps, *self.analog.compute_output_shape((batch, *shape))[1:])

    def get_config(self):
        return {**super().get_config(), "method": self.method}


class SpikingMaxPooling1D(SpikingMaxPooling, analog_class=keras.layers.MaxPooling1D): ...


class SpikingMaxPooling2D(SpikingMaxPooling, analog_class=keras.layers.MaxPooling2D): ...


class SpikingMaxPooling3D(SpikingMaxPooling, analog_class=keras.layers.MaxPooling3D): ...


SpikingMaxPool = SpikingMaxPooling2D
