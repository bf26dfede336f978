"""Activations, of which relus become neurons; the others act at the output."""

import functools
import math

import keras
from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, rule
from keras_snn.layers import BinaryActivation, QuantizedClip

_activations = functools.partial(rule, "Activations")
_readout = functools.partial(rule, "At the output")


def _bent_twice(x):
    return keras.ops.relu(x) - 0.5 * keras.ops.relu(1 - x)


@_activations(
    layers.Activation,
    *((lambda name=name: layers.Activation(name), (5, 4)) for name in ("relu", "relu6", "linear")),
    *((lambda name=name: layers.Activation(name), (5, 4)) for name in ("leaky_relu", "hard_sigmoid")),
    *((lambda name=name: layers.Activation(name), (5, 4)) for name in ("sigmoid", "gelu", "silu", "tanh")),
    (lambda: layers.Activation(keras.ops.sign), (5, 4)),
    (lambda: layers.Activation(_bent_twice), (5, 4)),
    (lambda: layers.Activation("soft_shrink"), (5, 4)),
)
def lower_activation(layer, x, *, emit):
    return common.activation_of(layer.activation, x, emit)


@_activations(
    layers.ReLU,
    (lambda: layers.ReLU(), (5, 5, 3)),
    (lambda: layers.ReLU(max_value=0.7), (5, 5, 3)),
    (lambda: layers.ReLU(max_value=0.7, negative_slope=0.3), (5, 5, 3)),
    (lambda: layers.ReLU(negative_slope=0.1, threshold=0.4), (6,)),
)
def lower_relu(layer, x, *, emit):
    if layer.threshold:
        raise Refusal(f"threshold={float(layer.threshold):g}, where it jumps", "train with threshold=0")
    limit = math.inf if layer.max_value is None else float(layer.max_value)
    return common.leaky_relu(x, float(layer.negative_slope), emit, max_value=limit)


@_activations(layers.LeakyReLU, (lambda: layers.LeakyReLU(0.25), (5, 3)), (lambda: layers.LeakyReLU(0), (6,)))
def lower_leaky_relu(layer, x, *, emit):
    return common.leaky_relu(x, float(layer.negative_slope), emit)


@_activations(
    layers.PReLU,
    (lambda: layers.PReLU(), (6,)),
    (lambda: layers.PReLU(shared_axes=[1, 2]), (4, 5, 3)),
    (lambda: layers.PReLU(shared_axes=[2]), (4, 3)),
)
def lower_prelu(layer, x, *, emit):
    return common.leaky_relu(x, common.weight(layer.alpha).astype("float64"), emit)


@_activations(
    BinaryActivation,
    (lambda: BinaryActivation("sign"), (5, 4)),
    (lambda: BinaryActivation("heaviside", at_zero=0), (5, 4)),
)
def lower_binary_activation(layer, x, *, emit):
    return emit(kinds.Activation, x, function=layer.function, at_zero=layer.at_zero)


@_activations(QuantizedClip, (lambda: QuantizedClip(4096), (5, 4)))
def lower_quantized_clip(layer, x, *, emit):
    scale = float(common.weight(layer.scale))
    if not scale > 0:
        raise Refusal(f"scale={scale:g}", "train it to a positive one", may_stay=False)
    if layer.signed:
        raise Refusal("signed=True", "train with signed=False: a time code relays sums by itself")
    return emit(kinds.Activation, x, function="relu", max_value=scale, levels=layer.levels)


@_readout(layers.ELU, (lambda: layers.ELU(), (5, 3)))
def lower_elu(layer, x, *, emit):
    if layer.alpha != 1:
        raise Refusal(f"alpha={float(layer.alpha):g}", "train with activation='relu'")
    return common.activation("elu", x, emit)


@_readout(layers.Softmax, (lambda: layers.Softmax(), (6,)), (lambda: layers.Softmax(axis=1), (6, 4)))
def lower_softmax(layer, x, *, emit):
    return emit(kinds.Activation, x, function="softmax", axis=common.softmax_axis(layer.axis, x))
