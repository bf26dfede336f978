"""The compiled kernels: one function for all networks, which reads what to do from tables.

A network is a table of operations, rows of integers, made by `keras_snn.engines.events.assembly`. Numbers of
a sample are in one array, `memory`: potentials, sums, and what a step leaves for the next operation. Values
of one place lie side by side, channels padded to a multiple of 16, so that the spikes of 16 neurons are one
word of `words`. An operation that adds up weights first lists the spikes of each place, by where their rows
of `weights` begin.
"""

import numpy as np
from numba import njit

from keras_snn.engines.events.operations import LANES, hash_of_sources
from keras_snn.engines.events.vectors import (
    add as plus,
)
from keras_snn.engines.events.vectors import (
    append,
    append_values,
    at_least,
    bits_of,
    count,
    fused,
    load,
    maximum,
    multiply,
    of_bits,
    splat,
    splat_32,
    splat_64,
    store,
    subtract,
)

__all__ = ["run_samples"]

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_compiled = njit(nogil=True, no_cpython_wrapper=True, error_model="numpy")


@_compiled
def _list_places(op, memory, words, table, starts, events, amounts):
    """List the spikes of every place, which come from words of neurons that lie side by side."""
    places, first, step, has_values = op[1], op[2], op[3], op[4]
    entries, zeros, ones = first + places + 1, splat(_ZERO), splat(_ONE)
    found = 0
    for place in range(places):
        starts[place] = found
        for entry in range(table[first + place], table[first + place + 1]):
            at = entries + 4 * entry
            word, base, value = np.int64(table[at]), np.int64(table[at + 2]), np.int64(table[at + 3])
            for i in range(np.int64(table[at + 1])):
                bits = np.int64(words[word + i])
                append(events, found, bits, base, step)
                if has_values:
                    numbers = load(memory, value + LANES * i, zeros) if value >= 0 else ones
                    append_values(amounts, found, bits, numbers)
                found += count(bits)
                base += LANES * step
    starts[places] = found


@_compiled
def _list_values(op, memory, words, weights, table, starts, events, amounts):
    """List what comes from single neurons, each with a factor: what is moved in any way."""
    places, first, factors = op[1], op[2], op[3]
    entries, found = first + places + 1, 0
    for place in range(places):
        starts[place] = found
        for entry in range(table[first + place], table[first + place + 1]):
            at = entries + 4 * entry
            if (np.int64(words[table[at]]) >> np.int64(table[at + 1])) & 1:
                value = table[at + 3]
                number = memory[value] if value >= 0 else _ONE
                events[found], amounts[found] = table[at + 2], number * weights[factors + entry]
                found += 1
    starts[places] = found


@_compiled
def _add_block(like, other, op, block, memory, weights, table, starts, events):
    """Add rows of weights, the part that is as long as the vector `like`, to the numbers of every place."""
    target, places, width, runs, first, kernel, tap, bias = op[1:9]
    for _ in range(places):
        total, more = plus(load(memory, target + block, like), load(weights, bias + block, like)), other
        for at in range(first, first + 3 * runs, 3):
            row = kernel + block + tap * np.int64(table[at + 2])
            event, last = np.int64(starts[table[at]]), np.int64(starts[table[at + 1]])
            while event + 1 < last:
                total = plus(total, load(weights, row + events[event], like))
                more = plus(more, load(weights, row + events[event + 1], like))
                event += 2
            if event < last:
                total = plus(total, load(weights, row + events[event], like))
        store(memory, target + block, plus(total, more))
        first += 3 * runs
        target += width


@_compiled
def _add_weighted_block(like, op, block, memory, weights, table, starts, events, amounts):
    """Do as `_add_block`, of rows times numbers."""
    target, places, width, runs, first, kernel, tap, bias = op[1:9]
    for _ in range(places):
        total = plus(load(memory, target + block, like), load(weights, bias + block, like))
        for at in range(first, first + 3 * runs, 3):
            row = kernel + block + tap * np.int64(table[at + 2])
            for event in range(starts[table[at]], starts[table[at + 1]]):
                total = fused(total, amounts[event], load(weights, row + events[event], like))
        store(memory, target + block, total)
        first += 3 * runs
        target += width


@_compiled
def _add_rows(op, memory, weights, table, starts, events, amounts):
    """Add the rows of weights of listed spikes: a convolution, or a dense layer."""
    width, has_values = op[3], op[9]
    four, two, one = splat_64(_ZERO), splat_32(_ZERO), splat(_ZERO)
    block = np.int64(0)
    while block < width:
        left = width - block
        if has_values:
            if left >= 64:
                _add_weighted_block(four, op, block, memory, weights, table, starts, events, amounts)
            elif left >= 32:
                _add_weighted_block(two, op, block, memory, weights, table, starts, events, amounts)
            else:
                _add_weighted_block(one, op, block, memory, weights, table, starts, events, amounts)
        elif left >= 64:
            _add_block(four, four, op, block, memory, weights, table, starts, events)
        elif left >= 32:
            _add_block(two, two, op, block, memory, weights, table, starts, events)
        else:
            _add_block(one, one, op, block, memory, weights, table, starts, events)
        block += 64 if left >= 64 else 32 if left >= 32 else 16


@_compiled
def _add_groups(op, memory, weights, table, starts, events, amounts):
    """Do as `_add_rows` where a spike reaches the channels of its group only."""
    target, places, width, runs, first, kernel, channels, bias, has_values, length, each = op[1:12]
    for _ in range(places):
        for i in range(width):
            memory[target + i] += weights[bias + i]
        for at in range(first, first + 3 * runs, 3):
            tap = channels * np.int64(table[at + 2])
            for event in range(starts[table[at]], starts[table[at + 1]]):
                source = np.int64(events[event])
                row, to = kernel + (tap + source) * length, target + source % channels // each * length
                amount = amounts[event] if has_values else _ONE
                for i in range(length):
                    memory[to + i] += amount * weights[row + i]
        first += 3 * runs
        target += width


@_compiled
def _add_places(op, memory, words, weights, table):
    """Add values of neurons that lie side by side, times the factor of the channel that they go to."""
    places, first, target, width, factors = op[1], op[2], op[3], op[4], op[5]
    entries, zeros = first + places + 1, splat(_ZERO)
    for place in range(places):
        for entry in range(table[first + place], table[first + place + 1]):
            at = entries + 4 * entry
            word, base, value = np.int64(table[at]), np.int64(table[at + 2]), np.int64(table[at + 3])
            for i in range(np.int64(table[at + 1])):
                bits = np.int64(words[word + i])
                if bits:
                    to = base + LANES * i
                    given = of_bits(bits, load(weights, factors + to - width * place, zeros), zeros)
                    if value >= 0:
                        given = multiply(given, load(memory, value + LANES * i, zeros))
                    store(memory, target + to, plus(load(memory, target + to, zeros), given))


@_compiled
def _add_values(op, memory, starts, events, amounts):
    """Add listed values where they go."""
    target, places = op[1], op[2]
    for event in range(starts[places]):
        memory[target + events[event]] += amounts[event]


@_compiled
def _add_vector(op, memory, numbers):
    """Add numbers, of which those of a place may be the same everywhere."""
    target, places, width, source, advance = op[1:6]
    like = splat(_ZERO)
    for place in range(places):
        for i in range(0, width, LANES):
            given = load(numbers, source + place * advance + i, like)
            store(memory, target + i, plus(load(memory, target + i, like), given))
        target += width


@_compiled
def _fire(op, memory, words, weights):
    """Fire where a potential is at its threshold: spikes are bits, and potentials are reset."""
    target, vectors, word, parameter, to_zero, drive = op[1:7]
    zeros, threshold = splat(_ZERO), splat(weights[parameter])
    for i in range(vectors):
        v = load(memory, target, zeros)
        if drive >= 0:
            v = plus(v, load(memory, drive + LANES * i, zeros))
        bits = at_least(v, threshold)
        words[word + i] = bits
        after = zeros if to_zero else subtract(v, threshold)
        store(memory, target, of_bits(bits, after, v))
        target += LANES


@_compiled
def _scale(op, memory, weights):
    """Multiply numbers by a factor: 0 clears what a step left, whatever it was."""
    target, size, factor = op[1], op[2], weights[op[3]]
    for i in range(target, target + size):
        memory[i] = factor * memory[i] if factor else _ZERO


@_compiled
def _mark(op, memory, words):
    """Set the bits of what is not 0."""
    source, vectors, word, zeros = op[1], op[2], op[3], splat(_ZERO)
    for i in range(vectors):
        words[word + i] = bits_of(load(memory, source + LANES * i, zeros))


@_compiled
def _take_maximum_of_spikes(op, memory, words, table):
    """Send a spike where the largest number of spikes of a window has grown."""
    sources, counts, word, places, first, largest, sent, vectors = op[1:9]
    zeros, ones = splat(_ZERO), splat(_ONE)
    for i in range(sources):
        bits = np.int64(words[word + i])
        if bits:
            at = counts + LANES * i
            store(memory, at, plus(load(memory, at, zeros), of_bits(bits, ones, zeros)))
    for place in range(places):
        for i in range(vectors):
            grown = 0
            for entry in range(table[first + place], table[first + place + 1]):
                source = vectors * np.int64(table[first + places + 1 + entry]) + i
                if words[word + source]:
                    number, before = (
                        load(memory, counts + LANES * source, zeros),
                        load(memory, largest, zeros),
                    )
                    more = 65535 & ~at_least(before, number)
                    grown |= more
                    store(memory, largest, of_bits(more, number, before))
            words[sent] = grown
            sent += 1
            largest += LANES


@_compiled
def _take_maximum(op, memory, words, table):
    """Send what the largest sum of a window has grown by."""
    sources, sums, value, places, first, largest, sent, vectors, out = op[1:10]
    zeros = splat(_ZERO)
    for i in range(sources):
        at = sums + LANES * i
        store(memory, at, plus(load(memory, at, zeros), load(memory, value + LANES * i, zeros)))
    for place in range(places):
        begin, end = first + places + 1 + table[first + place], first + places + 1 + table[first + place + 1]
        for i in range(vectors):
            top = load(memory, sums + LANES * (vectors * np.int64(table[begin]) + i), zeros)
            for at in range(begin + 1, end):
                top = maximum(top, load(memory, sums + LANES * (vectors * np.int64(table[at]) + i), zeros))
            grown = subtract(top, load(memory, largest, zeros))
            store(memory, largest, top)
            store(memory, out, grown)
            words[sent] = bits_of(grown)
            sent += 1
            largest += LANES
            out += LANES


@_compiled
def _add(what, op, memory, words, weights, table, starts, events, amounts):
    """Run one of the operations that list spikes and add up what they reach."""
    if what == 0:
        _list_places(op, memory, words, table, starts, events, amounts)
    elif what == 1:
        _list_values(op, memory, words, weights, table, starts, events, amounts)
    elif what == 2:
        _add_rows(op, memory, weights, table, starts, events, amounts)
    elif what == 3:
        _add_groups(op, memory, weights, table, starts, events, amounts)
    elif what == 4:
        _add_places(op, memory, words, weights, table)
    elif what == 5:
        _add_values(op, memory, starts, events, amounts)
    else:
        _add_vector(op, memory, memory if op[6] else weights)


@_compiled
def _run_step(step, operations, memory, words, weights, table, starts, events, amounts):
    for i in range(operations.shape[0]):
        op = operations[i]
        what = op[0]
        if step < op[12]:
            # Neurons that start late, and read-outs that do not count the first steps.
            continue
        if what < 7:
            _add(what, op, memory, words, weights, table, starts, events, amounts)
        elif what == 7:
            _fire(op, memory, words, weights)
        elif what == 8:
            _scale(op, memory, weights)
        elif what == 9:
            _mark(op, memory, words)
        elif what == 10:
            _take_maximum_of_spikes(op, memory, words, table)
        else:
            _take_maximum(op, memory, words, table)


@_compiled
def _record(records, memory, words, kept, sums, sample, step):
    """Write what is asked for of a step: rows of places, channels, source, values, target and kind."""
    for i in range(records.shape[0]):
        places, channels, source = records[i, 0], records[i, 1], records[i, 2]
        value, target, kind = records[i, 3], records[i, 4], records[i, 5]
        padded = (channels + LANES - 1) // LANES * LANES
        for place in range(places):
            for channel in range(channels):
                at = place * padded + channel
                if source < 0:
                    number = memory[value + at]
                else:
                    bit = (np.int64(words[source + at // LANES]) >> (at % LANES)) & 1
                    number = (memory[value + at] if value >= 0 else _ONE) if bit else _ZERO
                if kind == 0:
                    kept[sample, step, target] = number
                elif kind == 1:
                    sums[sample, target] += number
                elif number != 0:
                    sums[sample, target] += _ONE
                target += 1


def _made(version):
    """Return `run_samples`, which is kept on disk as of a version of what it is made of.

    Numba looks at the file of a function only, and at what the function encloses.
    """

    def run_samples(samples, span, operations, records, weights, table, states, drives, kept, sums, scratch):
        """Run some samples over time.

        Args:
            samples: `(first, last)`: which rows of `states`.
            span: `(start, timesteps)`: how many steps went before, and how many to run.
            operations: Rows of `OPERATIONS`, int64.
            records: `(records, 6)`, int64.
            weights: All weights, float32.
            table: All maps, int32.
            states: `(samples, numbers)`, float32: before, and after the last step.
            drives: `(samples, numbers)`: what is constant of each sample, after the states in memory.
            kept: `(samples, timesteps, numbers)`: what is kept of every step.
            sums: `(samples, numbers)`: what is added up.
            scratch: Arrays of one thread, as `EventNetwork` makes them.
        """
        memory, words, starts, events, amounts = scratch
        _ = version
        of_state, of_drive = states.shape[1], drives.shape[1]
        for sample in range(samples[0], samples[1]):
            # Loops: to assign slices would compile what makes texts of their shapes.
            for i in range(words.size):
                words[i] = 0
            for i in range(of_state):
                memory[i] = states[sample, i]
            for i in range(of_drive):
                memory[of_state + i] = drives[sample, i]
            for step in range(span[1]):
                _run_step(span[0] + step, operations, memory, words, weights, table, starts, events, amounts)
                if records.shape[0]:
                    _record(records, memory, words, kept, sums, sample, step)
            for i in range(of_state):
                states[sample, i] = memory[i]

    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(run_samples)
    except RuntimeError:
        # No folder can be written: it is compiled in every process.
        return njit(**options)(run_samples)


run_samples = _made(hash_of_sources())
