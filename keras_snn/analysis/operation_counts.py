"""How many operations a network needs, as a spiking network and as the analog one."""

import dataclasses
import textwrap
from typing import Any

import numpy as np

from keras_snn._results import PlottedResult, Rows, plain
from keras_snn._table import show_table
from keras_snn._types import Config
from keras_snn.analysis.energy import EnergyEstimate, Figures, check_figures
from keras_snn.analysis.layer_operations import LayerOperations, NeuronOperations
from keras_snn.simulation.memory_check import show_bytes

__all__ = ["ESTIMATED", "OperationCounts", "show_metric", "show_metrics"]

# What ≈ in tables means.
ESTIMATED = (
    "estimate, as the source network has several maps in the place of one, and what is between them counts "
    "as not 0"
)
# What is estimated where the source network has several maps in the place of one.
_ESTIMATES = ("zero_skipping_operations", "ann_effective_macs", "ann_effective_acs")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OperationCounts(PlottedResult):
    """Operations for one sample, mean over the samples; `print` it for a table.

    There are two conventions. *Operations* are additions and multiplications, as the papers on conversion
    count them. Of the spiking network they are those that happen: an addition for every event at every
    weight that is not 0, or where it is added without a weight; two for a value that is no spike, or one
    without a weight; one for each bias and each constant current at each step; and, where the name has it,
    one for every update of a neuron. Beside them are two baselines: `ann_operations` of the dense source
    network, and `zero_skipping_operations`. The inside of pools, and functions of read-outs, count for no
    network.

    The others, in the tables and in `metrics`, are those of NeuroBench, by its names: a synaptic operation
    has a weight and an input that are not 0, and biases are none; it is an accumulate (AC) if all inputs of
    the layer are −1, 0 or 1, else a multiply-accumulate (MAC), as for spikes of several units. NeuroBench
    decides that for every batch and step; here it is for a layer on all data, so that the batch size does
    not matter. What is the same at every step counts once.

    Attributes:
        layers: A `LayerOperations` for every layer with weights, and everything else that adds, in order.
        not_counted: Names of layers that run on averages instead of spikes.
        neurons: A `NeuronOperations` for every layer of neurons; empty of an analog network.
        other_state: Bytes of state of other layers, as pooling and read-out.
        other_updates: Updates of accumulators of time codes that are no neurons: read-outs, and sums that
            are handed on as numbers.
        same_levels: Whether activations in `zero_skipping_operations` have the levels of the neurons.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052, and (2017), doi:10.3389/fnins.2017.00682. Yik et al.
        (2025), "The neurobench framework", doi:10.1038/s41467-025-56739-4.
    """

    layers: tuple[LayerOperations, ...]
    not_counted: tuple[str, ...] = ()
    neurons: tuple[NeuronOperations, ...] = ()
    other_state: int = 0
    other_updates: int = 0
    same_levels: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds of the analog network."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ann_operations(self) -> int:
        """Operations of the dense analog network: Σ 2·macs + biases + sums."""
        return sum(layer.ann_operations for layer in self.layers)

    @property
    def has_spikes(self) -> bool:
        """Whether a spiking network was counted."""
        return all(layer.additions is not None for layer in self.layers)

    @property
    def is_estimated(self) -> bool:
        """Whether what the source network needs without zeros is an estimate, which tables mark with ≈.

        It is where `convert` made one map of several: what is between them in the source network counts as
        not 0. `ann_operations` and all counts of the spiking network are exact.
        """
        return any(layer.is_estimated for layer in self.layers)

    @property
    def snn_operations(self) -> np.ndarray:
        """Operations of the spiking network up to and with each step, `(timesteps,)`, or `None`."""
        return sum(layer.snn_operations for layer in self.layers) if self.has_spikes else None

    @property
    def updates(self) -> int:
        """Updates of neurons and of all other accumulators, one operation each."""
        return self.neuron_updates + self.other_updates

    @property
    def updates_over_time(self) -> np.ndarray:
        """These updates up to and with each step, `(timesteps,)`: as many in each."""
        steps = len(self.layers[0].additions)
        return self.updates * np.arange(1, steps + 1) / steps

    @property
    def operations_with_updates(self) -> float | None:
        """Operations of the spiking network after the last step, and the updates of its neurons."""
        return float(self.snn_operations[-1]) + self.updates if self.has_spikes else None

    @property
    def zero_skipping_operations(self) -> float:
        """Operations of the source network without those whose weight or input is 0, biases included.

        A multiply-add is two; one addition where all inputs of a layer are −1, 0 or 1. If `same_levels`, its
        activations are rounded to the levels of the neurons, as `quantized_reference` does, else they are
        not. If `is_estimated`, it is an estimate.
        """
        return sum(layer.zero_skipping for layer in self.layers)

    @property
    def events(self) -> float:
        """Additions of every event at every weight that is not 0, and of what is added without a weight."""
        return sum(layer.events for layer in self.layers)

    @property
    def units(self) -> float:
        """What these would be if each spike came as its smallest spikes."""
        return sum(float(layer.units.sum()) for layer in self.layers)

    @property
    def effective_macs(self) -> float:
        """Multiply-accumulates of the spiking network with neither weight nor input 0."""
        return sum(layer.snn_effective[0] for layer in self.layers)

    @property
    def effective_acs(self) -> float:
        """Accumulates of the spiking network with neither weight nor input 0."""
        return sum(layer.snn_effective[1] for layer in self.layers)

    @property
    def ann_effective_macs(self) -> float:
        """Multiply-accumulates of the source network with neither weight nor input 0."""
        return sum(layer.ann_effective[0] for layer in self.layers if layer.is_of_source)

    @property
    def ann_effective_acs(self) -> float:
        """Accumulates of the source network: those of layers whose inputs are −1, 0 or 1."""
        return sum(layer.ann_effective[1] for layer in self.layers if layer.is_of_source)

    @property
    def dense(self) -> int:
        """Synaptic operations of the spiking network, if no input or weight were 0."""
        return sum(layer.snn_dense for layer in self.layers)

    @property
    def ann_dense(self) -> int:
        """Synaptic operations of the analog network, if no input or weight were 0."""
        return sum(round(layer.dense * layer.share) for layer in self.layers if layer.is_of_source)

    @property
    def neuron_updates(self) -> int:
        """Updates of neurons. NeuroBench leaves out those that changed nothing."""
        return sum(layer.updates for layer in self.neurons)

    @property
    def activation_sparsity(self) -> float:
        """Fraction of neurons and steps without a spike."""
        places = sum(layer.neurons * layer.timesteps for layer in self.neurons)
        return 1 - sum(layer.spikes for layer in self.neurons) / max(places, 1)

    @property
    def ann_activation_sparsity(self) -> float:
        """Fraction of activations of the source network that are 0."""
        active, count = (sum(getattr(n, name) for n in self.neurons) for name in ("ann_active", "neurons"))
        return 1 - active / max(count, 1)

    @property
    def connection_sparsity(self) -> float:
        """Fraction of weights that are 0, without biases; the same in both networks."""
        return sum(layer.zeros for layer in self.layers) / max(sum(layer.weights for layer in self.layers), 1)

    @property
    def ann_footprint(self) -> int:
        """Bytes of the weights of the analog network."""
        return sum(round(layer.footprint * layer.weight_share) for layer in self.layers)

    @property
    def footprint(self) -> int:
        """Bytes of the weights, and of the state of one sample."""
        return sum(layer.footprint for layer in (*self.layers, *self.neurons)) + self.other_state

    @property
    def by_layer(self) -> dict[str, "OperationCounts"]:
        """Dict of the `OperationCounts` of every layer with weights or neurons alone, by name.

        They have no `other_state`, which the total has beside them.
        """
        # Of a layer with several parts, each has the name of the layer in front.
        names = dict.fromkeys(part.name.split("/")[0] for part in self.layers)
        return {
            name: OperationCounts(
                tuple(part for part in self.layers if part.name.split("/")[0] == name),
                neurons=tuple(part for part in self.neurons if part.name == name),
            )
            for name in names | dict.fromkeys(part.name for part in self.neurons)
        }

    @property
    def metrics(self) -> dict[str, Any]:
        """Dict of what is known of both networks after the last step, by the names of these attributes.

        Without layers there are no operations, without neurons there are no updates and activations.
        """
        if not self.has_spikes:
            names = ("ann_operations", "ann_dense", "connection_sparsity", "ann_footprint")
            return {name: getattr(self, name) for name in names}
        operations, names = {}, ["ann_footprint", "footprint"]
        if self.layers:
            operations = {
                "ann_operations": self.ann_operations,
                "zero_skipping_operations": self.zero_skipping_operations,
                "snn_operations": self.snn_operations[-1],
                "operations_with_updates": self.operations_with_updates,
            }
            names += ["events", "units"]
            names += ["ann_effective_macs", "effective_macs", "ann_effective_acs", "effective_acs"]
            names += ["ann_dense", "dense", "connection_sparsity"]
        if self.neurons:
            names += ["neuron_updates", "ann_activation_sparsity", "activation_sparsity"]
        return {**operations, **{name: getattr(self, name) for name in names}}

    def energy(self, figures: Figures = "45nm_float32") -> EnergyEstimate:
        """Estimate the energy for one sample from published figures, or from your own.

        Args:
            figures: Name in `keras_snn.ENERGY_FIGURES`, technology and number format; or `(mac, ac)`: the
                picojoules of a multiply-add and of an addition on your hardware.

        Returns:
            An `EnergyEstimate`.

        Raises:
            TypeError, ValueError: If there are no such figures, or no spiking network was counted.
        """
        mac, ac, source = check_figures("figures", figures)
        if not self.has_spikes:
            raise ValueError(
                "`energy` needs the counts of a spiking model. Received: those of an analog one. Count a "
                "converted model on some samples."
            )
        biases = sum(layer.ann_biases for layer in self.layers)
        once, events, numbers = 0.0, 0.0, 0.0
        for layer in self.layers:
            steps = len(layer.additions)
            if layer.is_analog:
                numbers += layer.snn_effective[0]
                once += layer.snn_effective[1] + layer.biases + layer.reads * steps
            else:
                numbers += layer.multiply_adds.sum()
                events += layer.additions.sum() + (layer.biases + layer.reads) * steps
        pico = 1e-12
        return EnergyEstimate(
            ann=pico * (mac * self.ann_dense + ac * biases),
            ann_effective=pico * (mac * self.ann_effective_macs + ac * (self.ann_effective_acs + biases)),
            snn=pico * (mac * numbers + ac * (once + events + self.updates)),
            updates=pico * ac * self.updates,
            mac=mac,
            ac=ac,
            source=source,
        )

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        ann = f"ANN {self.ann_operations:,} operations a sample"
        if not self.has_spikes or not self.layers:
            return ann
        updates = f"{self.operations_with_updates:,.0f} with updates of neurons"
        (without,) = show_metrics(self, ["zero_skipping_operations"])
        return f"{ann}, {without} without zeros; SNN {updates}"

    def to_dict(self) -> Config:
        """Return all fields, and `metrics`, as plain values that JSON has."""
        return {**super().to_dict(), "metrics": plain(self.metrics)}

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: operations of each layer, and metrics of NeuroBench."""
        if not self.has_spikes:
            return [self._operations]
        parts = {**self.by_layer, "total": self}
        return [self._operations, *(_metrics(parts, columns) for columns in (_SYNAPTIC, _OF_NEURONS))]

    @property
    def _operations(self):
        names = ["ANN operations"]
        if self.has_spikes:
            names += ["without zeros", "SNN operations", "per step", "events", "units"]
        rows = [("layer", *names)]
        for layer in [*self.layers, self]:
            row = [getattr(layer, "name", "total"), layer.ann_operations]
            if self.has_spikes:
                total, steps = layer.snn_operations[-1], len(layer.snn_operations)
                without = self.zero_skipping_operations if layer is self else layer.zero_skipping
                row += [without, total, total / steps, np.sum(layer.events), np.sum(layer.units)]
            shown = [f"{value:,.0f}" for value in row[1:]]
            if self.has_spikes and layer.is_estimated:
                shown[1] = f"≈ {shown[1]}"
            rows.append((row[0], *shown))
        return rows

    def __str__(self):
        operations, *metrics = (
            show_table(rows, right=range(1, len(rows[0])), width=100) for rows in self.tables()
        )
        lines = [operations]
        if self.has_spikes:
            lines.append("\n".join(textwrap.wrap(self._conventions, 100)))
            lines += metrics
            lines.append("\n".join(textwrap.wrap(f"Energy: {self.energy()}", 100)))
        if self.not_counted:
            lines.append(f"Not counted, run on averages: {', '.join(self.not_counted)}.")
        return "\n\n".join(lines)

    @property
    def _conventions(self):
        levels = "have the levels of the neurons" if self.same_levels else "are not rounded"
        estimated = f" ≈: {ESTIMATED}." if self.is_estimated else ""
        return (
            f"With {self.updates:,} updates of neurons the SNN needs {self.operations_with_updates:,.0f} "
            "operations. ANN without zeros: multiply-adds whose input and weight are not 0, two each; "
            f"its activations {levels}.{estimated} events: additions for spikes, one for every synapse that "
            "a threshold, a spike of a burst or a digit reaches; units: if each spike came as its smallest "
            "spikes. Below are metrics of NeuroBench, which are counted otherwise."
        )


_SYNAPTIC = {
    "ANN effective MACs": "ann_effective_macs",
    "SNN effective MACs": "effective_macs",
    "ANN effective ACs": "ann_effective_acs",
    "SNN effective ACs": "effective_acs",
    "ANN dense": "ann_dense",
    "SNN dense": "dense",
}
_OF_NEURONS = {
    "ANN activation sparsity": "ann_activation_sparsity",
    "SNN activation sparsity": "activation_sparsity",
    "neuron updates": "neuron_updates",
    "connection sparsity": "connection_sparsity",
    "ANN footprint": "ann_footprint",
    "SNN footprint": "footprint",
}


def _metrics(parts, columns):
    """Return rows of metrics of `OperationCounts` by name; `columns` are their names by header."""
    rows = [("for one sample", *columns)]
    for name, counts in parts.items():
        rows.append((name, *show_metrics(counts, columns.values())))
    return rows


def show_metrics(counts, names):
    """Return values of `OperationCounts.metrics` as text, with ≈ before estimates."""
    metrics = counts.metrics
    marks = ("≈ " if counts.is_estimated and name in _ESTIMATES else "" for name in names)
    return [mark + show_metric(name, metrics.get(name)) for mark, name in zip(marks, names, strict=True)]


def show_metric(name, value):
    """Return a metric as text; nothing for `None`.

    >>> show_metric("dense", 1234.4), show_metric("effective_acs", 15.47e9)
    ('1,234', '15,470 M')
    >>> show_metric("connection_sparsity", 0.25), show_metric("footprint", 1536)
    ('25.00%', '1.5 KiB')
    """
    if value is None:
        return ""
    if name.endswith("sparsity"):
        return f"{value:.2%}"
    if name.endswith("footprint"):
        return f"{value / 2**10:.1f} KiB" if value < 2**20 else show_bytes(value)
    return f"{value:,.0f}" if value < 1e9 else f"{value / 1e6:,.0f} M"
