"""Neurons that send a number in a window of time: when a spike comes is what it is worth."""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_snn._gradients import floor, with_gradient, within
from keras_snn._types import Rate, Shape, State, Tensor
from keras_snn._validation import check_choice, check_integer, check_number
from keras_snn.neurons.base import Neuron

__all__ = ["DigitCode", "TimeCode", "TimeToFirstSpike"]

# Floats of 32 bits have every integer up to here.
_MOST_LEVELS = 2**24 - 1
# Of mixed levels, in eighths of what they stand for.
_EIGHTHS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class TimeCode(Neuron):
    """Base of the neurons that integrate their input in one window and send one number in the next.

    The number is an integer from 0 to `levels`. It is written in base `base` with `digits` digits, the most
    significant first, and each digit d > 0 is one spike, at step `base` − d of a window of `base` − 1 steps;
    a digit of 0 is no spike. With k the numbers of the neurons before, W their weights and b the bias:

        V = b + Σ W·k                                 after their windows
        k = clip(floor(V/θ + V(0)), 0, levels)        sent in the neuron's own window, θ = 1

    The receiver needs no multiplication: within the window of a digit it adds, for every spike, its weight to
    a slope, and at every step the slope to the potential, so that a spike at step `base` − d is added d
    times. The slope begins a digit as what the digits before gave, which so becomes `base` times as much.

    All layers run once, one after the other, so a step of the model's loop over time is a whole window:
    `step` takes the charge of a window and returns k, from which the times of the spikes follow.

    Signed neurons send k from −`levels` to `levels`: each spike has the sign of the number. They relay a sum
    that no relu rectifies.

    A subclass has the attributes `levels`, `base`, `initial_potential` and `signed`.
    """

    is_time_code = True

    @property
    def is_signed(self) -> bool:
        """Whether numbers and spikes may be negative."""
        return self.signed

    @property
    def spike_values(self) -> str:
        """All values of a spike, as text."""
        return f"{'−1, ' if self.signed else ''}0 or 1; the earlier, the more it is worth"

    @property
    def code(self) -> "TimeCode":
        """The neuron that has `levels`, `base` and `digits`: this one, or the one that is wrapped."""
        return self

    @property
    def lowest(self) -> float:
        """The smallest number."""
        return -float(self.levels) if self.signed else 0.0

    def precisions(self) -> tuple[tuple["TimeCode", None], ...]:
        return self._of_all_levels()

    def _of_all_levels(self):
        return tuple((dataclasses.replace(self, levels=2**bits - 1), None) for bits in range(4, 11))

    def relay(self) -> "TimeCode":
        """Return the signed neuron that sends a sum which no relu rectifies."""
        return dataclasses.replace(self, signed=True)

    @property
    def digits(self) -> int:
        """Number of digits that `levels` has in base `base`."""
        digits, base = 1, self.code.base
        while base**digits <= self.levels:
            digits += 1
        return digits

    @property
    def window(self) -> int:
        """Number of time steps in which a number is sent."""
        return self.digits * (self.code.base - 1)

    @property
    def largest_spike(self) -> float:
        """The largest number."""
        return float(self.levels)

    def events_of(self, units: Tensor) -> Tensor:
        count, base = ops.zeros_like(units), self.code.base
        for _ in range(self.digits):
            rest = floor(units / base)
            count = count + ops.cast(ops.greater(units, base * rest), count.dtype)
            units = rest
        return count

    def rate_of_scale(self, timesteps: int) -> float:
        return float(self.levels)

    def active_steps(self, timesteps: int) -> int:
        return 1

    def largest_rate(self, timesteps: int) -> float:
        return float(self.levels)

    def fitted_scale(self, scale: Rate, max_value: Rate) -> Rate:
        return np.minimum(scale, max_value)

    def asymptotic_rate(self, current: Rate) -> Rate:
        return np.clip(current, self.lowest, self.levels)

    def ideal_rate(self, current: Rate, timesteps: int) -> Rate:
        return np.clip(np.floor(np.asarray(current) + self.initial_potential), self.lowest, self.levels)

    def ideal_response(
        self, activation: Rate, current: Rate | None, timesteps: int
    ) -> tuple[Rate, Rate, Rate]:
        clipped = self.asymptotic_rate(activation)
        given = clipped if current is None else self.asymptotic_rate(current)
        return clipped, given, self.ideal_rate(given, timesteps)

    def analog_activation(self) -> dict[str, Any]:
        return {"function": "linear" if self.signed else "relu"}

    def rates_as_text(self, timesteps: int) -> str:
        return f"multiples of λ/{self.levels} up to λ"

    def grid(self, timesteps: int) -> float:
        return 1.0

    def exact_levels(self, timesteps: int) -> int:
        return self.levels

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the window: `[membrane_potential]` of `shape`."""
        return [ops.full(shape, self.initial_potential, dtype=dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate the charge of a window.

        Args:
            current: Tensor of shape `(batch, …)`, in the dtype of the state.
            state: What `initial_state` returned.

        Returns:
            `(numbers, state)`, whole numbers from 0 to `levels` of shape and dtype of the current, and
            `[membrane_potential]`, what rounding leaves.
        """
        v = state[0] + current
        numbers = with_gradient(
            lambda v: ops.clip(floor(v), self.lowest, float(self.levels)),
            lambda v: within(v, self.lowest + self.initial_potential, self.levels + self.initial_potential),
            v,
        )
        return numbers, [v - numbers]

    def trains(self, numbers: ArrayLike) -> np.ndarray:
        """Return the spikes that send some numbers.

        Args:
            numbers: NumPy array of integers, of size at most `levels`.

        Returns:
            Array of 0 and 1, or −1 for numbers below 0; int8, with an axis of `window` steps in front.
        """
        numbers, base = np.asarray(numbers).astype("int64"), self.code.base
        sizes, steps = np.abs(numbers), np.arange(1, base).reshape(-1, *(1,) * numbers.ndim)
        trains = []
        for place in reversed(range(self.digits)):
            digit = sizes // base**place % base
            trains.append((steps == base - digit) & (digit > 0))
        return (np.concatenate(trains) * np.sign(numbers)).astype("int8")

    def numbers(self, trains: ArrayLike) -> np.ndarray:
        """Return the numbers that some spikes send: the inverse of `trains`.

        Args:
            trains: Array of −1, 0 and 1 with an axis of `window` steps in front.
        """
        base = self.code.base
        worth = np.concatenate(
            [np.arange(base - 1, 0, -1) * base**place for place in reversed(range(self.digits))]
        )
        return np.tensordot(worth, np.asarray(trains).astype("int64"), axes=1)


def _check(neuron):
    check_integer(
        "levels", neuron.levels, minimum=1, maximum=_MOST_LEVELS, hint="Floats have no more integers."
    )
    check_number("initial_potential", neuron.initial_potential)
    check_choice("signed", neuron.signed, (False, True))


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class TimeToFirstSpike(TimeCode):
    """Neuron that spikes at most once, and the earlier the more: time to first spike.

    In a window of L = `levels` steps a neuron whose number is k > 0 spikes at step L + 1 − k, and one whose
    number is 0 does not: see `TimeCode`, of one digit in base L + 1.

    Surrogate of dk/dV: 1 where k is not clipped.

    Args:
        levels: L; also the number of time steps of the window.
        initial_potential: V(0). A half makes k a rounding.
        signed: Whether numbers may be negative; the spike has their sign.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Rueckauer and Liu (2018), ISCAS, "Conversion of analog to spiking neural networks using sparse
        temporal coding"; Stanojevic et al. (2024), Nature Communications 15:6793.

    >>> neuron = TimeToFirstSpike(levels=7)
    >>> k, (v,) = neuron.step(ops.array([2.75, -1.5, 9.0], "float32"), neuron.initial_state((3,), "float32"))
    >>> ops.convert_to_numpy(k)
    array([3., 0., 7.], dtype=float32)
    >>> neuron.trains([3, 0, 7]).argmax(axis=0) + 1
    array([5, 1, 1])
    """

    levels: int = 63
    initial_potential: float = 0.5
    signed: bool = False

    alias = "ttfs"
    digits = 1

    def __post_init__(self):
        _check(self)

    @property
    def base(self) -> int:
        """Base of the only digit."""
        return self.levels + 1

    def of_window(self, timesteps: int) -> "TimeToFirstSpike":
        """Return this neuron with a window of so many steps."""
        return dataclasses.replace(self, levels=timesteps)


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class DigitCode(TimeCode):
    """Neuron that sends its number digit by digit, each with at most one spike: see `TimeCode`.

    Base 2 is a radix code: a step for every bit, and a spike for every bit that is set. A larger base has
    fewer spikes and more steps; base `levels` + 1 is `TimeToFirstSpike`.

    Surrogate of dk/dV: 1 where k is not clipped.

    Args:
        levels: The largest number.
        base: Base of the digits, from 2 to `levels` + 1; or `"auto"`: `convert` chooses the one of each
            layer with which the network needs the fewest operations on the calibration data. Without data
            there are two digits.
        initial_potential: V(0). A half makes k a rounding.
        signed: Whether numbers may be negative; each spike has their sign.
        mixed: Whether `convert` chooses the levels of each layer, from an eighth of `levels` to four times as
            many: those with which the network needs the fewest operations and yet loses no more than with
            `levels` everywhere, on the calibration data. Without data `levels` are those of every layer.

    Raises:
        TypeError, ValueError: If an argument is outside what it may be.

    Source:
        Wang et al. (2022), "Efficient spiking neural networks with radix encoding", IEEE TNNLS.

    >>> DigitCode(levels=63, base=8).window
    14
    >>> DigitCode(levels=7, base=2).trains([5]).ravel()
    array([1, 0, 1], dtype=int8)
    """

    levels: int = 255
    base: int | Literal["auto"] = 2
    initial_potential: float = 0.5
    signed: bool = False
    mixed: bool = False

    alias = "digits"

    def __post_init__(self):
        _check(self)
        check_choice("mixed", self.mixed, (False, True))
        if self.base != "auto":
            hint = "Use 2 for bits, or 'auto'."
            check_integer("base", self.base, minimum=2, maximum=self.levels + 1, hint=hint)

    def __repr__(self):
        shown = [field.name for field in dataclasses.fields(self) if field.name != "mixed" or self.mixed]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def precisions(self) -> tuple[tuple["DigitCode", None], ...]:
        return dataclasses.replace(self, base="auto")._of_all_levels()

    @property
    def code(self) -> "DigitCode":
        """The neuron itself, with two digits if the base is not chosen yet."""
        return self if self.base != "auto" else dataclasses.replace(self, base=self._base_of(2))

    @property
    def alternatives(self) -> tuple["DigitCode", ...]:
        """Of base `"auto"`, a code for each number of digits, in the smallest base that has it."""
        if self.base != "auto":
            return (self,)
        bases = dict.fromkeys(self._base_of(digits) for digits in range(1, self.levels.bit_length() + 1))
        return tuple(dataclasses.replace(self, base=base) for base in bases)

    @property
    def mixtures(self) -> tuple["DigitCode", ...]:
        """If `mixed`, the codes of all numbers of levels that a layer may have, fewest first."""
        if not self.mixed:
            return ()
        fewest = 1 if self.base == "auto" else self.base - 1
        levels = (round((self.levels + 1) * eighths / 8) - 1 for eighths in _EIGHTHS)
        found = dict.fromkeys(min(max(number, fewest), _MOST_LEVELS) for number in levels)
        return tuple(dataclasses.replace(self, levels=number, mixed=False) for number in found)

    def _base_of(self, digits):
        """Return the smallest base in which `levels` has at most so many digits."""
        base = max(2, int((self.levels + 1) ** (1 / digits)) - 1)
        while base**digits <= self.levels:
            base += 1
        return base

    def of_window(self, timesteps: int) -> "DigitCode":
        """Return this neuron with a window of so many steps, which are whole digits."""
        digits, rest = divmod(timesteps, self.base - 1)
        if rest:
            raise ValueError(
                f"`timesteps` must be a multiple of {self.base - 1}, the steps of a digit in base "
                f"{self.base}. Received: timesteps={timesteps}."
            )
        return dataclasses.replace(self, levels=self.base**digits - 1)
