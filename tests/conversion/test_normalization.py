import warnings

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion.normalization import (
    check_normalization,
    normalize,
    relus,
    scales_from_moments,
)
from keras_snn.conversion.spiking import to_spiking
from keras_snn.graph import nodes as kinds
from keras_snn.graph.evaluation import evaluate
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold
from keras_snn.neurons import IntegrateAndFire


def test_normalize_rescales_weights_and_biases_as_published(rng):
    """W → W·λ_in/λ_out, b → b/λ_out; no scale at the output."""
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="relu", name="a")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="c")(layers.Dense(6, activation="relu", name="b")(x)))
    networks.randomize(model, rng)
    a, b = rng.uniform(0.5, 5, 2)
    graph = normalize(lower(model), {"a/relu": a, "b/relu": b})
    weights = dict(zip("aAbBcC", model.get_weights(), strict=True))
    expected = {
        "a": (weights["a"] / a, weights["A"] / a),
        "b": (weights["b"] * a / b, weights["B"] / b),
        "c": (weights["c"] * b, weights["C"]),
    }
    for name, (kernel, bias) in expected.items():
        np.testing.assert_allclose(graph.nodes[name].kernel, kernel, rtol=1e-5)
        np.testing.assert_allclose(graph.nodes[name].bias, bias, rtol=1e-5)


def test_normalize_gives_both_branches_of_a_sum_its_scale(rng):
    graph = fold(lower(networks.build(networks.residual, rng)))
    normalized = normalize(graph, {node.name: float(rng.uniform(0.5, 3)) for node in relus(graph)})
    for add in (node for node in normalized.nodes.values() if isinstance(node, kinds.Add)):
        branches = [type(normalized.nodes[name]) for name in add.inputs]
        # The skipping branch is rescaled from its own scale to that of the sum.
        assert branches == [kinds.ChannelAffine, kinds.Affine]
        assert normalized.nodes[add.inputs[0]].scale.shape == ()


def test_normalize_scales_where_a_relu_saturates(rng):
    inputs = keras.Input((4,))
    graph = lower(keras.Model(inputs, layers.ReLU(max_value=6.0, name="r")(inputs)))
    assert normalize(graph, {"r": 2.0}).nodes["r"].max_value == 3.0


def test_normalize_raises_when_a_scale_is_not_positive(rng):
    graph = lower(networks.build(networks.plain, rng))
    name = relus(graph)[0].name
    with pytest.raises(ValueError, match=f"`scale of '{name}'` must be finite and above 0. Received"):
        normalize(graph, dict.fromkeys([node.name for node in relus(graph)], 0.0))


def test_threshold_scales_the_current_of_its_neurons(rng):
    graph = fold(lower(networks.build(networks.branches, rng)))
    scales = {node.name: 100.0 for node in relus(graph)}
    normalized = normalize(graph, scales)
    x = rng.uniform(0, 1, (3, 6, 6, 3))
    one, other = (
        to_spiking(normalized, IntegrateAndFire(v_threshold=v), scales, timesteps=9) for v in (1.0, 0.25)
    )
    np.testing.assert_allclose(evaluate(one, x), evaluate(graph, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluate(other, x), evaluate(graph, x), rtol=1e-4, atol=1e-5)
    spikes = [n for n in other.nodes.values() if isinstance(n, kinds.Spike)]
    assert {spike.scale for spike in spikes} == {100.0}


def test_scales_without_data_are_percentiles_of_what_batch_norm_knows(rng):
    """Inputs that have the mean and variance of the moving statistics give those percentiles."""
    inputs = keras.Input((6,))
    x = layers.ReLU(name="r")(layers.BatchNormalization()(inputs))
    model = networks.randomize(keras.Model(inputs, x), rng)
    _, _, mean, variance = model.get_weights()
    data = rng.normal(mean, np.sqrt(variance), (100_000, 6)).astype("float32")
    values = evaluate(lower(model), data)
    for percentile in (90, 99, 99.9):
        scale = scales_from_moments(lower(model), percentile)["r"]
        assert scale == pytest.approx(np.percentile(values[values > 0], percentile), rel=0.04)


def test_scales_without_data_follow_the_weights_where_there_is_no_batch_norm(rng):
    """Dense layers of many inputs have nearly normal outputs, so the estimate is close."""
    inputs = keras.Input((400,))
    x = layers.Dense(300, activation="relu", name="a")(inputs)
    x = layers.Dense(200, activation="relu", name="b")(x)
    model = networks.randomize(keras.Model(inputs, x), rng)
    graph = lower(model)
    values = evaluate(graph, rng.uniform(0, 1, (300, 400)), everything=True)
    scales = scales_from_moments(graph, 99.9)
    for name in ("a/relu", "b/relu"):
        positive = values[name][values[name] > 0]
        assert scales[name] == pytest.approx(np.percentile(positive, 99.9), rel=0.15)


@pytest.mark.parametrize("network", networks.NETWORKS, ids=lambda n: n.__name__)
def test_scales_without_data_are_positive_for_every_network(network, rng):
    graph = lower(networks.build(network, rng))
    for percentile in (50.0, 99.9, 100.0):
        scales = scales_from_moments(graph, percentile)
        assert scales.keys() == {node.name for node in relus(graph)}
        assert all(np.isfinite(scale) and scale > 0 for scale in scales.values())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("percentile", 0), ValueError, "`percentile` must be in (0, 100]. Received: percentile=0."),
        (("percentile", 100.5), ValueError, "Received: percentile=100.5. Use 99.9 to ignore"),
        (("percentile", float("nan")), ValueError, "Received: percentile=nan."),
        (("percentile", "99"), TypeError, "`percentile` must be a number. Received: percentile='99'."),
        (("mean", 99), ValueError, "`normalization` must be one of 'percentile', 'max', 'none'. Received"),
    ],
)
def test_check_normalization_raises_when_an_argument_is_wrong(arguments, error, message):
    with pytest.raises(error) as raised:
        check_normalization(*arguments)
    assert message in str(raised.value)


def test_max_is_the_hundredth_percentile():
    assert check_normalization("max", 99.9) == 100.0
    assert check_normalization("percentile", 99) == 99.0


def test_without_normalization_weights_stay(rng):
    model = networks.randomize(
        keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(2)]), rng
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        snn = keras_snn.convert(model, normalization="none")
    contracts.assert_same(snn.get_weights(), model.get_weights())
    assert [row.scale for row in snn.conversion_report.layers if row.scale] == [1.0]
