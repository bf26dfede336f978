"""The spiking layers as nodes, so that a spiking model can be read back.

Time does not appear: a node describes what happens at every step.
"""

import keras
import numpy as np

from keras_snn import layers
from keras_snn.graph import nodes as kinds
from keras_snn.graph.functions import keras_name
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import register_named
from keras_snn.layers.held import Held
from keras_snn.layers.linear import SpikingLinear
from keras_snn.layers.pooling import SpikingMaxPooling
from keras_snn.layers.stateless import Sides

__all__ = []

_REPLACE = "replace it by one of keras_snn.supported_layers() before converting"


def _rule(layer_class):
    def decorate(lower):
        register_named(layer_class, lower, group=None)
        return lower

    return decorate


def _linear(layer, x, *, emit):
    current = emit.call(layer.analog, x)
    if layer.bias_per_place:
        added = keras.ops.convert_to_numpy(layer.place_bias)
        current = emit(kinds.ChannelAffine, current, scale=np.ones_like(added), shift=added, part="bias")
    return emit(kinds.Spike, current, neuron=layer.neuron)


def _max_pooling(layer, x, *, emit):
    pool = layer.analog
    window, strides = tuple(pool.pool_size), tuple(pool.strides)
    fields = {"window": window, "strides": strides, "padding": pool.padding}
    return emit(kinds.Pool, x, function="max", method=layer.method, **fields)


for _class in vars(layers).values():
    if isinstance(_class, type) and issubclass(_class, (SpikingLinear, SpikingMaxPooling)):
        _rule(_class)(_linear if issubclass(_class, SpikingLinear) else _max_pooling)


@_rule(layers.NonSpiking)
def non_spiking(layer, *inputs, emit):
    if isinstance(layer.layer, keras.Model):
        # What had no rule in the source network. It may have no copy.
        callee = layer.layer.operations[-1]
        callee = callee.layer if isinstance(callee, Held) else callee
        fields = {"layer_class": type(callee).__name__, "reason": "does not spike", "way_out": _REPLACE}
        return emit(kinds.Opaque, *inputs, model=layer.layer, **fields)
    # One argument, as Keras takes it.
    node = emit.call(layer.layer, list(inputs) if len(inputs) > 1 else inputs[0])
    return emit.amend(node, spikes=False)


@_rule(layers.PerTimestep)
def per_timestep(layer, *inputs, emit):
    inner = layer.layer
    if isinstance(inner, layers.QuantizedClip):
        fields = {"max_value": float(common.weight(inner.scale)), "levels": inner.levels}
        function = "linear" if inner.signed else "relu"
        return emit(kinds.Activation, *inputs, function=function, **fields, per_step=True, spikes=False)
    return emit.amend(non_spiking(layer, *inputs, emit=emit), per_step=True)


@_rule(layers.ScaleShift)
def scale_shift(layer, x, *, emit):
    scale, shift = (keras.ops.convert_to_numpy(v) for v in (layer.scale, layer.shift))
    return emit(kinds.ChannelAffine, x, scale=scale, shift=shift)


@_rule(layers.Rearrange)
def rearrange(layer, x, *, emit):
    return emit(kinds.Rearrange, x, function=layer.function, argument=layer.argument)


@_rule(Sides)
def sides(layer, *inputs, emit):
    return emit(kinds.Concatenate, *inputs, axis=layer.axis, again=layer.again, stands_for=layer.stands_for)


@_rule(layers.PoissonEncoder)
def poisson_encoder(layer, x, *, emit):
    return emit(kinds.Encode, x, scale=layer.scale, rate=layer.rate, seed=layer.seed)


@_rule(layers.Readout)
def readout(layer, x, *, emit):
    name = keras_name(layer.activation)
    if name is None:
        x, name = common.activation(layer.activation, x, emit), "linear"
    return emit(kinds.Readout, x, function=name, **_average_of(layer))


@_rule(layers.SpikingSoftmax)
def spiking_softmax(layer, x, *, emit):
    axis = common.softmax_axis(layer.analog.axis, x)
    draws = {"method": layer.method, "seed": layer.seed} if layer.draws else {}
    return emit(kinds.Readout, x, function="softmax", axis=axis, **_average_of(layer), **draws)


def _average_of(layer):
    """Return the fields of a node that are how a read-out averages."""
    return {name: getattr(layer, name) for name in ("delay", "scale", "weighting", "shift")}
