"""Looking at the activations of a network on data, in one pass and constant memory.

Behind every activation of an analog copy of the network an observer counts values in
bins of equal ratio. Only these counts leave the network, and they are integers, so the
result depends neither on the batch size nor on the order of the data.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_snn._data import Batches
from keras_snn._execution import predict_batch
from keras_snn.conversion.building import build_analog
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds

__all__ = ["Histogram", "calibrate"]

_BINS_PER_OCTAVE = 128
_LOWEST_OCTAVE = -40
_BINS = 80 * _BINS_PER_OCTAVE


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """How often an activation had which value.

    Attributes:
        counts: Integers of shape `(bins,)`; zeros of the activation are not counted.
        zeros: Number of values that were zero.
        maximum: The largest value, exactly; in activation units.
    """

    counts: np.ndarray
    zeros: int
    maximum: float

    def __add__(self, other):
        """Return the histogram of the activations of both."""
        maximum = max(self.maximum, other.maximum)
        return Histogram(self.counts + other.counts, self.zeros + other.zeros, maximum)

    @staticmethod
    def upper_edges():
        """Return the upper edge of every bin, in activation units; each is 0.54 % above the one before."""
        return 2.0 ** (_LOWEST_OCTAVE + (np.arange(_BINS) + 0.5) / _BINS_PER_OCTAVE)

    def percentile(self, percentile):
        """Return the value that `percentile` percent of the non-zero activations do not exceed.

        It is the upper edge of a bin, so at most 0.54 % too large, and never above the maximum.
        """
        ranks = np.cumsum(self.counts)
        rank = np.ceil(ranks[-1] * (percentile / 100))
        return float(min(self.upper_edges()[np.searchsorted(ranks, max(rank, 1))], self.maximum))

    def fraction_above(self, scale):
        """Return the fraction of the non-zero activations above `scale`, to the width of a bin."""
        total = int(self.counts.sum())
        above = int(self.counts[self.upper_edges() >= scale * 2.0 ** (1 / _BINS_PER_OCTAVE)].sum())
        return above / total if total else 0.0

    def rate_error(self, scale, timesteps):
        """Return the relative RMS error of activations rounded and clipped to spike counts.

        This is what one layer of ideal neurons loses: activation a becomes
        λ·clip(round(a·T/λ), 0, T)/T.
        """
        values = np.minimum(self.upper_edges() * 2.0 ** (-0.5 / _BINS_PER_OCTAVE), self.maximum)
        rates = np.clip(np.floor(values * timesteps / scale + 0.5), 0, timesteps) * (scale / timesteps)
        power = np.sum(self.counts * values**2)
        return float(np.sqrt(np.sum(self.counts * (values - rates) ** 2) / power)) if power else 0.0


class _Observer(keras.layers.Layer):
    """Returns the counts of the values of its input: zeros first, then bin by bin; and the maximum."""

    def call(self, inputs):
        values = ops.cast(ops.reshape(inputs, (-1,)), "float32")
        # NaN compares as no number; as infinity it reaches the maximum.
        values = ops.where(ops.isnan(values), float("inf"), values)
        # Bins end half a step off the powers of two: no rounding of log2 moves those to a neighbour.
        octaves = ops.log2(ops.maximum(values, 2.0**_LOWEST_OCTAVE)) - _LOWEST_OCTAVE
        bins = ops.cast(ops.floor(octaves * _BINS_PER_OCTAVE + 0.5), "int32")
        bins = ops.where(values > 0, 1 + ops.clip(bins, 0, _BINS - 1), 0)
        # JAX cannot compile ops.bincount.
        counts = ops.segment_sum(ops.ones_like(bins), bins, num_segments=_BINS + 1)
        # With an axis for the parts of a batch that several devices see.
        return {"counts": counts[None], "maximum": ops.max(values, initial=0.0)[None]}

    def compute_output_spec(self, inputs):
        return {
            "counts": keras.KerasTensor((1, _BINS + 1), "int32"),
            "maximum": keras.KerasTensor((1,), "float32"),
        }


def calibrate(graph, data, *, batch_size, verbose, dtype=None, inputs_too=False):
    """Return the `Histogram` of every relu of `graph` on `data`, by node name.

    Args:
        graph: A `Graph` before neurons are put in.
        data: Whatever `keras_snn._data.Batches` reads.
        batch_size: Samples per batch of arrays.
        verbose: Whether to show a progress bar.
        dtype: Dtype or policy to compute in.
        inputs_too: Whether to look at the absolute values of the inputs as well.

    Raises:
        CalibrationError: If the data is empty, of the wrong shape or not finite, or if an
            activation is not finite.
    """
    shapes = {node.name: node.shape for node in graph.nodes.values() if isinstance(node, kinds.Input)}
    batches = Batches(
        data,
        graph.inputs,
        shapes,
        batch_size=batch_size,
        argument="calibration_data",
        error=CalibrationError,
    )
    model = build_analog(graph, _Observer, dtype=dtype, inputs_too=inputs_too)
    counts = {name: np.zeros(_BINS + 1, "int64") for name in model.output}
    maxima = dict.fromkeys(model.output, 0.0)
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    for x, _ in batches:
        for name, seen in predict_batch(model, x).items():
            counts[name] += seen["counts"].sum(axis=0)
            maximum = float(seen["maximum"].max())
            maxima[name] = max(maxima[name], maximum)
            if not np.isfinite(maximum):
                raise CalibrationError(
                    f"`calibration_data` must give finite activations. Received: {maximum} in "
                    f"'{name}'. Check that the data is scaled as for training."
                )
        if progress:
            progress.add(1)
    return {name: Histogram(counts[name][1:], int(counts[name][0]), maxima[name]) for name in counts}
