"""Time codes on trained networks: accuracy, agreement with the source network, and the cost of `predict`.

    TFDS_DATA_DIR=… python benchmarks/time_codes.py [networks] [--samples 10000] [--repeats 5]

All rows have the same options, which were not chosen by the test set: scales of channels by least squares, on
1,000 training images. Operations are additions at synapses, multiply-adds (two each) and updates of neurons,
of 100 test images, beside those of the dense source network and of one that skips zeros. CPU seconds of
`predict_on_batch` are beside those of the source network, in turns, at batch sizes 1 (100 images) and 100
(2,000); the ratio is the median of those of a turn, with its interval.
"""

import argparse
import pathlib
import sys

import numpy as np
from machine import describe
from timing import show_ratio, take_turns

import keras_snn
from keras_snn.neurons import DigitCode, TimeToFirstSpike

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks

NETWORKS = ("mnist_cnn", "lenet5", "cifar10_cnn", "resnet", "mobilenet")
CODES = (
    TimeToFirstSpike(15),
    TimeToFirstSpike(31),
    TimeToFirstSpike(63),
    DigitCode(63, 8),
    DigitCode(63, "auto"),
    DigitCode(63, "auto", mixed=True),
    DigitCode(255, 2),
)
COLUMNS = (
    "network",
    "code",
    "source, %",
    "spiking, %",
    "lost",
    "agreement, %",
    "operations / dense",
    "/ zero-skipping",
    "CPU, batch 1",
    "CPU, batch 100",
)


def rows_of(name, options):
    """Yield the cells of the rows of a network."""
    dataset = networks.NETWORKS[name][1]
    model = networks.trained(name)
    x_train, _ = networks.data(dataset, "train[:1000]")
    x, y = networks.data(dataset, f"test[:{options.samples}]")
    of_source = model.predict(x, batch_size=100, verbose=0).argmax(axis=-1)
    for code in CODES:
        snn = keras_snn.convert(model, x_train, neuron=code, bias_correction=False, verbose=0)
        decided = snn.predict(x, batch_size=100, verbose=0).argmax(axis=-1)
        source, spiking = (100 * np.mean(found == y) for found in (of_source, decided))
        agreement = 100 * np.mean(of_source == decided)
        counts = keras_snn.count_operations(snn, x[:100])
        needed = counts.operations_with_updates
        costs = [
            f"{needed / other:.2f}" for other in (counts.ann_operations, counts.zero_skipping_operations)
        ]
        costs += [ratio(model, snn, x, size, options.repeats) for size in (1, 100)]
        accuracies = f"{source:.2f}", f"{spiking:.2f}", f"{source - spiking:+.2f}", f"{agreement:.2f}"
        levels = f"{code.levels} {'mixed ' if code.mixtures else ''}levels"
        yield (name, f"{type(code).__name__}, {levels}, base {code.base}", *accuracies, *costs)


def ratio(model, snn, x, size, repeats):
    """Return the CPU time of `predict_on_batch` beside the source network's, as text."""
    batches = [x[i : i + size] for i in range(0, 100 if size == 1 else 2000, size)]
    times = take_turns(
        {
            "source": lambda: [model.predict_on_batch(batch) for batch in batches],
            "spiking": lambda: [snn.predict_on_batch(batch) for batch in batches],
        },
        repeats,
    )
    return show_ratio(times["spiking"][:, 0] / times["source"][:, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--samples", type=int, default=10_000, help="test images")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{describe()}\n{options.samples} test images, 1,000 calibration images\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("| --- " * len(COLUMNS) + "|")
    for name in options.names or NETWORKS:
        for row in rows_of(name, options):
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
