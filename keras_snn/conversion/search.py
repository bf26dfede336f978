"""Finding the spiking network that costs least among those that lose at most so much."""

import collections.abc
import contextlib
import dataclasses
import logging
import warnings
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_snn import neurons as neurons_module
from keras_snn._data import Batches
from keras_snn._validation import check_choice, check_number
from keras_snn.analysis.counting import count_operations
from keras_snn.analysis.updates import latency_of
from keras_snn.conversion.losses import CONFIDENCE, Judge
from keras_snn.conversion.search_report import Search, Trial
from keras_snn.conversion.sizes import shapes_of_data
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.simulation.source import program_of

__all__ = ["Minimize", "Wish", "check_chosen", "check_unused", "search"]

Minimize = Literal["operations", "timesteps", "energy", "spikes"]
# Which neurons are tried for each. Digits in the cheapest base have TTFS among them where operations count.
_NEURONS = {
    "operations": ("digits", "multi_threshold", "signed"),
    "energy": ("digits", "multi_threshold", "signed"),
    "spikes": ("ttfs", "digits", "multi_threshold"),
    "timesteps": ("multi_threshold", "signed", "digits"),
}
# Least squares for every channel lose least on every network of the benchmarks.
_OPTIONS = {"normalization": "mse", "per_channel": True, "bias_correction": False}
# Options that are chosen, with what they are where they are not given.
_CHOSEN = {
    "preset": "default",
    "timesteps": None,
    "neuron": None,
    "normalization": None,
    "percentile": None,
    "per_channel": None,
    "bias_correction": None,
    "readout_delay": 0,
    "readout_weighting": None,
}
# Fewer do not show what is lost.
_FEWEST = 100
# Samples on which operations are counted.
_COUNTED = 32
# The least share of the cost of a network of one more step, of that of a network of one step.
_SHARE_OF_STEPS = 0.6


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a user may lose and wants to have little of; see `convert`.

    Args:
        max_loss: In percent, above 0.
        minimize: One of `Minimize`.
        neurons: Names of neurons, or neurons, to choose among; `None` for all that fit.

    Raises:
        TypeError, ValueError: If an argument is not what it may be.
    """

    max_loss: float
    minimize: Minimize = "operations"
    neurons: Any = None

    def __post_init__(self):
        check_number("max_loss", self.max_loss, above=0, at_most=100, hint="It is in percent.")
        check_choice("minimize", self.minimize, get_args(Minimize))
        if self.neurons is None:
            return
        is_list = isinstance(self.neurons, collections.abc.Iterable) and not isinstance(self.neurons, str)
        if not is_list or not tuple(self.neurons):
            raise ValueError(
                "`neurons` must be some names of neurons, or neurons. Received: neurons="
                f"{self.neurons!r}. Write neurons=('if',)."
            )
        object.__setattr__(self, "neurons", tuple(self.neurons))

    def ladders(self):
        """Return, for each of the neurons, a list of `(neuron, timesteps)`, the coarsest first."""
        return [_ladder(given) for given in self.kinds]

    @property
    def kinds(self):
        """The neurons to choose among, as they are given."""
        return self.neurons or _NEURONS[self.minimize]


def check_unused(wish):
    """Raise a `ValueError` if an argument of `convert` is given that only `max_loss` uses."""
    unused = {"y": None, "minimize": "operations", "neurons": None}
    for name, default in unused.items():
        if wish[name] is not default and not (isinstance(default, str) and wish[name] == default):
            raise ValueError(
                f"`{name}` needs max_loss, which chooses the network. Received: {name} without it. Give "
                "max_loss, such as 0.1 points, or leave it out."
            )


def check_chosen(data, given):
    """Raise a `ValueError` if there is no data, or `convert` is given what `max_loss` chooses.

    Args:
        data: Calibration data, or `None`.
        given: Options by name, as they were given.
    """
    if data is None:
        raise ValueError(
            "`max_loss` is measured on `calibration_data`. Received: no data. Give some thousand samples."
        )
    for name, default in _CHOSEN.items():
        if given[name] != default:
            raise ValueError(
                f"`{name}` is chosen by max_loss. Received: {name}={given[name]!r}. Leave one of "
                "them out; neurons=… limits the choice."
            )


def _ladder(given):
    neuron = neurons_module.get(given)
    if neuron.is_time_code and not isinstance(given, str):
        # Its levels are the user's.
        return [(neuron, None)]
    return list(neuron.precisions())


def search(model, data, y, wish, convert, *, batch_size, verbose):
    """Return the spiking model that costs least among those that lose at most `wish.max_loss`.

    Every second sample calibrates, the others judge. For each kind of neuron precisions are bisected, since
    with more levels or time steps the network loses less and costs more.

    Args:
        model: The source network.
        data: Samples, as calibration data.
        y: Labels of arrays, or `None`.
        wish: A `Wish`.
        convert: Function of calibration data and options, which returns a spiking model.
        batch_size: Samples that run together.
        verbose: 0 shows no progress bar.

    Raises:
        ValueError: If no candidate can be converted so; the error of the last one.
        CalibrationError: If there are too few samples to judge.
    """
    x, labels = _samples(model, data, y, batch_size)
    calibration, judged = (_every_second(x, first) for first in (0, 1))
    labels = None if labels is None else keras.tree.map_structure(lambda a: a[1::2], labels)
    judge = Judge(model, judged, labels, batch_size)
    trials = _Trials(wish, judge, lambda **options: convert(calibration, **options), verbose)
    with _without_advice():
        for ladder in wish.ladders():
            trials.bisect(ladder)
            trials.limit_cost()
    return trials.result(len(keras.tree.flatten(calibration)[0]))


@contextlib.contextmanager
def _without_advice():
    """Keep TensorFlow from advising against compiling often: every candidate is a model of its own."""
    logger = logging.getLogger("tensorflow")

    def other(record):
        return "retracing" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _samples(model, data, y, batch_size):
    """Return arrays of all samples, nested as the model takes them, and of their labels, or `None`."""
    graph = lower(model, input_shapes=shapes_of_data(model, data), nonspiking="allow")
    shapes = {node.name: node.shape for node in graph.nodes.values() if isinstance(node, kinds.Input)}
    given = data if y is None else (data, y)
    batches = list(
        Batches(
            given,
            graph.inputs,
            shapes,
            batch_size=batch_size,
            argument="calibration_data",
            error=CalibrationError,
        )
    )

    def joined(parts):
        return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)

    x = joined([of_batch for of_batch, _ in batches])
    samples = len(keras.tree.flatten(x)[0])
    if samples < 2 * _FEWEST:
        raise CalibrationError(
            f"`calibration_data` must hold at least {2 * _FEWEST} samples with max_loss, half of which "
            f"judge. Received: {samples}. Give some thousand."
        )
    labels = [of_batch for _, of_batch in batches]
    return x, None if any(part is None for part in labels) else joined(labels)


def _every_second(arrays, first):
    return keras.tree.map_structure(lambda array: array[first::2], arrays)


class _Trials:
    """Tries candidates, and keeps the best."""

    def __init__(self, wish, judge, convert, verbose):
        self.wish, self.judge, self.convert = wish, judge, convert
        self.trials, self.error = [], None
        # Of those that lose little enough the cheapest; and of all the one that loses least.
        self.best, self.closest = None, None
        self.source, self.measure = None, ""
        # Cost that a network must stay below to be tried further, where it is known.
        self.limit = None
        self.progress = keras.utils.Progbar(None, unit_name="candidate") if verbose else None

    def bisect(self, ladder):
        """Look for the coarsest network of a ladder that loses little enough, while it is the cheapest."""
        low, high = 0, len(ladder)
        # Costs grow along the ladder: if the first one costs more than the best, all do.
        from_first = self.limit is not None
        place = 0 if from_first else (len(ladder) - 1) // 2
        while low < high:
            outcome, cost = self._try(*ladder[place])
            if outcome == "impossible":
                return
            low, high = (place + 1, high) if outcome == "imprecise" else (low, place)
            if self.limit is not None and cost is not None:
                high = min(high, self._affordable(ladder, place, cost))
            place = low if from_first else (low + high) // 2

    def _affordable(self, ladder, place, cost):
        """Return how many networks of a ladder may cost less than the limit, given the cost of one."""
        steps = [timesteps for _, timesteps in ladder]
        if None in steps:
            return len(ladder)
        # Some of the cost does not depend on the number of steps.
        return sum(cost * _SHARE_OF_STEPS * n / steps[place] < self.limit for n in steps)

    def limit_cost(self):
        """Leave out from now on what costs more than the best; or, if all neurons may be, than the source.

        Time steps without end would be more precise, and of no use.
        """
        if self.best is not None:
            self.limit = self.best[1]
        elif self.wish.neurons is None and self.closest is not None:
            self._cost(self.closest[0])
            self.limit = self.source

    def _try(self, neuron, timesteps):
        """Try one network.

        Returns:
            `(outcome, cost)`: `"impossible"`, `"costly"`, `"imprecise"` or `"good"`, and the cost, if it was
            counted.
        """
        label = _label(neuron, timesteps)
        try:
            with warnings.catch_warnings():
                # Of silent layers: once, of the chosen one.
                warnings.simplefilter("ignore")
                snn = self.convert(neuron=neuron, timesteps=timesteps, **_OPTIONS)
        except ValueError as error:
            self.error = error
            self._add(label, None, None, f"cannot be: {str(error).split(' Received')[0]}")
            return "impossible", None
        # To count takes longer than to judge; but where there is a limit, most cost too much.
        cost = None if self.limit is None else self._cost(snn)
        if cost is not None and cost >= self.limit:
            self._add(label, None, cost, "costs more")
            return "costly", cost
        self.measure = self.measure or self.judge.measures(snn)
        loss = self.judge.loss_of(snn)
        if self.closest is None or loss.upper < self.closest[1].upper:
            self.closest = snn, loss, len(self.trials)
        if loss.upper > self.wish.max_loss:
            self._add(label, loss, cost, "may lose more")
            return "imprecise", cost
        cost = self._cost(snn) if cost is None else cost
        self.best = (snn, loss, len(self.trials)), cost
        if self.limit is not None:
            self.limit = cost
        self._add(label, loss, cost, "")
        return "good", cost

    def _cost(self, snn):
        if self.wish.minimize == "timesteps":
            return float(latency_of(program_of(snn)))
        counts = count_operations(snn, keras.tree.map_structure(lambda a: a[:_COUNTED], self.judge.x))
        if self.wish.minimize == "energy":
            energy = counts.energy()
            self.source = energy.ann
            return energy.snn
        if self.wish.minimize == "spikes":
            return float(sum(layer.events for layer in counts.neurons))
        self.source = float(counts.ann_operations)
        return counts.operations_with_updates

    def _add(self, label, loss, cost, outcome):
        mean, upper = (None, None) if loss is None else (loss.mean, loss.upper)
        self.trials.append(Trial(label, mean, upper, cost, outcome))
        if self.progress is not None:
            self.progress.add(1)

    def result(self, calibrated):
        """Return the chosen model, with the `Search` in its report.

        Args:
            calibrated: Number of samples that calibrated.
        """
        chosen = self.closest if self.best is None else self.best[0]
        if chosen is None:
            raise self.error
        if self.progress is not None:
            self.progress.update(len(self.trials), finalize=True)
        snn, loss, place = chosen
        self.trials[place] = dataclasses.replace(self.trials[place], outcome="chosen")
        judged = len(keras.tree.flatten(self.judge.x)[0])
        found = Search(
            max_loss=self.wish.max_loss,
            measure=self.measure,
            minimize=self.wish.minimize,
            confidence=CONFIDENCE,
            calibrated=calibrated,
            judged=judged,
            source=self.source,
            met=self.best is not None,
            stopped=self._why(loss, judged),
            trials=tuple(self.trials),
        )
        if not found.met:
            warnings.warn(found.stopped, stacklevel=5)
        snn.conversion_report = dataclasses.replace(snn.conversion_report, search=found)
        return snn

    def _why(self, loss, judged):
        if self.best is not None:
            return (
                "Of those that lose little enough it is the cheapest: coarser ones may lose more, finer ones "
                "cost more."
            )
        return (
            f"No candidate loses at most {self.wish.max_loss:g} of {self.measure} with {CONFIDENCE:.0%} "
            f"confidence, on {judged} samples: the closest loses {loss.mean:.3f}, and at most "
            f"{loss.upper:.3f}. Allow more, or give more samples."
        )


def _label(neuron, timesteps):
    name = neuron.alias or type(neuron).__name__
    if timesteps is not None:
        return f"{name}, {timesteps} step{'s' * (timesteps > 1)}"
    return f"{name}, {neuron.levels} levels"
