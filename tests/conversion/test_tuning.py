import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn


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
