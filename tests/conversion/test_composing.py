"""Linear maps in a row become one where that takes fewer operations, exactly, and count as what they were."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.analysis.input_shares import InputShares, input_shares
from keras_snn.conversion.composing import with_composed_maps
from keras_snn.conversion.place_neurons import place_readouts, to_spiking
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold
from keras_snn.graph.program import make_program
from keras_snn.neurons import IntegrateAndFire
from keras_snn.simulation.source import source_graph


def _start(filters=4):
    return layers.Conv2D(filters, 3, padding="same", activation="relu")


def _bottlenecks(x):
    for i in range(2):
        y = layers.Conv2D(8, 1, activation="relu", name=f"expand_{i}")(x)
        x = layers.Add()([x, layers.Conv2D(4, 1, name=f"project_{i}")(y)])
    return layers.Conv2D(6, 3, padding="same", activation="relu", name="last")(x)


def _side_by_side(x):
    y = layers.Concatenate()([layers.Conv2D(2, 3, padding="same", name="a")(x), x])
    return layers.Conv2D(5, 1, activation="relu", name="last")(layers.BatchNormalization()(y))


def _sum(x):
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(x)
    return layers.Conv2D(5, 3, padding="same", activation="relu", name="last")(layers.Average()([x, y]))


def _maxout(x):
    x = layers.Maximum()([layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x)])
    return layers.Conv2D(5, 3, padding="same", activation="relu", name="last")(x)


def _two():
    """Return the sum of two transposed convolutions, one of which does not overlap."""
    sides = [layers.Conv2DTranspose(3, size, 2, padding="same") for size in (2, 3)]
    return lambda x: layers.Add()([side(x) for side in sides])


def _up(make):
    """Return what upsamples beside an image of the larger size, as U-Nets do."""

    def apply(x):
        large = layers.Conv2DTranspose(2, 2, 2, activation="relu", name="large")(x)
        y = layers.Concatenate()([large, make()(x)])
        return layers.Conv2D(4, 3, padding="same", activation="relu", name="last")(y)

    return apply


def _in_a_row(*made):
    def apply(x):
        for layer in made:
            x = layer()(x)
        return layers.ReLU()(x)

    return apply


# Name: the network after its first layer, and the layers whose weights meet numbers if nothing is composed.
NETWORKS = {
    "separable": (
        _in_a_row(lambda: layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, name="last")),
        ["last"],
    ),
    "bottlenecks": (_bottlenecks, ["expand_1", "last"]),
    "side by side": (_side_by_side, ["last"]),
    "a sum": (_sum, ["last"]),
    "1 × 1 before a window at a border": (
        _in_a_row(
            lambda: layers.Conv2D(3, 1, name="first"),
            lambda: layers.Conv2D(4, 3, padding="same", strides=2, name="last"),
        ),
        ["last"],
    ),
    "moved": (
        _in_a_row(
            lambda: layers.Conv2D(2, 1, name="first"),
            lambda: layers.UpSampling2D(2),
            lambda: layers.ZeroPadding2D((1, 2)),
            lambda: layers.Conv2D(4, 3, name="last"),
        ),
        ["last"],
    ),
    "depthwise after": (
        _in_a_row(
            lambda: layers.Conv2D(2, 1, name="first"),
            lambda: layers.DepthwiseConv2D(3, padding="same", name="last"),
        ),
        ["last"],
    ),
    "transposed": (
        _in_a_row(
            lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same", name="first"),
            lambda: layers.Conv2D(4, 1, name="last"),
        ),
        ["last"],
    ),
    "maxima of sums": (_maxout, ["last"]),
    "a window after a transposed one": (
        _up(lambda: layers.Conv2DTranspose(3, 3, 2, padding="same")),
        ["last"],
    ),
    "a window after a large transposed one": (
        _up(lambda: layers.Conv2DTranspose(2, 8, 2, padding="same")),
        ["last"],
    ),
    "a window after one that does not overlap": (_up(lambda: layers.Conv2DTranspose(3, 2, 2)), ["last"]),
    "a window after an interpolation": (
        _up(lambda: layers.UpSampling2D(2, interpolation="bilinear")),
        ["last"],
    ),
    "a window after a sum of transposed ones": (_up(_two), ["last"]),
    "dense": (
        _in_a_row(lambda: layers.Dense(2, name="first"), lambda: layers.Dense(6, name="last")),
        ["last"],
    ),
}


def _model(name, rng):
    after, weighted = NETWORKS[name]
    inputs = keras.Input((6, 5, 3))
    x = after(_start()(inputs))
    x = layers.Dense(3, name="out")(layers.Flatten()(layers.Conv2D(3, 1, activation="relu")(x)))
    model = networks.randomize(keras.Model(inputs, x), rng)
    return model, rng.uniform(size=(16, 6, 5, 3)).astype("float32"), weighted


@pytest.mark.parametrize("name", NETWORKS)
def test_composed_maps_compute_the_same(name, rng):
    model, x, _ = _model(name, rng)
    graph = fold(lower(model))
    composed = with_composed_maps(graph, {})
    assert composed is not graph
    np.testing.assert_allclose(evaluate(composed, x), evaluate(graph, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_get_spikes_and_count_as_those_of_the_source(name, rng, tmp_path):
    model, x, weighted = _model(name, rng)
    snn = keras_snn.convert(model, x, timesteps=4, normalization="max", verbose=0)
    y = model.predict_on_batch(x)
    np.testing.assert_allclose(evaluate(source_graph(snn)[0], x), y, rtol=1e-5, atol=1e-5)
    snn.save(tmp_path / "snn.keras")
    counts = keras_snn.count_operations(keras.models.load_model(tmp_path / "snn.keras"), x)
    of_model = keras_snn.count_operations(model)
    layers_of = {layer.name: layer for layer in counts.layers}
    for layer in weighted:
        assert layers_of[layer].additions.sum() > 0
        assert not layers_of[layer].multiply_adds.any()
    # A bias of every place is kept as such.
    kept = [] if any(layer.biases and not layer.weights for layer in counts.layers) else ["ann_footprint"]
    macs, expected = (
        sum(layer.macs for layer in found.layers if layer.is_of_source) for found in (counts, of_model)
    )
    assert macs == expected
    # The weights of b have the sign of a − b in them, once nothing else takes b.
    kept += [] if name == "maxima of sums" else ["ann_operations"]
    for metric in ("ann_dense", *kept):
        assert getattr(counts, metric) == pytest.approx(getattr(of_model, metric)), metric


def test_maps_before_a_move_may_have_fewer_channels_than_it(rng):
    """At a rate of 1 the first two maps stay apart, and all three become one."""
    row = _in_a_row(
        lambda: layers.Conv2D(1, 1, name="first"),
        lambda: layers.Conv2D(3, 1, name="second"),
        lambda: layers.UpSampling2D(2),
        lambda: layers.Conv2D(4, 3, padding="same", name="last"),
    )
    inputs = keras.Input((6, 5, 3))
    model = networks.randomize(keras.Model(inputs, layers.Flatten()(row(_start()(inputs)))), rng)
    x = rng.uniform(size=(8, 6, 5, 3)).astype("float32")
    graph = fold(lower(model))
    rates = {node.name: np.ones(()) for node in graph.nodes.values() if isinstance(node, kinds.Activation)}
    composed = with_composed_maps(graph, rates)
    assert "second" not in composed.nodes
    np.testing.assert_allclose(evaluate(composed, x), evaluate(graph, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("encoding", ["current", "poisson"])
def test_constants_beside_spikes_are_apart_from_them(encoding, rng):
    inputs = keras.Input((6,))
    y = layers.Dense(5, activation="relu")(inputs)
    x = layers.Dense(4, activation="relu", name="last")(layers.Concatenate()([inputs, y]))
    model = networks.randomize(keras.Model(inputs, layers.Dense(3)(x)), rng)
    x = rng.uniform(size=(16, 6)).astype("float32")
    options = {"timesteps": 8, "normalization": "max", "input_encoding": encoding, "seed": 1}
    snn = keras_snn.convert(model, x, **options, verbose=0)
    (layer,) = [one for one in snn.conversion_report.layers if one.name == "last"]
    assert layer.takes == ("45 % spikes, 55 % constants" if encoding == "current" else "spikes")
    # What it approximates is the source network.
    found = evaluate(source_graph(snn)[0], x)
    np.testing.assert_allclose(found, model.predict_on_batch(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.2, 0.24, 0.3, 0.6, 1.0])
def test_maps_are_composed_where_that_takes_fewer_operations(rate, rng):
    inputs = keras.Input((7, 6, 2))
    x = layers.ReLU(name="relu")(layers.Conv2D(8, 3)(inputs))
    x = layers.SeparableConv2D(8, 3, activation="relu", name="last")(x)
    model = networks.randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))), rng)
    graph = fold(lower(model))
    composed = with_composed_maps(graph, {"relu": rate})
    # Per place: 3 · 3 weights of 8 channels, then 8 · 8; or 3 · 3 of 8 · 8.
    apart = rate * 72 + 2 * (1 - (1 - rate) ** 9) * 64
    assert ("last/depthwise" not in composed.nodes) == (rate * 9 * 64 < apart)


def test_zero_skipping_counts_what_the_first_of_two_maps_skips(rng, tmp_path):
    """The first map skips its zeros; what is between the maps is not 0."""
    inputs = keras.Input((6, 5, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="relu")(inputs)
    x = layers.Dense(3, use_bias=False, name="first")(x)
    x = layers.Dense(2, activation="relu", name="last", use_bias=False)(x)
    model = networks.randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))), rng)
    x = rng.normal(size=(8, 6, 5, 2)).astype("float32")
    snn = keras_snn.convert(model, x, timesteps=2, verbose=0)
    counts = keras_snn.count_operations(snn, x)
    (layer,) = [one for one in counts.layers if one.name == "last"]
    values = keras.Model(inputs, model.get_layer("relu").output).predict_on_batch(x)
    active = np.count_nonzero(values) / len(x)
    assert layer.ann_zero_skipping == pytest.approx(2 * (active * 3 + 6 * 5 * 3 * 2))
    # That is an estimate, and looks like one wherever it is shown; other layers are counted.
    assert [one.name for one in counts.layers if one.is_estimated] == ["last"]
    last, without = f"≈ {layer.zero_skipping:,.0f}", f"≈ {counts.zero_skipping_operations:,.0f}"
    assert f"{without} without zeros" in counts.headline
    assert [row[2] for row in counts.tables()[0] if "≈" in row[2]] == [last, without]
    assert [row[1][0] for row in counts.tables()[1][1:]].count("≈") == 2
    assert "≈: estimate" in str(counts)
    pytest.importorskip("matplotlib")
    assert "an estimated" in keras_snn.report(snn, x, path=tmp_path / "report.html").summary
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert last in page
    assert "≈: estimate" in page


def _takes(model):
    """Return what layers take by path, of composed maps without relays."""
    composed = with_composed_maps(fold(lower(model)), {})
    graph = to_spiking(composed, lambda _: IntegrateAndFire(), {}, timesteps=1)
    return input_shares(make_program(place_readouts(graph), timesteps=1))


def test_windows_after_windows_stay_apart(rng):
    """NIR has no zeros around what a convolution gives, by which one of both would differ at borders."""
    inputs = keras.Input((6, 5, 2))
    x = _in_a_row(
        _start,
        lambda: layers.Conv2D(3, 3, padding="same", name="first"),
        lambda: layers.Conv2D(4, 3, padding="same", name="last"),
    )(inputs)
    model = networks.randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))), rng)
    graph = fold(lower(model))
    assert with_composed_maps(graph, {}) is graph
    assert _takes(model)["last"].hint == "put a relu after 'first', whose output is no spikes"
    x = rng.normal(size=(4, 6, 5, 2)).astype("float32")
    assert keras_snn.check(model, x).share_of_spikes == 1


def test_maps_of_too_many_weights_stay_apart_and_the_hint_is_true():
    def taken(*made):
        inputs = keras.Input((4, 4, 2))
        x = layers.Conv2D(256, 1, activation="relu")(inputs)
        for layer in made:
            x = layer(x)
        model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))
        return sum(_takes(model).values(), InputShares())

    shares = taken(layers.SeparableConv2D(512, 3, name="separable"))
    assert shares.hint == "make it two layers, with a relu between them"
    assert shares.spikes < 0.1 * shares.numbers
    assert not taken(layers.DepthwiseConv2D(3), layers.ReLU(), layers.Conv2D(512, 1)).numbers
