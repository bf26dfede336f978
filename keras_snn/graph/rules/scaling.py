"""Normalization and other layers that scale and shift."""

import functools

import keras
import numpy as np
from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, rule

_affine = functools.partial(rule, "Normalization and scaling")


@_affine(
    layers.BatchNormalization,
    (lambda: layers.BatchNormalization(), (5, 5, 3)),
    (lambda: layers.BatchNormalization(scale=False, epsilon=0.1), (6,)),
    (lambda: layers.BatchNormalization(center=False), (4, 4, 3)),
    (lambda: layers.BatchNormalization(axis=1), (4, 5, 3)),
)
def lower_batch_normalization(layer, x, *, emit):
    mean, variance = (common.weight(v).astype("float64") for v in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / _deviation(variance, layer.epsilon)
    if layer.scale:
        scale = scale * common.weight(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + common.weight(layer.beta)
    axis = common.axis_from_end(layer.axis, x)
    along = (-1,) + (1,) * (-axis - 1)
    moments = (mean, variance) if axis == -1 else None
    return emit(
        kinds.ChannelAffine, x, scale=scale.reshape(along), shift=shift.reshape(along), moments=moments
    )


def _deviation(variance, epsilon=0.0):
    """Return the square root of variances, if there is one."""
    lowest = float(np.min(variance)) + epsilon
    if not lowest > 0 and (epsilon or lowest):
        raise Refusal(
            f"a variance of {float(np.min(variance)):g}, which has no square root",
            "set it to what it is on the training data",
            may_stay=False,
        )
    return np.sqrt(variance + epsilon)


@_affine(
    layers.Rescaling,
    (lambda: layers.Rescaling(1 / 255), (6, 6, 3)),
    (lambda: layers.Rescaling([0.5, 2.0, 1.5], offset=[-1.0, 0.0, 0.3]), (6, 6, 3)),
)
def lower_rescaling(layer, x, *, emit):
    scale, offset = (np.asarray(v, "float64") for v in (layer.scale, layer.offset))
    return emit(kinds.ChannelAffine, x, scale=scale, shift=offset)


@_affine(
    layers.Normalization,
    (lambda: layers.Normalization(mean=[0.5, -1.0, 2.0], variance=[0.3, 2.0, 1.1]), (6, 6, 3)),
    (lambda: layers.Normalization(mean=0.4, variance=0.2, axis=None), (6, 6, 3)),
    (lambda: layers.Normalization(mean=[0.5, -1.0], variance=[0.3, 2.0], invert=True), (6, 2)),
)
def lower_normalization(layer, x, *, emit):
    mean, variance = (_without_leading_ones(common.weight(v)) for v in (layer.mean, layer.variance))
    deviation = np.maximum(_deviation(variance), keras.config.epsilon())
    if layer.invert:
        return emit(kinds.ChannelAffine, x, scale=deviation, shift=mean)
    moments = None if mean.ndim > 1 else tuple(np.broadcast_to(v, x.shape[-1]) for v in (mean, variance))
    return emit(kinds.ChannelAffine, x, scale=1 / deviation, shift=-mean / deviation, moments=moments)


def _without_leading_ones(value):
    """Return statistics as a number or a vector over channels if they are that."""
    value = np.asarray(value, "float64")
    while value.ndim and value.shape[0] == 1 and (value.ndim > 1 or value.size == 1):
        value = value[0]
    return value


@_affine("LayerScale")
def lower_layer_scale(layer, x, *, emit):
    return common.scale(x, common.weight(layer.gamma).astype("float64"), emit)
