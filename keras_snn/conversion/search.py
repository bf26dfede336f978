"""Finding the spiking network that costs least among those that lose at most so much."""

import collections.abc
import contextlib
import dataclasses
import logging
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_snn import neurons as neurons_module
from keras_snn._data import Batches
from keras_snn._validation import check_choice, check_number
from keras_snn.conversion.losses import Judge
from keras_snn.conversion.sizes import shapes_of_data
from keras_snn.conversion.trials import Ladder, Trials
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower

__all__ = ["Minimize", "Wish", "check_chosen", "check_unused", "search"]

Minimize = Literal["operations", "timesteps", "energy", "spikes"]
# Which neurons are tried for each. Digits in the cheapest base have TTFS among them where operations count.
_NEURONS = {
    "operations": ("digits", "multi_threshold", "signed"),
    "energy": ("digits", "multi_threshold", "signed"),
    "spikes": ("ttfs", "digits", "multi_threshold"),
    "timesteps": ("multi_threshold", "signed", "digits"),
}
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
    with more levels or time steps the network loses less and costs more. Then scales and corrections are
    varied, where a network nearly loses little enough or may cost less.

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
    trials = Trials(wish, judge, lambda **options: convert(calibration, **options), verbose)
    ladders = [Ladder(networks) for networks in wish.ladders()]
    with _without_advice():
        for ladder in ladders:
            trials.bisect(ladder)
            trials.limit_cost()
        for ladder in ladders:
            trials.vary(ladder)
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
