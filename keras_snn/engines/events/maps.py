"""Maps of places, as tables of integers: where spikes go, and which of them a window holds."""

import numpy as np

from keras_snn.graph.numpy_reference import affine_windows, pool_windows

__all__ = [
    "are_apart",
    "by_place",
    "elements_of",
    "factors_of_channels",
    "merged",
    "runs_of",
    "spans_of",
    "windows_of",
]


def by_place(entries, places):
    """Return a table: where the entries of each place begin, `(places + 1,)`, and the entries in that order.

    Args:
        entries: Integers `(entries, 1 + fields)`: the place, and what the table holds of each entry.
        places: Number of places.

    Returns:
        `(table, order)`: int32, and the order that the entries are in.
    """
    order = np.argsort(entries[:, 0], kind="stable")
    starts = np.searchsorted(entries[order, 0], np.arange(places + 1))
    return np.concatenate([starts, entries[order, 1:].ravel()]), order


def factors_of_channels(parts, shape):
    """Return the factor of each channel, or `None` if it differs between places or parts."""
    channels = shape[-1] if shape else 1
    lowest, highest = np.full(channels, np.inf), np.full(channels, -np.inf)
    for part in parts:
        taken = (part.places >= 0).reshape(-1, channels)
        if np.ndim(part.factors):
            factors = part.factors.reshape(-1, channels)
            low, high = (
                reduce(factors, axis=0, where=taken, initial=start)
                for reduce, start in ((np.min, np.inf), (np.max, -np.inf))
            )
        else:
            used = taken.any(axis=0)
            low, high = np.where(used, part.factors, np.inf), np.where(used, part.factors, -np.inf)
        lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
    if np.any(highest > lowest):
        return None
    return np.where(np.isfinite(lowest), lowest, 0.0)


def spans_of(part, shape):
    """Return where whole places of a signal go: integers `(entries, 3)`, or `None` if they do not stay whole.

    Returns:
        Of every entry the place of the value, the place of the signal and the channel that its first one
        becomes.
    """
    channels, size = shape[-1] if shape else 1, part.signal.channels
    rows = part.places.reshape(-1, channels)
    follows = np.zeros(rows.shape, bool)
    follows[:, 1:] = (rows[:, 1:] == rows[:, :-1] + 1) & (rows[:, 1:] % size != 0)
    begins = (rows >= 0) & ~follows
    row, channel = np.nonzero(begins)
    first = rows[row, channel]
    # A place is whole if its first channel begins a span, and each span has all of them.
    if np.any(first % size) or len(first) * size != np.count_nonzero(rows >= 0):
        return None
    places = len(rows) // len(part.places)
    return np.stack([row % max(places, 1), first // size, channel], axis=1)


def elements_of(part, shape):
    """Return where single values of a signal go.

    Returns:
        Integers `(entries, 4)`: the place and channel of the value, and of the signal; and the factors.
    """
    channels = shape[-1] if shape else 1
    rows = part.places.reshape(len(part.places), -1, channels)
    term, place, channel = np.nonzero(rows >= 0)
    source = rows[term, place, channel]
    factors = np.broadcast_to(part.factors, part.places.shape).reshape(rows.shape)[term, place, channel]
    of_signal = np.divmod(source, part.signal.channels)
    return np.stack([place, channel, *of_signal], axis=1), factors


def runs_of(node, shape):
    """Return the runs of places that the window of a linear layer covers, and their taps.

    Places of a run follow each other, as their taps do, so that the row of weights of a spike is found by one
    sum.

    Returns:
        Integers `(outputs, runs, 3)`: the first place, that after the last, and the tap of the first less
        its place on the last axis. Runs of no places fill up.
    """
    spatial = shape[:-1]
    count = int(np.prod(spatial, dtype="int64"))
    index = np.arange(1, count + 1).reshape(1, *spatial, 1)
    if node.window:
        windows = affine_windows(node, index)
        taps = windows.reshape(int(np.prod(windows.shape[1 : len(shape)])), -1).astype("int64") - 1
        length, row = node.window[-1], spatial[-1]
    else:
        taps, length, row = index.reshape(-1, 1) - 1, 1, 1
    is_place = taps >= 0
    goes_on = np.zeros(taps.shape, bool)
    goes_on[:, 1:] = (taps[:, 1:] == taps[:, :-1] + 1) & is_place[:, :-1] & is_place[:, 1:]
    # Rows of the window follow each other in memory, but not in the list of spikes.
    goes_on[:, ::length] = False
    begins = is_place & ~goes_on
    number = np.cumsum(begins, axis=1) - 1
    runs = np.zeros((len(taps), max(int(begins.sum(axis=1).max(initial=0)), 1), 3), "int64")
    output, tap = np.nonzero(begins)
    place = taps[output, tap]
    runs[output, number[output, tap], 0] = place
    runs[output, number[output, tap], 2] = tap - place % row
    output, tap = np.nonzero(is_place)
    np.maximum.at(runs[..., 1], (output, number[output, tap]), taps[output, tap] + 1)
    return runs


def merged(runs, row):
    """Return runs of places as one run each of columns, which hold the places of all rows of a window.

    Args:
        runs: As of `runs_of`.
        row: How many places there are along the last axis.

    Returns:
        `(columns, runs)`, or `None` if there is nothing to gain or windows have gaps: integers
        `(entries, 3)`, a column, a place in it, and by how much its taps are further than those of the first
        row of the window; and runs `(outputs, 1, 3)` of columns.
    """
    first, length, tap = runs[..., 0], runs[..., 1] - runs[..., 0], runs[..., 2]
    is_run = length > 0
    at, size = first[:, :1] % row, length[:, :1]
    if runs.shape[1] == 1 or np.any(is_run & ((first % row != at) | (length != size))):
        return None
    # Runs of no places come last.
    lines = np.where(is_run, first // row, -1)
    further = np.where(is_run, tap - tap[:, :1], 0)
    rows, which = np.unique(np.concatenate([lines, further], axis=1), axis=0, return_inverse=True)
    lines, further = np.split(rows, 2, axis=1)
    which = which.reshape(-1, 1)
    number, run = np.nonzero(lines >= 0)
    columns = np.arange(row)
    entries = [number[:, None] * row + columns, lines[number, run][:, None] * row + columns]
    entries.append(np.broadcast_to(further[number, run][:, None], entries[0].shape))
    starts = which * row + at
    found = np.stack([starts, starts + np.maximum(size, 0), tap[:, :1]], axis=2)
    return np.stack(entries, axis=2).reshape(-1, 3), np.where(size[..., None] > 0, found, 0)


def are_apart(windows, number, size):
    """Whether that many windows, as of `windows_of`, all have as many places, and none in common."""
    sizes = np.bincount(windows[:, 0], minlength=number)
    return bool(np.all(sizes == size)) and len(np.unique(windows[:, 1])) == len(windows)


def windows_of(node, shape):
    """Return which places each window of a pool holds: integers `(entries, 2)`, window and place."""
    spatial = shape[:-1]
    index = np.arange(int(np.prod(spatial, dtype="int64"))).reshape(1, *spatial, 1)
    windows = pool_windows(node, index, fill=-1)
    windows = windows.reshape(int(np.prod(windows.shape[1 : len(shape)])), -1)
    window, entry = np.nonzero(windows >= 0)
    return np.stack([window, windows[window, entry]], axis=1)
