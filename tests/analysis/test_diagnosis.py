import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import diagnose, neurons
from keras_snn.analysis.diagnosis import PARTS
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.simulation.source import source_graph


def network(rng):
    model = keras.Sequential(
        [
            keras.Input((7, 6, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2, strides=1),
            layers.Conv2D(5, 2, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(6, name="dense"),
            layers.ReLU(max_value=1.5, name="relu"),
            layers.Dense(3, activation="softmax", name="label"),
        ]
    )
    return networks.randomize(model, rng)


def products(relu, norm):
    """Of inputs, and of what neurons are before."""
    first, second = (keras.Input((5,)) for _ in range(2))
    x = layers.Dense(6, activation=relu())(layers.Multiply()([first, second]))
    return keras.Model([first, second], layers.Dense(3)(layers.Multiply()([x, layers.Dense(6)(x)])))


def activations_of(model, x):
    """Activations of the source network by name of the spiking layer that they become."""
    names = {"conv1": "conv1", "conv2": "conv2", "dense": "relu"}
    outputs = {ours: model.get_layer(theirs).output for ours, theirs in names.items()}
    inner = keras.Model(model.inputs, outputs)
    return {name: value.astype("float64") for name, value in inner.predict(x, verbose=0).items()}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *((make, {}) for make in networks.NETWORKS),
        (networks.plain, {"neuron": neurons.IntegrateAndFire(v_threshold=0.7)}),
        (networks.branches, {"input_encoding": "poisson", "seed": 3}),
        (products, {}),
    ],
)
def test_source_graph_computes_what_the_source_does(make, options, rng):
    model = networks.build(make, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=3, normalization="percentile", percentile=90, **options)
    graph, activations = source_graph(snn)
    contracts.assert_same(evaluate(graph, x), model(x, training=False), tolerance=1e-4)
    assert set(activations) == {row.name for row in snn.conversion_report.layers if row.scale is not None}


@pytest.mark.parametrize("timesteps", [3, 11])
def test_diagnose_compares_rates_with_activations(timesteps, rng):
    """Computed again from the source model, spike counts, and the charge that the neurons got."""
    model = network(rng)
    x = networks.data_for(model, rng, samples=9)
    neuron = neurons.IntegrateAndFire(v_threshold=0.5, initial_potential=0.25)
    snn = keras_snn.convert(model, x, timesteps=timesteps, percentile=95, neuron=neuron, verbose=0)
    found = snn.conversion_report.compare(snn, x, batch_size=4)
    assert (found.timesteps, found.samples) == (timesteps, 9)
    run = snn.simulate(x, record=["spike_counts", "membrane_potentials"])
    scales = {row.name: row.scale for row in snn.conversion_report.layers}
    expected = activations_of(model, x)
    assert [layer.name for layer in found.layers] == list(expected)
    for layer in found.layers:
        scale, a = scales[layer.name], expected[layer.name]
        rate = run.spike_counts[layer.name].astype("float64") / timesteps
        charge = run.membrane_potentials[layer.name][:, -1].astype("float64") - 0.25 * 0.5
        given = (charge / 0.5 + run.spike_counts[layer.name]) / timesteps
        assert layer.scale == scale
        np.testing.assert_allclose(layer.activation, a.mean(), rtol=1e-5)
        np.testing.assert_allclose(layer.firing_rate, rate.mean(), rtol=1e-12)
        np.testing.assert_allclose(layer.saturated, np.mean(rate == 1), rtol=1e-12)
        np.testing.assert_allclose(layer.silent, np.mean(rate == 0), rtol=1e-12)
        np.testing.assert_allclose(layer.correlation, np.corrcoef(a.ravel(), rate.ravel())[0, 1], rtol=1e-4)
        clipped, given = np.minimum(a, scale), np.clip(given, 0, 1)
        # Where the input ends on a multiple of 1/T, rounding of floats decides.
        rounded = np.clip(np.floor(given * timesteps + 0.25 + 1e-6), 0, timesteps) / timesteps
        parts = {
            "error": scale * rate - a,
            "clipping": clipped - a,
            "inherited": scale * given - clipped,
            "quantisation": scale * (rounded - given),
            "unevenness": scale * (rate - rounded),
        }
        parts["added"] = parts["error"] - parts["inherited"]
        for name, part in parts.items():
            error = getattr(layer, name)
            close = {"rtol": 1e-4, "atol": 2e-5 * scale, "err_msg": name}
            np.testing.assert_allclose(error.mean, np.abs(part).mean(), **close)
            np.testing.assert_allclose(error.largest, np.abs(part).max(), **close)
            relative = np.sqrt(np.mean(part**2) / np.mean(a**2))
            np.testing.assert_allclose(error.relative, relative, rtol=1e-4, atol=1e-4)
    assert found.worst is max(found.layers, key=lambda layer: layer.added.relative)


def one_layer(kernel):
    """Neurons whose current is `kernel` times an input of 1, with λ = 1."""
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(len(kernel), "relu", use_bias=False, name="hidden"), layers.Dense(2)]
    )
    model.layers[0].set_weights([np.array([kernel])])
    return model, np.ones((1, 1), "float32")


def test_diagnose_splits_the_error_of_one_layer_as_calculated():
    """Activations −1, 0.3, 0.5 and 2 with λ = 1 and 4 steps: rates 0, 0.25, 0.5 and 1."""
    model, x = one_layer([-1.0, 0.3, 0.5, 2.0])
    snn = keras_snn.convert(model, x, timesteps=4, normalization="none", verbose=0)
    (layer,) = diagnose(snn, x).layers
    assert (layer.firing_rate, layer.saturated, layer.silent) == (0.4375, 0.25, 0.25)
    assert layer.unevenness.largest == layer.inherited.largest == 0
    np.testing.assert_allclose([layer.clipping.mean, layer.clipping.largest], [0.25, 1.0])
    np.testing.assert_allclose(layer.quantisation.mean, 0.05 / 4, rtol=1e-6)
    np.testing.assert_allclose(layer.quantisation.largest, 0.05, rtol=1e-6)
    power = np.mean(np.square([0, 0.3, 0.5, 2.0]))
    np.testing.assert_allclose(layer.error.relative, np.sqrt((1 + 0.05**2) / 4 / power), rtol=1e-6)
    np.testing.assert_array_equal(layer.rates, [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(layer.activations, [0, 0.3, 0.5, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    "neuron", ["signed", "multi_threshold", "burst", neurons.SignedIntegrateAndFire(levels=4)]
)
def test_every_neuron_rounds_a_constant_current_as_well_as_it_can(neuron, rng):
    model = network(rng)
    x = networks.data_for(model, rng, samples=9)
    options = {"normalization": "percentile", "percentile": 60, "neuron": neuron}
    first, *_ = diagnose(contracts.convert(model, x, timesteps=7, **options), x).layers
    assert first.unevenness.largest < 1e-6
    assert first.quantisation.largest > 0.001
    assert (first.clipping.largest > 0) == (neuron != "burst")


def test_diagnose_finds_unevenness_where_a_reset_loses_charge():
    """Current 0.6 reset to zero fires at every second step; an ideal neuron 3 times in 5."""
    model, x = one_layer([0.6])
    neuron = neurons.IntegrateAndFire(reset="zero", initial_potential=0.0)
    snn = keras_snn.convert(model, x, timesteps=10, normalization="none", neuron=neuron, verbose=0)
    (layer,) = diagnose(snn, x).layers
    assert layer.firing_rate == 0.5
    np.testing.assert_allclose(layer.unevenness.mean, 0.1)
    np.testing.assert_allclose(layer.quantisation.mean, 0, atol=1e-6)


@pytest.mark.compiled
def test_a_delayed_layer_has_its_rate_from_when_it_starts(rng):
    model = network(rng)
    x = networks.data_for(model, rng)
    found = diagnose(keras_snn.convert(model, x, timesteps=400, delay=40, verbose=0), x)
    plain = diagnose(keras_snn.convert(model, x, timesteps=400, verbose=0), x)
    for layer, other in zip(found.layers, plain.layers, strict=True):
        np.testing.assert_allclose(layer.firing_rate, other.firing_rate, atol=0.02)
        assert layer.correlation > 0.999


@pytest.mark.parametrize("function", ["sign", "heaviside"])
def test_a_binary_network_has_no_error_under_constant_input(function, rng):
    model = keras.Sequential([keras.Input((5,))])
    for units in (8, 6):
        model.add(layers.Dense(units))
        model.add(keras_snn.layers.BinaryActivation(function))
    model.add(layers.Dense(3))
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    for layer in diagnose(keras_snn.convert(model, x, timesteps=3, verbose=0), x).layers:
        assert layer.error.largest == 0
        assert all(getattr(layer, name).largest == 0 for name in PARTS)


def test_events_are_compared_with_their_average(rng):
    model = network(rng)
    x = networks.data_for(model, rng)
    snn = keras_snn.convert(model, x, timesteps=6, input_encoding="events", verbose=0)
    events = np.stack([0.5 * x, 1.5 * x] * 4, axis=1)
    expected = activations_of(model, x)
    for layer in diagnose(snn, events).layers:
        np.testing.assert_allclose(layer.activation, expected[layer.name].mean(), rtol=1e-4)


def test_diagnose_depends_on_neither_batches_nor_order(rng):
    model = networks.build_dyadic(networks.residual, rng)
    x = networks.data_for(model, rng, dyadic=True)
    snn = contracts.convert(model, x, timesteps=4)
    whole, parts = diagnose(snn, x), diagnose(snn, x[::-1], batch_size=5)
    for a, b in zip(whole.layers, parts.layers, strict=True):
        for name in ("activation", "firing_rate", "saturated", "silent", "correlation"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9)
        for name in ("error", "added", *PARTS):
            first, second = getattr(a, name), getattr(b, name)
            np.testing.assert_allclose(first.mean, second.mean, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(first.largest, second.largest, rtol=1e-9, atol=1e-12)


def test_a_diagnosis_prints_a_row_for_every_layer(rng):
    model = network(rng)
    x = networks.data_for(model, rng)
    found = diagnose(keras_snn.convert(model, x, timesteps=4, verbose=0), x)
    lines = str(found).splitlines()
    assert lines[0].split()[-4:] == list(PARTS)
    assert [line.split()[0] for line in lines[2:5]] == ["conv1", "conv2", "dense"]
    assert f"Largest added error: '{found.worst.name}'." in lines[-1]
    assert max(map(len, lines)) <= 110


def test_diagnose_raises_when_a_model_does_not_spike(rng):
    with pytest.raises(TypeError, match="`model` must be a SpikingModel. Received: Sequential."):
        diagnose(network(rng), np.zeros((1, 7, 6, 2)))
