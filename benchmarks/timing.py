"""Fair times."""

import time

import numpy as np


def median_times(function, repeats):
    """Return the medians of CPU and wall seconds, behind a first call that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return np.median(times, axis=0)
