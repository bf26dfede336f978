import math

import keras
import numpy as np
import pytest

from keras_snn.layers import PoissonEncoder
from keras_snn.layers.random_numbers import key_of, uniform


def chi_square_limit(freedom):
    """99.9999 % quantile of chi-square, by Wilson and Hilferty."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


def test_numbers_are_uniform_and_independent():
    key = keras.ops.arange(64, dtype="int32")
    numbers = np.stack(
        [uniform(3, key, keras.ops.full((64,), t, dtype="int32"), (16, 16)) for t in range(1, 33)]
    )
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=256, range=(0, 1))
    expected = numbers.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < chi_square_limit(255)
    # Neighbours in time, in the batch and in place: 5 standard deviations of a correlation of nothing.
    centred = numbers - 0.5
    for axis in range(numbers.ndim):
        first, second = np.delete(centred, -1, axis), np.delete(centred, 0, axis)
        assert abs(np.mean(first * second)) * 12 < 5 / math.sqrt(first.size)
    other = np.asarray(uniform(4, key, keras.ops.full((64,), 1, dtype="int32"), (16, 16))) - 0.5
    assert abs(np.mean(other * centred[0])) * 12 < 5 / math.sqrt(other.size)


def test_key_distinguishes_samples_by_content_alone(rng):
    x = rng.normal(0, 100, (50, 7, 3)).astype("float32")
    keys = keras.ops.convert_to_numpy(key_of(x))
    assert len(set(keys.tolist())) == 50
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(key_of(x[13:20])), keys[13:20])
    changed = x.copy()
    changed[:, 6, 2] += 0.01
    assert not np.any(keras.ops.convert_to_numpy(key_of(changed)) == keys)


def test_rates_are_proportional_to_the_input(rng):
    x = rng.uniform(-4, 4, (1, 1, 400)).astype("float32")
    samples, steps = 40, 50
    layer = PoissonEncoder(rate=0.5, scale=4.0, seed=7)
    spikes = keras.ops.convert_to_numpy(layer(np.tile(x, (samples, steps, 1)))).reshape(-1, 400)
    assert set(np.unique(spikes)) == {-1, 0, 1}
    p = x[0, 0] / 4 * 0.5
    # Each of 400 rates within 5 standard deviations of a binomial.
    assert np.all(
        np.abs(spikes.mean(axis=0) - p) <= 5 * np.sqrt(np.abs(p) * (1 - np.abs(p)) / len(spikes)) + 1e-9
    )


def test_zero_never_fires_and_the_scale_always_does():
    x = np.repeat(np.array([[[0.0, 3.0, -3.0]]], "float32"), 100, axis=1)
    spikes = PoissonEncoder(scale=3.0)(x)
    np.testing.assert_array_equal(spikes, np.sign(x))


def test_seed_and_state_determine_the_spikes(rng):
    x = rng.uniform(0, 1, (3, 12, 5)).astype("float32")
    layer = PoissonEncoder(seed=1, return_state=True)
    whole, *end = layer(x)
    first, *state = layer(x[:, :5])
    second, *last = layer(x[:, 5:], initial_state=state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    for a, b in zip(last, end, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(PoissonEncoder(seed=1)(x), whole)
    assert np.any(np.asarray(PoissonEncoder(seed=2)(x)) != np.asarray(whole))


def test_samples_of_a_batch_differ(rng):
    x = np.full((2, 200, 1), 0.5, "float32")
    spikes = np.asarray(PoissonEncoder()(x))
    assert np.any(spikes[0] != spikes[1])


def test_a_stateful_encoder_goes_on(rng):
    x = rng.uniform(0, 1, (3, 8, 5)).astype("float32")
    layer = PoissonEncoder(stateful=True)
    halves = [np.asarray(layer(x[:, :4])), np.asarray(layer(x[:, 4:]))]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), PoissonEncoder()(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0}, "`rate` must be in (0, 1]. Received: rate=0."),
        ({"rate": 1.5}, "`rate` must be in (0, 1]. Received: rate=1.5."),
        ({"scale": -1}, "`scale` must be finite and above 0. Received: scale=-1."),
        ({"seed": -3}, "`seed` must be at least 0. Received: seed=-3."),
    ],
)
def test_bad_arguments_raise(arguments, message):
    with pytest.raises(ValueError) as error:
        PoissonEncoder(**arguments)
    assert str(error.value) == message
