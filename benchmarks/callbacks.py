"""What watching costs: `predict` with the TensorBoard callback against `predict` without, in one process.

    python benchmarks/callbacks.py [networks] [--timesteps 64] [--repeats 21]

The three ways take turns; CPU time of all threads beside wall time, medians. Ratios are those of a turn:
their median with its interval of 95 % confidence.
"""

import argparse
import math
import tempfile
import time

import keras
import numpy as np
from machine import describe
from speed import ROWS

import keras_snn

WAYS = {"nobody": None, "scalars": 0, "scalars and histograms": 1}


def take_turns(ways, repeats):
    """Return CPU and wall seconds of functions, `(repeats, 2)` by name.

    First calls are not counted. Who begins a turn changes, so that none gains by its place.
    """
    times = {name: [] for name in ways}
    for turn in range(repeats + 1):
        first = turn % len(ways)
        for name, function in [*ways.items()][first:] + [*ways.items()][:first]:
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            if turn:
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: np.array(pairs) for name, pairs in times.items()}


def show_ratio(ratios):
    """Return the median and, between order statistics, its interval of at least 95 % confidence.

    Of fewer than six ratios it is all that there is, the range.

    >>> show_ratio(np.linspace(1, 2, 11))
    '1.500 [1.100, 1.900]'
    """
    ratios, number = np.sort(ratios), len(ratios)
    # The median lies between the k-th from below and from above unless fewer than k are on one side of it.
    tails = np.cumsum([math.comb(number, k) for k in range(number)]) / 2.0**number
    k = max(int(np.searchsorted(tails, 0.025, side="right")), 1) - 1
    return f"{np.median(ratios):.3f} [{ratios[k]:.3f}, {ratios[-1 - k]:.3f}]"


def measure(name, timesteps, repeats, samples, folder):
    """Return what `take_turns` does of `predict`, by who watches."""
    keras.utils.set_random_seed(0)
    make, batch_size, default_samples, _ = ROWS[name]
    model = make()
    x = np.random.default_rng(0).random((samples or default_samples, *model.input_shape[1:]), dtype="float32")
    snn = keras_snn.convert(model, x[:64], timesteps=timesteps, verbose=0)

    def run(histogram_freq):
        callbacks = []
        if histogram_freq is not None:
            callbacks = [keras_snn.callbacks.SpikeRateTensorBoard(folder, histogram_freq=histogram_freq)]
        return lambda: snn.predict(x, batch_size=batch_size, callbacks=callbacks, verbose=0)

    return take_turns({way: run(frequency) for way, frequency in WAYS.items()}, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=["lenet", "cifar10_cnn"], help=", ".join(ROWS))
    parser.add_argument("--timesteps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--samples", type=int)
    options = parser.parse_args()
    print(f"{describe()}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | who watches | CPU, s | ratio | wall, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            times = measure(name, options.timesteps, options.repeats, options.samples, folder)
        for way, pairs in times.items():
            cpu, wall = np.median(pairs, axis=0)
            ratio_cpu, ratio_wall = map(show_ratio, (pairs / times["nobody"]).T)
            print(f"| {name} | {way} | {cpu:.2f} | {ratio_cpu} | {wall:.2f} | {ratio_wall} |", flush=True)


if __name__ == "__main__":
    main()
