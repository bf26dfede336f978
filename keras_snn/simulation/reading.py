"""How a `SpikingModel` reads the data of a run: one run at a time, arrays or batches."""

import contextlib
import math

import keras
import numpy as np

from keras_snn._arrays import as_arrays, as_labels, check_numeric, comes_in_batches, is_array
from keras_snn._data import KINDS, finite
from keras_snn._devices import divisible
from keras_snn._validation import check_integer
from keras_snn.simulation.compiled_functions import forget_compiled, set_watch
from keras_snn.simulation.engine import choose_engine
from keras_snn.simulation.internals import internals, plan_for

__all__ = ["as_batch", "as_targets", "as_tensors", "checked_batch_size", "fitting", "running"]

_NO_DATA = "`x` must be {}. Received: {} {}. Stack the samples with numpy.stack."


@contextlib.contextmanager
def running(model, x, batch_size, steps, *, check_finite):
    """In this context, which one thread enters at a time, run on what it gives: `(x, steps)`.

    Args:
        model: A `SpikingModel`.
        x: Data, as of `keras.Model.predict`.
        batch_size: Samples per batch; `None` if the data or Keras decides.
        steps: Number of batches, or `None` for all.
        check_finite: Whether to raise a `ValueError` for what is NaN or infinite.
    """
    x, inner = as_arrays(x), internals(model)
    with inner.lock, _reading(model, x) as are_arrays:
        # Before Keras compiles for it: TensorFlow forgets the rank of inputs of two ranks. What comes in
        # batches is checked batch by batch.
        x = inner.inputs.shaped(x, model.passes) if are_arrays else x
        as_given = contextlib.nullcontext((x, steps))
        read = finite(x, inner.inputs.structure, "x", steps) if check_finite else as_given
        with read as (x, steps):
            samples = _samples(x)
            choose_engine(model)
            _expect(model, samples, batch_size)
            with divisible(samples, batch_size):
                yield x, steps


@contextlib.contextmanager
def fitting(model, x, batch_size, validation_split, validation_data):
    """In this context, which one thread enters at a time, `fit` a model, of which Keras checks the shapes."""
    with _reading(model, x):
        if isinstance(validation_data, (tuple, list)) and validation_data:
            _are_arrays(validation_data[0])
            as_targets(*validation_data[1:3])
        samples = _samples(x)
        if samples is not None:
            samples = math.floor(samples * (1 - validation_split))
        with divisible(samples, batch_size):
            yield


@contextlib.contextmanager
def _reading(model, x):
    """In this context, which one thread enters at a time, run on `x`: gives whether that is arrays.

    Whether the model is watched is as before when it ends.

    Raises:
        ValueError: If `x` is no data.
    """
    are_arrays, inner = _are_arrays(x), internals(model)
    with inner.lock:
        watched = inner.watched
        inner.runs += 1
        try:
            yield are_arrays
        finally:
            inner.runs -= 1
            set_watch(model, watched)


def _expect(model, samples, batch_size):
    """Prepare for batches of so many samples in all; `None` if that is not known."""
    inner = internals(model)
    expected = None if samples is None else min(batch_size or 32, samples)
    if plan_for(model, expected) != plan_for(model, inner.expected_batch):
        # Not that of fit, which may be in the middle of an epoch's validation.
        forget_compiled(model, training=False)
    inner.expected_batch = expected


def as_tensors(x):
    """Return what a model is called on as arrays and tensors, which may be symbolic.

    Raises:
        ValueError: If it is neither, or no numbers.
    """
    x = as_arrays(x)
    for value in keras.tree.flatten(x):
        if not (is_array(value) or isinstance(value, keras.KerasTensor)):
            raise ValueError(_NO_DATA.format("a tensor or array", type(value).__name__, str(value)[:60]))
        check_numeric(value, "x")
    return x


def as_batch(model, x):
    """Return one batch of arrays in the shape that the network of a model wants.

    Raises:
        ValueError: If it is none.
    """
    if internals(model).inputs.takes_as_is(x):
        return x
    x = as_arrays(x)
    if not _are_arrays(x):
        raise ValueError(_NO_DATA.format("the arrays of one batch", type(x).__name__, str(x)[:60]))
    return internals(model).inputs.shaped(x, model.passes)


def as_targets(y=None, sample_weight=None):
    """Return labels and their weights as arrays, whatever holds them.

    Raises:
        ValueError: If they are no numbers, or no arrays.
    """
    y, sample_weight = as_labels(y), as_arrays(sample_weight)
    for argument, values in (("y", y), ("sample_weight", sample_weight)):
        for array in keras.tree.flatten(values):
            check_numeric(array, argument)
            if isinstance(array, np.ndarray) and array.ndim == 0:
                raise ValueError(
                    f"`{argument}` must hold a value for every sample. Received: {array}, a single number. "
                    "Give an array."
                )
    return y, sample_weight


def checked_batch_size(value):
    """Return a batch size, or `None`, if it is valid."""
    return None if value is None else check_integer("batch_size", value, minimum=1)


def _samples(x):
    """Return the number of samples in arrays; `None` of data that comes in batches."""
    arrays = keras.tree.flatten(x)
    return arrays[0].shape[0] if arrays and getattr(arrays[0], "shape", None) else None


def _are_arrays(x):
    """Return whether data is arrays, and not what comes in batches.

    Raises:
        ValueError: If it is neither, or arrays of no numbers, or of no samples.
    """
    arrays = keras.tree.flatten(x)
    if not arrays or not all(is_array(array) and array.shape != () for array in arrays):
        if comes_in_batches(x):
            return False
        raise ValueError(_NO_DATA.format(KINDS, type(x).__name__, str(x)[:60]))
    for array in arrays:
        check_numeric(array, "x")
    if _samples(x) == 0:
        raise ValueError("`x` must hold at least one sample. Received: no samples. Give one or more.")
    return True
