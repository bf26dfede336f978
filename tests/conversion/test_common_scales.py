"""Activations whose channels are taken in one by weights have one λ, so that weights get spikes."""

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.conversion.common_scales import common_scales, touching
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold

_rng = np.random.default_rng(3)
_MASK = (_rng.uniform(size=(1, 6, 4, 1)) > 0.3).astype("float32")
_ROWS = _rng.normal(size=(6, 6)).astype("float32")


def _relu(units, **options):
    return layers.Conv2D(units, 3, padding="same", activation="relu", **options)


def _shuffled(x):
    """Return channels as blocks of space, without an operation that the oldest Keras lacks."""
    y = ops.reshape(x, (-1, 6, 4, 2, 2, 1))
    return ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 12, 8, 1))


def _tokens(x):
    y = layers.Reshape((-1, 4))(_relu(4, strides=2)(x))
    return layers.Dense(5, activation="relu")(layers.Concatenate(1)([layers.Reshape((-1, 4))(x), y]))


def _rows_apart(x):
    """Return channels of several rows in one row, of as many channels as there are."""
    return ops.concatenate([x[:, :3], ops.roll(x[:, 3:], 1, axis=-1)], axis=1)


# Name: what comes after a convolution of 4 channels, and in front of one.
MIXED = {
    "a pixel shuffle": _shuffled,
    "rows of a matrix": lambda x: layers.Dense(6, activation="relu")(layers.Permute((2, 3, 1))(x)),
    "a graph": lambda x: ops.relu(ops.einsum("ij,bjwc->biwc", _ROWS, x)),
    "tokens of two layers": _tokens,
    "the larger of two": lambda x: layers.Maximum()([x, _relu(4)(x)]),
    "rolled channels": _rows_apart,
    "zeros around": lambda x: ops.image.pad_images(x, 1, 2, 0, 1),
    "a mask": lambda x: x * _MASK,
    "a mask in code": lambda x: ops.where(_MASK > 0, x, 0.7),
    "nearest places": lambda x: ops.image.resize(x, (9, 6), interpolation="nearest"),
    "a depthwise convolution": lambda x: _shuffled(
        layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    ),
}


def _model(between, rng):
    inputs = keras.Input((6, 4, 2))
    x = between(_relu(4, name="first")(inputs))
    if len(x.shape) == 4:
        x = _relu(3, name="last")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    networks.randomize(model, rng)
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            # So that none is silent.
            layer.bias.assign(rng.uniform(0.2, 0.8, layer.bias.shape))
    return model, rng.uniform(size=(40, 6, 4, 2)).astype("float32")


@pytest.mark.parametrize("neuron", ["if", "ttfs"])
@pytest.mark.parametrize("name", MIXED)
def test_weights_take_spikes_where_channels_are_mixed(name, neuron, rng):
    """No layer after the first takes numbers, as `check` expects, and the outputs come closer as 1/T."""
    model, x = _model(MIXED[name], rng)
    assert keras_snn.check(model).share_of_spikes == 1
    errors = []
    for timesteps in (16, 128):
        options = {"timesteps": timesteps, "normalization": "max", "bias_correction": False, "verbose": 0}
        snn = keras_snn.convert(model, x, neuron=neuron, per_channel=True, **options)
        assert all("numbers" not in layer.takes for layer in snn.conversion_report.layers)
        y = model.predict(x, verbose=0)
        errors.append(np.sqrt(np.mean((snn.predict(x, verbose=0) - y) ** 2) / np.mean(y**2)))
    assert errors[1] < max(errors[0] / 4, 1e-4)


def test_channels_that_stay_apart_have_scales_of_their_own(rng):
    """A shuffle of channels, a pool, padding and features side by side leave every channel what it is."""
    inputs = keras.Input((6, 4, 2))
    x = _relu(4)(inputs)
    y = ops.transpose(ops.reshape(x, (-1, 6, 4, 2, 2)), (0, 1, 2, 4, 3))
    y = layers.ZeroPadding2D(1)(layers.MaxPooling2D(2)(ops.reshape(y, (-1, 6, 4, 4))))
    y = layers.Concatenate()([y, layers.ZeroPadding2D(1)(layers.MaxPooling2D(2)(_relu(3)(x)))])
    model = networks.randomize(keras.Model(inputs, layers.Flatten()(_relu(5)(y))), rng)
    assert common_scales(fold(lower(model))) == ([], set())


def test_tokens_of_two_layers_share_scales_of_their_channels(rng):
    model, _ = _model(_tokens, rng)
    groups, whole = common_scales(fold(lower(model)))
    assert [len(group) for group in groups] == [2]
    assert groups[0][0] == "first/relu"
    assert not whole


@pytest.mark.filterwarnings("ignore:The spiking network loses")
def test_layers_of_different_options_do_not_share_a_scale(rng):
    model, x = _model(_tokens, rng)
    options = {"normalization": "percentile", "percentile": 100, "per_channel": False, "verbose": 0}
    for layer_options, scales in ((None, 1), ({"first": {"percentile": 50}}, 2)):
        snn = keras_snn.convert(model, x, layer_options=layer_options, timesteps=4, **options)
        found = [
            layer for layer in snn.conversion_report.layers if layer.name.startswith(("first", "conv2d"))
        ]
        assert len({np.round(float(layer.scale), 6) for layer in found if layer.scale is not None}) == scales


def test_touching_joins_whatever_is_connected(rng):
    """Compared with repeated merging of sets that meet."""
    sets = [rng.choice(30, rng.integers(1, 4), replace=False).tolist() for _ in range(18)]
    expected = [set(names) for names in sets]
    for _ in expected:
        for i, one in enumerate(expected):
            for other in expected[:i]:
                if one & other:
                    other |= one
                    one |= other
    found = {frozenset(names) for names in touching(sets)}
    assert found == {frozenset(names) for names in expected}
