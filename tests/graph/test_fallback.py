import keras
import numpy as np
import pytest
import running
from keras import layers, ops

import keras_snn
from keras_snn.errors import UnsupportedLayerError
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.rules import registry
from keras_snn.graph.rules.training_only import augmentation_arguments

OPTIONS = {"nonspiking": "allow", "normalization": "max", "timesteps": 64, "verbose": 0}


class Patches(layers.Layer):
    """As keras.io writes layers: without **kwargs."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, images):
        return ops.image.extract_patches(images, size=self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class Encoder(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.dense, self.embedding = layers.Dense(units), layers.Embedding(4, units)

    def call(self, x):
        return self.dense(ops.reshape(x, (-1, 4, x.shape[-1]))) + self.embedding(ops.arange(4))


class OfAFunction(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.factor = self.add_weight(shape=(), initializer="ones")
        self.rate = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, x):
        return self.function(x) * self.factor * self.rate


class Untraced(OfAFunction):
    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("a tensor without values")
        return super().call(x)


class Breaks(layers.Layer):
    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            raise TypeError("needs the file weights.bin " + "of the year " * 12 + "before")
        return x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def around(layer, shape):
    keras.utils.set_random_seed(5)
    inputs = keras.Input(shape)
    x = layers.Dense(3, activation="relu", name="first")(inputs)
    x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Dense(4, activation="relu")(x))))


LIVE = {
    "patches": (lambda: Patches(2), (4, 4, 2)),
    "encoder": (lambda: keras.Sequential([Patches(2), Encoder(3)]), (4, 4, 2)),
    "function": (lambda: OfAFunction(lambda x: ops.sin(x)), (5, 2)),
    "untraced": (lambda: Untraced(lambda x: ops.sin(x)), (5, 2)),
    "lambda": (lambda: layers.Dense(3, activation=lambda x: ops.sin(x)), (5, 2)),
    "gelu": (lambda: layers.Dense(3, activation=ops.gelu), (5, 2)),
    "nested": (lambda: layers.TimeDistributed(layers.Dense(3, activation=lambda x: ops.sin(x))), (5, 2)),
}


@pytest.mark.parametrize("case", LIVE)
@pytest.mark.compiled
def test_layers_without_a_config_run_and_share_no_weights(case, rng):
    make, shape = LIVE[case]
    model = around(make(), shape)
    x = rng.normal(size=(9, *shape)).astype("float32")
    expected = model.predict(x, verbose=0)
    snn = keras_snn.convert(model, x, **{**OPTIONS, "timesteps": 512})
    model.set_weights([0 * w for w in model.get_weights()])
    for layer in model.layers:
        layer.trainable = False
    found = snn.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    assert not {id(v) for v in model.variables} & {id(v) for v in snn.variables}
    snn.set_weights([0 * w for w in snn.get_weights()])
    assert not snn.predict(x, verbose=0).any()


@pytest.mark.parametrize("case", LIVE)
def test_what_converts_is_counted_diagnosed_and_reported(case, rng):
    make, shape = LIVE[case]
    model = around(make(), shape)
    x = rng.normal(size=(6, *shape)).astype("float32")
    options = {**OPTIONS, "timesteps": 8}
    snn = keras_snn.convert(model, x, **options, bias_correction=True, readout_delay="auto")
    keras_snn.count_operations(snn, x)
    keras_snn.diagnose(snn, x)
    keras_snn.report(snn, x)
    keras_snn.convert(model, x, **{**options, "normalization": "auto"})
    signed = keras_snn.convert(model, x, neuron="signed", **options)
    reference = keras_snn.quantized_reference(signed)
    run = signed.simulate(x, settle=True, verbose=0)
    np.testing.assert_allclose(run.outputs, reference.predict(x, verbose=0), rtol=1e-3, atol=1e-4)


def test_a_layer_without_a_config_is_not_saved_for_that_reason(rng, tmp_path):
    model = around(Untraced(lambda x: ops.sin(x), name="mine"), (5, 2))
    snn = keras_snn.convert(model, rng.normal(size=(4, 5, 2)).astype("float32"), **OPTIONS)
    with pytest.raises(
        ValueError, match="Layer 'mine' \\(Untraced\\) must have a config that makes it again"
    ):
        snn.save(tmp_path / "snn.keras")
    assert not list(tmp_path.iterdir())


def test_a_refusal_gives_the_whole_cause():
    model = around(Breaks(name="breaks"), (5, 2))
    with pytest.raises(UnsupportedLayerError) as error:
        lower(model, nonspiking="allow")
    cause = "TypeError: needs the file weights.bin " + "of the year " * 12 + "before"
    assert f"no conversion rule, and it cannot be run on its own ({cause})" in str(error.value)


def test_text_is_refused_as_text():
    inputs = keras.Input((1,), dtype="string", name="text")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("strings are TensorFlow's")
    ids = layers.TextVectorization(output_sequence_length=4, vocabulary=["a", "b"], name="reads")(inputs)
    x = layers.Dense(2, activation="relu")(layers.Embedding(9, 3)(ids))
    with pytest.raises(UnsupportedLayerError) as error:
        lower(keras.Model(inputs, x), nonspiking="allow")
    assert "'text' (keras.Input): dtype='string'. Instead: read the text before the model" in str(error.value)
    assert "cannot be copied" not in str(error.value)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.compiled
def test_recurrent_layers_with_dropout_stay(kind, rng):
    layer = getattr(layers, kind)(3, dropout=0.4, recurrent_dropout=0.3, return_sequences=True)
    model = around(layer, (5, 2))
    x = 3 * rng.normal(size=(6, 5, 2)).astype("float32")
    snn = keras_snn.convert(model, x, **{**OPTIONS, "timesteps": 1024})
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(snn.predict(x, verbose=0), expected, atol=0.03 * np.abs(expected).max())
    np.testing.assert_array_equal(snn.predict(x, verbose=0), snn.predict(x, verbose=0))
    snn.timesteps = 2
    with running.eagerly():
        keras_snn.count_operations(snn, x)


class Drops(layers.Layer):
    """Random in inference too, one value in ten."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x):
        return ops.where(keras.random.uniform(ops.shape(x), seed=self.seeds) < 0.1, 0.0, x)


def test_a_layer_that_is_random_in_inference_may_not_stay():
    with pytest.raises(UnsupportedLayerError, match="its value changes from call to call"):
        lower(around(Drops(), (5, 2)), nonspiking="allow")


# What each layer of augmentation is in `predict`: the same as its input, or something fixed.
FIXED = {"AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization", "Pipeline"}
OTHERS = {"AugMix", "CutMix", "MaxNumBoundingBoxes", "MixUp", "RandAugment", "Solarization"}
AUGMENTATION = sorted(
    name
    for name in dir(layers)
    if (name.startswith("Random") or name in FIXED | OTHERS) and isinstance(getattr(layers, name), type)
)
ARGUMENTS = {"RandomCrop": (7, 6), "Pipeline": None}


@pytest.mark.parametrize("name", AUGMENTATION)
def test_augmentation_is_in_predict_what_its_rule_makes_of_it(name, rng):
    kind = getattr(layers, name)
    if name == "Equalization":
        pytest.skip("Keras cannot call it on a symbolic input")
    if name == "Pipeline":
        layer = layers.Pipeline([layers.RandomFlip(), layers.Rescaling(0.5)])
    else:
        layer = kind(*ARGUMENTS.get(name, augmentation_arguments(name)))
    inputs = keras.Input((7, 6, 3))
    model = keras.Model(inputs, layer(inputs))
    x = rng.uniform(0, 255, size=(4, 7, 6, 3)).astype("float32")
    expected = model.predict(x, verbose=0)
    assert (name in FIXED) == (not np.array_equal(expected, x))
    graph = lower(model, nonspiking="allow" if registry.rule_for(layer) is None else "error")
    np.testing.assert_allclose(evaluate(graph, x), expected, rtol=1e-6)
    assert all(graph.nodes[n].shape for n in graph.nodes)


def test_a_random_crop_that_declares_another_size_is_refused():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.RandomCrop(6, 5, name="crop")(inputs))
    with pytest.raises(
        UnsupportedLayerError, match="'crop' .*: crops 8×8 to 6×5 in training only.*CenterCrop"
    ):
        lower(model, nonspiking="allow")


@pytest.mark.parametrize("variance", [-0.5, -1e-3, np.nan])
def test_a_negative_variance_is_refused_by_name(variance):
    inputs = keras.Input((3,))
    layer = layers.BatchNormalization(name="norm", epsilon=1e-3)
    model = keras.Model(inputs, layer(inputs))
    layer.moving_variance.assign([1.0, variance, 1.0])
    reason = "weights that are NaN" if np.isnan(variance) else "a variance of -"
    with pytest.raises(UnsupportedLayerError, match=f"'norm' .*: {reason}"):
        lower(model, nonspiking="allow")
    if variance == -1e-3:
        layer.moving_variance.assign([1.0, -5e-4, 0.0])
        x = np.ones((2, 3), "float32")
        np.testing.assert_allclose(evaluate(lower(model), x), model.predict(x, verbose=0), rtol=1e-4)
