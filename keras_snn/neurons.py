"""Spiking neurons: the equations, as small frozen objects over `keras.ops`.

A neuron says how a membrane potential integrates an input current and when it
spikes. It holds no state: the state is a list of tensors that goes in and comes
out of every step. A new neuron is one class here.

Spikes have no derivative. For `fit` each neuron says another one, its surrogate, which is taken
through the reset as well: charge is conserved by gradients too, θ·Σ ds/dz = Σ dz/dz − dV(T)/dz.
"""

import dataclasses

import keras
from keras import ops

from keras_snn._gradients import floor, triangle, with_gradient, within
from keras_snn._validation import check_choice, check_integer, check_number

__all__ = [
    "Binary",
    "Burst",
    "Delayed",
    "IntegrateAndFire",
    "LeakyIntegrateAndFire",
    "MultiThreshold",
    "SignedIntegrateAndFire",
    "get",
]


class _Configured:
    """A frozen dataclass of plain values, as Keras saves it.

    Attributes:
        unit: Value of the smallest spike; all are multiples of it.
        largest_spike: Value of the largest one.
        spike_values: All values of a spike, in words.
    """

    unit = 1.0
    largest_spike = 1.0
    spike_values = "0 or 1"

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

    Surrogate of dΘ/dV: max(0, 1 − |V − θ|/θ)/θ, with V before the reset.

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
    >>> spikes, (v,) = neuron.step(ops.array([0.75, 1.25], "float32"), neuron.initial_state((2,), "float32"))
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
        spikes = _fire(v, self.v_threshold)
        return spikes, [_reset(v, spikes, self.v_threshold, self.reset)]

    @property
    def conserves_charge(self):
        """Whether `count_spikes` holds."""
        return self.reset == "subtract" and 0 <= self.initial_potential < 1

    def count_spikes(self, charge, state):
        """Return how many spikes a charge has given, from the potential that it left; not rounded.

        Charge is conserved, V(t) = V(0) + Σ z − θ·count, if what fires keeps the surplus.

        Args:
            charge: Σ z over the steps so far, `(batch, …)`.
            state: The state behind the last step.
        """
        (v,) = state
        given = charge - v
        if self.v_threshold != 1:
            given = given / self.v_threshold
        return given + self.initial_potential


def _reset(v, spikes, v_threshold, reset):
    """Return the potential behind a step."""
    if reset == "subtract":
        return v - v_threshold * spikes
    return ops.where(spikes > 0, ops.zeros_like(v), v)


def _fire(v, v_threshold):
    """Return 1 where a potential is at its threshold or above, else 0."""
    return with_gradient(
        # >=, so that a current equal to v_threshold gives rate 1.
        lambda v: ops.cast(v >= v_threshold, v.dtype),
        lambda v: triangle(v, v_threshold, v_threshold),
        v,
    )


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class LeakyIntegrateAndFire(_Configured):
    """Integrate-and-fire neuron that forgets; at most one spike per time step.

    With z(t) the input current, θ = `v_threshold` and β = `leak`:

        Θ(t) = 1 if β·V(t−1) + z(t) ≥ θ, else 0
        reset="subtract":  V(t) = β·V(t−1) + z(t) − θ·Θ(t)
        reset="zero":      V(t) = (β·V(t−1) + z(t))·(1 − Θ(t))

    For layers by hand, to be trained: its rate is no multiple of the current, so nothing converts to it.
    Surrogate as of `IntegrateAndFire`.

    Args:
        leak: β, in (0, 1]: what is left of a potential after one step, exp(−dt/tau_mem).
        v_threshold: Firing threshold θ; positive, in the unit of the current.
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
    v_threshold: float = 1.0
    initial_potential: float = 0.0
    reset: str = "subtract"

    def __post_init__(self):
        check_number("leak", self.leak, above=0, at_most=1)
        check_number("v_threshold", self.v_threshold, above=0)
        check_number("initial_potential", self.initial_potential)
        check_choice("reset", self.reset, ("subtract", "zero"))

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [ops.full(shape, self.initial_potential * self.v_threshold, dtype=dtype)]

    def step(self, current, state):
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        v = self.leak * state[0] + current
        spikes = _fire(v, self.v_threshold)
        return spikes, [_reset(v, spikes, self.v_threshold, self.reset)]


class _Counting(_Configured):
    """A neuron that takes back what it has fired, so that its state is `[membrane_potential, n]`.

    A subclass says its spikes and their surrogate slope, of the potential before the reset and of n
    before the spike.
    """

    def step(self, current, state):
        """Integrate one time step; arguments as of `IntegrateAndFire.step`, spikes multiples of `unit`."""
        v, count = state
        v = v + current
        spikes = with_gradient(self._spikes, self._slope, v, count)
        return spikes, [v - self.v_threshold * spikes, count + spikes]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class SignedIntegrateAndFire(_Counting):
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
        v_threshold: Firing threshold θ; positive, in the unit of the current.
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
    v_threshold: float = 1.0
    initial_potential: float = 0.5

    spike_values = "−1, 0 or 1"

    def __post_init__(self):
        if self.levels is not None:
            check_integer("levels", self.levels, minimum=1)
        check_number("v_threshold", self.v_threshold, above=0)
        check_number("initial_potential", self.initial_potential)

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential, n]` of `shape`."""
        v = ops.full(shape, self.initial_potential * self.v_threshold, dtype=dtype)
        return [v, ops.zeros(shape, dtype=dtype)]

    def _spikes(self, v, count):
        forward = v >= self.v_threshold
        if self.levels is not None:
            forward = ops.logical_and(forward, count < self.levels)
        back = ops.logical_and(v < 0, count > 0)
        return ops.cast(forward, v.dtype) - ops.cast(back, v.dtype)

    def _slope(self, v, count):
        theta, slope = self.v_threshold, triangle(v, self.v_threshold, self.v_threshold)
        if self.levels is not None:
            slope = slope * ops.cast(count < self.levels, v.dtype)
        return slope + triangle(v, 0.0, theta) * ops.cast(count > 0, v.dtype)


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class MultiThreshold(_Counting):
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
        v_threshold: The largest threshold θ; positive, in the unit of the current.
        initial_potential: V(0) as a fraction of the smallest threshold.
        max_rate: The most that a step may give, in (0, 2 − ε], rounded down to a multiple of ε; `None`
            for 2 − ε, all thresholds together.

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
    v_threshold: float = 1.0
    initial_potential: float = 0.5
    max_rate: float | None = None

    def __post_init__(self):
        check_integer("levels", self.levels, minimum=1)
        check_number("v_threshold", self.v_threshold, above=0)
        check_number("initial_potential", self.initial_potential)
        if self.max_rate is not None:
            check_number("max_rate", self.max_rate, above=0)

    @property
    def unit(self):
        """Value of the smallest spike, ε."""
        return 2.0 ** (1 - self.levels)

    @property
    def largest_spike(self):
        """Value of the largest spike."""
        all_together = 2.0 - self.unit
        if self.max_rate is None:
            return all_together
        return min(self.max_rate // self.unit * self.unit, all_together)

    @property
    def spike_values(self):
        """All values of a spike, in words."""
        return f"multiples of {self.unit:g} up to {self.largest_spike:g}, negative ones too"

    def limited(self, rate):
        """Return a neuron that gives at most `rate` per step, as a relu that saturates there."""
        return dataclasses.replace(self, max_rate=rate)

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential, n]` of `shape`."""
        v = ops.full(shape, self.initial_potential * self.unit * self.v_threshold, dtype=dtype)
        return [v, ops.zeros(shape, dtype=dtype)]

    def _spikes(self, v, count):
        units = floor(v / (self.v_threshold * self.unit))
        return ops.clip(units * self.unit, -count, self.largest_spike)

    def _slope(self, v, count):
        half = self.unit / 2
        return within(v / self.v_threshold, half - count, half + self.largest_spike) / self.v_threshold


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Burst(_Configured):
    """Integrate-and-fire neuron that fires several spikes in a step when its potential is that high.

    With z(t) the input current, θ = `v_threshold` and Γ = `gamma`:

        u(t) = V(t−1) + z(t)
        s(t) = clip(floor(u(t)/θ), 0, Γ)
        V(t) = u(t) − θ·s(t)

    Surrogate of ds/dV: 1/θ where θ/2 ≤ u < (Γ + ½)·θ.

    Args:
        gamma: Γ, the most spikes in a step.
        v_threshold: Firing threshold θ; positive, in the unit of the current.
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

    gamma: int = 5
    v_threshold: float = 1.0
    initial_potential: float = 0.5

    def __post_init__(self):
        check_integer("gamma", self.gamma, minimum=1)
        check_number("v_threshold", self.v_threshold, above=0)
        check_number("initial_potential", self.initial_potential)

    @property
    def largest_spike(self):
        """Value of the largest spike, Γ."""
        return float(self.gamma)

    @property
    def spike_values(self):
        """All values of a spike, in words."""
        return f"whole numbers from 0 to {self.gamma}"

    def limited(self, rate):
        """Return a neuron that gives at most `rate` per step, as a relu that saturates there."""
        return dataclasses.replace(self, gamma=max(1, min(self.gamma, int(rate))))

    def initial_state(self, shape, dtype):
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [ops.full(shape, self.initial_potential * self.v_threshold, dtype=dtype)]

    def step(self, current, state):
        """Integrate one time step; arguments as of `IntegrateAndFire.step`, spikes 0 to `gamma`."""
        v = state[0] + current
        theta = self.v_threshold
        spikes = with_gradient(
            lambda v: ops.clip(floor(v / theta), 0.0, self.gamma),
            lambda v: within(v / theta, 0.5, self.gamma + 0.5) / theta,
            v,
        )
        return spikes, [v - theta * spikes]


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
    >>> spikes, (v,) = neuron.step(ops.array([0.75, -1.25], "float32"), neuron.initial_state((2,), "float32"))
    >>> ops.convert_to_numpy(spikes), ops.convert_to_numpy(v)
    (array([ 1., -1.], dtype=float32), array([ 0.75, -1.25], dtype=float32))
    """

    function: str = "sign"
    at_zero: float = 1.0
    reset: str = "none"

    # The scale of its current does not matter.
    v_threshold = 1.0

    @property
    def spike_values(self):
        """All values of a spike, in words."""
        return "−1, 0 or 1" if self.function == "sign" else "0 or 1"

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


class Around:
    """A neuron that is another one but for one thing.

    Attributes:
        neuron: The other neuron.
    """

    @property
    def v_threshold(self):
        """Firing threshold of the neuron."""
        return self.neuron.v_threshold

    @property
    def unit(self):
        """Value of the smallest spike of the neuron."""
        return getattr(self.neuron, "unit", 1.0)

    @property
    def largest_spike(self):
        """Value of the largest spike of the neuron."""
        return getattr(self.neuron, "largest_spike", 1.0)

    @property
    def spike_values(self):
        """All values of a spike of the neuron, in words."""
        return getattr(self.neuron, "spike_values", "0 or 1")

    def get_config(self):
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "neuron": keras.saving.serialize_keras_object(self.neuron)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "neuron": get(config["neuron"])})


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Corrected(Around):
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
        # Files have lists.
        for name in ("current", "potential"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __repr__(self):
        which = " and ".join(name for name in ("current", "potential") if getattr(self, name))
        return f"Corrected({self.neuron!r}, {which or 'nothing'})"

    def initial_state(self, shape, dtype):
        """Return the state of the neuron with the correction of its potential."""
        v, *others = self.neuron.initial_state(shape, dtype)
        return [_plus(v, self.potential), *others]

    def step(self, current, state):
        """Integrate one time step; arguments and result as of `IntegrateAndFire.step`."""
        return self.neuron.step(_plus(current, self.current), state)


def _plus(x, channels):
    return x + ops.convert_to_tensor(channels, dtype=x.dtype) if channels else x


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Delayed(Around):
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


_BY_NAME = {
    "if": IntegrateAndFire,
    "signed": SignedIntegrateAndFire,
    "multi_threshold": MultiThreshold,
    "burst": Burst,
    "lif": LeakyIntegrateAndFire,
}


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
