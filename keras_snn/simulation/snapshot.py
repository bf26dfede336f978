"""Whether a model still has the weights that something was made of."""

import keras
import numpy as np

from keras_snn._devices import is_alone

__all__ = ["Snapshot"]


class Snapshot:
    """The weights of a model at one moment.

    Those of a model are compared number by number only if they may be others. JAX keeps weights in arrays
    that never change, and TensorFlow reads them as such: while a tensor is kept, what is written to the
    weight lies elsewhere in memory. So a weight that lies where it was is the same.

    Args:
        model: A `keras.Model`.
    """

    def __init__(self, model):
        self._values, self._places = [], []
        # Of TensorFlow's variables, what reads them.
        self._handles, self._have_places = [], []
        self._values, self._places = self._read(model)
        # Functions that JAX compiles may take over the memory of an array, which then is none any more.
        is_copied = keras.backend.backend() == "jax"
        self._numbers = list(map(_numbers, self._values)) if is_copied else list(self._values)

    def is_of(self, model):
        """Return whether a model has these weights, number by number; NaN differs from itself."""
        values, places = self._read(model)
        if len(values) != len(self._values):
            return False
        for i, place in enumerate(places):
            if place is not None and place == self._places[i]:
                continue
            if not np.array_equal(_numbers(values[i]), _numbers(self._numbers[i])):
                return False
            # The same numbers at another place, where they are looked for from now on.
            if self._numbers[i] is self._values[i]:
                self._numbers[i] = values[i]
            self._values[i], self._places[i] = values[i], place
        return True

    def _read(self, model):
        """Return the weights of a model as what never changes, and where each of them lies, or `None`."""
        backend = keras.backend.backend()
        if backend == "jax":
            values = [weight.value for weight in model.weights]
            return values, list(map(id, values))
        if backend == "tensorflow" and is_alone(model):
            return self._read_tensors([weight.value for weight in model.weights])
        values = model.get_weights()
        return values, [None] * len(values)

    def _read_tensors(self, variables):
        import tensorflow as tf

        if len(variables) != len(self._handles) or any(
            variable is not known for variable, (known, _, _) in zip(variables, self._handles, strict=True)
        ):
            self._handles = [(variable, variable.handle, variable.dtype) for variable in variables]
            # NumPy has no bfloat16.
            self._have_places = [variable.dtype == "float32" for variable in variables]
        read = tf.raw_ops.ReadVariableOp
        values = [read(resource=handle, dtype=dtype) for _, handle, dtype in self._handles]
        return values, list(map(_address, values, self._have_places))


def _address(tensor, has_place):
    """Return where a tensor is in memory, or `None` if that is not to be had."""
    # Of what is on a card, it would be where a copy is.
    return np.asarray(memoryview(tensor)).ctypes.data if has_place and "CPU" in tensor.device else None


def _numbers(value):
    return value if isinstance(value, np.ndarray) else keras.ops.convert_to_numpy(value)
