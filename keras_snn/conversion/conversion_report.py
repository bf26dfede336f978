"""What a conversion did, layer by layer."""

import dataclasses
import math
import textwrap
from typing import Any

import keras
import numpy as np

from keras_snn._results import PlottedResult, Rows
from keras_snn._table import show_table
from keras_snn._types import Config, Data
from keras_snn.analysis.diagnosis import Diagnosis, diagnose
from keras_snn.conversion.search_report import Search
from keras_snn.graph import nodes as kinds
from keras_snn.simulation.model import SpikingModel

__all__ = ["ConversionReport", "LayerReport", "class_shown", "report_on"]


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What one layer of the spiking model stands for.

    Attributes:
        name: Name of the layer in the spiking model, or of a further call of it.
        became: Class of that layer, and of the Keras layer inside where it does not spike.
        origins: Paths of the layers of the source model that are in it.
        scale: λ, the activation that becomes one spike per step, a tuple if channels have their own;
            `None` without neurons.
        max_value: Where the activation of the source network saturates; `None` if it does not.
        clipped: Fraction of the non-zero activations of the calibration data above what the neurons
            can fire at most.
        error: Relative RMS error of those activations as spike counts after `timesteps`,
            for an ideal input; from clipping and rounding alone.
        mean: Mean of those activations, zeros among them.
        silent: Whether no value of the calibration data activated the layer.
        nonspiking: Whether it is neither linear nor neurons, and not the read-out either.
        takes: What its weights take: `"spikes"`, `"constants"` (the same at every step), `"numbers"`, or the
            share of multiply-adds for each.
    """

    name: str
    became: str
    origins: tuple[str, ...]
    scale: float | tuple[float, ...] | None = None
    max_value: float | None = None
    clipped: float | None = None
    error: float | None = None
    mean: float | None = None
    silent: bool = False
    nonspiking: bool = False
    takes: str = ""


@keras.saving.register_keras_serializable(package="keras_snn")
@dataclasses.dataclass(frozen=True, repr=False)
class ConversionReport(PlottedResult):
    """The layers of a converted model and the options it was converted with.

    `print` it for a table.

    Attributes:
        layers: `LayerReport`s in the order of the spiking model.
        options: Dict of the options of `convert`.
        versions: Dict of the versions that made it.
        search: The `Search` that chose neurons and their precision, if there was one.
    """

    layers: tuple[LayerReport, ...]
    options: dict
    versions: dict
    search: Search | None = None

    @property
    def nonspiking_layers(self) -> list[str]:
        """Names of the layers that are neither linear nor neurons; they run on averaged inputs."""
        return [layer.name for layer in self.layers if layer.nonspiking]

    @property
    def silent_layers(self) -> list[str]:
        """Names of the layers that were silent on all calibration data."""
        return [layer.name for layer in self.layers if layer.silent]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        steps, neurons = self.options["timesteps"], sum(layer.scale is not None for layer in self.layers)
        nonspiking = f", {len(self.nonspiking_layers)} not spiking" if self.nonspiking_layers else ""
        bits = self.options.get("weight_bits")
        integers = f", integers of {bits} bits" if bits else ""
        return (
            f"{len(self.layers)} layers, {neurons} of neurons{nonspiking}{integers}, for {steps} time steps"
        )

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: what became of each layer."""
        return [[("layer", "became", "from", "takes", "scale", "clipped", "error"), *map(_row, self.layers)]]

    def compare(self, model: SpikingModel, x: Data, **options: Any) -> Diagnosis:
        """Compare the rates of the converted model with the activations of its source, layer by layer.

        See `keras_snn.diagnose`, whose arguments and result these are.
        """
        return diagnose(model, x, **options)

    def __str__(self):
        return self.show()

    def show(self, width: int | None = None) -> str:
        """Return the report as text, in lines of at most `width` characters as far as that goes."""
        wrapped = [line for note in self._notes() for line in textwrap.wrap(note, width or 100)]
        found = [] if self.search is None else ["", self.search.show(width)]
        return "\n".join([show_table(*self.tables(), width=width), "", *wrapped, *found])

    def to_markdown(self) -> str:
        """Return what `print` shows, as a table in Markdown."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.tables()[0]]
        rows.insert(1, ["---"] * len(rows[0]))
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self._notes() if note)])

    def _notes(self):
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        versions = ", ".join(f"{name} {value}" for name, value in self.versions.items())
        steps = self.options["timesteps"]
        legend = (
            "takes: what its weights get; constants once, numbers at every step. scale: the activation that "
            "becomes one spike per step. clipped: share of the non-zero "
            "activations above what neurons can fire. error: relative RMS error of the layer's spike counts "
            f"after {steps} steps, from clipping and rounding alone."
        )
        others = ", ".join(self.nonspiking_layers)
        nonspiking = f"Not spiking, run on the average of their inputs: {others}." if others else ""
        return legend, nonspiking, f"Converted with {options} ({versions})."

    def get_config(self) -> Config:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Config) -> "ConversionReport":
        # Files have lists for tuples.
        rows = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
            for row in config["layers"]
        ]
        search = config.get("search")
        search = None if search is None else Search.from_config(search)
        return cls(tuple(LayerReport(**row) for row in rows), config["options"], config["versions"], search)


def report_on(model, stands_for, histograms, shares, options, versions):
    """Return the `ConversionReport` of a spiking model.

    Args:
        model: The `SpikingModel`.
        stands_for: Dict of the nodes that each of its calls stands for.
        histograms: Dict of the `Histogram` of each activation; empty without data.
        shares: `InputShares` by path of the source layer.
        options: Dict of the options of `convert`.
        versions: Dict of the versions that made the model.
    """
    rows = []
    layers = {layer.name: layer for layer in model.layers}
    for call in model.calls:
        nodes, layer = stands_for[call["name"]], layers[call["layer"]]
        origins = tuple(dict.fromkeys(origin for node in nodes for origin in node.origins))
        is_nonspiking = isinstance(nodes[-1], (kinds.Activation, kinds.Opaque))
        is_nonspiking &= not getattr(nodes[-1], "is_linear", False)
        row = LayerReport(call["name"], _became(layer, nodes), origins, nonspiking=is_nonspiking)
        if isinstance(nodes[0], kinds.Affine) and origins:
            row = dataclasses.replace(row, takes=str(shares[nodes[0].origins[0]]))
        if isinstance(nodes[-1], kinds.Spike):
            spike, histogram = nodes[-1], histograms.get(nodes[-1].name)
            scale = spike.scale if np.ndim(spike.scale) == 0 else tuple(spike.scale.tolist())
            max_value = None if math.isinf(spike.max_value) else spike.max_value
            row = dataclasses.replace(row, scale=scale, max_value=max_value)
            if histogram is not None:
                row = dataclasses.replace(row, **_of_ideal_neurons(spike, histogram, options["timesteps"]))
        rows.append(row)
    return ConversionReport(tuple(rows), options, versions)


def _of_ideal_neurons(spike, histogram, timesteps):
    """Return what rounding and clipping do to the activations of a histogram."""
    scale = np.reshape(spike.scale, (-1, 1))

    def rounded(values):
        # Channels last, as neurons have them.
        return scale * spike.neuron.ideal_rate((values / scale).T, timesteps).T

    return {
        "clipped": histogram.fraction_above(scale[:, 0] * spike.neuron.largest_rate(timesteps)),
        "error": histogram.relative_error(rounded),
        "mean": histogram.mean,
        "silent": not histogram.counts.any(),
    }


def _became(layer, nodes):
    """Return the class of a layer, and in brackets what it wraps."""
    if isinstance(nodes[-1], kinds.Opaque):
        return class_shown(layer, nodes[-1].layer_class)
    is_function = isinstance(nodes[-1], (kinds.Activation, kinds.Rearrange))
    return class_shown(layer, nodes[-1].function if is_function else None)


def class_shown(layer, inner=None):
    """Return the class of a layer, and in brackets what it wraps, its class if `inner` is `None`."""
    if getattr(layer, "layer", None) is None:
        return type(layer).__name__
    return f"{type(layer).__name__}({inner or type(layer.layer).__name__})"


def _show_scale(scale):
    """Return λ as text: of channels the range.

    >>> _show_scale((0.25, 2.0, 1.0))
    '0.25–2'
    """
    ends = f"{np.min(scale):.4g}", f"{np.max(scale):.4g}"
    return ends[0] if np.ndim(scale) == 0 else "–".join(ends)


def _row(layer):
    numbers = (
        "" if layer.scale is None else _show_scale(layer.scale),
        "silent" if layer.silent else "" if layer.clipped is None else f"{layer.clipped:.2%}",
        "" if layer.error is None else f"{layer.error:.2%}",
    )
    return (
        layer.name,
        layer.became,
        ", ".join(layer.origins) or ("(output)" if layer.became == "Readout" else "(rescaling)"),
        layer.takes,
        *numbers,
    )
