"""The neuron of binary networks."""

import dataclasses
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_snn._types import Rate, Shape, State, Tensor
from keras_snn._validation import check_choice
from keras_snn.neurons.base import Neuron

__all__ = ["Binary"]

BinaryFunction = Literal["sign", "heaviside"]


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True)
class Binary(Neuron):
    """Neuron of a binary network: fires the side of 0 on which its potential is, at every step.

    With z(t) the input current:

        u(t) = V(t−1) + z(t)
        function="sign":       Θ(t) = 1 if u(t) > 0, −1 if u(t) < 0
        function="heaviside":  Θ(t) = 1 if u(t) > 0, else 0
        reset="none":          V(t) = u(t)
        reset="zero":          V(t) = 0 if Θ(t) ≠ 0, else u(t)

    Under a constant current every step gives the binary activation of the source network. Under one that
    varies, as spikes make it, the potential without reset gives that of the average current so far, so the
    error vanishes as 1/t; with a reset to zero it stays.

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

    function: BinaryFunction = "sign"
    at_zero: float = 1.0
    reset: Literal["none", "zero"] = "none"

    # It has no scale: only the sign of its current matters.
    is_rate_coding = False

    @property
    def spike_values(self) -> str:
        """All values of a spike, as text."""
        return "−1, 0 or 1" if self.function == "sign" else "0 or 1"

    def __post_init__(self):
        check_choice("function", self.function, get_args(BinaryFunction))
        check_choice("at_zero", self.at_zero, (-1, 0, 1) if self.function == "sign" else (0, 1))
        check_choice("reset", self.reset, ("none", "zero"))

    @property
    def is_signed(self) -> bool:
        """Whether spikes may be negative."""
        return self.function == "sign"

    def asymptotic_rate(self, current: Rate) -> Rate:
        rate = np.where(current == 0, self.at_zero, np.sign(current))
        return np.maximum(rate, 0.0) if self.function == "heaviside" else rate

    def ideal_response(
        self, activation: Rate, current: Rate | None, timesteps: int
    ) -> tuple[Rate, Rate, Rate]:
        # It neither clips nor rounds.
        given = activation if current is None else self.asymptotic_rate(current)
        return activation, given, given

    def analog_activation(self) -> dict[str, Any]:
        return {"function": self.function, "at_zero": self.at_zero}

    def whole_thresholds(self, wished: Rate) -> Rate:
        # It compares with 0 only.
        return np.ones(np.shape(wished))

    def initial_state(self, shape: Shape, dtype: str) -> State:
        """Return the state before the first step: `[membrane_potential]` of `shape`."""
        return [ops.zeros(shape, dtype=dtype)]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
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
