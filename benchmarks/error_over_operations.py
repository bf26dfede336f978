"""Error against operations: rates, few-step neurons and time codes beside the source network.

    TFDS_DATA_DIR=… python benchmarks/error_over_operations.py [--samples 10000] [--draw]

The paper's CIFAR-10 network, converted with the default options on 1,000 training images; nothing is chosen
on the test set. Operations are additions, multiplications and updates of neurons, on 100 test images. What is
found is written to a file beside this one after every point; what is there is not run again. `--draw` draws
`docs/figures/error_over_operations.png` of it alone; needs matplotlib (pip install -e '.[plots]').
"""

import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks
from machine import describe

import keras_snn
from keras_snn.neurons import TimeToFirstSpike

FOUND = pathlib.Path(__file__).with_suffix(".json")
FIGURE = pathlib.Path(__file__).parents[1] / "docs" / "figures" / "error_over_operations.png"
SOURCE = "source network"
# Series: its colour, by Okabe and Ito, its marker, and options of each point with a label.
SERIES = {
    "time to first spike, levels": (
        "#009E73",
        "o",
        {str(levels): {"neuron": TimeToFirstSpike(levels)} for levels in (7, 15, 31, 63)},
    ),
    "several thresholds, time steps": (
        "#CC79A7",
        "^",
        {str(steps): {"neuron": "multi_threshold", "timesteps": steps} for steps in (1, 2, 4)},
    ),
    "spikes with signs, time steps": (
        "#E69F00",
        "v",
        {str(steps): {"neuron": "signed", "timesteps": steps} for steps in (4, 8, 16)},
    ),
    "firing rates, time steps": (
        "#0072B2",
        "s",
        {str(steps): {"timesteps": steps} for steps in (8, 16, 32)},
    ),
}


def measure(samples, found):
    """Yield what is found, with one more point every time."""
    model = networks.trained("cifar10_cnn")
    x_train, _ = networks.data("cifar10", "train[:1000]")
    x, y = networks.data("cifar10", f"test[:{samples}]")

    def error_of(network):
        decided = network.predict(x, batch_size=100, verbose=0).argmax(axis=-1)
        return 100 * float(np.mean(decided != y))

    def counts_of(snn):
        return keras_snn.count_operations(snn, x[:100])

    for series, (_, _, points) in SERIES.items():
        for label, options in points.items():
            if f"{series}: {label}" in found:
                continue
            snn = keras_snn.convert(model, x_train, verbose=0, **options)
            counts = counts_of(snn)
            if SOURCE not in found:
                found[SOURCE] = {"error": error_of(model), "operations": counts.ann_operations}
                found["without zeros"] = {**found[SOURCE], "operations": counts.zero_skipping_operations}
            point = {"error": error_of(snn), "operations": counts.operations_with_updates}
            found[f"{series}: {label}"] = point
            yield found


def draw(found):
    """Return the figure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for series, (color, marker, points) in SERIES.items():
        known = [(label, found[f"{series}: {label}"]) for label in points if f"{series}: {label}" in found]
        if not known:
            continue
        places = [(point["operations"] / 1e6, point["error"]) for _, point in known]
        axes.plot(*zip(*places, strict=True), marker=marker, color=color, label=series, clip_on=True)
        for (label, _), place in zip(known, places, strict=True):
            how = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "annotation_clip": True}
            axes.annotate(label, place, xytext=(0, 7), **how)
    source = found[SOURCE]
    axes.axhline(source["error"], color="0.6", linewidth=1, linestyle="--", zorder=0)
    for name, face in ((SOURCE, "#D55E00"), ("without zeros", "white")):
        operations = found[name]["operations"] / 1e6
        label = f"source network, {source['error']:.2f} %" if name == SOURCE else "the same, zeros skipped"
        axes.plot(
            operations, source["error"], "D", color="#D55E00", markerfacecolor=face, label=label, zorder=5
        )
    axes.set_xscale("log")
    axes.set_ylim(13.5, 18)
    axes.set(xlabel="operations per image (million)", ylabel="test error (%)")
    axes.set_title("CIFAR-10: error against operations", loc="left")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xticks([10, 20, 40, 80, 160], minor=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small", frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000, help="test images")
    parser.add_argument("--draw", action="store_true", help="draw what is known")
    options = parser.parse_args()
    found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    if not options.draw:
        for points in measure(options.samples, found):
            points["where"], points["samples"] = describe(), options.samples
            FOUND.write_text(json.dumps(points, indent=1, ensure_ascii=False) + "\n")
    print(
        f"{found['where']}\n\n| | error, % | operations, million | of the source network |\n|---|---|---|---|"
    )
    for name, point in found.items():
        if isinstance(point, dict):
            share = point["operations"] / found[SOURCE]["operations"]
            print(f"| {name} | {point['error']:.2f} | {point['operations'] / 1e6:.1f} | {share:.2f} |")
    draw(found).savefig(FIGURE, dpi=110)
    print(f"\nwrote {FIGURE}")


if __name__ == "__main__":
    main()
