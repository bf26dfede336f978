"""What has no rule and is an affine map of one input converts by what it makes of numbers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_snn.errors import UnsupportedLayerError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate

_WEIGHTS = np.random.default_rng(3).normal(size=(2, 2, 3, 1)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class Code(layers.Layer):
    """A layer without a rule, of a function, whose code cannot be traced."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("a tensor without values")
        return self.function(x)


def _swapped(x):
    """Blocks of 2 × 2 values side by side as channels, the last first, with a border of a half."""
    x = ops.reshape(x, (-1, 3, 2, 2, 2, 3))[:, :, ::-1]
    return ops.pad(
        ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 6, 12)),
        ((0, 0), (1, 0), (0, 0)),
        constant_values=0.5,
    )


_MASK = np.arange(24).reshape(1, 6, 4, 1) % 5 > 0


AFFINE = {
    "dropped": (lambda x: ops.where(_MASK, x, 0.0), {"Rearrange"}),
    "turned round, and a constant": (lambda x: x[:, ::-1] + 0.3, {"Rearrange", "ChannelAffine"}),
    "scaled": (lambda x: x * np.arange(3.0, dtype="float32") - 1, {"ChannelAffine"}),
    "moved": (_swapped, {"Rearrange", "ChannelAffine"}),
    "rolled": (lambda x: ops.roll(x, 2, axis=2), {"Rearrange"}),
    "one axis": (lambda x: ops.cumsum(x, axis=1), {"Rearrange", "Affine"}),
    "per place": (lambda x: ops.image.rgb_to_grayscale(x) + 1, {"Affine", "ChannelAffine"}),
    "all": (lambda x: ops.depthwise_conv(x, _WEIGHTS), {"Rearrange", "Affine"}),
    "silent": (lambda x: 0 * x[:, 1], {"Rearrange", "Affine", "ChannelAffine"}),
}


def _model(function):
    inputs = keras.Input((6, 4, 3))
    return keras.Model(inputs, Code(function, name="code")(inputs))


@pytest.mark.parametrize(("function", "expected"), AFFINE.values(), ids=AFFINE)
def test_what_is_affine_is_found_on_numbers(function, expected, rng):
    model = _model(function)
    graph = lower(model)
    x = rng.normal(0, 5, (4, 6, 4, 3)).astype("float32")
    y = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(evaluate(graph, x), y, atol=2e-5 * max(np.abs(y).max(), 1))
    assert {type(node).__name__ for node in graph.nodes.values()} - {"Input"} <= expected


NOT_AFFINE = {
    "saturates": lambda x: ops.clip(x, -500, 500),
    "bends": lambda x: ops.leaky_relu(x, 0.999),
    "multiplies": lambda x: x * ops.mean(x, axis=-1, keepdims=True),
    "rounds": lambda x: ops.round(x * 1000) / 1000,
    "normalizes": lambda x: ops.normalize(x),
}


@pytest.mark.parametrize("function", NOT_AFFINE.values(), ids=NOT_AFFINE)
def test_what_is_not_affine_is_not_taken_for_it(function):
    with pytest.raises(UnsupportedLayerError, match="'code' \\(Code\\): no conversion rule"):
        lower(_model(function))
    graph = lower(_model(function), nonspiking="allow")
    assert any(isinstance(node, kinds.Opaque) for node in graph.nodes.values())


def test_a_large_map_is_left_as_it_is():
    """A matrix of all its inputs and outputs would have more than 2²⁰ weights."""
    inputs = keras.Input((32, 32, 3))
    blur = Code(lambda x: ops.depthwise_conv(x, _WEIGHTS), name="blur")
    with pytest.raises(UnsupportedLayerError, match="no conversion rule"):
        lower(keras.Model(inputs, blur(inputs)))


def test_code_is_recorded_under_the_same_names_every_time():
    inputs = keras.Input((6,))
    x = layers.Lambda(lambda v: ops.relu(v) + ops.relu(1 - v), name="code")(inputs)
    x = layers.Dense(3, activation=lambda v: 2 * ops.relu(ops.relu(v) - 1), name="dense")(x)
    first, second = (lower(keras.Model(inputs, x)) for _ in range(2))
    assert list(first.nodes) == list(second.nodes)
    assert {"code/relu", "code/relu_2", "dense", "dense/relu_2"} <= first.nodes.keys()
