"""Sizes that a model leaves open: those of the data."""

import numbers

import keras

from keras_snn._data import Batches, first_inputs
from keras_snn.errors import CalibrationError
from keras_snn.graph.own_code import as_functional, is_own_code

__all__ = ["first_shapes", "fitting_shapes", "functional", "shapes_of_data"]


def functional(model, data):
    """Return a model, or the functional model of what a subclassed one does with inputs like the data.

    Args:
        model: A Keras model. One that is not built is built for the data.
        data: Calibration data, or `None`.

    Raises:
        CalibrationError: If the data is none.
        ValueError: If the `call` of the model cannot be traced.
    """
    if getattr(model, "inputs", None) or not is_own_code(model) or data is None:
        return as_functional(model)
    return as_functional(model, first_inputs(data, "calibration_data", CalibrationError))


def shapes_of_data(model, data):
    """Return the shapes of the calibration data, if the model leaves sizes open; else `None`."""
    if not isinstance(model, keras.Model):
        return None
    shapes = [tuple(x.shape[1:]) for x in getattr(model, "inputs", None) or ()]
    return first_shapes(model, data) if any(None in shape for shape in shapes) else None


def first_shapes(model, data):
    """Return the shapes of the first batch of calibration data; `None` without data or known inputs.

    Raises:
        CalibrationError: If the data does not fit the model.
    """
    if data is None or not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return None
    open_shapes = [tuple(x.shape[1:]) for x in model.inputs]
    # A Sequential has no attribute `input` before it is called.
    given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    structure = keras.tree.map_structure(lambda x: x.name, given)
    shapes = dict(zip(keras.tree.flatten(structure), open_shapes, strict=True))
    batches = Batches(
        data, structure, shapes, batch_size=1, argument="calibration_data", error=CalibrationError
    )
    x, _ = next(iter(batches))
    return [tuple(array.shape[1:]) for array in keras.tree.flatten(x)]


def fitting_shapes(model, input_shapes):
    """Return shapes that a user gives, without batch, as a list of one for every input of a model.

    Raises:
        ValueError: If they do not fit the model.
    """
    inputs = getattr(model, "inputs", None) or ()
    is_one = all(n is None or isinstance(n, numbers.Integral) for n in input_shapes)
    shapes = [tuple(shape) for shape in ([input_shapes] if is_one else input_shapes)]
    wanted = [tuple(x.shape[1:]) for x in inputs]
    fits = len(shapes) == len(wanted) and all(
        len(shape) == len(sizes)
        and all(n in (None, m) and m is not None for n, m in zip(sizes, shape, strict=True))
        for shape, sizes in zip(shapes, wanted, strict=True)
    )
    if inputs and not fits:
        raise ValueError(
            f"`input_shapes` must be a shape without batch that fits each of {', '.join(map(str, wanted))}. "
            f"Received: input_shapes={input_shapes!r}. Give a number for every open size."
        )
    return shapes
