"""Choosing how sure a network must be for the simulation of a sample to end."""

import dataclasses

import numpy as np

from keras_snn._arrays import as_labels
from keras_snn._results import PlottedResult, Rows
from keras_snn._types import Data
from keras_snn._validation import check_number
from keras_snn.simulation.classes import deciding, labels_for, share_of_equal
from keras_snn.simulation.early_exit import check_exit, confidence
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import check_spiking

__all__ = ["ExitCalibration", "calibrate_exit"]

# Levels that are tried, as quantiles of the confidences seen.
_LEVELS = 400


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
    run = model.simulate(x, timesteps=timesteps, batch_size=batch_size, verbose=verbose)
    ((way, labels), *_), rule = readings.items(), deciding(model)
    if len(labels) != len(run.outputs):
        raise ValueError(
            f"`y` must hold a label for each of {len(run.outputs)} samples. Received: {len(labels)}. "
            "Give arrays of one length."
        )
    right = share_of_equal(rule.decide(run.outputs_over_time, way), labels, way)
    sure = confidence(model, run.outputs_over_time)
    samples = np.arange(len(right))
    rows = []
    for level in np.unique(np.quantile(sure, np.linspace(0, 1, _LEVELS), method="lower")):
        steps = _first(sure >= level)
        rows.append((level, steps.mean(), right[samples, steps - 1].mean()))
    curve = np.array([*rows, (1.0, run.timesteps, right[:, -1].mean())])
    allowed = curve[curve[:, 2] >= right[:, -1].mean() - max_loss]
    level, mean_timesteps, accuracy = allowed[np.argmin(allowed[:, 1])]
    full = float(right[:, -1].mean())
    return ExitCalibration(float(level), float(accuracy), float(mean_timesteps), full, run.timesteps, curve)


def _first(reached):
    """Return the number of the first step that is true of `(samples, timesteps)`; the last if none is."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1), reached.shape[1] - 1) + 1
