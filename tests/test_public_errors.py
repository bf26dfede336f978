"""No error of the package's own leaves it but those of `keras_snn.errors`, whatever the network is."""

import copy

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.layers import PerTimestep, SpikingDense


class Squash(layers.Layer):
    """A layer that is not registered, so that no config makes it again, and whose code cannot be traced."""

    def call(self, inputs):
        if isinstance(inputs, keras.KerasTensor):
            raise TypeError("a tensor without values")
        return inputs / (1 + ops.sum(ops.square(inputs), -1, keepdims=True))

    def compute_output_shape(self, input_shape):
        return input_shape


class Mixing(layers.Layer):
    """A layer whose value for a sample depends on the others."""

    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0, keepdims=True)


def _between(layer):
    inputs = keras.Input((5,))
    x = layer(layers.Dense(6, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(4, activation="relu")(x)))


def _over_time(layer):
    return keras.Sequential([keras.Input((7, 5)), SpikingDense(6), layer, SpikingDense(3)])


# Networks of the user: with parts that convert, that stay as they are, and that cannot.
SOURCES = {
    "plain": lambda: _between(layers.Identity()),
    "own layer": lambda: _between(Squash()),
    "mixes samples": lambda: _between(Mixing()),
    "tanh": lambda: _between(layers.Activation("tanh")),
    "no relu": lambda: keras.Sequential([keras.Input((5,)), layers.Dense(3)]),
    "hand-written": lambda: _over_time(PerTimestep(layers.Dense(6))),
    "hand-written, own layer": lambda: _over_time(PerTimestep(Squash())),
    "hand-written, not over time": lambda: _over_time(layers.BatchNormalization()),
}
FUNCTIONS = {
    "check": lambda model, x, path: keras_snn.check(model),
    "convert": lambda model, x, path: keras_snn.convert(model, x, verbose=0, timesteps=3),
    "allow": lambda model, x, path: keras_snn.convert(model, x, verbose=0, timesteps=3, nonspiking="allow"),
    "count_operations": lambda model, x, path: keras_snn.count_operations(model, x),
    "diagnose": lambda model, x, path: keras_snn.diagnose(model, x),
    "report": lambda model, x, path: keras_snn.report(model, x, path=None),
    "quantized_reference": lambda model, x, path: keras_snn.quantized_reference(model),
    "calibrate_exit": lambda model, x, path: keras_snn.calibrate_exit(model, x, np.arange(len(x)) % 3),
    "export_nir": lambda model, x, path: keras_snn.export_nir(model, path / "net.nir"),
    "settled": lambda model, x, path: model.simulate(x, settle=True),
    "compare": lambda model, x, path: model.conversion_report.compare(model, x),
}


def _is_private(error):
    """Whether an error is of a class of the package that users do not know."""
    public = {getattr(keras_snn.errors, name) for name in keras_snn.errors.__all__}
    return type(error).__module__.startswith("keras_snn") and type(error) not in public


def _error_of(function, *arguments):
    """Return what a function raises, or `None`."""
    try:
        function(*arguments)
    except Exception as error:
        return error
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", SOURCES)
def test_no_private_error_leaves_a_public_function(source, rng, tmp_path):
    model = networks.randomize(SOURCES[source](), rng)
    x = networks.data_for(model, rng, samples=6)
    subjects = [model]
    options = {"nonspiking": "allow", "neuron": "signed", "timesteps": 3, "verbose": 0}
    failed = _error_of(lambda: subjects.append(keras_snn.convert(model, x, **options)))
    assert not _is_private(failed)
    for subject in subjects:
        for name, function in FUNCTIONS.items():
            error = _error_of(function, subject, x, tmp_path)
            assert not _is_private(error), (name, error)
            # An attribute that a network of Keras lacks is no error of this package.
            expected = (TypeError, ValueError, ImportError, *([AttributeError] if subject is model else []))
            assert error is None or isinstance(error, expected), (name, error)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("use", [keras_snn.convert, keras_snn.check, keras_snn.count_operations])
def test_models_of_keras_2_are_refused_as_such(use, own):
    """And those of subclasses of a user; tf_keras need not be installed."""
    kind = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    model = (type("Mine", (kind,), {}) if own else kind)()
    with pytest.raises(TypeError, match=f"Received: {type(model).__name__} of tf_keras, which is Keras 2"):
        use(model)


@pytest.mark.parametrize("own", ["layer", "function"])
def test_what_keras_does_not_know_is_named_when_it_is_copied(own, rng):
    def doubled_tanh(x):
        return 2 * ops.tanh(x)

    layer = Squash() if own == "layer" else layers.Dense(6, activation=doubled_tanh, name="squash")
    model = networks.randomize(_between(layer), rng)
    snn = keras_snn.convert(model, timesteps=3, nonspiking="allow", normalization="none")
    name = "Squash" if own == "layer" else "doubled_tanh"
    copies = (snn.as_functional, lambda: keras.models.clone_model(snn), lambda: copy.deepcopy(snn))
    for copied in copies:
        with pytest.raises(ValueError, match=f"Layer 'squash.*registered with Keras.*Received: {name},"):
            copied()
    with keras.saving.custom_object_scope({"Squash": Squash, "doubled_tanh": doubled_tanh}):
        assert [type(copied()).__name__ for copied in copies] == [
            "Functional",
            "SpikingModel",
            "SpikingModel",
        ]


@pytest.mark.parametrize("neuron", ["signed", "ttfs"])
def test_operations_are_counted_beside_a_network_of_the_same_levels_with_a_layer_of_the_user(neuron, rng):
    model = networks.randomize(_between(Squash()), rng)
    x = networks.data_for(model, rng, samples=6)
    snn = keras_snn.convert(model, x, neuron=neuron, nonspiking="allow", verbose=0)
    counts = keras_snn.count_operations(snn, x)
    assert counts.same_levels
    assert counts.zero_skipping_operations > 0
