"""Activations of binary networks."""

from typing import Any, get_args

import keras
from keras import ops

from keras_snn._types import Config, Tensors
from keras_snn._validation import check_choice
from keras_snn.neurons.binary import BinaryFunction

__all__ = ["BinaryActivation"]


@keras.saving.register_keras_serializable(package="keras_snn")
class BinaryActivation(keras.layers.Layer):
    """Two-valued activation, trainable: its gradient is that of a straight line near 0.

    Args:
        function: `"sign"`: 1 where the input is positive, −1 where it is negative; `"heaviside"`: 1 or 0.
        at_zero: Value where the input is exactly 0.

    Source:
        Courbariaux et al. (2016), arXiv:1602.02830, with the straight-through gradient: 1 where
        |x| ≤ 1, else 0.
    """

    def __init__(self, function: BinaryFunction = "sign", at_zero: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = check_choice("function", function, get_args(BinaryFunction))
        self.at_zero = check_choice("at_zero", at_zero, (-1, 0, 1) if function == "sign" else (0, 1))
        self.built = True

    def call(self, inputs: Tensors, training: bool | None = False) -> Any:
        outputs = ops.where(inputs == 0, ops.full_like(inputs, self.at_zero), ops.sign(inputs))
        if self.function == "heaviside":
            # Not maximum, which makes float64 float32 on PyTorch (keras-team/keras#23223).
            outputs = ops.relu(outputs)
        if not training:
            return outputs
        line = ops.clip(inputs, -1.0, 1.0)
        return line + ops.stop_gradient(outputs - line)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {**super().get_config(), "function": self.function, "at_zero": self.at_zero}
