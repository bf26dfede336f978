"""How the time axis is folded into the batch, and the loop over it.

Tensors of a spiking model have the shape `(batch, time, …)`. A time axis of
length 1 in front of a longer one stands for a value that is constant in time.
What has no memory sees time folded into the batch, `(batch·time, …)`.
"""

import keras
from keras import ops

__all__ = ["fold_as_long", "fold_time", "repeat_time", "run_steps", "unfold_time"]

# JAX compiles 100 unrolled steps for a minute, and their loop for a second. TensorFlow's `ops.scan` copies,
# and PyTorch's is a loop in Python anyway.
_LONGEST_UNROLLED = 8


def fold_time(x):
    """Return `x` of shape `(batch, time, …)` as `(batch·time, …)`."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def unfold_time(x, timesteps):
    """Return `x` of shape `(batch·timesteps, …)` as `(batch, timesteps, …)`."""
    return ops.reshape(x, (-1, timesteps, *ops.shape(x)[1:]))


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
