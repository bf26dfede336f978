"""Seconds until something happens: the import, and the first prediction of the paper's CIFAR-10 network.

python benchmarks/start.py
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from machine import describe

IMPORT = """
import time, keras
start = time.perf_counter()
import keras_snn
print(time.perf_counter() - start)
"""
PREDICTION = """
import json, time
import numpy as np
import keras_snn, networks
model = networks.cifar10_cnn()
x = np.random.default_rng(0).random((64, 32, 32, 3), dtype="float32")
times = [time.perf_counter()]
snn = keras_snn.convert(model, x, preset="rueckauer2017", timesteps=100, verbose=0)
times.append(time.perf_counter())
for _ in range(2):
    snn.predict(x, batch_size=64, verbose=0)
    times.append(time.perf_counter())
conversion, first, second = np.diff(times)
print(json.dumps([conversion, first, first - second]))
"""


def seconds(code, repeats=5):
    """Return the medians of the numbers that so many new processes print."""
    folders = [pathlib.Path(__file__).parent / "paper", pathlib.Path(__file__).parent.parent]
    code = f"import sys; sys.path[:0] = {[str(folder) for folder in folders]}\n{code}"
    command = [sys.executable, "-c", code]
    # A first process, which is not counted, compiles what the others read, as installing a package does.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    printed = [
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        for _ in range(1 + repeats)
    ]
    return np.median([json.loads(text.splitlines()[-1]) for text in printed[1:]], axis=0)


def main():
    print(f"{describe()}; medians of 5 processes\n\n| what | seconds |\n| --- | --- |")
    print(f"| import keras_snn, after import keras | {seconds(IMPORT):.2f} |", flush=True)
    conversion, first, compiling = seconds(PREDICTION)
    print(f"| CIFAR-10 network: conversion on 64 images | {conversion:.1f} |")
    print(f"| first predict of 64 images, T = 100 | {first:.1f} |")
    print(f"| of which not in the second predict: tracing and compiling | {compiling:.1f} |")


if __name__ == "__main__":
    main()
