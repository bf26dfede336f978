"""Plots of what a spiking model does, one function each; all return the matplotlib `Axes`.

Without `ax` they draw on a figure of their own: `ax.figure` shows or saves it.
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from keras_snn._validation import check_integer
from keras_snn.analysis.diagnosis import Diagnosis, LayerDiagnosis
from keras_snn.analysis.operation_counts import OperationCounts
from keras_snn.reporting.drawing import COLORS, axes_of, bars_per_layer, finish, plain_name, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "accuracy_over_time",
    "activation_against_rate",
    "error_over_operations",
    "error_per_layer",
    "firing_rate_histogram",
    "membrane_potentials",
    "spike_raster",
    "spike_time_histogram",
    "spike_wave",
]

# The width of a mark that can still be seen, in points.
_THINNEST = 0.7
_PARTS = ("clipping", "inherited", "quantisation", "unevenness")


def accuracy_over_time(
    accuracies: ArrayLike, ann_accuracy: float | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw the accuracy after every time step.

    Args:
        accuracies: Fractions in [0, 1], `(timesteps,)`, as `SimulationResult.accuracy_over_time`.
        ann_accuracy: Accuracy of the source network, drawn as a line.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax)
    steps = np.arange(1, len(accuracies) + 1)
    marker = "." if len(steps) <= 64 else ""
    ax.plot(steps, 100 * np.asarray(accuracies), color=COLORS[0], marker=marker, label="SNN")
    if ann_accuracy is not None:
        ax.axhline(100 * ann_accuracy, color=COLORS[1], linestyle="--", label="ANN")
    return finish(ax, "time steps", "accuracy in %", legend=ann_accuracy is not None)


def activation_against_rate(layer: LayerDiagnosis, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the firing rates of a layer against the activations of the source network, in units of λ.

    Without loss, all points lie on the line rate = activation / λ. It ends at the largest rate that the
    neurons have: points along the flat line after it are clipped.

    Args:
        layer: A `LayerDiagnosis`.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax, square=True)
    least, most = (f(layer.activations, initial=0.0) for f in (np.min, np.max))
    largest = layer.largest_rate
    end = min(largest, max(1.0, most, np.max(layer.rates, initial=0.0)))
    line = {"color": COLORS[1], "zorder": 1}
    ax.plot([least, end], [least, end], label="rate = activation / λ", **line)
    if most > largest:
        ax.plot([largest, most], [largest] * 2, linestyle="--", label="clipped: the largest rate", **line)
    ax.scatter(
        layer.activations,
        layer.rates,
        s=9,
        alpha=0.35,
        color=COLORS[0],
        linewidths=0,
        label="neuron",
        zorder=2,
    )
    correlation = "" if layer.correlation is None else f", correlation {layer.correlation:.4f}"
    ax.set_title(plain_name(layer.name) + correlation)
    finish(ax, "ANN activation / λ", "SNN rate: sum of spikes / time steps", legend=False)
    # Below the line there are few points.
    ax.legend(fontsize=9.5, frameon=False, loc="lower right")
    return ax


def firing_rate_histogram(
    firing_rates: Mapping[str, ArrayLike], *, bins: int = 25, ax: "Axes | None" = None
) -> "Axes":
    """Draw how many neurons of each layer fire at which rate.

    Args:
        firing_rates: Dict of arrays of spikes per step by layer name, as `SimulationResult.firing_rates`.
        bins: Number of bins between the lowest and the highest rate of all layers.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax)
    rates = {name: np.abs(np.asarray(values)).ravel() for name, values in firing_rates.items()}
    most = max((values.max(initial=0.0) for values in rates.values()), default=1.0)
    edges = np.linspace(0.0, most or 1.0, bins + 1)
    for i, (name, values) in enumerate(rates.items()):
        counts, _ = np.histogram(values, edges)
        ax.stairs(
            100 * counts / max(len(values), 1), edges, label=plain_name(name), linewidth=1.8, **style_of(i)
        )
    ax.set_yscale("log")
    return finish(ax, "rate in spikes per step", "neurons in % (logarithmic)", legend=True)


def spike_raster(
    spike_train: ArrayLike, neurons: int | Sequence[int | tuple[int, ...]] = 100, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw a mark for every spike of one sample; the larger the spike, the wider.

    Args:
        spike_train: Spikes of a layer, `(timesteps, …)`, as `SimulationResult.spike_trains[name][0]`.
        neurons: The most neurons to draw, spread evenly over the layer; or the index of each to draw: its
            place in the flattened layer, or a tuple.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax, height=5.2)
    train = np.asarray(spike_train)
    chosen, names = _chosen(neurons, train.shape[1:])
    total, train = math.prod(train.shape[1:]), _flat(train)[:, chosen]
    ax.set_xlim(0.5, len(train) + 0.5)
    ax.set_ylim(-0.5, len(chosen) - 0.5)
    length, width = _mark_size(ax, len(chosen), len(train))
    largest = np.max(np.abs(train), initial=1e-9)
    is_signed = bool(np.any(train < 0))
    for i, sign in enumerate((1, -1) if is_signed else (1,)):
        steps, rows = np.nonzero(sign * train > 0)
        widths = np.maximum(width * np.abs(train[steps, rows]) / largest, _THINNEST)
        # Apart not by colour alone.
        at = steps + 1 - 0.15 * sign * is_signed
        label = "spike" if sign > 0 else "negative spike"
        ax.scatter(at, rows, s=length**2, marker="|", color=COLORS[i], linewidths=widths, label=label)
    shown = range(0, len(chosen), math.ceil(max(len(chosen), 1) / 11))
    ax.set_yticks(list(shown), [names[row] for row in shown])
    which = "" if len(chosen) == total else f" ({len(chosen):,} of {total:,})"
    finish(ax, "time step", f"neuron{which}", legend=False)
    if is_signed:
        ax.legend(fontsize=9.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def spike_wave(
    spike_trains: Mapping[str, ArrayLike], *, sample: int = 0, neurons: int = 40, ax: "Axes | None" = None
) -> "Axes":
    """Draw the spikes of a network of time codes: each layer in its window, one after the other.

    Layers between which nothing passes time follow each other too, in the order of the network.

    Args:
        spike_trains: `(batch, steps, …)` by layer name, as `SimulationResult.spike_trains`.
        sample: Which sample.
        neurons: How many neurons of each layer to draw, spread over it.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax, height=1.4 + 0.9 * len(spike_trains))
    begin, row, middles = 0, 0, []
    for i, (_, trains) in enumerate(spike_trains.items()):
        train = _flat(np.asarray(trains)[sample])
        places, _ = _chosen(neurons, train.shape[1:])
        steps, at = np.nonzero(train[:, places])
        marks = {"color": COLORS[i % len(COLORS)], "marker": "|", "markersize": 3.5, "linestyle": ""}
        ax.plot(begin + steps + 1, row + at, **marks)
        ax.axvspan(begin + 0.5, begin + len(train) + 0.5, color="0.5", alpha=0.12 * (i % 2), linewidth=0)
        middles.append(row + len(places) / 2)
        begin, row = begin + len(train), row + len(places) + 4
    ax.set_yticks(middles, [plain_name(name) for name in spike_trains])
    ax.invert_yaxis()
    ax.set_xlim(0.5, begin + 0.5)
    return finish(ax, "time step; shaded: the window of every second layer", "", legend=False)


def spike_time_histogram(spike_times: Mapping[str, ArrayLike], *, ax: "Axes | None" = None) -> "Axes":
    """Draw how many neurons of each layer send their first spike at which step of the window.

    Neurons without a spike are left out; the legend has their share.

    Args:
        spike_times: `(batch, …)` by layer name, as `SimulationResult.spike_times`.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax)
    last = max(int(np.max(times)) for times in spike_times.values())
    edges = np.arange(0.5, max(last, 1) + 1)
    for i, (name, times) in enumerate(spike_times.items()):
        times = np.asarray(times).ravel()
        label = f"{plain_name(name)} ({np.mean(times == 0):.0%} silent)"
        share = 100 * np.histogram(times, edges)[0] / times.size
        ax.stairs(share, edges, label=label, linewidth=1.6, **style_of(i))
    ax.set_xlim(0.5, edges[-1])
    return finish(ax, "time step of the first spike", "% of the neurons", legend=True)


def _mark_size(ax, rows, steps):
    """Return the length and the width of marks that keep apart, in points."""
    size = ax.get_window_extent()
    height, width = (72 / ax.figure.dpi * side for side in (size.height, size.width))
    return np.clip(0.9 * height / max(rows, 1), 1.5, 8.0), np.clip(0.2 * width / max(steps, 1), 1.2, 6.0)


def _chosen(neurons, shape):
    """Return the places in the flattened layer of the neurons to draw, and what they are called."""
    total = math.prod(shape)
    if isinstance(neurons, numbers.Integral):
        places = np.linspace(0, total - 1, min(check_integer("neurons", neurons, minimum=1), total))
        neurons = places.round().astype(int).tolist()
    places = [np.ravel_multi_index(n, shape) if isinstance(n, tuple) else n for n in neurons]
    return np.array(places, dtype=int), [
        f"{n:,}" if isinstance(n, numbers.Integral) else str(n) for n in neurons
    ]


def membrane_potentials(
    potentials: ArrayLike,
    neurons: Sequence[int | tuple[int, ...]] = (0,),
    *,
    v_threshold: float = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the membrane potential of some neurons after every step, and their threshold.

    Args:
        potentials: Of one sample, `(timesteps, …)`, as `SimulationResult.membrane_potentials[name][0]`.
        neurons: Index of each neuron: of its place in the flattened layer, or a tuple.
        v_threshold: Firing threshold: that of the neurons of the layer, which is 1 if they were not given
            another; `snn.get_layer(name).neuron.v_threshold`.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax)
    potentials = np.asarray(potentials)
    steps = np.arange(1, len(potentials) + 1)
    for i, neuron in enumerate(neurons):
        one = (
            potentials[(slice(None), *neuron)] if isinstance(neuron, tuple) else _flat(potentials)[:, neuron]
        )
        ax.plot(steps, one, label=f"neuron {neuron}", marker=".", **style_of(i))
    ax.axhline(v_threshold, color=COLORS[-1], linestyle="--", linewidth=1.2, label="threshold")
    finish(ax, "time step", f"membrane potential (threshold: {v_threshold:g})", legend=False)
    # Above, since lines are everywhere.
    ax.legend(fontsize=9.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return ax


def error_per_layer(diagnosis: Diagnosis, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the parts of the error of every layer, relative to its activations.

    Args:
        diagnosis: A `Diagnosis`.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    layers = diagnosis.layers
    bars = {part: [getattr(layer, part).relative for layer in layers] for part in _PARTS}
    ax = bars_per_layer(
        [layer.name for layer in layers], bars, "error in % of the activations (RMS)", factor=100, ax=ax
    )
    totals = [100 * layer.error.relative for layer in layers]
    style = {"linestyle": "", "marker": "D", "color": COLORS[-1]}
    ax.plot(totals, range(len(layers)), **style, label="all together")
    ax.legend(fontsize=9.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return ax


def error_over_operations(
    accuracies: ArrayLike,
    counts: OperationCounts,
    ann_accuracy: float | None = None,
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the classification error against the operations that were needed to get there.

    Of the spiking network without and with the updates of neurons; of the source network dense, and without
    zeros.

    Args:
        accuracies: Fractions in [0, 1] after every step, `(timesteps,)`.
        counts: `OperationCounts` of as many steps.
        ann_accuracy: Accuracy of the source network, drawn at its operations.
        ax: `Axes` to draw on.

    Returns:
        The `Axes`.
    """
    ax = axes_of(ax)
    errors = 100 * (1 - np.asarray(accuracies))
    spent = np.asarray(counts.snn_operations) / 1e6
    ax.plot(spent, errors, color=COLORS[0], marker=".", label="SNN, additions at synapses")
    with_updates = spent + counts.updates_over_time / 1e6
    ax.plot(with_updates, errors, color=COLORS[2], marker=".", label="SNN, with updates of neurons")
    if ann_accuracy is not None:
        baselines = {"ANN": counts.ann_operations, "ANN, without zeros": counts.zero_skipping_operations}
        for (label, needed), face in zip(baselines.items(), (COLORS[1], "none"), strict=True):
            at = ([needed / 1e6], [100 * (1 - ann_accuracy)])
            style = {"color": COLORS[1], "marker": "s", "markersize": 8, "linestyle": ""}
            ax.plot(*at, **style, markerfacecolor=face, label=label)
    ax.set_xlim(left=0)
    return finish(ax, "million operations for a sample", "error in %", legend=True)


def _flat(values):
    return values.reshape(len(values), -1)
