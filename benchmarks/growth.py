"""How the cost of a simulation grows with time steps, images and the width of the network.

    python benchmarks/growth.py [--repeats 5] [--figure growth.png]

CPU and wall time of `predict`, medians, in one process, after a first call that traces and compiles. From
row to row the work doubles, so the ratio to the row before should be 2 where the cost is proportional to it.
"""

import argparse

import keras
import numpy as np
from keras import layers
from machine import describe
from timing import median_times

import keras_snn

TIMESTEPS = (16, 32, 64, 128, 256)
IMAGES = (64, 128, 256, 512, 1024)
# Channels grow by the root of 2, so that multiply-adds double.
WIDTHS = (16, 23, 32, 45, 64)


def network(width):
    """Four convolutions of `width` channels, whose multiply-adds are nearly all of the network's."""
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(width, 3, activation="relu")])
    for _ in range(3):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    return model


def macs(model):
    """Return the multiply-adds of all layers but the first, which the simulation computes once."""
    per_layer = {layer.name: layer.macs for layer in keras_snn.count_operations(model).layers}
    return sum(list(per_layer.values())[1:])


def measure(repeats):
    """Yield `(what grows, its value, its work, CPU seconds, wall seconds)`."""
    rng = np.random.default_rng(0)
    images = rng.random((max(IMAGES), 16, 16, 3), dtype="float32")

    def times(snn, samples):
        return median_times(lambda: snn.predict(images[:samples], batch_size=64, verbose=0), repeats)

    model = network(32)
    snn = keras_snn.convert(model, images[:64], preset="rueckauer2017", verbose=0)
    for timesteps in TIMESTEPS:
        snn.timesteps = timesteps
        yield ("time steps", timesteps, timesteps, *times(snn, 128))
    snn.timesteps = 32
    for samples in IMAGES:
        yield ("images", samples, samples, *times(snn, samples))
    for width in WIDTHS:
        model = network(width)
        snn = keras_snn.convert(model, images[:64], preset="rueckauer2017", timesteps=32, verbose=0)
        yield ("channels", width, macs(model), *times(snn, 128))


def draw(rows, path):
    """Draw CPU time against the work, both as multiples of the first row of their kind."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = {"time steps": ("o", "#0072B2"), "images": ("s", "#D55E00"), "channels": ("^", "#009E73")}
    for kind, (marker, color) in styles.items():
        of_kind = np.array([row[2:4] for row in rows if row[0] == kind])
        label = "multiply-adds (channels)" if kind == "channels" else kind
        axes.loglog(*(of_kind / of_kind[0]).T, marker=marker, color=color, label=label)
    axes.loglog([1, 16], [1, 16], "k--", linewidth=1, label="proportional")
    axes.set_xlabel("work, multiple of the first row")
    axes.set_ylabel("CPU time, multiple of the first row")
    ticks = [1, 2, 4, 8, 16]
    axes.set_xticks(ticks, ticks)
    axes.set_yticks(ticks, ticks)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--figure", help="file to draw the rows to")
    options = parser.parse_args()
    print(f"{describe()}; medians of {options.repeats}\n")
    print("| what grows | value | CPU, s | wall, s | work ÷ row before | CPU ÷ row before |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    rows = []
    for row in measure(options.repeats):
        kind, value, work, cpu, wall = row
        ratios = "| |"
        if rows and rows[-1][0] == kind:
            ratios = f"| {work / rows[-1][2]:.2f} | {cpu / rows[-1][3]:.2f} |"
        print(f"| {kind} | {value} | {cpu:.2f} | {wall:.2f} {ratios}", flush=True)
        rows.append(row)
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
