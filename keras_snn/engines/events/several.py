"""The kernels that run several steps of a layer before the next one, with potentials in registers."""

import numpy as np

from keras_snn.engines.events.adding import ZERO, compiled
from keras_snn.engines.events.operations import BLOCK, LANES, OF_STEP
from keras_snn.engines.events.vectors import add as plus
from keras_snn.engines.events.vectors import (
    append,
    at_least,
    count,
    get,
    load,
    load_bits,
    of_bits,
    splat,
    splat_32,
    splat_64,
    store,
    store_bits,
    subtract,
)

__all__ = ["run_steps"]


@compiled
def _of_step(word, layout):
    """Return where a word is at the first step, and how many words further at each of the next."""
    return (word - OF_STEP + layout[2], layout[3]) if word >= OF_STEP else (word, 0)


@compiled
def _list_steps(op, span, layout, words, table, starts, events, ends):
    """List the spikes of every place, for each step apart."""
    places, first, channel, starts_at, events_at, capacity = op[1], op[2], op[3], op[4], op[5], op[6]
    begin, steps = span
    row = first + places + 1
    starts_at *= steps
    for step in range(begin, steps):
        ends[step] = steps * events_at + step * capacity
    for place in range(first, first + places):
        start = starts_at + place - first
        for step in range(begin, steps):
            starts[start + step * (places + 1)] = get(ends, step)
        for _ in range(get(table, place), get(table, place + 1)):
            word, further = _of_step(get(table, row), layout)
            base = get(table, row + 2)
            for _ in range(get(table, row + 1)):
                for step in range(begin, steps):
                    bits, end = get(words, word + step * further), get(ends, step)
                    append(events, end, bits, base, channel)
                    ends[step] = end + count(bits)
                base += LANES * channel
                word += 1
            row += 4
    for step in range(begin, steps):
        starts[starts_at + step * (places + 1) + places] = ends[step]


@compiled
def _with_rows(v, zeros, op, span, place, block, weights, table, starts, events):
    """Return `v` with the rows of weights of the spikes that reach a place at a step; `op` is a product."""
    step, steps = span
    listed, more = steps * op[6] + step * op[8], zeros
    rows = op[3] + block // BLOCK * op[5] + block % BLOCK
    run = op[2] + 3 * op[1] * place
    for _ in range(op[1]):
        row = rows + op[4] * get(table, run + 2)
        event, last = get(starts, listed + get(table, run)), get(starts, listed + get(table, run + 1))
        while event + 1 < last:
            v = plus(v, load(weights, row + get(events, event), zeros))
            more = plus(more, load(weights, row + get(events, event + 1), zeros))
            event += 2
        if event < last:
            v = plus(v, load(weights, row + get(events, event), zeros))
        run += 3
    return plus(v, more)


@compiled
def _with_places(v, zeros, op, step, place, block, layout, words, weights, table):
    """Return `v` with the spikes of places that a place takes as they are; `op` is a part."""
    entry, factors = op[2] + op[1] + 1, load(weights, op[3] + block, zeros)
    for i in range(entry + get(table, op[2] + place), entry + get(table, op[2] + place + 1)):
        word, further = _of_step(get(table, i), layout)
        bits = load_bits(words, word + step * further + block // LANES, zeros)
        v = plus(v, of_bits(bits, factors, zeros))
    return v


@compiled
def _fire_block(zeros, at, block, span, layout, operations, memory, words, weights, table, starts, events):
    """Add up and fire neurons of each place, as many as the vector `zeros` has numbers."""
    op = operations[at]
    target, places, width, word, thresholds, to_zero, drive, bias, advance, products, parts = op[1:12]
    begin, steps = span
    threshold = load(weights, thresholds + block, zeros)
    word, further = _of_step(word, layout)
    products += at + 1
    for place in range(places):
        here = place * width + block
        v = load(memory, target + here, zeros)
        constant = load(weights, bias + place * advance + block, zeros)
        for step in range(begin, steps):
            v = plus(v, constant)
            for i in range(at + 1, products):
                of = (step, steps)
                v = _with_rows(v, zeros, operations[i], of, place, block, weights, table, starts, events)
            for i in range(products, products + parts):
                v = _with_places(v, zeros, operations[i], step, place, block, layout, words, weights, table)
            if drive >= 0:
                v = plus(v, load(memory, drive + here, zeros))
            bits = at_least(v, threshold)
            store_bits(words, word + step * further + here // LANES, bits, zeros)
            v = of_bits(bits, zeros if to_zero else subtract(v, threshold), v)
        store(memory, target + here, v)


@compiled
def _fire_sums(at, span, layout, operations, memory, words, weights, table, starts, events):
    """Add up what spikes reach, and fire, for blocks of neurons of a place."""
    four, two, one = splat_64(ZERO), splat_32(ZERO), splat(ZERO)
    width, block = operations[at, 3], np.int64(0)
    while block < width:
        left = width - block
        if left >= 64:
            _fire_block(
                four, at, block, span, layout, operations, memory, words, weights, table, starts, events
            )
            block += 64
        elif left >= 32:
            _fire_block(
                two, at, block, span, layout, operations, memory, words, weights, table, starts, events
            )
            block += 32
        else:
            _fire_block(
                one, at, block, span, layout, operations, memory, words, weights, table, starts, events
            )
            block += 16


@compiled
def run_steps(at, span, layout, operations, memory, words, weights, table, starts, events, ends):
    """Run an operation at several steps: `span` is the first at which it runs, and how many there are."""
    if operations[at, 0] == 13:
        _list_steps(operations[at], span, layout, words, table, starts, events, ends)
    elif operations[at, 0] == 14:
        _fire_sums(at, span, layout, operations, memory, words, weights, table, starts, events)
