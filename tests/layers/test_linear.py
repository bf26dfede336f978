import keras
import numpy as np
import pytest

from keras_snn.layers import SpikingActivation, SpikingConv2D, SpikingDense
from keras_snn.neurons import IntegrateAndFire

to_numpy = keras.ops.convert_to_numpy


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu6"])
def test_twin_raises_when_the_activation_is_not_relu(activation):
    with pytest.raises(ValueError) as error:
        SpikingConv2D(3, 3, activation=activation)
    assert "`activation` of SpikingConv2D must be None, 'linear' or 'relu'" in str(error.value)
    assert f"activation='{activation}'" in str(error.value)


@pytest.mark.parametrize("activation", [None, "linear", "relu"])
def test_twin_computes_the_same_for_every_allowed_activation(activation, rng):
    x = rng.normal(0, 1, (2, 6, 5)).astype("float32")
    layer = SpikingDense(4, activation=activation, kernel_initializer=keras.initializers.RandomNormal(seed=1))
    reference = SpikingDense(4, kernel_initializer=keras.initializers.RandomNormal(seed=1))
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(reference(x)))


def test_dense_twin_is_a_neuron_after_a_dense_layer(rng):
    x = rng.normal(0, 1, (4, 9, 6)).astype("float32")
    neuron = IntegrateAndFire(v_threshold=0.8, reset="zero", initial_potential=0.3)
    layer = SpikingDense(5, neuron=neuron, return_state=True)
    spikes, potential = map(to_numpy, layer(x))
    kernel, _ = layer.get_weights()
    v = np.full((4, 5), 0.3 * 0.8, "float32")
    for t in range(9):
        v = v + x[:, t] @ kernel
        fires = v >= 0.8
        np.testing.assert_array_equal(spikes[:, t], fires)
        v = np.where(fires, 0, v)
    np.testing.assert_allclose(potential, v, rtol=0, atol=1e-5)


def test_initial_state_is_where_the_run_starts(rng):
    layer = SpikingActivation("relu", return_state=True)
    x = np.zeros((2, 3, 4), "float32")
    state = rng.uniform(0, 0.9, (2, 4)).astype("float32")
    spikes, potential = map(to_numpy, layer(x, initial_state=[state]))
    assert np.sum(spikes) == 0
    np.testing.assert_array_equal(potential, state)
    np.testing.assert_array_equal(to_numpy(layer(x, initial_state=state)[1]), state)
    np.testing.assert_array_equal(to_numpy(layer.get_initial_state(3)[0]), np.full((3, 4), 0.5))


def test_state_goes_through_a_functional_model(rng):
    x, state = keras.Input((4, 6)), keras.Input((5,))
    model = keras.Model([x, state], SpikingDense(5, return_state=True)(x, initial_state=state))
    data = rng.normal(0, 1, (7, 8, 6)).astype("float32")
    start = np.full((7, 5), 0.5, "float32")
    first, middle = model.predict([data[:, :4], start], batch_size=3, verbose=0)
    second, end = model.predict([data[:, 4:], middle], batch_size=3, verbose=0)
    layer = model.layers[-1]
    whole, last = map(to_numpy, layer(data))
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_allclose(end, last, rtol=0, atol=1e-6)


def test_membrane_potential_stays_float32_under_mixed_precision(rng):
    layer = SpikingDense(3, return_state=True, dtype="mixed_bfloat16")
    spikes, potential = layer(rng.uniform(0, 1, (2, 5, 4)).astype("float32"))
    assert keras.backend.standardize_dtype(spikes.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(potential.dtype) == "float32"


def test_layer_raises_when_the_time_axis_has_no_length():
    message = r"needs input of shape \(batch, time, …\) with a known number of time steps"
    with pytest.raises(ValueError, match=message):
        keras.Sequential([keras.Input((None, 4)), SpikingDense(3)])


def test_stateful_layer_raises_when_the_batch_size_is_unknown():
    with pytest.raises(ValueError, match="is stateful and needs a known batch size"):
        keras.Sequential([keras.Input((5, 4)), SpikingDense(3, stateful=True)])


def test_reset_state_raises_when_the_layer_is_not_stateful():
    with pytest.raises(ValueError, match="Layer 'd' keeps no state. Create it with stateful=True."):
        SpikingDense(3, name="d").reset_state()


def test_stateful_layer_continues_in_predict(rng):
    x = rng.uniform(0, 0.5, (2, 6, 4)).astype("float32")
    inputs = keras.Input((3, 4), batch_size=2)
    model = keras.Model(inputs, SpikingActivation("relu", stateful=True, name="spikes")(inputs))
    parts = [model.predict(x[:, t : t + 3], batch_size=2, verbose=0) for t in (0, 3)]
    whole = to_numpy(SpikingActivation("relu")(x))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_stateful_layer_raises_when_the_batch_has_another_size(rng):
    layer = SpikingActivation("relu", stateful=True, name="spikes")
    layer(np.zeros((2, 3, 4), "float32"))
    with pytest.raises(ValueError, match="keeps the state of 2 samples. Received: a batch of 3. Use batches"):
        layer(np.zeros((3, 3, 4), "float32"))


def test_initial_state_raises_before_the_layer_is_built():
    with pytest.raises(ValueError, match="Layer 'd' must be built. Call it on data"):
        SpikingDense(3, name="d").get_initial_state(2)
