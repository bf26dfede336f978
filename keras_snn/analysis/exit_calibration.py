"""Choosing how sure a network must be for the simulation of a sample to end."""

import dataclasses

import numpy as np

from keras_snn._arrays import as_labels
from keras_snn._results import PlottedResult, Rows
from keras_snn._summary import Summary, Totals
from keras_snn._types import Data
from keras_snn._validation import check_number
from keras_snn.simulation.classes import labels_for
from keras_snn.simulation.decisions import count_decisions, count_equal, way_of
from keras_snn.simulation.early_exit import check_exit, confidence
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.recording import open_run
from keras_snn.simulation.source import check_spiking, digest_of

__all__ = ["ExitCalibration", "calibrate_exit", "exits_of", "summarize_exits"]

# Of the grid of levels: the least and the largest lead, as logarithms, and how many there are in between.
_OCTAVES, _PER_OCTAVE = (-40, 24), 32


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExitCalibration(PlottedResult):
    """What levels of confidence cost and save.

    Attributes:
        level: The chosen one, to give to `simulate(x, exit="confidence", level=…)`.
        accuracy: With it, a fraction.
        mean_timesteps: Mean number of steps of a sample with it.
        full_accuracy: Of all `timesteps` steps.
        timesteps: Number of them.
        curve: Array `(levels, 3)` of level, mean number of steps and accuracy, to plot.
    """

    level: float
    accuracy: float
    mean_timesteps: float
    full_accuracy: float
    timesteps: int
    curve: np.ndarray

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return (
            f"level {self.level:.4g}: accuracy {self.accuracy:.2%} after {self.mean_timesteps:.1f} steps on "
            f"average, {self.full_accuracy:.2%} after all {self.timesteps}"
        )

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: the chosen level beside a run of all steps."""
        return [
            [
                ("", "level", "mean time steps", "accuracy"),
                ("chosen", f"{self.level:.4g}", f"{self.mean_timesteps:.1f}", f"{self.accuracy:.2%}"),
                ("all steps", "", f"{self.timesteps}", f"{self.full_accuracy:.2%}"),
            ]
        ]

    def __str__(self):
        return self.headline


def calibrate_exit(
    model: SpikingModel,
    x: Data,
    y: Data,
    *,
    max_loss: float = 0.001,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
) -> ExitCalibration:
    """Choose the confidence at which samples may leave a simulation early.

    It is the level with the fewest steps whose accuracy is at most `max_loss` below that of all steps. Use
    samples that the network was not trained on, and not those of the test.

    Args:
        model: A `SpikingModel` that classifies.
        x: Samples, as for `simulate`.
        y: Their labels, as for `simulate`.
        max_loss: Accuracy that may be lost, a fraction.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.

    Returns:
        An `ExitCalibration`.

    Raises:
        TypeError, ValueError: If an argument is not what it may be, or the model does not classify.

    Source:
        Li et al. (2023), "SEENN: Towards temporal spiking early-exit neural networks", NeurIPS. What
        confidence is, and whence: `keras_snn.simulation.early_exit.confidence`.
    """
    check_spiking(model)
    check_exit(model, "confidence", 1.0, (), False)
    check_number("max_loss", max_loss)
    # Before the long run.
    y = as_labels(y)
    readings = labels_for(model, y)
    if not readings:
        raise ValueError(
            "`y` must hold the class of every sample, as numbers or one-hot, or 0 and 1 for sigmoids. "
            f"Received: shape {np.shape(y)} of other numbers. Leave out what has no class."
        )
    summary = summarize_exits(
        model, x, y, timesteps=timesteps, batch_size=batch_size, verbose=verbose, identify=False
    )
    return exits_of(model, summary, max_loss=max_loss)


def summarize_exits(model, x, y=None, *, timesteps=None, batch_size=32, verbose=0, identify=True):
    """Return the `Summary` of which `exits_of` makes an `ExitCalibration`.

    For every level of a fixed grid it has how many steps all samples take together, and how many of their
    decisions are right then. A level is m/(1 + m), as confidence is, for 32 leads m per octave from 2⁻⁴⁰ to
    2²⁴. A sample goes at the step at which the largest confidence so far reaches the level, so each step
    adds to the levels between the largest confidence before and after it: what is kept is where that begins
    and ends, integers whose sums over levels are the totals.

    Arguments are as of `calibrate_exit`; `y` may be `None` if `x` is a dataset that has labels, and with
    `identify` the summary has the digest of the model.
    """
    check_spiking(model)
    check_exit(model, "confidence", 1.0, (), False)
    totals, samples = Totals(), 0
    labels = None if y is None else as_labels(y)
    timesteps, run = open_run(
        model, x, timesteps=timesteps, batch_size=batch_size, verbose=verbose, whole=False
    )
    for part in run:
        stop = samples + len(part.outputs)
        _count_exits(model, totals, part.outputs, part.labels if labels is None else labels[samples:stop])
        samples = stop
    if labels is not None and len(labels) != samples:
        raise ValueError(
            f"`y` must hold a label for each of {samples} samples. Received: {len(labels)}. "
            "Give arrays of one length."
        )
    model_of = digest_of(model) if identify else ""
    return Summary.of("calibrate_exit", model_of, {"timesteps": timesteps}, samples, totals)


def _count_exits(model, totals, outputs, labels):
    """Add up, for every level, the steps of a batch and its right decisions; see `summarize_exits`."""
    rule, readings = count_decisions(model, totals, outputs, labels)
    samples, timesteps = outputs.shape[:2]
    largest = np.maximum.accumulate(confidence(model, outputs), axis=1)
    # How many levels are reached after every step; in the end all others are taken to be.
    reached = np.searchsorted(_levels(), largest, side="right")
    reached[:, -1] = len(_levels())
    before = np.pad(reached[:, :-1], ((0, 0), (1, 0)))
    amounts = {"steps": np.broadcast_to(np.arange(1, timesteps + 1), (samples, timesteps))}
    for way, right in readings.items():
        amounts[f"exits:{way}"] = count_equal(rule.decide(outputs, way), right, way)
    for name, amount in amounts.items():
        changes = np.zeros(len(_levels()) + 1, "int64")
        np.add.at(changes, before, amount)
        np.subtract.at(changes, reached, amount)
        totals.add(name, changes)


def _levels():
    """Return the levels of confidence that are tried, in order."""
    leads = 2.0 ** np.arange(*_OCTAVES, 1 / _PER_OCTAVE)
    return leads / (1 + leads)


def exits_of(model, summary, *, max_loss=0.001):
    """Return the `ExitCalibration` of a `Summary` of `summarize_exits`; `max_loss` as of `calibrate_exit`."""
    sums, samples, timesteps = summary.sums, summary.samples, summary.settings["timesteps"]
    way = way_of(model, summary, samples)
    if way is None:
        raise ValueError(
            "`y` must hold the class of every sample, as numbers or one-hot, or 0 and 1 for sigmoids. "
            "Received: other numbers, or none. Leave out what has no class."
        )
    decisions = sums[f"decisions:{way}"]
    steps, right = (np.cumsum(sums[name])[:-1] for name in ("steps", f"exits:{way}"))
    # Of levels that make no difference the largest.
    differ = np.append((np.diff(steps) != 0) | (np.diff(right) != 0), True)
    found = np.stack([_levels(), steps / samples, right / decisions], axis=1)[differ]
    full = float(sums[f"right:{way}"][-1] / decisions)
    curve = np.array([*found, (1.0, timesteps, full)])
    allowed = curve[curve[:, 2] >= full - max_loss]
    level, mean_timesteps, accuracy = allowed[np.argmin(allowed[:, 1])]
    return ExitCalibration(float(level), float(accuracy), float(mean_timesteps), full, timesteps, curve)
