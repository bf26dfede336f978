"""A neuron that takes back spikes, and what it has in common with others that do."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_snn._gradients import triangle, with_gradient
from keras_snn._types import Rate, Shape, State, Tensor
from keras_snn._validation import check_integer, check_number
from keras_snn.neurons.base import Neuron
from keras_snn.neurons.step_form import StepForm
from keras_snn.neurons.thresholds import (
    check_thresholds,
    nearest_multiples,
    over_channels,
    smallest_threshold,
    start_at,
)

__all__ = ["Counting", "SignedIntegrateAndFire"]


class Counting(Neuron):
    """A neuron that takes back what it has fired, so that its state is `[membrane_potential, n]`.

    A subclass defines its spikes and their surrogate slope, as functions of the potential before the reset
    and of n before the spike.
    """

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step; arguments as of `IntegrateAndFire.step`, spikes multiples of `unit`."""
        v, count = state
        v = v + current
        spikes = with_gradient(self._spikes, self._slope, v, count)
        return spikes, [v - over_channels(self.v_threshold, v) * spikes, count + spikes]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class SignedIntegrateAndFire(Counting):
    """Integrate-and-fire neuron that takes back spikes it should not have fired.

    With z(t) the input current, θ = `v_threshold`, L = `levels` and n(t) the sum of all spikes so far:

        u(t) = V(t−1) + z(t)
        s(t) = 1 if u(t) ≥ θ and n(t−1) < L;  −1 if u(t) < 0 and n(t−1) > 0;  else 0
        n(t) = n(t−1) + s(t)
        V(t) = u(t) − θ·s(t)

    Once no neuron fires any more, 0 ≤ V < θ, or n = 0 and V < θ, or n = L and V ≥ 0. As V + θ·n is
    V(0) + Σ z, therefore n = clip(floor((V(0) + Σ z)/θ), 0, L), in whatever order the current came.

    Surrogate of ds/dV: that of `IntegrateAndFire` around θ where n < L, and the same around 0 where n > 0.

    Args:
        levels: L, the most that the spikes add up to; `None` if nothing bounds them.
        v_threshold: Firing threshold θ; positive, in the unit of the current; or a tuple of one for each
            channel.
        initial_potential: V(0) as a fraction of `v_threshold`. A half makes n a rounding.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Hu et al. (2023), "Fast-SNN", IEEE TPAMI; You et al. (2024), "SpikeZIP-TF", ICML.

    >>> neuron = SignedIntegrateAndFire(levels=4)
    >>> spikes, (v, n) = neuron.step(ops.array([0.75], "float32"), neuron.initial_state((1,), "float32"))
    >>> back, (v, n) = neuron.step(ops.array([-0.5], "float32"), [v, n])
    >>> [ops.convert_to_numpy(x).item() for x in (spikes, back, v, n)]
    [1.0, -1.0, 0.75, 0.0]
    """

    levels: int | None = None
    v_threshold: float | tuple[float, ...] = 1.0
    initial_potential: float = 0.5

    alias = "signed"
    searched_timesteps = (2, 4, 8, 16, 32, 64, 128)
    is_signed = True
    spike_values = "−1, 0 or 1"

    def __post_init__(self):
        if self.levels is not None:
            check_integer("levels", self.levels, minimum=1)
        check_thresholds(self)
        check_number("initial_potential", self.initial_potential)

    def rate_of_scale(self, timesteps: int) -> float:
        return 1.0 if self.levels is None else self.levels / timesteps

    def largest_rate(self, timesteps: int) -> float:
        return 1.0 if self.levels is None else self.levels / timesteps

    def exact_levels(self, timesteps: int) -> int:
        return self.levels or timesteps

    def settled(self, timesteps: int) -> "SignedIntegrateAndFire":
        # Without levels it may not fire more often than in every one of those steps.
        return dataclasses.replace(self, levels=self.exact_levels(timesteps))

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step: `[membrane_potential, n]` of `shape`."""
        v = start_at(shape, self.initial_potential * np.asarray(self.v_threshold), dtype)
        return [v, ops.zeros(shape, dtype=dtype)]

    def whole_thresholds(self, wished: Rate) -> Rate:
        return nearest_multiples(wished, smallest_threshold(self.initial_potential))

    def step_form(self) -> StepForm:
        levels = math.inf if self.levels is None else self.levels
        return StepForm(self.v_threshold, "subtract", lowest=-1.0, levels=levels, takes_back=True)

    def _spikes(self, v, count):
        forward = v >= over_channels(self.v_threshold, v)
        if self.levels is not None:
            forward = ops.logical_and(forward, count < self.levels)
        back = ops.logical_and(v < 0, count > 0)
        return ops.cast(forward, v.dtype) - ops.cast(back, v.dtype)

    def _slope(self, v, count):
        theta = over_channels(self.v_threshold, v)
        slope = triangle(v, theta, theta)
        if self.levels is not None:
            slope = slope * ops.cast(count < self.levels, v.dtype)
        return slope + triangle(v, 0.0, theta) * ops.cast(count > 0, v.dtype)
