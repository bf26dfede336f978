"""What neither spikes nor is linear may see the input alone, or follow the last neurons."""

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.errors import UnsupportedLayerError


def _one_hot(x):
    return layers.CategoryEncoding(9, output_mode="one_hot")(layers.Hashing(9)(x))


def _largest(x):
    return x / ops.max(ops.abs(x), axis=(1, 2), keepdims=True)


def _spectrum(x):
    real, imaginary = ops.stft(ops.reshape(x, (-1, 12)), 6, 3, 8)
    return ops.log(ops.square(real) + ops.square(imaginary) + 0.1)


# Functions of the input, and whether that is integers.
OF_INPUT = {
    "embedding": (lambda x: layers.Embedding(9, 3)(ops.reshape(x, (-1, 12))), True),
    "hashing": (_one_hot, True),
    "discretization": (layers.Discretization([-0.5, 0.5], output_mode="one_hot"), False),
    "unit norm": (layers.UnitNormalization(), False),
    "layer norm": (layers.LayerNormalization(), False),
    "largest": (_largest, False),
    "spectrum": (_spectrum, False),
}
OF_OUTPUT = {
    "unit norm": layers.UnitNormalization(),
    "expectation": lambda y: ops.softmax(y) @ np.arange(3.0, dtype="float32")[:, None],
    "distance": lambda y: ops.sqrt(ops.sum(ops.square(y - 1), axis=-1)),
    "relu": lambda y: ops.relu(ops.normalize(y, axis=-1) - 0.1),
    "argmax": lambda y: ops.one_hot(ops.argmax(y, axis=-1), 3),
    "sort": lambda y: ops.sort(y, axis=-1),
    "top_k": lambda y: ops.top_k(y, 2),
}


def _model(rng, before=None, after=None, dtype="float32"):
    inputs = keras.Input((4, 3), dtype=dtype)
    x = layers.Flatten()(inputs if before is None else before(inputs))
    y = layers.Dense(3)(layers.Dense(12, activation="relu")(x))
    model = keras.Model(inputs, y if after is None else after(y))
    networks.randomize(model, rng)
    draw = rng.integers(0, 9, (24, 4, 3)) if dtype != "float32" else rng.normal(size=(24, 4, 3))
    return model, draw.astype(dtype)


def _check(model, x):
    snn = keras_snn.convert(model, x, timesteps=1024, normalization="max", verbose=0)
    pairs = zip(*(keras.tree.flatten(network.predict_on_batch(x)) for network in (snn, model)), strict=True)
    for found, expected in pairs:
        differences = np.abs(found - expected).reshape(len(x), -1).max(axis=-1)
        # What jumps may do so at another place for a sample in some.
        assert np.mean(differences < 0.03 * np.abs(expected).max()) > 0.9
    return snn


@pytest.mark.parametrize(("function", "integers"), OF_INPUT.values(), ids=OF_INPUT)
def test_what_sees_the_input_alone_is_computed_once(function, integers, rng):
    model, x = _model(rng, function, dtype="int32" if integers else "float32")
    snn = _check(model, x)
    assert not any(isinstance(layer, keras_snn.layers.NonSpiking) for layer in snn.layers)
    assert "computed once" in {verdict.becomes for verdict in keras_snn.check(model).verdicts}
    # Nothing is constant if spikes come in.
    with pytest.raises(UnsupportedLayerError, match="nonspiking='allow'"):
        keras_snn.convert(model, x, input_encoding="poisson")


@pytest.mark.parametrize("function", OF_OUTPUT.values(), ids=OF_OUTPUT)
def test_what_follows_the_last_neurons_acts_on_the_average(function, rng):
    model, x = _model(rng, after=function)
    _check(model, x)
    assert "read-out" in {verdict.becomes for verdict in keras_snn.check(model).verdicts}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda x: layers.Dense(3, activation="tanh")(x), None),
        (None, lambda y: layers.Dense(3, activation="tanh")(y)),
    ],
)
def test_layers_with_weights_are_in_the_way(before, after, rng):
    if after is not None:
        model, _ = _model(rng, after=lambda y: layers.Dense(2)(after(y)))
    else:
        model, _ = _model(rng, before)
    with pytest.raises(UnsupportedLayerError, match="activation='tanh' in front of other layers"):
        keras_snn.convert(model)
