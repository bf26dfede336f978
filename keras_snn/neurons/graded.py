"""Neurons with spikes of several sizes."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_snn._gradients import floor, with_gradient, within
from keras_snn._types import Rate, Shape, State, Tensor
from keras_snn._validation import check_integer, check_number
from keras_snn.neurons.base import Neuron
from keras_snn.neurons.signed import Counting
from keras_snn.neurons.step_form import StepForm
from keras_snn.neurons.thresholds import (
    check_thresholds,
    nearest_powers,
    over_channels,
    plain,
    smallest_threshold,
    start_at,
)

__all__ = ["Burst", "MultiThreshold"]


def _multiples(rate, unit):
    """Return how many smallest spikes make a rate, rounded down; at least 1."""
    # A multiple that the rounding of floats made a little less is that multiple.
    return np.maximum(np.floor(np.asarray(rate) / unit + 1e-6), 1)


def _fitted_scale(scale, max_value, unit, largest):
    """Return `Neuron.fitted_scale` for spikes that are multiples of `unit` up to `largest`."""
    rate = max_value / np.asarray(scale)
    fitted = max_value / (np.maximum(np.round(rate / unit), 1) * unit)
    return np.where(rate <= largest, fitted, scale)


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class MultiThreshold(Counting):
    """Neuron with several thresholds, each half the one before, that may fire together in a step.

    With z(t) the input current, θ = `v_threshold`, thresholds θ/2ᵏ for k = 0 … `levels` − 1, the smallest
    of them θ·ε, and n(t) the sum of all spikes so far:

        u(t) = V(t−1) + z(t)
        s(t) = ε·clip(floor(u(t)/(θ·ε)), −n(t−1)/ε, (2 − ε)/ε)
        n(t) = n(t−1) + s(t)
        V(t) = u(t) − θ·s(t)

    s is the sum of the largest thresholds that fit into u, in units of θ; from the largest down, each fires
    at most once. Below 0 the neuron takes back what it has fired, no more. V(0) is half the smallest
    threshold, so that the charge is rounded to it: n = max(0, ε·floor(½ + Σ z/(θ·ε))) once it is silent.

    Surrogate of ds/dV: 1/θ from half a unit above the smallest s to half a unit above the largest.

    Args:
        levels: Number of thresholds.
        v_threshold: The largest threshold θ; positive, in the unit of the current; or a tuple of one for
            each channel.
        initial_potential: V(0) as a fraction of the smallest threshold.
        max_rate: The most that a step may give, in (0, 2 − ε], rounded down to a multiple of ε; a tuple of
            one for each channel; `None` for 2 − ε, all thresholds together.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Huang et al. (2025), "Differential Coding for Training-Free ANN-to-SNN Conversion", ICML.

    >>> neuron = MultiThreshold(levels=3)
    >>> z = ops.array([0.8125, 0.125], "float32")
    >>> spikes, (v, n) = neuron.step(z, neuron.initial_state((2,), "float32"))
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([0.75, 0.25], dtype=float32), array([0.1875, 0.    ], dtype=float32))
    """

    levels: int = 4
    v_threshold: float | tuple[float, ...] = 1.0
    initial_potential: float = 0.5
    max_rate: float | tuple[float, ...] | None = None

    alias = "multi_threshold"
    searched_timesteps = (1, 2, 4, 8, 16)
    is_signed = True

    def __post_init__(self):
        check_integer("levels", self.levels, minimum=1)
        check_thresholds(self)
        check_number("initial_potential", self.initial_potential)
        # Files have lists.
        if isinstance(self.max_rate, list):
            object.__setattr__(self, "max_rate", tuple(self.max_rate))
        if self.max_rate is not None:
            for rate in np.atleast_1d(np.asarray(self.max_rate, object)):
                check_number("max_rate", rate, above=0)

    @property
    def unit(self) -> float:
        """Value of the smallest spike, ε."""
        return 2.0 ** (1 - self.levels)

    @property
    def largest_spike(self) -> Rate:
        """Value of the largest spike."""
        all_together = 2.0 - self.unit
        if self.max_rate is None:
            return all_together
        if not isinstance(self.max_rate, tuple):
            return min(self.max_rate // self.unit * self.unit, all_together)
        return np.minimum(np.asarray(self.max_rate) // self.unit * self.unit, all_together)

    @property
    def spike_values(self) -> str:
        """All values of a spike, as text."""
        return f"multiples of {self.unit:g} up to {np.max(self.largest_spike):g}, negative ones too"

    def limited(self, rate: Rate) -> "MultiThreshold":
        return dataclasses.replace(self, max_rate=plain(_multiples(rate, self.unit) * self.unit))

    def fitted_scale(self, scale: Rate, max_value: Rate) -> Rate:
        return _fitted_scale(scale, max_value, self.unit, 2.0 - self.unit)

    def events_of(self, units: Tensor) -> Tensor:
        """Return how many thresholds fire for a spike, from the largest down.

        Each but the largest fires at most once. The largest does it as often as is left, which is more than
        once only where a neuron takes back more than a step can give.

        >>> ops.convert_to_numpy(MultiThreshold(levels=4).events_of(np.array([0.0, 8.0, 11.0, 15.0, 17.0])))
        array([0., 1., 3., 4., 3.])
        """
        events = ops.floor(units / 2 ** (self.levels - 1))
        for level in range(self.levels - 1):
            events = events + ops.mod(ops.floor(units / 2**level), 2)
        return events

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step: `[membrane_potential, n]` of `shape`."""
        start = self.initial_potential * self.unit * np.asarray(self.v_threshold)
        v = start_at(shape, start, dtype)
        return [v, ops.zeros(shape, dtype=dtype)]

    def whole_thresholds(self, wished: Rate) -> Rate:
        # Powers of 2, by which potentials are divided exactly, whichever way a backend does it.
        return nearest_powers(wished, smallest_threshold(self.initial_potential) / self.unit)

    def step_form(self) -> StepForm:
        given = {"unit": self.unit, "largest": plain(self.largest_spike), "lowest": -math.inf}
        return StepForm(self.v_threshold, "subtract", **given, takes_back=True)

    def _spikes(self, v, count):
        units = floor(v / (over_channels(self.v_threshold, v) * self.unit))
        return ops.clip(units * self.unit, -count, over_channels(self.largest_spike, v))

    def _slope(self, v, count):
        half = self.unit / 2
        largest = over_channels(self.largest_spike, v)
        theta = over_channels(self.v_threshold, v)
        return within(v / theta, half - count, half + largest) / theta


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Burst(Neuron):
    """Integrate-and-fire neuron that fires several spikes in a step when its potential is that high.

    With z(t) the input current, θ = `v_threshold` and Γ = `gamma`:

        u(t) = V(t−1) + z(t)
        s(t) = clip(floor(u(t)/θ), 0, Γ)
        V(t) = u(t) − θ·s(t)

    Surrogate of ds/dV: 1/θ where θ/2 ≤ u < (Γ + ½)·θ.

    Args:
        gamma: Γ, the most spikes in a step; a tuple of one for each channel.
        v_threshold: Firing threshold θ; positive, in the unit of the current; or a tuple of one for each
            channel.
        initial_potential: V(0) as a fraction of `v_threshold`.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Li and Zeng (2022), "Efficient and Accurate Conversion of Spiking Neural Network with Burst
        Spikes", IJCAI.

    >>> neuron = Burst(gamma=2)
    >>> spikes, (v,) = neuron.step(ops.array([1.75, 9.5], "float32"), neuron.initial_state((2,), "float32"))
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([2., 2.], dtype=float32), array([0.25, 8.  ], dtype=float32))
    """

    gamma: int | tuple[int, ...] = 5
    v_threshold: float | tuple[float, ...] = 1.0
    initial_potential: float = 0.5

    alias = "burst"

    def __post_init__(self):
        # Files have lists.
        if isinstance(self.gamma, list):
            object.__setattr__(self, "gamma", tuple(self.gamma))
        for gamma in self.gamma if isinstance(self.gamma, tuple) else [self.gamma]:
            check_integer("gamma", gamma, minimum=1)
        check_thresholds(self)
        check_number("initial_potential", self.initial_potential)

    @property
    def largest_spike(self) -> Rate:
        """Value of the largest spike, Γ."""
        return np.asarray(self.gamma, float) if isinstance(self.gamma, tuple) else float(self.gamma)

    @property
    def spike_values(self) -> str:
        """All values of a spike, as text."""
        return f"whole numbers from 0 to {np.max(self.gamma)}"

    def limited(self, rate: Rate) -> "Burst":
        return dataclasses.replace(self, gamma=plain(np.minimum(self.gamma, _multiples(rate, 1)).astype(int)))

    def fitted_scale(self, scale: Rate, max_value: Rate) -> Rate:
        return _fitted_scale(scale, max_value, 1.0, self.largest_spike)

    def events_of(self, units: Tensor) -> Tensor:
        """Return how many spikes a burst is: each is an event."""
        return ops.convert_to_tensor(units)

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [start_at(shape, self.initial_potential * np.asarray(self.v_threshold), dtype)]

    def whole_thresholds(self, wished: Rate) -> Rate:
        return nearest_powers(wished, smallest_threshold(self.initial_potential))

    def step_form(self) -> StepForm:
        return StepForm(self.v_threshold, "subtract", largest=plain(self.largest_spike))

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step; arguments as of `IntegrateAndFire.step`, spikes 0 to `gamma`."""
        v = state[0] + current
        theta, gamma = over_channels(self.v_threshold, v), over_channels(self.gamma, v)
        spikes = with_gradient(
            lambda v: ops.clip(floor(v / theta), 0.0, gamma),
            lambda v: within(v / theta, 0.5, gamma + 0.5) / theta,
            v,
        )
        return spikes, [v - theta * spikes]
