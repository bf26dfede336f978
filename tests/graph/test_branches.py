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
from keras_snn.simulation.source import source_graph


def _leaky():
    return layers.LeakyReLU(0.1)


def _learned():
    return layers.PReLU(shared_axes=[1, 2])


def _by_place():
    return layers.PReLU()


def _volumes():
    return layers.PReLU(shared_axes=[1, 2, 3])


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


def _windows(activation, rng, layer, *, shape=(7, 6, 4), beside=False):
    """Return a network with a window of some kind after leaky activations, and data."""
    inputs = keras.Input(shape)
    x = activation()(layers.Dense(4)(inputs))
    if beside:
        x = layers.Concatenate()([x, activation()(layers.Dense(2)(inputs))])
    x = layers.ReLU()(layer(x))
    model = keras.Model(inputs, layers.Dense(3, name="last")(layers.Flatten()(x)))
    return networks.randomize(model, rng), rng.uniform(size=(12, *shape)).astype("float32")


NETWORKS = {
    "leaky": (_leaky, {}),
    "learned": (_learned, {"between": [layers.BatchNormalization, lambda: layers.ZeroPadding2D(1)]}),
    "pooled": (_leaky, {"between": [lambda: layers.MaxPooling2D(2, padding="same")]}),
    "pooled, learned": (_learned, {"between": [lambda: layers.MaxPooling2D(2)]}),
    "side by side": (_leaky, {"route": True}),
    "by place": (_by_place, {}),
}


WINDOWS = {
    "transposed": (_leaky, lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same", name="w"), {}),
    "depthwise": (_leaky, lambda: layers.DepthwiseConv2D(3, padding="same", name="w"), {}),
    "depthwise, side by side": (
        _learned,
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, name="w"),
        {"beside": True},
    ),
    "groups": (_learned, lambda: layers.Conv2D(6, 3, groups=2, name="w"), {}),
    "a series": (
        lambda: layers.LeakyReLU(0.2),
        lambda: layers.DepthwiseConv1D(3, padding="same", name="w"),
        {"shape": (9, 3)},
    ),
    "a series, transposed": (_leaky, lambda: layers.Conv1DTranspose(3, 4, 2, name="w"), {"shape": (5, 3)}),
    "volumes, transposed": (
        _volumes,
        lambda: layers.Conv3DTranspose(2, 2, 2, name="w"),
        {"shape": (3, 2, 3, 2)},
    ),
    "volumes": (_volumes, lambda: layers.Conv3D(6, 2, padding="same", name="w"), {"shape": (3, 4, 3, 2)}),
}


def _of_windows(name, rng):
    activation, layer, options = WINDOWS[name]
    return _windows(activation, rng, layer(), **options)


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_of_any_kind_get_spikes_and_count_once(name, rng, tmp_path):
    model, x = _of_windows(name, rng)
    graph = lower(model)
    np.testing.assert_allclose(evaluate(with_branches(graph), x), evaluate(graph, x), rtol=1e-5, atol=1e-5)
    snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
    # Exact but for neurons: the network that the spiking one approximates is the source network.
    source, _ = source_graph(snn)
    np.testing.assert_allclose(evaluate(source, x), evaluate(graph, x), rtol=1e-4, atol=1e-5)
    snn.save(tmp_path / "snn.keras")
    counts = keras_snn.count_operations(keras.models.load_model(tmp_path / "snn.keras"), x)
    of_model = keras_snn.count_operations(model)
    layer, alone = ({one.name: one for one in found.layers}["w"] for found in (counts, of_model))
    assert not layer.multiply_adds.any()
    assert layer.macs == alone.macs
    assert counts.ann_dense == pytest.approx(of_model.ann_dense)


def test_slopes_of_every_place_leave_spikes_to_a_convolution(rng):
    inputs = keras.Input((6, 5, 3))
    slope = layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.05, 0.5))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="w")(slope(layers.Dense(3)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    x = rng.normal(size=(12, 6, 5, 3)).astype("float32")
    snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
    np.testing.assert_allclose(
        evaluate(source_graph(snn)[0], x), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    layer = {one.name: one for one in keras_snn.count_operations(snn, x).layers}["w"]
    assert layer.additions.sum() > 0
    assert not layer.multiply_adds.any()


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


def test_what_is_computed_of_inputs_may_be_beside_leaky_activations(rng):
    """As the labels of a conditional generator are."""
    noise, label = keras.Input((6,)), keras.Input((3,))
    x = layers.LeakyReLU(0.2)(layers.Dense(32)(noise))
    of_label = layers.Reshape((4, 4, 1))(layers.Dense(16)(label))
    x = layers.Concatenate()([layers.Reshape((4, 4, 2))(x), of_label])
    x = layers.ReLU()(layers.Conv2D(3, 3, padding="same", name="taking")(x))
    model = networks.randomize(keras.Model([noise, label], layers.Dense(2)(layers.Flatten()(x))), rng)
    x = [rng.uniform(size=(12, n)).astype("float32") for n in (6, 3)]
    snn = keras_snn.convert(model, x, timesteps=256, normalization="max", verbose=0)
    (layer,) = [one for one in snn.conversion_report.layers if one.name == "taking"]
    assert "spikes" in layer.takes
    assert "numbers" not in layer.takes
    y = model.predict(x, verbose=0)
    assert np.abs(snn.predict(x, verbose=0) - y).max() < 0.05 * np.abs(y).max()
