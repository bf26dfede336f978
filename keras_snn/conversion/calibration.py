"""Looking at the activations of a network on data, in one pass and constant memory.

After every activation of an analog copy of the network an observer counts values in
bins of equal ratio. Only these counts leave the network, and they are integers, so the
result depends neither on the batch size nor on the order of the data.
"""

import dataclasses
import functools
import operator

import keras
import numpy as np
from keras import ops

from keras_snn._data import Batches
from keras_snn._devices import predict_batch
from keras_snn.conversion.without_data import normal_tail
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.to_keras import build_analog

__all__ = ["Histogram", "calibrate", "moments_on"]

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


def calibrate(graph, data, *, batch_size, verbose, dtype=None, channels=None, inputs_too=False):
    """Return the `Histogram` of every relu of `graph` on `data`, by node name.

    Args:
        graph: A `Graph` before neurons are put in.
        data: Whatever `keras_snn._data.Batches` reads.
        batch_size: Samples per batch of arrays.
        verbose: Whether to show a progress bar.
        dtype: Dtype or policy to compute in.
        channels: Number of channels by name of the nodes that are counted channel by channel.
        inputs_too: Whether to look at the absolute values of the inputs as well.

    Raises:
        CalibrationError: If the data is empty, of the wrong shape or not finite, or if an
            activation is not finite.
    """
    channels = channels or {}
    model = build_analog(
        graph, lambda name: _Observer(channels.get(name, 1)), dtype=dtype, inputs_too=inputs_too
    )
    histograms = {name: Histogram.empty(channels.get(name, 1)) for name in model.output}
    for seen in _look(model, graph, data, batch_size=batch_size, verbose=verbose):
        for name, of_batch in seen.items():
            counts, maximum = of_batch["counts"].sum(axis=0, dtype="int64"), of_batch["maximum"].max(axis=0)
            more = Histogram(counts[:, 1:], counts[:, 0], maximum.astype("float64"))
            histograms[name] += more
            if not np.isfinite(maximum).all():
                raise CalibrationError(
                    f"`calibration_data` must give finite activations. Received: {maximum.max()} in "
                    f"'{name}'. Check that the data is scaled as for training."
                )
    return histograms


def moments_on(graph, data, *, batch_size, verbose, dtype=None):
    """Return `(mean, variance)` per channel of the input of every relu on `data`, by name of the relu.

    Arguments and errors as of `calibrate`.
    """
    channels = {node.name: node.shape[-1] if node.shape else 1 for node in graph.nodes.values()}
    model = build_analog(graph, lambda name: _Moments(channels[name]), dtype=dtype, of_inputs=True)
    sums = dict.fromkeys(model.output, 0.0)
    for seen in _look(model, graph, data, batch_size=batch_size, verbose=verbose):
        for name, parts in seen.items():
            number, mean, deviation = np.moveaxis(parts.astype("float64"), 1, 0)
            sums[name] += np.stack([number, number * mean, number * (deviation**2 + mean**2)]).sum(axis=1)
    means = {name: (first / number, second / number) for name, (number, first, second) in sums.items()}
    return {name: (mean, np.maximum(square - mean**2, 0.0)) for name, (mean, square) in means.items()}


def _look(model, graph, data, *, batch_size, verbose):
    """Yield what a model of observers returns for every batch of the data."""
    shapes = {node.name: node.shape for node in graph.nodes.values() if isinstance(node, kinds.Input)}
    batches = Batches(
        data,
        graph.inputs,
        shapes,
        batch_size=batch_size,
        argument="calibration_data",
        error=CalibrationError,
    )
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    for x, _ in batches:
        yield predict_batch(model, x, sums=True)
        if progress:
            progress.add(1)
