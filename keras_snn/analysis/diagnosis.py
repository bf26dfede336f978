"""Where a spiking network loses what its source network knows, layer by layer."""

import dataclasses
import math
import textwrap

import numpy as np
from keras import ops

from keras_snn._results import PlottedResult, Rows
from keras_snn._table import show_table
from keras_snn._types import Data
from keras_snn.analysis.observers import Observer, observe
from keras_snn.neurons import Neuron
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import alone, source_graph

__all__ = ["Comparison", "Diagnosis", "Error", "LayerDiagnosis", "diagnose"]

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
        timesteps, samples: How many there were.
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
    with alone(model):
        graph, activations = source_graph(model)
        comparison = Comparison(model, activations)
        options = {"timesteps": timesteps, "batch_size": batch_size, "verbose": verbose}
        return comparison.result(*observe(model, x, None, [comparison], graph=graph, **options))


class Comparison(Observer):
    """Sums over neurons and samples of what a `Diagnosis` gives.

    Args:
        model: A `SpikingModel`.
        activations: As `source_graph` returns them.
    """

    def __init__(self, model, activations):
        self.model, self.activations = model, activations
        rows = getattr(model.conversion_report, "layers", ())
        self.calibrated = {row.name: row.mean for row in rows}
        scales = {row.name: row.scale for row in rows}
        known = {name: scale for name, scale in scales.items() if scale is not None}
        self.scales = {name: np.asarray(known.get(name, 1.0)) for name in activations}
        self.sources = {call["name"]: call["inputs"][0] for call in model.calls}
        self.sums = {name: _Sums() for name in activations}

    def of_source(self, values):
        return {name: values[node] for name, node in self.activations.items()}

    def of_sums(self, values):
        inputs = {self.sources[name] for name in self.activations if not self._is_driven(name)}
        wanted = sorted(inputs | self.activations.keys())
        return {name: ops.sum(ops.cast(values[name], "float32"), axis=1) for name in wanted}

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
            self.sums[name].add(activation, rates, parts, self.scales[name], largest)

    @staticmethod
    def _current(layer, mean_input):
        """Return the average current in units of the threshold; the same as the current of the average."""
        current = layer.current(ops.convert_to_tensor(mean_input, dtype=layer.compute_dtype))
        return ops.convert_to_numpy(current).astype("float64") / layer.neuron.v_threshold

    def result(self, timesteps, samples):
        """Return the `Diagnosis`."""
        layers = []
        for name, sums in self.sums.items():
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
    """Running sums of one layer; values come in units of λ and are kept in activation units."""

    def __init__(self):
        self.count = self.spikes = self.saturated = self.silent = 0.0
        # Of activation and rate: sums, and sums of products.
        self.first, self.second = np.zeros(2), np.zeros((2, 2))
        self.sizes = {}
        self.pairs = []

    def add(self, activation, rates, parts, scale, largest):
        self.count += rates.size
        self.spikes += np.abs(rates).sum()
        self.saturated += np.sum(np.abs(rates) >= largest)
        self.silent += np.sum(rates == 0)
        both = np.stack([(activation * scale).ravel(), (rates * scale).ravel()])
        self.first += both.sum(axis=1)
        self.second += both @ both.T
        added = sum(part for name, part in parts.items() if name != "inherited")
        for name, part in {**parts, "added": added, "error": rates - activation}.items():
            size = np.abs(part * scale)
            total, largest, squares = self.sizes.get(name, (0.0, 0.0, 0.0))
            self.sizes[name] = (total + size.sum(), max(largest, size.max()), squares + np.sum(size**2))
        self._keep_pairs(activation, rates)

    def _keep_pairs(self, activation, rates):
        missing = _SAMPLES_OF_PAIRS - sum(len(a) for a, _ in self.pairs)
        if missing > 0:
            flat = [values[:missing].reshape(min(missing, len(values)), -1) for values in (activation, rates)]
            # The same neurons of every sample, spread over the layer.
            step = max(1, math.ceil(flat[0].shape[1] / (_PAIRS // _SAMPLES_OF_PAIRS)))
            self.pairs.append([values[:, ::step] for values in flat])

    def result(self, scale):
        """Return the fields of a `LayerDiagnosis` that are sums."""
        power = math.sqrt(self.second[0, 0] / self.count)
        errors = {
            part: Error(total / self.count, largest, _ratio(math.sqrt(squares / self.count), power))
            for part, (total, largest, squares) in self.sizes.items()
        }
        activations, rates = (np.concatenate([pair[i].ravel() for pair in self.pairs]) for i in (0, 1))
        return {
            "scale": float(scale) if scale.ndim == 0 else scale,
            "activation": self.first[0] / self.count,
            "firing_rate": self.spikes / self.count,
            "saturated": self.saturated / self.count,
            "silent": self.silent / self.count,
            "correlation": self._correlation(),
            "activations": activations,
            "rates": rates,
            **errors,
        }

    def _correlation(self):
        covariance = self.second / self.count - np.outer(self.first, self.first) / self.count**2
        spread = covariance[0, 0] * covariance[1, 1]
        # Below what the sums resolve, values are constant.
        if spread <= (1e-12 * self.second[0, 0] * self.second[1, 1]) / self.count**2:
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
