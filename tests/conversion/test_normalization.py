import dataclasses
import warnings

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion.calibration import Histogram, calibrate
from keras_snn.conversion.normalization import (
    ScaleRule,
    channels_apart,
    choose_scales,
    normalize,
    relus,
    trained_scales,
)
from keras_snn.conversion.place_neurons import to_spiking
from keras_snn.conversion.without_data import moments_without_data
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold
from keras_snn.layers import QuantizedClip
from keras_snn.neurons import Burst, IntegrateAndFire, MultiThreshold, SignedIntegrateAndFire


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
        to_spiking(normalized, lambda _, v=v: IntegrateAndFire(v_threshold=v), scales, timesteps=9)
        for v in (1.0, 0.25)
    )
    np.testing.assert_allclose(evaluate(one, x), evaluate(graph, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluate(other, x), evaluate(graph, x), rtol=1e-4, atol=1e-5)
    spikes = [n for n in other.nodes.values() if isinstance(n, kinds.Spike)]
    assert {spike.scale for spike in spikes} == {100.0}


def rule(method, percentile=99.9, timesteps=8, neuron=None):
    return ScaleRule(method, percentile, neuron or IntegrateAndFire(), timesteps)


def scales_without_data(graph, percentile):
    moments = moments_without_data(graph)
    normal = {name: Histogram.of_normal(*values, per_channel=False) for name, values in moments.items()}
    return choose_scales(graph, normal, lambda _: rule("percentile", percentile))


def test_scales_without_data_are_percentiles_of_what_batch_norm_knows(rng):
    """Inputs that have the mean and variance of the moving statistics give those percentiles."""
    inputs = keras.Input((6,))
    x = layers.ReLU(name="r")(layers.BatchNormalization()(inputs))
    model = networks.randomize(keras.Model(inputs, x), rng)
    _, _, mean, variance = model.get_weights()
    data = rng.normal(mean, np.sqrt(variance), (100_000, 6)).astype("float32")
    values = evaluate(lower(model), data)
    for percentile in (90, 99, 99.9):
        scale = scales_without_data(lower(model), percentile)["r"]
        assert scale == pytest.approx(np.percentile(values[values > 0], percentile), rel=0.04)


def test_scales_without_data_follow_the_weights_where_there_is_no_batch_norm(rng):
    """Dense layers of many inputs have nearly normal outputs, so the estimate is close."""
    inputs = keras.Input((400,))
    x = layers.Dense(300, activation="relu", name="a")(inputs)
    x = layers.Dense(200, activation="relu", name="b")(x)
    model = networks.randomize(keras.Model(inputs, x), rng)
    graph = lower(model)
    values = evaluate(graph, rng.uniform(0, 1, (300, 400)), everything=True)
    scales = scales_without_data(graph, 99.9)
    for name in ("a/relu", "b/relu"):
        positive = values[name][values[name] > 0]
        assert scales[name] == pytest.approx(np.percentile(positive, 99.9), rel=0.15)


@pytest.mark.parametrize("network", networks.NETWORKS, ids=lambda n: n.__name__)
def test_scales_without_data_are_positive_for_every_network(network, rng):
    graph = lower(networks.build(network, rng))
    for percentile in (50.0, 99.9, 100.0):
        scales = scales_without_data(graph, percentile)
        assert scales.keys() == {node.name for node in relus(graph)}
        assert all(np.isfinite(scale) and scale > 0 for scale in scales.values())


def histogram_of(values):
    """Count values `(samples, channels)` channel by channel."""
    inputs = keras.Input(values.shape[1:])
    graph = lower(keras.Model(inputs, layers.ReLU(name="r")(inputs)))
    channels = {"r": values.shape[1]}
    return calibrate(graph, values, batch_size=1000, verbose=0, channels=channels)["r"]


@pytest.mark.parametrize(
    ("neuron", "units", "largest"),
    [
        (IntegrateAndFire(), 5, 1.0),
        (IntegrateAndFire(v_threshold=0.3, initial_potential=0.0), 5, 1.0),
        (MultiThreshold(levels=3), 20, 1.75),
        (Burst(gamma=3), 5, 3.0),
        (SignedIntegrateAndFire(levels=7), 7, 1.0),
    ],
    ids=repr,
)
def test_mse_loses_no_more_than_any_other_scale(neuron, units, largest, rng):
    """λ·clip(floor(a/λ·units + V(0)), 0, …)/units: `units` of the smallest spike in λ, in 5 steps."""
    values = np.abs(rng.normal(0, [1.0, 4.0], (4000, 2))).astype("float32")

    def error(scale):
        rounded = np.floor(values / scale * units + neuron.initial_potential)
        rounded = np.clip(rounded, 0, round(largest * units)) * (scale / units)
        return ((values - rounded) ** 2).mean(axis=0)

    scales = rule("mse", timesteps=5, neuron=neuron).scales_of_each(histogram_of(values))
    # The values are rounded to bins of 2.2 %, and λ to 1 % of the maximum.
    least = error(scales)
    for factor in np.linspace(0.1, 1.5, 60):
        assert np.all(least <= error(scales * factor) * 1.02), factor
    assert scales[1] / scales[0] == pytest.approx(4.0, rel=0.15)


class Bins:
    """A histogram whose values are exact."""

    def __init__(self, values, counts, zeros=0):
        self.values, self.counts = np.array(values, float), np.array(counts)
        self.zeros = np.broadcast_to(zeros, len(self.counts))
        self.maximum = np.where(self.counts > 0, self.values, 0).max(axis=1)

    def used(self):
        return self.values, self.counts


@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize("neuron", [IntegrateAndFire, SignedIntegrateAndFire])
def test_mse_is_the_best_percentage_of_the_maximum(neuron, start, rng):
    """Channel by channel, the largest if several are: r = clip(floor(T·a/λ + V(0)), 0, T)/T."""
    neuron = neuron(initial_potential=start)
    values, counts = np.sort(rng.exponential(1, 40)), rng.integers(0, 90, (3, 40)) + [[3], [0], [0]]
    # Of these 1 % is the best: values far apart, and one step. And of these 100 %.
    few = Bins([0.01, 1.0], [[10**6, 1], [200, 10**6]])
    # And of these half of it is as good, when no potential is there at the start.
    tie = Bins([0.5, 1.0], [[300, 300]])
    cases = ((Bins(values, counts), 4), (Bins(values, counts), 1), (few, 1), (few, 2), (tie, 1))
    for bins, timesteps in cases:
        found = rule("mse", timesteps=timesteps, neuron=neuron).scales_of_each(bins)
        for scale, counts, largest in zip(found, bins.counts, bins.maximum, strict=True):
            errors = {}
            for percent in range(100, 0, -1):
                candidate = largest * percent / 100
                rounded = np.clip(np.floor(bins.values / candidate * timesteps + start), 0, timesteps)
                rounded = rounded * candidate / timesteps
                errors[candidate] = sum(counts * (bins.values - rounded) ** 2)
            assert scale == pytest.approx(min(errors, key=errors.get), rel=1e-12)


def test_mse_of_a_larger_scale_than_the_maximum_is_not_tried():
    """101 % would be better: its half is where nearly all values are."""
    bins = Bins([0.505, 1.0], [[1000, 1]])
    assert rule("mse", timesteps=2).scales_of_each(bins) == [1.0]


def test_ltb_is_its_equation(rng):
    """λ ← λ + 2·mean(max(a − λ, 0)) of all channels, until that adds less than 1 % to each."""
    counts, zeros = rng.integers(100, 900, (3, 30)), rng.integers(0, 9000, 3)
    bins = Bins(np.sort(rng.exponential(1, 30)), counts, zeros)
    scale, added = np.zeros(3), np.ones(3)
    while (added > 0.01 * scale).any():
        for i in range(3):
            clipped = np.maximum(bins.values - scale[i], 0)
            added[i] = 2 * (counts[i] * clipped).sum() / (counts[i].sum() + zeros[i])
        scale = scale + added
    np.testing.assert_allclose(rule("ltb").scales_of_each(bins), scale, rtol=1e-12)
    assert rule("ltb").scales_of_each(Bins([1.5], [[1]])) == [3.0]


def test_gaussian_is_mse_of_normal_currents(rng):
    """With data and without: on currents that are normal, nearly what the values themselves give."""
    mean, deviation = rng.normal(0, 1, 3), rng.uniform(0.5, 2, 3)
    values = rng.normal(mean, deviation, (50_000, 3)).astype("float32")
    normal = Histogram.of_normal(mean, deviation**2, per_channel=True)
    gaussian = rule("gaussian", timesteps=4).scales_of_each(normal)
    np.testing.assert_allclose(
        gaussian, rule("mse", timesteps=4).scales_of_each(histogram_of(values)), rtol=0.06
    )


def test_ltb_adds_what_is_clipped_until_that_is_little(rng):
    values = np.abs(rng.normal(0, 1, (5000, 2))).astype("float32")
    scale = np.zeros(2)
    while True:
        added = 2 * np.maximum(values - scale, 0).mean(axis=0)
        scale = scale + added
        if np.all(added <= 0.01 * scale):
            break
    np.testing.assert_allclose(rule("ltb").scales_of_each(histogram_of(values)), scale, rtol=0.02)


@pytest.mark.parametrize("method", ["percentile", "mse", "ltb"])
def test_channels_with_few_values_are_drawn_towards_their_layer(method, rng):
    """Logarithms are means, weighted by the number of values and 3,000; not of ranks, and up to a factor."""
    values = np.abs(rng.normal(0, 1, (2000, 5))).astype("float32")
    values[20:, 1] = values[:, 3] = 0
    values[:, 2] *= 3
    values[:, 4] *= 1e-5
    rule_of, histogram = rule(method), histogram_of(values)
    own, (of_layer,) = (rule_of.scales_of_each(h) for h in (histogram, histogram.pooled()))
    expected = own.copy()
    expected[[1, 3]] = of_layer
    if method != "percentile":
        expected[[0, 2]] = np.exp((2000 * np.log(own[[0, 2]]) + 3000 * np.log(of_layer)) / 5000)
        expected[4] = 4 * own[4]
    np.testing.assert_allclose(rule_of.scales(histogram), expected, rtol=1e-9)
    np.testing.assert_array_equal(rule_of.scales(histogram_of(np.zeros((5, 3), "float32"))), np.ones(3))


def test_a_channel_needs_100_values_for_a_scale_of_its_own(rng):
    values = rng.uniform(1, 2, (300, 3)).astype("float32")
    values[100:, 1] = values[99:, 2] = 0
    values[5] *= [3, 0.9, 0.8]
    largest = values.max(axis=0)
    expected = [largest[0], largest[1], largest[0]]
    np.testing.assert_array_equal(rule("max").scales(histogram_of(values)), expected)


def test_scales_are_chosen_for_relus_alone(rng):
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu", name="a")(inputs)
    x = layers.Dense(5, name="b")(x)
    x = keras.ops.sign(x)
    x = QuantizedClip(4, 1.7, name="c")(layers.Dense(5, name="d")(x))
    graph = lower(keras.Model(inputs, layers.Dense(3, activation="softmax", name="e")(x)))
    assert [node.name for node in relus(graph)] == ["a/relu", "c"]
    assert trained_scales(graph) == {"c": pytest.approx(1.7)}


class Values(tuple):
    """Activations, which are those of both when added."""

    def __add__(self, other):
        return Values((*self, *other))


class Largest:
    def scales(self, values):
        return np.array([max(values)])


def test_calls_of_one_layer_have_one_scale_and_no_others_have(rng):
    inputs = keras.Input((5,))
    one, two = (layers.Dense(5, activation="relu", name=name) for name in ("one", "two"))
    x = inputs
    for layer in (one, two, one, two, one):
        x = layer(x)
    graph = lower(networks.randomize(keras.Model(inputs, layers.ReLU(max_value=0.5, name="last")(x)), rng))
    names = [node.name for node in relus(graph)]
    # The first call has the largest.
    values = {name: Values(rng.uniform(1, 2, 3) + 6 - i) for i, name in enumerate(names)}
    ones, twos = (sum((values[name] for name in part), Values()) for part in (names[0:5:2], names[1:5:2]))
    expected = [max(ones), max(twos), max(ones), max(twos), max(ones), 0.5]
    assert choose_scales(graph, values, lambda _: Largest()) == dict(zip(names, expected, strict=True))
    # What was folded into one of the calls makes it another layer, as another number does, or none.
    third = graph.nodes[graph.nodes[names[2]].inputs[0]]
    for change in (
        {"kernel": 2 * third.kernel},
        {"bias": third.bias + 1},
        {"source": -1},
        {"kernel": 2 * third.kernel, "bias": third.bias + 1},
    ):
        other = graph.with_nodes({**graph.nodes, third.name: dataclasses.replace(third, **change)})
        scales = choose_scales(other, values, lambda _: Largest())
        assert scales[names[2]] == max(values[names[2]])
        assert scales[names[0]] == scales[names[4]] == max(values[names[0]] + values[names[4]])
    # As does another kind of node.
    first = graph.nodes[graph.nodes[names[0]].inputs[0]]
    common = {field: getattr(first, field) for field in ("name", "inputs", "shape", "origins", "source")}
    other = kinds.ChannelAffine(**common, scale=np.ones(()), shift=np.zeros(()))
    scales = choose_scales(graph.with_nodes({**graph.nodes, first.name: other}), values, lambda _: Largest())
    assert scales[names[0]] == max(values[names[0]])
    assert scales[names[2]] == scales[names[4]] == max(values[names[2]] + values[names[4]])
    nobody = {n.name: dataclasses.replace(n, source=None) for n in graph.nodes.values()}
    largest = {name: max(values[name]) for name in names[:5]}
    assert choose_scales(graph.with_nodes(nobody), values, lambda _: Largest()) == {**largest, "last": 0.5}


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_scales_are_a_number_or_one_for_each_channel(channels, rng):
    inputs = keras.Input((channels,))
    graph = lower(keras.Model(inputs, layers.ReLU(max_value=2.0, name="r")(inputs)))
    scales = rng.uniform(1, 3, channels)
    found = choose_scales(graph, {"r": _ConstantScale(scales)}, lambda _: _Constant())["r"]
    assert isinstance(found, float) == (channels == 1)
    np.testing.assert_array_equal(found, np.minimum(scales, 2.0) if channels > 1 else min(scales[0], 2.0))


@pytest.mark.parametrize(
    ("make", "shape", "depthwise"),
    [
        (lambda: layers.DepthwiseConv2D(2), (4, 4, 2), True),
        (lambda: layers.DepthwiseConv1D(2, depth_multiplier=2), (4, 2), True),
        (lambda: layers.Conv2D(4, 2, groups=4), (4, 4, 4), True),
        (lambda: layers.Conv2D(4, 2, groups=2), (4, 4, 4), False),
        (lambda: layers.Conv2D(4, 2), (4, 4, 1), False),
        (lambda: layers.Dense(4), (1,), False),
        (lambda: layers.MaxPooling2D(2), (4, 4, 3), False),
    ],
)
def test_channels_are_apart_after_depthwise_convolutions_or_on_demand(make, shape, depthwise):
    inputs = keras.Input(shape)
    x = make()(inputs)
    graph = lower(keras.Model(inputs, layers.ReLU(name="r")(x)))
    assert channels_apart(graph, lambda _: True) == {"r": x.shape[-1]}
    assert channels_apart(graph, lambda _: False) == ({"r": x.shape[-1]} if depthwise else {})


def test_a_single_value_has_no_channels():
    inputs = keras.Input(())
    assert channels_apart(lower(keras.Model(inputs, layers.ReLU()(inputs))), lambda _: True) == {}


def test_depthwise_convolutions_always_have_scales_per_channel(rng, tmp_path):
    inputs = keras.Input((6, 6, 3))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise")(inputs)
    x = layers.Conv2D(4, 1, activation="relu", name="pointwise")(x)
    model = networks.randomize(keras.Model(inputs, layers.Conv2D(2, 1, name="last")(x)), rng)
    data = rng.uniform(0, 1, (40, 6, 6, 3)).astype("float32")
    graph = lower(model)
    assert channels_apart(graph, lambda _: False) == {"depthwise/relu": 6}
    assert channels_apart(graph, lambda _: True) == {"depthwise/relu": 6, "pointwise/relu": 4}
    for normalization, with_data in (("percentile", data), ("mse", data), ("gaussian", data)):
        snn = keras_snn.convert(model, with_data, normalization=normalization, verbose=0)
        scales = {
            row.name: np.shape(row.scale) for row in snn.conversion_report.layers if row.scale is not None
        }
        assert scales == {"depthwise": (6,), "pointwise": ()}
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras").conversion_report
    assert loaded == snn.conversion_report
    assert str(loaded) == str(snn.conversion_report)


@pytest.mark.parametrize("network", networks.NETWORKS, ids=lambda n: n.__name__)
def test_normalize_keeps_the_function_with_scales_per_channel(network, rng):
    model = networks.build(network, rng)
    graph = fold(lower(model))
    scales = {name: rng.uniform(0.5, 3, size) for name, size in channels_apart(graph, lambda _: True).items()}
    # The calls of a shared layer have one.
    scales = choose_scales(
        graph, {name: _ConstantScale(scale) for name, scale in scales.items()}, lambda _: _Constant()
    )
    x = networks.data_for(model, rng, samples=4)
    contracts.assert_same(evaluate(normalize(graph, scales), x), evaluate(graph, x), tolerance=1e-4)


@dataclasses.dataclass
class _ConstantScale:
    scale: np.ndarray

    def __add__(self, other):
        return self


class _Constant:
    def scales(self, histogram):
        return histogram.scale


def test_max_is_the_largest_value(rng):
    values = rng.normal(0, 1, (300, 4)).astype("float32")
    np.testing.assert_array_equal(rule("max").scales(histogram_of(values)), values.max(axis=0))


def test_without_normalization_weights_stay(rng):
    model = networks.randomize(
        keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(2)]), rng
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        snn = keras_snn.convert(model, normalization="none")
    contracts.assert_same(snn.get_weights(), model.get_weights())
    assert [row.scale for row in snn.conversion_report.layers if row.scale] == [1.0]
