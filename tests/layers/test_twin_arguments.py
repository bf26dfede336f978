"""Every argument of every twin acts as on the Keras layer that it replaces, or is refused by name."""

import inspect
import re

import keras
import numpy as np
import pytest
from contracts import assert_same

import keras_snn.layers
from keras_snn.layers.base import SpikingTwin

to_numpy = keras.ops.convert_to_numpy

TWINS = sorted(
    {
        twin
        for twin in vars(keras_snn.layers).values()
        if isinstance(twin, type) and issubclass(twin, SpikingTwin) and twin.analog_class
    },
    key=lambda twin: twin.__name__,
)
# What a layer cannot be without, and enough channels for groups.
REQUIRED = {"units": 4, "filters": 4, "kernel_size": 2, "activation": "relu"}
SHAPES = {1: (3, 6, 4), 2: (3, 6, 5, 4), 3: (3, 5, 6, 4, 4)}

# A value of each argument that is not its default.
VALUES = {
    "units": 3,
    "filters": 2,
    "kernel_size": 3,
    "pool_size": 3,
    "axis": 1,
    "strides": 2,
    "padding": "same",
    "data_format": "channels_first",
    "dilation_rate": 2,
    "output_padding": 0,
    "groups": 2,
    "depth_multiplier": 2,
    "activation": "relu",
    "use_bias": False,
    **{
        f"{weight}_{kind}": value
        for weight in ("kernel", "depthwise", "pointwise", "bias")
        for kind, value in (
            ("initializer", keras.initializers.RandomUniform(0.5, 1.5, seed=3)),
            ("regularizer", keras.regularizers.L1L2(0.3, 0.2)),
            ("constraint", keras.constraints.MaxNorm(0.25)),
        )
    },
    "lora_rank": 2,
    "lora_alpha": 3.0,
}
# Arguments of `keras.layers.Layer`, each with a test of its own below.
OF_EVERY_LAYER = {"name", "dtype", "trainable", "autocast", "activity_regularizer"}
REFUSED = {"quantization_config"}


def arguments_of(twin):
    parameters = list(inspect.signature(twin.analog_class.__init__).parameters.values())[1:]
    return [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]


def required(twin):
    parameters = inspect.signature(twin.analog_class.__init__).parameters
    return {name: value for name, value in REQUIRED.items() if name in parameters}


def shape_of(twin):
    """Return the shape of an input with its time axis, without batch."""
    name = twin.__name__
    return next((SHAPES[rank] for rank in (1, 2, 3) if f"{rank}D" in name), (3, 4))


CASES = [(twin, name) for twin in TWINS for name in arguments_of(twin) if name not in OF_EVERY_LAYER]


def test_all_arguments_are_known():
    known = {*VALUES, *OF_EVERY_LAYER, *REFUSED}
    assert {name for twin in TWINS for name in arguments_of(twin)} <= known
    of_layer = inspect.signature(keras.layers.Layer.__init__).parameters
    assert set(of_layer) - {"self", "kwargs"} == OF_EVERY_LAYER
    assert len(TWINS) == 16


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_what_a_layer_can_do_to_its_weights_its_twin_can_or_refuses(twin, rng):
    spiking, shape = twin(**required(twin)), shape_of(twin)
    spiking.build((2, *shape))
    with pytest.raises(NotImplementedError, match="must have weights in floating point"):
        spiking.quantize("int8")
    assert hasattr(spiking, "enable_lora") == hasattr(twin.analog_class, "enable_lora")
    if not hasattr(spiking, "enable_lora"):
        return
    spiking.enable_lora(2)
    frozen, analog = spiking.analog.variables[0], spiking.analog
    assert frozen.path not in {v.path for v in spiking.trainable_weights}
    assert len(spiking.trainable_weights) == 3
    x = rng.normal(size=(2, *shape)).astype("float32")
    before = to_numpy(spiking.current(x[:, 0]))
    analog.lora_kernel_b.assign(rng.normal(size=analog.lora_kernel_b.shape))
    currents = to_numpy(spiking.current(x[:, 0]))
    assert np.abs(currents - before).max() > 0.1
    again = twin.from_config(spiking.get_config())
    again.build((2, *shape))
    again.set_weights(spiking.get_weights())
    assert_same(to_numpy(again.current(x[:, 0])), currents, tolerance=1e-6)


@pytest.mark.parametrize(("twin", "argument"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_argument_acts_as_on_the_layer_or_is_refused(twin, argument, rng):
    if argument in REFUSED:
        with pytest.raises(ValueError, match=f"`{argument}` of {twin.__name__} must be None"):
            twin(**required(twin), **{argument: keras.quantizers.QuantizationConfig()})
        return
    options = required(twin) | {argument: VALUES[argument]}
    # A rank alone makes the other of the two.
    options |= {"lora_rank": 2} if argument == "lora_alpha" else {}
    steps, *shape = shape_of(twin)
    analog, layer = twin.analog_class(**options), twin(**options)
    assert layer.compute_output_shape((2, steps, *shape)) == (
        2,
        steps,
        *analog.compute_output_shape((2, *shape))[1:],
    )
    analog.build((None, *shape))
    layer.build((None, steps, *shape))
    assert [w.shape for w in layer.weights] == [w.shape for w in analog.weights]
    assert [w.trainable for w in layer.weights] == [w.trainable for w in analog.weights]
    if argument.endswith("_initializer"):
        assert_same(layer.get_weights()[-1], analog.get_weights()[-1])
    weights = [rng.normal(0, 1, w.shape) for w in analog.weights]
    for one in (analog, layer, copy := twin.from_config(layer.get_config())):
        if not one.built:
            one.build((None, steps, *shape))
        one.set_weights(weights)
    for one in (layer, copy):
        assert_same([to_numpy(x) for x in one.losses], [to_numpy(x) for x in analog.losses])
        for own, theirs in zip(one.weights, analog.weights, strict=True):
            limited = (v.constraint(v) if v.constraint else v for v in (own, theirs))
            assert_same(*limited)
        if argument != "data_format" and hasattr(layer, "neuron"):
            x = rng.normal(0, 1, (2, *shape)).astype("float32")
            given = analog(x) if options.get("activation") != "relu" else None
            if given is not None:
                assert_same(one.current(x), given)
    if argument.endswith("_regularizer"):
        assert layer.losses


@pytest.mark.parametrize("twin", TWINS, ids=lambda x: x.__name__)
def test_arguments_go_by_place_as_in_the_layer(twin):
    names = [name for name in arguments_of(twin) if name not in {*OF_EVERY_LAYER, *REFUSED}]
    defaults = inspect.signature(twin.analog_class.__init__).parameters
    first = required(twin)
    values = [first[name] if name in first else defaults[name].default for name in arguments_of(twin)]
    by_place = twin(*values, **({} if "name" in defaults else {"name": "twin"}))
    by_name = twin(**dict(zip(arguments_of(twin), values, strict=True)) | {"name": by_place.name})
    assert by_place.get_config() == by_name.get_config()
    assert names


@pytest.mark.parametrize("twin", TWINS, ids=lambda x: x.__name__)
def test_arguments_of_every_layer_are_those_of_the_twin(twin, rng):
    options, shape = required(twin), shape_of(twin)
    x = rng.uniform(0, 3, (5, *shape)).astype("float32")
    layer = twin(**options, name="mine", dtype="float64", trainable=False, autocast=True)
    layer.build((None, *shape))
    assert (layer.name, layer.compute_dtype, layer.trainable_variables) == ("mine", "float64", [])
    assert all(w.dtype == "float64" and not w.trainable for w in layer.weights)
    with pytest.raises(ValueError, match=f"`autocast` of {twin.__name__} must be True"):
        twin(**options, autocast=False)
    with pytest.raises(ValueError, match=f"`dtype` of {twin.__name__} must be a float dtype"):
        twin(**options, dtype="int8_from_float32")
    for layer in (twin(**options, activity_regularizer="l1"), twin(**options)):
        again = twin.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        # Whether the penalty is divided by the number of samples depends on the version of Keras.
        plain = keras.layers.Identity(activity_regularizer=layer.activity_regularizer)
        plain(again(x))
        assert len(again.losses) == len(plain.losses) == (layer.activity_regularizer is not None)
        for own, theirs in zip(again.losses, plain.losses, strict=True):
            np.testing.assert_allclose(to_numpy(own), to_numpy(theirs), rtol=1e-5)
    with pytest.raises(
        ValueError, match=f"`activity_regularizer` of {twin.__name__} needs return_state=False"
    ):
        twin(**options, activity_regularizer="l1", return_state=True)


@pytest.mark.parametrize("twin", TWINS, ids=lambda x: x.__name__)
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")
def test_the_shape_of_the_input_may_be_given_as_to_any_layer(twin):
    shape = shape_of(twin)
    model = keras.Sequential([twin(**required(twin), input_shape=shape)])
    assert model.built
    assert model.input_shape == (None, *shape)


@pytest.mark.compiled
def test_penalty_on_spikes_trains_the_weights(rng):
    """With no other loss, the layer falls silent."""
    x = rng.uniform(0, 1, (8, 6, 5)).astype("float32")
    layer = keras_snn.layers.SpikingDense(7, activity_regularizer=keras.regularizers.L1(1.0))
    model = keras.Sequential([keras.Input((6, 5)), layer])
    layer.set_weights([rng.uniform(0.1, 1, (5, 7)), np.zeros(7)])
    before = float(np.sum(model.predict(x, verbose=0)))
    assert before > 0
    model.compile(keras.optimizers.Adam(0.05), loss=lambda y, p: 0.0 * keras.ops.sum(p, axis=(1, 2)))
    model.fit(x, np.zeros((8, 1)), epochs=40, verbose=0)
    assert float(np.sum(model.predict(x, verbose=0))) < 0.2 * before


def test_low_rank_weights_are_saved_and_merged_as_in_the_layer(rng, tmp_path):
    """LoRA freezes the kernel; a file holds the sum."""
    model = keras.Sequential([keras.Input((4, 5)), keras_snn.layers.SpikingDense(3, lora_rank=2)])
    model.layers[0].set_weights([rng.normal(0, 1, w.shape) for w in model.layers[0].weights])
    assert len(model.trainable_weights) == 3
    x = rng.uniform(0, 1, (6, 4, 5)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_weights) == 3
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("name", keras_snn.layers.__all__)
def test_the_documentation_of_a_layer_names_every_argument_that_its_keras_layer_lacks(name):
    layer = getattr(keras_snn.layers, name)
    text = inspect.getdoc(layer)
    assert "None" not in text.splitlines()
    for option in getattr(layer, "options", {}):
        assert re.search(rf"^    {option}: ", text, re.MULTILINE), option
