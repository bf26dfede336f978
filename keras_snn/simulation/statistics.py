"""What a simulation of many samples comes to, without holding what grows with them."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import keras
import numpy as np

from keras_snn._files import replacing
from keras_snn._results import PlottedResult, Rows
from keras_snn._summary import Summary, Totals
from keras_snn.simulation.decisions import accuracy_of, count_decisions
from keras_snn.simulation.recording import open_run
from keras_snn.simulation.source import check_spiking, digest_of

__all__ = ["SimulationStatistics", "read_parts", "statistics_of", "summarize_simulation"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SimulationStatistics(PlottedResult):
    """What of a `SimulationResult` does not grow with the number of samples.

    Attributes:
        samples: Number of samples.
        timesteps: Number of steps.
        accuracy_over_time: Share of right decisions after every step, `(timesteps,)`; `None` without labels
            or if the model does not classify.
        firing_rates: Spikes per step of every neuron, mean over the samples, by layer name; empty if spikes
            were not counted.
        mean_timesteps: Mean number of steps of a sample: fewer than `timesteps` with `exit`.
        folder: Folder with what does grow, part by part, for `keras_snn.summaries.read_parts`; or `None`.
    """

    samples: int
    timesteps: int
    accuracy_over_time: np.ndarray | None
    firing_rates: dict[str, np.ndarray]
    mean_timesteps: float
    folder: str | None = None

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        parts = [f"{self.samples:,} samples", f"{self.timesteps} time steps"]
        if self.accuracy_over_time is not None:
            parts.append(f"accuracy {self.accuracy_over_time[-1]:.2%}")
        if self.mean_timesteps < self.timesteps:
            parts.append(f"{self.mean_timesteps:.1f} steps on average")
        return ", ".join(parts)

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: the rate of every layer, if spikes were counted."""
        rows = [(name, f"{rates.mean():.4f}") for name, rates in self.firing_rates.items()]
        return [[("layer", "spikes per neuron and step"), *rows]] if rows else []


def summarize_simulation(
    model,
    x,
    y=None,
    *,
    timesteps=None,
    record=(),
    exit=None,  # noqa: A002 - what the field calls it
    level=None,
    batch_size=32,
    verbose=0,
    folder=None,
    first_row=0,
    identify=True,
):
    """Return the `Summary` of which `statistics_of` makes `SimulationStatistics`.

    Arguments are as of `keras_snn.summaries.simulate`; with `identify` it has the digest of the model.
    """
    check_spiking(model)
    record = (record,) if isinstance(record, str) else tuple(record)
    if folder is None and set(record) - {"spike_counts"}:
        raise ValueError(
            "`record` must be 'spike_counts' alone without a folder, because other records grow with the "
            f"samples. Received: record={list(record)}. Name a folder."
        )
    ending = {"exit": exit, "level": level}
    options = {"timesteps": timesteps, "record": record, "batch_size": batch_size, "verbose": verbose}
    timesteps, run = open_run(model, x, y, whole=False, **options, **ending)
    totals, samples = Totals(), 0
    for part in run:
        size = len(keras.tree.flatten(part.outputs)[0])
        count_decisions(model, totals, part.outputs, part.labels)
        for name, counts in part.counts.get("spike_counts", {}).items():
            totals.add(f"spikes:{name}", np.rint(counts.astype("float64").sum(axis=0)).astype("int64"))
        totals.add("steps", size * timesteps if part.steps is None else part.steps.sum())
        if folder is not None:
            _write(folder, first_row + samples, part)
        samples += size
    settings = {"timesteps": timesteps, "record": list(record), **ending}
    return Summary.of("simulate", digest_of(model) if identify else "", settings, samples, totals)


def statistics_of(model, summary, *, folder=None):
    """Return the `SimulationStatistics` of a summary; `folder` is where its parts are."""
    timesteps, samples = summary.settings["timesteps"], summary.samples
    rates = {
        name.removeprefix("spikes:"): total / (samples * timesteps)
        for name, total in summary.sums.items()
        if name.startswith("spikes:")
    }
    mean = float(summary.sums["steps"] / samples)
    folder = None if folder is None else os.fspath(folder)
    accuracy = accuracy_of(model, summary, samples)
    return SimulationStatistics(samples, timesteps, accuracy, rates, mean, folder)


def _write(folder, row, part):
    """Write outputs and records of a batch whose first sample has this row number."""
    arrays = {"row": np.asarray(row, "int64")}
    # Of several outputs, in the order of the model.
    for i, values in enumerate(keras.tree.flatten(part.outputs)):
        arrays[f"outputs_over_time {i}"] = values
    for records in (part.over_time, part.counts):
        for what, by_layer in records.items():
            arrays.update({f"{what} {name}": values for name, values in by_layer.items()})
    if part.labels is not None:
        arrays.update({f"labels {i}": y for i, y in enumerate(keras.tree.flatten(part.labels))})
    if part.steps is not None:
        arrays["steps_used"] = part.steps
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A part that runs again takes the place of its file.
    with replacing(folder / f"part-{row:020d}.npz") as (file,), file.open("wb") as opened:
        np.savez(opened, **arrays)


def read_parts(folder: str | os.PathLike) -> Iterator[dict[str, np.ndarray]]:
    """Yield what `simulate` wrote into a folder, a dict of arrays for every batch, in the order of the rows.

    Args:
        folder: The folder.

    Yields:
        A dict of arrays of the samples of one batch, `"row"`, the row number of the first;
        `"outputs_over_time 0"` and on, `(batch, timesteps, …)`; what was recorded, such as
        `"spike_counts conv2d"`; `"labels 0"`; and `"steps_used"` if samples may end early.

    Raises:
        ValueError: If there are none.
    """
    paths = sorted(pathlib.Path(folder).glob("part-*.npz"))
    if not paths:
        raise ValueError(
            f"`folder` must hold parts of a simulation. Received: '{folder}' without part-….npz. Simulate "
            "with this folder first."
        )
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            yield {name: file[name] for name in file.files}
