"""Output layers: what the last currents of a network add up to."""

from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_snn._types import Config, Shape, State, Tensor
from keras_snn._validation import check_choice, check_integer, check_number
from keras_snn.layers.base import SpikingLayer, SpikingTwin
from keras_snn.layers.random_numbers import uniform
from keras_snn.layers.time_axis import count_steps, repeat_time, sum_steps
from keras_snn.neurons.thresholds import over_channels

__all__ = ["Readout", "SoftmaxMethod", "SpikingSoftmax", "Weighting"]

# How a softmax at the output is computed.
SoftmaxMethod = Literal["potential", "poisson", "clock"]

# How much the current of each step counts in an average: as that of any other, or in proportion to the number
# of the step, so that what the first spikes lack is soon forgotten.
Weighting = Literal["uniform", "linear"]

# Ticks per step of the clock of a spiking softmax: 300 Hz at steps of 1 ms.
_CLOCK_RATE = 0.3


def _start(shape, dtype):
    """Return the state of an average that has seen nothing: `[sum, steps]`."""
    return [ops.zeros(shape, dtype=dtype), ops.zeros(shape[:1], dtype=dtype)]


def _add(current, state, delay, weighting):
    """Return the new `[sum, steps]` of an average of all currents after `delay` steps."""
    potential, steps = state
    steps = steps + 1
    if delay or weighting == "linear":
        current = _weighted(current, _beside(potential, steps), delay, weighting)
    return [potential + current, steps]


def _add_several(current, state, delay, timesteps, constant, weighting):
    """Return the states that `_add` gives at each of several steps, folded into the batch, and the last."""
    potential, steps = state
    counts, steps = count_steps(steps, timesteps)
    if delay or weighting == "linear":
        if constant:
            current, constant = repeat_time(current, timesteps), False
        current = _weighted(current, _beside(current, counts), delay, weighting)
    sums, potential = sum_steps(potential, current, timesteps, constant=constant)
    return [sums, counts], [potential, steps]


def _weighted(current, steps, delay, weighting):
    """Return the current of a step times its weight in the average; `steps` counts those up to it."""
    if weighting == "linear":
        return ops.cast(current, steps.dtype) * ops.maximum(steps - delay, 0.0)
    return ops.where(steps > delay, current, ops.zeros_like(current))


def _average(state, delay, scale, weighting, shift):
    """Return the average that a state holds, times a scale, and a shift."""
    average = _scaled(state, delay, scale, weighting)
    return average if shift == 0 else average + over_channels(shift, average)


def _scaled(state, delay, scale, weighting):
    potential, steps = state
    counted = _beside(potential, ops.maximum(steps - delay, 1.0) if delay else steps)
    if weighting == "linear":
        counted = 0.5 * counted * (counted + 1.0)
    if scale == 1:
        return potential / counted
    # Products, but for one reciprocal: instead of dividing by a number of steps that it knows, a compiler may
    # multiply by the reciprocal.
    return potential * (over_channels(scale, potential) * (1.0 / counted))


def _checked(name, value):
    """Return a number or one for each channel, with tuples for the lists that files have."""
    if isinstance(value, (list, tuple)):
        return tuple(check_number(name, one) for one in value)
    return check_number(name, value)


def _beside(x, steps):
    """Return one value per sample, `(batch,)`, in a shape that goes with `x`, `(batch, …)`."""
    return ops.reshape(steps, (-1, *(1,) * (len(x.shape) - 1)))


@keras.saving.register_keras_serializable(package="keras_snn")
class Readout(SpikingLayer):
    """Average of the input current over the steps so far; no spikes.

    At step t the output is Σ z / t, of the shape of the input. After the last step
    it is the value that the source network computes, with an error that vanishes as 1/t.

    Args:
        activation: Name of an activation of Keras, applied to the average.
        delay: Number of first steps that do not count; until they are over the average is 0.
        weighting: `"uniform"`; or `"linear"`: the current of step s counts s times, of those after the delay,
            so that the average is Σ s·z / (t·(t + 1)/2).
        shift: What is added to that: a number, or a tuple of one for each channel.
        scale: What the average is multiplied by: a number, or a tuple of one for each channel.
        return_state: Whether to return `(outputs, sum, steps)`.
        stateful: Whether to go on averaging from call to call.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Softmax".
    """

    output_in_state = True

    def __init__(
        self,
        activation: Any = None,
        delay: int = 0,
        scale: float | tuple[float, ...] = 1.0,
        weighting: Weighting = "uniform",
        shift: float | tuple[float, ...] = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.delay = check_integer("delay", delay, minimum=0)
        self.weighting = check_choice("weighting", weighting, get_args(Weighting))
        self.shift = _checked("shift", shift)
        self.scale = _checked("scale", scale)

    def start(self, shape: Shape) -> State:
        return _start(shape, self.state_dtype)

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        state = _add(current, state, self.delay, self.weighting)
        return self.read(state), state

    def read(self, state: State) -> Tensor:
        return self.activation(_average(state, self.delay, self.scale, self.weighting, self.shift))

    def rewind(self, state: State) -> State:
        potential, steps = state
        return [potential, steps - 1]

    def get_config(self) -> Config:
        activation = keras.activations.serialize(self.activation)
        own = {"activation": activation, "delay": self.delay, "scale": self.scale}
        return {**super().get_config(), **own, "weighting": self.weighting, "shift": self.shift}


@keras.saving.register_keras_serializable(package="keras_snn")
class SpikingSoftmax(SpikingTwin, analog_class=keras.layers.Softmax):
    """Class probabilities out of a current.

    Args:
        axis: As in `keras.layers.Softmax`, of the values of one step.
        method: `"potential"`: no spikes; at step t the softmax of the current averaged
            over the steps so far. Deterministic. With V the sum of the current, the others spike:
            `"poisson"`: at every step neuron i with probability softmax(V)_i, without a reset;
            `"clock"`: at random steps, three in ten, the neuron of the largest softmax(V), and then
            V is 0 again. The rates of their spikes are the probabilities.
        delay: Number of first steps that do not count.
        scale: What the average of `"potential"` is multiplied by before the softmax: a number, or a tuple
            of one for each channel.
        shift: What is added then, likewise.
        weighting: `"uniform"` or `"linear"`, how much each step counts in the average of `"potential"`; see
            `Readout`.
        seed: Integer, for the methods that draw. The same seed gives the same spikes again.
        return_state: Whether to return `(outputs, *state)`.
        stateful: Whether to keep the state from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …, classes)`.
        initial_state: State to start from, as returned with `return_state=True`.

    Returns:
        Probabilities of the shape of the inputs, or spikes.

    Source:
        `"clock"`: Rueckauer et al. (2016), arXiv:1612.04052, "Spiking softmax", where the clock is
        one of 300 Hz at steps of 1 ms. The others: Rueckauer et al. (2017),
        doi:10.3389/fnins.2017.00682, "Softmax".
    """

    options = {
        "method": "potential",
        "delay": 0,
        "seed": 0,
        "scale": 1.0,
        "weighting": "uniform",
        "shift": 0.0,
        **SpikingTwin.options,
    }

    def __init__(
        self,
        *args: Any,
        method: SoftmaxMethod = "potential",
        delay: int = 0,
        seed: int = 0,
        scale: float | tuple[float, ...] = 1.0,
        weighting: Weighting = "uniform",
        shift: float | tuple[float, ...] = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.method = check_choice("method", method, get_args(SoftmaxMethod))
        self.delay = check_integer("delay", delay, minimum=0)
        self.seed = check_integer("seed", seed, minimum=0)
        self.scale = _checked("scale", scale)
        self.weighting = check_choice("weighting", weighting, get_args(Weighting))
        self.shift = _checked("shift", shift)
        if self.draws and weighting != "uniform":
            raise ValueError(
                f"`weighting` must be 'uniform' for a method that draws. Received: weighting='{weighting}', "
                f"method='{method}'. Use method='potential'."
            )
        if method == "clock" and not isinstance(self.analog.axis, int):
            raise ValueError(
                f"`axis` must be an integer for method='clock'. Received: axis={self.analog.axis!r}."
            )

    @property
    def draws(self) -> bool:
        """Whether the layer draws random numbers."""
        return self.method != "potential"

    @property
    def output_in_state(self) -> bool:
        """Whether the output of the last step can be read from the state."""
        return not self.draws

    @property
    def analog_dtype(self) -> Any:
        return self.state_dtype

    def start(self, shape: Shape) -> State:
        key = [ops.arange(shape[0], dtype="int32")] if self.draws else []
        return [*_start(shape, self.state_dtype), *key]

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        if not self.draws:
            state = _add(current, state, self.delay, self.weighting)
            return self.read(state), state
        *state, key = state
        potential, steps = _add(current, state, self.delay, self.weighting)
        if self.method == "poisson":
            return self._fires(potential, steps, key), [potential, steps, key]
        drawn = uniform(self.seed, key, steps, ())
        ticks = _beside(potential, ops.logical_and(drawn < _CLOCK_RATE, steps > self.delay))
        axis = self.analog.axis
        winner = ops.one_hot(ops.argmax(potential, axis), potential.shape[axis], axis=axis, dtype="bool")
        potential = ops.where(ticks, ops.zeros_like(potential), potential)
        return ops.logical_and(ticks, winner), [potential, steps, key]

    def several_steps(
        self, current: Tensor, state: State, timesteps: int, constant: bool
    ) -> tuple[Tensor, State]:
        if self.method != "poisson":
            # What a tick of the clock leaves decides the next; and TensorFlow may multiply by reciprocals of
            # several numbers of steps, which rounds otherwise than a division at each.
            return super().several_steps(current, state, timesteps, constant)
        states, last = _add_several(current, state[:2], self.delay, timesteps, constant, self.weighting)
        return self._fires(*states, repeat_time(state[2], timesteps)), [*last, state[2]]

    def _fires(self, potential, steps, key):
        """Return which neurons fire of a Poisson softmax."""
        drawn = uniform(self.seed, key, steps, potential.shape[1:])
        fires = drawn < ops.cast(self.analog(potential), drawn.dtype)
        return ops.logical_and(fires, _beside(potential, steps > self.delay))

    def read(self, state: State) -> Tensor:
        return self.analog(_average(state, self.delay, self.scale, self.weighting, self.shift))

    def rewind(self, state: State) -> State:
        potential, steps, *key = state
        return [potential, steps - 1, *key]

    def get_config(self) -> Config:
        own = {"method": self.method, "delay": self.delay, "seed": self.seed, "scale": self.scale}
        return {**super().get_config(), **own, "weighting": self.weighting, "shift": self.shift}
