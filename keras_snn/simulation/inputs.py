"""How data goes into a spiking model: the names, shapes and dtypes of its inputs."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_snn._data import fit_shape, in_order

__all__ = ["ModelInputs"]

# From the coarsest on.
_FLOATS = ("bfloat16", "float16", "float32", "float64")
_SINGLE = np.dtype("float32")


@dataclasses.dataclass(frozen=True, eq=False)
class ModelInputs:
    """The inputs of a spiking model.

    Attributes:
        structure: Their names, nested as the model takes them.
        shapes: Shape of every input by name, without batch and time.
        source_dtypes: Dtype of every input by name, where the source network has one.
        events: Whether they are given for every step, `(batch, time, …)`.
        compute_dtype: The dtype that the network computes in.
    """

    structure: object
    shapes: dict
    source_dtypes: dict
    events: bool
    compute_dtype: str

    @property
    def names(self):
        """Names of the inputs as a list."""
        return keras.tree.flatten(self.structure)

    @property
    def dtypes(self):
        """Dtype of every input by name: that of the source network. Layers that compute cast it."""
        return {name: self.source_dtypes.get(name, self.compute_dtype) for name in self.shapes}

    @property
    def widest_float(self):
        """The dtype to which Keras casts floats before the call."""
        # Numbers of integer inputs may be given as floats, of which half precision has few whole ones.
        floats = [dtype if "float" in dtype else "float32" for dtype in self.source_dtypes.values()]
        return max([self.compute_dtype, *floats], key=_FLOATS.index)

    @property
    def given_shapes(self):
        """Shape of every input as it is given, without batch: with a time axis of any length for events."""
        time = (None,) if self.events else ()
        return {name: (*time, *shape) for name, shape in self.shapes.items()}

    def takes_as_is(self, x):
        """Whether `x` is one array that `shaped` would return as it is: most calls of one image have such."""
        if type(x) is not np.ndarray or self.events or not isinstance(self.structure, str):
            return False
        fits = x.ndim > 0 and len(x) > 0 and x.shape[1:] == self.shapes[self.structure]
        return fits and x.dtype == _SINGLE

    def shaped(self, inputs, timesteps):
        """Return inputs, arrays or tensors, in the shape that the network wants for so many steps.

        Raises:
            ValueError: If they do not fit.
        """
        values = zip(self.names, in_order(self.structure, inputs, "x"), strict=True)
        shaped = [fit_shape(name, x, self.given_shapes[name], "x") for name, x in values]
        if self.events:
            shaped = [_first_steps(name, x, timesteps) for name, x in zip(self.names, shaped, strict=True)]
        return keras.tree.pack_sequence_as(self.structure, shaped)

    def cast(self, inputs):
        """Return a list of the inputs in their dtypes; events that are fractions stay fractions."""
        dtypes = [self.dtypes[name] for name in self.names]
        return [
            x
            if self.events and "float" not in dtype and keras.backend.is_float_dtype(x.dtype)
            else ops.cast(x, dtype)
            for x, dtype in zip(map(ops.convert_to_tensor, keras.tree.flatten(inputs)), dtypes, strict=True)
        ]

    def signature(self, timesteps):
        """Return a nested `keras.InputSpec` of batches of any size."""
        steps = (timesteps,) if self.events else ()

        def spec(name):
            shape = (None, *steps, *self.shapes[name])
            return keras.InputSpec(dtype=self.dtypes[name], shape=shape, name=name)

        return keras.tree.map_structure(spec, self.structure)


def _first_steps(name, x, timesteps):
    """Return the first steps of events; the length of a tensor may be unknown yet."""
    if x.shape[1] is not None and x.shape[1] < timesteps:
        raise ValueError(
            f"`x` must have at least {timesteps} time steps for input '{name}'. "
            f"Received: {x.shape[1]} steps. Set snn.timesteps to the length of the events."
        )
    return x[:, :timesteps]
