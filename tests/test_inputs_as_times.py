"""Inputs that neurons of a time code send: what the network gets, what it adds, and what is refused."""

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers
from running import few, named, pairs
from test_time_codes import CODES, EXACT, check_all_agree

import keras_snn
from keras_snn.neurons import DigitCode, TimeToFirstSpike
from keras_snn.simulation.source import program_of


def _network(rng):
    image, numbers = keras.Input((5, 5, 2), name="image"), keras.Input((3,), name="numbers")
    x = layers.Conv2D(4, 2, strides=2, padding="same", activation="relu", name="conv")(
        layers.Rescaling(0.3)(image)
    )
    x = layers.Concatenate()(
        [layers.Flatten()(x), layers.Dense(3, activation="relu", name="beside")(numbers)]
    )
    return networks.randomize(keras.Model([image, numbers], layers.Dense(3)(x)), rng)


def _data(rng, samples=6):
    return {
        "image": rng.normal(0, 40, (samples, 5, 5, 2)).astype("float32"),
        "numbers": rng.exponential(2, (samples, 3)).astype("float32"),
    }


def _as_numbers(x, levels):
    """What neurons send of an input, and what a number is worth."""
    largest = np.abs(x).max()
    return np.clip(np.floor(x.astype("float64") * levels / largest + 0.5), -levels, levels), largest / levels


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_network_gets_its_inputs_rounded(code, rng):
    model, x = _network(rng), _data(rng)
    options = {"neuron": code, "dtype": "float64", "normalization": "max", "per_channel": False}
    sent = contracts.convert(model, x, input_encoding="times", **options)
    given = contracts.convert(model, x, **options)
    found = {name: _as_numbers(values, code.levels) for name, values in x.items()}
    rounded = {name: numbers * unit for name, (numbers, unit) in found.items()}
    contracts.assert_same(sent.predict_on_batch(x), given.predict_on_batch(rounded), tolerance=1e-12)
    trains = sent.simulate(x, record="spike_trains").spike_trains
    for name, (numbers, _) in found.items():
        ours = next(train for layer, train in trains.items() if layer.startswith(name))
        np.testing.assert_array_equal(np.moveaxis(ours, 1, 0), code.trains(numbers))


@pytest.mark.parametrize("code", CODES, ids=str)
def test_weights_of_the_first_layer_are_only_added(code, rng):
    model, x = _network(rng), _data(rng)
    snn = contracts.convert(model, x, input_encoding="times", neuron=code, dtype="float64", per_channel=False)
    of_layer = {layer.name: layer for layer in keras_snn.count_operations(snn, x).layers}
    numbers, _ = _as_numbers(x["image"], code.levels)
    # "same" pads the last row and column: every pixel is in one window, of 4 channels.
    events = np.abs(code.trains(numbers)).sum() / len(numbers)
    np.testing.assert_allclose(of_layer["conv"].additions.sum(), 4 * events, rtol=1e-6)
    assert of_layer["conv"].multiply_adds.sum() == of_layer["beside"].multiply_adds.sum() == 0
    assert {layer.takes for layer in snn.conversion_report.layers if layer.takes} == {"spikes"}


@pytest.mark.parametrize(
    ("network", "code"), pairs(few(EXACT), [TimeToFirstSpike(8), DigitCode(16, 2)]), ids=named
)
def test_on_dyadic_weights_all_agree(network, code, rng):
    model = networks.build_dyadic(network, rng)
    x = networks.data_for(model, rng, samples=4, dyadic=True)
    snn = contracts.convert(model, x, neuron=code, normalization="none", input_encoding="times")
    check_all_agree(snn, x, tolerance=1e-5)


def test_what_an_embedding_or_a_function_computes_of_an_input_is_sent(rng):
    words = keras.Input((7,), dtype="int32")
    x = layers.Conv1D(4, 3, activation="relu", name="conv")(layers.Embedding(9, 5)(words))
    model = networks.randomize(keras.Model(words, layers.Dense(2)(layers.Flatten()(x))), rng)
    x = rng.integers(0, 9, (8, 7))
    snn = contracts.convert(model, x, neuron=TimeToFirstSpike(255), input_encoding="times", dtype="float64")
    contracts.assert_same(snn.predict_on_batch(x), model.predict_on_batch(x), tolerance=0.05)
    assert keras_snn.count_operations(snn, x).layers[-1].multiply_adds.sum() == 0
    assert {layer.takes for layer in snn.conversion_report.layers if layer.takes} <= {"spikes", "constants"}


def test_files_and_programs_keep_it(rng, tmp_path):
    model, x = _network(rng), _data(rng)
    snn = contracts.convert(model, x, neuron="digits", input_encoding="times")
    contracts.law_13_a_model_and_its_program_are_the_same(program_of(snn))
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    contracts.assert_same(loaded.predict_on_batch(x), snn.predict_on_batch(x))
    assert loaded.conversion_report.options["input_encoding"] == "times"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"neuron": "if"},
            "'times' needs a time code. Received: input_encoding='times' and neuron=Integrate",
        ),
        ({"neuron": "ttfs", "calibration_data": None}, "`input_encoding` is chosen on `calibration_data`."),
    ],
)
def test_what_it_needs(options, message, rng):
    x = options.pop("calibration_data", _data(rng))
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        keras_snn.convert(_network(rng), x, input_encoding="times", verbose=0, **options)
