"""What a report looks at while a model runs: decisions, and spikes of some neurons."""

import keras
import numpy as np
from keras import ops

from keras_snn.analysis.causes import Agreement
from keras_snn.analysis.observers import Observer
from keras_snn.simulation.classes import EACH, deciding, share_of_equal

__all__ = ["Classes", "Outputs", "Spikes"]

# Neurons of each layer whose spikes are drawn, and whose first spikes are timed.
_NEURONS, _TIMED = 40, 2000
_CLASSES = 200


class Classes(Observer):
    """Counts, after every step, the right decisions, and those of the source network; in each way to decide.

    Attributes:
        ways: Those in which all labels so far can be read.
        confusion: How often samples of each class are put into each, `(classes, classes)`.
    """

    def __init__(self, model, graph):
        self.rule, self.output = deciding(model), graph.outputs
        self.ways = () if self.rule is None else self.rule.ways
        self.same, self.right = dict.fromkeys(self.ways, 0), dict.fromkeys(self.ways, 0)
        self.ann_right, self.labelled = dict.fromkeys(self.ways, 0), True
        # Of more classes nobody could look at it.
        size = 0 if self.rule is None or self.rule.size > _CLASSES else max(self.rule.size, 2)
        self.confusion = np.zeros((size, size), "int64")

    def of_source(self, values):
        return {} if self.rule is None else values[self.output]

    def take(self, observation):
        if self.rule is None:
            return
        readings = {}
        if observation.targets is not None and self.labelled:
            readings = self.rule.readings(np.asarray(observation.targets), observation.samples)
        self.labelled = bool(readings)
        self.ways = tuple(way for way in self.ways if way in readings) or self.ways
        for way in self.same:
            ours, theirs = (
                self.rule.decide(observation.outputs, way),
                self.rule.decide(observation.source, way),
            )
            self.same[way] = self.same[way] + share_of_equal(ours, theirs, way).sum(axis=0)
            if way in readings:
                right = readings[way]
                self.right[way] = self.right[way] + share_of_equal(ours, right, way).sum(axis=0)
                self.ann_right[way] += share_of_equal(theirs[:, None], right, way).sum()
        for right in [*readings.values()][:1]:
            self._count(ours=self.rule.decide(observation.outputs[:, -1], self.ways[0]), right=right)

    def _count(self, ours, right):
        """Count decisions by class, where a sample has one: a single yes or no is one of two."""
        if self.confusion.size and (ours.ndim == 1 or ours.shape[-1] == 1):
            np.add.at(self.confusion, (right.reshape(-1).astype(int), ours.reshape(-1).astype(int)), 1)

    def result(self, samples):
        """Return the `Agreement`, or `None` if the model does not classify."""
        if self.rule is None:
            return None
        way = self.ways[0]
        shares = {"agreement_over_time": self.same[way] / samples}
        if self.labelled:
            shares["accuracy_over_time"] = self.right[way] / samples
            shares["ann_accuracy"] = float(self.ann_right[way] / samples)
            if self.confusion.sum() == samples:
                shares["confusion"] = self.confusion
        return Agreement(**shares, labels=self.rule.size if way == EACH else 1)


class Outputs(Observer):
    """Adds up how far outputs are from those of the source network, after every step.

    Args:
        graph: `Graph` of the source network.
    """

    def __init__(self, graph):
        self.names = graph.output_names
        self.squares, self.power = 0.0, 0.0

    def of_source(self, values):
        return {str(i): values[name] for i, name in enumerate(self.names)}

    def take(self, observation):
        for i, ours in enumerate(keras.tree.flatten(observation.outputs)):
            wanted = observation.source[str(i)].astype("float64")
            difference = (ours - wanted[:, None]) ** 2
            self.squares = self.squares + difference.reshape(*ours.shape[:2], -1).sum(axis=(0, 2))
            self.power += np.sum(wanted**2)

    def result(self):
        """Return the root mean square of the differences, relative to that of the outputs, `(timesteps,)`."""
        return np.sqrt(self.squares / self.power) if self.power else None


class Spikes(Observer):
    """Keeps spikes of some neurons of each layer, for the first sample.

    Args:
        neurons: Neurons by name of the layer.

    Attributes:
        trains: Arrays `(timesteps, neurons)` by name of the layer; of time codes `(window, neurons)`.
        first: Steps of the first spikes of more of the neurons, from 1; 0 if there is none; `(neurons,)`.
    """

    def __init__(self, neurons):
        self.neurons, self.trains, self.first = neurons, {}, {}

    def of_steps(self, values):
        numbers = {"drawn": _NEURONS, "timed": _TIMED}
        return {
            key: {name: self._some(values[name], number) for name in self.neurons}
            for key, number in numbers.items()
        }

    @staticmethod
    def _some(spikes, number):
        size = int(np.prod(spikes.shape[2:]))
        places = np.unique(np.linspace(0, size - 1, min(size, number)).astype(int))
        # One sample only: what is kept must not grow with the batch.
        flat = ops.reshape(spikes, (-1, spikes.shape[1], size))[:1]
        return ops.take(flat, ops.convert_to_tensor(places), axis=-1)

    def take(self, observation):
        if self.trains:
            return
        for name, neuron in self.neurons.items():
            drawn, timed = (_trains(neuron, observation.steps[key][name][0]) for key in ("drawn", "timed"))
            self.trains[name] = drawn
            fires = timed != 0
            self.first[name] = np.where(fires.any(axis=0), fires.argmax(axis=0) + 1, 0)


def _trains(neuron, values):
    """Return spikes `(steps, neurons)`; of a time code those that send the number of its window."""
    return np.asarray(neuron.code.trains(values[0]) if neuron.is_time_code else values, "float32")
