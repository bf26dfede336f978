import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.errors import UnsupportedLayerError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.functions import keras_function, keras_name, name_of, ramp_of, shown
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate


@keras.saving.register_keras_serializable("tests_of_functions")
def relu(x):
    return ops.clip(x, 0.0, 1.5)


@keras.saving.register_keras_serializable("tests_of_functions")
def linear(x):
    return 0.5 * ops.tanh(x)


@keras.saving.register_keras_serializable("tests_of_functions")
def leaky_relu(x):
    return ops.maximum(0.1 * x, x)


@keras.saving.register_keras_serializable("tests_of_functions")
def hard_sigmoid(x):
    """That of Keras 2."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable("tests_of_functions")
def softmax(x):
    return ops.softmax(x, axis=1)


@keras.saving.register_keras_serializable("tests_of_functions")
def silu(x):
    return x * ops.sigmoid(1.5 * x)


NAMESAKES = [relu, linear, leaky_relu, hard_sigmoid, softmax, silu]


@pytest.mark.parametrize("function", NAMESAKES, ids=lambda function: function.__name__)
@pytest.mark.compiled
def test_a_function_that_has_the_name_of_one_of_keras_is_computed_or_refused_by_name(function, rng):
    x = rng.normal(size=(32, 6, 5)).astype("float32") * 3
    model = keras.Sequential(
        [
            keras.Input((6, 5)),
            layers.Dense(7, activation="relu"),
            layers.Dense(7, activation=function, name="namesake"),
            layers.Dense(2, activation="relu"),
            layers.Dense(2),
        ]
    )
    expected = model.predict(x, verbose=0)
    options = {"timesteps": 1024, "normalization": "max", "verbose": 0}
    if function not in (relu, leaky_relu, hard_sigmoid):
        with pytest.raises(UnsupportedLayerError, match=f"='tests_of_functions>{function.__name__}'"):
            lower(model)
        options["nonspiking"] = "allow"
    snn = keras_snn.convert(model, x, **options)
    np.testing.assert_allclose(snn.predict(x, verbose=0), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("function", "low", "high", "slope", "shift", "negative_slope"),
    [
        (relu, 0, 1.5, 1, 0, 0),
        (hard_sigmoid, 0, 1, 0.2, 0.5, 0),
        (leaky_relu, 0, np.inf, 1, 0, 0.1),
        (ops.relu, 0, np.inf, 1, 0, 0),
        (ops.relu6, 0, 6, 1, 0, 0),
        (ops.abs, 0, np.inf, 1, 0, -1),
        (ops.hard_sigmoid, 0, 1, 1 / 6, 0.5, 0),
        (lambda x: ops.clip(x, -1, 2), -1, 2, 1, 0, 0),
        (lambda x: ops.relu(x), 0, np.inf, 1, 0, 0),
        (lambda x: ops.clip(x, 0, 300), 0, 300, 1, 0, 0),
        (functools.partial(keras.activations.relu, max_value=3.0), 0, 3, 1, 0, 0),
    ],
)
def test_ramp_of_finds_the_numbers_of_a_ramp(function, low, high, slope, shift, negative_slope):
    ramp = ramp_of(function)
    found = (ramp.low, ramp.high, ramp.slope, ramp.shift, ramp.negative_slope)
    assert found == (low, high, slope, shift, negative_slope)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.softplus(50 * x) / 50,
        lambda x: ops.relu(x) ** 2,
        lambda x: ops.where(x > 3.0, x, 0.0),
        lambda x: 2 * x,
        lambda x: -ops.relu(x),
        lambda x: ops.relu(x) / ops.max(x),
        lambda x: ops.softmax(x / 2),
        lambda x: ops.relu(x) + 1e-3,
        lambda x: ops.gelu(x, approximate=True),
        lambda x: 1 / 0,
        lambda x: ops.sum(x, axis=-1),
        functools.partial(keras.activations.relu, threshold=1.0),
        keras.activations.log_softmax,
    ],
)
def test_functions_that_are_nearly_known_are_not(function):
    assert ramp_of(function) is None
    assert name_of(function) is None


@pytest.mark.parametrize("name", ["silu", "tanh", "elu", "softmax", "gelu", "selu", "softplus", "mish"])
def test_name_of_finds_what_a_function_computes(name):
    known = keras_function(name)
    assert name_of(known) == keras_name(known) == name
    assert name_of(lambda x: known(x)) == name
    assert keras_name(lambda x: known(x)) is None


@pytest.mark.compiled
def test_a_function_registered_globally_takes_no_name_of_keras(rng):
    x = rng.normal(size=(8, 5)).astype("float32")
    model = keras.Sequential([keras.Input((5,)), layers.Dense(6, "relu"), layers.Dense(3, "silu")])
    with keras.saving.custom_object_scope({"silu": silu, "relu": relu}):
        snn = keras_snn.convert(model, x, timesteps=512, normalization="max", verbose=0)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(snn.predict(x, verbose=0), expected, atol=0.02)


def test_shown_names_functions_apart():
    assert shown(keras.activations.relu) == "relu"
    assert shown(relu) == "tests_of_functions>relu"
    assert shown(lambda x: x) == "<lambda>"
    assert shown(functools.partial(relu)) == "functools.partial"


def test_a_spiking_twin_refuses_a_namesake_of_relu():
    def relu(x):
        return ops.tanh(x)

    with pytest.raises(ValueError, match="must be None, 'linear' or 'relu'"):
        keras_snn.layers.SpikingDense(3, activation=relu)


def test_a_class_that_claims_a_module_of_keras_has_no_rule():
    class Dropout(layers.Layer):
        def call(self, inputs):
            return keras.ops.sin(inputs)

    Dropout.__module__ = "keras.src.layers.regularization.dropout"
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Dropout(name="drop")(inputs))
    with pytest.raises(keras_snn.errors.UnsupportedLayerError, match="'drop' .*: no conversion rule"):
        lower(model)


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_soft_shrink_keeps_either_side_of_the_threshold(threshold, rng):
    inputs = keras.Input((50,))
    shrunk = "soft_shrink" if threshold == 0.5 else lambda v: keras.ops.soft_shrink(v, threshold)
    graph = lower(keras.Model(inputs, keras.layers.Activation(shrunk)(inputs)))
    x = rng.normal(size=(4, 50)).astype("float32")
    expected = np.sign(x) * np.maximum(np.abs(x) - threshold, 0)
    np.testing.assert_allclose(evaluate(graph, x), expected, atol=1e-6)
    assert sum(isinstance(node, kinds.Activation) for node in graph.nodes.values()) == 2
