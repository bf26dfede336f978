"""Adding up what spikes reach: the operations of sums."""

import dataclasses

import numpy as np

from keras_snn.engines.events import maps
from keras_snn.engines.events.operations import BLOCK, LANES, OF_STEP
from keras_snn.engines.events.tables import SLACK, Tables, are_small_integers, padded
from keras_snn.engines.events.values import Signal, Value

__all__ = ["Sums"]

# As many spikes of a run of places as are few enough to join runs, if all neurons fire.
_SHORT = 256
# The largest sum of int16.
_WHOLE = 2**15 - 1


class Sums(Tables):
    """Tables to which the operations that compute a value can be added.

    Attributes:
        of_integers: Whether all sums are of integers that are proved to be within 2²⁴.
    """

    of_integers = False

    def accumulate(self, value, target, after=0):
        """Add a value to the numbers from `target` on."""
        signal = Signal(value.shape, -1, target)
        bias = nothing = self.zeros(signal.width)
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
            bias = nothing
        for part in value.parts:
            self._part(part, value.shape, target, signal, after)

    def adds_whole_places(self, value):
        """Whether `fire_sums` can add this value up: spikes of size 1 of whole places."""

        def is_whole(parts, shape):
            has_ones = all(part.signal.value < 0 for part in parts)
            return has_ones and all(maps.spans_of(part, shape) is not None for part in parts)

        products = all(
            product.node.groups == 1
            and is_whole(product.value.parts, product.shape)
            and maps.factors_of_channels(product.value.parts, product.shape) is not None
            for product in value.products
        )
        width = Signal(value.shape, -1).width
        parts = all(
            part.signal.width == width
            and part.signal.channels == (value.shape[-1] if value.shape else 1)
            and maps.factors_of_channels([part], value.shape) is not None
            for part in value.parts
        )
        return products and parts and is_whole(value.parts, value.shape)

    def fire_sums(self, value, form, signal, target, drive):
        """Add operations that add up a value over several steps at once, and fire neurons.

        Args:
            value: A `Value` of which `adds_whole_places` is true.
            form: The `StepForm` of the neurons, whose spikes are binary.
            signal: Where their spikes go.
            target: Where their potentials are.
            drive: Where their constant current is, or −1.
        """
        bias, advance, width = self.zeros(signal.width), 0, signal.width
        if value.shift is not None:
            shift = value.shift.reshape(signal.places, signal.channels)
            is_even = bool(np.all(shift == shift[:1]))
            bias, advance = self.add_weights(padded(shift[:1] if is_even else shift)), 0 if is_even else width
        # What is the same everywhere need not be looked at place by place.
        flat = drive >= 0 and not value.products and not value.parts and value.shift is None
        places, width = (1, signal.places * width) if flat else (signal.places, width)
        lists = [0, 0]
        rows = [self._rows(product)[0] for product in value.products]
        is_whole = self.of_integers and all(are_small_integers(row) for row in rows)
        products = [self._listed(product, lists, form.delay, is_whole) for product in value.products]
        self.places, self.events = max(self.places, lists[0]), max(self.events, lists[1])
        fields = (target, places, width, signal.word, self.add_thresholds(form, signal, width))
        fields += (form.reset == "zero", drive, bias, advance, len(products), len(value.parts), flat)
        self.operation("fire_sums", *fields, after=form.delay)
        for product, fields in zip(value.products, products, strict=True):
            self.operation("product", *fields)
            self.adds_rows(product.node, product.node.kernel.shape[-1])
        for part in value.parts:
            place, source, _ = maps.spans_of(part, value.shape).T
            words = part.signal.word + source * (width // LANES)
            table = self.add_table(maps.by_place(np.stack([place, words], axis=1), places)[0])
            factors = maps.factors_of_channels([part], value.shape)
            self.operation("part", places, table, self.add_weights(padded(factors)))

    def add_thresholds(self, form, signal, width):
        """Add the threshold of every channel to the weights, so often that they are `width`."""
        thresholds = np.ones(signal.width)
        thresholds[: signal.channels] = form.threshold
        return self.add_weights(np.tile(thresholds, width // signal.width))

    def _listed(self, product, lists, after, is_whole):
        """Add the operation that lists the spikes of a product at several steps; return its fields.

        Args:
            product: A `Product`.
            lists: Numbers of places and of events that are listed already; those of this product are added.
            after: The first step at which to do it.
            is_whole: Whether weights are added up as integers.
        """
        node, taken = product.node, product.value
        rows, step = self._rows(product)
        rising = _rising(product, step)
        table, spikes = self._table_of_spans(taken, product.shape, rising)
        places, size = len(spikes), int(spikes.sum()) + LANES
        at = tuple(lists)
        self.operation("list_steps", places, table, step, *at, size, after=after)
        lists[0] += places + 1
        lists[1] += size
        runs, kernel = maps.runs_of(node, product.shape), _in_blocks(rows, step)
        merged = maps.merged(runs, rising.row)
        if merged is not None and node.window[-1] * spikes.max() <= _SHORT:
            # Fewer and longer runs: their ends are what a processor does not foresee.
            columns, runs = merged
            columns[:, 2] *= rising.of_place
            listed, at, size = (at[0], places + 1), tuple(lists), int(spikes[columns[:, 1]].sum()) + LANES
            places = int(columns[:, 0].max(initial=-1)) + 1
            table = self.add_table(maps.by_place(columns, places)[0])
            self.operation("merge_steps", places, table, *listed, *at, size, after=after)
            lists[0] += places + 1
            lists[1] += size
        fields = (runs.shape[1], self.add_table(runs), self._add_kernel(kernel, is_whole), rising.of_place)
        # So many rows are within int16, whatever the weights of each are.
        many = _WHOLE // max(int(np.abs(kernel).max(initial=0)), 1) if is_whole else OF_STEP
        return *fields, kernel[0].size, *at, places + 1, size, many, is_whole

    def _add_kernel(self, kernel, is_whole):
        return self.add_small_integers(kernel) if is_whole else self.add_weights(kernel)

    def _product(self, product, target, signal, bias, after):
        node, taken = product.node, product.value
        rows, step = self._rows(product)
        factors = maps.factors_of_channels(taken.parts, product.shape)
        has_values = self._list(taken, product.shape, factors, _rising(product, step), after)
        runs = maps.runs_of(node, product.shape)
        shared = (target, signal.places, signal.width, runs.shape[1], self.add_table(runs))
        if node.groups == 1:
            blocks = _in_blocks(rows, step)
            along = product.shape[-1] * step
            fields = (*shared, self.add_weights(blocks), along, bias, has_values, blocks[0].size)
            self.operation("add_rows", *fields, after=after)
        else:
            channels, length = rows.shape[1:]
            fields = (*shared, self.add_weights(rows), channels, bias, has_values, length)
            self.operation("add_groups", *fields, channels // node.groups, after=after)
        self.adds_rows(node, rows.shape[-1])

    def _rows(self, product):
        """Return rows of weights `(taps, channels, length)`, and how many numbers of them lie together."""
        node, channels, kernel = product.node, product.shape[-1], product.node.kernel
        if node.transposed:
            kernel = kernel[(slice(None, None, -1),) * len(node.window)]
        length = kernel.shape[-1] // node.groups
        if node.groups == 1:
            rows, step = kernel.reshape(-1, channels, length), min(-(-length // LANES) * LANES, BLOCK)
        else:
            # Of each channel the part of the kernel that reaches its own group.
            each = channels // node.groups
            rows = kernel.reshape(-1, each, node.groups, length).transpose(0, 2, 1, 3)
            rows, step = rows.reshape(-1, channels, length), 1
        factors = maps.factors_of_channels(product.value.parts, product.shape)
        return rows if factors is None else rows * factors[:, None].astype("float32"), step

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
            table, spikes = self._table_of_spans(value, shape, rising)
            size = int(spikes.sum())
            has_values = any(part.signal.value >= 0 for part in value.parts)
            self.operation("list_places", places, table, rising.step, has_values, after=after)
        else:
            size = self._list_values(value, shape, rising, after, with_factors=factors is None)
            has_values = True
        self.places, self.events = max(self.places, places + 1), max(self.events, size)
        return has_values

    def _table_of_spans(self, value, shape, rising):
        """Add the table of a value of whole places; return where it is, and the most spikes of each place."""
        entries, spikes = (
            [np.zeros((0, 5), "int64")],
            np.zeros(int(np.prod(shape[:-1], dtype="int64")), "int64"),
        )
        for part in value.parts:
            place, source, channel = maps.spans_of(part, shape).T
            entries.append(_entries(part.signal, place, source, rising.of(place, channel)))
            np.add.at(spikes, place, part.signal.channels)
        return self.add_table(maps.by_place(np.concatenate(entries), len(spikes))[0]), spikes

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


def _rising(product, step):
    """Return the `_Rising` of rows of weights, of which `step` numbers lie together."""
    row = product.shape[-2] if product.node.window else 1
    return _Rising(row, product.shape[-1] * step, step)


def _in_blocks(rows, step):
    """Return rows of weights `(taps, channels, length)` as blocks `(blocks, taps, channels, step)`."""
    rows = np.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[-1] % step)))
    return rows.reshape(*rows.shape[:2], -1, step).transpose(2, 0, 1, 3)


def _entries(signal, place, source, base):
    """Return entries of a table: place, first word, number of words, base, and where numbers are or −1."""
    words = signal.width // LANES
    value = signal.value + source * signal.width if signal.value >= 0 else np.full(len(source), -1)
    return np.stack([place, signal.word + source * words, np.full(len(source), words), base, value], axis=1)
