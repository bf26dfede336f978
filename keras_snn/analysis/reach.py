"""How many outputs the values of a tensor reach: spikes by events and units, and other numbers."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_snn.analysis.contents import CURRENT, NUMBER, SpikeSource
from keras_snn.engines.compiled import Reduction

__all__ = ["EVENTS", "GRADED", "NUMBERS", "ONES", "UNITS", "Reach", "Reached"]

# Columns: events and units of spikes; values that are no spikes; and, of all values, those whose size is 1,
# and the others that are not 0. The spikes of time codes have size 1.
EVENTS, UNITS, NUMBERS, ONES, GRADED = range(5)
# Integers up to it are exact in float32; as sums of spikes of at least so many units.
_EXACT = 2**24
_UNITS = 16


class Reach:
    """Adds up how many outputs the values that are not 0 reach: exactly, although in float32.

    It does so block by block; in each the sum of all is an integer that float32 has.

    Args:
        fan: How many outputs each input reaches, an array of integers.
        codes: What the inputs are, as in `Contents.codes`. Currents, which are added where they are wanted
            anyway, reach nothing; what has another negative code is a number.
        sources: The sources of spikes.
    """

    def __init__(
        self, fan: np.ndarray, codes: np.ndarray | int = NUMBER, sources: Sequence[SpikeSource] = ()
    ):
        codes = np.broadcast_to(codes, fan.shape)
        fan, codes = fan * (codes != CURRENT), np.maximum(codes, -1)
        found = [(code, sources[code] if code >= 0 else None) for code in np.unique(codes).tolist()]
        units = max([_UNITS, *(source.largest for _, source in found if source)])
        together = max(_EXACT // (int(fan.max(initial=1)) * units), 1)
        blocks = max(math.ceil(fan.size / together), 1)
        length = math.ceil(fan.size / blocks)
        self.shape, self.padding = (blocks, length), blocks * length - fan.size
        self.parts = []
        for code, source in found:
            weights = np.pad((fan * (codes == code)).ravel(), (0, self.padding)).reshape(self.shape)
            self.parts.append((source, weights.astype("float32")))

    def __call__(self, x, *, leading: int):
        """Return the sums of all columns, `(*leading axes, blocks, columns)`.

        Args:
            x: Values, with the shape of `fan` after some leading axes.
            leading: How many.
        """
        shape = (-1, *x.shape[1:leading])
        size = ops.reshape(ops.abs(ops.cast(x, "float32")), (*shape, math.prod(x.shape[leading:])))
        if self.padding:
            size = ops.pad(size, [*[(0, 0)] * leading, (0, self.padding)])
        size = ops.reshape(size, (*shape, *self.shape))
        columns = [_sums(size, source, weights) for source, weights in self.parts]
        return sum(columns[1:], columns[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Reached(Reduction):
    """Counts, at every step, how many outputs the values of a call reach.

    Attributes:
        reach: The `Reach` of its values.
    """

    reach: Reach

    def of(self, values):
        """Return the sums of all columns, `(batch, time, blocks, columns)`."""
        return self.reach(values, leading=2)


def _sums(size, source, weights):
    """Return the sums of all columns of the values of one source, by block."""

    def reached(y):
        return ops.sum(ops.multiply(ops.cast(y, "float32"), weights), axis=-1)

    if source is not None and source.is_plain:
        spikes = reached(size)
        none = ops.zeros_like(spikes)
        return ops.stack([spikes, spikes, none, spikes, none], axis=-1)
    ones = reached(ops.equal(size, 1.0))
    graded = reached(ops.logical_and(ops.not_equal(size, 0.0), ops.not_equal(size, 1.0)))
    none = ops.zeros_like(ones)
    if source is None:
        return ops.stack([none, none, ones + graded, ones, graded], axis=-1)
    units = size / source.unit
    whole = ops.round(units)
    if source.is_input:
        is_spike = ops.equal(units, whole)
        whole = ops.where(is_spike, units, ops.zeros_like(units))
        numbers = reached(ops.logical_not(is_spike))
    else:
        numbers = none
    events = reached(source.events_of(whole))
    if source.is_time_code:
        ones, graded = events, none
    return ops.stack([events, reached(whole), numbers, ones, graded], axis=-1)
