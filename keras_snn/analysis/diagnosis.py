"""Where a spiking network loses what its source network knows, layer by layer."""

import dataclasses
import math
import textwrap

import numpy as np
from keras import ops

from keras_snn._results import PlottedResult, Rows
from keras_snn._table import show_table
from keras_snn._types import Data
from keras_snn.analysis.observers import Observer, summarize
from keras_snn.neurons import Neuron
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import alone, source_graph

__all__ = [
    "Comparison",
    "Diagnosis",
    "Error",
    "LayerDiagnosis",
    "diagnose",
    "diagnosis_of",
    "summarize_diagnosis",
]

PARTS = ("clipping", "inherited", "quantisation", "unevenness")
# Pairs of an activation and a rate that are kept of every layer.
_PAIRS = 2000
_SAMPLES_OF_PAIRS = 25


@dataclasses.dataclass(frozen=True)
class Error:
    """How large a difference is, over all neurons and samples.

    Attributes:
        mean, largest: Of its absolute value, in activation units.
        relative: Its root mean square, divided by that of the activations of the source network; 0 if
            there is no difference, infinity if the source network has no activations.
    """

    mean: float
    largest: float
    relative: float


@dataclasses.dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """A layer of neurons beside the activation that it stands for.

    With a the activation of the source network, z the average current that the neuron got, in units
    of its threshold, and r its firing rate after T steps; all in units of λ:

        error = r − a = clipping + inherited + quantisation + unevenness
        clipping      = clip(a) − a               activations above λ have no rate
        inherited     = clip(z) − clip(a)         the layers before gave another input
        quantisation  = round(clip(z)) − clip(z)  only multiples of ε/T are rates
        unevenness    = r − round(clip(z))        spikes came at the wrong time for an ideal neuron

    with ε the smallest spike (1 but for neurons of several thresholds), clip to [0, `largest_rate`], and
    round(x) = ε/T·floor(x·T/ε + V(0)). `added`, all but `inherited`, is what this layer itself loses. A
    binary neuron has no clipping and no quantisation.

    Attributes:
        name: Name of the call.
        neuron: Its neuron, an object of `keras_snn.neurons`.
        largest_rate: The rate at which it saturates, in units of λ.
        scale: λ, in activation units; an array if channels have their own.
        activation: Mean activation of the source network, in activation units.
        firing_rate: Mean size of the rate: spikes per neuron and step, one of value s as s spikes.
        saturated, silent: Fraction of neurons, mean over the samples, of the largest rate; of rate 0.
        correlation: Pearson's, of activations and rates over neurons and samples; `None` of constants.
        error, clipping, inherited, quantisation, unevenness, added: An `Error` each.
        activations, rates: Some pairs of them, both in units of λ.
        calibrated: Mean activation on the calibration data, in activation units; `None` if it is not known.

    Source:
        The three errors of one layer: Bu et al. (2022), AAAI, "Optimal ANN-SNN conversion".
    """

    name: str
    neuron: Neuron
    largest_rate: float
    scale: float | np.ndarray
    activation: float
    firing_rate: float
    saturated: float
    silent: float
    correlation: float | None
    error: Error
    clipping: Error
    inherited: Error
    quantisation: Error
    unevenness: Error
    added: Error
    activations: np.ndarray
    rates: np.ndarray
    calibrated: float | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(PlottedResult):
    """All layers of neurons beside their activations; `print` it for a table.

    Attributes:
        layers: A `LayerDiagnosis` for every layer of neurons, in order.
        timesteps: Number of time steps.
        samples: Number of samples.
    """

    layers: tuple[LayerDiagnosis, ...]
    timesteps: int
    samples: int

    @property
    def worst(self) -> LayerDiagnosis | None:
        """The layer that itself adds the largest error, relative to its activations; or `None`."""
        return max(self.layers, key=lambda layer: layer.added.relative, default=None)

    @property
    def steps(self) -> str:
        """Number of time steps as text; of time codes those of a window, the fewest to the most."""
        windows = [layer.neuron.window for layer in self.layers if layer.neuron.is_time_code]
        if not windows:
            return f"{self.timesteps:,}"
        return "–".join(f"{steps:,}" for steps in sorted({min(windows), max(windows)}))

    @property
    def duration(self) -> str:
        """How long the network ran, in a few words."""
        steps = f"{self.steps} time step{'' if self.steps == '1' else 's'}"
        is_time_coded = any(layer.neuron.is_time_code for layer in self.layers)
        return f"a window of {steps} for each layer" if is_time_coded else steps

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        run = f"{len(self.layers)} layers, {self.samples:,} samples, {self.duration}"
        if not self.layers:
            return run
        worst = self.worst
        return f"{run}; '{worst.name}' adds the largest error, {worst.added.relative:.2%}"

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: rates and errors of each layer."""
        header = ("layer", "rate", "saturated", "silent", "correlation", "error", "added", *PARTS)
        return [[header, *map(_row, self.layers)]]

    def __str__(self):
        (rows,) = self.tables()
        table = show_table(rows, right=range(1, len(rows[0])))
        worst = f" Largest added error: '{self.worst.name}'." if self.layers else ""
        legend = (
            f"{self.samples} samples, {self.duration}. Errors are relative RMS. error: of rates "
            f"against activations; added: without what is inherited from the layers before.{worst}"
        )
        return "\n".join([table, "", *textwrap.wrap(legend, 100)])


def diagnose(
    model: SpikingModel, x: Data, *, timesteps: int | None = None, batch_size: int = 32, verbose: int = 0
) -> Diagnosis:
    """Compare the firing rates of a spiking model with the activations of its source network.

    The source network is read back from the spiking model, so nothing else is needed. Memory does not
    grow with the number of samples.

    Args:
        model: A `SpikingModel`.
        x: Samples, as for `predict`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.

    Returns:
        A `Diagnosis`.

    Raises:
        TypeError, ValueError: If an argument is not what it may be.
    """
    options = {"timesteps": timesteps, "batch_size": batch_size, "verbose": verbose, "identify": False}
    with alone(model):
        comparison = Comparison(model)
        found = summarize_diagnosis(model, x, comparison=comparison, **options)
        return diagnosis_of(model, found, comparison=comparison)


def summarize_diagnosis(model, x, *, comparison=None, **options):
    """Return the `Summary` of a `Comparison` on samples; options as of `summarize`."""
    comparison = comparison or Comparison(model)
    return summarize(model, "diagnose", {"diagnosis": comparison}, x, graph=comparison.graph, **options)


def diagnosis_of(model, summary, *, comparison=None):
    """Return the `Diagnosis` of a `Summary` that has those of a `Comparison`."""
    comparison = comparison or Comparison(model)
    return comparison.result(summary.part("diagnosis:"), summary.settings["timesteps"], summary.samples)


class Comparison(Observer):
    """Sums over neurons and samples of what a `Diagnosis` gives.

    Args:
        model: A `SpikingModel`.
        source: What `source_graph` returns of it, or `None` to call that.

    Attributes:
        graph: The source network, for `observe`.
    """

    def __init__(self, model, source=None):
        super().__init__()
        self.graph, activations = source or source_graph(model)
        self.model, self.activations = model, activations
        rows = getattr(model.conversion_report, "layers", ())
        self.calibrated = {row.name: row.mean for row in rows}
        scales = {row.name: row.scale for row in rows}
        known = {name: scale for name, scale in scales.items() if scale is not None}
        self.scales = {name: np.asarray(known.get(name, 1.0)) for name in activations}
        self.sources = {call["name"]: call["inputs"][0] for call in model.calls}
        self.sums = {name: _Sums(self.totals, name) for name in activations}

    def of_source(self, values):
        return {name: values[node] for name, node in self.activations.items()}

    @property
    def of_sums(self):
        inputs = {self.sources[name] for name in self.activations if not self._is_driven(name)}
        return {name: name for name in sorted(inputs | self.activations.keys())}

    def _is_driven(self, name):
        """Whether a layer sees the same current at every step: that of the source network."""
        return internals(self.model).network.is_constant(self.sources[name])

    def take(self, observation):
        timesteps = observation.timesteps
        for name, layer in internals(self.model).network.stateful.items():
            if name not in self.activations:
                continue
            activation = observation.source[name].astype("float64")
            current = None
            if not self._is_driven(name):
                current = self._current(layer, observation.sums[self.sources[name]] / timesteps)
            rates, parts = _split(layer.neuron, activation, current, observation.sums[name], timesteps)
            largest = layer.neuron.largest_rate(timesteps)
            self.sums[name].add(activation, rates, parts, self.scales[name], largest, observation.rows)

    @staticmethod
    def _current(layer, mean_input):
        """Return the average current in units of the threshold; the same as the current of the average."""
        current = layer.current(ops.convert_to_tensor(mean_input, dtype=layer.compute_dtype))
        return ops.convert_to_numpy(current).astype("float64") / np.asarray(layer.neuron.v_threshold)

    def result(self, totals, timesteps, samples):
        """Return the `Diagnosis` of `Totals`."""
        layers = []
        for name in self.activations:
            sums = _Sums(totals, name)
            neuron = internals(self.model).network.stateful[name].neuron
            of_neuron = {"neuron": neuron, "largest_rate": float(np.max(neuron.largest_rate(timesteps)))}
            of_neuron["calibrated"] = self.calibrated.get(name)
            layers.append(LayerDiagnosis(name=name, **of_neuron, **sums.result(self.scales[name])))
        return Diagnosis(tuple(layers), timesteps, samples)


def _split(neuron, activation, current, counts, timesteps):
    """Return the rates, and the parts of their difference to the activations; all in units of λ.

    `current` is the average current, or `None` if it is that of the source network.
    """
    rates = counts.astype("float64") / neuron.active_steps(timesteps)
    within, given, rounded = neuron.ideal_response(activation, current, timesteps)
    parts = (within - activation, given - within, rounded - given, rates - rounded)
    return rates, dict(zip(PARTS, parts, strict=True))


class _Sums:
    """Running sums of one layer; values come in units of λ and are kept in activation units.

    Args:
        totals: `Totals` that hold them.
        name: Name of the layer.
    """

    def __init__(self, totals, name):
        self.totals, self.prefix = totals, f"{name}:"

    def add(self, activation, rates, parts, scale, largest, rows):
        """Add a batch: arrays `(batch, …)`, its `parts` of the error by name, and the numbers of its rows."""
        add, prefix = self.totals.add, self.prefix
        add(prefix + "count", rates.size)
        add(prefix + "spikes", np.abs(rates).sum())
        add(prefix + "saturated", np.sum(np.abs(rates) >= largest))
        add(prefix + "silent", np.sum(rates == 0))
        # Of activation and rate: sums, and sums of products.
        both = np.stack([(activation * scale).ravel(), (rates * scale).ravel()])
        add(prefix + "first", both.sum(axis=1))
        add(prefix + "second", both @ both.T)
        added = sum(part for name, part in parts.items() if name != "inherited")
        for name, part in {**parts, "added": added, "error": rates - activation}.items():
            size = np.abs(part * scale)
            add(f"{prefix}size:{name}", size.sum())
            add(f"{prefix}squares:{name}", np.sum(size**2))
            self.totals.raise_to(f"{prefix}largest:{name}", size.max())
        self._keep_pairs(activation, rates, rows)

    def _keep_pairs(self, activation, rates, rows):
        name = self.prefix + "pairs"
        missing = self.totals.missing(name, _SAMPLES_OF_PAIRS)
        if missing > 0:
            flat = [values[:missing].reshape(min(missing, len(values)), -1) for values in (activation, rates)]
            # The same neurons of every sample, spread over the layer.
            step = max(1, math.ceil(flat[0].shape[1] / (_PAIRS // _SAMPLES_OF_PAIRS)))
            pairs = np.stack([values[:, ::step] for values in flat], axis=1)
            self.totals.keep(name, rows[:missing], pairs, _SAMPLES_OF_PAIRS)

    def result(self, scale):
        """Return the fields of a `LayerDiagnosis` that are sums."""
        of = {
            name: self.totals.sums[self.prefix + name]
            for name in ("count", "spikes", "saturated", "silent", "first", "second")
        }
        power = math.sqrt(of["second"][0, 0] / of["count"])
        errors = {part: self._error(part, of["count"], power) for part in (*PARTS, "added", "error")}
        _, pairs = self.totals.first[self.prefix + "pairs"]
        return {
            "scale": float(scale) if scale.ndim == 0 else scale,
            "activation": of["first"][0] / of["count"],
            "firing_rate": of["spikes"] / of["count"],
            "saturated": of["saturated"] / of["count"],
            "silent": of["silent"] / of["count"],
            "correlation": _correlation(of["count"], of["first"], of["second"]),
            "activations": pairs[:, 0].ravel(),
            "rates": pairs[:, 1].ravel(),
            **errors,
        }

    def _error(self, part, count, power):
        size, squares = (self.totals.sums[f"{self.prefix}{name}:{part}"] for name in ("size", "squares"))
        largest = self.totals.maxima[f"{self.prefix}largest:{part}"]
        return Error(float(size / count), float(largest), _ratio(math.sqrt(squares / count), power))


def _correlation(count, first, second):
    covariance = second / count - np.outer(first, first) / count**2
    spread = covariance[0, 0] * covariance[1, 1]
    # Below what the sums resolve, values are constant.
    if spread <= (1e-12 * second[0, 0] * second[1, 1]) / count**2:
        return None
    return float(np.clip(covariance[0, 1] / math.sqrt(spread), -1.0, 1.0))


def _ratio(error, power):
    return error / power if power else math.inf if error else 0.0


def _row(layer):
    correlation = "" if layer.correlation is None else f"{layer.correlation:.4f}"
    errors = (getattr(layer, name).relative for name in ("error", "added", *PARTS))
    return (
        layer.name,
        f"{layer.firing_rate:.4f}",
        f"{layer.saturated:.2%}",
        f"{layer.silent:.1%}",
        correlation,
        *(f"{error:.2%}" for error in errors),
    )
