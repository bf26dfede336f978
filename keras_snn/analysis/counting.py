"""Counting the operations of a network: of a spiking one while it runs, beside its source network."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_snn._types import AnyModel, Data
from keras_snn.analysis.contents import contents_of, own_sums
from keras_snn.analysis.layer_operations import NeuronOperations
from keras_snn.analysis.observers import Observer, summarize
from keras_snn.analysis.operation_counts import OperationCounts
from keras_snn.analysis.parts import Part, static_parts
from keras_snn.analysis.reach import EVENTS, GRADED, ONES, UNITS, Reach, Reached
from keras_snn.analysis.updates import updates_of
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name
from keras_snn.graph.levels import in_the_way, with_levels
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold
from keras_snn.layers.base import neuron_of
from keras_snn.simulation.from_layers import as_spiking_model, is_handwritten
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import alone, program_of, source_graph

__all__ = ["OperationTally", "count_operations", "operations_of", "summarize_operations"]


def count_operations(
    model: AnyModel,
    x: Data | None = None,
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
) -> OperationCounts:
    """Count the operations of a network.

    ANN: two for every weight of every output, one for its bias, and one for every value that a residual
    connection adds. SNN: one addition for every event of a spike and every neuron that it reaches by a weight
    that is not 0, exactly at borders and strides; a spike of several units has as many events as thresholds
    fire for it (of a time code, as digits of its number are not 0). Two operations where a value is no
    spike, as after average pooling; one addition per bias and step. A layer whose input is the same at
    every step is computed once, without zeros, and its current added at every step. Updates of neurons are
    counted apart; `operations_with_updates` has both. The baselines are the dense source network
    (`ann_operations`) and one that skips zeros (`zero_skipping_operations`), with the levels of the neurons
    where they have any. `OperationCounts` has these, and the metrics of NeuroBench for both networks, in all
    and `by_layer`; its `energy` takes the name of one of the published `keras_snn.ENERGY_FIGURES`, or other
    figures.

    Args:
        model: A `SpikingModel`; a hand-written model of spiking layers, on `(batch, time, …)`; or any
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
        return OperationCounts(static_parts(graph, itemsize), _not_counted(graph))
    if x is None:
        raise ValueError("`x` must be some samples, because spikes depend on them. Received: x=None.")
    options = {"timesteps": timesteps, "batch_size": batch_size, "verbose": verbose, "identify": False}
    with alone(model):
        tally = OperationTally(model)
        return operations_of(model, summarize_operations(model, x, tally=tally, **options), tally=tally)


def summarize_operations(model, x, *, tally=None, **options):
    """Return the `Summary` of an `OperationTally` on samples; options as of `summarize`."""
    tally = tally or OperationTally(model)
    return summarize(model, "count_operations", {"counts": tally}, x, graph=tally.graph, **options)


def operations_of(model, summary, *, tally=None):
    """Return the `OperationCounts` of a `Summary` that has those of an `OperationTally`."""
    tally = tally or OperationTally(model)
    return tally.result(summary.part("counts:"), summary.settings["timesteps"], summary.samples)


class OperationTally(Observer):
    """Sums over samples of what `OperationCounts` has.

    Args:
        model: A `SpikingModel`.
        source: What `source_graph` returns of it, or `None` to call that.

    Attributes:
        graph: The source network, and beside it that of the same levels, if there is one; for `observe`.
    """

    def __init__(self, model, source=None):
        super().__init__()
        graph, activations = source or source_graph(model)
        self.model, self.activations = model, activations
        program = program_of(model)
        self.contents = contents_of(program)
        self.graph, self.reference = _with_reference(graph, program)
        self.updates, self.other_updates = {}, 0
        if model.is_time_coded:
            self.updates, self.other_updates = updates_of(program, self.contents)
        own = own_sums(program.graph)
        parts = [Part(node, program, self.contents, own) for node in program.graph.nodes.values()]
        # Read-outs are in no source network.
        place = {name: i for i, name in enumerate(graph.nodes)}
        parts = sorted(parts, key=lambda part: place.get(part.name, len(place)))
        self.parts = [part for part in parts if part.is_counted]
        self.fired = {
            name: self._reach(np.ones(program.graph.nodes[node].shape, int), node)
            for name, node in activations.items()
        }
        self.program = program

    def _reach(self, fan, name):
        return Reach(fan, self.contents.codes[name], self.contents.sources)

    def of_source(self, values):
        found = {"active": {name: _active(values[node]) for name, node in self.activations.items()}}
        for key, prefix in self._networks().items():
            found[key] = {
                f"{part.name} {i}": reach(values[_beside(self.graph, prefix, name)], leading=1)
                for part in self.parts
                for i, (name, reach) in enumerate(part.of_source)
            }
        return found

    def _networks(self):
        """Return the prefix of the names of nodes in the source network, and in that of the same levels."""
        return {"source": "", "reference": self.reference} if self.reference else {"source": ""}

    @property
    def of_steps(self):
        reached = {
            f"{part.name} {i}": Reached(call, reach)
            for part in self.parts
            for i, (call, reach) in enumerate(part.of_steps)
        }
        return {
            "reached": reached,
            "fired": {name: Reached(name, reach) for name, reach in self.fired.items()},
        }

    def take(self, observation):
        for key, values in {**observation.source, **observation.steps}.items():
            over = {"active": None, "reached": (0, 2), "fired": (0, 2)}.get(key, (0, 1))
            for name, value in values.items():
                # Integers, in float64, which has them up to 2⁵³.
                found = value.astype("float64").sum(axis=over)
                self.totals.add(f"{key}:{name}", np.rint(found).astype("int64"))

    def result(self, totals, timesteps, samples):
        """Return the `OperationCounts` of `Totals`."""
        mean = {tuple(name.split(":", 1)): total / samples for name, total in totals.sums.items()}
        itemsize, known, layers = _itemsize(self.model.variable_dtype), set(), {}
        for part in self.parts:
            layer = part.operations(mean, timesteps, itemsize, known, has_reference=bool(self.reference))
            host = layers.get(part.host)
            if host is None:
                layers[part.name] = layer
            else:
                layers[part.host] = dataclasses.replace(host, reads=host.reads + layer.reads)
        states = {name: _state_bytes(layer) for name, layer in internals(self.model).network.stateful.items()}
        neurons = tuple(
            self._of_neurons(name, mean, timesteps, states.pop(name)) for name in self.activations
        )
        return OperationCounts(
            tuple(layers.values()),
            _not_counted(self.program.graph),
            tuple(neurons),
            sum(states.values()),
            self.other_updates,
            bool(self.reference),
        )

    def _of_neurons(self, name, mean, timesteps, footprint):
        layer = internals(self.model).network.stateful[name]
        neuron, fired = neuron_of(layer), mean["fired", name].sum(axis=0)
        return NeuronOperations(
            name,
            math.prod(layer.value_shape),
            neuron.window or timesteps,
            float(fired[ONES] + fired[GRADED]),
            float(mean["active", name]),
            footprint,
            self.updates.get(name),
            float(fired[EVENTS]),
            float(fired[UNITS]),
        )


def _with_reference(graph, program):
    """Return the source network with that of the same levels beside it, and what its names begin with.

    Nothing is beside it, and there is no name, if neurons have no levels.
    """
    if any(in_the_way(node, program.timesteps) for node in program.graph.nodes.values()):
        return graph, ""
    prefix = free_name("levels", {name.split("/")[0] for name in graph.nodes}) + "/"
    nodes = dict(graph.nodes)
    for name, node in with_levels(program).nodes.items():
        if not isinstance(node, kinds.Input):
            inputs = tuple(i if isinstance(nodes.get(i), kinds.Input) else prefix + i for i in node.inputs)
            nodes[prefix + name] = dataclasses.replace(node, name=prefix + name, inputs=inputs)
    return dataclasses.replace(graph, nodes=nodes), prefix


def _beside(graph, prefix, name):
    return name if isinstance(graph.nodes[name], kinds.Input) else prefix + name


def _active(x):
    """Return how many values of each sample are not 0."""
    return ops.sum(ops.cast(ops.not_equal(x, 0), "float32"), axis=tuple(range(1, len(x.shape))))


def _itemsize(dtype):
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def _state_bytes(layer):
    """Return the bytes of the state of one sample."""
    shapes = [
        (math.prod(v.shape), keras.backend.standardize_dtype(v.dtype)) for v in layer.get_initial_state(1)
    ]
    return sum(size * (4 if dtype == "int32" else _itemsize(dtype)) for size, dtype in shapes)


def _not_counted(graph):
    """Return the names of what is not counted."""
    others = [node for node in graph.nodes.values() if isinstance(node, kinds.Opaque)]
    return tuple(dict.fromkeys(node.origins[0] for node in others))
