"""What options are that are not given, and a warning of much loss."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion.losses import Judge
from keras_snn.neurons import IntegrateAndFire

pytestmark = pytest.mark.default_options
OURS = {
    "neuron": "if",
    "normalization": "mse",
    "per_channel": True,
    "bias_correction": "either",
    "readout_weighting": "auto",
}
OF_2017 = {
    "neuron": "if",
    "normalization": "percentile",
    "percentile": 99.9,
    "per_channel": False,
    "bias_correction": False,
    "readout_weighting": "uniform",
}
OF_2016 = {
    "neuron": IntegrateAndFire(initial_potential=0.0),
    "normalization": "max",
    "per_channel": False,
    "bias_correction": False,
    "readout_weighting": "uniform",
}


@pytest.fixture
def problem(rng):
    """Return a network and samples."""
    inputs = keras.Input((9, 3))
    x = layers.Conv1D(6, 3, activation="relu", name="conv")(inputs)
    x = layers.Flatten()(x)
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(8, activation="relu", name="hidden")(x)))
    networks.randomize(model, rng)
    return model, networks.data_for(model, rng, samples=300)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({}, {}),
        ({"neuron": "signed"}, {}),
        ({"per_channel": False}, {}),
        ({"bias_correction": False}, {}),
        ({"percentile": 99.0}, {"normalization": "percentile"}),
        (
            {"layer_options": {"conv": {"percentile": 90.0}}},
            {"layer_options": {"conv": {"normalization": "percentile", "percentile": 90.0}}},
        ),
        ({"preset": "rueckauer2017"}, OF_2017),
        ({"preset": "rueckauer2017", "normalization": "max"}, {**OF_2017, "normalization": "max"}),
        ({"preset": "rueckauer2016"}, OF_2016),
    ],
)
def test_an_option_that_is_not_given_is_that_of_the_preset(problem, given, more):
    meant = more if "preset" in given else OURS | given | more
    model, x = problem
    snn, other = (
        keras_snn.convert(model, x, timesteps=5, verbose=0, **options) for options in (given, meant)
    )
    np.testing.assert_array_equal(snn.predict(x, verbose=0), other.predict(x, verbose=0))
    scales = [[layer.scale for layer in one.conversion_report.layers] for one in (snn, other)]
    assert scales[0] == scales[1]


def test_presets_differ(problem):
    model, x = problem
    outputs = [
        keras_snn.convert(model, x, preset=preset, timesteps=5, verbose=0).predict(x, verbose=0)
        for preset in ("default", "rueckauer2017", "rueckauer2016")
    ]
    for i in range(3):
        assert not np.array_equal(outputs[i], outputs[i - 1])


def test_spikes_as_input_are_corrected_only_if_that_is_given(problem):
    model, x = problem
    events = np.repeat(x[:, None], 4, axis=1)
    with_events = {"timesteps": 4, "input_encoding": "events", "verbose": 0}
    snn = keras_snn.convert(model, x, **with_events)
    other = keras_snn.convert(model, x, bias_correction=False, **with_events)
    assert snn.conversion_report.options["bias_correction"] is False
    np.testing.assert_array_equal(snn.predict(events, verbose=0), other.predict(events, verbose=0))


def test_without_data_nothing_is_corrected(problem):
    model, _ = problem
    with pytest.warns(UserWarning, match="without data"):
        snn = keras_snn.convert(model, timesteps=5)
    assert snn.conversion_report.options["bias_correction"] is False
    assert all(np.ndim(row.scale or 1.0) == 0 for row in snn.conversion_report.layers)
    with pytest.raises(ValueError, match="`bias_correction` is chosen on `calibration_data`"):
        keras_snn.convert(model, timesteps=5, bias_correction=True)


def test_what_a_preset_may_not_be(problem):
    model, x = problem
    with pytest.raises(ValueError, match=r"`preset` must be .*rueckauer2017"):
        keras_snn.convert(model, x, preset="2017")
    with pytest.raises(ValueError, match="`preset` is chosen by max_loss"):
        keras_snn.convert(model, x, max_loss=1, preset="rueckauer2017")


def test_much_loss_is_named_with_its_cause_and_a_way_out_that_was_tried(rng):
    """The numbers are those of the networks themselves; a conversion that loses little has no warning."""
    inputs = keras.Input((12,))
    x = inputs
    for i in range(3):
        x = layers.Dense(24, activation="relu", name=f"hidden{i}")(x)
    model = networks.randomize(keras.Model(inputs, layers.Dense(8)(x)), rng)
    x = networks.data_for(model, rng, samples=64)
    options = {"neuron": "signed", "normalization": "max", "bias_correction": False, "verbose": 0}
    with pytest.warns(UserWarning, match="loses") as caught:
        snn = keras_snn.convert(model, x, timesteps=2, **options)
    (warning,) = (one for one in caught if "loses" in str(one.message))
    assert warning.filename == __file__
    judge = Judge(model, x, None, 32)
    text = str(warning.message)
    assert f"loses {judge.loss_of(snn).mean:.1f} points of agreement, on 64 samples" in text
    assert "adds the largest error, most of it by quantisation" in text
    with_way_out = judge.loss_of(keras_snn.convert(model, x, timesteps=8, **options)).mean
    assert f"With timesteps=8 it loses {with_way_out:.1f}." in text
    keras_snn.convert(model, x, timesteps=64, **options)
