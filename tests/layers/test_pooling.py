import keras
import numpy as np
import pytest
from keras import layers

from keras_snn.layers import SpikingMaxPool, SpikingMaxPooling1D, SpikingMaxPooling2D, SpikingMaxPooling3D

CASES = [
    (SpikingMaxPooling1D, layers.MaxPooling1D, (9, 2), {"pool_size": 3, "strides": 2, "padding": "same"}),
    (SpikingMaxPooling2D, layers.MaxPooling2D, (7, 6, 2), {"pool_size": (3, 2), "strides": 1}),
    (SpikingMaxPooling2D, layers.MaxPooling2D, (7, 6, 2), {"padding": "same"}),
    (SpikingMaxPooling3D, layers.MaxPooling3D, (4, 5, 6, 2), {"pool_size": 2}),
]


@pytest.mark.parametrize(("twin", "analog", "shape", "arguments"), CASES)
@pytest.mark.parametrize("signed", [False, True])
def test_exact_pooling_counts_what_the_busiest_input_counts(twin, analog, shape, arguments, signed, rng):
    values = rng.integers(-1 if signed else 0, 2, (3, 20, *shape)).astype("float32")
    outputs = np.asarray(twin(**arguments)(values))
    for steps in (1, 7, 20):
        counts = values[:, :steps].sum(axis=1)
        np.testing.assert_array_equal(outputs[:, :steps].sum(axis=1), analog(**arguments)(counts))
    if not signed:
        assert set(np.unique(outputs)) == {0.0, 1.0}


def test_exact_pooling_of_spikes_fires_at_most_once_a_step_over_ten_thousand_steps(rng):
    layer = SpikingMaxPool(2, return_state=True)
    state, total, counts = None, 0, 0
    for _ in range(10):
        spikes = (rng.uniform(0, 1, (1, 1000, 2, 2, 1)) < 0.9).astype("float32")
        outputs, *state = layer(spikes, initial_state=state)
        assert set(np.unique(outputs)) <= {0.0, 1.0}
        total, counts = total + np.sum(keras.ops.convert_to_numpy(outputs)), counts + spikes.sum(axis=1)
    assert total == counts.max()


def test_state_passed_on_continues_the_run(rng):
    spikes = rng.integers(0, 2, (2, 12, 4, 4, 3)).astype("float32")
    layer = SpikingMaxPool(return_state=True)
    whole, *end = layer(spikes)
    first, *state = layer(spikes[:, :5])
    second, *last = layer(spikes[:, 5:], initial_state=state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    for a, b in zip(last, end, strict=True):
        np.testing.assert_array_equal(a, b)


def test_saved_and_loaded_it_pools_the_same(rng, tmp_path):
    model = keras.Sequential([keras.Input((6, 5, 5, 2)), SpikingMaxPool(3, strides=2, padding="same")])
    model.save(tmp_path / "model.keras")
    spikes = rng.integers(0, 2, (4, 6, 5, 5, 2)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(spikes, verbose=0), model.predict(spikes, verbose=0))


RATES = {
    "fir": lambda x: np.cumsum(x / np.arange(1, x.shape[1] + 1).reshape(-1, *(1,) * (x.ndim - 2)), axis=1),
    "avg": lambda x: np.cumsum(x, axis=1) / np.arange(1, x.shape[1] + 1).reshape(-1, *(1,) * (x.ndim - 2)),
    # Weights (15/16)^age / 16 of all earlier steps.
    "exp": lambda x: np.stack(
        [
            np.tensordot((15 / 16) ** np.arange(t, -1, -1) / 16, x[:, : t + 1], axes=(0, 1))
            for t in range(x.shape[1])
        ],
        axis=1,
    ),
}


@pytest.mark.parametrize("method", ["fir", "avg", "exp"])
@pytest.mark.parametrize(("twin", "analog", "shape", "arguments"), CASES)
def test_a_gate_passes_on_what_the_input_of_the_highest_rate_gives(
    method, twin, analog, shape, arguments, rng
):
    probabilities = rng.uniform(0, 1, (1, 1, *shape))
    spikes = (rng.uniform(0, 1, (3, 20, *shape)) < probabilities).astype("float32")
    outputs = np.asarray(twin(**arguments, method=method)(spikes))
    rates = RATES[method](spikes.astype("float64"))

    def largest(values):
        return np.asarray(analog(**arguments)(values.reshape(-1, *shape))).reshape(outputs.shape)

    # Two rates may be equal to float32, so that neither is higher.
    among, silent = largest(np.where(spikes > 0, rates, -1.0)), largest(np.where(spikes > 0, -1.0, rates))
    fires, rests = among > silent + 1e-6, silent > among + 1e-6
    assert fires.any()
    assert rests.any()
    assert np.all(outputs[fires] == 1)
    assert np.all(outputs[rests] == 0)
    assert set(np.unique(outputs)) <= {0.0, 1.0}


@pytest.mark.parametrize("method", ["avg", "exp"])
def test_gates_are_biased_high_where_exact_is_not(method, rng):
    spikes = (rng.uniform(0, 1, (200, 64, 2, 2, 1)) < rng.uniform(0, 1, (200, 1, 2, 2, 1))).astype("float32")
    most = spikes.sum(axis=1).max(axis=(1, 2, 3))
    surplus = {
        m: np.asarray(SpikingMaxPool(2, method=m)(spikes)).sum(axis=(1, 2, 3, 4)) - most
        for m in ("exact", method)
    }
    assert np.all(surplus["exact"] == 0)
    assert surplus[method].mean() > 0


def test_a_gate_goes_on_from_a_state_it_is_given(rng):
    spikes = rng.integers(0, 2, (2, 12, 4, 4, 3)).astype("float32")
    layer = SpikingMaxPool(method="fir", return_state=True)
    whole, *end = layer(spikes)
    first, *state = layer(spikes[:, :5])
    second, *last = layer(spikes[:, 5:], initial_state=state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_array_equal(last[0], end[0])


def test_pooling_raises_when_there_is_no_such_method():
    with pytest.raises(
        ValueError, match="`method` must be one of 'exact', 'fir', 'avg', 'exp'. Received: method='or'."
    ):
        SpikingMaxPool(method="or")
