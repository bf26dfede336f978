"""The picture of each result: what its `plot` draws."""

import numpy as np

from keras_snn._results import draws
from keras_snn.analysis.diagnosis import Diagnosis
from keras_snn.analysis.exit_calibration import ExitCalibration
from keras_snn.analysis.operation_counts import OperationCounts
from keras_snn.conversion.conversion_report import ConversionReport
from keras_snn.conversion.search_report import Search
from keras_snn.reporting import plots
from keras_snn.reporting.drawing import COLORS, axes_of, bars_per_layer, finish, plain_name
from keras_snn.simulation.result import SimulationResult
from keras_snn.simulation.statistics import SimulationStatistics

__all__ = [
    "of_conversion",
    "of_counts",
    "of_exit",
    "of_report",
    "of_search",
    "of_simulation",
    "of_statistics",
]

draws(Diagnosis)(plots.error_per_layer)


@draws(ConversionReport)
def of_conversion(report, *, ax=None):
    """Draw, for each layer of neurons, what rounding and clipping alone cost of its activations."""
    layers = [layer for layer in report.layers if layer.error is not None]
    if not layers:
        raise ValueError(
            "`plot` draws what calibration data shows. Received: a report of a conversion without data. "
            "Convert with calibration_data."
        )
    bars = {
        "error of rounding and clipping": [layer.error for layer in layers],
        "activations that are clipped": [layer.clipped for layer in layers],
    }
    return bars_per_layer([layer.name for layer in layers], bars, "% of the activations", factor=100, ax=ax)


@draws(OperationCounts)
def of_counts(counts, *, ax=None):
    """Draw the operations of each layer: of the source network, and of the spiking one in all steps."""
    layers = [layer for layer in counts.layers if layer.ann_operations or layer.additions is not None]
    if not layers:
        raise ValueError("`plot` draws operations of layers. Received: counts of no layer with weights.")
    bars = {"ANN": [layer.ann_operations for layer in layers]}
    if counts.has_spikes:
        about = " (≈)" if counts.is_estimated else ""
        bars[f"ANN, without zeros{about}"] = [layer.zero_skipping for layer in layers]
        bars["SNN"] = [layer.snn_operations[-1] for layer in layers]
    names = [layer.name for layer in layers]
    unit, factor = ("million ", 1e-6) if max(map(max, bars.values())) >= 1e5 else ("", 1)
    return bars_per_layer(names, bars, f"{unit}operations for a sample", factor=factor, ax=ax)


@draws(ExitCalibration)
def of_exit(calibration, *, ax=None):
    """Draw accuracy against the mean number of steps, for every level; the chosen one marked."""
    _, steps, accuracy = np.asarray(calibration.curve).T
    ax = axes_of(ax)
    ax.plot(steps, 100 * accuracy, color=COLORS[0], marker=".", label="levels of confidence")
    full = {"color": COLORS[1], "linestyle": "--", "label": f"all {calibration.timesteps} steps"}
    ax.axhline(100 * calibration.full_accuracy, **full)
    chosen = {"color": COLORS[2], "marker": "D", "linestyle": "", "label": f"level {calibration.level:.4g}"}
    ax.plot([calibration.mean_timesteps], [100 * calibration.accuracy], **chosen)
    return finish(ax, "time steps of a sample, mean", "accuracy in %", legend=True)


@draws(SimulationResult)
def of_simulation(result, *, ax=None):
    """Draw the accuracy over time; without labels what was recorded: rates, times of spikes, a train."""
    if result.accuracy_over_time is not None:
        return plots.accuracy_over_time(result.accuracy_over_time, ax=ax)
    if "spike_counts" in result.records:
        return plots.firing_rate_histogram(result.firing_rates, ax=ax)
    if "spike_times" in result.records:
        return plots.spike_time_histogram(result.spike_times, ax=ax)
    if "spike_trains" in result.records:
        name, trains = next(iter(result.spike_trains.items()))
        ax = plots.spike_raster(trains[0], ax=ax)
        ax.set_title(f"{plain_name(name)}, first sample")
        return ax
    raise ValueError(
        "`plot` draws accuracies, rates or spikes. Received: a result without labels, with "
        f"record={sorted(result.records)}. Simulate with y, or record=['spike_counts']."
    )


@draws(SimulationStatistics)
def of_statistics(statistics, *, ax=None):
    """Draw the accuracy over time; without labels the rates."""
    if statistics.accuracy_over_time is not None:
        return plots.accuracy_over_time(statistics.accuracy_over_time, ax=ax)
    if statistics.firing_rates:
        return plots.firing_rate_histogram(statistics.firing_rates, ax=ax)
    raise ValueError(
        "`plot` draws accuracies or rates. Received: statistics without either. Simulate with y, or "
        "record=['spike_counts']."
    )


_COSTS = {
    "operations": "operations for a sample",
    "energy": "joules for a sample",
    "spikes": "spikes for a sample",
    "timesteps": "time steps for a sample",
}


@draws(Search)
def of_search(search, *, ax=None):
    """Draw what each network loses against what it costs, with a line up to the most that it may lose."""
    drawn = [trial for trial in search.trials if trial.loss is not None and trial.cost is not None]
    if not drawn:
        raise ValueError(
            "`plot` draws networks that were judged and counted. Received: a search that counted none. Allow "
            "a larger max_loss."
        )
    ax = axes_of(ax)
    unit, factor = ("million ", 1e-6) if max(trial.cost for trial in drawn) >= 1e5 else ("", 1)
    kinds = list(dict.fromkeys(_kind(trial) for trial in drawn))
    for trial in drawn:
        chosen = trial.outcome == "chosen"
        color = COLORS[kinds.index(_kind(trial)) % len(COLORS)]
        above = [[0], [max(trial.upper - trial.loss, 0.0)]]
        mark = {"color": color, "fmt": "D" if chosen else "o", "markersize": 7 if chosen else 5, "capsize": 3}
        label = f"chosen: {plain_name(trial.candidate)}" if chosen else None
        ax.errorbar([factor * trial.cost], [trial.loss], above, label=label, **mark)
    for i, kind in enumerate(kinds):
        label = f"{plain_name(kind)}, a line up to the most it may lose"
        ax.plot([], [], marker="o", linestyle="", color=COLORS[i % len(COLORS)], label=label)
    ax.axhline(
        search.max_loss, color="0.4", linestyle="--", linewidth=1.2, label=f"limit, {search.max_loss:g}"
    )
    ax.margins(x=0.1, y=0.1)
    return finish(ax, unit + _COSTS[search.minimize], f"loss of {search.measure}", legend=True)


def _kind(trial):
    """Return the neuron of a candidate, which its name begins with."""
    return trial.candidate.split(",")[0]


def of_report(report, *, ax=None):
    """Draw the accuracy over time; without labels the agreement, without classes the errors of layers."""
    agreement = report.agreement
    if agreement is None:
        return plots.error_per_layer(report.diagnosis, ax=ax)
    if agreement.accuracy_over_time is not None:
        return plots.accuracy_over_time(agreement.accuracy_over_time, agreement.ann_accuracy, ax=ax)
    ax = plots.accuracy_over_time(agreement.agreement_over_time, ax=ax)
    ax.set_ylabel("agreement with the source network in %", fontsize=11)
    return ax
