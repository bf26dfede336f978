"""Draws the figures of docs/results.md from results.json, which `evaluate.py` writes.

    python benchmarks/paper/draw.py

Needs matplotlib (pip install -e '.[plots]').
"""

import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np

FOLDER = pathlib.Path(__file__).parent
FIGURES = FOLDER.parent.parent / "docs" / "figures"
# Blue, vermilion and green of Okabe and Ito: distinguishable by any eye.
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"


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


def error_over_operations(results):
    """Draw the error against the operations spent, as in Rueckauer et al. (2017)."""
    found, counts = results["cifar10"], results["operations"]
    error, operations = np.array(found["snn_error"]), np.array(counts["snn_operations"]) / 1e6
    ann_error, ann_operations = found["ann_error"], counts["ann_operations"] / 1e6
    figure, axes = plt.subplots(figsize=(6, 3.6))
    axes.semilogx(operations, error, color=BLUE, label="SNN, one point per time step", zorder=1)
    axes.plot(
        ann_operations,
        ann_error,
        "s",
        color=RED,
        label=f"ANN: {ann_operations:.1f} million, {ann_error:.2f} %",
    )
    same = np.searchsorted(operations, ann_operations)
    reached = np.flatnonzero(error <= ann_error)
    points = [("same operations", same)] if same < len(error) else []
    points += [("same error", reached[0])] if reached.size else []
    for name, step in points:
        label = f"{name}: {operations[step]:.1f} million, {error[step]:.2f} %, T = {step + 1}"
        axes.plot(
            operations[step], error[step], "o", color=GREEN if name == "same error" else "black", label=label
        )
    axes.set(xlabel="operations per image (million)", ylabel="test error (%)", ylim=(0, None))
    axes.set_title("CIFAR-10 network, error against operations")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize="small")
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
    for draw in (error_over_time, error_over_operations, ladder):
        figure = draw(results)
        figure.savefig(FIGURES / f"{draw.__name__}.png", dpi=110, bbox_inches="tight")
        print(f"wrote {FIGURES / draw.__name__}.png")


if __name__ == "__main__":
    main()
