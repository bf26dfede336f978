"""Time of a simulated step on every backend, per image; one process per row.

    python benchmarks/backends.py [networks] [--backends tensorflow jax torch] [--timesteps 32] [--repeats 7]
        [--batch-size N] [--unroll N]

CPU time of all threads beside wall time, medians. F is a forward pass of the source network on the same
backend, at the batch size where that takes the least CPU time; both take turns, as in speed.py. A backend
that finds a graphics card uses it.
"""

import argparse
import importlib.metadata
import os
import pathlib
import sys

from machine import describe
from speed import ROWS, measured, passed_on
from timing import show_ratio

SPEED = pathlib.Path(__file__).parent / "speed.py"


def measure(name, backend, options):
    """Return what `measured` does on a backend."""
    command = [sys.executable, str(SPEED), name, "--dtype", "float32"]
    command += passed_on(options, "timesteps", "repeats", "batch_size", "unroll")
    return measured(command, env={**os.environ, "KERAS_BACKEND": backend})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=["lenet", "lenet, one by one", "cifar10_cnn"])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch-size", type=int, help="samples per batch of the simulation, of all rows")
    parser.add_argument("--unroll", type=int, help="steps that one pass through the loop over time handles")
    options = parser.parse_args()
    print(f"{describe()}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | batch | backend | F, µs CPU (wall) | step, µs CPU (wall) | step / F |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.names:
        batch_size = options.batch_size or ROWS[name][1]
        for backend in options.backends:
            (pass_cpu, pass_wall), (step_cpu, step_wall), ratios = measure(name, backend, options)
            print(
                f"| {name} | {batch_size} | {backend} {importlib.metadata.version(backend)} "
                f"| {pass_cpu:.0f} ({pass_wall:.0f}) | {step_cpu:.1f} ({step_wall:.1f}) "
                f"| {show_ratio(ratios, 2)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
