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


@pytest.mark.parametrize("delay", [0, 3, 12])
@pytest.mark.parametrize("layer_class", [Readout, SpikingSoftmax])
def test_the_state_gives_the_last_output(layer_class, delay, rng):
    current = rng.normal(0, 1, (3, 10, 4)).astype("float32")
    layer = layer_class(delay=delay, return_state=True)
    _, *state = layer(current)
    average = current[:, delay:].sum(axis=1) / max(10 - delay, 1)
    e = np.exp(average)
    expected = average if layer_class is Readout else e / e.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(layer.read(state), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("layer_class", [Readout, SpikingSoftmax])
def test_linear_weighting_counts_later_steps_more(layer_class, delay, rng):
    """In one call and in two; the n-th step that counts, n times. Each channel has a shift of its own."""
    current = rng.normal(0, 1, (3, 9, 4)).astype("float32")
    shift = rng.normal(0, 1, 4)
    layer = layer_class(delay=delay, weighting="linear", shift=tuple(shift.tolist()), return_state=True)
    outputs, *state = layer(current)
    first, *between = layer(current[:, :5])
    second, *_ = layer(current[:, 5:], initial_state=between)
    for t in range(delay, 9):
        weights = np.arange(1, t + 2 - delay)
        average = np.average(current[:, delay : t + 1], axis=1, weights=weights) + shift
        expected = average if layer_class is Readout else softmax(average)
        np.testing.assert_allclose(outputs[:, t], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), outputs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(layer.read(state), outputs[:, -1], rtol=0, atol=1e-6)


def test_softmax_raises_when_spikes_that_are_drawn_would_be_weighted():
    with pytest.raises(ValueError, match="`weighting` must be 'uniform' for a method that draws"):
        SpikingSoftmax(method="clock", weighting="linear")


def test_softmax_raises_when_there_is_no_such_method():
    message = "`method` must be one of 'potential', 'poisson', 'clock'. Received: method='max'."
    with pytest.raises(ValueError, match=message):
        SpikingSoftmax(method="max")


def test_per_timestep_is_the_layer_at_every_step(rng):
    x = rng.normal(0, 1, (3, 5, 6, 7, 2)).astype("float32")
    layer = PerTimestep(keras.layers.Conv2D(4, 3))
    outputs = keras.ops.convert_to_numpy(layer(x))
    for t in range(5):
        expected = keras.ops.convert_to_numpy(layer.layer(x[:, t]))
        np.testing.assert_allclose(outputs[:, t], expected, rtol=0, atol=1e-5)


def test_per_timestep_repeats_a_constant_beside_a_sequence(rng):
    x, constant = rng.normal(0, 1, (2, 5, 3)), rng.normal(0, 1, (2, 1, 4))
    outputs = PerTimestep(keras.layers.Concatenate())([x.astype("float32"), constant.astype("float32")])
    expected = np.concatenate([x, np.repeat(constant, 5, axis=1)], axis=-1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_readout_leaves_out_the_first_steps(rng):
    current = rng.normal(0, 1, (3, 8, 4)).astype("float32")
    outputs = np.asarray(Readout(delay=3)(current))
    assert not outputs[:, :3].any()
    for t in range(3, 8):
        np.testing.assert_allclose(outputs[:, t], current[:, 3 : t + 1].mean(axis=1), rtol=1e-5, atol=1e-6)
    of_softmax = np.asarray(SpikingSoftmax(delay=3)(current))
    np.testing.assert_allclose(of_softmax[:, 5], softmax(current[:, 3:6].mean(axis=1)), atol=1e-6)


def test_poisson_softmax_fires_with_the_probabilities_of_its_potential(rng):
    # A current at the first step only: the potential, and so the probabilities, stay.
    potential, copies, steps = rng.normal(0, 1, (4, 6)), 60, 50
    current = np.zeros((copies, 4, steps, 6), "float32")
    current[:, :, 0] = potential
    current = current.reshape(-1, steps, 6)
    spikes = np.asarray(SpikingSoftmax(method="poisson", seed=5)(current))
    p = softmax(potential)
    assert set(np.unique(spikes)) == {0, 1}
    # 24 rates, each within 5 standard deviations of a binomial.
    rates = spikes.reshape(copies, 4, steps, 6).mean(axis=(0, 2))
    assert np.all(np.abs(rates - p) <= 5 * np.sqrt(p * (1 - p) / (copies * steps)))


def test_poisson_softmax_integrates_without_reset(rng):
    current = rng.normal(0, 1, (3, 20, 5)).astype("float32")
    _, potential, steps, _ = SpikingSoftmax(method="poisson", return_state=True)(current)
    np.testing.assert_allclose(potential, current.sum(axis=1), atol=1e-5)
    np.testing.assert_array_equal(steps, [20, 20, 20])


def test_clocked_softmax_fires_the_largest_potential_and_resets(rng):
    samples, steps = 100, 80
    current = (rng.integers(-8, 9, (samples, steps, 5)) / 8).astype("float32")
    spikes = np.asarray(SpikingSoftmax(method="clock", seed=2)(current))
    ticks = spikes.sum(axis=-1)
    assert set(np.unique(ticks)) == {0, 1}
    # Binomial with p = 0.3, 5 standard deviations.
    assert abs(ticks.mean() - 0.3) <= 5 * np.sqrt(0.21 / ticks.size)
    for sample in range(samples):
        v = np.zeros(5)
        for t in range(steps):
            v = v + current[sample, t]
            if ticks[sample, t]:
                assert spikes[sample, t, v.argmax()] == 1
                v = np.zeros(5)


@pytest.mark.parametrize("method", ["poisson", "clock"])
def test_spiking_softmax_goes_on_from_its_state_and_its_seed_determines_the_spikes(method, rng):
    current = (rng.integers(-8, 9, (3, 40, 4)) / 8).astype("float32")
    layer = SpikingSoftmax(method=method, seed=1, return_state=True)
    whole, *end = layer(current)
    first, *state = layer(current[:, :7])
    second, *last = layer(current[:, 7:], initial_state=state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    for a, b in zip(last, end, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(np.asarray(SpikingSoftmax(method=method, seed=2)(current)) != np.asarray(whole))
    delayed = np.asarray(SpikingSoftmax(method=method, seed=1, delay=10)(current))
    assert not delayed[:, :10].any()
    assert delayed[:, 10:].any()
