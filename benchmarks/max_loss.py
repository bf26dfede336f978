"""Networks that `convert(…, max_loss=…)` chooses: what they lose on test data, and what they cost.

    TFDS_DATA_DIR=… python benchmarks/max_loss.py [networks] [--max-loss 0.1] [--trials 4] [--samples 2000]
        [--neurons if signed] [--validation] [--tables]

Each trial has other training images, half of which calibrate and half of which judge; nothing is chosen on
the test set, on all of which the loss is measured then. With `--validation` they are images of the test set
instead, on the rest of which the loss is measured. Losses are in points of accuracy. Beside a loss is by
how much it exceeds, or falls short of, what is expected by chance alone in one of twenty cases: 1.64 standard
deviations of as many changed decisions. CPU time is that of the search, in runs of the source network over
its samples.
"""

import argparse
import pathlib
import sys
import time
import warnings

import numpy as np
from machine import describe

import keras_snn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks

NETWORKS = ("mnist_cnn", "lenet5", "cifar10_cnn", "resnet", "mobilenet")
COLUMNS = (
    "network",
    "trial",
    "chosen",
    "loss, at most",
    "lost on the test set",
    "± by chance",
    "operations / dense",
    "/ zero-skipping",
    "CPU / source",
)


def row(name, model, trial, options):
    """Return the cells of a trial."""
    dataset = networks.NETWORKS[name][1]
    x, y = networks.data(dataset, "test" if options.validation else "train")
    given = np.arange(trial * options.samples, (trial + 1) * options.samples)
    x_test, y_test = networks.data(dataset, "test")
    if options.validation:
        x_test, y_test = (np.delete(of_test, given, axis=0) for of_test in (x_test, y_test))
    x, y = x[given], y[given]
    of_source = model.predict(x_test, batch_size=100, verbose=0).argmax(axis=-1)
    model.predict(x[:100], batch_size=100, verbose=0)
    started = time.process_time()
    model.predict(x, batch_size=100, verbose=0)
    between = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wish = {"max_loss": options.max_loss, "neurons": options.neurons}
        snn = keras_snn.convert(model, x, y, **wish, verbose=0)
    seconds = time.process_time() - between
    found = snn.conversion_report.search
    if options.tables:
        print(found, file=sys.stderr, flush=True)
    chosen = next(trial for trial in found.trials if trial.outcome == "chosen")
    decided = snn.predict(x_test, batch_size=100, verbose=0).argmax(axis=-1)
    right, still = of_source == y_test, decided == y_test
    lost = 100 * (right.mean() - still.mean())
    by_chance = 164.5 * np.sqrt(np.sum(right != still)) / len(y_test)
    counts = keras_snn.count_operations(snn, x_test[:100])
    needed = counts.operations_with_updates
    ratios = (f"{needed / other:.2f}" for other in (counts.ann_operations, counts.zero_skipping_operations))
    at_most = f"{chosen.upper:.3f}{'' if found.met else ' (not met)'}"
    cost = seconds / (between - started)
    return (
        name,
        trial,
        chosen.candidate,
        at_most,
        f"{lost:+.2f}",
        f"{by_chance:.2f}",
        *ratios,
        f"{cost:.0f}",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--max-loss", type=float, default=0.1, help="points")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--samples", type=int, default=2000, help="training images of a trial")
    parser.add_argument("--neurons", nargs="+", help="to choose among")
    parser.add_argument("--validation", action="store_true", help="images that no network was trained on")
    parser.add_argument("--tables", action="store_true", help="print what was tried, as errors are")
    options = parser.parse_args()
    print(f"{describe()}\n\n| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for name in options.names or NETWORKS:
        model = networks.trained(name)
        for trial in range(options.trials):
            print(f"| {' | '.join(map(str, row(name, model, trial, options)))} |", flush=True)


if __name__ == "__main__":
    main()
