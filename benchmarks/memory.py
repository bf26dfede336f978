"""Time and peak memory of a conversion, and of `predict` against time steps; one process per row.

    python benchmarks/memory.py [networks] [--dtype D]

The demo network predicts 300 digits in batches of 100; VGG16 (138 million random weights, converted
without calibration data) one image of 224×224.
"""

import argparse
import importlib.resources
import json
import resource
import subprocess
import sys
import time

import keras
import numpy as np
from machine import describe

import keras_snn


def demo():
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        return model, data["x_test"][:300], data["x_calibration"]


def vgg16():
    model = keras.applications.VGG16(weights=None)
    return model, np.random.default_rng(0).random((1, *model.input_shape[1:]), dtype="float32"), None


NETWORKS = {"demo": demo, "vgg16": vgg16}


def peak():
    """Return the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name, timesteps, dtype):
    """Print MiB and seconds of a conversion and a prediction."""
    model, x, x_calibration = NETWORKS[name]()
    found = {"weights": 4 * model.count_params() / 2**20, "before": peak()}
    start = time.perf_counter()
    snn = keras_snn.convert(
        model, x_calibration, preset="rueckauer2017", timesteps=timesteps, dtype=dtype, verbose=0
    )
    found |= {"converted": peak(), "conversion": time.perf_counter() - start}
    start = time.perf_counter()
    snn.predict(x, batch_size=100, verbose=0)
    found |= {"predicted": peak(), "prediction": time.perf_counter() - start}
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--timesteps", type=int, help="measure this one in this process")
    parser.add_argument("--dtype", default="float32", help="dtype or policy of the spiking model")
    options = parser.parse_args()
    if options.timesteps:
        measure(options.names[0], options.timesteps, options.dtype)
        return
    print(f"{describe()}\n\nMiB, and seconds:\n")
    print("| network | dtype | weights | before | T | converted | predicted | convert, s | predict, s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.names:
        for timesteps in (10, 100, 400):
            command = [sys.executable, __file__, name, "--timesteps", str(timesteps)]
            command += ["--dtype", options.dtype]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(result.stdout.splitlines()[-1])
            print(
                f"| {name} | {options.dtype} | {found['weights']:.0f} | {found['before']:.0f} | {timesteps} "
                f"| {found['converted']:.0f} | {found['predicted']:.0f} | {found['conversion']:.1f} "
                f"| {found['prediction']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
