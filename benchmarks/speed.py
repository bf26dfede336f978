"""Time of a simulated step against a forward pass of the source network, per image; one process per row.

    python benchmarks/speed.py [networks] [--timesteps 32] [--repeats 7] [--batch-size N] [--unroll N]

CPU time of all threads beside wall time, medians. F is the CPU time of the float32 source network in the
same process, at the batch size where that is least. Passes and steps take turns; the ratio is the median of
those of a turn, with its interval of 95 % confidence (with fewer than six turns, all that there is).
"""

import argparse
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
from keras import layers
from machine import describe
from timing import show_ratio, take_turns

import keras_snn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))


_LARGEST_BATCH = 1000


def lenet():
    """Conv16 5×5, Conv32 3×3, Conv64 3×3 with average pools between, Dense10."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 5, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="lenet",
    )


def cifar10_cnn():
    """The CIFAR-10 network of Rueckauer et al. (2016)."""
    import networks

    return networks.cifar10_cnn()


def resnet18():
    """ResNet-18 for images of 32×32."""

    def convolve(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolve(image, 64, 3))
    for filters, strides in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        y = layers.ReLU()(convolve(x, filters, 3, strides))
        y = convolve(y, filters, 3)
        if x.shape != y.shape:
            x = convolve(x, filters, 1, strides)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax")(x), name="resnet18")


def as_trained(model, rng):
    """Give a new network biases and statistics that do something: conversion leaves out others."""
    for variable in model.variables:
        if variable.path.endswith(("/bias", "/beta", "/moving_mean")):
            variable.assign(rng.normal(0, 0.05, variable.shape))
        elif variable.path.endswith(("/gamma", "/moving_variance")):
            variable.assign(rng.uniform(0.8, 1.2, variable.shape))
    return model


# Name: network, batch size of the simulation, images, and what a step may cost in F, in each precision.
ROWS = {
    "lenet": (lenet, 100, 1000, {"float32": 0.65, "mixed_bfloat16": 0.45, "bfloat16": 0.45}),
    "lenet, one by one": (lenet, 1, 50, {"float32": 1.5}),
    "cifar10_cnn": (cifar10_cnn, 64, 256, {"float32": 0.9, "mixed_bfloat16": 0.55, "bfloat16": 0.55}),
    "resnet18": (resnet18, 16, 32, {"float32": 1.0, "mixed_bfloat16": 0.6, "bfloat16": 0.6}),
}


def by_batches(model, x, size):
    """Return a function that runs all batches, without what a call of `predict` costs whatever it runs."""
    return lambda: [model.predict_on_batch(x[i : i + size]) for i in range(0, len(x), size)]


def measure(name, options):
    """Return CPU and wall seconds, `(2,)`, of every turn: per image of a forward pass, and of a step."""
    keras.utils.set_random_seed(0)
    make, usual, samples, _ = ROWS[name]
    batch_size = options.batch_size or usual
    samples = max(samples, 2 * batch_size)
    rng = np.random.default_rng(0)
    model = as_trained(make(), rng)
    x = rng.random((max(samples, _LARGEST_BATCH), *model.input_shape[1:]), dtype="float32")
    snn = keras_snn.convert(
        model, x[:64], preset="rueckauer2017", timesteps=options.timesteps, dtype=options.dtype, verbose=0
    )
    snn.unroll = options.unroll or "auto"
    ways = {size: by_batches(model, x, size) for size in (16, 64, 256, _LARGEST_BATCH)}
    ways["steps"] = by_batches(snn, x[:samples], batch_size)
    times = take_turns(ways, options.repeats)
    simulated = times.pop("steps") / samples / options.timesteps
    passes = min(times.values(), key=lambda pairs: np.median(pairs[:, 0])) / len(x)
    return {"F": passes.tolist(), "step": simulated.tolist()}


def measured(command, **how):
    """Return what a command that prints what `measure` returns has measured.

    Returns:
        `(pass, step, ratios)`: medians of CPU and wall time in µs, `(2,)` each; and step ÷ pass, of CPU time,
        in every turn, `(repeats,)`.
    """
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **how)
    times = json.loads(found.stdout.splitlines()[-1])
    passes, steps = 1e6 * np.array([times["F"], times["step"]])
    return np.median(passes, axis=0), np.median(steps, axis=0), steps[:, 0] / passes[:, 0]


def passed_on(options, *names):
    """Return those of the options that are set as arguments of a command."""
    given = {name: getattr(options, name) for name in names}
    return [
        part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", str(value))
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch-size", type=int, help="samples per batch of the simulation, of all rows")
    parser.add_argument("--unroll", type=int, help="steps that one pass through the loop over time handles")
    parser.add_argument("--dtype", help="measure the one network in this process, in this precision")
    options = parser.parse_args()
    if options.dtype:
        (name,) = options.names
        print(json.dumps(measure(name, options)))
        return
    print(f"{describe()}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | batch | precision | F, µs CPU (wall) | step, µs CPU (wall) | step / F | target |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.names:
        _, usual, _, targets = ROWS[name]
        batch_size = options.batch_size or usual
        for dtype, target in targets.items():
            command = [sys.executable, __file__, name, "--dtype", dtype]
            command += passed_on(options, "timesteps", "repeats", "batch_size", "unroll")
            (pass_cpu, pass_wall), (step_cpu, step_wall), ratios = measured(command)
            print(
                f"| {name} | {batch_size} | {dtype} | {pass_cpu:.0f} ({pass_wall:.0f}) "
                f"| {step_cpu:.1f} ({step_wall:.1f}) | {show_ratio(ratios, 2)} | {target} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
