"""Giving neurons what their rates lack on the average, layer by layer."""

import numpy as np
from keras import ops

from keras_snn import neurons
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import source_graph
from keras_snn.simulation.watching import Watcher, watch

__all__ = ["correct"]


def correct(model, data, *, variant, batch_size, verbose):
    """Correct the neurons of a spiking model so that channels fire, on average, as their activations are.

    From the first layer to the last, since a correction changes what the layers behind get. With
    d the mean over data and space of activation − rate, in units of λ, the neurons of a channel get θ·d
    at every step (`"bias"`), or θ·d·T before the first (`"potential"`).

    Args:
        model: A `SpikingModel`; its neurons are replaced.
        data: Calibration data.
        variant: `"bias"` or `"potential"`; `True` is the former.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar for every layer.

    Source:
        Li et al. (2021), "A free lunch from ANN: Towards efficient, accurate spiking neural networks
        calibration", ICML, "light pipeline".
    """
    graph, activations = source_graph(model)
    options = {"timesteps": None, "batch_size": batch_size, "verbose": verbose, "averages": True}
    for layer in model.layers:
        calls = {name: activations[name] for name in activations if model.network.stateful[name] is layer}
        if not calls or not layer.neuron.is_rate_coding:
            continue
        neuron, timesteps = layer.neuron, layer.neuron.active_steps(model.timesteps)
        means = _Means(calls, timesteps)
        watch(_up_to(model, calls), data, None, [means], graph=graph, **options)
        lack = neuron.v_threshold * np.atleast_1d(means.lack)
        changed = {"potential": lack * timesteps} if variant == "potential" else {"current": lack}
        changed = {name: tuple(values.tolist()) for name, values in changed.items()}
        layer.neuron = neurons.Corrected(layer.neuron, **changed)


def _up_to(model, names):
    """Return a spiking model of the same layers, of the calls that some depend on, without outputs."""
    last = max(i for i, call in enumerate(model.calls) if call["name"] in names)
    calls = model.calls[: last + 1]
    called = {call["layer"] for call in calls}
    return SpikingModel(
        [layer for layer in model.layers if layer.name in called],
        calls,
        inputs=model.network.inputs,
        # Their trains would be kept.
        outputs=[],
        shapes=model.input_shapes,
        timesteps=model.timesteps,
        events=model.network.events,
        unroll=model.unroll,
        dtype=model.dtype_policy,
    )


class _Means(Watcher):
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

    def take(self, seen):
        for name, activation in seen.source.items():
            difference = activation.astype("float64") - seen.sums[name] / self.timesteps
            self.sum = self.sum + difference.sum(axis=0)
            self.number += len(difference)


def _over_space(x):
    """Return the mean of `(batch, …, channels)` over all but these two axes."""
    axes = tuple(range(1, len(x.shape) - 1))
    return ops.mean(x, axis=axes) if axes else x
