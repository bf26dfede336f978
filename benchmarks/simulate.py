"""What `simulate` without records costs beside `predict`: CPU seconds, medians, in turns.

    python benchmarks/simulate.py [networks] [--timesteps 48] [--repeats 7]

Both read the same images in one batch, after a first call that compiles. The ratio is the median of those of
a turn, with its interval.
"""

import argparse

import keras
import numpy as np
from keras import layers
from machine import describe
from speed import as_trained, cifar10_cnn, lenet
from timing import show_ratio, take_turns

import keras_snn


def heavy():
    """Four convolutions with many weights for few values."""
    hidden = [layers.Conv2D(896, 3, padding="same", activation="relu") for _ in range(4)]
    last = [layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 3)), *hidden, *last])


# Network and images.
ROWS = {"lenet": (lenet, 100), "cifar10_cnn": (cifar10_cnn, 16), "four Conv2D(896)": (heavy, 1)}


def measure(name, options):
    """Return the CPU seconds of `predict` and of `simulate`, `(repeats,)` each."""
    network, samples = ROWS[name]
    rng = np.random.default_rng(0)
    model = as_trained(network(), rng)
    x = rng.random((samples, *model.input_shape[1:]), dtype="float32")
    snn = keras_snn.convert(model, x, preset="rueckauer2017", timesteps=options.timesteps, verbose=0)
    times = take_turns(
        {
            "predict": lambda: snn.predict(x, batch_size=samples, verbose=0),
            "simulate": lambda: snn.simulate(x, batch_size=samples),
        },
        options.repeats,
    )
    return times["predict"][:, 0], times["simulate"][:, 0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(ROWS))
    parser.add_argument("--timesteps", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{describe()}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | images | predict, CPU s | simulate, CPU s | ratio |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in options.networks:
        predict, simulate = measure(name, options)
        medians = f"{np.median(predict):.3f} | {np.median(simulate):.3f}"
        print(f"| {name} | {ROWS[name][1]} | {medians} | {show_ratio(simulate / predict)} |", flush=True)


if __name__ == "__main__":
    main()
