import keras
import numpy as np
import pytest
from contracts import assert_same
from keras import layers

from keras_snn.layers import NonSpiking, Readout

to_numpy = keras.ops.convert_to_numpy


def gate():
    """A function of two inputs that is neither linear nor elementwise."""
    a, b = keras.Input((4, 3)), keras.Input((3,))
    return keras.Model([a, b], layers.Softmax(axis=1)(a * layers.Reshape((1, 3))(keras.ops.sigmoid(b))))


@pytest.mark.parametrize("name", ["gelu", "silu", "softmax", "tanh"])
def test_nonspiking_outputs_average_to_the_function_of_the_average_input(name, rng):
    x = rng.normal(0, 2, (3, 17, 5, 4)).astype("float32")
    outputs = to_numpy(NonSpiking(layers.Activation(name))(x))
    steps = np.arange(1, 18)[:, None, None]
    expected = to_numpy(keras.activations.get(name)(np.cumsum(x, axis=1) / steps))
    np.testing.assert_allclose(np.cumsum(outputs, axis=1) / steps, expected, atol=2e-6)


def test_nonspiking_takes_several_inputs_one_of_them_constant_in_time(rng):
    function = gate()
    a, b = (rng.normal(0, 1, shape).astype("float32") for shape in ((2, 9, 4, 3), (2, 1, 3)))
    layer = NonSpiking(function)
    outputs = layer([a, b])
    assert tuple(outputs.shape) == layer.compute_output_shape([a.shape, b.shape]) == (2, 9, 4, 3)
    expected = function([a.mean(axis=1), b[:, 0]])
    np.testing.assert_allclose(to_numpy(outputs).mean(axis=1), to_numpy(expected), atol=1e-6)


def test_nonspiking_state_passed_on_continues_the_run(rng):
    x = rng.normal(0, 1, (2, 9, 6)).astype("float32")
    layer = NonSpiking(layers.LayerNormalization(), return_state=True)
    whole, *end = layer(x)
    first, *state = layer(x[:, :4])
    second, *last = layer(x[:, 4:], initial_state=state)
    both = np.concatenate([to_numpy(first), to_numpy(second)], axis=1)
    np.testing.assert_allclose(both, to_numpy(whole), atol=1e-5)
    np.testing.assert_allclose(to_numpy(last[0]), to_numpy(end[0]), rtol=1e-6)
    assert to_numpy(last[2]).tolist() == [9, 9]


def test_nonspiking_in_a_hand_written_model_loads_again(rng, tmp_path):
    a, b = keras.Input((9, 4, 3)), keras.Input((9, 3))
    model = keras.Model([a, b], Readout("sigmoid")(NonSpiking(gate())([a, b])))
    x = [rng.normal(0, 1, (5, *tensor.shape[1:])).astype("float32") for tensor in (a, b)]
    model.save(tmp_path / "model.keras")
    outputs = model.predict(x, verbose=0)
    assert_same(keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), outputs)
    expected = to_numpy(gate()([v.mean(axis=1) for v in x]))
    np.testing.assert_allclose(outputs[:, -1], 1 / (1 + np.exp(-expected)), atol=1e-6)
