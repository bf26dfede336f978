"""Growth of memory over many calls in one process, and beside it that of Keras alone; one process per row.

    python benchmarks/load.py [rows] [--share 0.1]

All is of one small CNN: what a call keeps does not depend on sizes. `model.predict` and `build and predict`
are of a plain Keras model: what they grow by is of Keras and TensorFlow.

The first tenth of the calls warms up. The growth per call is the mean of those over 20 equal parts of the
others, with its 95 % interval by Student's t; garbage is collected after each part.
"""

import argparse
import gc
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
from machine import describe

import keras_snn

PARTS = 20
# Two-sided, 95 %, for 19 degrees of freedom.
STUDENT = 2.093
X = np.random.default_rng(0).random((8, 8, 8, 1), dtype="float32")


def small():
    hidden = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 1)), *hidden, keras.layers.Dense(3)])


def convert(model):
    return keras_snn.convert(model, X, preset="rueckauer2017", timesteps=4, verbose=0)


def predict_spiking():
    snn = convert(small())
    return lambda: snn.predict(X, verbose=0)


def predict_plain():
    model = small()
    return lambda: model.predict(X, verbose=0)


def convert_again():
    model = small()
    return lambda: convert(model)


def convert_and_predict():
    model = small()
    return lambda: convert(model).predict(X, verbose=0)


def build_and_predict():
    return lambda: small().predict(X, verbose=0)


ROWS = {
    "snn.predict": (predict_spiking, 10_000),
    "model.predict": (predict_plain, 10_000),
    "convert": (convert_again, 1000),
    "convert and predict": (convert_and_predict, 1000),
    "build and predict": (build_and_predict, 1000),
}


def resident():
    """Return the memory that this process holds, in KiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def measure(name, share):
    """Print the memory after the warm-up and in the end, the growth per call and its interval."""
    make, number = ROWS[name]
    call = make()
    # What is imported stays: collections of garbage need not look at it.
    gc.freeze()
    per_part = max(round(number * share * 0.9) // PARTS, 1)
    for _ in range(round(number * share) - PARTS * per_part):
        call()
    gc.collect()
    memory = [resident()]
    for _ in range(PARTS):
        for _ in range(per_part):
            call()
        gc.collect()
        memory.append(resident())
    growth = np.diff(memory) / per_part
    interval = STUDENT * growth.std(ddof=1) / np.sqrt(PARTS)
    found = {
        "begin": memory[0] / 1024,
        "end": memory[-1] / 1024,
        "growth": growth.mean(),
        "interval": interval,
    }
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--share", type=float, default=1.0, help="of the calls, for a shorter look")
    parser.add_argument("--here", action="store_true", help="measure the first row in this process")
    options = parser.parse_args()
    if options.here:
        measure(options.names[0], options.share)
        return
    print(f"{describe()}\n")
    print("| what | calls | begin, MiB | end, MiB | growth, KiB per call |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in options.names:
        command = [sys.executable, __file__, name, "--here", "--share", str(options.share)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(result.stdout.splitlines()[-1])
        number = round(ROWS[name][1] * options.share)
        print(
            f"| {name} | {number:,} | {found['begin']:.0f} | {found['end']:.0f} "
            f"| {found['growth']:.2f} ± {found['interval']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
