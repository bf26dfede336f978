"""Adding up what spikes reach: the operations of sums."""

import dataclasses

import numpy as np

from keras_snn.engines.events import maps
from keras_snn.engines.events.operations import BLOCK, LANES
from keras_snn.engines.events.tables import SLACK, Tables, padded
from keras_snn.engines.events.values import Signal, Value

__all__ = ["Sums"]


class Sums(Tables):
    """Tables to which the operations that compute a value can be added."""

    def accumulate(self, value, target, after=0):
        """Add a value to the numbers from `target` on."""
        signal = Signal(value.shape, -1, target)
        bias = self.nothing
        if value.shift is not None:
            shift = value.shift.reshape(signal.places, signal.channels)
            is_even = bool(np.all(shift == shift[:1]))
            source = self.add_weights(padded(shift[:1] if is_even else shift))
            if is_even and value.products:
                bias = source
            else:
                fields = (signal.places, signal.width, source, 0 if is_even else signal.width, False)
                self.operation("add_vector", target, *fields, after=after)
        for product in value.products:
            self._product(product, target, signal, bias, after)
            bias = self.nothing
        for part in value.parts:
            self._part(part, value.shape, target, signal, after)

    def _product(self, product, target, signal, bias, after):
        node, taken = product.node, product.value
        channels, kernel = product.shape[-1], node.kernel
        if node.transposed:
            kernel = kernel[(slice(None, None, -1),) * len(node.window)]
        factors = maps.factors_of_channels(taken.parts, product.shape)
        length = kernel.shape[-1] // node.groups
        if node.groups == 1:
            rows = kernel.reshape(-1, channels, length)
            step = min(signal.width, BLOCK)
        else:
            # Of each channel the part of the kernel that reaches its own group.
            each = channels // node.groups
            rows = kernel.reshape(-1, each, node.groups, length).transpose(0, 2, 1, 3)
            rows, step = rows.reshape(-1, channels, length), 1
        if factors is not None:
            rows = rows * factors[:, None].astype("float32")
        row = product.shape[-2] if node.window else 1
        rising = _Rising(row, channels * step, step)
        has_values = self._list(taken, product.shape, factors, rising, after)
        runs = maps.runs_of(node, product.shape)
        shared = (target, signal.places, signal.width, runs.shape[1], self.add_table(runs))
        if node.groups == 1:
            rows = np.pad(rows, ((0, 0), (0, 0), (0, -length % step)))
            blocks = rows.reshape(*rows.shape[:2], -1, step).transpose(2, 0, 1, 3)
            fields = (*shared, self.add_weights(blocks), channels * step, bias, has_values, blocks[0].size)
            self.operation("add_rows", *fields, after=after)
        else:
            fields = (*shared, self.add_weights(rows), channels, bias, has_values, length, each)
            self.operation("add_groups", *fields, after=after)

    def _list(self, value, shape, factors, rising, after):
        """List the spikes of a value, each by where its row of weights is; return whether they have values.

        Args:
            value: A `Value` of parts.
            shape: Its shape.
            factors: By channel, if the weights have them.
            rising: A `_Rising`: where rows are.
            after: The first step at which to do it.
        """
        places = int(np.prod(shape[:-1], dtype="int64"))
        spans = [maps.spans_of(part, shape) for part in value.parts] if factors is not None else [None]
        if all(span is not None for span in spans):
            entries = [np.zeros((0, 5), "int64")]
            for part, span in zip(value.parts, spans, strict=True):
                place, source, channel = span.T
                entries.append(_entries(part.signal, place, source, rising.of(place, channel)))
            has_values = any(part.signal.value >= 0 for part in value.parts)
            size = sum(
                len(span) * part.signal.channels for part, span in zip(value.parts, spans, strict=True)
            )
            table, _ = maps.by_place(np.concatenate(entries), places)
            self.operation("list_places", places, self.add_table(table), rising.step, has_values, after=after)
        else:
            size = self._list_values(value, shape, rising, after, with_factors=factors is None)
            has_values = True
        self.places, self.events = max(self.places, places + 1), max(self.events, size)
        return has_values

    def _list_values(self, value, shape, rising, after, *, with_factors):
        """List the spikes of a value one by one; return the most that there can be."""
        places = int(np.prod(shape[:-1], dtype="int64"))
        entries, factors = [np.zeros((0, 5), "int64")], [np.zeros(0)]
        for part in value.parts:
            found, of_part = maps.elements_of(part, shape)
            place, channel, source, of_signal = found.T
            lines = _entries(part.signal, place, source, rising.of(place, channel))
            lines[:, 1] += of_signal // LANES
            lines[:, 2] = of_signal % LANES
            if part.signal.value >= 0:
                lines[:, 4] += of_signal
            entries.append(lines)
            factors.append(of_part if with_factors else np.ones(len(of_part)))
        table, order = maps.by_place(np.concatenate(entries), places)
        fields = (places, self.add_table(table), self.add_weights(np.concatenate(factors)[order]))
        self.operation("list_values", *fields, after=after)
        return len(order)

    def _part(self, part, shape, target, signal, after):
        """Add a part to the numbers from `target` on."""
        factors, span = maps.factors_of_channels([part], shape), maps.spans_of(part, shape)
        if factors is not None and span is not None:
            place, source, channel = span.T
            entries = _entries(part.signal, place, source, place * signal.width + channel)
            first = self.add_table(maps.by_place(entries, signal.places)[0])
            weights = self.add_weights(np.pad(factors, (0, SLACK)))
            self.operation("add_places", signal.places, first, target, signal.width, weights, after=after)
            return
        alone, rising = Value(shape, (part,)), _Rising(signal.places, signal.width, 1)
        size = self._list_values(alone, shape, rising, after, with_factors=True)
        self.places, self.events = max(self.places, signal.places + 1), max(self.events, size)
        self.operation("add_values", target, signal.places, after=after)


@dataclasses.dataclass(frozen=True)
class _Rising:
    """Where what belongs to a channel of a place is.

    Attributes:
        row: How many places there are along the last axis.
        of_place, step: What one more place along it, and one more channel, add.
    """

    row: int
    of_place: int
    step: int

    def of(self, place, channel):
        """Return where it is, of arrays of places and channels."""
        return place % self.row * self.of_place + channel * self.step


def _entries(signal, place, source, base):
    """Return entries of a table: place, first word, number of words, base, and where numbers are or −1."""
    words = signal.width // LANES
    value = signal.value + source * signal.width if signal.value >= 0 else np.full(len(source), -1)
    return np.stack([place, signal.word + source * words, np.full(len(source), words), base, value], axis=1)
