"""Which causes a report names, from diagnoses."""

import dataclasses
import re

import keras
import networks
import numpy as np
import pytest
from diagnosed import diagnosed_layer
from keras import layers

import keras_snn
from keras_snn import neurons
from keras_snn.analysis.causes import Agreement, find_causes, steps_that_suffice
from keras_snn.analysis.diagnosis import Diagnosis, Error


@pytest.mark.filterwarnings("ignore:The spiking network loses")
def test_a_layer_with_too_few_levels_is_named_with_a_neuron_that_has_more(rng):
    """The one that is proposed can be converted with, and loses less."""
    dense = [layers.Dense(30, "relu", name=f"dense{i}") for i in range(2)]
    model = networks.randomize(keras.Sequential([keras.Input((9,)), *dense, layers.Dense(4)]), rng)
    x = networks.data_for(model, rng, samples=60)
    few = {"dense1": {"neuron": neurons.TimeToFirstSpike(3)}}
    options = {"normalization": "max", "bias_correction": True, "verbose": 0}
    snn = keras_snn.convert(model, x, neuron=neurons.TimeToFirstSpike(255), layer_options=few, **options)
    found = keras_snn.diagnose(snn, x)
    cause = find_causes(found, LOSING, snn.conversion_report.options)[0]
    assert cause.startswith("Layer 'dense1' adds the largest error, most of it by quantisation")
    assert "3 levels are too few for it." in cause
    proposed = eval(re.search(r"neuron=(.*\)), or", cause).group(1), vars(neurons))
    assert proposed.levels > 3
    better = keras_snn.convert(
        model,
        x,
        neuron=neurons.TimeToFirstSpike(255),
        layer_options={"dense1": {"neuron": proposed}},
        **options,
    )
    errors = [keras_snn.diagnose(one, x).layers[1].quantisation.relative for one in (snn, better)]
    assert errors[1] < errors[0] / 2


def test_data_of_another_scale_than_for_calibration_is_the_first_cause(rng):
    """Data in 0 … 1 where it was in 0 … 255, and the other way round; and none for data that is alike."""
    inputs = keras.Input((12,))
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(20, activation="relu", name="first")(inputs)))
    networks.randomize(model, rng)
    small = networks.data_for(model, rng, samples=200)
    for calibration, x, times in (
        (small, 255 * small, 255),
        (255 * small, small, 1 / 255),
        (small, small, 1),
    ):
        snn = keras_snn.convert(model, calibration[:100], timesteps=8, bias_correction=False, verbose=0)
        found = keras_snn.diagnose(snn, x[100:])
        of_source = keras.Model(inputs, model.get_layer("first").output).predict(x[100:], verbose=0).mean()
        np.testing.assert_allclose(found.layers[0].activation, of_source, rtol=1e-4)
        causes = find_causes(found, None, snn.conversion_report.options)
        assert ("times those on the calibration data" in causes[0]) == (times != 1)
        if times != 1:
            ratio = float(causes[0].split(" are ")[1].split()[0])
            assert 0.3 * times < ratio < 3 * times


LOSING = Agreement(np.array([0.5, 0.8]), np.array([0.5, 0.8]), 0.9)
OPTIONS = {"percentile": 99.0, "neuron": "IntegrateAndFire(reset='subtract')", "input_encoding": "current"}


@pytest.mark.parametrize(
    ("worst", "options", "words"),
    [
        (
            {"clipping": 0.3, "quantisation": 0.1, "saturated": 0.03},
            {},
            [
                "Layer 'conv2' adds the largest error: it saturates in 3.0% of its neurons and clips them,",
                "an error of 30.0% (RMS). Raise `percentile` from 99 to 99.9, or convert",
            ],
        ),
        ({"clipping": 0.3}, {"percentile": 90.0}, ["from 90 to 99, or"]),
        ({"clipping": 0.3}, {"percentile": 100.0}, ["Calibrate on more data"]),
        (
            {"quantisation": 0.3, "unevenness": 0.2},
            {},
            [
                "most of it by quantisation, an error of 30.0% (RMS): after 2 steps",
                "rates are only multiples of 1/8 up to 1.75. Simulate longer, for example timesteps=4.",
            ],
        ),
        ({"unevenness": 0.3}, {}, ["too early or too late", "`delay`"]),
        ({"unevenness": 0.3}, {"neuron": "IntegrateAndFire(reset='zero')"}, ["reset='subtract'"]),
        ({"unevenness": 0.3}, {"input_encoding": "poisson"}, ["input_encoding='current'"]),
    ],
    ids=str,
)
def test_the_cause_is_the_largest_part_of_the_worst_layer(worst, options, words):
    layers_ = (
        diagnosed_layer("conv1", clipping=0.9, added=0.1),
        diagnosed_layer("conv2", added=0.4, **worst),
    )
    found = find_causes(Diagnosis(layers_, 2, 10), LOSING, {**OPTIONS, **options})
    assert len(found) == 1
    assert all(word in found[0] for word in words), found


def test_more_causes_are_given_for_saturated_silent_and_uncalibrated_layers():
    layers_ = (
        diagnosed_layer("a", saturated=0.02),
        diagnosed_layer("b", silent=1.0, added=0.4, quantisation=0.3),
    )
    found = find_causes(Diagnosis(layers_, 2, 10), LOSING, {**OPTIONS, "calibrated": False})
    # First what makes the others meaningless.
    assert "Almost no neuron of 'b' ever spikes" in found[0]
    assert "`calibration_data`" in found[1]
    assert "'b' adds the largest error" in found[2]
    assert "'a' saturates in 2.0% of its neurons" in found[3]


def test_neurons_that_clip_nothing_may_fire_all_the_time():
    """As those of a binary network, whose signs are all of size 1."""
    signs = dataclasses.replace(diagnosed_layer("sign", saturated=1.0), clipping=Error(0.0, 0.0, 0.0))
    other = diagnosed_layer("b", added=0.4, unevenness=0.3)
    (found,) = find_causes(Diagnosis((signs, other), 2, 10), LOSING, OPTIONS)
    assert "'b' adds the largest error" in found


def test_no_cause_is_named_where_nothing_is_lost():
    curve = np.array([0.2, 0.7, 0.9, 0.899, 0.9, 0.9])
    fine = Agreement(curve, curve, 0.902)
    found = find_causes(Diagnosis((diagnosed_layer("a", added=0.5, clipping=0.5),), 6, 10), fine, OPTIONS)
    assert found[0] == "The conversion loses no accuracy worth mentioning."
    assert "3 instead of 6 time steps would do" in found[1]
    assert steps_that_suffice(fine) == 3
    np.testing.assert_allclose(Agreement(curve).loss, 0.1)
