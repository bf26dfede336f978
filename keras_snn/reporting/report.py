"""The report on a spiking model: how it does on data, what it costs, and where it loses."""

import dataclasses
import datetime
import importlib
import json
import os
import platform
from typing import Any

import keras
import numpy as np

from keras_snn._files import check_file, output_path, replacing
from keras_snn._results import PlottedResult, Rows, draws, plain
from keras_snn._types import Config, Data
from keras_snn._version import __version__
from keras_snn.analysis.causes import Agreement, find_causes
from keras_snn.analysis.counting import OperationTally, operations_of
from keras_snn.analysis.diagnosis import PARTS, Comparison, Diagnosis, diagnosis_of
from keras_snn.analysis.energy import EnergyEstimate, Figures, check_figures
from keras_snn.analysis.observers import summarize
from keras_snn.analysis.operation_counts import OperationCounts
from keras_snn.reporting import html, pictures
from keras_snn.reporting.drawing import check_matplotlib
from keras_snn.reporting.observers import Classes, Outputs, Spikes
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import alone, source_graph

__all__ = ["Report", "report", "report_of", "summarize_report"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Report(PlottedResult):
    """How a spiking model does on data; `print` it for the summary.

    Attributes:
        name: Name of the model.
        diagnosis: A `Diagnosis`.
        counts: An `OperationCounts`.
        agreement: An `Agreement`, or `None` if the model does not classify.
        energy: An `EnergyEstimate`.
        options: Dict of the options that the model was converted with; `seed` is `None` if it draws nothing.
        run: Dict of how it was run: steps, samples, samples per batch, and figures of the energy.
        versions: Dict of the versions that converted it and that ran it.
        trains: Spikes of some neurons for the first sample, `(timesteps, neurons)` by layer; of time codes
            `(window, neurons)`.
        date: When it was made, as in ISO 8601.
        output_error: Relative RMS error of all outputs after every step, `(timesteps,)`; `None` where the
            source network gives zeros.
        spike_times: Steps of the first spikes for that sample, from 1, `(neurons,)` by layer; 0 of those that
            do not spike.
    """

    name: str
    diagnosis: Diagnosis
    counts: OperationCounts
    agreement: Agreement | None
    energy: EnergyEstimate
    options: dict
    run: dict
    versions: dict
    trains: dict = dataclasses.field(default_factory=dict)
    date: str = ""
    output_error: np.ndarray | None = None
    spike_times: dict = dataclasses.field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        parts = [
            f"'{self.name}'",
            f"{self.diagnosis.samples:,} samples",
            self.diagnosis.duration,
        ]
        if self.agreement is not None and self.agreement.ann_accuracy is not None:
            parts.append(f"accuracy {self.agreement.accuracy_over_time[-1]:.2%}")
            parts.append(f"of the source network {self.agreement.ann_accuracy:.2%}")
        elif self.agreement is not None:
            parts.append(f"agrees on {self.agreement.agreement_over_time[-1]:.2%}")
        return ", ".join(parts)

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: the findings, then those of `diagnosis` and `counts`."""
        findings = [("most likely causes",), *((finding,) for finding in self.findings)]
        return [findings, *self.diagnosis.tables(), *self.counts.tables()[:1]]

    def to_dict(self) -> Config:
        """Return `facts`."""
        return self.facts

    @property
    def findings(self) -> list[str]:
        """The most likely causes of a loss, and what to do; sentences."""
        return find_causes(self.diagnosis, self.agreement, self.options)

    @property
    def summary(self) -> str:
        """What came out, in a few sentences."""
        duration, samples = self.diagnosis.duration, f"{self.diagnosis.samples:,} samples"
        spikes = 1 - self.counts.activation_sparsity
        counts = self.counts
        numbers = (counts.snn_operations[-1], counts.operations_with_updates)
        baselines = (counts.ann_operations, counts.zero_skipping_operations)
        snn, with_updates, ann, without = map(_of_operations, (*numbers, *baselines))
        about = "an estimated " if counts.is_estimated else ""
        cost = (
            f"A neuron spikes {spikes:.3g} times per step on average; a sample takes {snn} "
            f"operations, {with_updates} with the updates of neurons, against {ann} of the "
            f"source network, {about}{without} without zeros. "
            f"Energy, as estimated: {self.energy.comparison}."
        )
        if self.agreement is None:
            if self.output_error is None:
                return f"Run on {samples} for {duration}. {cost}"
            error = f"{self.output_error[-1]:.2%} (root mean square)"
            return f"After {duration} the outputs on {samples} are off by {error}. {cost}"
        labels = self.agreement.labels
        decisions = samples if labels == 1 else f"{labels} labels each of {samples}"
        same = f"{self.agreement.agreement_over_time[-1]:.2%}"
        if self.agreement.ann_accuracy is None:
            same = f"it puts {same} of {decisions} into the same class as its source network"
            return f"After {duration} {same}. {cost}"
        right = f"{self.agreement.accuracy_over_time[-1]:.2%} of {decisions} right"
        return (
            f"After {duration} the spiking network gets {right}, its source network "
            f"{self.agreement.ann_accuracy:.2%}; they agree on {same}. {cost}"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """All numbers of the report, as plain values that JSON has; what is not finite is `None`."""
        counts, agreement = self.counts, self.agreement
        ours = ("effective_macs", "effective_acs", "dense", "activation_sparsity", "footprint")
        return plain(
            {
                "model": self.name,
                "date": self.date,
                "output_error": self.output_error,
                "timesteps": self.diagnosis.timesteps,
                "samples": self.diagnosis.samples,
                "summary": self.summary,
                "findings": self.findings,
                "agreement": None if agreement is None else dataclasses.asdict(agreement),
                "layers": self.layers,
                "operations": {
                    "ann": {
                        "operations": counts.ann_operations,
                        **_named(counts, ("zero_skipping_operations", "same_levels", "is_estimated")),
                        **_named(counts, ours, "ann_"),
                    },
                    "snn": {
                        "operations_over_time": counts.snn_operations,
                        **_named(counts, ("operations_with_updates", "events", "units", *ours)),
                    },
                    **_named(counts, ("updates", "neuron_updates", "connection_sparsity", "not_counted")),
                },
                "energy": {**dataclasses.asdict(self.energy), "assumptions": self.energy.assumptions},
                "options": self.options,
                "run": self.run,
                "versions": self.versions,
            }
        )

    @property
    def layers(self) -> list[dict[str, Any]]:
        """A dict for every layer that has weights or neurons, in order; what it lacks is missing."""
        rows = {name: counts.metrics for name, counts in self.counts.by_layer.items()}
        for layer in self.diagnosis.layers:
            values = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
            shown = {k: v for k, v in values.items() if k not in ("name", "activations", "rates")}
            shown["neuron"] = str(layer.neuron)
            for part in ("error", "added", *PARTS):
                shown[part] = dataclasses.asdict(shown[part])
            rows.setdefault(layer.name, {}).update(shown)
        for layer in self.counts.neurons:
            rows[layer.name].update(neurons=layer.neurons, spikes=layer.spikes)
        return [{"name": name, **row} for name, row in rows.items()]

    def save(self, path: str | os.PathLike) -> None:
        """Write the report as an HTML file, and its `facts` beside it as .json; both, or none.

        Args:
            path: Name of the HTML file, `.html`.

        Raises:
            ValueError: If `path` is not an .html file in a folder that exists.
            ImportError: If matplotlib is not installed.
        """
        path = _checked(path)
        text_of_page = html.page_of(self)
        text = json.dumps(self.facts, indent=1, ensure_ascii=False, allow_nan=False)
        with replacing(path, path.with_suffix(".json")) as (html_file, json_file):
            html_file.write_text(text_of_page, encoding="utf-8")
            json_file.write_text(text + "\n", encoding="utf-8")

    def __str__(self):
        return "\n".join([self.summary, *(f"- {finding}" for finding in self.findings)])


draws(Report)(pictures.of_report)


def report(
    model: SpikingModel,
    x: Data,
    y: Data | None = None,
    *,
    path: str | os.PathLike | None = "report.html",
    timesteps: int | None = None,
    energy: Figures = "45nm_float32",
    batch_size: int = 32,
    verbose: int = 0,
) -> Report:
    """Run a spiking model on data and report its accuracy, what it costs, and where it loses.

    The data is run through once, in memory that does not grow with it.

    Args:
        model: A `SpikingModel`.
        x: Samples, as for `predict`; or a dataset of `(x, y)`.
        y: Labels of arrays, as for `simulate`.
        path: Where to write the HTML file, with a .json file beside it; `None` to write nothing.
        timesteps: Number of steps; `model.timesteps` if `None`.
        energy: Figures of the energy estimate: a name in `keras_snn.ENERGY_FIGURES`, or `(mac, ac)`, as
            `OperationCounts.energy` takes them.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.

    Returns:
        A `Report`.

    Raises:
        ImportError: If there is a path, and matplotlib is not installed.
        TypeError, ValueError: If an argument is not what it may be.
    """
    # Before the long run.
    check_figures("energy", energy)
    if path is not None:
        _checked(path)
        check_matplotlib()
    with alone(model):
        options = {"timesteps": timesteps, "batch_size": batch_size, "verbose": verbose, "identify": False}
        observers = observers_of(model)
        summary = summarize_report(model, x, y, observers=observers, **options)
        found = report_of(model, summary, energy=energy, observers=observers)
    if path is not None:
        found.save(path)
    return found


def observers_of(model):
    """Return a dict of what looks at a model for a report."""
    graph, activations = source = source_graph(model)
    return {
        "diagnosis": Comparison(model, source),
        "counts": OperationTally(model, source),
        "classes": Classes(model, graph),
        "spikes": Spikes({name: internals(model).network.stateful[name].neuron for name in activations}),
        "outputs": Outputs(graph),
    }


def summarize_report(model, x, y=None, *, observers=None, **options):
    """Return the `Summary` of which `report_of` makes a `Report`; `observers` as of `observers_of`."""
    observers = observers or observers_of(model)
    summary = summarize(model, "report", observers, x, y, graph=observers["counts"].graph, **options)
    # Parts may differ in it.
    summary.maxima["batch_size"] = np.asarray(float(options.get("batch_size", 32)))
    return summary


def report_of(model, summary, *, energy="45nm_float32", observers=None):
    """Return the `Report` of a summary; `observers` as of `observers_of`."""
    observers = observers or observers_of(model)
    conversion, of = model.conversion_report, {name: summary.part(name + ":") for name in observers}
    trains, spike_times = observers["spikes"].result(of["spikes"])
    counts = operations_of(model, summary, tally=observers["counts"])
    return Report(
        model.name,
        diagnosis_of(model, summary, comparison=observers["diagnosis"]),
        counts,
        observers["classes"].result(of["classes"], summary.samples),
        counts.energy(energy),
        {"seed": None, **getattr(conversion, "options", {})},
        {
            "timesteps": summary.settings["timesteps"],
            "samples": summary.samples,
            "batch_size": int(summary.maxima["batch_size"]),
            "energy": energy,
        },
        {"converted with": dict(getattr(conversion, "versions", {})), "run with": _versions()},
        trains,
        datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        observers["outputs"].result(of["outputs"]),
        spike_times,
    )


def _versions():
    """Return the versions in use, those of the backend among them."""
    backend = keras.backend.backend()
    return {
        "keras_snn": __version__,
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _checked(path):
    path = output_path("path", path)
    if path.suffix != ".html":
        raise ValueError(f"`path` must end in .html. Received: '{path}'. A .json file is written beside it.")
    check_file(path.with_suffix(".json"))
    return path


def _of_operations(number):
    """Return a number of operations as text, in millions where it is large."""
    return f"{number:,.0f}" if number < 1e5 else f"{number / 1e6:,.3g} million"


def _named(source, names, prefix=""):
    return {name: getattr(source, prefix + name) for name in names}
