"""What watching costs: `predict` with the TensorBoard callback against `predict` without, in one process.

    python benchmarks/callbacks.py [networks] [--timesteps 64] [--repeats 9]

The three ways take turns; CPU time of all threads beside wall time, medians, and their ratios.
"""

import argparse
import tempfile
import time

import keras
import numpy as np
from machine import describe
from speed import ROWS

import keras_snn

WAYS = {"nobody": None, "scalars": 0, "scalars and histograms": 1}


def take_turns(ways, repeats):
    """Return median CPU and wall seconds of functions by name, behind first calls that are not counted."""
    times = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, function in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            if turn:
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: np.median(pairs, axis=0) for name, pairs in times.items()}


def measure(name, timesteps, repeats, samples, folder):
    """Return CPU and wall seconds of `predict` by who watches."""
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
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--samples", type=int)
    options = parser.parse_args()
    print(f"{describe()}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | who watches | s CPU (wall) | ratio CPU (wall) |")
    print("| --- | --- | --- | --- |", flush=True)
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            times = measure(name, options.timesteps, options.repeats, options.samples, folder)
        for way, (cpu, wall) in times.items():
            ratio_cpu, ratio_wall = times[way] / times["nobody"]
            print(
                f"| {name} | {way} | {cpu:.2f} ({wall:.2f}) | {ratio_cpu:.3f} ({ratio_wall:.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
