"""What the outputs of a model decide, and whether that is right."""

import dataclasses

import keras
import numpy as np

from keras_snn._arrays import is_numeric
from keras_snn.layers import Readout
from keras_snn.simulation.internals import internals

__all__ = [
    "EACH",
    "LARGEST",
    "Deciding",
    "among_largest",
    "check_labels",
    "class_numbers",
    "deciding",
    "labels_for",
]

# The largest of several values is the class; or each value is a yes or no of its own.
LARGEST, EACH = "largest", "each"
_ACCURACY = ("accuracy", "acc")
_BINARY_METRICS = (keras.metrics.BinaryAccuracy, keras.metrics.binary_accuracy)
_OTHER_METRICS = (
    keras.metrics.CategoricalAccuracy,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.SparseTopKCategoricalAccuracy,
    keras.metrics.categorical_accuracy,
    keras.metrics.sparse_categorical_accuracy,
    keras.metrics.top_k_categorical_accuracy,
    keras.metrics.sparse_top_k_categorical_accuracy,
)
_BINARY_LOSSES = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.binary_crossentropy,
    keras.losses.binary_focal_crossentropy,
)
_HINGES = (keras.losses.Hinge, keras.losses.SquaredHinge, keras.losses.hinge, keras.losses.squared_hinge)
_ZERO_ONE, _MINUS_PLUS = (0, 1), (-1, 1)


@dataclasses.dataclass(frozen=True)
class Deciding:
    """What a vector of outputs decides.

    Attributes:
        size: Number of values in it.
        ways: In which ways it may decide, `LARGEST` and `EACH`, the one to prefer first.
        threshold: With `EACH`, a value above it is a yes.
        is_sigmoid: Whether the values are sigmoids.
        is_tanh: Whether they are hyperbolic tangents.
        labels: With `EACH`, the pairs of labels that may stand for no and yes.
    """

    size: int
    ways: tuple[str, ...]
    threshold: float | None
    is_sigmoid: bool
    is_tanh: bool = False
    labels: tuple[tuple[int, int], ...] = (_ZERO_ONE,)

    def decide(self, outputs, way):
        """Return the decisions of outputs `(…, values)`: class numbers `(…,)`, or booleans `(…, values)`."""
        return outputs.argmax(axis=-1) if way == LARGEST else outputs > self.threshold

    def lead(self, outputs):
        """Return by how much logits are ahead of another decision, `(…,)`, for outputs `(…, values)`.

        In the preferred way: the largest ahead of the next, or the value nearest to its threshold.
        """
        if self.ways[0] == LARGEST:
            second, first = np.moveaxis(np.partition(outputs, -2, axis=-1)[..., -2:], -1, 0)
            return first - second
        values, threshold = outputs, self.threshold
        if self.is_sigmoid:
            values, threshold = _logit(outputs), _logit(np.asarray(threshold))
        elif self.is_tanh:
            # tanh(z) is a sigmoid of 2·z between −1 and 1.
            values, threshold = (_logit((np.asarray(x) + 1) / 2) for x in (outputs, threshold))
        return np.abs(values - threshold).min(axis=-1)

    def readings(self, labels, samples, argument="y"):
        """Return what labels may mean: a dict of right decisions, as of `decide`, by way.

        Args:
            labels: Array of class numbers, of one-hot, or of 0 and 1 (or −1 and 1) for each value.
            samples: Number of samples.
            argument: Name of the argument, for messages.

        Returns:
            The preferred way first; empty if the labels are other numbers of the shape of the outputs.

        Raises:
            ValueError: If the labels are no numbers, or those of other samples or of another output.
        """
        labels = check_labels(labels, argument)
        if self.size > 1 and labels.shape != (samples, self.size):
            return {LARGEST: class_numbers(labels, samples, self.size, argument)}
        if labels.size != samples * self.size:
            raise ValueError(
                f"`{argument}` must hold 0 or 1 for every sample, of shape ({samples},). Received: shape "
                f"{labels.shape}. Leave it out if the model does not classify."
            )
        labels = labels.reshape(samples, self.size)
        if not any(np.isin(labels, pair).all() for pair in self.labels):
            self._check_soft(labels, argument)
            return {}
        found = {EACH: labels == 1}
        if (found[EACH].sum(axis=-1) == 1).all():
            found[LARGEST] = labels.argmax(axis=-1)
        return {way: found[way] for way in self.ways if way in found}

    def _check_soft(self, labels, argument):
        """Raise a `ValueError` for the class numbers of a sigmoid that has no such class."""
        if self.size == 1 and self.is_sigmoid and (labels == np.round(labels)).all():
            wrong = labels[(labels != 0) & (labels != 1)][0]
            raise ValueError(
                f"`{argument}` must hold 0 or 1, the classes of one sigmoid output. Received: "
                f"{float(wrong):g}. Count classes from 0."
            )


def deciding(model, y=None):
    """Return the `Deciding` of a `SpikingModel`, or `None` if it does not classify.

    One output that is a vector of several values decides by the largest. It decides value by value, by a
    threshold, if the model is compiled with binary accuracy, or with a binary cross entropy or hinge and
    none of the metrics by the largest. One value decides so also if it is a sigmoid, compiled with
    `"accuracy"`, or a hyperbolic tangent whose labels `y` are −1 and 1. The threshold is that of the compiled
    metric, as Keras takes it; else 0.5 of a sigmoid, 0 of a logit, a hinge or a tangent.
    """
    output = internals(model).network.outputs
    shape = internals(model).network.stateful[output].value_shape if isinstance(output, str) else ()
    if len(shape) != 1:
        return None
    layer, size = internals(model).network.stateful[output], shape[0]
    functions = (keras.activations.sigmoid, keras.activations.hard_sigmoid)
    function = layer.activation if isinstance(layer, Readout) else None
    metrics = _flat(internals(model).metrics, keras.metrics.get)
    losses = _flat(internals(model).losses, keras.losses.get)
    hinges = any(_is_one_of(loss, _HINGES) for loss in losses)
    is_tanh = function is keras.activations.tanh
    binary = [_option(metric, "threshold", 0.5) for metric in metrics if _is_one_of(metric, _BINARY_METRICS)]
    general = any(metric in _ACCURACY for metric in metrics if isinstance(metric, str))
    if general and size == 1:
        # That of Keras takes no labels of −1.
        binary.append(0.0 if hinges or is_tanh else 0.5)
    logits = [_option(loss, "from_logits", False) for loss in losses if _is_one_of(loss, _BINARY_LOSSES)]
    by_largest = general or any(_is_one_of(metric, _OTHER_METRICS) for metric in metrics)
    threshold = None
    if binary:
        threshold = binary[0]
    elif hinges or (is_tanh and size == 1 and y is not None and np.isin(y, _MINUS_PLUS).all()):
        threshold = 0.0
    elif function in functions or logits:
        threshold = 0.0 if any(logits) and function not in functions else 0.5
    ways = (LARGEST,) if size > 1 else ()
    if threshold is not None:
        prefers_each = binary or ((logits or hinges) and not by_largest)
        ways = (EACH, *ways) if prefers_each else (*ways, EACH)
    is_sigmoid = function is keras.activations.sigmoid
    labels = (
        (_MINUS_PLUS, _ZERO_ONE) if hinges else (_MINUS_PLUS,) if is_tanh and not binary else (_ZERO_ONE,)
    )
    return Deciding(size, ways, threshold, is_sigmoid, is_tanh, labels) if ways else None


def labels_for(model, y, argument="y"):
    """Return the right decisions of arrays, as of `Deciding.readings`; empty if these are no classes.

    Raises:
        ValueError: As `Deciding.readings`.
    """
    y = np.asarray(y)
    rule = deciding(model, y)
    return {} if rule is None else rule.readings(y, len(y) if y.ndim else 1, argument)


def class_numbers(labels, samples, size, argument="y"):
    """Return the class of every sample, integers `(samples,)`.

    Args:
        labels: Array of class numbers, or of one-hot.
        samples: Number of samples.
        size: Number of classes.
        argument: Name of the argument, for messages.

    Raises:
        ValueError: If the labels are none of these.
    """
    labels = check_labels(labels, argument)
    one_hot = labels.shape == (samples, size) and np.isin(labels, (0, 1)).all()
    if one_hot and (labels.sum(axis=-1) == 1).all():
        return labels.argmax(axis=-1)
    if labels.size != samples:
        raise ValueError(
            f"`{argument}` must hold class numbers of shape ({samples},) or one-hot of shape "
            f"({samples}, {size}). Received: shape {labels.shape}. Leave it out if the model "
            "does not classify."
        )
    wrong = labels[(labels != np.round(labels)) | (labels < 0) | (labels >= size)]
    if wrong.size:
        raise ValueError(
            f"`{argument}` must hold class numbers from 0 to {size - 1}, one for each output of the "
            f"model. Received: {float(wrong[0]):g}. Count classes from 0."
        )
    return labels.reshape(-1).astype("int64")


def among_largest(outputs, classes, k):
    """Return whether the class of each sample is among the `k` largest outputs; ties count, as in Keras.

    Args:
        outputs: Array `(samples, …, classes)`.
        classes: Class numbers, `(samples,)`.
        k: Number of outputs.
    """
    places = np.reshape(classes, (-1, *[1] * (outputs.ndim - 1)))
    return (outputs > np.take_along_axis(outputs, places, axis=-1)).sum(axis=-1) < k


def check_labels(y, argument="y"):
    """Return labels as an array of numbers.

    Raises:
        ValueError: If they are no numbers, with one for every sample.
    """
    y = np.asarray(y)
    if not is_numeric(y.dtype) or y.ndim == 0:
        raise ValueError(
            f"`{argument}` must hold numbers, for every sample. Received: dtype {y.dtype}, shape {y.shape}. "
            "Give class numbers or one-hot labels, or leave it out."
        )
    return y.astype("int64") if y.dtype == bool else y


def _flat(given, get):
    """Return the losses or metrics in what `compile` was given, as objects or functions, but for accuracy."""
    leaves = [leaf for leaf in keras.tree.flatten(given) if leaf is not None]
    return [get(leaf) if isinstance(leaf, str) and leaf not in _ACCURACY else leaf for leaf in leaves]


def _is_one_of(found, known):
    return found in known if not isinstance(found, (keras.Metric, keras.Loss)) else type(found) in known


def _option(found, name, default):
    """Return an option of a metric or loss, which functions have none of."""
    return found.get_config().get(name, default) if hasattr(found, "get_config") else default


def _logit(probability):
    """Return the logit of probabilities; those of 0 and 1 have the largest that can be represented."""
    least = np.finfo("float32").tiny
    probability = probability.astype("float64")
    return np.log(np.maximum(probability, least)) - np.log(np.maximum(1 - probability, least))
