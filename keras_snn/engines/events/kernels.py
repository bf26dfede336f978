"""The compiled kernels: one function for all networks, which reads what to do from tables.

A network is a table of operations, rows of integers, made by `keras_snn.engines.events.assembly`. Numbers of
a sample are in one array, `memory`: potentials, sums, and what a step leaves for the next operation. Values
of one place lie side by side, channels padded to a multiple of 16, so that the spikes of 16 neurons are one
word of `words`. An operation that adds up weights first lists the spikes of each place, by where their rows
of `weights` begin.
"""

import numpy as np
from numba import njit

from keras_snn.engines.events.adding import ONE, ZERO, add_up, at, compiled, inlined, rows_of_runs
from keras_snn.engines.events.operations import LANES, OF_STEP, hash_of_sources
from keras_snn.engines.events.several import count_rows, run_steps
from keras_snn.engines.events.vectors import add as plus
from keras_snn.engines.events.vectors import (
    at_least,
    bits_of,
    floor,
    load,
    maximum,
    of_bits,
    pointer,
    splat,
    store,
    subtract,
)

__all__ = ["run_samples"]

HALF = np.float32(0.5)


@compiled
def _fire(op, shifts, memory, words, weights):
    """Fire where a potential is at its threshold: spikes are bits, and potentials are reset."""
    target, vectors, word, first, to_zero, drive, width = op[1:8]
    word = at(word, shifts[1])
    zeros, channel = splat(ZERO), np.int64(0)
    for i in range(vectors):
        threshold = load(weights, first + channel, zeros)
        channel += LANES
        if channel == width:
            channel = np.int64(0)
        v = load(memory, target, zeros)
        if drive >= 0:
            v = plus(v, load(memory, drive + LANES * i, zeros))
        bits = at_least(v, threshold)
        words[word + i] = bits
        after = zeros if to_zero else subtract(v, threshold)
        store(memory, target, of_bits(bits, after, v))
        target += LANES


@compiled
def _fire_values(op, shift, memory, weights):
    """Fire spikes of several sizes, or of either sign, and reset by what was fired."""
    target, size, out, sent, drive, first, width, bounds, thresholds = op[1:10]
    out = at(out, shift)
    unit, lowest, levels = weights[first], weights[first + 1], weights[first + 2]
    for i in range(size):
        threshold = weights[thresholds + i % width]
        smallest = threshold * unit
        v = memory[target + i]
        if drive >= 0:
            v += memory[drive + i]
        low, high = lowest, weights[bounds + i % width]
        if sent >= 0:
            low, high = max(low, -memory[sent + i]), min(high, levels - memory[sent + i])
        spike = min(max(unit * np.floor(v / smallest), low), high)
        memory[target + i] = v - threshold * spike
        memory[out + i] = spike
        if sent >= 0:
            memory[sent + i] += spike


@compiled
def _scale(op, shift, memory, weights):
    """Multiply numbers by a factor: 0 clears what a step left, whatever it was."""
    target, size, factor = at(op[1], shift), op[2], weights[op[3]]
    for i in range(target, target + size):
        memory[i] = factor * memory[i] if factor else ZERO


@compiled
def _mark(op, shifts, memory, words):
    """Set the bits of what is not 0."""
    source, vectors, word, zeros = at(op[1], shifts[0]), op[2], at(op[3], shifts[1]), splat(ZERO)
    for i in range(vectors):
        words[word + i] = bits_of(load(memory, source + LANES * i, zeros))


@compiled
def _round(op, shifts, memory, words, weights):
    """Round numbers, halves up, to integers between two bounds, and set the bits of what is not 0."""
    target, vectors, word, bounds = at(op[1], shifts[0]), op[2], at(op[3], shifts[1]), op[4]
    half, lowest, highest = splat(HALF), splat(weights[bounds]), splat(weights[bounds + 1])
    for i in range(vectors):
        v = maximum(floor(plus(load(memory, target + LANES * i, half), half)), lowest)
        v = of_bits(at_least(v, highest), highest, v)
        store(memory, target + LANES * i, v)
        words[word + i] = bits_of(v)


@compiled
def _take_maximum_of_spikes(op, shift, memory, words, table):
    """Send a spike where the largest number of spikes of a window has grown."""
    sources, counts, word, places, first, largest, sent, vectors = op[1:9]
    word, sent = at(word, shift), at(sent, shift)
    zeros, ones = splat(ZERO), splat(ONE)
    for i in range(sources):
        bits = np.int64(words[word + i])
        if bits:
            here = counts + LANES * i
            store(memory, here, plus(load(memory, here, zeros), of_bits(bits, ones, zeros)))
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


@compiled
def _take_maximum(op, shifts, memory, words, table):
    """Send what the largest sum of a window has grown by."""
    sources, sums, value, places, first, largest, sent, vectors, out = op[1:10]
    value, out, sent = at(value, shifts[0]), at(out, shifts[0]), at(sent, shifts[1])
    zeros = splat(ZERO)
    for i in range(sources):
        here = sums + LANES * i
        store(memory, here, plus(load(memory, here, zeros), load(memory, value + LANES * i, zeros)))
    for place in range(places):
        begin, end = first + places + 1 + table[first + place], first + places + 1 + table[first + place + 1]
        for i in range(vectors):
            top = load(memory, sums + LANES * (vectors * np.int64(table[begin]) + i), zeros)
            for entry in range(begin + 1, end):
                source = vectors * np.int64(table[entry]) + i
                top = maximum(top, load(memory, sums + LANES * source, zeros))
            grown = subtract(top, load(memory, largest, zeros))
            store(memory, largest, top)
            store(memory, out, grown)
            words[sent] = bits_of(grown)
            sent += 1
            largest += LANES
            out += LANES


@compiled
def _run_step(step, shifts, group, operations, memory, words, weights, table, starts, events, amounts, added):
    """Run the operations from one row of the table to another, at one step."""
    for i in range(group[0], group[1]):
        op = operations[i]
        what = op[0]
        if 0 <= step < op[13]:
            # Neurons that start late, and read-outs that do not count the first steps.
            continue
        if what < 7:
            add_up(what, op, shifts, memory, words, weights, table, starts, events, amounts)
            if step >= 0 and added.size and 2 <= what <= 3:
                added[i] += rows_of_runs(op[2], op[4], op[5], 0, table, starts)
        elif what == 7:
            _fire(op, shifts, memory, words, weights)
        elif what == 8:
            _scale(op, shifts[0], memory, weights)
        elif what == 9:
            _mark(op, shifts, memory, words)
        elif what == 10:
            _take_maximum_of_spikes(op, shifts[1], memory, words, table)
        elif what == 11:
            _take_maximum(op, shifts, memory, words, table)
        elif what == 12:
            _fire_values(op, shifts[0], memory, weights)
        else:
            _round(op, shifts, memory, words, weights)


@compiled
def _record(records, group, shifts, memory, words, kept, sums, sample, step):
    """Write what is asked for of a step: rows of places, channels, source, values, target, kind and group."""
    for i in range(records.shape[0]):
        if records[i, 6] != group:
            continue
        places, channels, source = records[i, 0], records[i, 1], at(records[i, 2], shifts[1])
        value, target, kind = at(records[i, 3], shifts[0]), records[i, 4], records[i, 5]
        padded = (channels + LANES - 1) // LANES * LANES
        for place in range(places):
            for channel in range(channels):
                here = place * padded + channel
                if source < 0:
                    number = memory[value + here]
                else:
                    bit = (np.int64(words[source + here // LANES]) >> (here % LANES)) & 1
                    number = (memory[value + here] if value >= 0 else ONE) if bit else ZERO
                if kind == 0:
                    kept[sample, step, target] = number
                elif kind == 1:
                    sums[sample, target] += number
                elif number != 0:
                    sums[sample, target] += ONE
                target += 1


@compiled
def _shifts(layout, step):
    """Return how much further what belongs to a step is, in memory and in words."""
    return layout[0] + step * layout[1] - OF_STEP, layout[2] + step * layout[3] - OF_STEP


@inlined
def _run_groups(sample, start, steps, layout, tables, kept, sums, added, of_kept, scratch):
    """Run some steps, at once: each group of operations runs all of them before the next one does."""
    operations, records, weights, table = tables
    memory, words, starts, events, amounts, ends = scratch
    begin = np.int64(0)
    while begin < operations.shape[0]:
        group, end = operations[begin, 14], begin
        several = operations[begin, 0] >= 14
        while end < operations.shape[0] and operations[end, 14] == group:
            end += 1
        if several:
            for i in range(begin, end):
                span = (max(operations[i, 13] - start, 0), steps)
                run_steps(i, span, layout, operations, memory, words, weights, table, starts, events, ends)
                if added.size and operations[i, 0] == 16:
                    count_rows(i, span, operations, table, starts, added)
        for step in range(steps):
            shifts = _shifts(layout, step)
            if not several:
                rows = (begin, end)
                _run_step(
                    start + step,
                    shifts,
                    rows,
                    operations,
                    memory,
                    words,
                    weights,
                    table,
                    starts,
                    events,
                    amounts,
                    added,
                )
            _record(records, group, shifts, memory, words, kept, sums, sample, of_kept + step)
        begin = end


@inlined
def _run_sample(sample, span, layout, tables, states, drives, arriving, kept, sums, added, scratch):
    """Run one sample over time; arguments as of `run_samples`."""
    before, operations, records, weights, table = tables
    memory, words, starts, events, amounts, _ = scratch
    of_state, of_drive = states.shape[1], drives.shape[1]
    start, timesteps, at_once = span
    # Loops: to assign slices would compile what makes texts of their shapes.
    for i in range(layout[2] + at_once * layout[3]):
        words[i] = 0
    for i in range(of_state):
        memory[i] = states[sample, i]
    for i in range(of_drive):
        memory[of_state + i] = drives[sample, i]
    # Integers of the types that the other call has, so that it is compiled once.
    rows = (np.int64(0), np.int64(before.shape[0]))
    _run_step(
        np.int64(-1),
        _shifts(layout, 0),
        rows,
        before,
        memory,
        words,
        weights,
        table,
        starts,
        events,
        amounts,
        added,
    )
    for first in range(0, timesteps, at_once):
        steps = min(at_once, timesteps - first)
        for step in range(steps):
            for i in range(arriving.shape[2]):
                memory[layout[0] + step * layout[1] + i] = arriving[sample, first + step, i]
        of_steps = (operations, records, weights, table)
        _run_groups(sample, start + first, steps, layout, of_steps, kept, sums, added, first, scratch)
    for i in range(of_state):
        states[sample, i] = memory[i]


def _made(version):
    """Return a function that runs some samples over time, kept on disk as of a version of what it is made of.

    Numba looks at the file of a function only, and at what the function encloses. Arguments:

        samples: `(first, last)`: which rows of `states`.
        span: `(start, timesteps, at_once)`: how many steps went before, how many to run, and how many of them
            a layer runs before the next one does.
        before: Rows of `OPERATIONS`, int64, that run once for every sample.
        operations: Those that run at every step.
        records: `(records, 7)`, int64.
        weights: All weights, float32.
        table: All maps, int32.
        states: `(samples, numbers)`, float32: before, and after the last step.
        drives: `(samples, numbers)`: what is given of each sample, after the states in memory.
        arriving: `(samples, timesteps, numbers)`: what is given of each step, after those.
        kept: `(samples, timesteps, numbers)`: what is kept of every step.
        sums: `(samples, numbers)`: what is added up.
        added: `(samples, operations)`, int64: how many rows of weights each has added; or `(samples, 0)`.
        layout, scratch: What one thread works on, as `EventNetwork` makes it.
    """

    def run_samples(
        samples,
        span,
        before,
        operations,
        records,
        weights,
        table,
        states,
        drives,
        arriving,
        kept,
        sums,
        added,
        layout,
        scratch,
    ):
        _ = version
        memory, words, starts, events, amounts, ends = scratch
        lists = (pointer(starts), pointer(events), pointer(amounts), pointer(ends))
        pointers = (pointer(memory), pointer(words), *lists)
        for i in range(samples[0], samples[1]):
            tables = (before, operations, records, pointer(weights), pointer(table))
            _run_sample(i, span, layout, tables, states, drives, arriving, kept, sums, added[i], pointers)

    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(run_samples)
    except RuntimeError:
        # No folder can be written: it is compiled in every process.
        return njit(**options)(run_samples)


run_samples = _made(hash_of_sources())
