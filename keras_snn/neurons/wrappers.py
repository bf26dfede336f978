"""Neurons that wrap another neuron and change one aspect of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_snn._types import Config, Rate, Shape, State, Tensor
from keras_snn._validation import check_integer
from keras_snn.neurons.base import Neuron
from keras_snn.neurons.lookup import get
from keras_snn.neurons.step_form import StepForm, form_of

__all__ = ["Corrected", "Delayed"]


def _of_wrapped(name):
    return property(lambda self: getattr(self.neuron, name), doc=f"`{name}` of the wrapped neuron.")


class _Wrapper(Neuron):
    """Base of the neurons that wrap another one.

    Attributes:
        neuron: The wrapped neuron.
    """

    v_threshold = _of_wrapped("v_threshold")
    initial_potential = _of_wrapped("initial_potential")
    reset = _of_wrapped("reset")
    unit = _of_wrapped("unit")
    largest_spike = _of_wrapped("largest_spike")
    is_signed = _of_wrapped("is_signed")
    spike_values = _of_wrapped("spike_values")
    is_rate_coding = _of_wrapped("is_rate_coding")
    is_time_code = _of_wrapped("is_time_code")
    window = _of_wrapped("window")
    code = _of_wrapped("code")

    def active_steps(self, timesteps: int) -> int:
        return self.neuron.active_steps(timesteps)

    def rate_of_scale(self, timesteps: int) -> float:
        return self.neuron.rate_of_scale(self.active_steps(timesteps))

    def largest_rate(self, timesteps: int) -> Rate:
        return self.neuron.largest_rate(self.active_steps(timesteps))

    def limited(self, rate: Rate) -> Neuron:
        return dataclasses.replace(self, neuron=self.neuron.limited(rate))

    def fitted_scale(self, scale: Rate, max_value: Rate) -> Rate:
        return self.neuron.fitted_scale(scale, max_value)

    def asymptotic_rate(self, current: Rate) -> Rate:
        return self.neuron.asymptotic_rate(current)

    def ideal_rate(self, current: Rate, timesteps: int) -> Rate:
        return self.neuron.ideal_rate(current, self.active_steps(timesteps))

    def ideal_response(
        self, activation: Rate, current: Rate | None, timesteps: int
    ) -> tuple[Rate, Rate, Rate]:
        return self.neuron.ideal_response(activation, current, self.active_steps(timesteps))

    def grid(self, timesteps: int) -> float:
        return self.neuron.grid(self.active_steps(timesteps))

    def rates_as_text(self, timesteps: int) -> str:
        return self.neuron.rates_as_text(self.active_steps(timesteps))

    def events_of(self, units: Tensor) -> Tensor:
        return self.neuron.events_of(units)

    def correction(self, what: Literal["current", "potential"]) -> Sequence[float]:
        return self.neuron.correction(what)

    def analog_activation(self) -> dict[str, Any]:
        return self.neuron.analog_activation()

    def settled(self, timesteps: int) -> Neuron:
        return dataclasses.replace(self, neuron=self.neuron.settled(timesteps))

    def with_threshold(self, v_threshold: float | tuple[float, ...]) -> Neuron:
        return dataclasses.replace(self, neuron=self.neuron.with_threshold(v_threshold))

    def whole_thresholds(self, wished: Rate) -> Rate | None:
        return self.neuron.whole_thresholds(wished)

    def in_units(self, unit: Rate) -> Neuron:
        return dataclasses.replace(self, neuron=self.neuron.in_units(unit))

    def get_config(self) -> Config:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "neuron": self.neuron.serialized()}

    @classmethod
    def from_config(cls, config: Config) -> Neuron:
        return cls(**{**config, "neuron": get(config["neuron"])})


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Corrected(_Wrapper):
    """Another neuron that gets more current than its input, channel by channel.

    Args:
        neuron: The neuron.
        current: Tuple of what is added to the current of every step, for every place of the last axis; or
            empty. As a bias, but apart from the weights, which stay those of the source network.
        potential: Tuple of what is added to the potential before the first step; or empty.

    Source:
        Li et al. (2021), "A free lunch from ANN: Towards efficient, accurate spiking neural networks
        calibration", ICML: bias correction and potential correction.
    """

    neuron: object
    current: tuple[float, ...] = ()
    potential: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "neuron", get(self.neuron))
        # Files have lists.
        for name in ("current", "potential"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __repr__(self):
        which = " and ".join(name for name in ("current", "potential") if getattr(self, name))
        return f"Corrected({self.neuron!r}, {which or 'nothing'})"

    def correction(self, what: Literal["current", "potential"]) -> Sequence[float]:
        return getattr(self, what) or self.neuron.correction(what)

    def exact_levels(self, timesteps: int) -> int | None:
        return self.neuron.exact_levels(timesteps)

    def settled(self, timesteps: int) -> Neuron:
        # The correction of the current is input like a bias.
        return dataclasses.replace(super().settled(timesteps), current=())

    def in_units(self, unit: Rate) -> Neuron:
        neuron, before = self.neuron.in_units(unit), None
        if isinstance(neuron, Corrected):
            # What the neuron starts with became a correction.
            neuron, before = neuron.neuron, neuron
        added = {
            what: np.round(np.asarray(getattr(self, what) or 0.0) / unit)
            + np.asarray(getattr(before, what, ()) or 0.0)
            for what in ("current", "potential")
        }
        added = {what: tuple(values.tolist()) if values.any() else () for what, values in added.items()}
        return Corrected(neuron, **added)

    def step_form(self) -> StepForm | None:
        form = form_of(self.neuron)
        if form is None or not self.current:
            return form
        both = zip(form.current, self.current, strict=True) if form.current else ((c,) for c in self.current)
        return dataclasses.replace(form, current=tuple(map(sum, both)))

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state of the neuron with the correction of its potential."""
        v, *others = self.neuron.initial_state(shape, dtype)
        return [_plus(v, self.potential), *others]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        return self.neuron.step(_plus(current, self.current), state)


def _plus(x, channels):
    return x + ops.convert_to_tensor(channels, dtype=x.dtype) if channels else x


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Delayed(_Wrapper):
    """Another neuron that starts late: its state stays what it was for the first steps.

    A layer that waits until those before it have settled is not disturbed by what they
    send before.

    Args:
        neuron: The neuron.
        timesteps: Number of steps without spikes and without integration.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, on transients.
    """

    neuron: object
    timesteps: int

    def __post_init__(self):
        object.__setattr__(self, "neuron", get(self.neuron))
        check_integer("timesteps", self.timesteps, minimum=0)

    def active_steps(self, timesteps: int) -> int:
        return super().active_steps(max(timesteps - self.timesteps, 1))

    def step_form(self) -> StepForm | None:
        form = form_of(self.neuron)
        # Two delays follow each other: the inner one counts from where the outer one ends.
        return form and dataclasses.replace(form, delay=form.delay + self.timesteps)

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state of the neuron, and the number of steps so far `(batch,)`."""
        return [*self.neuron.initial_state(shape, dtype), ops.zeros(shape[:1], dtype=dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        *before, steps = state
        spikes, after = self.neuron.step(current, before)
        is_on = ops.reshape(steps >= self.timesteps, (-1, *(1,) * (len(spikes.shape) - 1)))
        after = [ops.where(is_on, new, old) for new, old in zip(after, before, strict=True)]
        return ops.where(is_on, spikes, ops.zeros_like(spikes)), [*after, steps + 1]
