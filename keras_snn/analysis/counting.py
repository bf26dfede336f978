"""Counting the operations of a network: of a spiking one while it runs, beside its source network."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_snn._types import AnyModel, Data
from keras_snn.analysis.fan_out import fan_out
from keras_snn.analysis.observers import Observer, observe
from keras_snn.analysis.operation_counts import LayerOperations, NeuronOperations, OperationCounts
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold
from keras_snn.simulation.from_layers import as_spiking_model, is_handwritten
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import program_of, source_graph

__all__ = ["OperationTally", "count_operations"]

# Integers up to it are exact in float32; as sums of spikes of up to so many units.
_EXACT = 2**24
_UNITS = 16


def count_operations(
    model: AnyModel,
    x: Data | None = None,
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
) -> OperationCounts:
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
