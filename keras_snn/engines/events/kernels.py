"""The compiled kernels: one function for all networks, which reads what to do from tables.

A network is a table of operations, rows of integers, made by `keras_snn.engines.events.assembly`. Numbers of
a sample are in one array, `memory`: potentials, sums, and what a step leaves for the next operation. Values
of one place lie side by side, channels padded to a multiple of 16, so that the spikes of 16 neurons are one
word of `words`. An operation that adds up weights first lists the spikes of each place, by where their rows
of `weights` begin.
"""

import numpy as np
from numba import njit

from keras_snn.engines.events.adding import ONE, ZERO, add_up, compiled
from keras_snn.engines.events.operations import LANES, hash_of_sources
from keras_snn.engines.events.vectors import add as plus
from keras_snn.engines.events.vectors import (
    at_least,
    bits_of,
    load,
    maximum,
    of_bits,
    splat,
    store,
    subtract,
)

__all__ = ["run_samples"]


@compiled
def _fire(op, memory, words, weights):
    """Fire where a potential is at its threshold: spikes are bits, and potentials are reset."""
    target, vectors, word, parameter, to_zero, drive = op[1:7]
    zeros, threshold = splat(ZERO), splat(weights[parameter])
    for i in range(vectors):
        v = load(memory, target, zeros)
        if drive >= 0:
            v = plus(v, load(memory, drive + LANES * i, zeros))
        bits = at_least(v, threshold)
        words[word + i] = bits
        after = zeros if to_zero else subtract(v, threshold)
        store(memory, target, of_bits(bits, after, v))
        target += LANES


@compiled
def _fire_values(op, memory, weights):
    """Fire spikes of several sizes, or of either sign, and reset by what was fired."""
    target, size, out, sent, drive, first, width, bounds = op[1:9]
    threshold, smallest, unit = weights[first], weights[first + 1], weights[first + 2]
    lowest, levels = weights[first + 3], weights[first + 4]
    for i in range(size):
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
def _scale(op, memory, weights):
    """Multiply numbers by a factor: 0 clears what a step left, whatever it was."""
    target, size, factor = op[1], op[2], weights[op[3]]
    for i in range(target, target + size):
        memory[i] = factor * memory[i] if factor else ZERO


@compiled
def _mark(op, memory, words):
    """Set the bits of what is not 0."""
    source, vectors, word, zeros = op[1], op[2], op[3], splat(ZERO)
    for i in range(vectors):
        words[word + i] = bits_of(load(memory, source + LANES * i, zeros))


@compiled
def _take_maximum_of_spikes(op, memory, words, table):
    """Send a spike where the largest number of spikes of a window has grown."""
    sources, counts, word, places, first, largest, sent, vectors = op[1:9]
    zeros, ones = splat(ZERO), splat(ONE)
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


@compiled
def _take_maximum(op, memory, words, table):
    """Send what the largest sum of a window has grown by."""
    sources, sums, value, places, first, largest, sent, vectors, out = op[1:10]
    zeros = splat(ZERO)
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


@compiled
def _run_step(step, operations, memory, words, weights, table, starts, events, amounts):
    for i in range(operations.shape[0]):
        op = operations[i]
        what = op[0]
        if 0 <= step < op[12]:
            # Neurons that start late, and read-outs that do not count the first steps.
            continue
        if what < 7:
            add_up(what, op, memory, words, weights, table, starts, events, amounts)
        elif what == 7:
            _fire(op, memory, words, weights)
        elif what == 8:
            _scale(op, memory, weights)
        elif what == 9:
            _mark(op, memory, words)
        elif what == 10:
            _take_maximum_of_spikes(op, memory, words, table)
        elif what == 11:
            _take_maximum(op, memory, words, table)
        else:
            _fire_values(op, memory, weights)


@compiled
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
                    number = (memory[value + at] if value >= 0 else ONE) if bit else ZERO
                if kind == 0:
                    kept[sample, step, target] = number
                elif kind == 1:
                    sums[sample, target] += number
                elif number != 0:
                    sums[sample, target] += ONE
                target += 1


@compiled
def _run_sample(
    sample, span, before, operations, records, weights, table, states, drives, arriving, kept, sums, scratch
):
    """Run one sample over time; arguments as of `run_samples`."""
    memory, words, starts, events, amounts = scratch
    of_state, of_drive = states.shape[1], drives.shape[1]
    # Loops: to assign slices would compile what makes texts of their shapes.
    for i in range(words.size):
        words[i] = 0
    for i in range(of_state):
        memory[i] = states[sample, i]
    for i in range(of_drive):
        memory[of_state + i] = drives[sample, i]
    for step in range(-1, span[1]):
        if step >= 0:
            for i in range(arriving.shape[2]):
                memory[of_state + of_drive + i] = arriving[sample, step, i]
        what = before if step < 0 else operations
        _run_step(span[0] + step, what, memory, words, weights, table, starts, events, amounts)
        if step >= 0 and records.shape[0]:
            _record(records, memory, words, kept, sums, sample, step)
    for i in range(of_state):
        states[sample, i] = memory[i]


def _made(version):
    """Return a function that runs some samples over time, kept on disk as of a version of what it is made of.

    Numba looks at the file of a function only, and at what the function encloses. Arguments:

        samples: `(first, last)`: which rows of `states`.
        span: `(start, timesteps)`: how many steps went before, and how many to run.
        before: Rows of `OPERATIONS`, int64, that run once for every sample.
        operations: Those that run at every step.
        records: `(records, 6)`, int64.
        weights: All weights, float32.
        table: All maps, int32.
        states: `(samples, numbers)`, float32: before, and after the last step.
        drives: `(samples, numbers)`: what is given of each sample, after the states in memory.
        arriving: `(samples, timesteps, numbers)`: what is given of each step, after those.
        kept: `(samples, timesteps, numbers)`: what is kept of every step.
        sums: `(samples, numbers)`: what is added up.
        scratch: Arrays of one thread, as `EventNetwork` makes them.
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
        scratch,
    ):
        _ = version
        for i in range(samples[0], samples[1]):
            tables = (before, operations, records, weights, table)
            _run_sample(i, span, *tables, states, drives, arriving, kept, sums, scratch)

    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(run_samples)
    except RuntimeError:
        # No folder can be written: it is compiled in every process.
        return njit(**options)(run_samples)


run_samples = _made(hash_of_sources())
