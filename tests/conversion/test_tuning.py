import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion import refining, tuning
from keras_snn.graph.program import with_readouts
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of


def network(rng):
    inputs = keras.Input((6,))
    x = layers.Dense(12, activation="relu")(inputs)
    x = layers.Dense(12, activation="relu")(x)
    model = networks.randomize(keras.Model(inputs, layers.Dense(4, activation="softmax")(x)), rng)
    return model, rng.uniform(0, 1, (64, 6)).astype("float32")


def test_auto_is_the_rule_that_comes_closest_to_the_source(rng):
    model, x = network(rng)
    expected = model.predict(x, verbose=0)
    errors = {}
    for normalization in ("percentile", "mse", "ltb"):
        snn = keras_snn.convert(model, x, timesteps=3, normalization=normalization, verbose=0)
        errors[normalization] = np.mean((snn.predict(x, verbose=0) - expected) ** 2)
    chosen = keras_snn.convert(model, x, timesteps=3, normalization="auto", verbose=0)
    assert chosen.conversion_report.options["normalization"] == min(errors, key=errors.get)
    found = np.mean((chosen.predict(x, verbose=0) - expected) ** 2)
    np.testing.assert_allclose(found, min(errors.values()), rtol=1e-5)
    assert len(set(errors.values())) == 3


def test_auto_without_data_is_gaussian(rng):
    model, _ = network(rng)
    with pytest.warns(UserWarning, match="without data"):
        snn = keras_snn.convert(model, timesteps=8, normalization="auto")
    assert snn.conversion_report.options["normalization"] == "gaussian"


def test_readout_delay_is_the_one_whose_average_is_closest(rng):
    """Averages of the last current from each step on, of the recorded spikes, in NumPy."""
    model, x = network(rng)
    timesteps = 10
    snn = keras_snn.convert(model, x, timesteps=timesteps, readout_delay="auto", verbose=0)
    run = keras_snn.convert(model, x, timesteps=timesteps, verbose=0).simulate(x, record="spike_trains")
    _, *_, last = model.layers
    weights = [w.astype("float64") for w in model.get_weights()]
    hidden = np.maximum(np.maximum(x @ weights[0] + weights[1], 0) @ weights[2] + weights[3], 0)
    scale = snn.conversion_report.layers[1].scale
    current = run.spike_trains[model.layers[2].name] * scale @ weights[4] + weights[5]
    wanted = hidden @ weights[4] + weights[5]
    errors = [np.mean((current[:, d:].mean(axis=1) - wanted) ** 2) for d in range(timesteps // 2)]
    assert snn.conversion_report.options["readout_delay"] == int(np.argmin(errors))
    assert snn.get_layer(last.name + "_softmax").delay == int(np.argmin(errors))


def deep(rng, layers_of_neurons):
    parts = [layers.Dense(16, activation="relu") for _ in range(layers_of_neurons)]
    model = keras.Sequential([keras.Input((6,)), *parts, layers.Dense(3)])
    return networks.randomize(model, rng), rng.uniform(0, 1, (64, 6)).astype("float32")


@pytest.mark.default_options
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize(
    ("layers_of_neurons", "initial_potential", "chosen"), [(1, 0.5, "uniform"), (5, 0.0, "linear")]
)
def test_the_weighting_is_the_one_whose_average_is_closest(
    layers_of_neurons, initial_potential, chosen, delay, rng
):
    """Averages in NumPy of the currents, differences of sums; where spikes come late, late ones count."""
    model, x = deep(rng, layers_of_neurons)
    neuron = keras_snn.neurons.IntegrateAndFire(initial_potential=initial_potential)
    options = {"timesteps": 12, "readout_delay": delay, "bias_correction": False}
    options |= {"neuron": neuron, "verbose": 0}
    plain = keras_snn.convert(model, x, readout_weighting="uniform", **options)
    counted = np.maximum(np.arange(1, 13) - delay, 0).reshape(1, -1, 1)
    currents = np.diff(plain.simulate(x).outputs_over_time.astype("float64") * counted, axis=1, prepend=0)
    wanted = model.predict(x, verbose=0)
    averages = {"uniform": currents.sum(axis=1) / counted.max()}
    averages["linear"] = (currents * counted).sum(axis=1) / counted.sum()
    errors = {name: np.mean((average - wanted) ** 2) for name, average in averages.items()}
    assert min(errors, key=errors.get) == chosen
    snn = keras_snn.convert(model, x, **options)
    assert snn.conversion_report.options["readout_weighting"] == chosen
    np.testing.assert_allclose(snn.predict(x, verbose=0), averages[chosen], rtol=0, atol=1e-5)


@pytest.mark.default_options
def test_outputs_that_weigh_the_steps_add_what_they_lack_on_the_average(rng):
    """Of the calibration data, channel by channel; and are closer than without."""
    neuron = keras_snn.neurons.IntegrateAndFire(initial_potential=0.0)
    for _ in range(20):
        model, x = deep(rng, 5)
        snn = keras_snn.convert(model, x, neuron=neuron, timesteps=12, verbose=0)
        if snn.conversion_report.options["readout_weighting"] == "linear":
            break
    assert snn.conversion_report.options["readout_weighting"] == "linear"
    lacks = model.predict(x, verbose=0) - snn.predict(x, verbose=0)
    np.testing.assert_allclose(lacks.mean(axis=0), 0, rtol=0, atol=1e-5)
    plain = build(with_readouts(program_of(snn), shift=0.0))
    others = model.predict(x, verbose=0) - plain.predict(x, verbose=0)
    assert np.abs(others.mean(axis=0)).min() > 1e-3
    np.testing.assert_allclose((others - others.mean(axis=0)) - lacks, 0, rtol=0, atol=1e-5)


@pytest.mark.default_options
@pytest.mark.parametrize(
    "options",
    [
        {"neuron": "signed"},
        {"neuron": "ttfs"},
        {"weight_bits": 8},
        {"input_encoding": "poisson"},
        {"preset": "rueckauer2017"},
        {"readout_weighting": "uniform"},
    ],
)
def test_the_weighting_stays_uniform(options, rng, monkeypatch):
    """Whatever would be chosen."""
    monkeypatch.setattr(refining, "choose_readout_weighting", lambda *args, **how: ("linear", {}))
    model, x = deep(rng, 6)
    snn = keras_snn.convert(model, x, timesteps=12, verbose=0, seed=0, **options)
    assert snn.conversion_report.options["readout_weighting"] == "uniform"


@pytest.mark.default_options
@pytest.mark.parametrize(("layers_of_neurons", "expected"), [(4, "uniform"), (5, "linear")])
def test_without_data_the_weighting_follows_from_the_depth(layers_of_neurons, expected, rng):
    model, x = deep(rng, layers_of_neurons)
    with pytest.warns(UserWarning, match="without data"):
        snn = keras_snn.convert(model, timesteps=12)
    assert snn.conversion_report.options["readout_weighting"] == expected
    with pytest.warns(UserWarning, match="without data"):
        other = keras_snn.convert(model, timesteps=12, readout_weighting=expected)
    np.testing.assert_array_equal(snn.predict(x, verbose=0), other.predict(x, verbose=0))


def test_a_settled_network_weighs_all_steps_alike(rng):
    """What is left of the input after its end has no number of its own."""
    model, x = deep(rng, 3)
    of_both = [
        keras_snn.convert(model, x, timesteps=8, readout_weighting=weighting, neuron="signed", verbose=0)
        for weighting in ("uniform", "linear")
    ]
    plain, weighted = (snn.simulate(x, settle=True) for snn in of_both)
    np.testing.assert_array_equal(weighted.outputs, plain.outputs)
    reference = keras_snn.quantized_reference(of_both[1]).predict(x, verbose=0)
    np.testing.assert_allclose(weighted.outputs, reference, rtol=0, atol=1e-5)
    assert not np.allclose(of_both[1].predict(x, verbose=0), of_both[0].predict(x, verbose=0))
    shifted = build(with_readouts(program_of(of_both[0]), shift=(1.0, 2.0, 3.0))).simulate(x, settle=True)
    np.testing.assert_allclose(shifted.outputs - plain.outputs, [[1, 2, 3]] * len(x), rtol=0, atol=1e-5)


@pytest.mark.default_options
@pytest.mark.parametrize("room", [1, 100])
def test_what_currents_at_every_step_take_is_bounded(room, rng, monkeypatch):
    """Batches are as small as need be, and the choice is the same."""
    model, x = deep(rng, 5)
    options = {"timesteps": 12, "bias_correction": False, "verbose": 0}
    wanted = keras_snn.convert(model, x, **options).conversion_report.options["readout_weighting"]
    seen = []

    def watch(model, data, observer, *, batch_size, verbose):
        seen.append((len(data), batch_size))
        return watched(model, data, observer, batch_size=batch_size, verbose=verbose)

    watched = tuning.watch
    monkeypatch.setattr(tuning, "watch", watch)
    # So many samples of three outputs at twelve steps, in float32.
    monkeypatch.setattr(tuning, "_BYTES_OF_BATCH", room * 4 * 12 * 3)
    found = keras_snn.convert(model, x, **options).conversion_report.options["readout_weighting"]
    assert found == wanted
    assert seen == [(64, min(room, 32))]
