"""What each spiking layer means in the words of the graph.

Rules as in `rules.py`. Time does not appear: a node says what happens at every step.
"""

import keras

from keras_snn import layers
from keras_snn.graph import nodes as kinds
from keras_snn.graph import words
from keras_snn.graph.functions import keras_name
from keras_snn.graph.registry import register_named
from keras_snn.layers.held import Held
from keras_snn.layers.linear import SpikingLinear
from keras_snn.layers.pooling import SpikingMaxPooling

__all__ = []

_REPLACE = "replace it by one of keras_snn.supported_layers() before converting"


def _rule(layer_class):
    def decorate(lower):
        register_named(layer_class, lower, group=None)
        return lower

    return decorate


def _linear(layer, x, *, emit):
    return emit(kinds.Spike, emit.call(layer.analog, x), neuron=layer.neuron)


@_rule(layers.SpikingSoftmax)
def _analog(layer, x, *, emit):
    return emit.call(layer.analog, x)


for _class in vars(layers).values():
    if isinstance(_class, type) and issubclass(_class, (SpikingLinear, SpikingMaxPooling)):
        _rule(_class)(_linear if issubclass(_class, SpikingLinear) else _analog)


@_rule(layers.PerTimestep)
@_rule(layers.NonSpiking)
def _(layer, *inputs, emit):
    if isinstance(layer.layer, keras.Model):
        # What could not be said of the source network. It may have no copy.
        callee = layer.layer.operations[-1]
        callee = callee.layer if isinstance(callee, Held) else callee
        said = {"layer_class": type(callee).__name__, "reason": "does not spike", "way_out": _REPLACE}
        return emit(kinds.Opaque, *inputs, model=layer.layer, **said)
    # One argument, as Keras takes it.
    return emit.call(layer.layer, list(inputs) if len(inputs) > 1 else inputs[0])


@_rule(layers.ScaleShift)
def _(layer, x, *, emit):
    scale, shift = (keras.ops.convert_to_numpy(v) for v in (layer.scale, layer.shift))
    return emit(kinds.ChannelAffine, x, scale=scale, shift=shift)


@_rule(layers.Rearrange)
def _(layer, x, *, emit):
    return emit(kinds.Rearrange, x, function=layer.function, argument=layer.argument)


@_rule(layers.PoissonEncoder)
def _(layer, x, *, emit):
    return emit(kinds.Encode, x, scale=layer.scale, rate=layer.rate, seed=layer.seed)


@_rule(layers.Readout)
def _(layer, x, *, emit):
    name = keras_name(layer.activation)
    if name is None:
        return words.activation(layer.activation, x, emit)
    return x if name == "linear" else emit(kinds.Activation, x, function=name)
