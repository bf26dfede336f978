"""The code of own layers and subclassed models converts by the rules of what it does."""

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.own_code import as_functional


class Scaled(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return self.gamma * x


class Standardized(layers.Conv2D):
    """Weight standardisation, as of big transfer."""

    def call(self, x):
        mean, deviation = (f(self.kernel, axis=(0, 1, 2), keepdims=True) for f in (ops.mean, ops.std))
        return self.activation(ops.conv(x, (self.kernel - mean) / (deviation + 1e-5), padding="same"))


class Block(layers.Layer):
    """With layers, other blocks, weights, arguments by name and two outputs."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.paths = [layers.Conv2D(filters, 3, padding="same", name=f"conv_{i}") for i in range(2)]
        self.norm, self.scale = layers.BatchNormalization(name="norm"), Scaled(name="scale")
        self.drop = layers.Dropout(0.5)

    def call(self, x, skip=None, training=None):
        y = ops.relu(self.norm(self.paths[0](x), training=training))
        y = self.scale(self.paths[1](self.drop(y, training=training)))
        return ops.relu(y if skip is None else y + skip), ops.mean(y, axis=(1, 2))


class Subclassed(keras.Model):
    """Takes a dict, returns a dict, and patches its image."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.first, self.second = Block(4, name="first"), Block(4, name="second")
        self.head = layers.Dense(3, name="head")
        self.conv = Standardized(5, 3, padding="same", activation="relu", name="standardized")

    def call(self, inputs):
        batch = ops.shape(inputs["image"])[0]
        x, _ = self.first(inputs["image"])
        x, mean = self.second(x, skip=x)
        x = ops.reshape(self.conv(x), (batch, 36, 5))
        return {"classes": self.head(ops.mean(x, axis=1)) + inputs["bias"], "mean": mean}


@pytest.fixture
def subclassed(rng):
    model = Subclassed()
    x = {
        "image": rng.uniform(size=(12, 6, 6, 2)).astype("float32"),
        "bias": rng.normal(size=(12, 3)).astype("float32"),
    }
    model(x)
    return networks.randomize(model, rng), x


def test_own_code_is_what_its_parts_are(subclassed):
    model, x = subclassed
    weights, expected = model.get_weights(), model.predict(x, verbose=0)
    graph = lower(model)
    found = evaluate(graph, x)
    for name, y in expected.items():
        np.testing.assert_allclose(found[name], y, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(node, kinds.Opaque) for node in graph.nodes.values())
    origins = {path for node in graph.nodes.values() for path in node.origins}
    assert {"first/conv_0", "first/scale/multiply", "second/norm", "standardized/conv", "head"} <= origins
    assert not any(np.any(a != b) for a, b in zip(weights, model.get_weights(), strict=True))
    listed = {verdict.path for verdict in keras_snn.check(model).verdicts}
    assert {"first/conv_0", "first/relu", "second/relu_2"} <= listed
    assert "first" not in listed
    # As part of another model it is the same.
    inputs = {name: keras.Input(array.shape[1:], name=name) for name, array in x.items()}
    inside = lower(keras.Model(inputs, model(inputs)))
    assert len(inside.nodes) == len(graph.nodes)


def test_a_subclassed_model_converts_and_freezes_as_it_is(subclassed, tmp_path):
    model, x = subclassed
    model.head.trainable = False
    model.second.trainable = False
    expected = model.predict(x, verbose=0)
    snn = keras_snn.convert(model, x, timesteps=1024, normalization="max", verbose=0)
    snn.save(tmp_path / "snn.keras")
    found = keras.models.load_model(tmp_path / "snn.keras").predict(x, verbose=0)
    for name, y in expected.items():
        np.testing.assert_allclose(found[name], y, atol=0.02 * np.abs(y).max())
    trained = {layer.name for layer in snn.layers if layer.trainable_weights}
    assert trained == {"first_conv_0", "first_conv_1", "standardized_conv"}


def test_a_subclassed_model_is_built_for_the_data(rng):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = layers.Dense(4, activation="relu"), layers.Dense(2)

        def call(self, x):
            return self.last(self.hidden(x))

    x = rng.normal(size=(8, 3)).astype("float32")
    model = Plain()
    with pytest.raises(ValueError, match="`model` must be"):
        keras_snn.convert(model)
    snn = keras_snn.convert(model, x, timesteps=512, normalization="max", verbose=0)
    np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), atol=0.02)


# What torch has for arrays before its own tensors: none of NumPy.
_array = ops.convert_to_tensor if keras.backend.backend() == "torch" else np.asarray
LEFT = {
    "product": lambda a, x: _array(a[0]) * x,
    "sum": lambda a, x: _array(a[0]) + x,
    "difference": lambda a, x: _array(a[0]) - x,
    "a number": lambda a, x: np.float32(2) - x,
    "tensors": lambda a, x: ops.convert_to_tensor(a[0]) * x,
    "matrix": lambda a, x: _array(a) @ x,
}


class OfArrays(keras.Model):
    """Does something between two dense layers."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last = layers.Dense(4, activation="relu"), layers.Dense(2)
        self.function = function

    def call(self, x):
        return self.last(self.function(self.first(x)))


def _operators():
    names = ("__array_ufunc__", "__jax_array__", "__mul__", "__sub__", "__matmul__")
    return [[vars(one).get(name) for name in names] for one in (keras.KerasTensor, keras.Variable)]


@pytest.mark.parametrize("name", LEFT)
def test_an_array_may_stand_before_an_operator(name, rng):
    array = rng.normal(size=(4, 4)).astype("float32")
    model, x = OfArrays(lambda x: LEFT[name](array, x)), rng.normal(size=(5, 4, 3)).astype("float32")
    model(x)
    networks.randomize(model, rng)
    before = _operators()
    found = evaluate(lower(as_functional(model)), x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
    assert _operators() == before


class Transposed(layers.Layer):
    """An operation that Keras cannot record."""

    def __init__(self, kernel, **options):
        super().__init__()
        self.kernel, self.options = kernel, options

    def call(self, x):
        return ops.relu(ops.conv_transpose(x, self.kernel, **self.options))


@pytest.mark.parametrize(
    ("shape", "window", "options"),
    [
        ((7, 3), (3,), {"strides": 2, "padding": "same"}),
        ((5, 4, 3), (4, 2), {"strides": (2, 1)}),
        ((5, 4, 3), (3, 3), {"strides": 2, "padding": "same", "output_padding": 1}),
        ((4, 3, 2, 3), (2, 3, 2), {"strides": (2, 1, 2), "padding": "same"}),
    ],
)
@pytest.mark.parametrize("in_lambda", [False, True])
def test_a_transposed_convolution_in_code_is_recorded(shape, window, options, in_lambda, rng):
    kernel = rng.normal(size=(*window, 4, 3)).astype("float32")
    layer = Transposed(kernel, **options)
    inputs = keras.Input(shape)
    output = keras.ops.conv_transpose(np.zeros((1, *shape), "float32"), kernel, **options)
    layer = layers.Lambda(layer.call, output_shape=output.shape[1:]) if in_lambda else layer
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)) if in_lambda else layer(inputs))
    graph = lower(model)
    assert not any(isinstance(node, kinds.Opaque) for node in graph.nodes.values())
    x = rng.normal(size=(3, *shape)).astype("float32")
    np.testing.assert_allclose(evaluate(graph, x), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


class Augmented(keras.Model):
    """A model whose call does not take `training`, with layers that are random unless they get it."""

    def __init__(self):
        super().__init__()
        moved = layers.RandomTranslation(0.4, 0.4, seed=1)
        self.augment = keras.Sequential([layers.RandomFlip(seed=1), moved])
        self.parts = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(2)]

    def call(self, x):
        x = self.augment(x)
        for part in self.parts:
            x = part(x)
        return x


def test_what_is_random_in_training_alone_may_be_inside(rng):
    x = rng.uniform(size=(16, 6, 5, 2)).astype("float32")
    model = Augmented()
    snn = keras_snn.convert(model, x, timesteps=512, normalization="max", verbose=0)
    y = keras.ops.convert_to_numpy(model(x, training=False))
    assert np.abs(snn.predict(x, verbose=0) - y).max() < 0.02 * np.abs(y).max()


class Broadcast(layers.Layer):
    """What every place sees of the average over all."""

    def call(self, x):
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        return ops.relu(x - ops.broadcast_to(mean, (ops.shape(x)[0], *x.shape[1:])))


def test_a_value_is_broadcast_in_code(rng):
    inputs = keras.Input((4, 5, 3))
    model = keras.Model(inputs, Broadcast()(inputs))
    graph = lower(model)
    assert not any(isinstance(node, kinds.Opaque) for node in graph.nodes.values())
    x = rng.normal(size=(6, 4, 5, 3)).astype("float32")
    np.testing.assert_allclose(evaluate(graph, x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
