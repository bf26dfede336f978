"""Counting the operations of a network: of a spiking one while it runs, beside its source network."""

import dataclasses
import functools
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
from keras_snn.layers.base import neuron_of
from keras_snn.simulation.from_layers import as_spiking_model, is_handwritten
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import alone, program_of, source_graph

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
    and as many for a spike of several units (of a time code, one for every spike that its number is);
    two operations where a value is no spike, as behind
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
    with alone(model):
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
        split = _splits_of_calls(model)
        self.split = {name: split[source] for name, source in self.sources.items()}
        windows = windows_of(program_of(model)) if model.is_time_coded else {}
        self.windows = {name: windows.get(name) for name in activations}
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
            name: self.reach[name](values[self.sources[name]], leading=2, split=self.split[name])
            for name in sorted(watched)
        }
        spikes = {n: _events(values[n], self._neuron(n)) for n in self.activations}
        return {"reached": reached, "spikes": spikes}

    def _neuron(self, name):
        return neuron_of(self.model.network.stateful[name])

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
                self._neuron(name).window or timesteps,
                self.spikes[name] / samples,
                self.active[name] / samples,
                states.pop(name),
                self.windows[name],
            )
            for name in self.activations
        )
        return OperationCounts(tuple(layers), _not_counted(self.graph), neurons, sum(states.values()))


def _splits_of_calls(model):
    """Return, by name of the call, the function that separates spikes from the other values it gives."""
    neurons, of_call = {}, {}
    for node in program_of(model).graph.nodes.values():
        moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate))
        if isinstance(node, kinds.Spike):
            neurons[node.name] = node.neuron
        elif moves or (isinstance(node, kinds.Pool) and node.method):
            found = [neurons[name] for name in node.inputs]
            smallest = min(found, key=lambda neuron: 1.0 if neuron is None else neuron.unit)
            neurons[node.name] = None if None in found and model.is_time_coded else smallest
        else:
            neurons[node.name] = None
        name = node.origins[0] if node.origins else node.name
        of_call[name] = _split_of(neurons[node.name], model.is_time_coded)
    return of_call


def _split_of(neuron, is_time_coded):
    """Return the function for `_Reach` of values that neurons send, or of others if `neuron` is `None`."""
    if is_time_coded:
        return functools.partial(_split_numbers, neuron)
    return functools.partial(_split_units, 1.0 if neuron is None else neuron.unit)


def _split_ones(size):
    """Only 1 is a spike."""
    return _split(size, ops.equal(size, 1.0))


def _split_units(unit, size):
    """With `unit` the value of one spike, a value of k units is k spikes."""
    size = size / unit
    return _split(size, ops.equal(size, ops.floor(size)))


def _split(size, is_spike):
    others = ops.logical_and(ops.not_equal(size, 0.0), ops.logical_not(is_spike))
    return ops.where(is_spike, size, ops.zeros_like(size)), ops.cast(others, "float32")


def _split_numbers(neuron, size):
    """A number that neurons send in a window is as many spikes as it has events; any other is none."""
    if neuron is None:
        return ops.zeros_like(size), ops.cast(ops.not_equal(size, 0.0), "float32")
    return neuron.events_of(size), ops.zeros_like(size)


def windows_of(program):
    """Return how often each neuron of a network of time codes adds to its potential, by name of its call.

    It does so at every step of the windows in which it receives, those of one base together, and once more
    from digit to digit. What receives numbers only, as the first layer, does so once.
    """
    arriving, found = {}, {}
    for node in program.graph.nodes.values():
        taken = [arriving.get(name, {}) for name in node.inputs]
        steps = {base: max(t.get(base, 0) for t in taken) for t in taken for base in t}
        if isinstance(node, kinds.Spike):
            digits = sum(count // (base - 1) - 1 for base, count in steps.items())
            found[node.origins[0]] = max(sum(steps.values()) + digits, 1)
            code = node.neuron.code
            steps = {2: 1} if code is None else {code.base: code.window}
        elif isinstance(node, (kinds.Opaque, kinds.Activation)):
            steps = {}
        arriving[node.name] = steps
    return found


def _events(x, neuron):
    """Return how many spikes values over time are, `(batch, time)`: of time codes, those of each number."""
    if neuron.is_time_code:
        x = neuron.events_of(ops.cast(x, "float32"))
        return ops.sum(x, axis=tuple(range(2, len(x.shape))))
    return _active(x, leading=2)


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

    def __call__(self, x, *, leading, split=_split_ones):
        """Return the outputs reached by spikes, and by other values, `(*leading axes, blocks, 2)`.

        `split` is a function of the sizes of values that returns how many spikes each is, and whether it is
        another value than 0.
        """
        shape = (-1, *x.shape[1:leading])
        size = ops.reshape(ops.abs(ops.cast(x, "float32")), (*shape, math.prod(x.shape[leading:])))
        if self.padding:
            size = ops.pad(size, [*[(0, 0)] * leading, (0, self.padding)])
        size = ops.reshape(size, (*shape, *self.shape))
        reached = [ops.sum(ops.multiply(y, self.weights), axis=-1) for y in split(size)]
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
