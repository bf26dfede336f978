"""Choosing options by what they do on calibration data: the converted network beside its source."""

import itertools
import math

import keras
import numpy as np

from keras_snn.analysis.observers import Observer, Reduction, observe
from keras_snn.graph import nodes as kinds
from keras_snn.simulation.internals import internals, output_shapes
from keras_snn.simulation.recording import open_data
from keras_snn.simulation.source import program_of, source_graph

__all__ = [
    "choose_readout_delay",
    "choose_readout_weighting",
    "closest",
    "first_samples",
    "some_samples",
    "spread",
    "watch",
]

# Samples that options are chosen on.
_SAMPLES = 256
# Of large networks fewer: bytes that their values may take, and at least so many samples.
_BYTES, _FEWEST = 2**30, 16
# Bytes of the currents of a batch at every step, of which several copies are made.
_BYTES_OF_BATCH = 2**27


def closest(candidates, data, *, batch_size, verbose):
    """Return the spiking model whose read-outs are closest to its source network's on data.

    The first wins a tie.

    Args:
        candidates: Iterable of `SpikingModel`s of one network.
        data: Calibration data, of which the first some hundred samples are used.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.
    """
    best, least = None, np.inf
    for model in candidates:
        distance = _Distance(model)
        watch(model, data, distance, batch_size=batch_size, verbose=verbose)
        if best is None or distance.total < least:
            best, least = model, distance.total
    return best


def choose_readout_delay(model, data, *, batch_size, verbose):
    """Return how many first steps the read-outs leave out, to come closest to the source network on data.

    At most half of the time steps are left out. Arguments as of `closest`.
    """
    steps = np.arange(1, model.timesteps + 1)
    currents = _Currents(model, [steps > delay for delay in range(max(model.timesteps // 2, 1))])
    watch(model, data, currents, batch_size=batch_size, verbose=verbose)
    return int(np.argmin(currents.errors))


def choose_readout_weighting(model, data, *, corrects, batch_size, verbose):
    """Return how the read-outs of a model weigh the steps after their delay, to come closest on data.

    Corrections of neurons make up for what all steps lack together. Of that late steps have too much, so that
    `"linear"` goes with what its averages lack themselves.

    Args:
        model: A `SpikingModel`.
        data: Calibration data, of which `some_samples` are used.
        corrects: Whether the read-outs may add what averages lack.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.

    Returns:
        `(weighting, shifts)`: `"uniform"` if that is no worse than `"linear"`; and what read-outs should add,
        tuples of one number for each channel by place among the outputs.
    """
    nodes = program_of(model).graph.nodes.values()
    delay = max(node.delay for node in nodes if isinstance(node, kinds.Readout))
    counted = np.maximum(np.arange(1, model.timesteps + 1) - delay, 0)
    currents = _Currents(model, [counted > 0, counted])
    of_one = 4 * model.timesteps * sum(map(math.prod, output_shapes(model).values()))
    x = some_samples(model, data, batch_size)
    batch_size = max(1, min(batch_size, _BYTES_OF_BATCH // of_one))
    watch(model, x, currents, batch_size=batch_size, verbose=verbose)
    uniform, linear = currents.errors
    linear = currents.error_without_lack(1) if corrects else linear
    if uniform <= linear:
        return "uniform", {}
    return "linear", currents.lacks(1) if corrects else {}


def watch(model, data, observer, *, batch_size, verbose):
    """Let an `Observer`, which has the `graph` of the source network, look at some hundred samples.

    Other arguments as of `closest`.
    """
    x = first_samples(model, data, batch_size)
    options = {"timesteps": None, "batch_size": batch_size, "verbose": verbose, "averages": True}
    observe(model, x, None, [observer], graph=observer.graph, **options)


def first_samples(model, data, batch_size):
    """Return arrays of the first some hundred samples, nested as the model takes them."""
    _, batches = open_data(model, data, None, timesteps=None, batch_size=batch_size, averages=True)
    taken = itertools.islice(batches, max(1, _SAMPLES // batch_size))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *(x for x, _ in taken))


def some_samples(model, data, batch_size):
    """Return arrays of some samples from all over the data, nested as the model takes them."""
    _, batches = open_data(model, data, None, timesteps=None, batch_size=batch_size, averages=True)
    sizes = [math.prod(layer.value_shape) for layer in internals(model).network.stateful.values()]
    # Spikes of two layers at every step, and activations of all.
    of_one = 4 * (2 * model.timesteps * max(sizes) + sum(sizes))
    number = min(_SAMPLES, max(_FEWEST, _BYTES // of_one))
    return spread(batches, number)


def spread(batches, number):
    """Return arrays of some samples from all over `Batches`, nested as the inputs."""
    stride = 1 if batches.samples is None else max(1, batches.samples // number)
    parts, place = [], 0
    for x, _ in batches:
        parts.append(keras.tree.map_structure(lambda a, first=-place % stride: a[first::stride], x))
        place += len(keras.tree.flatten(x)[0])
        if place >= number * stride:
            break
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays)[:number], *parts)


class _Distance(Observer):
    """Adds up the squares of the differences of the read-outs, each relative to the size of its output."""

    def __init__(self, model):
        self.graph, _ = source_graph(model)
        self.total = 0.0

    def of_source(self, values):
        return {str(i): values[name] for i, name in enumerate(self.graph.output_names)}

    def take(self, observation):
        for i, of_snn in enumerate(keras.tree.flatten(observation.outputs)):
            wanted = observation.source[str(i)].astype("float64")
            error = np.mean((of_snn[:, -1] - wanted) ** 2) / max(np.mean(wanted**2), 1e-30)
            self.total += observation.samples * error


class _Currents(Observer):
    """Adds up what averages of the current into the read-outs lack.

    Currents that are the same at every step show nothing of how they are averaged.

    Args:
        model: A `SpikingModel`.
        weights: Arrays of how much each time step counts, one for every average.
    """

    def __init__(self, model, weights):
        self.weights = [np.asarray(w, "float64") / np.sum(w) for w in weights]
        self.graph, _ = source_graph(model)
        sources = {call["name"]: call["inputs"][0] for call in model.calls}
        currents = {str(i): sources[name] for i, name in enumerate(internals(model).output_calls)}
        is_constant = internals(model).network.is_constant
        self.currents = {i: name for i, name in currents.items() if not is_constant(name)}
        self.samples = 0
        # By output: the sum of the mean squares of what is wanted; and, for each average, that of what it
        # lacks, and the sum of what each channel lacks.
        self.sizes = dict.fromkeys(self.currents, 1e-30)
        self.squares = {i: np.zeros(len(weights)) for i in self.currents}
        self.sums = {i: [0.0] * len(weights) for i in self.currents}

    def of_source(self, values):
        return {i: values[self._current(self.graph.output_names[int(i)])] for i in self.currents}

    def _current(self, name):
        node = self.graph.nodes[name]
        return node.inputs[0] if isinstance(node, kinds.Activation) else name

    @property
    def of_steps(self):
        return {i: Reduction(name) for i, name in self.currents.items()}

    def take(self, observation):
        samples = observation.samples
        self.samples += samples
        for i, current in observation.steps.items():
            wanted = observation.source[i].astype("float64")
            self.sizes[i] += samples * np.mean(wanted**2)
            for place, weights in enumerate(self.weights):
                lack = wanted - np.tensordot(current, weights, (1, 0))
                self.squares[i][place] += samples * np.mean(lack**2)
                self.sums[i][place] += samples * lack.mean(axis=tuple(range(lack.ndim - 1)))

    @property
    def errors(self):
        """Array of one number for every average; each output counts relative to its size."""
        return sum((self.squares[i] / size for i, size in self.sizes.items()), np.zeros(len(self.weights)))

    def error_without_lack(self, place):
        """Return the error of an average to which what its channels lack on the average is added."""
        explained = {i: self.samples * np.mean((self.sums[i][place] / self.samples) ** 2) for i in self.sizes}
        return self.errors[place] - sum(explained[i] / size for i, size in self.sizes.items())

    def lacks(self, place):
        """Return what the channels of an average lack: tuples by place among the outputs."""
        return {int(i): tuple((of_all[place] / self.samples).tolist()) for i, of_all in self.sums.items()}
