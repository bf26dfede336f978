"""Giving neurons what their rates lack on the average, layer by layer."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_snn import layers as spiking_layers
from keras_snn import neurons
from keras_snn._devices import predict_batch
from keras_snn.conversion.tuning import some_samples
from keras_snn.graph import nodes as kinds
from keras_snn.graph.to_keras import analog_tensors
from keras_snn.layers.time_axis import unfold_time
from keras_snn.simulation.internals import internals
from keras_snn.simulation.source import program_of, source_graph

__all__ = ["correct"]

# Of so many samples one does not correct, but checks.
_CHECKED = 4
# What is tried of a correction that makes up for all that a channel lacks, if all that fire take part.
_FACTORS = (1.0, 0.5, 0.25)
# What a variant may add to.
_ADDED = {
    True: ("current",),
    "bias": ("current",),
    "potential": ("potential",),
    "either": ("potential", "current"),
}
# A channel in which fewer neurons are active is corrected as if so many were.
_LEAST_ACTIVE = 0.05


def correct(model, data, *, variant, batch_size, verbose, source=None):
    """Return a program with neurons corrected so that channels fire, on average, as their activations are.

    From the first layer to the last, since a correction changes what the layers after it get. With d the mean
    over data and space of activation − rate, in units of λ, and p the share of neurons that are neither
    silent nor saturated, the neurons of a channel get g·θ·d/p at every step (`"bias"`), or g·θ·d·T/p before
    the first (`"potential"`). Of these, with g = 1, ½ and ¼, and of none each layer has what brings its rates
    closest to its activations on samples that the means were not taken of. If the outputs are no closer in
    the end, nothing is corrected.

    All time steps of a layer run before the next layer does, so every layer runs few times.

    Args:
        model: A `SpikingModel`.
        data: Calibration data, of which some hundred samples are used, fewer of large networks.
        variant: `"bias"` or `"potential"`, or `"either"`, of which each layer has one; `True` is the first.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.
        source: A `SpikingModel` of the same layers of neurons whose source network has the activations, where
            `model` has other weights; `model` if `None`.

    Returns:
        The corrected `Program` of `model`.

    Source:
        Li et al. (2021), "A free lunch from ANN: Towards efficient, accurate spiking neural networks
        calibration", ICML, "light pipeline".
    """
    program, (graph, activations) = program_of(model), source_graph(source or model)
    nodes = program.graph.nodes
    spikes = [node for node in nodes.values() if isinstance(node, kinds.Spike)]
    both = [pair for pair in zip(spikes, activations.values(), strict=True) if pair[0].neuron.is_rate_coding]
    calls = {spike.origins[0]: spike.name for spike, _ in both}
    x = some_samples(model, data, batch_size)
    of_source = {spike.origins[0]: activation for spike, activation in both}
    source = _Source(graph, of_source, model.dtype_policy)
    # Every fourth sample checks: with corrections, and without.
    streams = [
        [_Part(model, program.timesteps, part, source) for part in _batches(x, check, batch_size)]
        for check in (False, True, True)
    ]
    corrected = _Walk(model, program, calls, variant).run(*streams, verbose)
    with_corrections, without = (sum(part.error_of_outputs for part in parts) for parts in streams[1:])
    if with_corrections >= without:
        return program
    nodes = {
        name: dataclasses.replace(node, neuron=corrected.get(name, node.neuron))
        if isinstance(node, kinds.Spike)
        else node
        for name, node in nodes.items()
    }
    return program.with_nodes(nodes)


def _batches(x, check, batch_size):
    """Return the samples that check, or the others, in batches; of few samples all do both."""
    places = np.arange(len(keras.tree.flatten(x)[0]))
    if len(places) >= _CHECKED:
        places = places[(places % _CHECKED == _CHECKED - 1) == check]
    parts = np.array_split(places, math.ceil(len(places) / batch_size))
    return [keras.tree.map_structure(lambda a, part=part: a[part], x) for part in parts]


class _Source:
    """Gives activations of the source network, by name of the call that fires for them, and its outputs."""

    def __init__(self, graph, calls, dtype):
        values = analog_tensors(graph, dtype=dtype)
        inputs, outputs = (
            keras.tree.map_structure(values.__getitem__, names) for names in (graph.inputs, graph.outputs)
        )
        wanted = {"activations": {call: values[node] for call, node in calls.items()}}
        wanted["outputs"] = dict(enumerate(keras.tree.flatten(outputs)))
        self.model = keras.Model(inputs, wanted)

    def __call__(self, x):
        return predict_batch(self.model, x)


class _Part:
    """Some samples on their way through the network, with all time steps of the calls so far.

    Attributes:
        activations: Activations of the source network by name of the call.
        values: What later calls take, `(batch·timesteps, …)`, by name of the call.
        error_of_outputs: Σ (output − output of the source network)², once all calls are through.
    """

    def __init__(self, model, timesteps, x, source):
        found = source(x)
        self.network, self.timesteps = internals(model).network, timesteps
        self.activations, self.outputs = found["activations"], found["outputs"]
        if self.network.events:
            x = keras.tree.map_structure(lambda a: np.repeat(a[:, None], timesteps, axis=1), x)
        inputs = [
            ops.convert_to_tensor(a) for a in keras.tree.flatten(internals(model).inputs.shaped(x, timesteps))
        ]
        self.drive, self.states = self.network.drive(inputs), self.network.start(inputs)
        self.values, self.error_of_outputs = {}, 0.0
        # That of the last call whose neuron was replaced: several are tried on it.
        self._current = None, None

    def fire(self, call, neuron=None):
        """Return the spikes of a call, `(batch·timesteps, …)`; those of another `neuron` in its place."""
        name, layer, _ = call
        if neuron is None:
            return self.network.value_of(call, self.drive, self.values, self.states, self.timesteps)
        if self._current[0] != name:
            self._current = name, self.network.current_of(call, self.drive, self.values, self.timesteps)
        current, constant = self._current[1]
        other = spiking_layers.SpikingActivation("linear", neuron=neuron, dtype=layer.dtype_policy)
        shape = (len(self.activations[name]), *current.shape[1:])
        return other.advance(current, other.start(shape), self.timesteps, constant=constant)[0]

    def lack(self, name, spikes, steps):
        """Return activation − rate of every neuron, and the rate, NumPy arrays `(batch, …)`."""
        total = ops.sum(ops.cast(unfold_time(spikes, self.timesteps), "float32"), axis=1)
        rate = ops.convert_to_numpy(total).astype("float64") / steps
        return self.activations[name] - rate, rate

    def take(self, name, value, needed):
        """Keep the value of a call, and of those before it what is `needed` later."""
        self._current = None, None
        outputs = keras.tree.flatten(self.network.outputs)
        if name in outputs:
            last = ops.convert_to_numpy(unfold_time(value, self.timesteps)[:, -1]).astype("float64")
            places = [i for i, output in enumerate(outputs) if output == name]
            self.error_of_outputs += sum(np.square(last - self.outputs[i]).sum() for i in places)
        self.values = {n: v for n, v in {**self.values, name: value}.items() if n in needed}


class _Walk:
    """Takes parts of the samples through the network, call by call, and corrects neurons on the way."""

    def __init__(self, model, program, calls, variant):
        self.network, self.timesteps = internals(model).network, program.timesteps
        self.spikes = {call: program.graph.nodes[node] for call, node in calls.items()}
        self.variant = variant

    def run(self, fitted, checked, plain, verbose):
        """Return the corrected neurons by name of the node.

        Args:
            fitted: `_Part`s by which corrections are computed.
            checked: Those by which they are chosen.
            plain: Those that run without.
            verbose: 1 shows a progress bar.
        """
        running, found, of_layer = self.network.running, {}, {}
        progress = keras.utils.Progbar(len(running), unit_name="layer") if verbose else None
        for place, call in enumerate(running):
            name, layer, _ = call
            if name in self.spikes and layer not in of_layer:
                of_layer[layer] = self._corrected(call, self._lack(fitted, place), checked)
            neuron = of_layer.get(layer)
            if neuron is not None:
                found[self.spikes[name].name] = neuron
            needed = {n for _, _, sources in running[place + 1 :] for n in sources}
            for part in (*fitted, *checked):
                part.take(name, part.fire(call, neuron), needed)
            for part in plain:
                part.take(name, part.fire(call), needed)
            if progress is not None:
                progress.add(1)
        return found

    def _lack(self, parts, place):
        """Return what the channels of a layer lack, in units of λ, and what share of neurons can give it.

        Of a layer with several calls, over all of them, as they are without a correction.

        Args:
            parts: `_Part`s.
            place: Place of the first call of the layer in `running`.
        """
        running = self.network.running
        layer = running[place][1]
        places = [i for i, (_, other, _) in enumerate(running) if other is layer]
        lacks, shares = [], []
        for part in parts:
            before = part.values
            for i in range(place, places[-1] + 1):
                name = running[i][0]
                spikes = part.fire(running[i])
                if i in places:
                    neuron = self.spikes[name].neuron
                    lack, rate = part.lack(name, spikes, neuron.active_steps(self.timesteps))
                    active = (rate > 0) & (rate < neuron.largest_rate(self.timesteps))
                    lacks.append(_by_channel(lack))
                    shares.append(_by_channel(active.astype("float64")))
                part.values = {**part.values, name: spikes}
            part.values = before
        return np.concatenate(lacks).mean(axis=0), np.concatenate(shares).mean(axis=0)

    def _corrected(self, call, of_channels, parts):
        """Return the neuron of a layer with the best correction, or `None` if that is none."""
        name, (lack, share) = call[0], of_channels
        neuron = self.spikes[name].neuron
        steps = neuron.active_steps(self.timesteps)
        full = np.asarray(neuron.v_threshold) * np.atleast_1d(lack / np.maximum(share, _LEAST_ACTIVE))
        best, least = None, self._error(call, None, steps, parts)
        for factor in _FACTORS:
            for what in _ADDED[self.variant]:
                added = factor * full * (steps if what == "potential" else 1)
                corrected = neurons.Corrected(neuron, **{what: tuple(added.tolist())})
                error = self._error(call, corrected, steps, parts)
                if error < least:
                    best, least = corrected, error
        return best

    def _error(self, call, neuron, steps, parts):
        """Return Σ (activation − rate)² of a layer, with another neuron or its own."""
        lacks = (part.lack(call[0], part.fire(call, neuron), steps)[0] for part in parts)
        return sum(np.square(lack).sum() for lack in lacks)


def _by_channel(x):
    """Return the mean of `(batch, …, channels)` over all but these two axes."""
    axes = tuple(range(1, x.ndim - 1))
    return x.mean(axis=axes) if axes else x
