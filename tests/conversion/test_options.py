"""The tools of Rueckauer et al. (2016) as options of `convert`."""

import contracts
import keras
import networks
import numpy as np
import pytest
import running
import tensorflow as tf
from keras import layers

import keras_snn
from keras_snn.conversion.place_neurons import encode
from keras_snn.graph.lowering import lower
from keras_snn.graph.nodes import Input
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold
from keras_snn.layers import BinaryActivation, PoissonEncoder, Readout, SpikingMaxPool, SpikingSoftmax
from keras_snn.neurons import Binary, Delayed, IntegrateAndFire
from keras_snn.simulation.internals import internals
from keras_snn.simulation.source import program_of

TOOLS = {
    "poisson input": {"input_encoding": "poisson", "input_rate": 0.7},
    "events": {"input_encoding": "events"},
    "fir": {"max_pool": "fir"},
    "avg": {"max_pool": "avg"},
    "exp": {"max_pool": "exp"},
    "poisson softmax": {"softmax": "poisson"},
    "clocked softmax": {"softmax": "clock"},
    "delay": {"delay": 3},
    "readout delay": {"readout_delay": 4},
    "reset to zero": {"neuron": IntegrateAndFire(reset="zero")},
}


def convert(model, data, **options):
    defaults = {"verbose": 0, "timesteps": 12, "seed": 1, "normalization": "max"}
    return keras_snn.convert(model, data, **{**defaults, **options})


def small_model(rng, *, scale=1.0):
    model = keras.Sequential(
        [
            keras.Input((8, 7, 2)),
            layers.Rescaling(scale),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(),
            layers.Dense(12, activation="relu", name="hidden"),
            layers.Dense(4, activation="softmax", name="label"),
        ]
    )
    return networks.randomize(model, rng)


def given(options, x, timesteps):
    return np.repeat(x[:, None], timesteps, axis=1) if options.get("input_encoding") == "events" else x


@pytest.mark.parametrize("tool", TOOLS)
def test_results_depend_on_neither_unroll_nor_batches_nor_files(tool, rng, tmp_path):
    """Laws 8, 9, 10 and 13, random spikes included."""
    model = networks.make_dyadic(small_model(rng), rng)
    x = networks.data_for(model, rng, dyadic=True)
    options = {"normalization": "percentile", "percentile": 100, "timesteps": 8, **TOOLS[tool]}
    snn = convert(model, x, **options)
    for layer in snn.layers:
        # Scales are no powers of two; weights made so again.
        layer.set_weights([np.round(w * 64) / 64 for w in layer.get_weights()])
    x = given(options, x, snn.timesteps)
    contracts.law_9_results_depend_on_neither_unroll_nor_batches(snn, x, len(x))
    loaded = contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, tmp_path / "snn.keras")
    contracts.law_10_a_file_holds_the_same(snn, loaded)
    assert program_of(loaded) == program_of(snn)
    contracts.law_13_a_model_and_its_program_are_the_same(program_of(snn))


def test_models_that_predict_differently_have_different_programs(rng):
    model = small_model(rng)
    x = networks.data_for(model, rng)
    plain = convert(model, x, timesteps=16, seed=0)
    options = {
        "max_pool": "avg",
        "softmax": "clock",
        "readout_delay": 3,
        "delay": 1,
        "timesteps": 15,
        "input_encoding": "poisson",
        "bias_correction": True,
        "neuron": "signed",
        "normalization": "mse",
        "dtype": "float16",
    }
    programs = [program_of(plain)]
    for name, value in options.items():
        other = convert(model, x, **{"timesteps": 16, "seed": 1, name: value})
        assert np.abs(other.predict(x, verbose=0) - plain.predict(x, verbose=0)).max() > 0, name
        programs.append(program_of(other))
    both = {"max_pool": "avg", "softmax": "clock", "readout_delay": 3}
    programs += [program_of(convert(model, x, timesteps=16, seed=seed, **both)) for seed in (1, 2)]
    for i, one in enumerate(programs):
        assert [one == other for other in programs] == [i == j for j in range(len(programs))]


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_graph_of_a_spiking_model_computes_the_source(network, rng):
    """The graph that the layers describe, is the network that was converted."""
    model = networks.build(network, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=4)
    graph = program_of(snn).graph
    expected = keras.tree.flatten(
        keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    )
    found = keras.tree.flatten(evaluate(graph, keras.tree.flatten(x)))
    for a, b in zip(found, expected, strict=True):
        contracts.assert_same(a, b.astype("float64"), tolerance=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_encoding_keeps_the_mean(scale, rng):
    graph = fold(lower(small_model(rng, scale=scale)))
    x = rng.uniform(-1, 1, (3, 8, 7, 2)) / scale
    name = next(node.name for node in graph.nodes.values() if isinstance(node, Input))
    encoded = encode(graph, {name: np.abs(x).max()}, 0.4, seed=0)
    contracts.assert_same(evaluate(encoded, x), evaluate(graph, x), tolerance=1e-5)


@pytest.mark.compiled
def test_poisson_input_fires_in_proportion_to_the_input(rng):
    model = small_model(rng, scale=1 / 255)
    x = np.round(255 * networks.data_for(model, rng))
    snn = convert(model, x, input_encoding="poisson", input_rate=0.5, timesteps=2000)
    encoder = next(layer for layer in snn.layers if isinstance(layer, PoissonEncoder))
    assert encoder.scale == x.max()
    assert encoder.rate == 0.5
    expected, outputs = model.predict(x, verbose=0), snn.predict(x, verbose=0)
    # The logits are off by some of 1/√T; measured 0.004 in mean.
    assert np.abs(outputs - expected).mean() < 0.02
    other = convert(model, x, input_encoding="poisson", input_rate=0.5, seed=2)
    again = convert(model, x, input_encoding="poisson", input_rate=0.5, seed=1)
    snn.timesteps = 12
    assert np.any(other.predict(x, verbose=0) != snn.predict(x, verbose=0))
    np.testing.assert_array_equal(again.predict(x, verbose=0), snn.predict(x, verbose=0))


NUMBERS = {
    "integers": lambda: (keras.Input((4,), dtype="int32"), layers.Embedding(9, 3)),
    "floats": lambda: (keras.Input((4,)), layers.Embedding(9, 3)),
    "one-hot": lambda: (keras.Input((4,), dtype="uint8"), layers.CategoryEncoding(9, "one_hot")),
    "many-hot": lambda: (keras.Input((4,)), layers.CategoryEncoding(9)),
    "cast": lambda: (keras.Input((4,)), lambda x: keras.ops.one_hot(keras.ops.cast(x, "int32"), 9)),
}


@pytest.mark.compiled
@pytest.mark.parametrize(("case", "moved"), running.pairs(NUMBERS, [False, True]))
def test_numbers_of_things_are_no_poisson_input(case, moved, rng):
    """Beside what is: an image of integers, and floats that a layer without a rule takes."""
    numbers, look_up = NUMBERS[case]()
    image, values = keras.Input((4,), dtype="uint8"), keras.Input((4,))
    given = layers.ZeroPadding1D((0, 1))(numbers[:, 1:, None])[:, :, 0] if moved else numbers
    things = layers.Flatten()(look_up(given))
    x = [things, layers.Rescaling(1 / 255)(image), layers.UnitNormalization()(values)]
    outputs = layers.Dense(3)(layers.Dense(8, activation="relu")(layers.Concatenate()(x)))
    model = networks.randomize(keras.Model([numbers, image, values], outputs), rng)
    x = [rng.integers(0, 9, (20, 4)), rng.integers(0, 256, (20, 4)), rng.uniform(0.1, 1, (20, 4))]
    x = [a.astype(given.dtype) for a, given in zip(x, model.inputs, strict=True)]
    snn = convert(model, x, input_encoding="poisson", nonspiking="allow", timesteps=400)
    encoders = [layer for layer in snn.layers if isinstance(layer, PoissonEncoder)]
    assert [layer.scale for layer in encoders] == [x[1].max(), pytest.approx(x[2].max())]
    contracts.assert_same(snn.predict(x, verbose=0), model.predict(x, verbose=0), tolerance=0.25)


def test_poisson_input_without_data_assumes_images(rng):
    model = small_model(rng, scale=1 / 255)
    with pytest.warns(UserWarning, match="without data"):
        snn = convert(model, None, input_encoding="poisson", normalization="percentile")
    assert next(layer for layer in snn.layers if isinstance(layer, PoissonEncoder)).scale == 255


def test_events_of_one_value_are_a_constant_current(rng):
    model = small_model(rng)
    x = networks.data_for(model, rng)
    constant, events = convert(model, x), convert(model, x, input_encoding="events")
    first = constant.simulate(x, record="spike_trains")
    second = events.simulate(given(TOOLS["events"], x, 12), record="spike_trains")
    for name, trains in first.spike_trains.items():
        # Up to neurons whose potential comes within rounding of the threshold.
        assert np.mean(trains != second.spike_trains[name]) < 1e-3
    np.testing.assert_allclose(second.outputs, first.outputs, atol=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"normalization": "auto"},
        {"readout_delay": "auto"},
        {"bias_correction": True},
        {"bias_correction": "potential"},
    ],
    ids=str,
)
def test_for_events_convert_chooses_by_their_averages_as_constant_currents(options, rng):
    model = small_model(rng)
    x = networks.data_for(model, rng, samples=9)
    constant = convert(model, x, **options)
    for data in (x, tf.data.Dataset.from_tensor_slices(x).batch(4)):
        events = convert(model, data, input_encoding="events", **options)
        report = {**events.conversion_report.options, "input_encoding": "current"}
        assert report == constant.conversion_report.options
        contracts.assert_same(events.get_weights(), constant.get_weights(), tolerance=1e-6)
        for name in ("conv", "hidden"):
            first, second = (snn.get_layer(name).neuron for snn in (constant, events))
            assert type(first) is type(second)
            for added in ("current", "potential"):
                # Up to neurons whose potential comes within rounding of the threshold.
                pair = (getattr(neuron, added, ()) for neuron in (first, second))
                np.testing.assert_allclose(*pair, atol=0.02)
        outputs = events.predict(given({"input_encoding": "events"}, x, 12), verbose=0)
        np.testing.assert_allclose(outputs, constant.predict(x, verbose=0), atol=0.02)


def test_events_reach_the_network_step_by_step(rng):
    """With one dense layer of neurons: compared with the equations in NumPy."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu", name="hidden")])
    networks.make_dyadic(model, rng)
    events = rng.integers(-1, 2, (7, 20, 6)).astype("float32")
    snn = convert(model, np.ones((4, 6), "float32"), input_encoding="events", timesteps=20)
    kernel, *bias = (w.astype("float64") for w in snn.get_layer("hidden").get_weights())
    snn.get_layer("hidden").set_weights([np.round(w * 64) / 64 for w in (kernel, *bias)])
    kernel, *bias = (w.astype("float64") for w in snn.get_layer("hidden").get_weights())
    v, expected = np.full((7, 5), 0.5), []
    for t in range(20):
        v = v + events[:, t] @ kernel + sum(bias)
        fires = v >= 1
        v = v - fires
        expected.append(fires)
    trains = snn.simulate(events, record="spike_trains").spike_trains["hidden"]
    np.testing.assert_array_equal(trains, np.stack(expected, axis=1))
    dataset = tf.data.Dataset.from_tensor_slices(events).batch(3)
    np.testing.assert_array_equal(snn.predict(dataset, verbose=0), snn.predict(events, verbose=0))
    # Only the first steps count.
    snn.timesteps = 5
    np.testing.assert_array_equal(snn.predict(events, verbose=0), snn.predict(events[:, :5], verbose=0))


def test_too_few_events_raise(rng):
    model = small_model(rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, input_encoding="events")
    message = (
        "`x` must have at least 12 time steps for input 'input_1'. Received: 9 steps. "
        "Set snn.timesteps to the length of the events."
    )
    for run in (lambda e: snn.predict(e, verbose=0), snn.simulate):
        with pytest.raises(ValueError) as error:
            run(given(TOOLS["events"], x, 9))
        assert message in str(error.value)
    with pytest.raises(ValueError, match=r"must have the shape \(batch, None, 8, 7, 2\)"):
        snn.predict(x, verbose=0)


@pytest.mark.parametrize("method", ["poisson", "clock"])
@pytest.mark.compiled
def test_outputs_of_a_spiking_softmax_are_spike_rates(method, rng):
    model = small_model(rng)
    model.layers[-1].set_weights([3 * w for w in model.layers[-1].get_weights()])
    x = networks.data_for(model, rng)
    snn = convert(model, x, softmax=method, timesteps=200)
    assert [type(layer) for layer in snn.layers[-2:]] == [SpikingSoftmax, Readout]
    rates = snn.predict(x, verbose=0)
    assert rates.shape == (len(x), 4)
    np.testing.assert_allclose(rates * 200, np.round(rates * 200), atol=1e-3)
    # Where one class is clearly ahead it fires most.
    expected = model.predict(x, verbose=0)
    first, second = np.sort(expected, axis=-1)[:, :-3:-1].T
    sure = first > 1.3 * second
    assert sure.any()
    np.testing.assert_array_equal(rates.argmax(axis=-1)[sure], expected.argmax(axis=-1)[sure])


@pytest.mark.parametrize("method", ["exact", "fir", "avg", "exp"])
def test_max_pool_is_that_of_the_option(method, rng):
    model = small_model(rng)
    snn = convert(model, networks.data_for(model, rng), max_pool=method)
    assert [layer.method for layer in snn.layers if isinstance(layer, SpikingMaxPool)] == [method]


def test_delay_holds_the_potentials_of_later_layers(rng):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=20, delay=4)
    run = snn.simulate(x, record=["spike_trains", "membrane_potentials"])
    depth, depths = dict.fromkeys(internals(snn).inputs.shapes, 0), {}
    by_name = {layer.name: layer for layer in snn.layers}
    for call in snn.calls:
        has_neurons = hasattr(by_name[call["layer"]], "neuron")
        depth[call["name"]] = max(depth[name] for name in call["inputs"]) + has_neurons
        if has_neurons:
            depths[call["name"]] = depth[call["name"]]
    assert max(depths.values()) > 2
    for name, deep in depths.items():
        wait = 4 * (deep - 1)
        assert not run.spike_trains[name][:, :wait].any()
        assert np.all(run.membrane_potentials[name][:, :wait] == 0.5)
        neuron = by_name[name].neuron
        assert neuron == (Delayed(IntegrateAndFire(), wait) if wait else IntegrateAndFire())


def test_readout_starts_at_the_step_that_was_chosen(rng):
    model = networks.make_dyadic(small_model(rng), rng)
    x = networks.data_for(model, rng, dyadic=True)
    plain, late = convert(model, x), convert(model, x, readout_delay=5)
    logits = {}
    for name, snn in (("plain", plain), ("late", late)):
        outputs = snn.simulate(x).outputs_over_time.astype("float64")
        logits[name] = np.log(outputs) - np.log(outputs).mean(axis=-1, keepdims=True)
    for t in (6, 9, 12):
        expected = (t * logits["plain"][:, t - 1] - 5 * logits["plain"][:, 4]) / (t - 5)
        np.testing.assert_allclose(logits["late"][:, t - 1], expected, atol=1e-4)


def binary_network(function, at_zero, pooling, rng):
    model = keras.Sequential([keras.Input((8, 8, 2))])
    for filters in (6, 8):
        model.add(layers.Conv2D(filters, 3, padding="same"))
        model.add(pooling(2))
        model.add(layers.BatchNormalization())
        model.add(BinaryActivation(function, at_zero))
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    model.add(layers.Activation(keras.ops.sign if function == "sign" else BinaryActivation("heaviside")))
    model.add(layers.Dense(3, activation="softmax"))
    return networks.randomize(model, rng)


@pytest.mark.parametrize("pooling", [layers.MaxPooling2D, layers.AveragePooling2D])
@pytest.mark.parametrize("at_zero", [0, 1])
@pytest.mark.parametrize(("function", "reset"), [("sign", "none"), ("heaviside", "none"), ("sign", "zero")])
def test_a_binary_network_is_right_from_the_first_step(function, reset, at_zero, pooling, rng):
    """Under constant input the signs at every step are those of the source network."""
    model = binary_network(function, at_zero, pooling, rng)
    x = networks.data_for(model, rng)
    neuron = IntegrateAndFire(reset="zero" if reset == "zero" else "subtract")
    snn = convert(model, x, timesteps=6, neuron=neuron)
    run = snn.simulate(x, record="spike_trains")
    expected = model.predict(x, verbose=0)
    for t in range(6):
        np.testing.assert_allclose(run.outputs_over_time[:, t], expected, atol=1e-5)
    neurons = [layer.neuron for layer in snn.layers if hasattr(layer, "neuron")]
    assert neurons[:2] == [Binary(function, at_zero, reset)] * 2
    allowed = {"sign": {-1, 1}, "heaviside": {0, 1}}[function]
    assert all(set(np.unique(trains)) <= allowed for trains in list(run.spike_trains.values())[:2])
    report = {row.name: row for row in snn.conversion_report.layers}
    assert "IntegrateAndFire" not in str([layer.neuron for layer in snn.layers if hasattr(layer, "neuron")])
    assert all(row.scale in (None, 1.0) for row in report.values())


@pytest.mark.compiled
def test_a_binary_activation_is_trained_through_a_straight_line(rng):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16), BinaryActivation(), layers.Dense(1)])
    x = rng.normal(0, 1, (512, 8)).astype("float32")
    y = np.sign(x[:, :1] + x[:, 1:2]).astype("float32")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    before = model.get_weights()[0]
    first = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=15, verbose=0)
    assert np.any(model.get_weights()[0] != before)
    assert model.evaluate(x, y, verbose=0) < 0.6 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_encoding": "rate"}, "`input_encoding` must be one of 'current', 'poisson', 'events', 'tim"),
        ({"input_rate": 2}, "`input_rate` must be in (0, 1]. Received: input_rate=2."),
        ({"max_pool": "or"}, "`max_pool` must be one of 'exact', 'fir', 'avg', 'exp'."),
        ({"softmax": "hard"}, "`softmax` must be one of 'potential', 'poisson', 'clock'."),
        ({"delay": -1}, "`delay` must be at least 0. Received: delay=-1."),
        ({"readout_delay": -1}, "`readout_delay` must be at least 0. Received: readout_delay=-1."),
        (
            {"readout_delay": 12},
            "`readout_delay` must be less than timesteps=12. Received:",
        ),
        ({"readout_weighting": "late"}, "`readout_weighting` must be one of 'auto', 'uniform', 'linear'."),
        (
            {"readout_weighting": "linear", "neuron": "ttfs"},
            "`readout_weighting` must be 'auto' or 'uniform' with a time code",
        ),
        (
            {"readout_weighting": "linear", "weight_bits": 8},
            "`readout_weighting` must be 'uniform' with weight_bits",
        ),
        ({"seed": -1}, "`seed` must be at least 0. Received: seed=-1."),
    ],
)
def test_bad_options_raise(options, message, rng):
    model = small_model(rng)
    with pytest.raises(ValueError) as error:
        convert(model, networks.data_for(model, rng), **options)
    assert str(error.value).startswith(message)


def test_a_network_with_spiking_layers_is_not_converted_again(rng):
    model = keras.Sequential([keras.Input((5, 6)), keras_snn.layers.SpikingDense(4)])
    with pytest.raises(ValueError, match="`model` must be an analog network"):
        convert(model, rng.uniform(0, 1, (4, 5, 6)))


def test_convert_raises_when_the_neuron_leaks(rng):
    model = networks.build(networks.plain, rng)
    with pytest.raises(ValueError, match="proportional to its current.* Received: neuron=LeakyInteg"):
        keras_snn.convert(model, networks.data_for(model, rng), neuron="lif")


def test_neurons_of_several_spikes_saturate_as_their_relu():
    """λ = 0.5 lies below max_value = 0.75, so that one step could give more than the relu ever does."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.ReLU(max_value=0.75)])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    # 1.5 in multiples of λ: twelve eighths; or two whole spikes, of another λ.
    for neuron, scale in (("multi_threshold", 0.5), ("burst", 0.375)):
        snn = contracts.convert(model, np.array([[0.5]]), neuron=neuron, timesteps=3)
        assert snn.conversion_report.layers[0].scale == pytest.approx(scale, rel=1e-6)
        assert snn.predict(np.array([[3.0]]), verbose=0).item() == pytest.approx(0.75, rel=1e-6)
