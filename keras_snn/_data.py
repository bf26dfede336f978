"""Reading arrays, datasets and dictionaries of arrays alike, batch by batch."""

import contextlib
import functools
import itertools
import math
import operator

import keras
import numpy as np

from keras_snn._arrays import as_arrays, as_numpy, check_numeric, is_array

__all__ = [
    "KINDS",
    "Batches",
    "finite",
    "first_inputs",
    "fit_shape",
    "in_order",
    "rows",
    "untuned",
]

# What data may be, as messages describe it.
KINDS = "an array, a list or dict of arrays, a tf.data.Dataset or a keras.utils.PyDataset"


class Batches:
    """Batches `(x, y)` of what Keras users call data; y is `None` where there is none.

    Args:
        data: Array, list or dict of arrays (several inputs), `(x, y)` of these,
            `tf.data.Dataset` or `keras.utils.PyDataset` of `x` or `(x, y)`.
        structure: Nested input names, as the model takes its inputs.
        shapes: Dict of the shape without batch for each input name.
        batch_size: Samples per batch of arrays; datasets come in batches of their own.
        argument: Name of the argument, for messages.
        error: Class of the errors raised for bad data.

    Attributes:
        count: Number of batches, or `None` if it is not known beforehand.
        samples: Number of samples, or `None` if it is not known beforehand.
    """

    def __init__(self, data, structure, shapes, *, batch_size, argument, error=ValueError):
        self.structure, self.shapes = structure, shapes
        self.batch_size, self.argument, self.error = batch_size, argument, error
        self.samples = None
        if hasattr(data, "as_numpy_iterator"):
            self.count = _count(data)
            if int(data.cardinality()) == -1:
                raise self._bad("must end", "an infinite dataset", "Limit it with .take(n)")
            self.batches = data.as_numpy_iterator
        elif isinstance(data, keras.utils.PyDataset):
            self.count = _count(data)
            if self.count is None:
                raise self._bad("must end", "a PyDataset without a length", "Give it __len__")
            self.batches = lambda: (data[i] for i in range(self.count))
        else:
            self._open_arrays(data)

    def _open_arrays(self, data):
        parts = [as_arrays(part) for part in _x_and_y(data) if part is not None]
        if all(map(is_array, keras.tree.flatten(parts))):
            parts = [keras.tree.map_structure(as_numpy, part) for part in parts]
        arrays = keras.tree.flatten(parts)
        if not all(isinstance(a, np.ndarray) and a.dtype != object and a.ndim for a in arrays):
            raise self._bad(
                f"must be {KINDS}",
                f"{type(data).__name__} {str(data)[:60]}",
                "Stack the samples with numpy.stack",
            )
        if len({len(array) for array in arrays}) > 1:
            came = [
                f"{len(array)} in {name}"
                for name, part in zip("xy", parts, strict=False)
                for array in keras.tree.flatten(part)
            ]
            raise self._bad(
                "must hold as many samples in every array", ", ".join(came), "Give arrays of one length"
            )
        size = self.samples = len(arrays[0]) if arrays else 0
        self.count = math.ceil(size / self.batch_size)

        def batches():
            for start in range(0, size, self.batch_size):
                yield tuple(rows(part, start, start + self.batch_size) for part in parts)

        self.batches = batches

    def __iter__(self):
        """Yield checked batches.

        Raises:
            ValueError (or `error`): If there is none, or one has the wrong structure, shape or
                dtype, or holds NaN or infinity.
        """
        samples = 0
        for batch in self.batches():
            x, y = _x_and_y(batch)
            x = self._check(x)
            samples += len(keras.tree.flatten(x)[0])
            yield x, y
        if samples == 0:
            raise self._bad("must hold at least one sample", "no samples", "Give some hundred")

    def _check(self, x):
        names = keras.tree.flatten(self.structure)
        arrays = [as_numpy(array) for array in in_order(self.structure, x, self.argument, self.error)]
        arrays = [self._check_array(name, array) for name, array in zip(names, arrays, strict=True)]
        return keras.tree.pack_sequence_as(self.structure, arrays)

    def _check_array(self, name, array):
        wanted = tuple(self.shapes[name])
        check_numeric(array, self.argument, self.error)
        array = fit_shape(name, array, wanted, self.argument, self.error)
        _check_finite(name, array, self.argument, self.error)
        return array

    def _bad(self, wanted, came, advice):
        return self.error(f"`{self.argument}` {wanted}. Received: {came}. {advice}.")


def first_inputs(data, argument, error=ValueError):
    """Return the inputs of one sample, or of the first batch of a dataset, nested as they come.

    Args:
        data: As of `Batches`.
        argument: Name of the argument, for messages.
        error: Class of the errors raised for bad data.
    """
    batches = Batches(data, None, {}, batch_size=1, argument=argument, error=error)
    x, _ = _x_and_y(next(iter(batches.batches())))
    return keras.tree.map_structure(as_numpy, as_arrays(x))


@contextlib.contextmanager
def finite(x, structure, argument, steps=None):
    """Give Keras data to read in this context that is checked to be finite.

    Args:
        x: What `keras.Model.predict` takes.
        structure: Nested input names, as the model takes its inputs.
        argument: Name of the argument, for messages.
        steps: Number of batches to read, or `None` for all.

    Yields:
        `(x, steps)`: both as they are if `x` holds arrays; else a generator of its batches and their
        number, or `None` if it is not known. The generator ends before a batch that is not finite, so
        that Keras ends its run as after the last one, on every backend.

    Raises:
        ValueError: If a value is NaN or infinite, or inputs are missing; at the end of the context where
            the data comes in batches.
    """

    def check(values):
        names = keras.tree.flatten(structure)
        for name, array in zip(names, in_order(structure, values, argument), strict=True):
            _check_finite(name, as_numpy(array), argument, ValueError)

    if isinstance(x, (list, tuple, dict)) or hasattr(x, "shape") or x is None:
        check(x)
        yield x, steps
        return
    refused = []

    def batches():
        # No further: TensorFlow reads ahead.
        for batch in itertools.islice(_batches_of(x), steps):
            try:
                check(_x_and_y(batch)[0])
            except ValueError as error:
                refused.append(error)
                return
            # As Keras wants them of generators, and TensorFlow takes lists for tensors.
            yield keras.tree.lists_to_tuples(batch if isinstance(batch, tuple) else (batch,))

    try:
        yield batches(), steps or _count(x)
    finally:
        # Also in the place of what Keras reports of data without a batch.
        if refused:
            raise refused[0] from None


def untuned(x, y=None, sample_weight=None, *, batch_size, steps):
    """Return arrays as a `tf.data.Dataset` that Keras reads as it reads the arrays, but that is not tuned.

    TensorFlow 2.21 tunes how it reads data 10, 30, 70 … ms after the start, later and later, and a run that
    keeps all processors busy ends no sooner than the next of these: it may take twice as long. No issue of it
    is filed as far as is known.

    Args:
        x: What `keras.Model.predict` takes.
        y: What `keras.Model.evaluate` takes beside it, or `None`.
        sample_weight: As `y`.
        batch_size: Samples per batch; `None` for what Keras chooses.
        steps: Number of batches to read, or `None` for all.

    Returns:
        `(x, y, sample_weight)` with a dataset of all for `x`; or as they are if they are not all NumPy arrays
        of as many samples, which Keras may read or refuse.
    """
    given = x, y, sample_weight
    arrays = [array for array in keras.tree.flatten((x, y, sample_weight)) if array is not None]
    if not all(
        isinstance(array, np.ndarray) and array.ndim and array.dtype.kind in "biuf" for array in arrays
    ):
        return given
    # Keras repeats weights for every output.
    are_many = sample_weight is not None and keras.tree.is_nested(y)
    if are_many or len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        return given
    import tensorflow as tf

    samples = len(arrays[0])
    batch_size = batch_size or (math.ceil(samples / steps) if steps else 32)
    packed = keras.tree.lists_to_tuples(tuple(part for part in given if part is not None))
    # Whole batches are slices of arrays, which takes no function that TensorFlow has to trace.
    whole = samples // batch_size * batch_size
    parts = []
    if whole:
        shaped = keras.tree.map_structure(
            lambda array: _as_tensor(array[:whole].reshape(-1, batch_size, *array.shape[1:])), packed
        )
        parts.append(tf.data.Dataset.from_tensor_slices(shaped))
    if whole < samples:
        rest = keras.tree.map_structure(lambda array: _as_tensor(array[whole:]), packed)
        parts.append(tf.data.Dataset.from_tensors(rest))
    options = tf.data.Options()
    options.autotune.enabled = False
    return functools.reduce(tf.data.Dataset.concatenate, parts).with_options(options), None, None


def _as_tensor(array):
    """Return an array as a tensor; Keras makes all floats those of its configuration."""
    dtype = keras.config.floatx() if array.dtype.kind == "f" else None
    return keras.ops.convert_to_tensor(array, dtype=dtype)


def in_order(structure, x, argument, error=ValueError):
    """Return the inputs in `x` as a list, in the order of the flattened `structure`.

    As in Keras, a dict goes by the names of the inputs, and may hold more.

    Raises:
        ValueError (or `error`): If inputs are missing, or there are too many.
    """
    names = keras.tree.flatten(structure)
    if isinstance(x, dict):
        keys = (
            list(keras.tree.flatten({key: key for key in structure}))
            if isinstance(structure, dict)
            else names
        )
        missing = [key for key in keys if key not in x]
        if missing:
            raise error(
                f"`{argument}` must have the keys {', '.join(map(repr, keys))}. Received: "
                f"{', '.join(map(repr, x)) or 'no keys'}. Name the arrays as the inputs of the model."
            )
        return [x[key] for key in keys]
    values = keras.tree.flatten(x)
    if len(values) != len(names):
        raise error(
            f"`{argument}` must hold {len(names)} inputs ({', '.join(names)}). Received: {len(values)}. "
            "Nest it as the inputs of the model."
        )
    return values


def fit_shape(name, x, wanted, argument, error=ValueError):
    """Return an array or tensor `(batch, *wanted)`; a last axis of length 1 may be missing.

    Raises:
        ValueError (or `error`): If `x` has another shape.
    """
    came = tuple(x.shape)
    for shape, fitted in ((came[1:], lambda: x), ((*came[1:], 1), lambda: x[..., None])):
        fits = len(shape) == len(wanted) and all(n in (None, m) for n, m in zip(wanted, shape, strict=True))
        if came and fits:
            return fitted()
    raise error(
        f"`{argument}` must have the shape {_show(wanted)} for input '{name}'. Received: shape "
        f"{_show(came[1:]) if came else '()'}. Reshape it as the input of the model."
    )


def _check_finite(name, array, argument, error):
    """Raise `error` if an array holds NaN or infinity, as Keras sees it: 1e300 is no float32."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return
    seen_as = ""
    if array.dtype == "float64" != keras.config.floatx():
        seen_as = f" as {keras.config.floatx()}"
        with np.errstate(over="ignore"):
            array = array.astype(keras.config.floatx())
    count = array.size - np.count_nonzero(np.isfinite(array))
    if count:
        raise error(
            f"`{argument}` must be finite. Received: {count} values that are NaN or infinite{seen_as} "
            f"in input '{name}'. Clean the data."
        )


def _batches_of(data):
    """Return the batches of what is no array, an iterator."""
    if hasattr(data, "as_numpy_iterator"):
        return data.as_numpy_iterator()
    if isinstance(data, keras.utils.PyDataset):
        count = _count(data)
        return (data[i] for i in (itertools.count() if count is None else range(count)))
    return iter(data)


def _count(data):
    """Return the number of batches of what is no array, or `None` if it is not known."""
    if hasattr(data, "as_numpy_iterator"):
        count = int(data.cardinality())
        return count if count >= 0 else None
    if isinstance(data, keras.utils.PyDataset):
        try:
            return data.num_batches
        except NotImplementedError:
            return None
    return operator.length_hint(data) or None


def _x_and_y(data):
    """Return `(x, y)` of a batch or of whole data; a tuple is `(x, y)`, as in Keras."""
    if isinstance(data, tuple) and data:
        return (data[0], data[1]) if len(data) > 1 else (data[0], None)
    return data, None


def rows(arrays, start, stop):
    """Return some of the samples of nested arrays."""
    return keras.tree.map_structure(lambda array: array[start:stop], arrays)


def _show(shape):
    return "(" + ", ".join(["batch", *map(str, shape)]) + ")"
