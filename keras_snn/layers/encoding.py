"""Layers that turn input into spikes."""

from typing import Any

import keras
from keras import ops

from keras_snn._types import Config, Shape, State, Tensor
from keras_snn._validation import check_integer, check_number
from keras_snn.layers.base import SpikingLayer
from keras_snn.layers.random_numbers import uniform
from keras_snn.layers.time_axis import count_steps, repeat_time

__all__ = ["PoissonEncoder"]


@keras.saving.register_keras_serializable(package="keras_snn")
class PoissonEncoder(SpikingLayer):
    """Random spikes at a rate proportional to the input.

    At every step an input x gives the spike sign(x) with probability |x|·`rate` / `scale`, at
    most 1, and else none, independently of all others. The number of spikes in t steps is
    off from its mean by about the square root of it.

    Args:
        rate: Spikes per step of an input of `scale`, in (0, 1].
        scale: The largest input; positive, in the unit of the input.
        seed: Integer. The same seed gives the same input the same spikes.
        return_state: Whether to return `(spikes, steps, key)`.
        stateful: Whether to go on drawing from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …)`.
        initial_state: State to start from, as returned with `return_state=True`. By default
            the key of a sample is its place in the batch.

    Returns:
        Spikes, −1, 0 or 1, of the shape of the inputs.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052, "Analog input", of what came before.
    """

    draws = True

    def __init__(self, rate: float = 1.0, scale: float = 1.0, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = check_number("rate", rate, above=0, at_most=1)
        self.scale = check_number("scale", scale, above=0)
        self.seed = check_integer("seed", seed, minimum=0)

    def start(self, shape: Shape) -> State:
        return [ops.zeros(shape[:1], "int32"), ops.arange(shape[0], dtype="int32")]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        steps, key = state
        steps = steps + 1
        return self._spikes(current, steps, key), [steps, key]

    def several_steps(
        self, current: Tensor, state: State, timesteps: int, constant: bool
    ) -> tuple[Tensor, State]:
        steps, key = state
        counts, last = count_steps(steps, timesteps)
        current = repeat_time(current, timesteps) if constant else current
        spikes = self._spikes(current, counts, repeat_time(key, timesteps))
        return spikes, [last, key]

    def _spikes(self, current, steps, key):
        drawn = uniform(self.seed, key, steps, current.shape[1:])
        fires = drawn < ops.cast(ops.abs(current) * (self.rate / self.scale), drawn.dtype)
        return ops.sign(current) * ops.cast(fires, current.dtype)

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": self.rate, "scale": self.scale, "seed": self.seed}
