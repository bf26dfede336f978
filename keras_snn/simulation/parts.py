"""What the batches of a simulation give, and all of them together."""

import dataclasses

import keras
import numpy as np

from keras_snn.simulation.decisions import accuracy_over_time
from keras_snn.simulation.memory_check import check_memory, show_bytes
from keras_snn.simulation.result import SimulationResult

__all__ = ["Part", "check_records", "collect", "join", "result_of"]


@dataclasses.dataclass(frozen=True)
class Part:
    """What one batch gave.

    Attributes:
        outputs: Nested arrays `(batch, time, …)`.
        over_time, counts: Dicts of records with and without a time axis, by name.
        labels: Array, or `None`.
        steps: Steps that each sample ran, an array, or `None` if all ran all of them.
    """

    outputs: object
    over_time: dict
    counts: dict
    labels: object
    steps: np.ndarray | None


def check_records(model, record, samples, timesteps, verbose):
    """Raise if records would not fit into memory; show what they take."""
    memory = check_memory(model, record, samples, timesteps)
    if verbose and memory:
        print(f"Recording takes {show_bytes(memory)}")  # noqa: T201 - beside the progress bar


def result_of(model, parts, timesteps):
    """Return the `SimulationResult` of all batches."""
    over_time = join(_as_long([part.outputs for part in parts]))
    records = join(_as_long([part.over_time for part in parts]))
    steps = [part.steps for part in parts if part.steps is not None]
    return SimulationResult(
        outputs=keras.tree.map_structure(lambda a: a[:, -1], over_time),
        outputs_over_time=over_time,
        accuracy_over_time=accuracy_over_time(model, over_time, [part.labels for part in parts]),
        timesteps=model.timesteps if model.is_time_coded else timesteps,
        settling=keras.tree.flatten(over_time)[0].shape[1] - timesteps,
        records={**records, **join([part.counts for part in parts])},
        steps_used=np.concatenate(steps) if steps else None,
    )


def collect(parts):
    """Return one run of all steps, from what a `Runner` yields call by call."""
    over_time, sums = [], None
    for run in parts:
        over_time.append({name: run[name] for name in ("every", "potentials", "observed")})
        more = {name: run[name] for name in ("sums", "added")}
        # Summed right away: memory does not grow with time.
        sums = more if sums is None else keras.tree.map_structure(np.add, sums, more)
    return {**join(over_time, axis=1), **sums}


def join(parts, axis=0):
    """Concatenate nested arrays leaf by leaf."""
    return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves, axis=axis), *parts)


def _as_long(parts):
    """Return nested arrays `(batch, time, …)` that go on as they end, up to the length of the longest."""
    longest = max((leaf.shape[1] for leaf in keras.tree.flatten(parts)), default=0)

    def extended(x):
        widths = [(0, 0), (0, longest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
        return np.pad(x, widths, mode="edge") if x.shape[1] < longest else x

    return keras.tree.map_structure(extended, parts)
