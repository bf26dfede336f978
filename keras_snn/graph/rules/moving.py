"""Layers that move, repeat, drop or pad values."""

import functools

from keras import layers

from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, rule
from keras_snn.graph.rules.taking import interpolate

_moving = functools.partial(rule, "Moving values")


def lower_reshape(layer, x, *, emit):
    common.need_channels_last(layer)
    return common.reshape(x, layer.compute_output_shape((None, *x.shape))[1:], emit)


_moving(layers.Flatten, (lambda: layers.Flatten(), (3, 4, 2)), (lambda: layers.Flatten(), (5,)))(
    lower_reshape
)
_moving(
    layers.Reshape,
    (lambda: layers.Reshape((4, 6)), (2, 4, 3)),
    (lambda: layers.Reshape((-1, 2, 3)), (24,)),
)(lower_reshape)


@_moving(
    layers.Permute, (lambda: layers.Permute((2, 3, 1)), (3, 4, 2)), (lambda: layers.Permute((2, 1)), (3, 4))
)
def lower_permute(layer, x, *, emit):
    return common.transpose(x, tuple(axis - 1 for axis in layer.dims), emit)


@_moving(layers.RepeatVector, (lambda: layers.RepeatVector(3), (5,)))
def lower_repeat_vector(layer, x, *, emit):
    return common.repeat(common.reshape(x, (1, *x.shape), emit), (layer.n, 1), emit)


def _widths(value):
    """Return `(before, after)` for each spatial axis, as padding and cropping keep it."""
    return tuple(map(tuple, value)) if isinstance(value[0], (tuple, list)) else (tuple(value),)


def lower_zero_padding(layer, x, *, emit):
    common.need_channels_last(layer)
    return common.pad(x, (*_widths(layer.padding), (0, 0)), emit)


def lower_cropping(layer, x, *, emit):
    common.need_channels_last(layer)
    return common.cut(
        x, [(a, n - b, None) for n, (a, b) in zip(x.shape, _widths(layer.cropping), strict=False)], emit
    )


_moving(layers.ZeroPadding1D, (lambda: layers.ZeroPadding1D((2, 1)), (5, 3)))(lower_zero_padding)
_moving(
    layers.ZeroPadding2D,
    (lambda: layers.ZeroPadding2D(((1, 2), (0, 3))), (4, 5, 3)),
    (lambda: layers.ZeroPadding2D(1), (4, 5, 3)),
)(lower_zero_padding)
_moving(layers.ZeroPadding3D, (lambda: layers.ZeroPadding3D((1, 0, 2)), (3, 4, 2, 2)))(lower_zero_padding)
_moving(layers.Cropping1D, (lambda: layers.Cropping1D((2, 1)), (7, 3)))(lower_cropping)
_moving(
    layers.Cropping2D,
    (lambda: layers.Cropping2D(((1, 2), (0, 3))), (6, 5, 3)),
    (lambda: layers.Cropping2D(1), (4, 5, 3)),
)(lower_cropping)
_moving(layers.Cropping3D, (lambda: layers.Cropping3D((1, 0, (0, 1))), (3, 4, 4, 2)))(lower_cropping)


@_moving(layers.CenterCrop, (lambda: layers.CenterCrop(4, 3), (7, 6, 2)))
def lower_center_crop(layer, x, *, emit):
    common.need_channels_last(layer)
    if x.shape[0] < layer.height or x.shape[1] < layer.width:
        raise Refusal("smaller input, which it resizes", "crop to a size below that of the input")
    starts = ((x.shape[0] - layer.height) // 2, (x.shape[1] - layer.width) // 2)
    return common.cut(
        x, [(a, a + n, None) for a, n in zip(starts, (layer.height, layer.width), strict=True)], emit
    )


def lower_upsampling(layer, x, *, emit):
    common.need_channels_last(layer)
    size = layer.size if isinstance(layer.size, (tuple, list)) else (layer.size,)
    if getattr(layer, "interpolation", "nearest") == "nearest":
        return common.repeat(x, (*size, 1), emit)
    return interpolate(x, layer, emit)


_moving(layers.UpSampling1D, (lambda: layers.UpSampling1D(3), (4, 2)))(lower_upsampling)
_moving(
    layers.UpSampling2D,
    (lambda: layers.UpSampling2D((2, 3)), (3, 4, 2)),
    (lambda: layers.UpSampling2D(2, interpolation="bilinear"), (3, 4, 2)),
    (lambda: layers.UpSampling2D((1, 2), interpolation="bicubic"), (3, 4, 2)),
)(lower_upsampling)
_moving(layers.UpSampling3D, (lambda: layers.UpSampling3D((1, 2, 2)), (2, 3, 2, 2)))(lower_upsampling)


@_moving(
    layers.Resizing,
    (lambda: layers.Resizing(5, 3), (4, 6, 2)),
    (lambda: layers.Resizing(3, 4, interpolation="nearest"), (6, 6, 1)),
)
def lower_resizing(layer, x, *, emit):
    common.need_channels_last(layer)
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise Refusal("keeps the aspect ratio", "resize without crop_to_aspect_ratio and pad_to_aspect_ratio")
    return interpolate(x, layer, emit)
