import keras
import numpy as np
import pytest

from keras_snn.layers import PerTimestep, Readout, SpikingSoftmax


def test_readout_is_the_average_so_far(rng):
    current = rng.normal(0, 1, (3, 8, 4, 2)).astype("float32")
    steps = np.arange(1, 9).reshape(1, 8, 1, 1)
    np.testing.assert_allclose(Readout()(current), current.cumsum(axis=1) / steps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((5,), -1), ((4, 3), -1), ((4, 3), -2)])
def test_softmax_is_that_of_the_average_so_far(shape, axis, rng):
    current = rng.normal(0, 3, (2, 6, *shape)).astype("float32")
    outputs = SpikingSoftmax(axis)(current)
    average = current.cumsum(axis=1) / np.arange(1, 7).reshape(1, 6, *(1,) * len(shape))
    e = np.exp(average - average.max(axis=axis, keepdims=True))
    np.testing.assert_allclose(outputs, e / e.sum(axis=axis, keepdims=True), rtol=0, atol=1e-6)


def test_softmax_counts_a_positive_axis_in_the_values_of_one_step(rng):
    current = rng.normal(0, 3, (2, 6, 4, 3)).astype("float32")
    outputs = SpikingSoftmax(axis=1)(current)
    np.testing.assert_allclose(outputs[:, -1], keras.layers.Softmax(axis=1)(current.mean(axis=1)), atol=1e-5)


@pytest.mark.parametrize("layer_class", [Readout, SpikingSoftmax])
def test_state_passed_on_continues_the_average(layer_class, rng):
    current = (rng.integers(-8, 9, (3, 10, 4)) / 4).astype("float32")
    layer = layer_class(return_state=True)
    whole, *end = layer(current)
    first, *state = layer(current[:, :3])
    second, *last = layer(current[:, 3:], initial_state=state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-6)
    for a, b in zip(last, end, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(end[1], [10, 10, 10])


def test_softmax_raises_when_there_is_no_such_method():
    with pytest.raises(ValueError, match="`method` must be one of 'potential'. Received: method='max'."):
        SpikingSoftmax(method="max")


def test_per_timestep_is_the_layer_at_every_step(rng):
    x = rng.normal(0, 1, (3, 5, 6, 7, 2)).astype("float32")
    layer = PerTimestep(keras.layers.Conv2D(4, 3))
    outputs = layer(x)
    for t in range(5):
        np.testing.assert_allclose(outputs[:, t], layer.layer(x[:, t]), rtol=0, atol=1e-5)


def test_per_timestep_repeats_a_constant_beside_a_sequence(rng):
    x, constant = rng.normal(0, 1, (2, 5, 3)), rng.normal(0, 1, (2, 1, 4))
    outputs = PerTimestep(keras.layers.Concatenate())([x.astype("float32"), constant.astype("float32")])
    expected = np.concatenate([x, np.repeat(constant, 5, axis=1)], axis=-1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
