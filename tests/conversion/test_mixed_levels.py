"""Levels that differ from layer to layer: fewer operations, as exact as with the same everywhere."""

import contracts
import keras
import networks
import numpy as np
import pytest
import running
from keras import layers

import keras_snn
from keras_snn.conversion.relays import with_relays
from keras_snn.conversion.rounding import RoundedNetwork
from keras_snn.conversion.sending_costs import SendingCosts, reach_of
from keras_snn.conversion.tuning import spread
from keras_snn.graph import nodes as kinds
from keras_snn.graph.branches import with_branches
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold, free_output_relus
from keras_snn.neurons import DigitCode, TimeToFirstSpike
from keras_snn.simulation.source import program_of

MIXED = DigitCode(31, "auto", mixed=True)


@pytest.fixture(autouse=True)
def in_float64():
    """Rounding of floats must not decide which error is larger."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def convert(model, x, neuron, **options):
    """Without corrections, so that only rounding matters."""
    options = {"normalization": "mse", "per_channel": True, "bias_correction": False, **options}
    return contracts.convert(model, x, neuron=neuron, dtype="float64", **options)


def bottleneck(rng):
    """Depthwise and pointwise convolutions, a sum that no relu rectifies, and a residual connection of it."""
    x = inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    x = first = layers.Conv2D(6, 1)(x)
    x = layers.Conv2D(24, 1, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Add()([first, layers.Conv2D(6, 1)(x)])
    x = layers.Conv2D(32, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return networks.randomize(keras.Model(inputs, layers.Dense(4)(x)), rng)


def neurons_of(snn):
    nodes = program_of(snn).graph.nodes.values()
    return {node.name: node.neuron for node in nodes if isinstance(node, kinds.Spike)}


def error(snn, model, x):
    """Mean square of what the outputs lack, relative to how they vary."""
    exact = model.predict(x, verbose=0).astype("float64")
    varies = exact - exact.mean(axis=-1, keepdims=True)
    return np.mean((snn.predict(x, verbose=0) - exact) ** 2) / np.mean(varies**2)


@pytest.mark.parametrize("relays", ["auto", True, False])
def test_mixed_levels_take_fewer_operations_and_lose_no_more_on_samples_that_judge(relays, rng):
    model = bottleneck(rng)
    x = rng.normal(size=(64, 8, 8, 2)).astype("float32")
    same = convert(model, x, DigitCode(31, "auto"), relays=relays)
    mixed = convert(model, x, MIXED, relays=relays)
    needed = [keras_snn.count_operations(snn, x).operations_with_updates for snn in (same, mixed)]
    assert needed[1] <= needed[0]
    # Every second sample judges.
    assert error(mixed, model, x[1::2]) <= (1 + 1e-9) * error(same, model, x[1::2])
    if relays is not False:
        assert needed[1] < 0.95 * needed[0]
        assert len({neuron.levels for neuron in neurons_of(mixed).values()}) > 1
    assert not any(neuron.mixed or neuron.base == "auto" for neuron in neurons_of(mixed).values())
    if relays != "auto":
        assert any(neuron.is_signed for neuron in neurons_of(mixed).values()) == relays
    contracts.assert_same(
        mixed.predict(x, verbose=0), keras_snn.quantized_reference(mixed).predict(x, verbose=0)
    )


def test_a_layer_that_outputs_heed_less_has_fewer_levels(rng):
    inputs = keras.Input((10,))
    parts = [layers.Dense(16, activation="relu", name=name)(inputs) for name in ("heeded", "ignored")]
    model = networks.randomize(
        keras.Model(inputs, layers.Dense(4, name="last")(layers.Concatenate()(parts))), rng
    )
    (kernel, bias), other = model.get_layer("heeded").get_weights(), rng.permutation(16)
    model.get_layer("ignored").set_weights([kernel[:, other], bias[other]])
    weights, last_bias = model.get_layer("last").get_weights()
    weights[16:] *= 0.01
    model.get_layer("last").set_weights([weights, last_bias])
    snn = convert(model, rng.normal(size=(200, 10)), MIXED)
    levels = {name.split("/")[0]: neuron.levels for name, neuron in neurons_of(snn).items()}
    assert min(levels.values()) < max(levels.values())
    (few,) = (number for name, number in levels.items() if "ignored" in name)
    assert few == min(levels.values())


@pytest.mark.parametrize("signed", [False, True])
def test_rounding_changes_the_outputs_as_in_numpy(signed, rng):
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu")(inputs)
    x = layers.Dense(4)(layers.Dense(3, activation=None if signed else "relu")(x))
    model = networks.randomize(keras.Model(inputs, layers.Dense(2, activation="softmax")(x)), rng)
    graph = with_relays(fold(lower(model)))
    data = rng.normal(size=(9, 6)).astype("float32").astype("float64")
    network = RoundedNetwork(graph, [data[:4], data[4:]], dtype="float64", batch_size=2)
    name = next(n.name for n in graph.nodes.values() if getattr(n, "is_relay", False) == signed and rounds(n))
    hidden = np.maximum(data[4:] @ (w := weights_of(model))[0] + w[1], 0)
    units = rng.uniform(0.1, 0.3, graph.nodes[name].shape)
    place = next(i for i, layer in enumerate(model.layers[1:]) if layer.units == len(units))

    def outputs(rounded):
        y = data[4:]
        for i in range(4):
            y = y @ w[2 * i] + w[2 * i + 1]
            y = np.maximum(y, 0) if i == 0 or (i == 1 and not signed) else y
            if rounded and i == place:
                k = np.clip(np.floor(y / units + 0.5), -5 if signed else 0, 5)
                y = k * units
        return y

    assert hidden.shape == (5, 5)
    exact = outputs(False)
    wanted = np.mean((outputs(True) - exact) ** 2) / np.var(exact, axis=-1).mean()
    np.testing.assert_allclose(network.error(1, {name: (5, units)}), wanted, rtol=1e-9)
    assert network.error(1, {}) == 0
    assert network.error(0, {name: (5, units)}) > 0


def rounds(node):
    return isinstance(node, kinds.Activation) and node.has_scale


def weights_of(model):
    return [np.asarray(w, "float64") for w in model.get_weights()]


@pytest.mark.parametrize(
    "network",
    running.thorough(networks.NETWORKS, quick=range(0, len(networks.NETWORKS), 2)),
    ids=running.named,
)
def test_the_model_of_updates_differs_between_codes_as_the_counts_do(network, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng, samples=2)
    graph = with_relays(fold(with_branches(free_output_relus(lower(model)))))
    costs = SendingCosts(graph)
    names = [node.name for node in graph.nodes.values() if rounds(node)]
    modelled, counted = [], []
    for code in (TimeToFirstSpike(9), DigitCode(15, 4)):
        sent = dict.fromkeys(names, Sent(code.base, code.window))
        modelled.append(costs.total(sent))
        for group in names:
            others = costs.total({**sent, group: Sent(None, 0)})
            part = costs.around([group], {**sent, group: Sent(None, 0)}) - costs.around([group], sent)
            assert others - costs.total(sent) == part
        snn = convert(model, x, code, relays=True)
        counted.append(keras_snn.count_operations(snn, x).updates)
    assert modelled[1] - modelled[0] == counted[1] - counted[0]


def test_windows_of_different_bases_add_up_where_they_meet(rng):
    inputs = keras.Input((6,))
    parts = [layers.Dense(5, activation="relu", name=name)(inputs) for name in "ab"]
    model = networks.randomize(keras.Model(inputs, layers.Dense(4)(layers.Concatenate()(parts))), rng)
    x = rng.normal(size=(8, 6))
    graph = with_relays(fold(lower(model)))
    costs = SendingCosts(graph)
    modelled, counted = [], []
    for codes in ((DigitCode(15, 4), DigitCode(15, 4)), (DigitCode(15, 4), DigitCode(15, 2))):
        options = {name: {"neuron": code} for name, code in zip("ab", codes, strict=True)}
        snn = convert(model, x, codes[0], layer_options=options)
        counted.append(keras_snn.count_operations(snn, x).updates)
        names = [node.name for node in graph.nodes.values() if rounds(node)]
        sent = {name: Sent(code.base, code.window) for name, code in zip(names, codes, strict=True)}
        modelled.append(costs.total(sent))
    assert modelled[1] - modelled[0] == counted[1] - counted[0] > 0


class Sent:
    additions = 0.0

    def __init__(self, base, window):
        self.base, self.window = base, window


def test_values_reach_as_many_weights_as_spikes_add(rng):
    """All weights are positive and so are all neurons, each of which sends one spike."""
    x = inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    parts = [layers.Conv2D(4, 2, strides=2, padding="same", activation="relu")(x), layers.Conv2D(4, 1)(x)]
    parts[1] = layers.MaxPooling2D(2, padding="same")(layers.ReLU()(parts[1]))
    x = layers.ReLU()(layers.Add()(parts))
    x = layers.Flatten()(layers.Concatenate()([x, parts[0]]))
    model = keras.Model(inputs, layers.Dense(3)(x))
    model.set_weights([rng.uniform(0.5, 1, w.shape) for w in model.get_weights()])
    graph = with_relays(fold(lower(model)))
    names = [node.name for node in graph.nodes.values() if rounds(node)]
    reached = sum(part.sum() for of_one in reach_of(graph, names).values() for part in of_one)
    data = rng.uniform(0.5, 1, (4, 8, 8, 2))
    snn = convert(model, data, TimeToFirstSpike(2**16), normalization="max", per_channel=False)
    counts = keras_snn.count_operations(snn, data)
    assert sum(layer.additions.sum() for layer in counts.layers) == reached


def test_calls_of_a_shared_layer_have_the_same_levels(rng):
    model = networks.build(networks.shared, rng)
    x = networks.data_for(model, rng, samples=32)
    snn = convert(model, x, MIXED)
    by_layer = {}
    for name, neuron in neurons_of(snn).items():
        by_layer.setdefault(name.split("/call_")[0].split("/")[0], set()).add(neuron.levels)
    assert by_layer
    assert all(len(levels) == 1 for levels in by_layer.values())


def test_options_of_a_layer_stay_and_without_data_levels_are_the_same(rng):
    model = bottleneck(rng)
    x = rng.normal(size=(16, 8, 8, 2))
    name = model.layers[1].name
    snn = convert(model, x, MIXED, layer_options={name: {"neuron": DigitCode(7, 2)}})
    assert snn.get_layer(name).neuron == DigitCode(7, 2)
    with pytest.warns(UserWarning, match="without data"):
        without = keras_snn.convert(model, neuron=MIXED)
    assert {neuron.levels for neuron in neurons_of(without).values()} == {31}


def test_levels_that_are_tried_are_from_an_eighth_to_four_times_as_many():
    assert [one.levels for one in DigitCode(63, "auto", mixed=True).mixtures] == [
        *(7, 11, 15, 23, 31, 47, 63, 95, 127, 191, 255),
    ]
    assert [one.levels for one in DigitCode(63, 16, mixed=True).mixtures][:3] == [15, 23, 31]
    assert DigitCode(63, "auto").mixtures == TimeToFirstSpike(63).mixtures == ()
    assert all(not one.mixed and one.base == "auto" for one in MIXED.mixtures)
    with pytest.raises(ValueError, match="`mixed` must be .* Received: mixed='yes'"):
        DigitCode(63, mixed="yes")


def test_samples_come_from_all_over_the_data():
    batches = Parts(100)
    np.testing.assert_array_equal(spread(batches, 4), [0, 25, 50, 75])


class Parts:
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        for start in range(0, self.samples, 8):
            yield np.arange(start, min(start + 8, self.samples)), None
