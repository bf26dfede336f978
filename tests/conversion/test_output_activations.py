"""A relu at the output acts on the average over time, as any activation there."""

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn


def _both_ways(x):
    return layers.Concatenate()([layers.ReLU()(x), layers.LeakyReLU(0.3)(-1.0 * x)])


# What comes after the last linear layer; the second is the same function of an array.
ENDS = {
    "relu": layers.ReLU(name="end"),
    "relu6": layers.ReLU(6.0, name="end"),
    "limited": layers.ReLU(0.7),
    "leaky": layers.LeakyReLU(0.2),
    "prelu": layers.PReLU(alpha_initializer=keras.initializers.Constant(0.4)),
    "hard_sigmoid": layers.Activation("hard_sigmoid"),
    "flattened": lambda x: layers.Flatten()(layers.ReLU()(x)),
    "scaled": lambda x: layers.Rescaling(100.0, offset=-3.0)(layers.ReLU()(x)),
    "both": _both_ways,
    "absolute": lambda x: ops.absolute(x),
    "softmax": lambda x: layers.Softmax()(layers.ReLU()(x)),
    "twice": lambda x: layers.ReLU(0.9)(layers.ReLU()(x)),
}


def network(end, rng):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.Conv2D(3, 3, name="last")(layers.MaxPooling2D(2)(x))
    before, after = keras.Model(inputs, x), keras.Model(inputs, end(x))
    return networks.randomize(before, rng), after


@pytest.mark.parametrize("end", ENDS)
def test_the_output_is_the_function_of_the_average(end, rng, tmp_path):
    before, model = network(ENDS[end], rng)
    x = networks.data_for(model, rng)
    function = keras.Model(before.output, model.output)
    averages, snn = (
        contracts.convert(m, x, timesteps=5, normalization="percentile") for m in (before, model)
    )
    expected = function.predict_on_batch(averages.simulate(x).outputs_over_time[:, -1])
    contracts.assert_same(snn.predict_on_batch(x), expected, tolerance=1e-6)
    run = snn.simulate(x, record=["spike_counts"])
    contracts.assert_same(run.outputs, expected, tolerance=1e-6)
    assert set(run.spike_counts) == {"conv"}
    # After every step, too.
    first = function.predict_on_batch(averages.simulate(x).outputs_over_time[:, 0])
    contracts.assert_same(run.outputs_over_time[:, 0], first, tolerance=1e-6)
    contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, tmp_path / "snn.keras")
    contracts.law_13_a_model_and_its_program_are_the_same(contracts.program_of(snn))
    graph, _ = contracts.source_graph(snn)
    contracts.assert_same(contracts.evaluate(graph, x), model.predict_on_batch(x), tolerance=1e-4)
    assert keras_snn.check(model).converts


def test_events_and_signed_neurons_settle_to_the_reference(rng):
    _, model = network(ENDS["relu"], rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=6, neuron="signed")
    reference = keras_snn.quantized_reference(snn).predict_on_batch(x)
    contracts.assert_same(snn.simulate(x, settle=True).outputs, reference, tolerance=1e-5)
    events = contracts.convert(model, x, timesteps=6, input_encoding="events")
    constant = contracts.convert(model, x, timesteps=6)
    repeated = np.repeat(x[:, None], 6, axis=1)
    contracts.assert_same(events.predict_on_batch(repeated), constant.predict_on_batch(x), tolerance=1e-5)


def test_a_relu_that_other_layers_take_too_is_neurons(rng):
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu", name="hidden")(inputs)
    features = layers.Dense(4, activation="relu", name="features")(x)
    model = networks.randomize(keras.Model(inputs, [features, layers.Dense(2)(features)]), rng)
    snn = contracts.convert(model, networks.data_for(model, rng))
    assert hasattr(snn.get_layer("features"), "neuron")


def test_a_network_with_no_other_relu_keeps_its_neurons(rng):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu", name="only")])
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x)
    assert hasattr(snn.get_layer("only"), "neuron")
    contracts.law_12_it_converges_to_the_source(snn, model, x)


def test_outputs_of_any_size_are_right_after_few_steps(rng):
    """Ages in years: a grid of λ/T would be years wide."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(30, activation="relu"), layers.Dense(1, activation="relu")]
    )
    networks.randomize(model, rng)
    kernel, bias = model.layers[1].get_weights()
    model.layers[1].set_weights([kernel * 40, bias * 40 + 40])
    x = networks.data_for(model, rng, samples=100)
    expected = model.predict_on_batch(x)
    outputs = contracts.convert(model, x, timesteps=64).predict_on_batch(x)
    assert np.abs(outputs - expected).max() < 0.05 * np.ptp(expected)
