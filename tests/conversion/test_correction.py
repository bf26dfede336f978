import logging

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.neurons import Corrected
from keras_snn.simulation.compiled_functions import set_watch
from keras_snn.simulation.internals import internals

TIMESTEPS = 6


def dense_model(rng):
    inputs = keras.Input((5,))
    x = layers.Dense(7, activation="relu", name="a")(inputs)
    x = layers.Dense(6, activation="relu", name="b")(x)
    return networks.randomize(keras.Model(inputs, layers.Dense(3, name="c")(x)), rng)


def spikes_of(currents, added, charge):
    """IF neurons under currents `(steps, samples, units)`, half charged; their spikes."""
    v, train = 0.5 + charge, []
    for current in currents:
        v = v + current + added
        fires = (v >= 1).astype("float64")
        v = v - fires
        train.append(fires)
    return np.array(train)


def chosen_correction(currents, activation, variant):
    """Return the correction `(current, charge)` of a layer, of all that are tried the best, in NumPy."""
    is_check = np.arange(activation.shape[0]) % 4 == 3
    rates = spikes_of(currents, 0.0, 0.0).mean(axis=0)
    share = ((rates > 0) & (rates < 1))[~is_check].mean(axis=0)
    full = (activation - rates)[~is_check].mean(axis=0) / np.maximum(share, 0.05)
    tried = [(0.0, 0.0)]
    for factor in (1.0, 0.5, 0.25):
        potential, bias = (0.0, factor * full * TIMESTEPS), (factor * full, 0.0)
        tried += {"potential": [potential], "either": [potential, bias]}.get(variant, [bias])

    def error(correction):
        return np.square(activation - spikes_of(currents, *correction).mean(axis=0))[is_check].sum()

    return min(tried, key=error)


@pytest.mark.parametrize("variant", [True, "bias", "potential", "either"])
def test_correction_is_what_rates_lack_layer_by_layer(variant, rng):
    """In NumPy: the second layer lacks what it lacks after the corrected first one."""
    model = dense_model(rng)
    x = rng.uniform(0, 1, (200, 5)).astype("float32")
    snn = keras_snn.convert(model, x, timesteps=TIMESTEPS, bias_correction=variant, verbose=0)
    plain = keras_snn.convert(model, x, timesteps=TIMESTEPS, verbose=0)
    # Weights are those of the plain conversion; the correction is apart from them.
    for one, other in zip(snn.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    activation = x.astype("float64")
    train = np.repeat(activation[None], TIMESTEPS, axis=0)
    found, wanted = [], []
    for name in "ab":
        kernel, bias = (w.astype("float64") for w in plain.get_layer(name).get_weights())
        activation = np.maximum(activation @ kernel + bias, 0)
        currents = train @ kernel + bias
        wanted.append(chosen_correction(currents, activation, variant))
        train = spikes_of(currents, *wanted[-1])
        neuron = snn.get_layer(name).neuron
        parts = (neuron.current, neuron.potential) if isinstance(neuron, Corrected) else ((), ())
        found.append([np.asarray(part) if part else 0.0 for part in parts])
    assert any(np.any(part) for correction in wanted for part in correction)
    for one, other in zip(found, wanted, strict=True):
        for got, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_correction_that_does_not_help_is_left_out(rng):
    """In so many steps that rates are activations, means of few samples are noise."""
    model = dense_model(rng)
    x = rng.uniform(0, 1, (200, 5)).astype("float32")
    x[np.arange(200) % 4 == 3] = 0.0
    snn = keras_snn.convert(model, x, timesteps=TIMESTEPS, bias_correction=True, verbose=0)
    plain = keras_snn.convert(model, x, timesteps=TIMESTEPS, verbose=0)
    # Samples that check are all alike: what helps others does not help them.
    errors = [
        np.square(m.predict(x[3::4], verbose=0) - model.predict(x[3::4], verbose=0)).sum()
        for m in (snn, plain)
    ]
    assert errors[0] <= errors[1]


@pytest.mark.parametrize("neuron", ["if", "signed"])
def test_corrected_networks_come_closer_to_the_source(neuron, rng):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, samples=60)
    expected, errors = model.predict(x, verbose=0), {}
    for variant in (False, "potential"):
        snn = keras_snn.convert(
            model, x, timesteps=4, neuron=neuron, bias_correction=variant, per_channel=True, verbose=0
        )
        errors[variant] = np.mean((snn.predict(x, verbose=0) - expected) ** 2)
    assert errors["potential"] < errors[False]


@pytest.mark.parametrize("variant", ["bias", "potential"])
def test_corrected_networks_are_saved_and_still_know_their_source(variant, rng, tmp_path):
    """What `diagnose` takes for the source network is the one without corrections."""
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, samples=20)
    options = {"timesteps": 4, "neuron": "multi_threshold", "verbose": 0}
    snn = keras_snn.convert(model, x, bias_correction=variant, **options)
    contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, tmp_path / "snn.keras")
    plain = keras_snn.convert(model, x, **options)
    corrected, uncorrected = (keras_snn.diagnose(model, x).layers for model in (snn, plain))
    for one, other in zip(corrected, uncorrected, strict=True):
        assert one.activation == other.activation
    assert not np.array_equal(corrected[-1].rates, uncorrected[-1].rates)


@pytest.mark.parametrize("variant", ["bias", "potential"])
def test_spikes_of_corrected_neurons_are_counted(variant, rng):
    """They do not follow from the charge of their inputs."""
    model = dense_model(rng)
    x = rng.uniform(0, 1, (10, 5)).astype("float32")
    snn = keras_snn.convert(model, x, timesteps=TIMESTEPS, bias_correction=variant, verbose=0)
    expected = snn.simulate(x, record="spike_counts").spike_counts
    set_watch(snn, True)
    snn.predict(x, verbose=0)
    found = internals(snn).counter.read(TIMESTEPS)
    assert {name: layer.spikes for name, layer in found.items()} == {
        name: counts.sum() for name, counts in expected.items()
    }


def test_settling_ends_with_corrected_neurons(rng):
    """Without input nothing is added any more, so that neurons become silent."""
    model = dense_model(rng)
    x = rng.uniform(0, 1, (10, 5)).astype("float32")
    snn = keras_snn.convert(model, x, neuron="signed", timesteps=4, bias_correction=True, verbose=0)
    assert snn.simulate(x, settle=True).settling < 100


def test_many_layers_are_corrected_without_a_warning(rng, caplog):
    """TensorFlow takes their compiled functions for one, and warns of the fifth in a process."""
    inputs = x = keras.Input((3,))
    for _ in range(7):
        x = layers.Dense(4, activation="relu")(x)
    model = networks.randomize(keras.Model(inputs, layers.Dense(2)(x)), rng)
    x = rng.uniform(0, 1, (8, 3)).astype("float32")
    contracts.convert(model, x, timesteps=2, bias_correction=True)
    assert not caplog.records
    assert not logging.getLogger("tensorflow").filters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias_correction": True}, "`bias_correction` is chosen on `calibration_data`. Received: bias_c"),
        (
            {"bias_correction": "both"},
            "`bias_correction` must be one of 'auto', False, True, 'bias', 'potential', 'either'.",
        ),
        ({"readout_delay": "auto"}, "`readout_delay` is chosen on `calibration_data`. Received: readout_d"),
    ],
)
def test_convert_raises_when_there_is_nothing_to_choose_by(options, message, rng):
    with pytest.raises(ValueError) as raised:
        keras_snn.convert(dense_model(rng), **options)
    assert message in str(raised.value)
