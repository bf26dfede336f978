"""Layers with several inputs."""

import functools

from keras import layers

from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import rule

_merging = functools.partial(rule, "Merging")


@_merging(layers.Add, (lambda: layers.Add(), (4, 4, 3), (4, 4, 3)), (lambda: layers.Add(), (6,), (6,), (6,)))
def lower_add(layer, *inputs, emit):
    return common.add(inputs, emit)


@_merging(layers.Subtract, (lambda: layers.Subtract(), (4, 4, 3), (4, 4, 3)))
def lower_subtract(layer, x, y, *, emit):
    return common.subtract(x, y, emit)


@_merging(layers.Average, (lambda: layers.Average(), (4, 3), (4, 3), (4, 3)))
def lower_average(layer, *inputs, emit):
    return common.scale(common.add(inputs, emit), 1 / len(inputs), emit)


@_merging(
    layers.Maximum,
    (lambda: layers.Maximum(), (4, 4, 3), (4, 4, 3)),
    (lambda: layers.Maximum(), (6,), (6,), (6,)),
)
def lower_maximum(layer, *inputs, emit):
    return functools.reduce(lambda x, y: common.maximum(x, y, emit), inputs)


@_merging(layers.Minimum, (lambda: layers.Minimum(), (4, 3), (4, 3)))
def lower_minimum(layer, *inputs, emit):
    return functools.reduce(lambda x, y: common.minimum(x, y, emit), inputs)


@_merging(
    layers.Multiply,
    (lambda: layers.Multiply(), (4, 3), (4, 3)),
    (lambda: layers.Multiply(), (4, 5, 3), (1, 1, 3)),
)
def lower_multiply(layer, *inputs, emit):
    return functools.reduce(lambda x, y: common.multiply(x, y, emit), inputs)


@_merging(
    layers.Concatenate,
    (lambda: layers.Concatenate(), (4, 4, 3), (4, 4, 2)),
    (lambda: layers.Concatenate(axis=1), (3, 4), (2, 4)),
)
def lower_concatenate(layer, *inputs, emit):
    return common.concatenate(inputs, layer.axis, emit)


@_merging("CustomScaleLayer")
def lower_custom_scale_layer(layer, x, y, *, emit):
    return common.add([x, common.scale(y, layer.scale, emit, part="scaled")], emit)
