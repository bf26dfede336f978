"""How many operations a network needs, as a spiking network and as the analog one."""

import dataclasses
import textwrap
from typing import Any

import numpy as np

from keras_snn._table import show_table
from keras_snn.analysis.energy import EnergyEstimate, Figures, check_figures
from keras_snn.simulation.memory_check import show_bytes

__all__ = ["LayerOperations", "NeuronOperations", "OperationCounts", "show_metric"]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerOperations:
    """Operations of one layer with weights for one sample, mean over the samples.

    Attributes:
        name: Name of its call.
        macs: Multiply-adds of the analog layer: outputs times inputs of each, padding included.
        biases: Outputs that have a bias.
        dense: Synaptic operations of one pass: inputs times the outputs that each reaches.
        weights, zeros: Number of weights without biases, and of those that are 0.
        footprint: Bytes of weights and biases; 0 at a further call of the layer.
        is_analog: Whether its input is the same at every step, so that it is computed once.
        reads: Outputs that are added to something else at every step.
        additions: Additions at each step for spikes that came, `(timesteps,)`; `None` of an analog network.
        multiply_adds: Multiply-adds at each step for values that are no spikes, `(timesteps,)`, or `None`.
        ann_additions, ann_multiply_adds: The same of the source network, whose inputs are not 0; or `None`.
    """

    name: str
    macs: int
    biases: int
    dense: int
    weights: int
    zeros: int
    footprint: int
    is_analog: bool = False
    reads: int = 0
    additions: np.ndarray | None = None
    multiply_adds: np.ndarray | None = None
    ann_additions: float | None = None
    ann_multiply_adds: float | None = None

    @property
    def ann_operations(self) -> int:
        """2·macs + biases: additions and multiplications of the analog layer."""
        return 2 * self.macs + self.biases

    @property
    def snn_operations(self) -> np.ndarray:
        """Operations up to and with each step, `(timesteps,)`."""
        steps = np.arange(1, len(self.additions) + 1)
        if self.is_analog:
            # Computed once; then its current is added at every step.
            return self.ann_operations + self.reads * steps
        return np.cumsum(self.additions + 2 * self.multiply_adds) + self.biases * steps

    @property
    def snn_dense(self) -> int:
        """Synaptic operations of all steps, if no input were 0."""
        return self.dense * (1 if self.is_analog else len(self.additions))

    @property
    def ann_effective(self) -> tuple[float, float]:
        """`(MACs, ACs)` of the source network; see `OperationCounts.effective_macs`."""
        return _macs_and_acs(self.ann_additions, self.ann_multiply_adds)

    @property
    def snn_effective(self) -> tuple[float, float]:
        """`(MACs, ACs)` of all steps; see `OperationCounts.effective_macs`."""
        if self.is_analog:
            return self.ann_effective
        return _macs_and_acs(float(self.additions.sum()), float(self.multiply_adds.sum()))


def _macs_and_acs(additions, multiply_adds):
    """Return what is counted as MACs, and as ACs: one of them, for all inputs of a layer."""
    return (additions + multiply_adds, 0.0) if multiply_adds else (0.0, additions)


@dataclasses.dataclass(frozen=True)
class NeuronOperations:
    """A layer of neurons, or its activation in the source network; mean over the samples.

    Attributes:
        name: Name of its call.
        neurons: How many there are.
        timesteps: Number of steps; of a time code, those of its window.
        spikes: Spikes of all neurons and steps.
        ann_active: Activations of the source network that are not 0.
        footprint: Bytes of the state of one sample.
        updates_each: How often a neuron is updated, if that is not at every one of these steps: neurons of
            time codes are when they receive.
    """

    name: str
    neurons: int
    timesteps: int
    spikes: float
    ann_active: float
    footprint: int
    updates_each: int | None = None

    @property
    def updates(self) -> int:
        """Updates of the neurons: each one at every step in which it integrates."""
        return self.neurons * (self.timesteps if self.updates_each is None else self.updates_each)

    @property
    def activation_sparsity(self) -> float:
        """Fraction of neurons and steps without a spike."""
        return 1 - self.spikes / (self.neurons * self.timesteps)

    @property
    def ann_activation_sparsity(self) -> float:
        """Fraction of activations of the source network that are 0."""
        return 1 - self.ann_active / self.neurons


@dataclasses.dataclass(frozen=True, eq=False)
class OperationCounts:
    """Operations for one sample, mean over the samples; `print` it for a table.

    `ann_operations` and `snn_operations` are counted as in the papers on conversion. Pooling, read-out and
    the threshold of neurons do not count, for either network. The others are those of NeuroBench, by its
    names: a synaptic operation has a weight and an input that are not 0, and biases are none; it is an
    accumulate (AC) if all inputs of the layer are −1, 0 or 1, else a multiply-accumulate (MAC).
    NeuroBench decides that for every batch and step; here it is for a layer on all data, so that the batch
    size does not matter. What is the same at every step counts once.

    Attributes:
        layers: A `LayerOperations` for every layer with weights, in order.
        not_counted: Names of layers that run on averages instead of spikes.
        neurons: A `NeuronOperations` for every layer of neurons; empty of an analog network.
        other_state: Bytes of state of other layers, as pooling and read-out.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052, and (2017), doi:10.3389/fnins.2017.00682. Yik et al.
        (2025), "The neurobench framework", doi:10.1038/s41467-025-56739-4.
    """

    layers: tuple[LayerOperations, ...]
    not_counted: tuple[str, ...] = ()
    neurons: tuple[NeuronOperations, ...] = ()
    other_state: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds of the analog network."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ann_operations(self) -> int:
        """Operations of the analog network: Σ 2·macs + biases."""
        return sum(layer.ann_operations for layer in self.layers)

    @property
    def has_spikes(self) -> bool:
        """Whether a spiking network was counted."""
        return all(layer.additions is not None for layer in self.layers)

    @property
    def snn_operations(self) -> np.ndarray:
        """Operations of the spiking network up to and with each step, `(timesteps,)`, or `None`."""
        return sum(layer.snn_operations for layer in self.layers) if self.has_spikes else None

    @property
    def operations_with_updates(self) -> float | None:
        """Operations of the spiking network after the last step, and the updates of its neurons."""
        return float(self.snn_operations[-1]) + self.neuron_updates if self.has_spikes else None

    @property
    def zero_skipping_operations(self) -> float:
        """Operations of the source network without those whose weight or input is 0: Σ 2·MACs + ACs + biases.

        Its activations are not rounded.
        """
        biases = sum(layer.biases for layer in self.layers)
        return 2 * self.ann_effective_macs + self.ann_effective_acs + biases

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
        return sum(layer.ann_effective[0] for layer in self.layers)

    @property
    def ann_effective_acs(self) -> float:
        """Accumulates of the source network: those of layers whose inputs are −1, 0 or 1."""
        return sum(layer.ann_effective[1] for layer in self.layers)

    @property
    def dense(self) -> int:
        """Synaptic operations of the spiking network, if no input or weight were 0."""
        return sum(layer.snn_dense for layer in self.layers)

    @property
    def ann_dense(self) -> int:
        """Synaptic operations of the analog network, if no input or weight were 0."""
        return sum(layer.dense for layer in self.layers)

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
        """Bytes of the weights."""
        return sum(layer.footprint for layer in self.layers)

    @property
    def footprint(self) -> int:
        """Bytes of the weights, and of the state of one sample."""
        return self.ann_footprint + sum(layer.footprint for layer in self.neurons) + self.other_state

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
                "snn_operations": self.snn_operations[-1],
            }
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
        biases = sum(layer.biases for layer in self.layers)
        # Once of an analog layer, whose current is added at every step instead.
        added = sum(
            layer.biases + layer.reads * len(layer.additions)
            if layer.is_analog
            else layer.biases * len(layer.additions)
            for layer in self.layers
        )
        pico = 1e-12
        return EnergyEstimate(
            ann=pico * (mac * self.ann_dense + ac * biases),
            ann_effective=pico * (mac * self.ann_effective_macs + ac * (self.ann_effective_acs + biases)),
            snn=pico * (mac * self.effective_macs + ac * (self.effective_acs + added)),
            mac=mac,
            ac=ac,
            source=source,
        )

    def __str__(self):
        rows = [("layer", "ANN operations", *(["SNN operations", "per step"] if self.has_spikes else []))]
        for layer in [*self.layers, self]:
            row = [getattr(layer, "name", "total"), f"{layer.ann_operations:,}"]
            if self.has_spikes:
                total = layer.snn_operations[-1]
                row += [f"{total:,.0f}", f"{total / len(layer.snn_operations):,.0f}"]
            rows.append(row)
        lines = [show_table(rows, right=range(1, 4), width=100)]
        if self.has_spikes:
            parts = {**self.by_layer, "total": self}
            lines += [_show_metrics(parts, columns) for columns in (_SYNAPTIC, _OF_NEURONS)]
            lines.append("\n".join(textwrap.wrap(f"Energy: {self.energy()}", 100)))
        if self.not_counted:
            lines.append(f"Not counted, run on averages: {', '.join(self.not_counted)}.")
        return "\n\n".join(lines)


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


def _show_metrics(parts, columns):
    """Return a table of metrics of `OperationCounts` by name; `columns` are their names by header."""
    rows = [("for one sample", *columns)]
    for name, counts in parts.items():
        metrics = counts.metrics
        rows.append((name, *(show_metric(key, metrics.get(key)) for key in columns.values())))
    return show_table(rows, right=range(1, len(rows[0])), width=100)


def show_metric(name, value):
    """Return a value of `OperationCounts.metrics` as text; nothing for `None`.

    >>> show_metric("dense", 1234.4), show_metric("effective_acs", 15.47e9)
    ('1,234', '15,470 M')
    >>> show_metric("connection_sparsity", 0.25), show_metric("footprint", 1536), show_metric("dense", None)
    ('25.00%', '1.5 KiB', '')
    """
    if value is None:
        return ""
    if name.endswith("sparsity"):
        return f"{value:.2%}"
    if name.endswith("footprint"):
        return f"{value / 2**10:.1f} KiB" if value < 2**20 else show_bytes(value)
    return f"{value:,.0f}" if value < 1e9 else f"{value / 1e6:,.0f} M"
