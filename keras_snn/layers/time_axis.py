"""How the time axis is folded into the batch, and the loop over it.

Tensors of a spiking model have the shape `(batch, time, …)`. A time axis of
length 1 in front of a longer one stands for a value that is constant in time.
What has no memory sees time folded into the batch, `(batch·time, …)`: one operation for all steps. Of what
has, as little as possible runs step by step, since TensorFlow compiles every operation of every step.
"""

import itertools

import keras
from keras import ops

__all__ = [
    "count_steps",
    "differences",
    "fold_as_long",
    "fold_time",
    "repeat_time",
    "run_steps",
    "sum_steps",
    "unfold_time",
]

# JAX compiles 100 unrolled steps for a minute, and their loop for a second. TensorFlow's `ops.scan` copies,
# and PyTorch's is a loop in Python anyway.
_LONGEST_UNROLLED = 8


def fold_time(x):
    """Return `x` of shape `(batch, time, …)` as `(batch·time, …)`."""
    return ops.reshape(x, (-1, *_sizes(x, 2)))


def unfold_time(x, timesteps):
    """Return `x` of shape `(batch·timesteps, …)` as `(batch, timesteps, …)`."""
    return ops.reshape(x, (-1, timesteps, *_sizes(x, 1)))


def _sizes(x, first):
    """Return the sizes of axes from `first` on; tensors only where they are not known."""
    known = tuple(x.shape)[first:]
    # `ops.shape` adds an operation even if all are known.
    return ops.shape(x)[first:] if None in known else known


def fold_as_long(x, timesteps):
    """Return `x` of shape `(batch, timesteps, …)`, or `(batch, 1, …)` if it is constant, folded."""
    return fold_time(x) if x.shape[1] == timesteps else repeat_time(ops.squeeze(x, 1), timesteps)


def repeat_time(x, timesteps):
    """Return `(batch·timesteps, …)` of `x`, `(batch, …)`, which is the same at every step."""
    return x if timesteps == 1 else ops.repeat(x, timesteps, axis=0)


def run_steps(step, current, state, timesteps, *, constant):
    """Return `(outputs, state)` after some steps, as `SpikingLayer.advance`.

    Args:
        step: Function of a state and the current of one step that returns `(state, output)`.
        current: Tensor of shape `(batch·timesteps, …)`, or `(batch, …)` if it is constant.
        state: List of tensors.
        timesteps: Number of steps, a Python integer.
        constant: Whether the current is the same at every step.
    """
    loop = _scan if keras.backend.backend() == "jax" and timesteps > _LONGEST_UNROLLED else _unroll
    return loop(step, current, state, timesteps, constant)


def _unroll(step, current, state, timesteps, constant):
    """Return what `run_steps` does, from one operation for every step."""
    if timesteps == 1:
        # Shapes stay as they are: TensorFlow casts twice where a change of shape follows the cast to spikes.
        state, output = step(state, current)
        return output, state
    currents = [current] * timesteps
    if not constant:
        currents = ops.unstack(unfold_time(current, timesteps), timesteps, axis=1)
    outputs = []
    for one_step in currents:
        state, output = step(state, one_step)
        outputs.append(output)
    return fold_time(ops.stack(outputs, axis=1)), state


def _scan(step, current, state, timesteps, constant):
    """Return what `run_steps` does, from one loop of the backend."""
    if constant:
        state, outputs = ops.scan(lambda state, _: step(state, current), state, length=timesteps)
    else:
        state, outputs = ops.scan(step, state, ops.moveaxis(unfold_time(current, timesteps), 1, 0))
    return fold_time(ops.moveaxis(outputs, 0, 1)), state


def sum_steps(start, x, timesteps, *, constant=False):
    """Return the sums of `start`, `(batch, …)`, and all steps so far.

    They are added step by step, not by `ops.cumsum`, so that rounding does not depend on how many steps run
    at once.

    Args:
        start: The sum before.
        x: What is added: `(batch·timesteps, …)`, or `(batch, …)` if it is constant.
        timesteps: Number of steps.
        constant: Whether the same is added at every step.

    Returns:
        `(sums, last)`: after every step, `(batch·timesteps, …)`, and after the last, `(batch, …)`.
    """

    def step(state, x):
        total = state[0] + x
        return [total], total

    sums, (last,) = run_steps(step, x, [start], timesteps, constant=constant)
    return sums, last


def count_steps(steps, timesteps):
    """Return the number of steps so far after every step and after the last; `steps`, `(batch,)`, before."""
    later = ops.convert_to_tensor(range(1, timesteps + 1), dtype=steps.dtype)
    return ops.reshape(ops.reshape(steps, (-1, 1)) + later, (-1,)), steps + timesteps


def differences(first, x, timesteps):
    """Return what values, `(batch·timesteps, …)`, grow by at every step, and the last of them.

    Args:
        first: The value before, `(batch, …)`.
        x: The value after every step.
        timesteps: Number of steps.
    """
    x = unfold_time(x, timesteps)
    if timesteps > _LONGEST_UNROLLED:
        before = ops.concatenate([ops.expand_dims(first, 1), x[:, :-1]], axis=1)
        return fold_time(x - before), x[:, -1]
    # Of few steps these are fewer operations.
    values = ops.unstack(x, timesteps, axis=1)
    growth = [after - before for before, after in itertools.pairwise([first, *values])]
    return fold_time(ops.stack(growth, axis=1)), values[-1]
