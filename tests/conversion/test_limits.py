"""Neurons that can exceed rate 1 saturate where their relu does, whatever the scales are."""

import contracts
import keras
import numpy as np
import pytest
import running
from keras import layers

from keras_snn.neurons import Burst, Corrected, Delayed, MultiThreshold

NEURONS = [
    MultiThreshold(2),
    MultiThreshold(4, v_threshold=0.7),
    Burst(2),
    Burst(5, v_threshold=1.3),
    Delayed(MultiThreshold(3), 1),
]
SCALES = [
    {"per_channel": per_channel, **options}
    for options in ({"normalization": "percentile", "percentile": 45}, {"normalization": "mse"})
    for per_channel in (False, True)
]


def saturating(rng, limit, channels=5):
    """A relu with a limit that some channels exceed, some nearly reach and some do not; and data."""
    inputs = keras.Input((channels,))
    x = layers.Dense(channels, use_bias=False, name="dense")(inputs)
    x = layers.ReLU(max_value=limit, name="relu")(x)
    model = keras.Model(inputs, layers.Dense(channels, use_bias=False, name="last")(x))
    gains = limit * rng.permutation([0.7, 1.05, 1.4, 1.9, 3.1])
    model.set_weights([np.diag(gains), np.eye(channels)])
    return model, rng.uniform(0, 1, (300, channels)).astype("float32")


@pytest.mark.parametrize(("neuron", "options"), running.pairs(NEURONS, SCALES), ids=str)
def test_outputs_reach_the_limit_as_time_goes_on(neuron, options, rng):
    limit = float(rng.uniform(0.3, 7))
    model, x = saturating(rng, limit)
    snn = contracts.convert(model, x, timesteps=4, neuron=neuron, **options)
    # One batch.
    x = x[:32]
    scale = np.asarray(snn.conversion_report.layers[0].scale)
    # Activations beyond all that the neuron can give at once are clipped, as those of any neuron.
    expected = np.minimum(model.predict(x, verbose=0), scale * snn.get_layer("dense").neuron.largest_spike)
    for timesteps in (16, 64, 256):
        outputs = snn.simulate(x, timesteps=timesteps).outputs
        # Half a smallest spike, and what a delayed neuron misses of the first step.
        assert np.abs(outputs - expected).max() <= 2 * limit / (timesteps - 1)


@pytest.mark.parametrize("neuron", [MultiThreshold(3), Burst(3)], ids=str)
def test_scales_divide_the_limit_and_move_little(neuron, rng):
    limit = rng.uniform(0.5, 8, 200)
    scale = limit / rng.uniform(1, neuron.largest_spike, 200)
    fitted = neuron.fitted_scale(scale, limit)
    units = limit / fitted / neuron.unit
    np.testing.assert_allclose(units, np.round(units), rtol=1e-12)
    assert np.all(np.abs(units - limit / scale / neuron.unit) <= 0.5)
    limited = neuron.limited(limit / fitted)
    np.testing.assert_allclose(limited.largest_spike * fitted, limit, rtol=1e-12)
    assert Corrected(neuron, (1.0,)).limited(limit / fitted).neuron == limited
    # A limit beyond all that the neuron can give does not matter.
    far = limit / (neuron.largest_spike * 1.01)
    np.testing.assert_array_equal(neuron.fitted_scale(far, limit), far)


@pytest.mark.parametrize("neuron", ["multi_threshold", "burst"])
def test_limits_of_channels_are_saved(neuron, rng, tmp_path):
    model, x = saturating(rng, 0.9)
    options = {"per_channel": True, "normalization": "percentile", "percentile": 45}
    # Of few values, channels would be drawn towards one scale.
    snn = contracts.convert(
        model, np.repeat(x, 500, axis=0), neuron=neuron, timesteps=7, batch_size=5000, **options
    )
    loaded = contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, tmp_path / "snn.keras")
    assert loaded.get_layer("dense").neuron == snn.get_layer("dense").neuron
    assert np.ndim(snn.get_layer("dense").neuron.largest_spike) == 1
    contracts.law_13_a_model_and_its_program_are_the_same(contracts.program_of(snn))
