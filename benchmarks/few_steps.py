"""Accuracy in few time steps, nothing retrained: prints the table of docs/results/accuracy.md.

    TFDS_DATA_DIR=… python benchmarks/few_steps.py [networks] [--samples 10000] [--only exit]

All rows but those of 2016 have the same options, which were not chosen by the test set: scales of
channels by least squares, potentials corrected, 1,000 training images for both. Rounded to as many levels
as there are steps, activations are what signed neurons without correction come to in the end. The rows of
2016 are moments of one simulation. Levels of early exit are chosen on 4,000 other training images, of
which it may lose none.
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks
from machine import describe

import keras_snn

OURS = {"normalization": "mse", "per_channel": True, "bias_correction": "potential"}
OF_2016 = {"preset": "rueckauer2016"}
# Network: rows of neuron, time steps, the most that may be lost in percentage points.
ON_CIFAR10 = [("if", 64, 0.5), ("signed", 16, 0.3), ("multi_threshold", 4, 0.3)]
ROWS = {
    "mnist_cnn": [
        ("if", 8, 0.10),
        ("signed", 4, 0.05),
        ("multi_threshold", 4, 0.05),
        ("multi_threshold", 1, 0.05),
    ],
    "cifar10_cnn": [
        ("if", 32, 0.5),
        ("if", 128, 0.1),
        ("signed", 8, 0.7),
        ("signed", 16, 0.1),
        ("multi_threshold", 1, 0.3),
        ("multi_threshold", 2, 0.1),
    ],
    "resnet": ON_CIFAR10,
    "mobilenet": ON_CIFAR10,
}
# Network: the row that samples leave early, and the most that may be lost by it.
EXITS = {"cifar10_cnn": ("if", 128, 0.2)}
# Network: a row that misses, and what else was tried for it, on other training images.
TRIED = {
    "mobilenet": (
        ("signed", 16),
        [
            {},
            {"bias_correction": False},
            {"bias_correction": "bias"},
            {"normalization": "percentile"},
            {"normalization": "ltb"},
        ],
    )
}
KINDS = ("neurons", "rounded", "tried", "exit", "2016")
COLUMNS = (
    "network",
    "neuron",
    "T",
    "ANN, %",
    "SNN, %",
    "ANN − SNN",
    "at most",
    "spikes/neuron",
    "operations / dense",
    "/ zero-skipping",
    "energy/ANN",
    "clipping, quantisation, unevenness",
)
COUNTED = 100


def rows_of(name, samples, kinds):
    """Yield the cells of the rows of a network, of some of `KINDS`."""
    dataset = networks.NETWORKS[name][1]
    model = networks.trained(name)
    x_train, y_train = networks.data(dataset, "train[:5000]")
    x, y = networks.data(dataset, f"test[:{samples}]")
    ann = accuracy_of(model, x, y)

    def converted(timesteps, **options):
        return keras_snn.convert(model, x_train[:1000], timesteps=timesteps, verbose=0, **options)

    def cells(label, snn, timesteps, accuracy, target=""):
        return (name, label, timesteps, *scores(ann, accuracy), target, *costs(snn, x[:COUNTED], timesteps))

    for neuron, timesteps, target in ROWS[name] if "neurons" in kinds else ():
        snn = converted(timesteps, neuron=neuron, **OURS)
        accuracy = snn.simulate(x, y, batch_size=100).accuracy_over_time[-1]
        yield cells(neuron, snn, timesteps, accuracy, f"{target:.2f}")
    for neuron, timesteps, _ in ROWS[name] if "rounded" in kinds else ():
        if neuron == "signed":
            snn = converted(timesteps, neuron=neuron, **{**OURS, "bias_correction": False})
            accuracy = accuracy_of(keras_snn.quantized_reference(snn), x, y)
            label = f"ANN, activations of {timesteps} levels"
            yield (name, label, "", *scores(ann, accuracy), *[""] * 5)
    if name in TRIED and "tried" in kinds:
        (neuron, timesteps), options_tried = TRIED[name]
        x_tried, y_tried = x_train[1000:3000], y_train[1000:3000]
        of_ann = accuracy_of(model, x_tried, y_tried)
        for options in options_tried:
            snn = converted(timesteps, neuron=neuron, **{**OURS, **options})
            accuracy = snn.simulate(x_tried, y_tried, batch_size=100).accuracy_over_time[-1]
            changed = ", ".join(f"{option}={value!r}" for option, value in options.items()) or "as above"
            label = f"{neuron}, training images, {changed}"
            yield (name, label, timesteps, *scores(of_ann, accuracy), *[""] * 5)
    if name in EXITS and "exit" in kinds:
        neuron, timesteps, allowed = EXITS[name]
        snn = converted(timesteps, neuron=neuron, **OURS)
        found = keras_snn.calibrate_exit(snn, x_train[1000:], y_train[1000:], max_loss=0.0, batch_size=100)
        run = snn.simulate(x, y, exit="confidence", level=found.level, batch_size=100)
        accuracy, mean = run.accuracy_over_time[-1], run.steps_used.mean()
        target = f"that of T = {timesteps} + {allowed}, in {timesteps / 3:.1f} steps"
        label = f"{neuron}, early exit at {found.level:.4f}"
        yield (name, label, f"{mean:.1f}", *scores(ann, accuracy), target, *[""] * 4)
    if "2016" in kinds:
        steps = sorted({row[1] for row in ROWS[name]})
        snn = converted(steps[-1], **OF_2016)
        accuracies = snn.simulate(x, y, batch_size=100).accuracy_over_time
        for timesteps in steps:
            yield cells("if, as in 2016", snn, timesteps, accuracies[timesteps - 1])


def accuracy_of(model, x, y):
    """Return the fraction of samples that a Keras model classifies rightly."""
    return np.mean(model.predict(x, batch_size=200, verbose=0).argmax(axis=-1) == y)


def scores(ann, snn):
    """Return the cells of two accuracies and of what is lost."""
    return f"{100 * ann:.2f}", f"{100 * snn:.2f}", f"{100 * (ann - snn):+.2f}"


def costs(snn, x, timesteps):
    """Return the cells about spikes, operations, energy, and the errors, mean over the layers."""
    counts = keras_snn.count_operations(snn, x, timesteps=timesteps)
    spikes, neurons = (sum(getattr(n, what) for n in counts.neurons) for what in ("spikes", "neurons"))
    energy = counts.energy()
    layers = keras_snn.diagnose(snn, x, timesteps=timesteps).layers
    errors = [
        np.mean([getattr(layer, part).relative for layer in layers])
        for part in ("clipping", "quantisation", "unevenness")
    ]
    return (
        f"{spikes / neurons:.2f}",
        f"{counts.operations_with_updates / counts.ann_operations:.2f}",
        f"{counts.operations_with_updates / counts.zero_skipping_operations:.2f}",
        f"{energy.snn / energy.ann:.2f}",
        ", ".join(f"{error:.2f}" for error in errors),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--samples", type=int, default=10_000, help="test images")
    parser.add_argument("--only", nargs="*", default=KINDS, choices=KINDS, help="kinds of rows")
    options = parser.parse_args()
    print(f"{describe()}\n{options.samples} test images, 1,000 calibration images\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("| --- " * len(COLUMNS) + "|")
    for name in options.names or ROWS:
        for row in rows_of(name, options.samples, options.only):
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
