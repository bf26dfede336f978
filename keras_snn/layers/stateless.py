"""Layers that pass current on: the same at every step, no neuron, no state."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_snn._types import Config, Tensors
from keras_snn._validation import check_choice
from keras_snn.layers.held import as_in_predict
from keras_snn.layers.owning import OwnsLayer
from keras_snn.layers.time_axis import fold_as_long, unfold_time

__all__ = ["PerTimestep", "Rearrange", "ScaleShift", "Sides"]

# What `Rearrange` does with values.
Movement = Literal["reshape", "transpose", "pad", "slice", "repeat", "take"]


@keras.saving.register_keras_serializable(package="keras_snn")
class PerTimestep(OwnsLayer, keras.layers.Wrapper):
    """Applies a Keras layer without memory to every time step.

    As `keras.layers.TimeDistributed`, but in one call over batch and time folded
    together, and for several inputs; an input of one time step beside a longer one
    stands for a constant.

    Args:
        layer: The Keras layer, for input of shape `(batch, …)`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, …)`, or a list of them.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.freeze_owned()

    @property
    def is_affine(self) -> bool:
        """Whether the layer is known to be linear but for a bias."""
        return isinstance(self.layer, _AFFINE) and getattr(self.layer, "activation", _LINEAR) is _LINEAR

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(_without_time(input_shape))
        self.built = True

    def call(self, inputs: Tensors) -> Any:
        timesteps = max(x.shape[1] for x in keras.tree.flatten(inputs))
        folded = keras.tree.map_structure(lambda x: fold_as_long(x, timesteps), inputs)
        return unfold_time(as_in_predict(self.layer, folded), timesteps)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = input_shape if _is_list(input_shape) else [input_shape]
        timesteps = None if any(shape[1] is None for shape in shapes) else max(shape[1] for shape in shapes)
        batch, *shape = self.layer.compute_output_shape(_without_time(input_shape))
        return (batch, timesteps, *shape)


@keras.saving.register_keras_serializable(package="keras_snn")
class ScaleShift(keras.layers.Layer):
    """scale·x + shift, element by element: what of a batch normalization could not be folded.

    Args:
        shape: Shape of the two weights; broadcast against the last axes of the input.
    """

    def __init__(self, shape: Iterable[int] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = tuple(shape)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=self.shape, initializer="ones", name="scale")
        self.shift = self.add_weight(shape=self.shape, initializer="zeros", name="shift")
        self.built = True

    def call(self, inputs: Tensors) -> Any:
        return inputs * self.scale + self.shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {**super().get_config(), "shape": self.shape}


@keras.saving.register_keras_serializable(package="keras_snn")
class Sides(keras.layers.Concatenate):
    """Values side by side, in front of weights that stand for others of the source network; or one value.

    Args:
        axis: As of `keras.layers.Concatenate`.
        again: Places of the inputs that the source network adds to those before.
        stands_for: As of `keras_snn.graph.nodes.Concatenate`.
    """

    def __init__(
        self, axis: int = -1, again: Iterable[int] = (), stands_for: Iterable[int] = (), **kwargs: Any
    ) -> None:
        super().__init__(axis=axis, **kwargs)
        self.again, self.stands_for = tuple(again), tuple(stands_for)

    def build(self, input_shape: Any) -> None:
        if _is_list(input_shape):
            super().build(input_shape)
        self.built = True

    def call(self, inputs: Tensors) -> Any:
        return super().call(inputs) if isinstance(inputs, (list, tuple)) else inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return super().compute_output_shape(input_shape) if _is_list(input_shape) else tuple(input_shape)

    def compute_output_spec(self, inputs: Tensors) -> Any:
        if isinstance(inputs, (list, tuple)):
            return super().compute_output_spec(inputs)
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> Config:
        return {**super().get_config(), "again": list(self.again), "stands_for": list(self.stands_for)}


@keras.saving.register_keras_serializable(package="keras_snn")
class Rearrange(keras.layers.Layer):
    """Moves, repeats, drops values or pads with zeros.

    Args:
        function: `"reshape"`, `"transpose"`, `"pad"`, `"slice"`, `"repeat"` or `"take"`.
        argument: The new shape; the order of axes; or for each axis the zeros `(before, after)`,
            `(start, stop, step)`, how often a value comes, or the places of values, `None` for all of them.
            The batch axis does not count.

    Call arguments:
        inputs: Tensor of shape `(batch, …)`.
    """

    def __init__(self, function: Movement, argument: Iterable[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = check_choice("function", function, get_args(Movement))
        self.argument = tuple(tuple(a) if isinstance(a, (list, tuple)) else a for a in argument)

    def call(self, inputs: Tensors) -> Any:
        if self.function == "reshape":
            return ops.reshape(inputs, (-1, *self.argument))
        if self.function == "transpose":
            return ops.transpose(inputs, (0, *(axis + 1 for axis in self.argument)))
        if self.function == "pad":
            return ops.pad(inputs, ((0, 0), *self.argument))
        if self.function == "slice":
            return inputs[(slice(None), *(slice(*bounds) for bounds in self.argument))]
        for axis, how in enumerate(self.argument, start=1):
            if self.function == "take" and how is not None:
                inputs = ops.take(inputs, np.asarray(how, "int32"), axis=axis)
            elif self.function == "repeat" and how > 1:
                inputs = ops.repeat(inputs, how, axis=axis)
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(self.call(keras.KerasTensor(input_shape)).shape)

    def get_config(self) -> Config:
        return {**super().get_config(), "function": self.function, "argument": self.argument}


def _is_list(input_shape):
    return bool(input_shape) and isinstance(input_shape[0], (list, tuple))


def _without_time(input_shape):
    if _is_list(input_shape):
        return [_without_time(shape) for shape in input_shape]
    return (input_shape[0], *input_shape[2:])


_LINEAR = keras.activations.linear
_AFFINE = (
    Rearrange,
    ScaleShift,
    *(
        getattr(keras.layers, name)
        for rank in "123"
        for name in (
            f"AveragePooling{rank}D",
            f"Conv{rank}D",
            f"Conv{rank}DTranspose",
            f"DepthwiseConv{rank}D",
        )
        # There is no DepthwiseConv3D.
        if hasattr(keras.layers, name)
    ),
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Dense,
)
