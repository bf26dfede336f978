"""Looking at the activations of a network on data, in one pass and constant memory.

After every activation of an analog copy of the network an observer counts values in
bins of equal ratio. Only these counts leave the network, and they are integers, so the
result depends neither on the batch size nor on the order of the data.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_snn._data import Batches, rows
from keras_snn._devices import predict_batch
from keras_snn._summary import Summary, Totals
from keras_snn._types import Data
from keras_snn.conversion.without_data import normal_tail
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.digest import digest_of_graph
from keras_snn.graph.graph import Graph
from keras_snn.graph.to_keras import build_analog

__all__ = ["CalibrationPass", "Histogram", "RemoteData", "calibrate", "moments_on"]

_LOWEST_OCTAVE = -40
_OCTAVES = 80
# Of a whole layer; of each channel coarser, for the sake of memory.
_BINS = 128 * _OCTAVES
_BINS_OF_CHANNEL = 32 * _OCTAVES
_ROWS = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """How often activations had which value: those of a layer, or of each of its channels.

    Attributes:
        counts: Integers of shape `(channels, bins)`; zeros of the activation are not counted. One
            channel stands for a whole layer.
        zeros: Numbers of values that were zero, `(channels,)`.
        maximum: The largest values, exactly; in activation units, `(channels,)`.
    """

    counts: np.ndarray
    zeros: np.ndarray
    maximum: np.ndarray

    @classmethod
    def empty(cls, channels=1):
        """Return the histogram of no values."""
        bins = _BINS if channels == 1 else _BINS_OF_CHANNEL
        return cls(np.zeros((channels, bins), "int64"), np.zeros(channels, "int64"), np.zeros(channels))

    @classmethod
    def of_normal(cls, mean, variance, *, per_channel):
        """Return the histogram of the positive parts of normal variables, one per channel.

        It has as many counts as resolve a billionth. As a normal variable has no maximum, that is four
        deviations above the mean, which leaves out one value in 30,000.

        Args:
            mean: Array of shape `(channels,)`.
            variance: Array of that shape.
            per_channel: Whether channels have histograms of their own.
        """
        if not per_channel:
            # Some channels at a time: all of them would be larger than the weights of a dense layer.
            parts = np.array_split(np.stack([mean, variance]), range(_ROWS, len(mean), _ROWS), axis=1)
            pooled = (cls.of_normal(*part, per_channel=True).pooled() for part in parts)
            return functools.reduce(operator.add, pooled)
        deviation = np.sqrt(np.maximum(variance, 0.0))
        # Where there is none, next to nothing beside the largest value.
        largest = np.max(mean + 4 * deviation)
        deviation = np.maximum(deviation, 1e-6 * largest if largest > 0 else 1e-6)
        edges = _upper_edges(_BINS_OF_CHANNEL)
        # Below, values count as zeros: next to the largest ones they are.
        lowest = 2.0**-20 * max(np.max(mean + 4 * deviation), 2.0**-19)
        first = min(np.searchsorted(edges, lowest), len(edges) - 2)
        last = min(np.searchsorted(edges, np.max(mean + 8 * deviation)), len(edges) - 2) + 1
        # Nothing in between if no channel is ever active.
        last = max(first, last)
        above = normal_tail((edges[first : last + 1] - mean[:, None]) / deviation[:, None])
        counts = np.zeros((len(mean), _BINS_OF_CHANNEL), "int64")
        counts[:, first + 1 : last + 1] = np.round((above[:, :-1] - above[:, 1:]) * 2.0**30)
        zeros = np.round((1 - above[:, 0]) * 2.0**30).astype("int64")
        maximum = np.maximum(mean + 4 * deviation, 0.0)
        # What is active beyond four deviations only is never active: no value is above the maximum.
        return cls(np.where(maximum[:, None] > 0, counts, 0), np.where(maximum > 0, zeros, 2**30), maximum)

    def __add__(self, other):
        """Return the histogram of the activations of both."""
        maximum = np.maximum(self.maximum, other.maximum)
        return Histogram(self.counts + other.counts, self.zeros + other.zeros, maximum)

    def pooled(self):
        """Return the histogram of all channels together."""
        sums = (values.sum(axis=0, keepdims=True) for values in (self.counts, self.zeros))
        return Histogram(*sums, self.maximum.max(keepdims=True))

    def used(self):
        """Return `(values, counts)` of the bins that hold any: their middles, and `(channels, bins)`."""
        bins = np.flatnonzero(self.counts.any(axis=0))
        middles = _upper_edges(self.counts.shape[1])[bins] * 2.0 ** (-0.5 / self._bins_per_octave)
        return np.minimum(middles, self.maximum.max()), self.counts[:, bins]

    @property
    def mean(self):
        """The mean of all values, to the width of a bin; 0 of none."""
        values, counts = self.used()
        number = int(self.counts.sum() + self.zeros.sum())
        return float(np.sum(counts * values)) / number if number else 0.0

    @property
    def _bins_per_octave(self):
        return self.counts.shape[1] // _OCTAVES

    def percentile(self, percentile):
        """Return what `percentile` percent of the non-zero activations do not exceed, `(channels,)`.

        These are upper edges of bins, so too large by at most the width of one: 0.54 %, or 2.2 % if
        channels are apart. Never above the maximum.
        """
        ranks = np.cumsum(self.counts, axis=1)
        rank = np.maximum(np.ceil(ranks[:, -1] * (percentile / 100)), 1)
        edges = _upper_edges(self.counts.shape[1])[
            np.minimum((ranks < rank[:, None]).sum(axis=1), len(ranks[0]) - 1)
        ]
        return np.minimum(edges, self.maximum)

    def fraction_above(self, scale):
        """Return the fraction of the non-zero activations above `scale`, to the width of a bin."""
        total = int(self.counts.sum())
        lowest = np.broadcast_to(scale, len(self.counts))[:, None] * 2.0 ** (1 / self._bins_per_octave)
        above = self.counts[_edges(self.counts.shape[1]) >= lowest].sum()
        return int(above) / total if total else 0.0

    def relative_error(self, rounded):
        """Return the relative RMS error of activations that become other values.

        Args:
            rounded: Function of activations `(channels, values)`, which returns the others.
        """
        values, counts = self.used()
        values = np.broadcast_to(values, counts.shape)
        power = np.sum(counts * values**2)
        return float(np.sqrt(np.sum(counts * (values - rounded(values)) ** 2) / power)) if power else 0.0


def _edges(bins):
    """Return the upper edge of every bin, in activation units."""
    return 2.0 ** (_LOWEST_OCTAVE + (np.arange(bins) + 0.5) / (bins // _OCTAVES))


def _upper_edges(bins):
    """Return what no value of a bin exceeds: the last one holds all that are larger."""
    return np.append(_edges(bins)[:-1], np.inf)


class _Observer(keras.layers.Layer):
    """Returns the counts of the values of its input: zeros first, then bin by bin; and the maximum.

    For each of its channels, or of all values if that is one.
    """

    def __init__(self, channels):
        super().__init__()
        self.channels, self.bins = channels, Histogram.empty(channels).counts.shape[1]

    def call(self, inputs):
        values = ops.cast(ops.reshape(inputs, (-1, self.channels)), "float32")
        # NaN compares as no number; as infinity it reaches the maximum.
        values = ops.where(ops.isnan(values), float("inf"), values)
        # Bins end half a step off the powers of two: no rounding of log2 moves those to a neighbour.
        octaves = ops.log2(ops.maximum(values, 2.0**_LOWEST_OCTAVE)) - _LOWEST_OCTAVE
        bins = ops.cast(ops.floor(octaves * (self.bins // _OCTAVES) + 0.5), "int32")
        bins = ops.where(values > 0, 1 + ops.clip(bins, 0, self.bins - 1), 0)
        places = ops.reshape(bins + (1 + self.bins) * ops.arange(self.channels, dtype="int32"), (-1,))
        # JAX cannot compile ops.bincount.
        counts = ops.segment_sum(ops.ones_like(places), places, num_segments=(1 + self.bins) * self.channels)
        # With an axis for the parts of a batch that several devices see. Not `initial=0.0`: on PyTorch Keras
        # leaves that on the CPU where the values are on a graphics card (Keras 3.15; no issue known).
        return {
            "counts": ops.reshape(counts, (1, self.channels, 1 + self.bins)),
            "maximum": ops.maximum(ops.max(values, axis=0), 0.0)[None],
        }

    def compute_output_spec(self, inputs):
        return {
            "counts": keras.KerasTensor((1, self.channels, 1 + self.bins), "int32"),
            "maximum": keras.KerasTensor((1, self.channels), "float32"),
        }


class _Moments(keras.layers.Layer):
    """Returns `(number, mean, deviation)` of each channel of its input, `(1, 3, channels)`."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def call(self, inputs):
        values = ops.cast(ops.reshape(inputs, (-1, self.channels)), "float32")
        number = ops.cast(ops.sum(ops.ones_like(values), axis=0), "float32")
        # The square of 1e20 is no float32.
        largest = ops.maximum(ops.max(ops.abs(values), axis=0), 1e-30)
        parts = values / largest
        return ops.stack([number, largest * ops.mean(parts, axis=0), largest * ops.std(parts, axis=0)])[None]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((1, 3, self.channels), "float32")


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationPass:
    """A pass of calibration over data: which statistics of the activations of a network it collects.

    Attributes:
        kind: `"activations"` for histograms, `"moments"` for mean and variance of the inputs of relus.
        graph: `Graph` of the source network.
        dtype: Dtype or policy to compute in.
        channels: Dict of the number of channels by name of the nodes that have statistics per channel.
        inputs_too: Whether to collect the absolute values of the inputs as well.
        batch_size: Samples per batch of arrays.
    """

    kind: str
    graph: Graph
    dtype: object = None
    channels: dict = dataclasses.field(default_factory=dict)
    inputs_too: bool = False
    batch_size: int = 32

    @functools.cached_property
    def digest(self):
        """A digest, which differs between different networks."""
        return digest_of_graph(self.graph)

    def summarize(self, data: Data, *, verbose: int = 0) -> Summary:
        """Return the `Summary` of some of the data; those of all parts merge.

        Args:
            data: The samples, as for `convert`.
            verbose: Whether to show a progress bar.

        Raises:
            CalibrationError: If the data is empty, of the wrong shape or not finite, or if an
                activation is not finite.
        """
        totals, samples = Totals(), 0
        take = _take_moments if self.kind == "moments" else _take_histogram
        for seen, size in self._seen(data, verbose):
            samples += size
            for name, of_batch in seen.items():
                take(totals, name, of_batch)
        # Maxima are unlike where inputs were not observed.
        settings = {"inputs": self.inputs_too}
        return Summary.of(self.kind, self.digest, settings, samples, totals)

    def _model(self):
        if self.kind == "moments":
            channels = {n.name: n.shape[-1] if n.shape else 1 for n in self.graph.nodes.values()}
            return build_analog(
                self.graph, lambda name: _Moments(channels[name]), dtype=self.dtype, of_inputs=True
            )

        def observer(name):
            return _Observer(self.channels.get(name, 1))

        return build_analog(self.graph, observer, dtype=self.dtype, inputs_too=self.inputs_too)

    def _seen(self, data, verbose):
        """Yield what a model of observers returns for every batch of the data, and its number of samples."""
        graph, model = self.graph, self._model()
        shapes = {node.name: node.shape for node in graph.nodes.values() if isinstance(node, kinds.Input)}
        batches = Batches(
            data,
            graph.inputs,
            shapes,
            batch_size=self.batch_size,
            argument="calibration_data",
            error=CalibrationError,
        )
        progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
        for x, _ in batches:
            yield predict_batch(model, x, sums=True), len(keras.tree.flatten(x)[0])
            if progress:
                progress.add(1)


def _take_histogram(totals, name, of_batch):
    counts, maximum = of_batch["counts"].sum(axis=0, dtype="int64"), of_batch["maximum"].max(axis=0)
    totals.add(f"counts:{name}", counts)
    totals.raise_to(f"largest:{name}", maximum)
    if not np.isfinite(maximum).all():
        raise CalibrationError(
            f"`calibration_data` must give finite activations. Received: {maximum.max()} in "
            f"'{name}'. Check that the data is scaled as for training."
        )


def _take_moments(totals, name, of_batch):
    number, mean, deviation = np.moveaxis(of_batch.astype("float64"), 1, 0)
    sums = np.stack([number, number * mean, number * (deviation**2 + mean**2)]).sum(axis=1)
    totals.add(f"moments:{name}", sums)


class RemoteData(keras.utils.PyDataset):
    """Calibration data on other machines: some samples here, and a function that summarizes all.

    `convert` takes it as calibration data. Scales then follow from all samples; whatever else is chosen on
    the data, which takes some hundred samples at most, is chosen on those given.

    Args:
        samples: Some of the samples, as for `convert`: arrays, or a dict of them.
        summarize: Function of a `CalibrationPass` that returns the merged summaries which the `summarize`
            of that gives of all parts.
        batch_size: Samples in a batch of the given ones.
    """

    def __init__(self, samples: Data, summarize: Callable[[CalibrationPass], Summary], batch_size: int = 32):
        super().__init__()
        self.samples, self.summarize, self.batch_size = samples, summarize, batch_size

    def __len__(self):
        return math.ceil(len(keras.tree.flatten(self.samples)[0]) / self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        return rows(self.samples, start, start + self.batch_size)


def summary_of(calibration, data, verbose=0):
    """Return the `Summary` of a `CalibrationPass` over data, here or on other machines."""
    if isinstance(data, RemoteData):
        return data.summarize(calibration)
    return calibration.summarize(data, verbose=verbose)


def calibrate(graph, data, *, batch_size, verbose, dtype=None, channels=None, inputs_too=False):
    """Return the `Histogram` of every relu of `graph` on `data`, by node name.

    Args:
        graph: A `Graph` before neurons are put in.
        data: Whatever `keras_snn._data.Batches` reads, or `RemoteData`.
        batch_size: Samples per batch of arrays.
        verbose: Whether to show a progress bar.
        dtype: Dtype or policy to compute in.
        channels: Number of channels by name of the nodes that are counted channel by channel.
        inputs_too: Whether to collect the absolute values of the inputs as well.

    Raises:
        CalibrationError: If the data is empty, of the wrong shape or not finite, or if an
            activation is not finite.
    """
    calibration = CalibrationPass("activations", graph, dtype, channels or {}, inputs_too, batch_size)
    summary = summary_of(calibration, data, verbose)
    return {
        name: Histogram(counts[:, 1:], counts[:, 0], summary.maxima[f"largest:{name}"])
        for name, counts in _named(summary, "counts:", graph)
    }


def moments_on(graph, data, *, batch_size, verbose, dtype=None):
    """Return `(mean, variance)` per channel of the input of every relu on `data`, by name of the relu.

    Arguments and errors as of `calibrate`.
    """
    summary = summary_of(CalibrationPass("moments", graph, dtype, batch_size=batch_size), data, verbose)
    found = {}
    for name, (number, first, second) in _named(summary, "moments:", graph):
        mean = first / number
        found[name] = mean, np.maximum(second / number - mean**2, 0.0)
    return found


def _named(summary, prefix, graph):
    """Return names of nodes and sums that have a prefix before them, in the order of the graph."""
    return [(name, summary.sums[prefix + name]) for name in graph.nodes if prefix + name in summary.sums]
