"""How many operations a network needs, as a spiking network and as the analog one."""

import dataclasses
import itertools
import math

import keras
import numpy as np
from keras import ops

from keras_snn._data import Batches
from keras_snn._validation import check_integer
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower, lower_calls
from keras_snn.graph.passes import fold
from keras_snn.layers import Rearrange
from keras_snn.layers.pooling import SpikingMaxPooling
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.recording import Runner

__all__ = ["LayerOperations", "OperationCounts", "count_operations", "fan_out"]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerOperations:
    """Operations of one layer for one sample, mean over the samples.

    Attributes:
        name: Name of its call.
        macs: Multiply-adds of the analog layer: outputs times inputs of each.
        biases: Outputs that have a bias.
        is_analog: Whether its input is the same at every step, so that it is computed once.
        reads: Outputs that are added to something else at every step.
        additions: Additions at each step for spikes that came, `(timesteps,)`; `None` of an analog network.
        multiply_adds: Multiply-adds at each step for values that are no spikes, `(timesteps,)`, or `None`.
    """

    name: str
    macs: int
    biases: int
    is_analog: bool = False
    reads: int = 0
    additions: np.ndarray | None = None
    multiply_adds: np.ndarray | None = None

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


@dataclasses.dataclass(frozen=True, eq=False)
class OperationCounts:
    """Operations for one sample, mean over the samples; `print` it for a table.

    Pooling, read-out and the threshold of neurons do not count, for either network.

    Attributes:
        layers: A `LayerOperations` for every layer with weights, in order.
        not_counted: Names of layers that run on averages instead of spikes.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052, and (2017), doi:10.3389/fnins.2017.00682.
    """

    layers: tuple[LayerOperations, ...]
    not_counted: tuple[str, ...] = ()

    @property
    def macs(self):
        """Multiply-adds of the analog network."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ann_operations(self):
        """Operations of the analog network: Σ 2·macs + biases."""
        return sum(layer.ann_operations for layer in self.layers)

    @property
    def snn_operations(self):
        """Operations of the spiking network up to and with each step, `(timesteps,)`, or `None`."""
        if any(layer.additions is None for layer in self.layers):
            return None
        return sum(layer.snn_operations for layer in self.layers)

    def __str__(self):
        has_spikes = self.snn_operations is not None
        rows = [("layer", "ANN operations", *(["SNN operations", "per step"] if has_spikes else []))]
        for layer in [*self.layers, self]:
            row = [getattr(layer, "name", "total"), f"{layer.ann_operations:,}"]
            if has_spikes:
                total = layer.snn_operations[-1]
                row += [f"{total:,.0f}", f"{total / len(layer.snn_operations):,.0f}"]
            rows.append(row)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        if self.not_counted:
            lines += ["", f"Not counted, run on averages: {', '.join(self.not_counted)}."]
        return "\n".join(lines)


def count_operations(model, x=None, *, timesteps=None, batch_size=32, verbose=0):
    """Count the operations of a network.

    ANN: two for every weight of every output, and one for its bias. SNN: one addition for every
    spike and every neuron that it reaches, exactly at borders and strides, and as many for a spike of
    several units; two operations where a value is no spike, as behind average pooling; one addition
    per bias and step. A layer whose input is the same at every step is computed once, and its current
    added at every step.

    Args:
        model: A `SpikingModel`, or any model that `convert` takes.
        x: Samples, as for `predict`; needed by a spiking model, whose operations depend on them.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.

    Returns:
        An `OperationCounts`.

    Raises:
        ValueError, TypeError: If an argument is not what it may be.
    """
    if not isinstance(model, SpikingModel):
        graph = fold(lower(model, nonspiking="allow"))
        return OperationCounts(*_static_counts(graph))
    if x is None:
        raise ValueError("`x` must be some samples, because spikes depend on them. Received: x=None.")
    timesteps = model.timesteps if timesteps is None else check_integer("timesteps", timesteps, minimum=1)
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    graph = lower_calls(model.layers, model.calls, model.input_shapes, model.network.outputs)
    layers, not_counted = _static_counts(graph)
    fans = {node.name: fan_out(node, _input_shape(graph, node)) for node in _linear_nodes(graph)}
    # Linear nodes have the name of their call, or of a part of it.
    sources = {
        node.name: next(call["inputs"][0] for call in model.calls if call["name"] == node.origins[0])
        for node in _linear_nodes(graph)
    }
    constant = {name for name in fans if model.network.is_constant(sources[name])}
    watched = {name: sources[name] for name in fans if name not in constant}
    units = {source: _unit_of(model, source) for source in watched.values()}

    def observe(values, states):
        return {name: _positions(values[source], units[source]) for name, source in watched.items()}

    runner = Runner(model, observe)
    batches = Batches(x, model.network.inputs, model.given_shapes, batch_size=batch_size, argument="x")
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    totals = {name: np.zeros((2, timesteps)) for name in watched}
    samples = 0
    for inputs, _ in batches:
        start = 0
        for _, seen, _ in runner.run(inputs, timesteps):
            for name, pair in seen.items():
                for kind, counts in enumerate(pair):
                    # In integers of any size: a float32 has 24 bits.
                    reached = np.tensordot(counts.astype("float64"), fans[name], fans[name].ndim)
                    totals[name][kind, start : start + counts.shape[1]] += reached.sum(axis=0)
            start += next(iter(seen.values()))[0].shape[1] if seen else 0
        samples += len(keras.tree.flatten(inputs)[0])
        if progress:
            progress.add(1)
    none = np.zeros((2, timesteps))
    # A constant that only another constant is made of is not added at every step.
    varying = [call for call in model.calls if not model.network.is_constant(call["name"])]
    read = {name for call in varying for name in [call["name"], *call["inputs"]]}
    layers = tuple(
        dataclasses.replace(
            layer,
            is_analog=layer.name in constant,
            reads=math.prod(graph.nodes[layer.name].shape) * (layer.name in read),
            additions=totals.get(layer.name, none)[0] / samples,
            multiply_adds=totals.get(layer.name, none)[1] / samples,
        )
        for layer in layers
    )
    return OperationCounts(layers, not_counted)


def _linear_nodes(graph):
    return [node for node in graph.nodes.values() if isinstance(node, (kinds.Affine, kinds.ChannelAffine))]


def _input_shape(graph, node):
    return graph.nodes[node.inputs[0]].shape


def _static_counts(graph):
    """Return the `LayerOperations` of a graph without spikes, and the names of what is not counted."""
    layers = []
    for node in _linear_nodes(graph):
        neurons = math.prod(node.shape)
        is_affine = isinstance(node, kinds.Affine)
        shift = node.bias if is_affine else node.shift
        macs = neurons * math.prod(node.kernel.shape[:-1]) if is_affine else neurons
        layers.append(LayerOperations(node.name, macs, neurons if np.any(shift) else 0))
    others = [node for node in graph.nodes.values() if isinstance(node, kinds.Opaque)]
    return tuple(layers), tuple(dict.fromkeys(node.origins[0] for node in others))


def _unit_of(model, name):
    """Return the value of one spike in what a call gives: of the neurons that it comes from unchanged."""
    call = next((call for call in model.calls if call["name"] == name), None)
    if call is None:
        return 1.0
    layer = model.get_layer(call["layer"])
    inner = getattr(layer, "layer", layer)
    if isinstance(inner, (SpikingMaxPooling, Rearrange, keras.layers.Concatenate)):
        return min(_unit_of(model, source) for source in call["inputs"])
    return getattr(getattr(layer, "neuron", None), "unit", 1.0)


def _positions(x, unit):
    """Return how many spikes, and how many other values, come at each position: without the channels.

    A value of k units is k spikes.
    """
    size = ops.abs(ops.cast(x, "float32")) / unit
    is_whole = ops.equal(size, ops.floor(size))
    spikes = ops.where(is_whole, size, ops.zeros_like(size))
    others = ops.cast(ops.logical_not(is_whole), "float32")
    return [ops.sum(y, axis=-1) for y in (spikes, others)]


def fan_out(node, shape):
    """Return to how many outputs of a linear node each input reaches, an integer for every position.

    Args:
        node: An `Affine` or `ChannelAffine`.
        shape: Shape of its input, without batch; all channels of a position reach as many.
    """
    positions = shape[:-1]
    if isinstance(node, kinds.ChannelAffine):
        return np.ones(positions, "int64")
    if not node.window:
        return np.full(positions, node.kernel.shape[-1])
    along = []
    pads = node.transposed_padding() if node.transposed else None
    for axis, (size, outputs) in enumerate(zip(positions, node.shape[:-1], strict=True)):
        window, stride, dilation = node.window[axis], node.strides[axis], node.dilation[axis]
        reached = np.zeros(size, "int64")
        if node.transposed:
            pairs = itertools.product(range(size), range(window))
            at = ((i, i * stride + pads[axis][0] - k * dilation) for i, k in pairs)
            for i, output in at:
                reached[i] += 0 <= output < outputs
        else:
            before, _ = kinds.pad_widths(size, window, stride, dilation, node.padding)
            for output, k in itertools.product(range(outputs), range(window)):
                i = output * stride + k * dilation - before
                if 0 <= i < size:
                    reached[i] += 1
        along.append(reached)
    units = node.kernel.shape[-1] // node.groups
    return units * math.prod(np.ix_(*along))
