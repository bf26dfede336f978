"""How large the integers of a network can become, whatever it gets: proved from its weights."""

import dataclasses
import math

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.channel_affine import rows_of

__all__ = ["check_exact", "exact_steps"]

# Up to where a dtype holds all integers.
_HELD = {"float64": 2**53, "float32": 2**24, "float16": 2**11, "bfloat16": 2**8}
_NOT_HELD = (
    "`weight_bits` needs sums that dtype '{dtype}' holds exactly, up to {held:,}. Received: layer '{name}', "
    "with {what} of up to {size:,.0f} after {steps} time steps. Convert with fewer bits or "
    "time steps, or with dtype='float64'."
)


@dataclasses.dataclass(frozen=True)
class _Bound:
    """How large a value can be: numbers, or arrays over channels.

    Attributes:
        step: What the value is a multiple of, a power of 2.
        at_once: The largest size in a step.
        start, each: The sum of any steps one after the other is at most `start`, and `each` for each of them.
    """

    step: float
    at_once: object
    start: object
    each: object

    def map(self, function):
        """Return the bound with a function of every size."""
        sizes = {name: function(getattr(self, name)) for name in ("at_once", "start", "each")}
        return dataclasses.replace(self, **sizes)


def exact_steps(program):
    """Return for how many time steps all sums of a program of integers are exact; infinity if for any.

    Raises:
        ValueError: If there are larger numbers than the dtype holds in a single step; names the layer.
    """
    held = _HELD[program.dtype.compute_dtype]
    held_by_state = max(held, _HELD["float32"])
    longest, bounds = math.inf, {}
    for node in program.graph.nodes.values():
        is_rounded = isinstance(node, kinds.Activation) or bounds.keys() >= set(node.inputs)
        if isinstance(node, kinds.Input) or not is_rounded:
            # An input, or one that is divided by its unit before it is rounded.
            continue
        bound = bounds[node.name] = _bound_of(node, *(bounds.get(name) for name in node.inputs))
        if np.max(bound.at_once) > held * bound.step:
            _refuse(node, program.dtype, held, "values", np.max(bound.at_once) / bound.step, 1)
        if isinstance(node, (kinds.Spike, kinds.Readout)) or _counts(node):
            given, start = bounds[node.inputs[0]], _start_of(node)
            each = given.each + _correction_of(node)
            steps = _steps_until(held_by_state * given.step, start + given.start, each)
            if steps < program.timesteps:
                size = np.max(start + given.start + each * program.timesteps) / given.step
                _refuse(node, program.dtype, held_by_state, "sums", size, program.timesteps)
            longest = min(longest, steps)
    return longest


def _counts(node):
    return isinstance(node, kinds.Pool) and node.method == "exact"


def _steps_until(limit, start, each):
    """Return after how many steps `start` + `each`·steps, of every channel, is still within a limit."""
    room, each = np.broadcast_arrays(limit - start, each)
    steps = np.where(each > 0, room / np.where(each > 0, each, 1.0), np.where(room < 0, 0.0, np.inf))
    return np.floor(steps.min())


def check_exact(timesteps, longest):
    """Raise a `ValueError` if a network of integers is to run for more time steps than its sums are exact."""
    if longest is not None and timesteps > longest:
        raise ValueError(
            f"`timesteps` of this network of integers must be at most {longest}: up to there its sums are "
            f"proved to be exact. Received: timesteps={timesteps}. Convert with fewer bits, or with "
            "dtype='float64'."
        )


def _refuse(node, dtype, held, what, size, steps):
    name = node.origins[0] if node.origins else node.name
    values = {"dtype": dtype.name, "held": held, "name": name, "what": what, "size": size, "steps": steps}
    raise ValueError(_NOT_HELD.format(**values))


def _start_of(node):
    """Return how large potentials can be beside what neurons get: where they start, and thresholds."""
    if not isinstance(node, kinds.Spike):
        return 0.0
    start = node.neuron.initial_state((1, *node.shape), "float32")[0]
    start = np.abs(keras.ops.convert_to_numpy(start)).astype("float64")
    return start.reshape(-1, node.shape[-1]).max(axis=0) + np.asarray(node.neuron.v_threshold)


def _correction_of(node):
    """Return how much more than their input neurons get at every step, by channel."""
    current = node.neuron.correction("current") if isinstance(node, kinds.Spike) else ()
    return np.abs(current) if len(current) else 0.0


def _by_channel(value, shape):
    """Return the largest of an array of values of each channel."""
    value = np.asarray(value, "float64")
    return np.broadcast_to(value, shape).reshape(-1, shape[-1]).max(axis=0) if value.ndim > 1 else value


def _bound_of(node, *given):
    """Return the bound of a node from those of its inputs."""
    if isinstance(node, kinds.Activation):
        return _Bound(1.0, float(node.levels), 0.0, float(node.levels))
    if isinstance(node, kinds.Spike):
        return _of_neuron(node.neuron)
    if isinstance(node, kinds.Affine):
        return _of_affine(node, given[0])
    if isinstance(node, kinds.ChannelAffine):
        return _of_channel_affine(node, given[0])
    if isinstance(node, kinds.Add):
        sums = {name: sum(getattr(one, name) for one in given) for name in ("at_once", "start", "each")}
        return _Bound(min(one.step for one in given), **sums)
    if isinstance(node, kinds.Concatenate):
        sizes = {
            name: max(np.max(getattr(one, name)) for one in given) for name in ("at_once", "start", "each")
        }
        return _Bound(min(one.step for one in given), **sizes)
    if isinstance(node, kinds.Rearrange):
        return given[0].map(np.max)
    if isinstance(node, kinds.Pool) and node.function == "average":
        return dataclasses.replace(given[0], step=given[0].step / math.prod(node.window))
    return given[0]


def _of_neuron(neuron):
    """Return the bound of the spikes of a neuron."""
    largest, sums = float(np.max(neuron.largest_spike)), [neuron.exact_levels(steps) for steps in (1, 2)]
    if sums[0] is None:
        return _Bound(neuron.unit, largest, 0.0, largest)
    # Spikes of either sign, whose sum is between 0 and the levels.
    each = float(sums[1] - sums[0])
    return _Bound(neuron.unit, largest, sums[0] - each, each)


def _of_affine(node, given):
    weights, channels = np.abs(node.kernel.astype("float64")), _inputs_of(node)

    def added(size):
        return (
            (weights * rows_of(node, np.broadcast_to(size, channels)))
            .reshape(-1, weights.shape[-1])
            .sum(axis=0)
        )

    bound, bias = given.map(added), np.abs(node.bias.astype("float64"))
    return dataclasses.replace(bound, at_once=bound.at_once + bias, each=bound.each + bias)


def _inputs_of(node):
    """Return the number of channels that a linear layer takes."""
    return node.kernel.shape[-2] * node.groups


def _of_channel_affine(node, given):
    scale, shift = (_by_channel(np.abs(x), node.shape) for x in (node.scale, node.shift))
    common = np.gcd.reduce(np.ravel(np.abs(node.scale)).astype("int64")) or 1
    # Averages times the number of values in a window are integers again.
    step = min(given.step * float(common), 1.0)
    bound = given.map(lambda size: size * scale)
    return dataclasses.replace(bound, step=step, at_once=bound.at_once + shift, each=bound.each + shift)
