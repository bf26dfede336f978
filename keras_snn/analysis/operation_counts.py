"""How many operations a network needs, as a spiking network and as the analog one."""

import dataclasses
import itertools
import math
import textwrap

import keras
import numpy as np
from keras import ops

from keras_snn._table import show_table
from keras_snn._validation import check_choice, check_number
from keras_snn.analysis.observers import Observer, observe
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold
from keras_snn.simulation.from_layers import as_spiking_model, is_handwritten
from keras_snn.simulation.memory_check import show_bytes
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import program_of, source_graph

__all__ = [
    "ENERGY_FIGURES",
    "EnergyEstimate",
    "LayerOperations",
    "NeuronOperations",
    "OperationCounts",
    "OperationTally",
    "check_figures",
    "count_operations",
    "fan_out",
    "show_metric",
]

_HOROWITZ = "Horowitz (2014), ISSCC, figure 1.1.9, 45 nm"
# Picojoules of a multiplication with an addition, and of an addition alone; and who says so.
ENERGY_FIGURES = {
    "45nm_float32": (3.7 + 0.9, 0.9, _HOROWITZ),
    "45nm_float16": (1.1 + 0.4, 0.4, _HOROWITZ),
    "45nm_int32": (3.1 + 0.1, 0.1, _HOROWITZ),
    "45nm_int8": (0.2 + 0.03, 0.03, _HOROWITZ),
}
# Integers up to it are exact in float32; as sums of spikes of up to so many units.
_EXACT = 2**24
_UNITS = 16


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
    def ann_operations(self):
        """2·macs + biases: additions and multiplications of the analog layer."""
        return 2 * self.macs + self.biases

    @property
    def snn_operations(self):
        """Operations up to and with each step, `(timesteps,)`."""
        steps = np.arange(1, len(self.additions) + 1)
        if self.is_analog:
            # Computed once; then its current is added at every step.
            return self.ann_operations + self.reads * steps
        return np.cumsum(self.additions + 2 * self.multiply_adds) + self.biases * steps

    @property
    def snn_dense(self):
        """Synaptic operations of all steps, if no input were 0."""
        return self.dense * (1 if self.is_analog else len(self.additions))

    @property
    def ann_effective(self):
        """`(MACs, ACs)` of the source network; see `OperationCounts.effective_macs`."""
        return _macs_and_acs(self.ann_additions, self.ann_multiply_adds)

    @property
    def snn_effective(self):
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
        timesteps: Number of steps.
        spikes: Spikes of all neurons and steps.
        ann_active: Activations of the source network that are not 0.
        footprint: Bytes of the state of one sample.
    """

    name: str
    neurons: int
    timesteps: int
    spikes: float
    ann_active: float
    footprint: int

    @property
    def updates(self):
        """Updates of the neurons: each one at every step."""
        return self.neurons * self.timesteps

    @property
    def activation_sparsity(self):
        """Fraction of neurons and steps without a spike."""
        return 1 - self.spikes / self.updates

    @property
    def ann_activation_sparsity(self):
        """Fraction of activations of the source network that are 0."""
        return 1 - self.ann_active / self.neurons


@dataclasses.dataclass(frozen=True)
class EnergyEstimate:
    """An estimate of the energy for one sample, in joules; `print` it with its assumptions.

    Attributes:
        ann: All multiply-adds of the source network, and its biases.
        ann_effective: Those whose input is not 0.
        snn: Additions and multiply-adds of the spiking network, for spikes, biases and constant currents.
        mac, ac: Picojoules of a multiply-add and of an addition.
        source: Where these figures are from.
    """

    ann: float
    ann_effective: float
    snn: float
    mac: float
    ac: float
    source: str

    @property
    def assumptions(self):
        """What the estimate rests on, in words."""
        return (
            f"An estimate: {self.mac:g} pJ for every multiply-add and {self.ac:g} pJ for every addition "
            f"({self.source}). It leaves out memory traffic, neuron updates, pooling and read-out, which on "
            "real hardware may be most of the energy."
        )

    def __str__(self):
        ann, effective, snn = (_joules(energy) for energy in (self.ann, self.ann_effective, self.snn))
        return f"ANN {ann} ({effective} without zeros), SNN {snn}. {self.assumptions}"


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
    def macs(self):
        """Multiply-adds of the analog network."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ann_operations(self):
        """Operations of the analog network: Σ 2·macs + biases."""
        return sum(layer.ann_operations for layer in self.layers)

    @property
    def has_spikes(self):
        """Whether a spiking network was counted."""
        return all(layer.additions is not None for layer in self.layers)

    @property
    def snn_operations(self):
        """Operations of the spiking network up to and with each step, `(timesteps,)`, or `None`."""
        return sum(layer.snn_operations for layer in self.layers) if self.has_spikes else None

    @property
    def effective_macs(self):
        """Multiply-accumulates of the spiking network with neither weight nor input 0."""
        return sum(layer.snn_effective[0] for layer in self.layers)

    @property
    def effective_acs(self):
        """Accumulates of the spiking network with neither weight nor input 0."""
        return sum(layer.snn_effective[1] for layer in self.layers)

    @property
    def ann_effective_macs(self):
        """Multiply-accumulates of the source network with neither weight nor input 0."""
        return sum(layer.ann_effective[0] for layer in self.layers)

    @property
    def ann_effective_acs(self):
        """Accumulates of the source network: those of layers whose inputs are −1, 0 or 1."""
        return sum(layer.ann_effective[1] for layer in self.layers)

    @property
    def dense(self):
        """Synaptic operations of the spiking network, if no input or weight were 0."""
        return sum(layer.snn_dense for layer in self.layers)

    @property
    def ann_dense(self):
        """Synaptic operations of the analog network, if no input or weight were 0."""
        return sum(layer.dense for layer in self.layers)

    @property
    def neuron_updates(self):
        """Updates of neurons. NeuroBench leaves out those that changed nothing."""
        return sum(layer.updates for layer in self.neurons)

    @property
    def activation_sparsity(self):
        """Fraction of neurons and steps without a spike."""
        return 1 - sum(layer.spikes for layer in self.neurons) / max(self.neuron_updates, 1)

    @property
    def ann_activation_sparsity(self):
        """Fraction of activations of the source network that are 0."""
        active, count = (sum(getattr(n, name) for n in self.neurons) for name in ("ann_active", "neurons"))
        return 1 - active / max(count, 1)

    @property
    def connection_sparsity(self):
        """Fraction of weights that are 0, without biases; the same in both networks."""
        return sum(layer.zeros for layer in self.layers) / max(sum(layer.weights for layer in self.layers), 1)

    @property
    def ann_footprint(self):
        """Bytes of the weights."""
        return sum(layer.footprint for layer in self.layers)

    @property
    def footprint(self):
        """Bytes of the weights, and of the state of one sample."""
        return self.ann_footprint + sum(layer.footprint for layer in self.neurons) + self.other_state

    @property
    def by_layer(self):
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
    def metrics(self):
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

    def energy(self, figures="45nm_float32"):
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


def _joules(energy):
    """Return an energy as text.

    >>> _joules(3.21e-7)
    '0.321 µJ'
    """
    for power, unit in ((1e-3, "mJ"), (1e-6, "µJ")):
        if energy >= 0.1 * power:
            return f"{energy / power:.3g} {unit}"
    return f"{energy / 1e-9:.3g} nJ"


def check_figures(name, figures):
    """Return the picojoules of a multiply-add and of an addition, and who says so.

    Args:
        name: Name of the argument that has them.
        figures: As of `OperationCounts.energy`.
    """
    if not isinstance(figures, (tuple, list)):
        return ENERGY_FIGURES[check_choice(name, figures, tuple(ENERGY_FIGURES))]
    if len(figures) != 2:
        raise ValueError(
            f"`{name}` must be a name or two numbers, (mac, ac) in picojoules. Received: {name}={figures!r}."
        )
    mac, ac = (check_number(name, figure, above=0) for figure in figures)
    return mac, ac, "figures of the user"


def count_operations(model, x=None, *, timesteps=None, batch_size=32, verbose=0):
    """Count the operations of a network.

    ANN: two for every weight of every output, and one for its bias. SNN: one addition for every
    spike and every neuron that it reaches by a weight that is not 0, exactly at borders and strides,
    and as many for a spike of several units; two operations where a value is no spike, as behind
    average pooling; one addition per bias and step. A layer whose input is the same at every step is
    computed once, and its current added at every step. `OperationCounts` has these, and the metrics
    of NeuroBench for both networks, in all and `by_layer`; its `energy` takes the name of one of the
    published `keras_snn.ENERGY_FIGURES`, or other figures.

    Args:
        model: A `SpikingModel`; a model of spiking layers written by hand, on `(batch, time, …)`; or any
            model that `convert` takes.
        x: Samples, as for `predict`; needed by a spiking model, whose operations depend on them.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.

    Returns:
        An `OperationCounts`.

    Raises:
        ValueError, TypeError: If an argument is not what it may be.
    """
    if is_handwritten(model):
        model = as_spiking_model(model)
    if not isinstance(model, SpikingModel):
        graph = fold(lower(model, nonspiking="allow"))
        itemsize = _itemsize(model.variable_dtype)
        return OperationCounts(_static_counts(_linear_nodes(graph), graph, itemsize), _not_counted(graph))
    if x is None:
        raise ValueError("`x` must be some samples, because spikes depend on them. Received: x=None.")
    graph, activations = source_graph(model)
    tally = OperationTally(model, graph, activations)
    options = {"timesteps": timesteps, "batch_size": batch_size, "verbose": verbose}
    return tally.result(*observe(model, x, None, [tally], graph=graph, **options))


class OperationTally(Observer):
    """Sums over samples of what `OperationCounts` says.

    Args:
        model: A `SpikingModel`.
        graph, activations: As `source_graph` returns them.
    """

    def __init__(self, model, graph, activations):
        self.model, self.graph, self.activations = model, graph, activations
        # What has no origin is in the source network only.
        self.linear = [node for node in _linear_nodes(graph) if node.origins]
        self.reach = {node.name: _Reach(fan_out(node, _input_shape(graph, node))) for node in self.linear}
        sources = {call["name"]: call["inputs"][0] for call in model.calls}
        self.sources = {node.name: sources[node.origins[0]] for node in self.linear}
        units = _units_of_calls(model)
        self.units = {name: units[source] for name, source in self.sources.items()}
        self.constant = {name for name, source in self.sources.items() if model.network.is_constant(source)}
        # Inside a call, what a linear layer gets is a current and no spikes.
        self.inner = {n.name for n in self.linear if graph.nodes[n.inputs[0]].origins[:1] == n.origins[:1]}
        self.of_ann, self.of_snn, self.active, self.spikes = {}, {}, {}, {}

    def of_source(self, values):
        reached = {n.name: self.reach[n.name](values[n.inputs[0]], leading=1) for n in self.linear}
        return {"reached": reached, "active": {n: _active(values[a]) for n, a in self.activations.items()}}

    def of_steps(self, values):
        watched = self.sources.keys() - self.constant - self.inner
        reached = {
            name: self.reach[name](values[self.sources[name]], leading=2, unit=self.units[name])
            for name in sorted(watched)
        }
        return {"reached": reached, "spikes": {n: _active(values[n], leading=2) for n in self.activations}}

    def take(self, observation):
        _add(self.of_ann, observation.source["reached"], lambda x: x.sum(axis=(0, 1)))
        _add(self.active, observation.source["active"], np.sum)
        _add(self.of_snn, observation.steps["reached"], lambda x: x.sum(axis=(0, 2)))
        _add(self.spikes, observation.steps["spikes"], np.sum)

    def result(self, timesteps, samples):
        """Return the `OperationCounts`."""
        network = self.model.network
        varying = [call for call in self.model.calls if not network.is_constant(call["name"])]
        # A constant that goes into weights does so once, and is not added at every step.
        weighted = {node.origins[0] for node in self.linear}
        read = {call["name"] for call in varying}
        read |= {name for call in varying if call["name"] not in weighted for name in call["inputs"]}
        layers = []
        itemsize = _itemsize(self.model.variable_dtype)
        for layer, node in zip(_static_counts(self.linear, self.graph, itemsize), self.linear, strict=True):
            of_snn = self.of_snn.get(node.name, np.zeros((timesteps, 2))) / samples
            if node.name in self.inner - self.constant:
                of_snn[:, 1] = layer.dense
            of_ann = self.of_ann[node.name] / samples
            layers.append(
                dataclasses.replace(
                    layer,
                    is_analog=node.name in self.constant,
                    reads=math.prod(node.shape) * (node.name in read),
                    additions=of_snn[:, 0],
                    multiply_adds=of_snn[:, 1],
                    ann_additions=float(of_ann[0]),
                    ann_multiply_adds=float(of_ann[1]),
                )
            )
        states = {name: _state_bytes(layer) for name, layer in network.stateful.items()}
        neurons = tuple(
            NeuronOperations(
                name,
                math.prod(network.stateful[name].value_shape),
                timesteps,
                self.spikes[name] / samples,
                self.active[name] / samples,
                states.pop(name),
            )
            for name in self.activations
        )
        return OperationCounts(tuple(layers), _not_counted(self.graph), neurons, sum(states.values()))


def _units_of_calls(model):
    """Return the value of one spike in what each call gives, by name: of the neurons that it comes from."""
    units, of_call = {}, {}
    for node in program_of(model).graph.nodes.values():
        moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate))
        if isinstance(node, kinds.Spike):
            units[node.name] = node.neuron.unit
        elif moves or (isinstance(node, kinds.Pool) and node.method):
            units[node.name] = min(units[name] for name in node.inputs)
        else:
            units[node.name] = 1.0
        of_call[node.origins[0] if node.origins else node.name] = units[node.name]
    return of_call


def _add(totals, values, reduce):
    """Add to the running totals, in float64, which has integers up to 2⁵³."""
    for name, value in values.items():
        totals[name] = totals.get(name, 0) + reduce(value.astype("float64"))


class _Reach:
    """Adds up how many outputs the values that are not 0 reach: exactly, although in float32.

    It does so block by block; in each the sum of all is an integer that float32 has.

    Args:
        fan: How many outputs each input reaches, an array of integers.
    """

    def __init__(self, fan):
        together = max(_EXACT // (int(fan.max(initial=1)) * _UNITS), 1)
        blocks = max(math.ceil(fan.size / together), 1)
        length = math.ceil(fan.size / blocks)
        self.padding = blocks * length - fan.size
        flat = np.pad(fan.ravel(), (0, self.padding)).astype("float32")
        self.shape, self.weights = (blocks, length), flat.reshape(blocks, length)

    def __call__(self, x, *, leading, unit=None):
        """Return the outputs reached by spikes, and by other values, `(*leading axes, blocks, 2)`.

        With the value of one spike as `unit`, a value of k units is k spikes; without, only 1 is one.
        """
        shape = (-1, *x.shape[1:leading])
        size = ops.reshape(ops.abs(ops.cast(x, "float32")), (*shape, math.prod(x.shape[leading:])))
        if self.padding:
            size = ops.pad(size, [*[(0, 0)] * leading, (0, self.padding)])
        size = ops.reshape(size, (*shape, *self.shape))
        size = size / (unit or 1.0)
        is_spike = ops.equal(size, 1.0) if unit is None else ops.equal(size, ops.floor(size))
        spikes = ops.where(is_spike, size, ops.zeros_like(size))
        others = ops.logical_and(ops.not_equal(size, 0.0), ops.logical_not(is_spike))
        values = (spikes, ops.cast(others, "float32"))
        reached = [ops.sum(ops.multiply(y, self.weights), axis=-1) for y in values]
        return ops.stack(reached, axis=-1)


def _active(x, leading=1):
    """Return how many values are not 0, `(*leading axes)`."""
    return ops.sum(ops.cast(ops.not_equal(x, 0), "float32"), axis=tuple(range(leading, len(x.shape))))


def _itemsize(dtype):
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def _state_bytes(layer):
    """Return the bytes of the state of one sample."""
    shapes = [
        (math.prod(v.shape), keras.backend.standardize_dtype(v.dtype)) for v in layer.get_initial_state(1)
    ]
    return sum(size * (4 if dtype == "int32" else _itemsize(dtype)) for size, dtype in shapes)


def _linear_nodes(graph):
    return [node for node in graph.nodes.values() if isinstance(node, (kinds.Affine, kinds.ChannelAffine))]


def _input_shape(graph, node):
    return graph.nodes[node.inputs[0]].shape


def _not_counted(graph):
    """Return the names of what is not counted."""
    others = [node for node in graph.nodes.values() if isinstance(node, kinds.Opaque)]
    return tuple(dict.fromkeys(node.origins[0] for node in others))


def _static_counts(linear, graph, itemsize):
    """Return the `LayerOperations` of linear nodes, of what does not depend on data."""
    layers, known = [], set()
    for node in linear:
        neurons = math.prod(node.shape)
        is_affine = isinstance(node, kinds.Affine)
        weights, shift = (node.kernel, node.bias) if is_affine else (node.scale, node.shift)
        has_bias = bool(np.any(shift))
        stored = weights.size + shift.size * has_bias
        # Calls of a shared layer share its weights, each of its parts by place and shape.
        key = (node.source, node.name.removeprefix(node.origins[0]), weights.shape)
        is_known = node.source is not None and key in known
        known.add(key)
        layers.append(
            LayerOperations(
                name=node.name,
                macs=neurons * math.prod(weights.shape[:-1]) if is_affine else neurons,
                biases=neurons if has_bias else 0,
                dense=int(fan_out(node, _input_shape(graph, node), zeros=True).sum()),
                weights=weights.size,
                zeros=int(np.sum(weights == 0)),
                footprint=0 if is_known else stored * itemsize,
            )
        )
    return tuple(layers)


def fan_out(node, shape, *, zeros=False):
    """Return how many outputs of a linear node each input reaches, integers of the shape of the input.

    Args:
        node: An `Affine` or `ChannelAffine`.
        shape: Shape of its input, without batch.
        zeros: Whether weights that are 0 reach as well.
    """
    if isinstance(node, kinds.ChannelAffine):
        return np.broadcast_to(np.logical_or(node.scale != 0, zeros), shape).astype("int64")
    *window, inputs, _ = node.kernel.shape
    weights = np.logical_or(node.kernel != 0, zeros).reshape(*window, inputs, node.groups, -1)
    # By place in the window and input channel.
    reached = np.moveaxis(weights.sum(axis=-1), -1, -2).reshape(*window, inputs * node.groups)
    if not window:
        return np.broadcast_to(reached, shape)
    if node.transposed:
        reached = reached[(slice(None, None, -1),) * len(window)]
    for axis, size in enumerate(shape[:-1]):
        reached = np.moveaxis(np.tensordot(_contacts(node, axis, size), reached, (1, axis)), 0, axis)
    return reached


def _contacts(node, axis, size):
    """Return whether an input meets each place of some window along an axis, `(size, window)`."""
    window, stride, dilation = node.window[axis], node.strides[axis], node.dilation[axis]
    outputs = node.shape[axis]
    meets = np.zeros((size, window), "int64")
    if node.transposed:
        before, _ = node.transposed_padding()[axis]
        for i, k in itertools.product(range(size), range(window)):
            meets[i, k] = 0 <= i * stride + before - k * dilation < outputs
        return meets
    before, _ = kinds.pad_widths(size, window, stride, dilation, node.padding)
    for output, k in itertools.product(range(outputs), range(window)):
        i = output * stride + k * dilation - before
        if 0 <= i < size:
            meets[i, k] = 1
    return meets
