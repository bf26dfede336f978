"""Activations of a few levels."""

from typing import Any

import keras
from keras import ops

from keras_snn._gradients import round_half_up
from keras_snn._types import Config, Tensors
from keras_snn._validation import check_choice, check_integer, check_number

__all__ = ["QuantizedClip"]


@keras.saving.register_keras_serializable(package="keras_snn")
class QuantizedClip(keras.layers.Layer):
    """A relu that saturates at λ and has L steps up to there, as the spike counts of L time steps have.

        y = λ·clip(floor(x·L/λ + ½), 0, L)/L

    A network trained with it in the place of relu loses little when it becomes spiking with few
    steps. The gradient is that of clip(x, 0, λ), as if nothing were rounded; λ is learned too.
    `convert` takes λ for the scale of the layer, whatever `normalization` is.

    Args:
        levels: L; at least 1. The number of time steps is a good choice.
        scale: λ before training; positive, in activation units.
        signed: Whether it also has L steps below 0, as a relay of spikes with a sign: not a relu then, but
            linear up to λ.

    Source:
        Bu et al. (2022), "Optimal ANN-SNN Conversion for High-Accuracy and Ultra-Low-Latency Spiking
        Neural Networks", ICLR: quantization clip-floor-shift.

    >>> ops.convert_to_numpy(QuantizedClip(4, scale=2.0)(ops.array([-1.0, 0.2, 0.3, 1.6, 5.0])))
    array([0. , 0. , 0.5, 1.5, 2. ], dtype=float32)
    """

    def __init__(self, levels: int, scale: float = 1.0, signed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signed = check_choice("signed", signed, (False, True))
        self.levels = check_integer("levels", levels, minimum=1)
        self.initial_scale = check_number("scale", scale, above=0)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer=self._start, name="scale")
        self.built = True

    def _start(self, shape, dtype=None):
        # keras.initializers.Constant rounds to float32 (Keras 3.15; no issue is filed as far as is known).
        return ops.full(shape, self.initial_scale, dtype=dtype)

    def call(self, inputs: Tensors) -> Any:
        scale = ops.cast(self.scale, inputs.dtype)
        # Clipped after the rounding, so that the gradient to λ knows what was cut off.
        lowest = -self.levels if self.signed else 0
        steps = ops.clip(round_half_up(inputs * (self.levels / scale)), lowest, self.levels)
        return steps * (scale / self.levels)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> Config:
        own = {"levels": self.levels, "scale": self.initial_scale, "signed": self.signed}
        return {**super().get_config(), **own}
