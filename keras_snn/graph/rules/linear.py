"""Dense layers and convolutions."""

import functools

import numpy as np
from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common
from keras_snn.graph.rules.einsum import einsum
from keras_snn.graph.rules.registry import rule

_linear = functools.partial(rule, "Linear")


@_linear(
    layers.Dense,
    (lambda: layers.Dense(6, activation="relu"), (7,)),
    (lambda: layers.Dense(4, use_bias=False), (3, 5)),
    (lambda: layers.Dense(5, activation="softmax"), (7,)),
    (lambda: layers.Dense(5, activation="elu"), (7,)),
    (lambda: layers.Dense(5, activation=layers.LeakyReLU(0.1)), (7,)),
)
def lower_dense(layer, x, *, emit):
    kernel = common.weight(layer.kernel)
    y = emit(kinds.Affine, x, kernel=kernel, bias=common.bias_of(layer, kernel.shape[-1], kernel.dtype))
    return common.activation_of(layer.activation, y, emit)


@_linear(
    layers.EinsumDense,
    (lambda: layers.EinsumDense("ab,bc->ac", output_shape=5, bias_axes="c", activation="relu"), (6,)),
    (lambda: layers.EinsumDense("...x,xy->...y", output_shape=5, bias_axes="y"), (4, 3)),
    (lambda: layers.EinsumDense("abc,cde->adbe", output_shape=(2, 3, 5), bias_axes="de"), (3, 4)),
    (lambda: layers.EinsumDense("abc,bcd->ad", output_shape=(5,)), (3, 4)),
)
def lower_einsum_dense(layer, x, *, emit):
    y = einsum(layer.equation, x, common.weight(layer.kernel), emit)
    if layer.bias is not None:
        y = common.shift(y, common.weight(layer.bias).astype("float64"), emit)
    return common.activation_of(layer.activation, y, emit)


def _convolve(layer, x, kernel, emit, *, bias=None, **options):
    """Emit the convolution of a layer that has strides, dilation_rate and padding."""
    common.need_channels_last(layer)
    bias = np.zeros(kernel.shape[-1], kernel.dtype) if bias is None else bias
    options |= {"strides": layer.strides, "dilation": layer.dilation_rate, "padding": layer.padding}
    return common.convolve(x, kernel, bias, emit, **options)


def _with_one_kernel(layer, x, kernel, emit, **options):
    y = _convolve(
        layer, x, kernel, emit, bias=common.bias_of(layer, kernel.shape[-1], kernel.dtype), **options
    )
    return common.activation_of(layer.activation, y, emit)


def lower_convolution(layer, x, *, emit):
    return _with_one_kernel(layer, x, common.weight(layer.kernel), emit, groups=layer.groups)


def lower_depthwise(layer, x, *, emit):
    kernel = common.weight(layer.kernel)
    groups = kernel.shape[-2]
    return _with_one_kernel(layer, x, kernel.reshape(*kernel.shape[:-2], 1, -1), emit, groups=groups)


def lower_separable(layer, x, *, emit):
    depthwise, pointwise = common.weight(layer.depthwise_kernel), common.weight(layer.pointwise_kernel)
    kernel = depthwise.reshape(*depthwise.shape[:-2], 1, -1)
    y = _convolve(layer, x, kernel, emit, groups=depthwise.shape[-2], part="depthwise")
    one = (1,) * (pointwise.ndim - 2)
    bias = common.bias_of(layer, pointwise.shape[-1], pointwise.dtype)
    y = common.convolve(y, pointwise, bias, emit, strides=one, dilation=one)
    return common.activation_of(layer.activation, y, emit)


def lower_transposed(layer, x, *, emit):
    kernel = np.swapaxes(common.weight(layer.kernel), -1, -2)
    extra = None if layer.output_padding is None else tuple(layer.output_padding)
    return _with_one_kernel(layer, x, kernel, emit, transposed=True, output_padding=extra)


_linear(
    layers.Conv1D,
    (lambda: layers.Conv1D(4, 3, strides=2, padding="same", activation="relu"), (9, 3)),
    (lambda: layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 3)),
)(lower_convolution)
_linear(
    layers.Conv2D,
    (lambda: layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"), (8, 7, 3)),
    (lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same", use_bias=False), (8, 7, 3)),
    (lambda: layers.Conv2D(6, 3, groups=2), (6, 6, 4)),
)(lower_convolution)
_linear(
    layers.Conv3D,
    (lambda: layers.Conv3D(3, 2, strides=(1, 2, 1), padding="same", activation="relu"), (4, 5, 6, 2)),
    (lambda: layers.Conv3D(3, (1, 2, 3)), (3, 4, 5, 2)),
)(lower_convolution)
_linear(
    layers.DepthwiseConv1D,
    (lambda: layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2, activation="relu"), (9, 3)),
)(lower_depthwise)
_linear(
    layers.DepthwiseConv2D,
    (lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu"), (7, 8, 3)),
    (lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=2, use_bias=False), (7, 8, 3)),
)(lower_depthwise)
_linear(
    layers.SeparableConv1D,
    (lambda: layers.SeparableConv1D(4, 3, strides=2, padding="same", activation="relu"), (9, 3)),
    (lambda: layers.SeparableConv1D(4, 3, dilation_rate=2), (9, 3)),
)(lower_separable)
_linear(
    layers.SeparableConv2D,
    (lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu"), (7, 8, 3)),
    (lambda: layers.SeparableConv2D(5, (2, 3), padding="same", use_bias=False), (7, 8, 3)),
)(lower_separable)
_linear(
    layers.Conv1DTranspose,
    (lambda: layers.Conv1DTranspose(4, 3, strides=2, activation="relu"), (5, 3)),
    (lambda: layers.Conv1DTranspose(4, 2, strides=3, padding="same"), (5, 3)),
)(lower_transposed)
_linear(
    layers.Conv2DTranspose,
    (lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"), (4, 5, 3)),
    (lambda: layers.Conv2DTranspose(4, (4, 3), strides=(2, 3), output_padding=(1, 2)), (4, 5, 3)),
    (lambda: layers.Conv2DTranspose(3, 2, strides=2, use_bias=False), (4, 5, 3)),
)(lower_transposed)
_linear(
    layers.Conv3DTranspose,
    (lambda: layers.Conv3DTranspose(3, 2, strides=(1, 2, 1), activation="relu"), (3, 2, 4, 2)),
)(lower_transposed)
