"""How many steps one pass through the loop over time handles."""

import dataclasses
import math

import keras
from keras import ops

__all__ = ["ChunkPlan", "computes_on_card", "longest_chunk", "plan_chunks"]

# Measured, for every backend: the longest chunk, and the most values of the largest layer in one. Small
# layers spend their time on calls of operations, of which a long chunk needs fewer; large ones on memory,
# and one step needs no copies along time and leaves its states in the cache. JAX fuses operations, so that
# it gains little; PyTorch compiles nothing and copies anyway, so that calls cost it most.
_CHUNKS = {"tensorflow": (32, 2**19), "jax": (8, 2**19), "torch": (32, 2**22)}
_LONGEST_CHUNK, _VALUES_IN_CHUNK = _CHUNKS.get(keras.backend.backend(), _CHUNKS["tensorflow"])
# Steps that layers with many weights take at once, where the largest layer takes fewer. On TensorFlow only:
# JAX and PyTorch were not measured.
_HEAVY_CHUNK = 4 if keras.backend.backend() == "tensorflow" else 1
# Steps of calls with a state in one pass that TensorFlow may have to compile, and the steps of a pass that
# deep networks keep: so that a first call takes at most twice as long as step by step.
_STEPS_TO_COMPILE, _OF_DEEP = 64, 4
# Of JAX and PyTorch on a graphics card, which wants much to do at every call.
_VALUES_ON_CARD = 2**26


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """How a number of steps is run, chunk by chunk. Results do not depend on it.

    Attributes:
        timesteps: Number of steps.
        chunk: How many one pass through the loop handles; those left over have a pass of their own.
        light: How many calls, from the first on, take only `part` steps at once.
        part: How many.
    """

    timesteps: int
    chunk: int = 1
    light: int = 0
    part: int = 1

    def of(self, timesteps: int) -> "ChunkPlan":
        """Return the plan of another number of steps."""
        return dataclasses.replace(self, timesteps=timesteps, chunk=min(self.chunk, timesteps))

    def step_by_step(self) -> "ChunkPlan":
        """Return the plan of passes of one step, which leave their states."""
        return ChunkPlan(self.timesteps)


def plan_chunks(network, timesteps, batch_size, chunk, *, may_split):
    """Return the `ChunkPlan` of chunks of `chunk` steps, or, for calls with many weights, of more.

    Args:
        network: A `StepNetwork`.
        timesteps: Number of steps.
        batch_size: Samples that run together; `None` if not known.
        chunk: Steps of a chunk.
        may_split: Whether calls with few weights may take fewer steps at once than the others.
    """
    chunk, longer = min(chunk, timesteps), min(_HEAVY_CHUNK, timesteps)
    light = network.light(batch_size) if may_split and batch_size is not None and chunk < longer else 0
    return ChunkPlan(timesteps, longer, light, chunk) if light else ChunkPlan(timesteps, chunk, 0, chunk)


def longest_chunk(network, timesteps, batch_size):
    """Return the steps of the longest chunk at which no layer has too many values in one.

    Their number divides that of all steps, if one does that is over half of what is allowed: steps that are
    left over are compiled once more. Else it is a power of two. It is 1 if the batch size is `None`, not
    known. On TensorFlow networks of many layers take fewer, at least 4, so that their first call does not
    compile for long.
    """
    if batch_size is None:
        return 1
    largest = max((math.prod(layer.value_shape) for layer in network.stateful.values()), default=1)
    longest = _LONGEST_CHUNK
    if keras.backend.backend() == "tensorflow":
        longest = min(longest, max(_STEPS_TO_COMPILE // max(len(network.stateful), 1), _OF_DEEP))
    steps = min(_values_in_chunk() // max(largest * batch_size, 1), longest, timesteps)
    for divisor in range(steps, steps // 2, -1):
        if timesteps % divisor == 0:
            return divisor
    return 2 ** max(steps.bit_length() - 1, 0)


def _values_in_chunk():
    """Return the most values of the largest layer in a chunk, on the device where Keras computes."""
    on_card = keras.backend.backend() != "tensorflow" and computes_on_card()
    return _VALUES_ON_CARD if on_card else _VALUES_IN_CHUNK


def computes_on_card():
    """Return whether Keras computes on a graphics card, or anything else but the processor."""
    if keras.backend.backend() == "torch":
        # Of which Keras lists no devices.
        return ops.zeros(()).device.type != "cpu"
    return not keras.distribution.list_devices()[0].lower().startswith("cpu")
