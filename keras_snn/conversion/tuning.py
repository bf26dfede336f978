"""Choosing options by what they do on calibration data: the converted network beside its source."""

import itertools

import keras
import numpy as np

from keras_snn.analysis.observers import Observer, observe
from keras_snn.graph import nodes as kinds
from keras_snn.simulation.internals import internals
from keras_snn.simulation.recording import open_data
from keras_snn.simulation.source import source_graph

__all__ = ["choose_readout_delay", "closest", "first_samples", "watch"]

# Samples that options are chosen on.
_SAMPLES = 256


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
    currents = _Currents(model)
    watch(model, data, currents, batch_size=batch_size, verbose=verbose)
    return int(np.argmin(currents.errors))


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
    """Adds up the errors of the average current into the read-outs, for every delay.

    Currents that are the same at every step show nothing of delays.

    Attributes:
        errors: Array over delays; each output counts relative to its size.
    """

    def __init__(self, model):
        self.graph, _ = source_graph(model)
        sources = {call["name"]: call["inputs"][0] for call in model.calls}
        currents = {str(i): sources[name] for i, name in enumerate(internals(model).output_calls)}
        is_constant = internals(model).network.is_constant
        self.currents = {i: name for i, name in currents.items() if not is_constant(name)}
        self.errors = np.zeros(max(model.timesteps // 2, 1))

    def of_source(self, values):
        return {i: values[self._current(self.graph.output_names[int(i)])] for i in self.currents}

    def _current(self, name):
        node = self.graph.nodes[name]
        return node.inputs[0] if isinstance(node, kinds.Activation) else name

    def of_steps(self, values):
        return {i: values[name] for i, name in self.currents.items()}

    def take(self, observation):
        for i, current in observation.steps.items():
            wanted = observation.source[i].astype("float64")
            # Sums of the last steps, the longest first.
            sums = np.cumsum(current[:, ::-1].astype("float64"), axis=1)[:, ::-1]
            timesteps = sums.shape[1]
            for delay in range(len(self.errors)):
                error = sums[:, delay] / (timesteps - delay) - wanted
                self.errors[delay] += observation.samples * np.mean(error**2) / max(np.mean(wanted**2), 1e-30)
