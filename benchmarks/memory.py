"""Peak memory of `predict` against time steps, of the demo network; one process per row.

python benchmarks/memory.py
"""

import argparse
import importlib.resources
import resource
import subprocess
import sys

import keras
import numpy as np
from machine import describe

import keras_snn

STEPS = (10, 100, 400)


def measure(timesteps):
    """Print the peak memory of this process after a prediction, in MiB."""
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        x, x_calibration = data["x_test"], data["x_calibration"]
    snn = keras_snn.convert(model, x_calibration, timesteps=timesteps, verbose=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    snn.predict(x[:300], batch_size=100, verbose=0)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"| {timesteps} | {before / 1024:.0f} | {after / 1024:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--timesteps", type=int, help="measure this one in this process")
    options = parser.parse_args()
    if options.timesteps:
        measure(options.timesteps)
        return
    print(f"{describe()}\n\n| time steps | MiB before predict | MiB peak |\n| --- | --- | --- |", flush=True)
    for timesteps in STEPS:
        subprocess.run([sys.executable, __file__, "--timesteps", str(timesteps)], check=True)


if __name__ == "__main__":
    main()
