"""Reading arrays, datasets and dictionaries of arrays alike, batch by batch."""

import math

import keras
import numpy as np

__all__ = ["Batches", "fit_shape", "in_order"]


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
            count = int(data.cardinality())
            self.count = count if count >= 0 else None
            if count == -1:
                raise self._bad("must end", "an infinite dataset", "Limit it with .take(n)")
            self.batches = data.as_numpy_iterator
        elif isinstance(data, keras.utils.PyDataset):
            try:
                self.count = data.num_batches
            except NotImplementedError:
                self.count = None
            if self.count is None:
                raise self._bad("must end", "a PyDataset without a length", "Give it __len__")
            self.batches = lambda: (data[i] for i in range(self.count))
        else:
            self._open_arrays(data)

    def _open_arrays(self, data):
        parts = [keras.tree.map_structure(np.asarray, part) for part in _x_and_y(data) if part is not None]
        arrays = keras.tree.flatten(parts)
        if any(array.dtype == object or array.ndim == 0 for array in arrays):
            raise self._bad(
                "must be an array, a list or dict of arrays, a tf.data.Dataset or a keras.utils.PyDataset",
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
                yield tuple(_rows(part, start, start + self.batch_size) for part in parts)

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
        arrays = [np.asarray(array) for array in in_order(self.structure, x, self.argument, self.error)]
        arrays = [self._check_array(name, array) for name, array in zip(names, arrays, strict=True)]
        return keras.tree.pack_sequence_as(self.structure, arrays)

    def _check_array(self, name, array):
        wanted = tuple(self.shapes[name])
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise self._bad("must hold numbers", f"dtype {array.dtype}", "Convert it with .astype('float32')")
        array = fit_shape(name, array, wanted, self.argument, self.error)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            raise self._bad(
                "must be finite",
                f"{count} values that are NaN or infinite in input '{name}'",
                "Clean the data",
            )
        return array

    def _bad(self, wanted, came, advice):
        return self.error(f"`{self.argument}` {wanted}. Received: {came}. {advice}.")


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
        if len(shape) == len(wanted) and all(n in (None, m) for n, m in zip(wanted, shape, strict=True)):
            return fitted()
    raise error(
        f"`{argument}` must have the shape {_show(wanted)} for input '{name}'. Received: shape "
        f"{_show(came[1:])}. Reshape it as the input of the model."
    )


def _x_and_y(data):
    """Return `(x, y)` of a batch or of whole data; a tuple is `(x, y)`, as in Keras."""
    if isinstance(data, tuple) and data:
        return (data[0], data[1]) if len(data) > 1 else (data[0], None)
    return data, None


def _rows(arrays, start, stop):
    return keras.tree.map_structure(lambda array: array[start:stop], arrays)


def _show(shape):
    return "(" + ", ".join(["batch", *map(str, shape)]) + ")"
