"""Time codes on trained networks: accuracy, agreement with the source network, and the cost of `predict`.

    TFDS_DATA_DIR=… python benchmarks/time_codes.py [networks] [--samples 10000] [--repeats 5]
    python benchmarks/time_codes.py --large [--repeats 5]

All rows have the same options, which were not chosen by the test set: scales of channels by least squares, on
1,000 training images. Operations are additions at synapses, multiply-adds (two each) and updates of neurons,
of 100 test images, beside those of the dense source network and of one that skips zeros. CPU seconds of
`predict_on_batch` are beside those of the source network, in turns, at batch sizes 1 (100 images) and 100
(2,000); the ratio is the median of those of a turn, with its interval.

With `--large` it is only these ratios of ResNet-18 for 32×32 pixels and of VGG16 for 224×224, of random
weights, with 16 and 8 images one by one, and 100 in a batch.
"""

import argparse
import pathlib
import sys

import keras
import numpy as np
from machine import describe
from speed import as_trained, by_batches, resnet18
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


# Network, and images one by one.
LARGE = {"resnet18": (resnet18, 16), "vgg16": (lambda: keras.applications.VGG16(weights=None), 8)}


def large_rows(repeats):
    """Yield the cells of the rows of networks that nobody trained."""
    for name, (make, singles) in LARGE.items():
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        model = as_trained(make(), rng)
        x = rng.random((100, *model.input_shape[1:]), dtype="float32")
        for code in (TimeToFirstSpike(63), DigitCode(255, 2)):
            snn = keras_snn.convert(model, x[:16], neuron=code, preset="rueckauer2017", verbose=0)
            costs = [ratio(model, snn, x[:singles], 1, repeats), ratio(model, snn, x, 100, repeats)]
            yield (name, f"{type(code).__name__}, {code.levels} levels, base {code.base}", *costs)


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
        costs += [
            ratio(model, snn, x[:images], size, options.repeats) for size, images in ((1, 100), (100, 2000))
        ]
        accuracies = f"{source:.2f}", f"{spiking:.2f}", f"{source - spiking:+.2f}", f"{agreement:.2f}"
        levels = f"{code.levels} {'mixed ' if code.mixtures else ''}levels"
        yield (name, f"{type(code).__name__}, {levels}, base {code.base}", *accuracies, *costs)


def ratio(model, snn, x, size, repeats):
    """Return the CPU time of `predict_on_batch` beside the source network's, as text."""
    ways = {"source": by_batches(model, x, size), "spiking": by_batches(snn, x, size)}
    times = take_turns(ways, repeats)
    return show_ratio(times["spiking"][:, 0] / times["source"][:, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--samples", type=int, default=10_000, help="test images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="large networks of random weights: ratios only")
    options = parser.parse_args()
    if options.large:
        columns = "network", "code", "CPU, batch 1", "CPU, batch 100"
        print(f"{describe()}\n\n| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
        for cells in large_rows(options.repeats):
            print(f"| {' | '.join(cells)} |", flush=True)
        return
    print(f"{describe()}\n{options.samples} test images, 1,000 calibration images\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("| --- " * len(COLUMNS) + "|")
    for name in options.names or NETWORKS:
        for row in rows_of(name, options):
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
