"""Fair times: who is compared takes turns, so that what else the machine does hits all alike."""

import math
import time

import numpy as np


def seconds(function):
    """Return CPU seconds of all threads and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


def turns(names, repeats):
    """Yield `(turn, name)` of so many turns; who begins one changes, so that none gains by its place."""
    names = list(names)
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            yield turn, name


def take_turns(ways, repeats):
    """Return CPU and wall seconds of functions, `(repeats, 2)` by name; first calls are not counted."""
    times = {name: [] for name in ways}
    for function in ways.values():
        function()
    for _, name in turns(ways, repeats):
        times[name].append(seconds(ways[name]))
    return {name: np.array(pairs) for name, pairs in times.items()}


def median_times(function, repeats):
    """Return the medians of CPU and wall seconds, after a first call that is not counted."""
    return np.median(take_turns({"": function}, repeats)[""], axis=0)


def show_ratio(ratios, digits=3):
    """Return the median and, between order statistics, its interval of at least 95 % confidence.

    Of fewer than six ratios it is all that there is, the range.

    >>> show_ratio(np.linspace(1, 2, 11))
    '1.500 [1.100, 1.900]'
    """
    ratios, number = np.sort(ratios), len(ratios)
    # The median lies between the k-th from below and from above unless fewer than k are on one side of it.
    tails = np.cumsum([math.comb(number, k) for k in range(number)]) / 2.0**number
    k = max(int(np.searchsorted(tails, 0.025, side="right")), 1) - 1
    return f"{np.median(ratios):.{digits}f} [{ratios[k]:.{digits}f}, {ratios[-1 - k]:.{digits}f}]"
