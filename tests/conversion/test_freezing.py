"""What `convert` keeps for `fit` of the source network, and what it leaves out."""

import contracts
import keras
import networks
import numpy as np
import pytest
import running
from keras import layers

OPTIONS = [{}, {"bias_correction": True}, {"readout_delay": "auto"}, {"normalization": "auto"}]


def network(rng, frozen=()):
    inner = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")],
        name="inner",
    )
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, activation="relu", name="first")(inputs)
    x = layers.Dropout(0.5)(layers.ReLU()(inner(x)))
    x = layers.Flatten()(x)
    x = layers.Dense(
        5, activation="relu", kernel_regularizer="l2", kernel_constraint="non_neg", name="hidden"
    )(x)
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    networks.randomize(model, rng)
    for name in frozen:
        (inner if name in ("conv", "norm") else model).get_layer(name).trainable = False
    return model


# The names of layers that are frozen, and of those that are in the spiking model.
FROZEN = {
    "": set(),
    "first": {"first"},
    "inner last": {"inner_conv", "last"},
    # Folded into one layer, which trains as long as one of the two does.
    "conv": set(),
    "norm": set(),
    "conv norm": {"inner_conv"},
    "first inner hidden last": {"first", "inner_conv", "hidden", "last"},
}


@pytest.mark.parametrize(("frozen", "options"), running.pairs(FROZEN, OPTIONS), ids=str)
def test_layers_frozen_in_the_source_are_frozen(frozen, options, rng):
    model = network(rng, frozen.split())
    snn = contracts.convert(model, networks.data_for(model, rng), timesteps=3, **options)
    found = {layer.name for layer in snn.layers if layer.weights and not layer.trainable_weights}
    assert found == FROZEN[frozen]


def test_fit_moves_what_was_not_frozen_and_nothing_else(rng):
    model = network(rng, ("first", "inner"))
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=4)
    before = {layer.name: layer.get_weights() for layer in snn.layers}
    snn.compile(keras.optimizers.SGD(0.1), "mse")
    snn.fit(x, np.ones((len(x), 3)), verbose=0)
    moved = {
        layer.name
        for layer in snn.layers
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        if np.any(old != new)
    }
    assert moved == {"hidden", "last"}


def test_a_shared_layer_is_frozen_once(rng):
    tower = layers.Dense(4, activation="relu", name="shared")
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layers.Dense(2, name="last")(layers.Add()([tower(a), tower(b)])))
    networks.randomize(model, rng)
    tower.trainable = False
    snn = contracts.convert(model, networks.data_for(model, rng), timesteps=3)
    assert {layer.name for layer in snn.layers if layer.trainable_weights} == {"last"}


def test_penalties_and_constraints_of_rescaled_weights_are_dropped(rng):
    """Their weights are others: divided by λ, and with batch normalization in them."""
    model = network(rng)
    snn = contracts.convert(model, networks.data_for(model, rng), timesteps=3)
    assert model.losses
    assert snn.losses == []
    assert [v.constraint for v in snn.weights] == [None] * len(snn.weights)
