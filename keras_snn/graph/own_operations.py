"""Operations of Keras that cannot be recorded as they are, and what is recorded in their place."""

import keras

__all__ = ["ConvTranspose", "conv_transpose"]

_eager = keras.ops.conv_transpose


class ConvTranspose(keras.Operation):
    """A transposed convolution; that of Keras hands its padding on as its output padding, and fails.

    Args:
        strides, padding, output_padding, data_format, dilation_rate: As of `keras.ops.conv_transpose`.
    """

    def __init__(self, strides, padding, output_padding, data_format, dilation_rate):
        super().__init__(name=None)
        self.strides, self.padding, self.output_padding = strides, padding, output_padding
        self.data_format, self.dilation_rate = data_format, dilation_rate

    def call(self, inputs, kernel):
        """Return what Keras computes of tensors with values."""
        options = (self.strides, self.padding, self.output_padding, self.data_format, self.dilation_rate)
        return _eager(inputs, kernel, *options)


def conv_transpose(
    inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1
):
    """Do as `keras.ops.conv_transpose`, and record a `ConvTranspose` for tensors without values."""
    options = strides, padding, output_padding, data_format, dilation_rate
    if isinstance(inputs, keras.KerasTensor):
        return ConvTranspose(*options)(inputs, kernel)
    return _eager(inputs, kernel, *options)
