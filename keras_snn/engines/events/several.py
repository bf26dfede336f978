"""The kernels that run several steps of a layer before the next one, with potentials in registers."""

import numpy as np

from keras_snn.engines.events.adding import ONE, ZERO, compiled, inlined, rows_of_runs
from keras_snn.engines.events.operations import BLOCK, LANES, OF_STEP
from keras_snn.engines.events.vectors import add as plus
from keras_snn.engines.events.vectors import (
    append,
    at_least,
    copy,
    count,
    get,
    load,
    load_bits,
    load_row,
    maximum,
    of_bits,
    splat,
    splat_32,
    splat_64,
    store,
    store_bits,
    subtract,
    widened,
    zeros_16,
    zeros_32,
)

__all__ = ["count_rows", "run_steps"]


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
def _merge_steps(op, span, table, starts, events, ends):
    """Copy lists of places of several rows into one for each column, so that a window is one part of it."""
    places, first, listed, apart, starts_at, events_at, capacity = (
        op[1],
        op[2],
        op[3],
        op[4],
        op[5],
        op[6],
        op[7],
    )
    begin, steps = span
    row = first + places + 1
    starts_at *= steps
    listed *= steps
    for step in range(begin, steps):
        ends[step] = steps * events_at + step * capacity
    for place in range(first, first + places):
        start = starts_at + place - first
        for step in range(begin, steps):
            starts[start + step * (places + 1)] = get(ends, step)
        for _ in range(get(table, place), get(table, place + 1)):
            source, more = listed + get(table, row), get(table, row + 1)
            for step in range(begin, steps):
                event, last = get(starts, source + step * apart), get(starts, source + step * apart + 1)
                end = get(ends, step)
                ends[step] = end + last - event
                while event < last:
                    copy(events, end, event, more)
                    event += LANES
                    end += LANES
            row += 2
    for step in range(begin, steps):
        starts[starts_at + step * (places + 1) + places] = ends[step]


@inlined
def _sum_of_runs(zeros, none, many, runs, run, listed, rows, tap, weights, table, starts, events):
    """Return the sum of the rows of weights of the spikes of some runs of places, whose table is at `run`.

    Rows are added up in the type of `none`, at most `many` of them, before that sum is added to one in the
    type of `zeros`.
    """
    # Two sums, as each addition waits for the one before; neither waits for the step before.
    total, one, other, left = zeros, none, none, many
    for _ in range(runs):
        row = rows + tap * get(table, run + 2)
        event, last = get(starts, listed + get(table, run)), get(starts, listed + get(table, run + 1))
        while True:
            stop = min(last, event + left)
            left -= stop - event
            while event + 3 < stop:
                one = plus(one, load_row(weights, row + get(events, event), none))
                other = plus(other, load_row(weights, row + get(events, event + 1), none))
                one = plus(one, load_row(weights, row + get(events, event + 2), none))
                other = plus(other, load_row(weights, row + get(events, event + 3), none))
                event += 4
            # No branches, which a processor would not foresee: weights begin with a row of zeros.
            first, second = row + get(events, event), row + get(events, event + 1)
            third = row + get(events, event + 2)
            one = plus(one, load_row(weights, first if event < stop else 0, none))
            other = plus(other, load_row(weights, second if event + 1 < stop else 0, none))
            one = plus(one, load_row(weights, third if event + 2 < stop else 0, none))
            event = stop
            if event == last:
                break
            total = plus(total, widened(plus(one, other), zeros))
            one, other, left = none, none, many
        run += 3
    return plus(total, widened(plus(one, other), zeros))


@compiled
def _with_places(v, zeros, op, step, place, block, layout, words, weights, table):
    """Return `v` with the spikes of places that a place takes as they are; `op` is a part."""
    entry, factors = op[2] + op[1] + 1, load(weights, op[3] + block, zeros)
    for i in range(entry + get(table, op[2] + place), entry + get(table, op[2] + place + 1)):
        word, further = _of_step(get(table, i), layout)
        bits = load_bits(words, word + step * further + block // LANES, zeros)
        v = plus(v, of_bits(bits, factors, zeros))
    return v


@inlined
def _of_product(op, block, steps):
    """Return the runs of a place, their table, rows, tap, lists, how far apart these are, and `many`."""
    rows = op[3] + block // BLOCK * op[5] + block % BLOCK
    return op[1], op[2], rows, op[4], steps * op[6], op[8], op[10]


@compiled
def _fire_block(likes, at, block, span, layout, operations, memory, words, weights, table, starts, events):
    """Add up and fire neurons of each place, as many as vectors have numbers.

    `likes` are zeros in the type of potentials, and in that of sums of rows of weights.
    """
    zeros, none = likes
    op = operations[at]
    target, places, width, word, thresholds, to_zero, drive, bias, advance, products, parts = op[1:12]
    begin, steps = span
    threshold = load(weights, thresholds + block, zeros)
    word, further = _of_step(word, layout)
    # Of most layers there are no others.
    of_first = _of_product(operations[at + 1 if products else at], block, steps)
    products += at + 1
    for place in range(places):
        here = place * width + block
        v = load(memory, target + here, zeros)
        constant = load(weights, bias + place * advance + block, zeros)
        for step in range(begin, steps):
            v = plus(v, constant)
            for i in range(at + 1, products):
                if i == at + 1:
                    runs, run, rows, tap, lists, apart, many = of_first
                else:
                    runs, run, rows, tap, lists, apart, many = _of_product(operations[i], block, steps)
                run += 3 * runs * place
                lists += step * apart
                more = _sum_of_runs(
                    zeros, none, many, runs, run, lists, rows, tap, weights, table, starts, events
                )
                v = plus(v, more)
            for i in range(products, products + parts):
                v = _with_places(v, zeros, operations[i], step, place, block, layout, words, weights, table)
            if drive >= 0:
                v = plus(v, load(memory, drive + here, zeros))
            bits = at_least(v, threshold)
            store_bits(words, word + step * further + here // LANES, bits, zeros)
            v = of_bits(bits, zeros if to_zero else subtract(v, threshold), v)
        store(memory, target + here, v)


@compiled
def _fire_rows(likes, at, block, span, layout, operations, memory, words, weights, table, starts, events):
    """Do as `_fire_block` with one product only, as most layers have it, and nothing to look up."""
    zeros, none = likes
    op, product = operations[at], operations[at + 1]
    target, places, width, word, thresholds, to_zero, _, bias, advance = op[1:10]
    runs, run, kernel, tap, size, listed, _, apart, _, many = product[1:11]
    begin, steps = span
    threshold = load(weights, thresholds + block, zeros)
    word, further = _of_step(word, layout)
    rows = kernel + block // BLOCK * size + block % BLOCK
    listed *= steps
    for place in range(places):
        here = place * width + block
        v = load(memory, target + here, zeros)
        constant = load(weights, bias + place * advance + block, zeros)
        for step in range(begin, steps):
            lists = listed + step * apart
            more = _sum_of_runs(
                zeros, none, many, runs, run, lists, rows, tap, weights, table, starts, events
            )
            v = plus(plus(v, constant), more)
            bits = at_least(v, threshold)
            store_bits(words, word + step * further + here // LANES, bits, zeros)
            v = of_bits(bits, zeros if to_zero else subtract(v, threshold), v)
        store(memory, target + here, v)
        run += 3 * runs


@compiled
def _fire_constant(zeros, at, block, span, layout, operations, memory, words, weights):
    """Do as `_fire_block` with nothing but constant currents."""
    op = operations[at]
    target, word, to_zero, drive = op[1] + block, op[4], op[6], op[7] + block
    begin, steps = span
    threshold = load(weights, op[5] + block, zeros)
    word, further = _of_step(word, layout)
    v, current = load(memory, target, zeros), load(memory, drive, zeros)
    for step in range(begin, steps):
        v = plus(v, current)
        bits = at_least(v, threshold)
        store_bits(words, word + step * further + block // LANES, bits, zeros)
        v = of_bits(bits, zeros if to_zero else subtract(v, threshold), v)
    store(memory, target, v)


@inlined
def _fire_short(zeros, at, block, span, layout, operations, memory, words, weights, table, starts, events):
    """Choose the type of the sums of neurons that have one product."""
    floats, integers = (zeros, zeros), (zeros_32(zeros), zeros_16(zeros))
    if operations[at + 1, 11] != 0:
        _fire_rows(
            integers, at, block, span, layout, operations, memory, words, weights, table, starts, events
        )
    else:
        _fire_rows(floats, at, block, span, layout, operations, memory, words, weights, table, starts, events)


@inlined
def _fire(zeros, at, block, span, layout, operations, memory, words, weights, table, starts, events):
    """Choose among the ways to add up and fire neurons of each place."""
    is_whole = False
    if operations[at, 10]:
        is_whole = operations[at + 1, 11] != 0
    floats, integers = (zeros, zeros), (zeros_32(zeros), zeros_16(zeros))
    if operations[at, 12]:
        _fire_constant(zeros, at, block, span, layout, operations, memory, words, weights)
    elif is_whole:
        _fire_block(
            integers, at, block, span, layout, operations, memory, words, weights, table, starts, events
        )
    else:
        _fire_block(
            floats, at, block, span, layout, operations, memory, words, weights, table, starts, events
        )


@inlined
def _fire_sums(at, span, layout, operations, memory, words, weights, table, starts, events):
    """Add up what spikes reach, and fire, for blocks of neurons of a place."""
    four, two, one = splat_64(ZERO), splat_32(ZERO), splat(ZERO)
    width, products, block = operations[at, 3], operations[at, 10], np.int64(0)
    is_short, is_float = products == 1 and operations[at, 11] == 0 and operations[at, 7] < 0, True
    if products:
        is_float = operations[at + 1, 11] == 0
    # Each kernel takes its time to compile, so there is none that few layers would use.
    takes_32 = operations[at, 12] == 0 and (is_short or is_float)
    while block < width:
        left, size = width - block, 16
        if left >= 64 and is_short:
            _fire_short(
                four, at, block, span, layout, operations, memory, words, weights, table, starts, events
            )
            size = 64
        elif left >= 64:
            _fire(four, at, block, span, layout, operations, memory, words, weights, table, starts, events)
            size = 64
        elif left < 32 or not takes_32:
            _fire(one, at, block, span, layout, operations, memory, words, weights, table, starts, events)
        elif is_short:
            _fire_short(
                two, at, block, span, layout, operations, memory, words, weights, table, starts, events
            )
            size = 32
        else:
            likes, size = (two, two), 32
            _fire_block(
                likes, at, block, span, layout, operations, memory, words, weights, table, starts, events
            )
        block += size


@compiled
def _take_block(zeros, ones, op, block, span, layout, memory, words, table):
    """Send spikes of windows of four places, for as many channels as the vector `zeros` has numbers."""
    places, entry, sums, largest, sent, vectors = op[1], op[2], op[3], op[4], op[5], op[7]
    word, further = _of_step(op[6], layout)
    sent, apart = _of_step(sent, layout)
    width, word, sent = LANES * vectors, word + block // LANES, sent + block // LANES
    sums += block
    for place in range(places):
        top, top_at = load(memory, largest + width * place + block, zeros), largest + width * place + block
        a, b, c, d = get(table, entry), get(table, entry + 1), get(table, entry + 2), get(table, entry + 3)
        of_a, of_b = load(memory, sums + width * a, zeros), load(memory, sums + width * b, zeros)
        of_c, of_d = load(memory, sums + width * c, zeros), load(memory, sums + width * d, zeros)
        for step in range(span[0], span[1]):
            now = word + step * further
            of_a = plus(of_a, of_bits(load_bits(words, now + vectors * a, zeros), ones, zeros))
            of_b = plus(of_b, of_bits(load_bits(words, now + vectors * b, zeros), ones, zeros))
            of_c = plus(of_c, of_bits(load_bits(words, now + vectors * c, zeros), ones, zeros))
            of_d = plus(of_d, of_bits(load_bits(words, now + vectors * d, zeros), ones, zeros))
            most = maximum(maximum(of_a, of_b), maximum(of_c, of_d))
            store_bits(words, sent + step * apart + vectors * place, ~at_least(top, most), zeros)
            top = most
        store(memory, top_at, top)
        store(memory, sums + width * a, of_a)
        store(memory, sums + width * b, of_b)
        store(memory, sums + width * c, of_c)
        store(memory, sums + width * d, of_d)
        entry += 4


@inlined
def _take_maximum_of_four(op, span, layout, memory, words, table):
    """Send a spike where the largest number of spikes of a window of four places has grown."""
    four, one = splat_64(ZERO), splat(ZERO)
    width, block = LANES * op[7], np.int64(0)
    while block < width:
        left = width - block
        if left >= 64:
            _take_block(four, splat_64(ONE), op, block, span, layout, memory, words, table)
        else:
            _take_block(one, splat(ONE), op, block, span, layout, memory, words, table)
        block += 64 if left >= 64 else 16


@inlined
def run_steps(at, span, layout, operations, memory, words, weights, table, starts, events, ends):
    """Run an operation at several steps: `span` is the first at which it runs, and how many there are."""
    if operations[at, 0] == 14:
        _list_steps(operations[at], span, layout, words, table, starts, events, ends)
    elif operations[at, 0] == 15:
        _merge_steps(operations[at], span, table, starts, events, ends)
    elif operations[at, 0] == 16:
        _fire_sums(at, span, layout, operations, memory, words, weights, table, starts, events)
    elif operations[at, 0] == 17:
        _take_maximum_of_four(operations[at], span, layout, memory, words, table)


@compiled
def count_rows(at, span, operations, table, starts, added):
    """Add how many rows of weights the sums of a row of operations have added at several steps to `added`."""
    for i in range(at + 1, at + 1 + operations[at, 10]):
        op = operations[i]
        for step in range(span[0], span[1]):
            listed = span[1] * op[6] + step * op[8]
            added[i] += rows_of_runs(operations[at, 2], op[1], op[2], listed, table, starts)
