"""Spiking neurons: the equations, as small frozen objects over `keras.ops`.

A neuron says how a membrane potential integrates an input current and when it
spikes. It holds no state: the state is a list of tensors that goes in and comes
out of every step. A new neuron is one class here.
"""

import dataclasses

import keras
from keras import ops

from keras_snn._validation import check_choice, check_integer, check_number

__all__ = ["Binary", "Delayed", "IntegrateAndFire", "SignedIntegrateAndFire", "get"]


class _Configured:
    """A frozen dataclass of plain values, as Keras saves it."""

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class IntegrateAndFire(_Configured):
    """Integrate-and-fire neuron without leak; at most one spike per time step.

    With z(t) the input current and θ = `v_threshold`:

        Θ(t) = 1 if V(t−1) + z(t) ≥ θ, else 0
        reset="subtract":  V(t) = V(t−1) + z(t) − θ·Θ(t)
        reset="zero":      V(t) = (V(t−1) + z(t))·(1 − Θ(t))

    Reset by subtraction keeps the surplus above the threshold, so that the firing
    rate approaches clip(z/θ, 0, 1) as 1/t; reset to zero loses it, which leaves an
    error for ever.

    Args:
        v_threshold: Firing threshold θ; positive, in the unit of the current.
        reset: `"subtract"` or `"zero"`.
        initial_potential: V(0) as a fraction of `v_threshold`. A half makes the
            spike count a rounding of the summed current instead of a floor.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052, equations 2 and 3. Initial
        potential: Bu et al. (2022), AAAI.

    >>> neuron = IntegrateAndFire(initial_potential=0.0)
    >>> spikes, (v,) = neuron.step(ops.array([0.75, 1.25]), neuron.initial_state((2,), "float32"))
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([0., 1.], dtype=float32), array([0.75, 0.25], dtype=float32))
    """

    v_threshold: float = 1.0
    reset: str = "subtract"
    initial_potential: float = 0.5

    def __post_init__(self):
        check_number("v_threshold", self.v_threshold, above=0)
        check_choice("reset", self.reset, ("subtract", "zero"))
        check_number("initial_potential", self.initial_potential)

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [ops.full(shape, self.initial_potential * self.v_threshold, dtype=dtype)]

    def step(self, current, state):
        """Integrate one time step.

        Args:
            current: Tensor of shape `(batch, …)`.
            state: What `initial_state` or the previous step returned.

        Returns:
            `(spikes, state)`; spikes are 0 or 1, in the dtype of the state.
        """
        (v,) = state
        v = v + current
        # >=, so that a current equal to v_threshold gives rate 1.
        fires = v >= self.v_threshold
        spikes = ops.cast(fires, v.dtype)
        if self.reset == "subtract":
            return spikes, [v - self.v_threshold * spikes]
        return spikes, [ops.where(fires, ops.zeros_like(v), v)]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class SignedIntegrateAndFire(_Configured):
    """Integrate-and-fire neuron that takes back spikes it should not have fired.

    With z(t) the input current, θ = `v_threshold`, L = `levels` and n(t) the sum of all spikes so far:

        u(t) = V(t−1) + z(t)
        s(t) = 1 if u(t) ≥ θ and n(t−1) < L;  −1 if u(t) < 0 and n(t−1) > 0;  else 0
        n(t) = n(t−1) + s(t)
        V(t) = u(t) − θ·s(t)

    Once no neuron fires any more, 0 ≤ V < θ, or n = 0 and V < θ, or n = L and V ≥ 0. As V + θ·n is
    V(0) + Σ z, therefore n = clip(floor((V(0) + Σ z)/θ), 0, L), in whatever order the current came.

    Args:
        levels: L, the most that the spikes add up to; `None` if nothing bounds them.
        v_threshold: Firing threshold θ; positive, in the unit of the current.
        initial_potential: V(0) as a fraction of `v_threshold`. A half makes n a rounding.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Hu et al. (2023), "Fast-SNN", IEEE TPAMI; You et al. (2024), "SpikeZIP-TF", ICML.

    >>> neuron = SignedIntegrateAndFire(levels=4)
    >>> spikes, (v, n) = neuron.step(ops.array([0.75]), neuron.initial_state((1,), "float32"))
    >>> back, (v, n) = neuron.step(ops.array([-0.5]), [v, n])
    >>> [ops.convert_to_numpy(x).item() for x in (spikes, back, v, n)]
    [1.0, -1.0, 0.75, 0.0]
    """

    levels: int | None = None
    v_threshold: float = 1.0
    initial_potential: float = 0.5

    def __post_init__(self):
        if self.levels is not None:
            check_integer("levels", self.levels, minimum=1)
        check_number("v_threshold", self.v_threshold, above=0)
        check_number("initial_potential", self.initial_potential)

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential, n]` of `shape`."""
        v = ops.full(shape, self.initial_potential * self.v_threshold, dtype=dtype)
        return [v, ops.zeros(shape, dtype=dtype)]

    def step(self, current, state):
        """Integrate one time step; arguments as of `IntegrateAndFire.step`, spikes −1, 0 or 1."""
        v, count = state
        v = v + current
        forward = v >= self.v_threshold
        if self.levels is not None:
            forward = ops.logical_and(forward, count < self.levels)
        back = ops.logical_and(v < 0, count > 0)
        spikes = ops.cast(forward, v.dtype) - ops.cast(back, v.dtype)
        return spikes, [v - self.v_threshold * spikes, count + spikes]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Binary(_Configured):
    """Neuron of a binary network: says at every step on which side of 0 its potential is.

    With z(t) the input current:

        u(t) = V(t−1) + z(t)
        function="sign":       Θ(t) = 1 if u(t) > 0, −1 if u(t) < 0
        function="heaviside":  Θ(t) = 1 if u(t) > 0, else 0
        reset="none":          V(t) = u(t)
        reset="zero":          V(t) = 0 if Θ(t) ≠ 0, else u(t)

    Under a constant current every step says what the binary activation of the source network says.
    Under one that varies, as spikes make it, the potential without reset says it of the average
    current so far, so the error vanishes as 1/t; with a reset to zero it stays.

    Args:
        function: `"sign"` or `"heaviside"`.
        at_zero: Θ where u(t) is exactly 0; −1, 0 or 1.
        reset: `"none"` or `"zero"`.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682: signed spikes and reset to zero. Networks:
        Courbariaux et al. (2016), arXiv:1602.02830.

    >>> neuron = Binary()
    >>> spikes, (v,) = neuron.step(ops.array([0.75, -1.25]), neuron.initial_state((2,), "float32"))
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([ 1., -1.], dtype=float32), array([ 0.75, -1.25], dtype=float32))
    """

    function: str = "sign"
    at_zero: float = 1.0
    reset: str = "none"

    # The scale of its current does not matter.
    v_threshold = 1.0

    def __post_init__(self):
        check_choice("function", self.function, ("sign", "heaviside"))
        check_choice("at_zero", self.at_zero, (-1, 0, 1) if self.function == "sign" else (0, 1))
        check_choice("reset", self.reset, ("none", "zero"))

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [ops.zeros(shape, dtype=dtype)]

    def step(self, current, state):
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        v = state[0] + current
        spikes = ops.sign(v)
        if self.at_zero:
            spikes = ops.where(v == 0, ops.full_like(v, self.at_zero), spikes)
        if self.function == "heaviside":
            spikes = ops.maximum(spikes, 0.0)
        if self.reset == "zero":
            v = ops.where(spikes == 0, v, ops.zeros_like(v))
        return spikes, [v]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Delayed:
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
        check_integer("timesteps", self.timesteps, minimum=0)

    @property
    def v_threshold(self):
        """Firing threshold of the neuron."""
        return self.neuron.v_threshold

    def initial_state(self, shape, dtype):
        """Return the state of the neuron, and the number of steps so far `(batch,)`."""
        return [*self.neuron.initial_state(shape, dtype), ops.zeros(shape[:1], dtype=dtype)]

    def step(self, current, state):
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        *before, steps = state
        spikes, after = self.neuron.step(current, before)
        is_on = ops.reshape(steps >= self.timesteps, (-1, *(1,) * (len(spikes.shape) - 1)))
        after = [ops.where(is_on, new, old) for new, old in zip(after, before, strict=True)]
        return ops.where(is_on, spikes, ops.zeros_like(spikes)), [*after, steps + 1]

    def get_config(self):
        return {"neuron": keras.saving.serialize_keras_object(self.neuron), "timesteps": self.timesteps}

    @classmethod
    def from_config(cls, config):
        return cls(get(config["neuron"]), config["timesteps"])


_BY_NAME = {"if": IntegrateAndFire, "signed": SignedIntegrateAndFire}


def get(identifier):
    """Return a neuron: the object itself, the default one of a name, or one from its config.

    >>> get("if")
    IntegrateAndFire(v_threshold=1.0, reset='subtract', initial_potential=0.5)
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str):
        return _BY_NAME[check_choice("neuron", identifier, tuple(_BY_NAME))]()
    needed = ("v_threshold", "initial_state", "step")
    if isinstance(identifier, type) or not all(hasattr(identifier, name) for name in needed):
        names = ", ".join(repr(name) for name in _BY_NAME)
        raise TypeError(
            f"`neuron` must be one of {names} or an object with `v_threshold`, `initial_state` and `step`. "
            f"Received: neuron={identifier!r}. See `keras_snn.neurons`."
        )
    return identifier
