"""Several devices: all that the package must know about them, so that everything runs on them as on one.

Keras runs TensorFlow on them under a strategy of `tf.distribute`, which models belong to, and JAX
under a distribution of `keras.distribution`, which is set for all.
"""

import contextlib
import copy
import functools
import logging
import warnings

import keras
import numpy as np

from keras_snn._data import rows

__all__ = ["divisible", "is_alone", "mended", "predict_batch", "replicas"]


def predict_batch(model, x, *, sums=False):
    """Return what a model gives for one batch, as NumPy arrays `(batch, …)`.

    Every device gets an equal part of it; samples that are left over, all devices get.

    Args:
        model: A `keras.Model`.
        x: Nested arrays `(batch, …)`.
        sums: Whether the model gives one row for all samples of a device instead of one for each. Then
            there is a row for every part of the batch.
    """
    samples = len(keras.tree.flatten(x)[0])
    devices = replicas(model) if keras.backend.backend() == "tensorflow" else _devices()
    left_over = samples % devices
    shared = samples - left_over
    parts = []
    with _compiling():
        if devices == 1:
            return model.predict_on_batch(x)
        if shared:
            parts.append(model.predict(rows(x, 0, shared), batch_size=shared, verbose=0))
        if left_over:
            of_devices = model.predict_on_batch(rows(x, shared, samples))
            parts.append(rows(of_devices, 0, 1 if sums else left_over))
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def replicas(model):
    """Return how many parts TensorFlow makes of a batch of a model; some of them may have no samples."""
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def is_alone(model):
    """Return whether TensorFlow runs a model on one device, as Keras hands it the data."""
    return keras.backend.backend() == "tensorflow" and replicas(model) == 1


@contextlib.contextmanager
def _compiling():
    """In this context, TensorFlow may compile models without a warning that one function is compiled often.

    It takes all models for one function, whose code in Keras they share.
    """
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_no_false_alarm)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_false_alarm)


def _is_no_false_alarm(record):
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def divisible(samples, batch_size):
    """In this context, Keras runs batches of arrays on JAX even if its devices cannot share them equally.

    Keras 3.15 would fail and lose the weights of the model. Every device gets all batches then.

    Args:
        samples: Number of samples, or `None` if it is not known.
        batch_size: Samples per batch; `None` is 32, as in Keras.
    """
    distribution, devices = keras.distribution.distribution(), _devices()
    batch_size = batch_size or 32
    sizes = () if samples is None else (min(batch_size, samples), samples % batch_size)
    if not any(size % devices for size in sizes):
        yield
        return
    warnings.warn(
        f"Batches should be multiples of the {devices} devices of keras.distribution. Received: "
        f"samples={samples}, batch_size={batch_size}. Every device computes all of them.",
        stacklevel=4,
    )
    whole = copy.copy(distribution)
    whole.get_data_layout = lambda shape: keras.distribution.TensorLayout(
        [None] * len(shape), distribution.device_mesh
    )
    with whole.scope():
        yield


def _devices():
    """Return how many parts `keras.distribution` makes of a batch."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def mended(strategy):
    """Return a strategy of `tf.distribute`, with workarounds for a fault of Keras if it has several devices.

    Keras 3.15 fails to fit and to evaluate any model on several workers (keras-team/keras#20585 and
    tensorflow/tensorflow#72388), because
    it asks `reduce` for two things that TensorFlow refuses there: to reduce a batch of several arrays,
    whose shapes are all it wants to know, and to average metrics, which are scalars, along an axis.
    """
    if strategy.num_replicas_in_sync == 1:
        return strategy
    kind = _mended_class(type(strategy))
    view = kind.__new__(kind)
    vars(view).update(vars(strategy), original=strategy)
    return view


@functools.cache
def _mended_class(kind):
    """Return the class of the strategies of a class that `mended` returns."""

    class Mended(kind):
        def scope(self):
            # That of the original: strategies do not nest.
            return self.original.scope()

        def reduce(self, reduce_op, value, axis):
            strategy = self.original
            if keras.tree.is_nested(value):
                return keras.tree.map_structure(lambda x: strategy.experimental_local_results(x)[0], value)
            is_scalar = len(strategy.experimental_local_results(value)[0].shape) == 0
            return strategy.reduce(reduce_op, value, None if is_scalar else axis)

    return Mended
