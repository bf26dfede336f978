"""How much a spiking network loses against its source network, and how sure that is."""

import dataclasses

import keras
import numpy as np

from keras_snn.simulation.classes import EACH, LARGEST, deciding, labels_for

__all__ = ["CONFIDENCE", "Judge", "Loss", "loss_of_decisions"]

# That what is chosen of several networks keeps its upper limit. One whose limit is too low by chance is
# chosen more often: so each limit has a confidence of 97.5 %. That has this quantile of the normal
# distribution, and what happens so many times on the average is not seen at all in as many of the cases.
CONFIDENCE = 0.95
_QUANTILE, _UNSEEN = 1.96, 3.7
# With the errors of how many samples the outputs of each one are tried.
_SHIFTS = 64


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is lost, in percent.

    Attributes:
        mean: Points of accuracy, or of agreement, or the relative error.
        upper: What it does not exceed with a confidence of 97.5 %, or 95 % where it is the least of several.
    """

    mean: float
    upper: float


class Judge:
    """Compares outputs of spiking networks with those of their source network, on samples of their own.

    If the model classifies and there are labels, a loss is of accuracy; if there are none, of agreement with
    the source network: either in points. Else it is the RMS error of the outputs relative to their
    deviation from their mean, in percent; of several outputs the largest.

    Whether one sample changes its class is nearly chance, so that many samples would be needed to see small
    losses. So the errors of the outputs of one sample are added to those of others too: the loss is the mean
    over these pairs, and its variance that over samples and over errors. A source network that makes hardly
    a mistake shows hardly a sample near a boundary between classes: the limit is raised by the factor
    (m + 3.7)/(m + 1) for m mistakes, since so many are possible with 97.5 % confidence where none was seen.

    Args:
        model: The source network.
        x: Samples, nested as the model takes them.
        y: Their labels, or `None`.
        batch_size: Samples that run together.
    """

    def __init__(self, model, x, y, batch_size):
        self.x, self.y, self.batch_size = x, y, batch_size
        self.outputs = self._predict(model)

    def _predict(self, model):
        outputs = model.predict(self.x, batch_size=self.batch_size, verbose=0)
        return [np.asarray(y, "float64") for y in keras.tree.flatten(outputs)]

    def measures(self, snn):
        """Return what is lost, as text: of which measure a loss is."""
        if deciding(snn) is None:
            return "relative error, %"
        return "accuracy, points" if self._labels(snn) else "agreement, points"

    def _labels(self, snn):
        return labels_for(snn, self.y) if self.y is not None and deciding(snn) is not None else {}

    def loss_of(self, snn):
        """Return the `Loss` of a spiking network."""
        outputs, rule = self._predict(snn), deciding(snn)
        if rule is None:
            pairs = zip(self.outputs, outputs, strict=True)
            return max((_relative_error(*pair) for pair in pairs), key=lambda loss: loss.upper)
        logits, others = (_logits(values[0], rule) for values in (self.outputs, outputs))
        for way, right in self._labels(snn).items():
            return loss_of_decisions(logits, others - logits, _threshold(rule), way, right)
        return loss_of_decisions(logits, others - logits, _threshold(rule), rule.ways[0], None)


def _logits(outputs, rule):
    """Return outputs in units in which errors of different samples are alike: logarithms of probabilities."""
    least = np.finfo("float32").tiny
    if rule.is_sigmoid:
        return np.log(np.maximum(outputs, least)) - np.log(np.maximum(1 - outputs, least))
    are_probabilities = (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3)
    return np.log(np.maximum(outputs, least)) if are_probabilities else outputs


def _threshold(rule):
    if rule.threshold is None or not rule.is_sigmoid:
        return rule.threshold
    return np.log(rule.threshold) - np.log1p(-rule.threshold)


def loss_of_decisions(logits, errors, threshold, way, right):
    """Return the `Loss` of logits with errors.

    Args:
        logits: Array `(samples, values)`.
        errors: Array of that shape, to be added.
        threshold: With `EACH`, a value above it is a yes.
        way: `LARGEST` or `EACH`.
        right: The right decisions, or `None`: those of the logits without errors.
    """

    def decide(values):
        return values.argmax(axis=-1) if way == LARGEST else values > threshold

    def share_right(decisions):
        equal = decisions == (decide(logits) if right is None else right)
        return equal.mean(axis=-1) if way == EACH else equal.astype("float64")

    samples = len(logits)
    shifts = range(min(_SHIFTS, samples))
    before = share_right(decide(logits))
    of_samples, of_errors = np.zeros(samples), np.zeros(samples)
    for shift in shifts:
        lost = before - share_right(decide(logits + np.roll(errors, -shift, axis=0)))
        of_samples += lost / len(shifts)
        of_errors += np.roll(lost, shift) / len(shifts)
    variance = (of_samples.var() + of_errors.var()) / samples
    mean = 100 * of_samples.mean()
    upper = mean + 100 * _QUANTILE * np.sqrt(variance)
    if right is not None and upper > 0:
        # Samples near a boundary are as rare as mistakes, and how rare they are is as uncertain.
        mistakes = samples - before.sum()
        upper *= (mistakes + _UNSEEN) / (mistakes + 1)
    # Of as many pairs as were tried, so many could change where none does.
    upper = max(upper, 100 * _UNSEEN / (samples * len(shifts)))
    return Loss(float(mean), float(upper))


def _relative_error(outputs, others):
    """Return the relative RMS error of outputs `(samples, …)`, as a `Loss`."""
    axes = tuple(range(1, outputs.ndim))
    power = np.square(outputs - outputs.mean(axis=0)).sum(axis=axes).mean()
    squares = np.square(others - outputs).sum(axis=axes) / (power or 1.0)
    upper = squares.mean() + _QUANTILE * squares.std() / np.sqrt(len(squares))
    return Loss(float(100 * np.sqrt(squares.mean())), float(100 * np.sqrt(upper)))
