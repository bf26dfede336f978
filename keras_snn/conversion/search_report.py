"""What a search for the cheapest network tried."""

import dataclasses
import textwrap
from typing import Any

from keras_snn._results import PlottedResult, Rows
from keras_snn._table import show_table

__all__ = ["Search", "Trial"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network that was tried.

    Attributes:
        candidate: Its neurons, and what makes them precise.
        loss: What it loses, in percent; `None` if it was not judged.
        upper: What it does not lose more than, with the confidence of the search; or `None`.
        cost: In the unit of the search; `None` if it was not counted.
        outcome: Why it is chosen or not.
    """

    candidate: str
    loss: float | None
    upper: float | None
    cost: float | None
    outcome: str


@dataclasses.dataclass(frozen=True, repr=False)
class Search(PlottedResult):
    """A search for the network that costs least among those that lose at most so much; `print` it.

    Attributes:
        max_loss: What was allowed, in percent.
        measure: What a loss is of: accuracy or agreement, in points, or a relative error.
        minimize: What the cost is: operations with updates, joules or spikes of one sample, or time steps.
        confidence: Of the upper limits.
        calibrated: Number of samples that scales were measured on.
        judged: Number of other samples, on which losses were measured.
        source: Cost of the dense source network; `None` where it has none.
        met: Whether the chosen network loses at most `max_loss`, with that confidence.
        stopped: Why the search ended, as a sentence.
        trials: A `Trial` for each network, in the order in which they were tried.
    """

    max_loss: float
    measure: str
    minimize: str
    confidence: float
    calibrated: int
    judged: int
    source: float | None
    met: bool
    stopped: str
    trials: tuple[Trial, ...]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        chosen = next(trial for trial in self.trials if trial.outcome == "chosen")
        found = f"{chosen.candidate}, of {len(self.trials)} tried, loses {chosen.loss:.3f}"
        return f"{found} ({self.measure}), at most {chosen.upper:.3f}"

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: what was tried."""
        at_most = f"at most ({self.confidence:.0%})"
        header = ("candidate", f"loss of {self.measure}", at_most, self.minimize, "outcome")
        return [[header, *(_row(trial, self.source) for trial in self.trials)]]

    def __str__(self):
        return self.show()

    def show(self, width: int | None = None) -> str:
        """Return the search as text, in lines of at most `width` characters as far as that goes."""
        notes = f"Scales from {self.calibrated} samples, losses on {self.judged} others. {self.stopped}"
        wrapped = textwrap.fill(notes, width or 100)
        return f"{show_table(*self.tables(), right=(1, 2, 3), width=width)}\n\n{wrapped}"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Search":
        """Return the search that `dataclasses.asdict` made a dict of."""
        return cls(**{**config, "trials": tuple(Trial(**trial) for trial in config["trials"])})


def _row(trial, source):
    numbers = ("" if value is None else f"{value:.3f}" for value in (trial.loss, trial.upper))
    cost = "" if trial.cost is None else f"{trial.cost:,.0f}" if trial.cost >= 1000 else f"{trial.cost:.4g}"
    if cost and source:
        cost += f" ({trial.cost / source:.2f})"
    return (trial.candidate, *numbers, cost, trial.outcome)
