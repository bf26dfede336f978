"""Spiking max pooling."""

import itertools
from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_snn._types import Config, Shape, State, Tensor
from keras_snn._validation import check_choice
from keras_snn.layers.base import SpikingTwin
from keras_snn.layers.time_axis import differences, repeat_time, run_steps, sum_steps

# How a maximum is taken over time.
MaxPoolMethod = Literal["exact", "fir", "avg", "exp"]

# What the estimated rate r of an input grows by when it gives x at step t.
_GATES = {
    "fir": lambda x, _, t: x / t,
    "avg": lambda x, r, t: (x - r) / t,
    "exp": lambda x, r, _: (x - r) / 16,
}

__all__ = [
    "MaxPoolMethod",
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
            The others pass on what the input with the highest estimated rate r gives. With x(t)
            the input at step t: `"fir"`: r += x/t, where early spikes weigh most, so that the
            first winner often stays; `"avg"`: r += (x − r)/t; and `"exp"`: r += (x − r)/16. These
            two let too many spikes through: those of several inputs when the winner changes.
        return_state: Whether to return `(outputs, *state)`.
        stateful: Whether to keep the counts from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …)`.
        initial_state: State to start from, as returned with `return_state=True`.

    Returns:
        Tensor of shape `(batch, time, …)`, spikes if the inputs are spikes.

    Source:
        Gates: Rueckauer et al. (2016), arXiv:1612.04052, "Spiking max-pooling".
    """

    options = {"method": "exact", **SpikingTwin.options}

    def __init__(self, *args: Any, method: MaxPoolMethod = "exact", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = check_choice("method", method, get_args(MaxPoolMethod))

    @property
    def analog_dtype(self) -> Any:
        # Counts are pooled, and a count of 257 has no bfloat16.
        return self.state_dtype

    @property
    def divides_by_steps(self) -> bool:
        """Whether what the layer hands on is a quotient by the number of steps so far."""
        return self.method in ("fir", "avg")

    @property
    def keeps_total(self) -> bool:
        """Whether the second tensor of the state is the sum of the outputs so far."""
        return self.method == "exact"

    def start(self, shape: Shape) -> State:
        zeros = ops.zeros(shape, dtype=self.state_dtype)
        if self.method == "exact":
            return [zeros, self.analog(zeros)]
        return [zeros, ops.zeros(shape[:1], dtype=self.state_dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        if self.method == "exact":
            counts, pooled = state
            counts = counts + current
            pooled_counts = self.analog(counts)
            return pooled_counts - pooled, [counts, pooled_counts]
        rates, steps = state
        steps = steps + 1
        rates = self._rates(current, rates, steps)
        return self._of_winner(current, rates), [rates, steps]

    def several_steps(
        self, current: Tensor, state: State, timesteps: int, constant: bool
    ) -> tuple[Tensor, State]:
        if self.method == "exact":
            counts, pooled = state
            counts, last = sum_steps(counts, current, timesteps, constant=constant)
            outputs, pooled = differences(pooled, self.analog(counts), timesteps)
            return outputs, [last, pooled]

        def step(state, current):
            rates, steps = state
            steps = steps + 1
            rates = self._rates(current, rates, steps)
            return [rates, steps], rates

        rates, state = run_steps(step, current, state, timesteps, constant=constant)
        current = repeat_time(current, timesteps) if constant else current
        return self._of_winner(current, rates), state

    def _rates(self, x, rates, steps):
        """Return the estimated rates after a step."""
        divisor = ops.reshape(steps, (-1, *(1,) * (len(rates.shape) - 1)))
        return rates + _GATES[self.method](x, rates, divisor)

    def _of_winner(self, x, rates):
        """Return for every window the value of the input with the highest rate, the first of equals."""
        rates, values = self._windows(rates, -float("inf")), self._windows(x, 0.0)
        # Without argmax and gather: what is not the first highest is masked out.
        highest = ops.equal(rates, ops.max(rates, axis=0, keepdims=True))
        order = ops.cumsum(ops.cast(highest, "int32"), axis=0)
        is_first = ops.cast(ops.logical_and(highest, ops.equal(order, 1)), values.dtype)
        return ops.sum(values * is_first, axis=0)

    def _windows(self, x, fill):
        """Return the values at each place of the windows, `(places, batch, *positions, channels)`."""
        pool = self.analog
        shape = self.compute_output_shape((None, None, *x.shape[1:]))[2:-1]
        axes = list(zip(x.shape[1:-1], shape, pool.pool_size, pool.strides, strict=True))
        reach = [(positions - 1) * stride + width for _, positions, width, stride in axes]
        missing = [max(0, end - size) for (size, *_), end in zip(axes, reach, strict=True)]
        x = ops.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)), constant_values=fill)
        windows = []
        for place in itertools.product(*(range(width) for width in pool.pool_size)):
            cuts = [
                slice(at, at + (positions - 1) * stride + 1, stride)
                for at, (_, positions, _, stride) in zip(place, axes, strict=True)
            ]
            windows.append(x[(slice(None), *cuts)])
        return ops.stack(windows)

    def compute_output_shape(self, input_shape: Any, initial_state: State | None = None) -> Any:
        batch, timesteps, *shape = input_shape
        return (batch, timesteps, *self.analog.compute_output_shape((batch, *shape))[1:])

    def get_config(self) -> Config:
        return {**super().get_config(), "method": self.method}


class SpikingMaxPooling1D(SpikingMaxPooling, analog_class=keras.layers.MaxPooling1D): ...


class SpikingMaxPooling2D(SpikingMaxPooling, analog_class=keras.layers.MaxPooling2D): ...


class SpikingMaxPooling3D(SpikingMaxPooling, analog_class=keras.layers.MaxPooling3D): ...


SpikingMaxPool = SpikingMaxPooling2D
