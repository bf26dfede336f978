"""The options of a conversion: their checks, and those of single layers."""

import dataclasses
import inspect
import typing

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion.options import Options, choices
from keras_snn.layers.pooling import _GATES
from keras_snn.neurons import IntegrateAndFire, MultiThreshold, SignedIntegrateAndFire


def options(**given):
    fields = {field.name for field in dataclasses.fields(Options)}
    parameters = inspect.signature(keras_snn.convert).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.name in fields}
    return Options(**{"calibrated": True, **defaults, **given})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"percentile": 0}, ValueError, "`percentile` must be in (0, 100]. Received: percentile=0."),
        ({"percentile": 100.5}, ValueError, "Received: percentile=100.5. Use 99.9 to ignore"),
        ({"percentile": float("nan")}, ValueError, "Received: percentile=nan."),
        ({"percentile": "99"}, TypeError, "`percentile` must be a number. Received: percentile='99'."),
        (
            {"normalization": "mean"},
            ValueError,
            "`normalization` must be one of 'percentile', 'max', 'mse', 'gaussian', 'ltb', 'auto', 'none'.",
        ),
        ({"layer_options": [("a", {})]}, TypeError, "`layer_options` must be a dict of dicts, by layer name"),
        (
            {"layer_options": {"a": 3}},
            TypeError,
            "Received: 'a': 3. Write {'conv2d': {'percentile'",
        ),
        ({"layer_options": {"(": {}}}, ValueError, "Received: '(' ("),
        (
            {"layer_options": {"a": {"delay": 1}}},
            ValueError,
            "must be one of 'neuron', 'normalization', 'per_channel', 'percentile', 'relays'. Received: ",
        ),
        (
            {"layer_options": {"a": {"percentile": 101}}},
            ValueError,
            "Received: layer_options['a']['perc",
        ),
        ({"layer_options": {"a": {"normalization": "auto"}}}, ValueError, "Received: layer_options['a']["),
        ({"layer_options": {"a": {"neuron": "lif"}}}, ValueError, "which one with a leak has not"),
    ],
)
def test_options_raise_when_one_is_wrong(given, error, message):
    with pytest.raises(error) as raised:
        options(**given)
    assert message in str(raised.value)


def test_choices_are_those_of_the_layers():
    assert set(choices("max_pool")) == {"exact", *_GATES}
    assert choices("neuron") == ("burst", "digits", "if", "multi_threshold", "signed", "ttfs")
    hints = typing.get_type_hints(keras_snn.convert)
    for name in ("preset", "input_encoding", "max_pool", "softmax", "nonspiking"):
        assert typing.get_args(hints[name]) == choices(name)
    for name in ("normalization", "bias_correction"):
        literal, none = typing.get_args(hints[name])
        assert (typing.get_args(literal), none) == (choices(name), type(None))


def model_of(rng):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv_1")(inputs)
    x = layers.Conv2D(4, 3, name="conv_2")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu_2")(x)
    x = layers.Flatten()(x)
    block = keras.Sequential(
        [keras.Input((64,)), layers.Dense(6, activation="relu", name="hidden")], name="block"
    )
    return networks.randomize(keras.Model(inputs, layers.Dense(3, name="last")(block(x))), rng)


def scales(snn):
    return {row.name: row.scale for row in snn.conversion_report.layers if row.scale is not None}


def test_options_of_a_layer_are_those_of_a_conversion_with_them_everywhere(rng):
    model = model_of(rng)
    x = networks.data_for(model, rng, samples=200)
    changed = {"percentile": 90.0, "neuron": "signed", "per_channel": True, "normalization": "percentile"}
    plain = contracts.convert(model, x, timesteps=8, normalization="percentile")
    other = contracts.convert(model, x, timesteps=8, **changed)
    names = {"conv_1": "conv_1", "conv_2": "conv_2", "relu_2": "conv_2", "block/hidden": "block_hidden"}
    for pattern, layer in names.items():
        snn = contracts.convert(
            model, x, timesteps=8, normalization="percentile", layer_options={pattern: changed}
        )
        assert scales(snn) == {**scales(plain), layer: scales(other)[layer]}
        neurons = {name: snn.get_layer(name).neuron for name in scales(snn)}
        assert neurons.pop(layer) == SignedIntegrateAndFire()
        assert set(neurons.values()) == {IntegrateAndFire()}
        assert np.isfinite(snn.predict(x[:4], verbose=0)).all()


def test_later_options_win_and_all_of_a_regular_expression_matches(rng):
    model = model_of(rng)
    x = networks.data_for(model, rng, samples=60)
    snn = contracts.convert(
        model,
        x,
        timesteps=64,
        layer_options={
            "conv_.": {"neuron": MultiThreshold(3), "percentile": 50},
            "conv_2": {"neuron": "burst"},
        },
    )
    names = [type(snn.get_layer(name).neuron).__name__ for name in ("conv_1", "conv_2", "block_hidden")]
    assert names == ["MultiThreshold", "Burst", "IntegrateAndFire"]
    reported = snn.conversion_report.options["layer_options"]
    assert reported["conv_2"] == {"neuron": repr(snn.get_layer("conv_2").neuron)}
    contracts.law_12_it_converges_to_the_source(
        contracts.convert(model, x, layer_options={"conv_1": {"neuron": MultiThreshold(3)}}), model, x
    )


@pytest.mark.parametrize("pattern", ["conv_3", "last", "conv", "norm_1"])
def test_a_name_without_neurons_raises_with_close_ones(pattern, rng):
    model = model_of(rng)
    message = rf"`layer_options` must name layers .* Received: '{pattern}'\. Close names: .*'conv_1'"
    with pytest.raises(ValueError, match=message if pattern.startswith("conv") else f"Received: '{pattern}'"):
        keras_snn.convert(model, layer_options={pattern: {"percentile": 99}})


def test_layer_options_are_saved_in_the_report(rng, tmp_path):
    model = model_of(rng)
    x = networks.data_for(model, rng, samples=40)
    snn = contracts.convert(model, x, layer_options={"conv_1": {"per_channel": True, "neuron": "signed"}})
    snn.save(tmp_path / "snn.keras")
    assert keras.models.load_model(tmp_path / "snn.keras").conversion_report == snn.conversion_report
    assert "layer_options=" in str(snn.conversion_report)
