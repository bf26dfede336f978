"""Integrate-and-fire neurons, without and with a leak: at most one spike per time step."""

import dataclasses
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_snn._gradients import triangle, with_gradient
from keras_snn._types import Rate, Shape, State, Tensor
from keras_snn._validation import check_choice, check_number
from keras_snn.neurons.base import Neuron
from keras_snn.neurons.step_form import StepForm
from keras_snn.neurons.thresholds import (
    check_thresholds,
    nearest_multiples,
    over_channels,
    smallest_threshold,
    start_at,
)

__all__ = ["IntegrateAndFire", "LeakyIntegrateAndFire", "Reset"]

# What a spike does to the potential.
Reset = Literal["subtract", "zero"]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class IntegrateAndFire(Neuron):
    """Integrate-and-fire neuron without leak; at most one spike per time step.

    With z(t) the input current and θ = `v_threshold`:

        Θ(t) = 1 if V(t−1) + z(t) ≥ θ, else 0
        reset="subtract":  V(t) = V(t−1) + z(t) − θ·Θ(t)
        reset="zero":      V(t) = (V(t−1) + z(t))·(1 − Θ(t))

    Reset by subtraction keeps the surplus above the threshold, so that the firing
    rate approaches clip(z/θ, 0, 1) as 1/t; reset to zero loses it, which leaves an
    error for ever.

    Surrogate of dΘ/dV: max(0, 1 − |V − θ|/θ)/θ, with V before the reset.

    Args:
        v_threshold: Firing threshold θ; positive, in the unit of the current; or a tuple of one for each
            channel.
        reset: `"subtract"` or `"zero"`.
        initial_potential: V(0) as a fraction of `v_threshold`. A half makes the
            spike count a rounding of the summed current instead of a floor.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052, equations 2 and 3. Initial
        potential: Bu et al. (2022), AAAI.

    >>> neuron = IntegrateAndFire(initial_potential=0.0)
    >>> spikes, (v,) = neuron.step(ops.array([0.75, 1.25], "float32"), neuron.initial_state((2,), "float32"))
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([0., 1.], dtype=float32), array([0.75, 0.25], dtype=float32))
    """

    v_threshold: float | tuple[float, ...] = 1.0
    reset: Reset = "subtract"
    initial_potential: float = 0.5

    alias = "if"

    def __post_init__(self):
        check_thresholds(self)
        check_choice("reset", self.reset, get_args(Reset))
        check_number("initial_potential", self.initial_potential)

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [start_at(shape, self.initial_potential * np.asarray(self.v_threshold), dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step.

        Args:
            current: Tensor of shape `(batch, …)`.
            state: What `initial_state` or the previous step returned.

        Returns:
            `(spikes, state)`; spikes are 0 or 1, in the dtype of the state.
        """
        (v,) = state
        v = v + current
        spikes = _fire(v, self.v_threshold)
        return spikes, [_reset(v, spikes, self.v_threshold, self.reset)]

    @property
    def conserves_charge(self) -> bool:
        """Whether `count_spikes` holds."""
        return self.reset == "subtract" and 0 <= self.initial_potential < 1

    def count_spikes(self, charge: Tensor, state: State) -> Tensor:
        """Return how many spikes a charge has given, from the potential that it left; not rounded.

        Charge is conserved, V(t) = V(0) + Σ z − θ·count, if what fires keeps the surplus.

        Args:
            charge: Σ z over the steps so far, `(batch, …)`.
            state: The state after the last step.
        """
        (v,) = state
        given = charge - v
        if self.v_threshold != 1:
            given = given / over_channels(self.v_threshold, given)
        return given + self.initial_potential

    def whole_thresholds(self, wished: Rate) -> Rate:
        return nearest_multiples(wished, smallest_threshold(self.initial_potential))

    def step_form(self) -> StepForm:
        return StepForm(self.v_threshold, self.reset)

    def nir_form(self, dt: float) -> tuple[str, dict[str, Any]]:
        return "IF", {"r": 1 / dt}


def _reset(v, spikes, v_threshold, reset):
    """Return the potential after a step."""
    if reset == "subtract":
        # Of a threshold of 1, which converted models have, without an operation that changes nothing.
        return v - (spikes if v_threshold == 1 else over_channels(v_threshold, v) * spikes)
    return ops.where(spikes > 0, ops.zeros_like(v), v)


def _fire(v, v_threshold):
    """Return 1 where a potential is at its threshold or above, else 0."""
    theta = over_channels(v_threshold, v)
    return with_gradient(
        # >=, so that a current equal to v_threshold gives rate 1.
        lambda v: ops.cast(v >= theta, v.dtype),
        lambda v: triangle(v, theta, theta),
        v,
    )


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class LeakyIntegrateAndFire(Neuron):
    """Integrate-and-fire neuron that forgets; at most one spike per time step.

    With z(t) the input current, θ = `v_threshold` and β = `leak`:

        Θ(t) = 1 if β·V(t−1) + z(t) ≥ θ, else 0
        reset="subtract":  V(t) = β·V(t−1) + z(t) − θ·Θ(t)
        reset="zero":      V(t) = (β·V(t−1) + z(t))·(1 − Θ(t))

    For hand-written models only: with a leak the rate is not proportional to the current, so `convert`
    refuses it.
    Surrogate as of `IntegrateAndFire`.

    Args:
        leak: β, in (0, 1]: what is left of a potential after one step, exp(−dt/tau_mem).
        v_threshold: Firing threshold θ; positive, in the unit of the current; or a tuple of one for each
            channel.
        initial_potential: V(0) as a fraction of `v_threshold`.
        reset: `"subtract"` or `"zero"`.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Gerstner, Kistler, Naud and Paninski (2014), "Neuronal Dynamics", section 1.3, in steps of time.

    >>> neuron = LeakyIntegrateAndFire(leak=0.5)
    >>> spikes, (v,) = neuron.step(ops.array([0.5], "float32"), [ops.array([0.75], "float32")])
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([0.], dtype=float32), array([0.875], dtype=float32))
    """

    leak: float = 0.9
    v_threshold: float | tuple[float, ...] = 1.0
    initial_potential: float = 0.0
    reset: Reset = "subtract"

    alias = "lif"
    # With a leak the rate is not proportional to the current.
    is_rate_coding = False

    def __post_init__(self):
        check_number("leak", self.leak, above=0, at_most=1)
        check_thresholds(self)
        check_number("initial_potential", self.initial_potential)
        check_choice("reset", self.reset, get_args(Reset))

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [start_at(shape, self.initial_potential * np.asarray(self.v_threshold), dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        v = self.leak * state[0] + current
        spikes = _fire(v, self.v_threshold)
        return spikes, [_reset(v, spikes, self.v_threshold, self.reset)]

    def step_form(self) -> StepForm:
        return StepForm(self.v_threshold, self.reset, self.leak)

    def nir_form(self, dt: float) -> tuple[str, dict[str, Any]]:
        if self.leak == 1:
            return "IF", {"r": 1 / dt}
        tau = dt / (1 - self.leak)
        return "LIF", {"tau": tau, "r": tau / dt, "v_leak": 0.0}
