"""Layers around other layers."""

import functools

import keras
from keras import layers

from keras_snn.graph.rules.registry import rule

_structure = functools.partial(rule, "Around other layers")


@_structure(
    layers.TimeDistributed,
    (
        lambda: layers.TimeDistributed(layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")),
        (3, 6, 5, 2),
    ),
    (lambda: layers.TimeDistributed(layers.MaxPooling1D(2)), (3, 6, 2)),
    (lambda: layers.TimeDistributed(layers.Flatten()), (3, 4, 2)),
    (lambda: layers.TimeDistributed(layers.Dense(4, activation="leaky_relu")), (3, 4)),
    (lambda: layers.TimeDistributed(layers.GlobalAveragePooling2D()), (3, 4, 5, 2)),
    (lambda: layers.TimeDistributed(_small_model()), (3, 6, 5, 2)),
)
def lower_time_distributed(layer, x, *, emit):
    return emit.call_for_each(layer.layer, x)


def _small_model():
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.AveragePooling2D(2),
            layers.Permute((2, 1, 3)),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(((0, 1), (1, 0))),
            layers.UpSampling2D(2),
            layers.GlobalMaxPooling2D(),
            layers.LayerNormalization(),
        ]
    )


def lower_pipeline(layer, x, *, emit):
    return functools.reduce(lambda x, inner: emit.call(inner, x), layer.layers, x)


# Not in the oldest Keras.
if hasattr(layers, "Pipeline"):
    _structure(
        layers.Pipeline,
        (lambda: layers.Pipeline([layers.RandomFlip(), layers.Rescaling(0.5, 1.0)]), (6, 6, 3)),
    )(lower_pipeline)


@_structure(
    layers.SpectralNormalization,
    (lambda: layers.SpectralNormalization(layers.Conv2D(4, 3, activation="relu")), (6, 5, 2)),
)
def lower_spectral_normalization(layer, x, *, emit):
    return emit.call(layer.layer, x)
