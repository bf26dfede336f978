"""Which objects hold arrays: whatever has NumPy's protocols, the buffer protocol or DLPack."""

import inspect

import keras
import numpy as np

__all__ = [
    "as_arrays",
    "as_labels",
    "as_numpy",
    "check_numeric",
    "comes_in_batches",
    "is_array",
    "is_numeric",
]

# What NumPy reads as an array.
_ARRAY_PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__")
# Where classes of data that comes in batches are from, beside generators and `PyDataset`.
_SOURCES_OF_BATCHES = ("tensorflow", "torch", "grain")


def as_arrays(data):
    """Return nested data with what can be read as an array, but allows less indexing than one, as arrays.

    Columns of a data frame, HDF5 datasets, `array.array` and all else that NumPy knows by one of its
    protocols, the buffer protocol or DLPack become NumPy arrays, without a copy where that is possible.
    Tensors, datasets and all else, also bytes, stay as they are.
    """
    return keras.tree.map_structure(_as_array, data)


def as_labels(y):
    """Return labels as nested arrays; a list or tuple of numbers, nested or not, is one array."""
    leaves = keras.tree.flatten(y)
    if isinstance(y, (list, tuple)) and not any(hasattr(leaf, "shape") and leaf.shape for leaf in leaves):
        try:
            return np.asarray(y)
        except ValueError:
            # Lists of several lengths, of which the check of labels complains.
            return np.asarray(y, object)
    return as_arrays(y)


def _as_array(x):
    if keras.ops.is_tensor(x) or isinstance(x, (np.ndarray, bytes, keras.KerasTensor)):
        return x
    # A tensor of PyTorch with a gradient or on a device, where that is not the backend.
    x = x.detach().cpu() if hasattr(x, "detach") and hasattr(x, "cpu") else x
    try:
        if any(hasattr(x, name) for name in _ARRAY_PROTOCOLS) or _has_buffer(x):
            return np.asarray(x)
        return np.from_dlpack(x) if hasattr(x, "__dlpack__") else x
    except (TypeError, ValueError, RuntimeError, BufferError):
        # A tensor without values, or of a dtype that NumPy does not know.
        return x


def _has_buffer(x):
    """Return whether an object gives its memory, as `array.array` and `memoryview` do."""
    try:
        memoryview(x)
    except TypeError:
        return False
    return True


def is_array(x):
    """Return whether a leaf of what `as_arrays` returned is an array or tensor."""
    has_values = keras.ops.is_tensor(x) or hasattr(x, "__array__")
    return has_values and hasattr(x, "shape") and not isinstance(x, keras.KerasTensor)


def comes_in_batches(x):
    """Return whether `keras.Model.predict` takes an object, which is no array, for batches of data."""
    if inspect.isgenerator(x) or isinstance(x, keras.utils.PyDataset):
        return True
    return any(base.__module__.partition(".")[0] in _SOURCES_OF_BATCHES for base in type(x).__mro__)


def is_numeric(dtype):
    """Return whether a NumPy dtype is of real numbers."""
    return dtype.kind in "biuf" or dtype.name == "bfloat16"


def check_numeric(array, argument, error=ValueError):
    """Raise a `ValueError` (or `error`) if a NumPy array holds no real numbers; others are let through."""
    if isinstance(array, np.ndarray) and not is_numeric(array.dtype):
        raise error(
            f"`{argument}` must hold numbers. Received: dtype {array.dtype}. "
            "Convert it with .astype('float32')."
        )


def as_numpy(x):
    """Return an array, a tensor or what `as_arrays` reads as a NumPy array."""
    x = _as_array(x)
    # Keras copies what is an array already, and takes no objects, of which errors are raised elsewhere.
    return keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else np.asarray(x)
