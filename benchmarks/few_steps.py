"""Accuracy in few time steps, nothing retrained: prints the table of docs/results.md.

    TFDS_DATA_DIR=… python benchmarks/few_steps.py [networks] [--samples 10000]

All rows but those of 2016 have the same options, which were not chosen by the test set: scales of
channels by least squares, potentials corrected, 1,000 training images for both.
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks
from machine import describe

import keras_snn
from keras_snn.neurons import IntegrateAndFire

OURS = {"normalization": "mse", "per_channel": True, "bias_correction": "potential"}
OF_2016 = {"normalization": "max", "neuron": IntegrateAndFire(initial_potential=0.0)}
# Network: rows of neuron, time steps, the most that may be lost in percentage points.
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
    "resnet": [("if", 64, 0.5), ("signed", 16, 0.3), ("multi_threshold", 4, 0.3)],
}
COUNTED = 100


def rows_of(name, samples):
    """Yield the cells of every row of a network."""
    dataset = networks.NETWORKS[name][1]
    model = networks.trained(name)
    x_train, _ = networks.data(dataset, "train[:1000]")
    x, y = networks.data(dataset, f"test[:{samples}]")
    ann = np.mean(model.predict(x, batch_size=200, verbose=0).argmax(axis=-1) == y)

    def cells(label, timesteps, target, **options):
        snn = keras_snn.convert(model, x_train, timesteps=timesteps, verbose=0, **options)
        snn_accuracy = snn.simulate(x, y, batch_size=100).accuracy_over_time[-1]
        counts = keras_snn.count_operations(snn, x[:COUNTED])
        spikes, neurons = (sum(getattr(n, what) for n in counts.neurons) for what in ("spikes", "neurons"))
        energy = counts.energy()
        return (
            name,
            label,
            timesteps,
            f"{100 * ann:.2f}",
            f"{100 * snn_accuracy:.2f}",
            f"{100 * (ann - snn_accuracy):+.2f}",
            target,
            f"{spikes / neurons:.2f}",
            f"{energy.snn / energy.ann:.2f}",
        )

    steps = []
    for neuron, timesteps, target in ROWS[name]:
        yield cells(neuron, timesteps, f"{target:.2f}", neuron=neuron, **OURS)
        if timesteps not in steps:
            steps.append(timesteps)
            yield cells("if, as in 2016", timesteps, "", **OF_2016)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--samples", type=int, default=10_000, help="test images")
    options = parser.parse_args()
    print(f"{describe()}\n{options.samples} test images, 1,000 calibration images\n")
    print("| network | neuron | T | ANN, % | SNN, % | ANN − SNN | at most | spikes/neuron | energy/ANN |")
    print(f"{'| --- ' * 9}|")
    for name in options.names or ROWS:
        for row in rows_of(name, options.samples):
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
