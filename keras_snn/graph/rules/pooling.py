"""Pooling over windows and over all positions."""

import functools

from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import rule

_SPATIAL = {1: (9, 3), 2: (7, 8, 3), 3: (5, 4, 6, 2)}
_pooling = functools.partial(rule, "Pooling")


def _windows(function):
    def lower(layer, x, *, emit):
        common.need_channels_last(layer)
        window, strides = tuple(layer.pool_size), tuple(layer.strides)
        return emit(kinds.Pool, x, function=function, window=window, strides=strides, padding=layer.padding)

    return lower


def _global_pooling(function):
    def lower(layer, x, *, emit):
        common.need_channels_last(layer)
        window = x.shape[:-1]
        y = emit(kinds.Pool, x, function=function, window=window, strides=window)
        return y if layer.keepdims else common.reshape(y, (x.shape[-1],), emit)

    return lower


for _rank, _shape in _SPATIAL.items():
    for _keras_name, _function in (("Max", "max"), ("Average", "average")):
        _class = getattr(layers, f"{_keras_name}Pooling{_rank}D")
        _pooling(
            _class,
            (lambda c=_class: c(2), _shape),
            (lambda c=_class: c(3, strides=2, padding="same"), _shape),
        )(_windows(_function))
        _class = getattr(layers, f"Global{_keras_name}Pooling{_rank}D")
        _pooling(_class, (lambda c=_class: c(), _shape), (lambda c=_class: c(keepdims=True), _shape))(
            _global_pooling(_function)
        )
