"""What watching costs: `predict` with the TensorBoard callback against `predict` without, in one process.

    python benchmarks/callbacks.py [networks] [--timesteps 64] [--repeats 21]

The three ways take turns; CPU time of all threads beside wall time, medians. Ratios are those of a turn:
their median with its interval of 95 % confidence.
"""

import argparse
import tempfile

import keras
import numpy as np
from machine import describe
from speed import ROWS
from timing import show_ratio, take_turns

import keras_snn

WAYS = {"nobody": None, "scalars": 0, "scalars and histograms": 1}


def measure(name, timesteps, repeats, samples, folder):
    """Return what `take_turns` does of `predict`, by who watches."""
    keras.utils.set_random_seed(0)
    make, batch_size, default_samples, _ = ROWS[name]
    model = make()
    x = np.random.default_rng(0).random((samples or default_samples, *model.input_shape[1:]), dtype="float32")
    snn = keras_snn.convert(model, x[:64], preset="rueckauer2017", timesteps=timesteps, verbose=0)

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
