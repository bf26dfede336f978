"""Counting right decisions, so that parts of the data add up."""

import numpy as np

from keras_snn._summary import Totals
from keras_snn.simulation.classes import EACH, LARGEST, deciding

__all__ = ["accuracy_of", "accuracy_over_time", "count_decisions", "count_equal", "way_of"]


def count_equal(found, right, way):
    """Return how many decisions of every sample are equal after every step, integers `(batch, timesteps)`.

    Args:
        found: Decisions, `(batch, timesteps)`, or `(batch, timesteps, values)` with `EACH`.
        right: What they should be, `(batch,)` or `(batch, values)`.
        way: `LARGEST` or `EACH`; with this one every value counts.
    """
    equal = found == right[:, None]
    return (equal.sum(axis=-1) if way == EACH else equal).astype("int64")


def count_decisions(model, totals, outputs, labels):
    """Count the right decisions of a batch, in every way in which its labels can be read.

    Args:
        model: A `SpikingModel`.
        totals: `Totals` to add to.
        outputs: Array `(batch, timesteps, …)`.
        labels: Labels of the batch, or `None`.

    Returns:
        `(rule, readings)`: the `Deciding` and what the labels may mean, as of `Deciding.readings`.

    Raises:
        ValueError: If they are labels of another output.
    """
    if labels is None or not isinstance(outputs, np.ndarray):
        return None, {}
    rule = deciding(model, labels)
    readings = {} if rule is None else rule.readings(labels, len(outputs))
    for way, right in readings.items():
        totals.add(f"right:{way}", count_equal(rule.decide(outputs, way), right, way).sum(axis=0))
        totals.add(f"decisions:{way}", right.size)
        totals.add(f"read:{way}", len(outputs))
    return rule, readings


def way_of(model, totals, samples):
    """Return the way in which the labels of all samples can be read, the preferred one, or `None`."""
    rule = deciding(model)
    for way in (EACH, LARGEST) if rule is None else rule.ways:
        if totals.sums.get(f"read:{way}") == samples:
            return way
    return None


def accuracy_of(model, totals, samples):
    """Return the share of right decisions after every step, or `None` without labels of classes.

    Args:
        model: A `SpikingModel`.
        totals: `Totals` of `count_decisions`.
        samples: Number of all samples.
    """
    way = way_of(model, totals, samples)
    return None if way is None else totals.sums[f"right:{way}"] / totals.sums[f"decisions:{way}"]


def accuracy_over_time(model, outputs, labels):
    """Return that of arrays: nested outputs of all samples, and labels of every batch or `None`."""
    if any(y is None for y in labels) or not isinstance(outputs, np.ndarray):
        return None
    totals = Totals()
    count_decisions(model, totals, outputs, np.concatenate(labels))
    return accuracy_of(model, totals, len(outputs))
