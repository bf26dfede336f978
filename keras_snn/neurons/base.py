"""The base class of spiking neurons: all that the rest of the package asks of one."""

import dataclasses
import fractions
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from keras_snn._types import Config, Rate, Shape, State, Tensor
from keras_snn.neurons.step_form import StepForm
from keras_snn.neurons.thresholds import plain

__all__ = ["BY_ALIAS", "Neuron"]

# Classes by the name that `convert(neuron=…)` knows them by.
BY_ALIAS = {}


class Neuron:
    """A spiking neuron: how a membrane potential integrates its current, and when it fires.

    A neuron holds no state. Its state is a list of tensors, which goes into every step and comes out of it.
    A subclass is a frozen dataclass with `initial_state` and `step`, registered with Keras so that models
    with it can be saved. The attributes and the other methods describe its firing rate to the rest of the
    package; their defaults hold for spikes of 0 or 1 whose rate approaches clip(z/θ, 0, 1). Override those
    that differ. See `docs/adding_a_neuron.md`.

    Attributes:
        alias: The name that `convert(neuron=…)` and the command line know it by, or `None`.
        v_threshold: Firing threshold θ; positive, in the unit of the current; a tuple where channels differ.
        initial_potential: V(0) as a fraction of θ·`unit`.
        reset: `"subtract"` or `"zero"` where the neuron resets by subtraction or to zero, else `None`.
        unit: Value of the smallest spike; all spikes are multiples of it.
        largest_spike: Value of the largest spike; an array where channels differ.
        is_signed: Whether spikes may be negative.
        spike_values: All values of a spike, as text for reports.
        is_rate_coding: Whether the firing rate is proportional to the current until it saturates, so that it
            can stand for a rectified activation.
        conserves_charge: Whether `count_spikes` holds.
        is_time_code: Whether the neuron sends its value in one window, once; see `TimeCode`.
        window: Number of time steps of that window, or `None`.
        code: The `TimeCode`, or `None`.
        searched_timesteps: Numbers of time steps that a search tries, fewest first.
    """

    alias: ClassVar[str | None] = None
    # `Any`, because a subclass may have a field, a plain attribute or a property instead.
    v_threshold: Any = 1.0
    initial_potential: Any = 0.0
    reset: Any = None
    unit: Any = 1.0
    largest_spike: Any = 1.0
    is_signed: Any = False
    spike_values: Any = "0 or 1"
    is_rate_coding: Any = True
    conserves_charge: Any = False
    is_time_code: Any = False
    window: Any = None
    code: Any = None
    searched_timesteps: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 128, 256, 512)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "alias" in vars(cls) and cls.alias is not None:
            BY_ALIAS[cls.alias] = cls

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step, a list of tensors.

        The first is the membrane potential.

        Args:
            shape: Shape `(batch, …)` of the neurons.
            dtype: Dtype of the state.
        """
        raise NotImplementedError

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate one time step.

        Args:
            current: Tensor of shape `(batch, …)`, in the dtype of the state.
            state: What `initial_state` or the previous step returned.

        Returns:
            `(spikes, state)`; spikes of the shape and dtype of the current.
        """
        raise NotImplementedError

    def count_spikes(self, charge: Tensor, state: State) -> Tensor:
        """Return the number of spikes that a charge gave, from the potential it left; not rounded.

        Only where `conserves_charge`.

        Args:
            charge: Σ z over the steps so far, `(batch, …)`.
            state: The state after the last step.
        """
        raise NotImplementedError

    def precisions(self) -> tuple[tuple["Neuron", int | None], ...]:
        """Return what a search may choose among: pairs `(neuron, timesteps)`, the coarsest first.

        `timesteps` is `None` where the neuron has levels instead.
        """
        return tuple((self, timesteps) for timesteps in self.searched_timesteps)

    # --- Firing rates ----------------------------------------------------------

    @property
    def has_unit_spikes(self) -> bool:
        """Whether every spike is 1, so that the sum of spikes is their number."""
        return self.unit == 1 and bool(np.all(self.largest_spike == 1)) and not self.is_signed

    def active_steps(self, timesteps: int) -> int:
        """Return how many of `timesteps` steps the neuron integrates in.

        Args:
            timesteps: Number of time steps T; at least 1.
        """
        return timesteps

    def rate_of_scale(self, timesteps: int) -> float:
        """Return the firing rate that the activation λ maps to, in spikes per step.

        Args:
            timesteps: Number of time steps T; at least 1.
        """
        return 1.0

    def largest_rate(self, timesteps: int) -> Rate:
        """Return the firing rate at which the neuron saturates, in spikes per step.

        Args:
            timesteps: Number of time steps T; at least 1.

        Returns:
            A number, or an array over channels; positive.
        """
        return self.largest_spike

    def limited(self, rate: Rate) -> "Neuron":
        """Return a neuron that gives at most `rate` per step, as a relu that saturates there.

        Args:
            rate: Number, or array over channels; at least 1.
        """
        return self

    def fitted_scale(self, scale: Rate, max_value: Rate) -> Rate:
        """Return the λ nearest to `scale` at which the neuron saturates exactly where a relu does.

        A neuron that cannot be `limited` needs a λ at which its largest spike is at most `max_value`. For one
        that can, `max_value` must be a multiple of its smallest spike, or no number of steps would reach it.

        Args:
            scale: λ, at most `max_value`; number, or array over channels.
            max_value: Where the relu saturates; in activation units, infinite if it does not.
        """
        return np.minimum(scale, max_value / np.max(self.largest_spike))

    def asymptotic_rate(self, current: Rate) -> Rate:
        """Return the firing rate that an even current approaches as time goes on: a NumPy array.

        Args:
            current: Current per step, in the unit of `v_threshold`.
        """
        return np.clip(current / np.asarray(self.v_threshold), 0.0, self.largest_spike)

    def ideal_rate(self, current: Rate, timesteps: int) -> Rate:
        """Return the firing rate after some steps if the current comes evenly: rounded and clipped.

        With z the current in units of the threshold, ε the smallest spike and r the largest rate:

            ε/T·floor(clip(z, 0, r)·T/ε + V(0)), at most r

        Args:
            current: Average current in units of the threshold, NumPy array or number.
            timesteps: Number of steps T.
        """
        largest, per_rate = self.largest_rate(timesteps), timesteps / self.unit
        count = np.floor(np.clip(current, 0.0, largest) * per_rate + self.initial_potential)
        return np.clip(count / per_rate, 0.0, largest)

    def ideal_response(
        self, activation: Rate, current: Rate | None, timesteps: int
    ) -> tuple[Rate, Rate, Rate]:
        """Return what clipping, the current and rounding successively make of an activation.

        Args:
            activation: Activations of the source network in units of λ, an array.
            current: Average currents in units of the threshold, or `None` where they are the activations.
            timesteps: Number of steps.

        Returns:
            Three arrays of rates, the clipped activation, the clipped current, and the rounded current.
        """
        clipped = np.clip(activation, 0.0, self.largest_rate(timesteps))
        given = clipped if current is None else np.clip(current, 0.0, self.largest_rate(timesteps))
        return clipped, given, self.ideal_rate(given, timesteps)

    def rates_as_text(self, timesteps: int) -> str:
        """Return which rates the neuron can have after some steps, as text.

        Args:
            timesteps: Number of time steps T; at least 1.
        """
        unit = fractions.Fraction(self.unit).limit_denominator(2**20)
        return f"multiples of {unit / timesteps} up to {np.max(self.largest_rate(timesteps)):.4g}"

    def grid(self, timesteps: int) -> float:
        """Return how many of its values the neuron has per unit of rate after some steps.

        Args:
            timesteps: Number of time steps T; at least 1.
        """
        return timesteps / self.unit

    def exact_levels(self, timesteps: int) -> int | None:
        """Return the largest sum of spikes of a settled neuron, if only the sum of its current matters.

        Then that sum is clip(floor(V(0)/θ + Σz/θ), 0, levels), in whatever order the current came; `None`
        if the order matters.

        Args:
            timesteps: Number of time steps T; at least 1.
        """
        return

    def correction(self, what: Literal["current", "potential"]) -> Sequence[float]:
        """Return what the neuron adds to its `"current"` or `"potential"`, by channel; empty if nothing.

        Args:
            what: `"current"`, of every step, or `"potential"`, before the first; in units of the threshold.
        """
        return ()

    @property
    def alternatives(self) -> tuple["Neuron", ...]:
        """The neurons of which a conversion chooses one for a layer; of most there is one."""
        return (self,)

    @property
    def mixtures(self) -> tuple["Neuron", ...]:
        """The neurons of all levels of which a conversion chooses one for a layer; most have none."""
        return ()

    def relay(self) -> "Neuron | None":
        """Return the signed neuron that can send a sum which no relu rectifies, or `None`."""
        return

    # --- Operations ------------------------------------------------------------

    def events_of(self, units: Tensor) -> Tensor:
        """Return how many events a spike is: each is one addition at every synapse that it reaches.

        By default any spike is one event, whatever its value. A neuron that sends a large spike as several
        small ones has several.

        Args:
            units: Sizes of spikes in smallest spikes, |s|/`unit`: whole numbers as floats, 0 for no spike;
                a tensor or an array.

        Returns:
            A tensor of the shape and dtype of `units`.
        """
        return ops.cast(ops.not_equal(units, 0), keras.backend.standardize_dtype(units.dtype))

    # --- Counterparts ----------------------------------------------------------

    def analog_activation(self) -> dict[str, Any]:
        """Return the activation of the source network that the rate stands for.

        It is a dict of fields of `keras_snn.graph.nodes.Activation`.
        """
        return {"function": "relu"}

    def settled(self, timesteps: int) -> "Neuron":
        """Return the neuron for steps without input, after `timesteps` steps with it.

        Args:
            timesteps: Number of time steps with input.
        """
        return self

    def with_threshold(self, v_threshold: float | tuple[float, ...]) -> "Neuron":
        """Return the neuron with another threshold, if that is one of its fields; else the neuron itself.

        Args:
            v_threshold: Positive, in the unit of the current; a tuple of one for each channel.
        """
        if any(field.name == "v_threshold" for field in dataclasses.fields(self)):
            return dataclasses.replace(self, v_threshold=v_threshold)
        return self

    def whole_thresholds(self, wished: Rate) -> Rate | None:
        """Return thresholds near those wished that the neuron may have in a network of integers.

        With them, and with currents that are integers, all that it adds and compares is an integer too, in
        units of the smallest spikes; `None` if it computes with other numbers.

        Args:
            wished: Positive numbers, an array.
        """
        return

    def in_units(self, unit: Rate) -> "Neuron":
        """Return the neuron with potentials counted in a unit, and all its numbers rounded to integers.

        Args:
            unit: Of each channel, an array; in the unit of the current.
        """
        from keras_snn.neurons.wrappers import Corrected

        thresholds = self.whole_thresholds(np.asarray(self.v_threshold) / unit)
        neuron = self.with_threshold(plain(thresholds))
        start = thresholds * self.unit * self.initial_potential
        if np.all(start == np.round(start)):
            return neuron
        neuron = dataclasses.replace(neuron, initial_potential=0.0)
        return Corrected(neuron, potential=tuple(np.round(start).tolist()))

    def nir_form(self, dt: float) -> tuple[str, dict[str, Any]] | None:
        """Return `(class, fields)` of the neuron in a NIR file, without its threshold; `None` if it has none.

        Args:
            dt: Length of a time step.
        """
        return

    def step_form(self) -> StepForm | None:
        """Return what a step is in numbers, or `None` if that is not of the form."""
        return

    # --- Files -----------------------------------------------------------------

    def serialized(self) -> Any:
        """Return the neuron as `keras.saving` writes it into the config of a layer."""
        return keras.saving.serialize_keras_object(self)

    def get_config(self) -> Config:
        """Return the arguments of the constructor."""
        if not dataclasses.is_dataclass(self):
            raise NotImplementedError(
                f"A neuron must be a frozen dataclass or define `get_config`. Received: "
                f"{type(self).__name__}. Decorate the class with dataclasses.dataclass(frozen=True)."
            )
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Config) -> "Neuron":
        """Return the neuron whose `get_config` gave a config.

        Args:
            config: Dict of the arguments of the constructor.

        Raises:
            TypeError, ValueError: If an argument is not what it may be.
        """
        return cls(**config)
