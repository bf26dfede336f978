"""What a report looks at while a model runs: decisions, and spikes of some neurons."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_snn.analysis.causes import Agreement
from keras_snn.analysis.observers import Observer, Reduction
from keras_snn.simulation.classes import EACH, LARGEST, among_largest, deciding
from keras_snn.simulation.decisions import count_equal, way_of

__all__ = ["Classes", "Outputs", "Spikes"]

# Neurons of each layer whose spikes are drawn, and whose first spikes are timed.
_NEURONS, _TIMED = 40, 2000
_CLASSES = 200
# Where there are more classes than this many times 2, it counts too whether the label is among the largest.
_TOP = 5


class Classes(Observer):
    """Counts the right decisions after every step, and of the source network; in each way to decide."""

    def __init__(self, model, graph):
        super().__init__()
        self.model, self.rule, self.output = model, deciding(model), graph.outputs
        # Of more classes nobody could look at it.
        self.classes = 0 if self.rule is None or self.rule.size > _CLASSES else max(self.rule.size, 2)

    def of_source(self, values):
        return {} if self.rule is None else values[self.output]

    def take(self, observation):
        if self.rule is None:
            return
        readings, add = {}, self.totals.add
        if observation.targets is not None:
            readings = self.rule.readings(np.asarray(observation.targets), observation.samples)
        for way in self.rule.ways:
            ours = self.rule.decide(observation.outputs, way)
            theirs = self.rule.decide(observation.source, way)
            add(f"same:{way}", count_equal(ours, theirs, way).sum(axis=0))
            if way in readings:
                right = readings[way]
                add(f"read:{way}", len(right))
                add(f"right:{way}", count_equal(ours, right, way).sum(axis=0))
                add(f"ann:{way}", count_equal(theirs[:, None], right, way).sum())
                add(f"confusion:{way}", self._confusion(ours[:, -1], right))
                if way == LARGEST and self.rule.size > 2 * _TOP:
                    add("top:ours", among_largest(observation.outputs[:, -1], right, _TOP).sum())
                    add("top:ann", among_largest(observation.source, right, _TOP).sum())

    def _confusion(self, ours, right):
        """Return how many samples of each class got which, `(classes, classes)`; a yes or no has two.

        Where a sample has several labels it is that of each of them, `(labels, 2, 2)`.
        """
        labels = ours.shape[-1] if ours.ndim > 1 else 1
        size = 2 if ours.ndim > 1 else self.classes
        found = np.zeros((labels, size, size), "int64")
        if self.classes:
            pairs = right.reshape(-1, labels).astype(int), ours.reshape(-1, labels).astype(int)
            np.add.at(found, (np.arange(labels), *pairs), 1)
        return found if labels > 1 else found[0]

    def result(self, totals, samples):
        """Return the `Agreement` of `Totals`, or `None` if the model does not classify."""
        if self.rule is None:
            return None
        labelled = way_of(self.model, totals, samples)
        way = labelled or self.rule.ways[0]
        labels = self.rule.size if way == EACH else 1
        shares = {"agreement_over_time": totals.sums[f"same:{way}"] / (samples * labels)}
        if labelled:
            shares["accuracy_over_time"] = totals.sums[f"right:{way}"] / (samples * labels)
            shares["ann_accuracy"] = float(totals.sums[f"ann:{way}"] / (samples * labels))
            confusion = totals.sums[f"confusion:{way}"]
            if confusion.any():
                shares["confusion"] = confusion
            if way == LARGEST and "top:ours" in totals.sums:
                shares["top_5_accuracy"] = float(totals.sums["top:ours"] / samples)
                shares["ann_top_5_accuracy"] = float(totals.sums["top:ann"] / samples)
        return Agreement(**shares, labels=labels)


class Outputs(Observer):
    """Adds up how far outputs are from those of the source network, after every step.

    Args:
        graph: `Graph` of the source network.
    """

    def __init__(self, graph):
        super().__init__()
        self.names = graph.output_names

    def of_source(self, values):
        return {str(i): values[name] for i, name in enumerate(self.names)}

    def take(self, observation):
        for i, ours in enumerate(keras.tree.flatten(observation.outputs)):
            wanted = observation.source[str(i)].astype("float64")
            difference = (ours - wanted[:, None]) ** 2
            self.totals.add("squares", difference.reshape(*ours.shape[:2], -1).sum(axis=(0, 2)))
            self.totals.add("power", np.sum(wanted**2))

    @staticmethod
    def result(totals):
        """Return the root mean square of the differences, relative to that of the outputs, `(timesteps,)`."""
        power = totals.sums["power"]
        return np.sqrt(totals.sums["squares"] / power) if power else None


class Spikes(Observer):
    """Keeps spikes of some neurons of each layer, for the first sample.

    Args:
        neurons: Neurons by name of the layer.
    """

    def __init__(self, neurons):
        super().__init__()
        self.neurons = neurons

    @property
    def of_steps(self):
        numbers = {"drawn": _NEURONS, "timed": _TIMED}
        return {
            key: {name: _OfFirstSample(name, number) for name in self.neurons}
            for key, number in numbers.items()
        }

    def take(self, observation):
        for key, of_layers in observation.steps.items():
            for name, values in of_layers.items():
                if self.totals.missing(f"{key} {name}", 1):
                    trains = _trains(self.neurons[name], values[0])
                    self.totals.keep(f"{key} {name}", observation.rows[:1], trains[None], 1)

    def result(self, totals):
        """Return spikes and times of first spikes, by name of the layer.

        Returns:
            Arrays `(timesteps, neurons)`, of time codes `(window, neurons)`; and of more of the neurons steps
            from 1, 0 if there is no spike, `(neurons,)`.
        """
        kept = {key: values[0] for key, (_, values) in totals.first.items()}
        return (
            {name: kept[f"drawn {name}"] for name in self.neurons},
            {name: _first_step(kept[f"timed {name}"]) for name in self.neurons},
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _OfFirstSample(Reduction):
    """Takes some of the neurons, evenly spread, of one sample: what is kept must not grow with the batch.

    Attributes:
        number: How many at most.
    """

    number: int

    def of(self, values):
        size = int(np.prod(values.shape[2:]))
        places = np.unique(np.linspace(0, size - 1, min(size, self.number)).astype(int))
        flat = ops.reshape(values, (-1, values.shape[1], size))[:1]
        return ops.take(flat, ops.convert_to_tensor(places), axis=-1)


def _trains(neuron, values):
    """Return spikes `(steps, neurons)`; of a time code those that send the number of its window."""
    return np.asarray(neuron.code.trains(values[0]) if neuron.is_time_code else values, "float32")


def _first_step(trains):
    fires = trains != 0
    return np.where(fires.any(axis=0), fires.argmax(axis=0) + 1, 0)
