"""Accuracy of networks of integers beside that of the same networks of floats, for docs/results/accuracy.md.

    TFDS_DATA_DIR=… python benchmarks/integers.py [networks] [--bits 8 4] [--samples 2000]

Nothing is chosen on test images: the options are the defaults of `convert`, with 1,000 training images.
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks
from machine import describe

import keras_snn

# Network: time steps.
STEPS = {"mnist_cnn": 32, "lenet5": 32, "cifar10_cnn": 64}
NAMES = {"mnist_cnn": "MNIST CNN", "lenet5": "LeNet-5, MNIST", "cifar10_cnn": "CIFAR-10 CNN"}


def predictions(model, x):
    return model.predict(x, batch_size=100, verbose=0).argmax(axis=-1)


def rows_of(name, bits, samples, neuron):
    """Yield the rows of a network: floats, and integers of so many bits."""
    dataset, steps = networks.NETWORKS[name][1], STEPS[name]
    x_train, _ = networks.data(dataset, "train[:1000]")
    x, y = networks.data(dataset, f"test[:{samples}]")
    model = networks.trained(name)
    options = {"timesteps": steps, "neuron": neuron, "seed": 0, "verbose": 0}
    of_source = np.mean(predictions(model, x) == y)
    of_floats = None
    for weight_bits in (None, *bits):
        snn = keras_snn.convert(model, x_train, weight_bits=weight_bits, **options)
        found = predictions(snn, x)
        accuracy = np.mean(found == y)
        of_floats = accuracy if weight_bits is None else of_floats
        weights = "float32" if weight_bits is None else f"{weight_bits} bits"
        exact = "" if weight_bits is None else f"{snn.exact_steps:,}"
        yield (
            f"| {NAMES[name]} | {neuron}, T = {steps} | {weights} | {of_source:.2%} | {accuracy:.2%} "
            f"| {100 * (of_floats - accuracy):+.2f} | {exact} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[*STEPS], metavar="network")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--neuron", default="if")
    options = parser.parse_args()
    print(f"\n{describe()}\n{options.samples} test images, 1,000 training images for calibration\n")
    print("| network | neurons | weights | source network | spiking | floats − integers | exact steps |")
    print("| --- " * 7 + "|", flush=True)
    for name in options.networks:
        for row in rows_of(name, options.bits, options.samples, options.neuron):
            print(row, flush=True)


if __name__ == "__main__":
    main()
