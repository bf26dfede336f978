"""Draws the figures of docs/results/paper.md from results.json, which `evaluate.py` writes.

    python benchmarks/paper/draw.py

Needs matplotlib (pip install -e '.[plots]').
"""

import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np

FOLDER = pathlib.Path(__file__).parent
FIGURES = FOLDER.parent.parent / "docs" / "figures"
# Blue and vermilion of Okabe and Ito: distinguishable by any eye.
BLUE, RED = "#0072B2", "#D55E00"


def error_over_time(results):
    """Draw the error of the CIFAR-10 network after every step."""
    found = results["cifar10"]
    error = np.array(found["snn_error"])
    figure, axes = plt.subplots(figsize=(6, 3.6))
    axes.semilogx(np.arange(1, len(error) + 1), error, color=BLUE, label="SNN")
    axes.axhline(found["ann_error"], color=RED, linestyle="--", label=f"ANN, {found['ann_error']:.2f} %")
    axes.set(xlabel="time steps", ylabel="test error (%)", xlim=(1, len(error)), ylim=(0, None))
    axes.set_title(f"CIFAR-10 network, {found['samples']:,} test images")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend()
    return figure


def ladder(results):
    """Draw the error at the end of the five cumulative steps."""
    rows = [
        (name.split(": ", 1)[1], found)
        for name, found in sorted(results.items())
        if name.startswith("ladder")
    ]
    figure, axes = plt.subplots(figsize=(6, 2.8))
    errors = [found["snn_error"][-1] for _, found in rows]
    bars = axes.barh(range(len(rows)), errors, color=BLUE)
    axes.bar_label(bars, [f"{error:.2f} %" for error in errors], padding=3)
    ann_error = rows[-1][1]["ann_error"]
    axes.axvline(ann_error, color=RED, linestyle="--", label=f"ANN, {ann_error:.2f} %")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set(xlabel=f"test error (%) after {rows[0][1]['timesteps']} steps", xlim=(0, 105))
    axes.legend(loc="lower right")
    return figure


def main():
    results = json.loads((FOLDER / "results.json").read_text())
    FIGURES.mkdir(exist_ok=True)
    for draw in (error_over_time, ladder):
        figure = draw(results)
        figure.savefig(FIGURES / f"{draw.__name__}.png", dpi=110, bbox_inches="tight")
        print(f"wrote {FIGURES / draw.__name__}.png")


if __name__ == "__main__":
    main()
