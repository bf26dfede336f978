"""Weights after a leaky activation get spikes of both its sides, and count once."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.graph.branches import with_branches
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate


def _leaky():
    return layers.LeakyReLU(0.1)


def _learned():
    return layers.PReLU(shared_axes=[1, 2])


def _by_place():
    return layers.PReLU()


def _network(activation, rng, *, between=(), route=False):
    inputs = keras.Input((8, 8, 2))
    x = first = activation()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inputs)))
    for make in between:
        x = make()(x)
    x = activation()(layers.Conv2D(3, 3, padding="same", name="second")(x))
    if route:
        x = layers.Concatenate()([x, first, layers.ReLU()(layers.Conv2D(2, 1)(inputs))])
    x = layers.Dense(3, name="last")(
        layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="third")(x))
    )
    model = networks.randomize(keras.Model(inputs, x), rng)
    return model, rng.uniform(size=(12, 8, 8, 2)).astype("float32")


NETWORKS = {
    "leaky": (_leaky, {}),
    "learned": (_learned, {"between": [layers.BatchNormalization, lambda: layers.ZeroPadding2D(1)]}),
    "pooled": (_leaky, {"between": [lambda: layers.MaxPooling2D(2, padding="same")]}),
    "pooled, learned": (_learned, {"between": [lambda: layers.MaxPooling2D(2)]}),
    "side by side": (_leaky, {"route": True}),
    "by place": (_by_place, {}),
}


@pytest.mark.parametrize(("activation", "options"), NETWORKS.values(), ids=NETWORKS)
def test_it_computes_the_same(activation, options, rng):
    model, x = _network(activation, rng, **options)
    graph = lower(model)
    np.testing.assert_allclose(evaluate(with_branches(graph), x), evaluate(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["pooled", "side by side"])
def test_weights_get_spikes_and_count_once(name, rng, tmp_path):
    activation, options = NETWORKS[name]
    model, x = _network(activation, rng, **options)
    snn = keras_snn.convert(model, x, timesteps=256, normalization="max", verbose=0)
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(snn.predict(x, verbose=0), y, atol=0.05 * np.abs(y).max())
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    counts = keras_snn.count_operations(loaded, x, timesteps=8)
    layers_of = {layer.name: layer for layer in counts.layers}
    source = {layer.name: layer for layer in keras_snn.count_operations(model).layers}
    for layer in ("second", "third", "last"):
        assert not layers_of[layer].multiply_adds.any()
        assert layers_of[layer].macs == source[layer].macs
    assert counts.ann_dense == pytest.approx(keras_snn.count_operations(model).ann_dense)
    assert counts.footprint > counts.ann_footprint
