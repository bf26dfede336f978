"""Accuracy against time steps of the network of examples/03_convert_a_cnn.py, on the full test set.

    TFDS_DATA_DIR=… python benchmarks/accuracy.py [--dataset mnist]

Trains the network with three seeds and prints a Markdown table, with machine and versions.
"""

import argparse
import pathlib
import runpy

import keras
import numpy as np
from machine import describe

import keras_snn

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "03_convert_a_cnn.py"
STEPS = (1, 2, 4, 8, 16, 32, 64)


def measure(example, dataset, seed, epochs):
    """Return ANN accuracy, SNN accuracies at STEPS, and agreement with the ANN at STEPS."""
    keras.utils.set_random_seed(seed)
    x, y = example["load"](dataset, "train")
    x_test, y_test = example["load"](dataset, "test")
    model = example["train"](x, y, epochs)
    snn = keras_snn.convert(model, x[:500], timesteps=STEPS[-1], preset="rueckauer2017", verbose=0)
    run = snn.simulate(x_test, y_test, batch_size=100)
    of_ann = model.predict(x_test, batch_size=100, verbose=0).argmax(axis=-1)
    of_snn = run.outputs_over_time.argmax(axis=-1)
    agreement = (of_snn == of_ann[:, None]).mean(axis=0)
    picked = [t - 1 for t in STEPS]
    return np.mean(of_ann == y_test), run.accuracy_over_time[picked], agreement[picked]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="mnist", choices=["mnist", "fashion_mnist", "cifar10"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    example = runpy.run_path(str(EXAMPLE))
    rows = []
    for seed in options.seeds:
        ann, snn, agreement = measure(example, options.dataset, seed, options.epochs)
        rows.append(
            f"| {seed} | ANN − SNN | {ann:.2%} | " + " | ".join(f"{100 * (ann - s):+.2f}" for s in snn) + " |"
        )
        rows.append(f"| {seed} | agreement | | " + " | ".join(f"{a:.2%}" for a in agreement) + " |")
    print(f"\n{describe()}\n{options.dataset}, full test set, 500 calibration images, percentile 99.9\n")
    print("| seed | points or % | ANN | " + " | ".join(f"T = {t}" for t in STEPS) + " |")
    print("| --- " * (len(STEPS) + 3) + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
