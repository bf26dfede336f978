"""Layers that are neither linear nor neurons, run on estimated rates."""

import math
from typing import Any

import keras
from keras import ops

from keras_snn._types import Config, Shape, State, Tensor, Tensors
from keras_snn.layers.base import SpikingLayer
from keras_snn.layers.held import as_in_predict, unregistered
from keras_snn.layers.owning import OwnsLayer
from keras_snn.layers.time_axis import count_steps, differences, sum_steps

__all__ = ["NonSpiking"]


@keras.saving.register_keras_serializable(package="keras_snn")
class NonSpiking(OwnsLayer, SpikingLayer):
    """Applies a Keras layer without memory to the average of its inputs so far; no spikes.

    With S(t) the sum of the inputs up to step t and F the layer:

        y(t) = t·F(S(t)/t) − (t−1)·F(S(t−1)/(t−1))

    so that after every step the average of the outputs is F of the average input: exact in
    the mean, for any function, of several inputs too. The outputs are currents of either sign.
    Where F is not finite, as where nothing has spiked yet in a divisor, it counts as 0.

    Args:
        layer: The Keras layer, for input of shape `(batch, …)`.
        return_state: Whether to return `(outputs, sum, total, steps)`.
        stateful: Whether to go on averaging from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …)`, or a list of them; one of one time step
            beside a longer one stands for a constant.
        initial_state: State to start from, as returned with `return_state=True`.
    """

    divides_by_steps = True
    keeps_total = True

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.freeze_owned()
        self._input_shapes = None

    def build(self, input_shape: Any) -> None:
        self._input_shapes = [tuple(shape[2:]) for shape in _listed(input_shape)]
        if not self.layer.built:
            shapes = [(None, *shape) for shape in self._input_shapes]
            self.layer.build(shapes if len(shapes) > 1 else shapes[0])
        super().build(input_shape)

    def current(self, inputs: Tensors) -> Tensor:
        """Return all inputs side by side, `(batch·time, values)`."""
        inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        flat = [ops.reshape(ops.cast(x, self.state_dtype), (-1, math.prod(x.shape[1:]))) for x in inputs]
        return ops.concatenate(flat, axis=-1) if len(flat) > 1 else flat[0]

    def current_shape(self, input_shape: Any) -> Any:
        shapes = _listed(input_shape)
        timesteps = None if any(shape[1] is None for shape in shapes) else max(shape[1] for shape in shapes)
        return (shapes[0][0], timesteps, sum(math.prod(shape[2:]) for shape in shapes))

    def start(self, shape: Shape) -> State:
        total = ops.zeros((shape[0], *self._output_shape(self._input_shapes)), dtype=self.state_dtype)
        return [ops.zeros(shape, self.state_dtype), total, ops.zeros(shape[:1], self.state_dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        summed, total, steps = state
        summed, steps = summed + current, steps + 1
        new_total = self._total(summed, steps)
        return new_total - total, [summed, new_total, steps]

    def several_steps(
        self, current: Tensor, state: State, timesteps: int, constant: bool
    ) -> tuple[Tensor, State]:
        summed, total, steps = state
        sums, summed = sum_steps(summed, current, timesteps, constant=constant)
        counts, steps = count_steps(steps, timesteps)
        outputs, total = differences(total, self._total(sums, counts), timesteps)
        return outputs, [summed, total, steps]

    def _total(self, summed, steps):
        """Return t·F(S(t)/t)."""
        value = ops.cast(self._apply(summed / steps[:, None]), self.state_dtype)
        value = ops.where(ops.isfinite(value), value, ops.zeros_like(value))
        return value * ops.reshape(steps, (-1, *(1,) * (len(value.shape) - 1)))

    def rewind(self, state: State) -> State:
        summed, total, steps = state
        return [summed, total, steps - 1]

    def _apply(self, flat):
        """Return what the layer makes of inputs that lie side by side, `(batch, values)`."""
        values, start = [], 0
        for shape in self._input_shapes:
            size = math.prod(shape)
            values.append(ops.reshape(flat[:, start : start + size], (-1, *shape)))
            start += size
        if isinstance(self.layer, keras.Model):
            # The average of an integer that is the same at every step may come out just below it.
            values = [
                x if "float" in given.dtype else ops.round(x)
                for x, given in zip(values, self.layer.inputs, strict=True)
            ]
            return as_in_predict(self.layer, values if len(values) > 1 else values[0])
        return self.layer(values if len(values) > 1 else values[0], training=False)

    def _output_shape(self, input_shapes):
        shapes = [(None, *shape) for shape in input_shapes]
        return tuple(self.layer.compute_output_shape(shapes if len(shapes) > 1 else shapes[0])[1:])

    def compute_output_shape(self, input_shape: Any, initial_state: State | None = None) -> Any:
        batch, timesteps, _ = self.current_shape(input_shape)
        return (batch, timesteps, *self._output_shape([shape[2:] for shape in _listed(input_shape)]))

    def get_config(self) -> Config:
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: Config) -> Any:
        # Before Keras takes the config apart.
        unknown = unregistered(config["layer"])
        try:
            layer = keras.saving.deserialize_keras_object(config["layer"])
        except (TypeError, ValueError) as error:
            if not unknown:
                raise
            # The message of Keras names the model around the layer.
            raise ValueError(
                f"Layer '{config['name']}' must be registered with Keras, to be copied or loaded. Received: "
                f"{', '.join(unknown)}, unknown to Keras. Decorate it with "
                "keras.saving.register_keras_serializable(), or use a keras.saving.custom_object_scope."
            ) from error
        return super().from_config({**config, "layer": layer})


def _listed(input_shape):
    """Return the shapes of the inputs as a list."""
    return list(input_shape) if isinstance(input_shape[0], (list, tuple)) else [input_shape]
