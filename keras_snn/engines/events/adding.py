"""The kernels that list spikes, and add up what they reach."""

import numpy as np
from numba import njit

from keras_snn.engines.events.operations import BLOCK, LANES, OF_STEP
from keras_snn.engines.events.vectors import add as plus
from keras_snn.engines.events.vectors import (
    append,
    append_values,
    count,
    fused,
    load,
    multiply,
    of_bits,
    splat,
    splat_64,
    store,
)

__all__ = ["ONE", "ZERO", "add_up", "at", "compiled", "inlined", "rows_of_runs"]

ZERO, ONE = np.float32(0.0), np.float32(1.0)
compiled = njit(nogil=True, no_cpython_wrapper=True, error_model="numpy")
# A function that is compiled is optimised again with each that calls it, so those in between are not.
inlined = njit(nogil=True, no_cpython_wrapper=True, error_model="numpy", inline="always")


@compiled
def at(place, shift):
    """Return where something is in memory or words, of which that of a step is `shift` further."""
    return place + shift if place >= OF_STEP else place


@compiled
def rows_of_runs(places, runs, run, listed, table, starts):
    """Return how many rows of weights are added up at all places, whose runs are in a table from `run` on."""
    rows = 0
    for at_run in range(run, run + 3 * places * runs, 3):
        rows += starts[listed + table[at_run + 1]] - starts[listed + table[at_run]]
    return rows


@compiled
def _list_places(op, shifts, memory, words, table, starts, events, amounts):
    """List the spikes of every place, which come from words of neurons that lie side by side."""
    places, first, step, has_values = op[1], op[2], op[3], op[4]
    entries, zeros, ones = first + places + 1, splat(ZERO), splat(ONE)
    found = 0
    for place in range(places):
        starts[place] = found
        for entry in range(table[first + place], table[first + place + 1]):
            row = entries + 4 * entry
            word, value = at(np.int64(table[row]), shifts[1]), at(np.int64(table[row + 3]), shifts[0])
            base = np.int64(table[row + 2])
            for i in range(np.int64(table[row + 1])):
                bits = np.int64(words[word + i])
                append(events, found, bits, base, step)
                if has_values:
                    numbers = load(memory, value + LANES * i, zeros) if value >= 0 else ones
                    append_values(amounts, found, bits, numbers)
                found += count(bits)
                base += LANES * step
    starts[places] = found


@compiled
def _list_values(op, shifts, memory, words, weights, table, starts, events, amounts):
    """List what comes from single neurons, each with a factor: what is moved in any way."""
    places, first, factors = op[1], op[2], op[3]
    entries, found = first + places + 1, 0
    for place in range(places):
        starts[place] = found
        for entry in range(table[first + place], table[first + place + 1]):
            row = entries + 4 * entry
            word, value = at(np.int64(table[row]), shifts[1]), at(np.int64(table[row + 3]), shifts[0])
            if (np.int64(words[word]) >> np.int64(table[row + 1])) & 1:
                number = memory[value] if value >= 0 else ONE
                events[found], amounts[found] = table[row + 2], number * weights[factors + entry]
                found += 1
    starts[places] = found


@compiled
def _add_block(like, other, op, block, shift, memory, weights, table, starts, events):
    """Add rows of weights, the part that is as long as the vector `like`, to the numbers of every place."""
    target, places, width, runs, first, kernel, tap, bias = op[1:9]
    target = at(target, shift)
    # Rows of blocks of 64 lie together, and so in the cache.
    rows = kernel + block // BLOCK * op[10] + block % BLOCK
    for _ in range(places):
        total, more = plus(load(memory, target + block, like), load(weights, bias + block, like)), other
        for run in range(first, first + 3 * runs, 3):
            row = rows + tap * np.int64(table[run + 2])
            event, last = np.int64(starts[table[run]]), np.int64(starts[table[run + 1]])
            while event + 1 < last:
                total = plus(total, load(weights, row + events[event], like))
                more = plus(more, load(weights, row + events[event + 1], like))
                event += 2
            if event < last:
                total = plus(total, load(weights, row + events[event], like))
        store(memory, target + block, plus(total, more))
        first += 3 * runs
        target += width


@compiled
def _add_weighted_block(like, op, block, shift, memory, weights, table, starts, events, amounts):
    """Do as `_add_block`, of rows times numbers."""
    target, places, width, runs, first, kernel, tap, bias = op[1:9]
    target = at(target, shift)
    # Rows of blocks of 64 lie together, and so in the cache.
    rows = kernel + block // BLOCK * op[10] + block % BLOCK
    for _ in range(places):
        total = plus(load(memory, target + block, like), load(weights, bias + block, like))
        for run in range(first, first + 3 * runs, 3):
            row = rows + tap * np.int64(table[run + 2])
            for event in range(starts[table[run]], starts[table[run + 1]]):
                total = fused(total, amounts[event], load(weights, row + events[event], like))
        store(memory, target + block, total)
        first += 3 * runs
        target += width


@compiled
def _add_rows(op, shift, memory, weights, table, starts, events, amounts):
    """Add the rows of weights of listed spikes: a convolution, or a dense layer."""
    width, has_values = op[3], op[9]
    four, one = splat_64(ZERO), splat(ZERO)
    block = np.int64(0)
    while block < width:
        left = width - block
        if has_values:
            if left >= 64:
                _add_weighted_block(four, op, block, shift, memory, weights, table, starts, events, amounts)
            else:
                _add_weighted_block(one, op, block, shift, memory, weights, table, starts, events, amounts)
        elif left >= 64:
            _add_block(four, four, op, block, shift, memory, weights, table, starts, events)
        else:
            _add_block(one, one, op, block, shift, memory, weights, table, starts, events)
        block += 64 if left >= 64 else 16


@compiled
def _add_groups(op, shift, memory, weights, table, starts, events, amounts):
    """Do as `_add_rows` where a spike reaches the channels of its group only."""
    target, places, width, runs, first, kernel, channels, bias, has_values, length, each = op[1:12]
    target = at(target, shift)
    for _ in range(places):
        for i in range(width):
            memory[target + i] += weights[bias + i]
        for run in range(first, first + 3 * runs, 3):
            tap = channels * np.int64(table[run + 2])
            for event in range(starts[table[run]], starts[table[run + 1]]):
                source = np.int64(events[event])
                row, to = kernel + (tap + source) * length, target + source % channels // each * length
                amount = amounts[event] if has_values else ONE
                for i in range(length):
                    memory[to + i] += amount * weights[row + i]
        first += 3 * runs
        target += width


@compiled
def _add_places(op, shifts, memory, words, weights, table):
    """Add values of neurons that lie side by side, times the factor of the channel that they go to."""
    places, first, target, width, factors = op[1], op[2], at(op[3], shifts[0]), op[4], op[5]
    entries, zeros = first + places + 1, splat(ZERO)
    for place in range(places):
        for entry in range(table[first + place], table[first + place + 1]):
            row = entries + 4 * entry
            word, value = at(np.int64(table[row]), shifts[1]), at(np.int64(table[row + 3]), shifts[0])
            base = np.int64(table[row + 2])
            for i in range(np.int64(table[row + 1])):
                bits = np.int64(words[word + i])
                if bits:
                    to = base + LANES * i
                    given = of_bits(bits, load(weights, factors + to - width * place, zeros), zeros)
                    if value >= 0:
                        given = multiply(given, load(memory, value + LANES * i, zeros))
                    store(memory, target + to, plus(load(memory, target + to, zeros), given))


@compiled
def _add_values(op, shift, memory, starts, events, amounts):
    """Add listed values where they go."""
    target, places = at(op[1], shift), op[2]
    for event in range(starts[places]):
        memory[target + events[event]] += amounts[event]


@compiled
def _add_vector(op, shift, memory, numbers):
    """Add numbers, of which those of a place may be the same everywhere."""
    target, places, width, source, advance = op[1:6]
    target, source = at(target, shift), at(source, shift)
    like = splat(ZERO)
    for place in range(places):
        for i in range(0, width, LANES):
            given = load(numbers, source + place * advance + i, like)
            store(memory, target + i, plus(load(memory, target + i, like), given))
        target += width


@inlined
def add_up(what, op, shifts, memory, words, weights, table, starts, events, amounts):
    """Run one of the operations that list spikes and add up what they reach, at one step."""
    if what == 0:
        _list_places(op, shifts, memory, words, table, starts, events, amounts)
    elif what == 1:
        _list_values(op, shifts, memory, words, weights, table, starts, events, amounts)
    elif what == 2:
        _add_rows(op, shifts[0], memory, weights, table, starts, events, amounts)
    elif what == 3:
        _add_groups(op, shifts[0], memory, weights, table, starts, events, amounts)
    elif what == 4:
        _add_places(op, shifts, memory, words, weights, table)
    elif what == 5:
        _add_values(op, shifts[0], memory, starts, events, amounts)
    else:
        _add_vector(op, shifts[0], memory, memory if op[6] else weights)
