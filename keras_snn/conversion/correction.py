"""Giving neurons what their rates lack on the average, layer by layer."""

import dataclasses

import numpy as np
from keras import ops

from keras_snn import neurons
from keras_snn.analysis.observers import Observer, observe
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import Graph
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of, source_graph

__all__ = ["correct"]


def correct(model, data, *, variant, batch_size, verbose):
    """Return a program with neurons corrected so that channels fire, on average, as their activations are.

    From the first layer to the last, since a correction changes what the layers after it get. With
    d the mean over data and space of activation − rate, in units of λ, the neurons of a channel get θ·d
    at every step (`"bias"`), or θ·d·T before the first (`"potential"`).

    Args:
        model: A `SpikingModel`.
        data: Calibration data.
        variant: `"bias"` or `"potential"`; `True` is the former.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar for every layer.

    Returns:
        The corrected `Program` of `model`.

    Source:
        Li et al. (2021), "A free lunch from ANN: Towards efficient, accurate spiking neural networks
        calibration", ICML, "light pipeline".
    """
    program, source = program_of(model), source_graph(model)[0]
    options = {"timesteps": None, "batch_size": batch_size, "verbose": verbose, "averages": True}
    for group in _neurons_by_layer(model, program):
        neuron = program.graph.nodes[group[0]].neuron
        if not neuron.is_rate_coding:
            continue
        timesteps = neuron.active_steps(program.timesteps)
        means = _Means({program.graph.nodes[name].origins[0]: name for name in group}, timesteps)
        observe(build(_up_to(program, group)), data, None, [means], graph=source, **options)
        lack = neuron.v_threshold * np.atleast_1d(means.lack)
        changed = {"potential": lack * timesteps} if variant == "potential" else {"current": lack}
        changed = {name: tuple(values.tolist()) for name, values in changed.items()}
        corrected = neurons.Corrected(neuron, **changed)
        nodes = {
            name: dataclasses.replace(node, neuron=corrected) if name in group else node
            for name, node in program.graph.nodes.items()
        }
        program = dataclasses.replace(program, graph=dataclasses.replace(program.graph, nodes=nodes))
    return program


def _neurons_by_layer(model, program):
    """Return lists of the names of the nodes of neurons, those of one layer together, in order."""
    layer_of = {call["name"]: call["layer"] for call in model.calls}
    groups = {}
    for node in program.graph.nodes.values():
        if isinstance(node, kinds.Spike):
            groups.setdefault(layer_of[node.origins[0]], []).append(node.name)
    return list(groups.values())


def _up_to(program, names):
    """Return the program of the nodes up to some, without outputs, whose trains would be kept."""
    order = list(program.graph.nodes)
    last = max(order.index(name) for name in names)
    nodes = {name: program.graph.nodes[name] for name in order[: last + 1]}
    return dataclasses.replace(program, graph=Graph(nodes, program.graph.inputs, []))


class _Means(Observer):
    """Sums the differences of activations and rates of every channel over calls and samples."""

    def __init__(self, calls, timesteps):
        self.calls, self.timesteps = calls, timesteps
        self.sum, self.number = 0.0, 0

    @property
    def lack(self):
        """Mean of activation − rate of every channel, in units of λ."""
        return self.sum / self.number

    def of_source(self, values):
        return {name: _over_space(values[node]) for name, node in self.calls.items()}

    def of_sums(self, values):
        return {name: _over_space(ops.sum(ops.cast(values[name], "float32"), axis=1)) for name in self.calls}

    def take(self, observation):
        for name, activation in observation.source.items():
            difference = activation.astype("float64") - observation.sums[name] / self.timesteps
            self.sum = self.sum + difference.sum(axis=0)
            self.number += len(difference)


def _over_space(x):
    """Return the mean of `(batch, …, channels)` over all but these two axes."""
    axes = tuple(range(1, len(x.shape) - 1))
    return ops.mean(x, axis=axes) if axes else x
