import functools
import types

import keras
import networks
import numpy as np
import pytest
from contracts import assert_same, convert

import keras_snn
from keras_snn.engines import chunks
from keras_snn.simulation.compiled_functions import set_watch
from keras_snn.simulation.internals import internals

# They read graphs of tf.function and pipelines of tf.data, which other backends do not have.
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow")


@pytest.fixture
def pair(rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng)
    return model, convert(model, x, timesteps=12), x


def test_predict_has_the_shape_and_meaning_of_the_source(pair):
    model, snn, x = pair
    outputs = snn.predict(x, verbose=0)
    assert outputs.shape == model.predict(x, verbose=0).shape
    np.testing.assert_allclose(outputs.sum(axis=-1), 1, rtol=0, atol=1e-6)
    assert_same(snn(x), outputs, tolerance=1e-6)


def test_timesteps_may_be_set_between_predictions(pair):
    _, snn, x = pair
    over_time = snn.simulate(x).outputs_over_time
    for timesteps in (1, 5, 12, 3):
        snn.timesteps = timesteps
        assert_same(snn.predict(x, verbose=0), over_time[:, timesteps - 1], tolerance=1e-6)


def test_symbolic_call_and_summary_know_the_shapes(pair, capsys):
    _, snn, _ = pair
    inputs = keras.Input((9, 8, 2))
    assert snn(inputs).shape == (None, 4)
    snn.summary()
    text = capsys.readouterr().out
    assert "conv (SpikingConv2D)" in text
    assert f"{snn.count_params():,}" in text


def test_it_is_a_layer_of_another_model(pair):
    _, snn, x = pair
    inputs = keras.Input((9, 8, 2))
    outer = keras.Model(inputs, keras.layers.Rescaling(2.0)(snn(inputs)))
    assert_same(outer.predict(x, verbose=0), 2 * snn.predict(x, verbose=0), tolerance=1e-6)


def test_input_may_be_of_another_dtype_or_lack_a_last_axis_of_one(rng):
    model = networks.build(networks.volume, rng)
    x = rng.integers(0, 3, (5, 4, 5, 6, 1))
    snn = convert(model, x, timesteps=5)
    expected = snn.predict(x.astype("float32"), verbose=0)
    for other in (x.astype("uint8"), x.astype("float64"), x[..., 0].astype("float32")):
        assert_same(snn.predict(other, verbose=0), expected)


@pytest.mark.parametrize("shape", [(3, 9, 8, 3), (3, 8, 9, 2), (3, 4)])
def test_predict_raises_when_the_input_has_the_wrong_shape(shape, pair):
    _, snn, _ = pair
    with pytest.raises(
        ValueError, match=r"`x` must have the shape \(batch, 9, 8, 2\) for input '.*'. Received: shape"
    ):
        snn.predict(np.zeros(shape, "float32"), verbose=0)


def test_predict_raises_when_an_input_is_missing(rng):
    model = networks.build(networks.several, rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=3)
    with pytest.raises(ValueError, match=r"`x` must hold 2 inputs \(sequence, vector\). Received: 1."):
        snn.predict(x["vector"], verbose=0)


def test_saved_it_loads_compiled_with_its_report(pair, tmp_path, rng):
    model, _, x = pair
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    snn = convert(model, x, timesteps=6, unroll=2)
    y = rng.integers(0, 4, len(x))
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    assert isinstance(loaded, keras_snn.SpikingModel)
    assert (loaded.timesteps, loaded.unroll) == (6, 2)
    assert str(loaded.conversion_report) == str(snn.conversion_report)
    assert loaded.evaluate(x, y, verbose=0) == snn.evaluate(x, y, verbose=0)


def test_weights_saved_alone_load_into_a_model_of_the_same_config(pair, tmp_path):
    _, snn, x = pair
    snn.save_weights(tmp_path / "snn.weights.h5")
    other = keras_snn.SpikingModel.from_config(snn.get_config())
    other.load_weights(tmp_path / "snn.weights.h5")
    assert_same(other.predict(x, verbose=0), snn.predict(x, verbose=0))


@pytest.mark.long_chunks
def test_auto_takes_the_longest_chunk_that_is_small_and_leaves_few_steps_over(pair):
    """Beside the rule of docs/performance.md, in whole numbers."""
    _, snn, _ = pair
    longest, values = {"jax": (8, 2**19), "torch": (32, 2**22)}.get(keras.backend.backend(), (32, 2**19))
    largest = max(int(np.prod(layer.value_shape)) for layer in internals(snn).network.stateful.values())
    if keras.backend.backend() == "tensorflow":
        # A whole loop of 32 steps of the layers with a state would compile for long.
        longest = min(longest, max(64 // len(internals(snn).network.stateful), 4))
    for timesteps in (1, 5, 12, 50, 61, 1000):
        snn.timesteps = timesteps
        for batch_size in (1, 100, values // largest // 8, values // largest // 8 + 1, values, 8 * values):
            lengths = [n for n in range(1, longest + 1) if n <= timesteps]
            allowed = [n for n in lengths if n * batch_size * largest <= values]
            dividing = [n for n in allowed if timesteps % n == 0 and 2 * n > max(allowed)]
            expected = dividing or [n for n in allowed if n in (1, 2, 4, 8, 16, 32)]
            assert snn.chunk_for(batch_size) == max(expected, default=1)
        assert snn.chunk_for(None) == 1
    snn.unroll = 7
    assert snn.chunk_for(2**22) == snn.chunk_for(None) == 7


@ON_TENSORFLOW
@pytest.mark.long_chunks
def test_auto_takes_shorter_chunks_of_deep_networks(rng):
    """Of 4 layers with a state 16 steps, of 8 half of them, and never fewer than 4."""
    for hidden, expected in ((1, 32), (3, 16), (7, 8), (31, 4), (63, 4)):
        model = keras.Sequential([keras.Input((4,))])
        for _ in range(hidden):
            model.add(keras.layers.Dense(4, activation="relu"))
        model.add(keras.layers.Dense(2))
        snn = convert(networks.randomize(model, rng), rng.random((8, 4)), normalization="none")
        assert snn.chunk_for(1) == expected


@pytest.mark.long_chunks
def test_auto_takes_longer_chunks_on_a_graphics_card(pair, monkeypatch):
    """On JAX and PyTorch, of up to 2²⁶ values; TensorFlow was not measured there."""
    _, snn, _ = pair
    snn.timesteps = 8
    batch_size = 2**26 // max(
        int(np.prod(layer.value_shape)) for layer in internals(snn).network.stateful.values()
    )
    on_cpu = snn.chunk_for(batch_size // 8), snn.chunk_for(batch_size)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    card = types.SimpleNamespace(device=types.SimpleNamespace(type="cuda"))
    monkeypatch.setattr(keras.ops, "zeros", lambda shape: card)
    on_card = snn.chunk_for(batch_size // 8), snn.chunk_for(batch_size)
    assert on_cpu == (1, 1)
    assert on_card == ((1, 1) if keras.backend.backend() == "tensorflow" else (8, 1))


def heavy(rng, events=False):
    """A network whose last layers have many weights, and data for it; their sums are exact."""
    conv, relu = keras.layers.Conv2D, functools.partial(keras.layers.ReLU, max_value=0.5)
    flat, dense = keras.layers.Flatten(), keras.layers.Dense(100)
    hidden = [conv(16, 3), relu(), conv(4, 3), relu(), flat, dense, relu()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *hidden, keras.layers.Dense(3)])
    model = networks.make_dyadic(model, rng)
    x = networks.data_for(model, rng, dyadic=True)
    if not events:
        return convert(model, x, timesteps=7), x
    changing = rng.integers(0, 5, (12, 9, 8, 8, 1)) / 4
    return convert(model, x, timesteps=7, input_encoding="events"), changing


def test_calls_are_light_but_the_last_if_those_have_more_weights_than_all_give_values(rng):
    """Weights: 160, 580, 6500 and 303. Values of a sample: 576, 64, 100 and 3."""
    snn, _ = heavy(rng)
    # 160 weights are less than a third of 576 values, 580 are more than a third of 64.
    assert internals(snn).network.light(1) == 1
    # 7383 weights less a third of 167 values, over 743 values: 9.2 samples.
    assert (internals(snn).network.light(9), internals(snn).network.light(10)) == (1, 0)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("unroll", [1, 2])
@pytest.mark.compiled
def test_heavy_calls_take_more_steps_at_once_and_give_the_same(events, unroll, rng, monkeypatch):
    snn, x = heavy(rng, events)
    snn.unroll = 1
    expected = snn.predict(x, verbose=0)
    monkeypatch.setattr(chunks, "_HEAVY_CHUNK", 4)
    monkeypatch.setattr(type(snn), "chunk_for", lambda self, batch_size: unroll)
    snn.unroll = "auto"
    runs = []
    run = internals(snn).network.run
    monkeypatch.setattr(
        internals(snn).network,
        "run",
        lambda *args, **kwargs: runs.append((args[2], kwargs)) or run(*args, **kwargs),
    )
    set_watch(snn, True)
    # Division by the steps rounds in another order of vectors.
    assert_same(snn.predict(x[:3], verbose=0), expected[:3], tolerance=1e-6)
    split = {"light": internals(snn).network.light(3), "part": unroll}
    assert split["light"]
    # Four steps, and the three that are left.
    assert [how for how in runs if how[1] != split] == []
    assert {steps for steps, _ in runs} == {4, 3}
    set_watch(snn, False)
    assert_same(snn.predict(x, batch_size=10, verbose=0), expected, tolerance=1e-6)
    assert runs[-1][1] == {"light": 0, "part": unroll}


def test_predict_compiles_for_the_batch_size_that_it_was_given(pair, monkeypatch):
    _, snn, x = pair
    wanted = []
    monkeypatch.setattr(type(snn), "chunk_for", lambda self, batch_size: wanted.append(batch_size) or 2)
    expected = snn.predict(x, batch_size=3, verbose=0)
    assert set(wanted) == {None, 3}
    monkeypatch.undo()
    for batch_size in (1, 3, len(x), 1000):
        assert_same(snn.predict(x, batch_size=batch_size, verbose=0), expected, tolerance=1e-6)


@pytest.mark.parametrize("name", ["timesteps", "unroll"])
def test_setting_raises_when_it_is_no_number_of_steps(name, pair):
    _, snn, _ = pair
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1. Received: {name}=0."):
        setattr(snn, name, 0)
    with pytest.raises(TypeError, match=f"`{name}` must be an integer. Received: {name}=2.5."):
        setattr(snn, name, 2.5)


@ON_TENSORFLOW
def test_tensorflow_tunes_how_it_reads_datasets_but_not_arrays(pair, monkeypatch):
    """A run of arrays would wait for it. How datasets are read is up to the user, and to Keras in `fit`."""
    import tensorflow as tf

    _, snn, x = pair
    snn.compile("sgd", "mse", jit_compile=False)
    found, strategy = [], tf.distribute.get_strategy()
    assert snn.distribute_strategy is strategy
    distribute = type(strategy).experimental_distribute_dataset

    def spy(self, dataset):
        found.append(dataset.options().autotune.enabled)
        return distribute(self, dataset)

    monkeypatch.setattr(type(strategy), "experimental_distribute_dataset", spy)
    y = np.zeros((len(x), 4))
    dataset = tf.data.Dataset.from_tensors((x, y))
    snn.predict(x, verbose=0)
    snn.evaluate(x, y, verbose=0)
    assert found == [False] * 2
    found.clear()
    snn.predict(dataset, verbose=0)
    snn.evaluate(dataset, verbose=0)
    snn.fit(x, y, verbose=0, validation_data=(x, y))
    snn.fit(dataset, shuffle=False, verbose=0)
    assert found == [None] * 5


@ON_TENSORFLOW
@pytest.mark.compiled
def test_compiled_graph_does_not_grow_with_timesteps(pair):
    """One loop over chunks and a rest of eight steps: 392 steps are as many operations as 72."""
    import tensorflow as tf

    _, snn, x = pair
    sizes = []
    for timesteps in (72, 392):
        snn.timesteps = timesteps
        graph = tf.function(lambda inputs: snn(inputs)).get_concrete_function(tf.constant(x)).graph
        sizes.append(len(graph.as_graph_def().SerializeToString()))
    assert sizes[1] < sizes[0] * 1.01


@ON_TENSORFLOW
@pytest.mark.compiled
def test_first_layer_is_computed_once(pair):
    """Only one convolution of the first layer is in the graph, and it is outside the loop."""
    import tensorflow as tf

    _, snn, x = pair
    snn.unroll = 1
    definition = (
        tf.function(lambda inputs: snn(inputs)).get_concrete_function(tf.constant(x)).graph.as_graph_def()
    )
    outside = [node for node in definition.node if node.op == "Conv2D"]
    inside = [node for f in definition.library.function for node in f.node_def if node.op == "Conv2D"]
    assert (len(outside), len(inside)) == (1, 1)


def test_inputs_given_as_a_dict_go_by_name(rng):
    z, a = keras.Input((4,), name="z"), keras.Input((4,), name="a")
    hidden = [keras.layers.Dense(6, activation="relu")(x) for x in (z, a)]
    model = keras.Model([z, a], keras.layers.Dense(2)(keras.layers.Concatenate()(hidden)))
    networks.randomize(model, rng)
    first, second = networks.data_for(model, rng)
    by_name = {"a": second, "z": first, "more": first}
    snn = convert(model, by_name, timesteps=10)
    expected = snn.predict([first, second], verbose=0)
    assert_same(snn.predict(by_name, verbose=0), expected)
    assert_same(snn.simulate(by_name).outputs, expected, tolerance=1e-6)
    with pytest.raises(ValueError, match="`x` must have the keys 'z', 'a'. Received: 'z'. Name the arrays"):
        snn.predict({"z": first}, verbose=0)


def test_lists_of_one_are_what_they_hold(rng):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(keras.layers.Dense(6, activation="relu")(inputs))
    model = networks.randomize(keras.Model([inputs], [outputs]), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=5)
    assert snn.predict(x, verbose=0).shape == np.shape(model.predict(x, verbose=0)) == (12, 3)
    assert snn.simulate(x, np.zeros(12)).accuracy_over_time.shape == (5,)


@pytest.mark.compiled
def test_losses_of_several_outputs_go_by_name(rng):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="relu")(inputs)
    outputs = [keras.layers.Dense(2, name=name)(x) for name in ("p", "q")]
    model = networks.randomize(keras.Model(inputs, outputs), rng)
    model.compile("sgd", {"p": "mse", "q": "mae"})
    x = networks.data_for(model, rng)
    y = [np.zeros((12, 2)), np.zeros((12, 2))]
    snn = convert(model, x, normalization="max", timesteps=500)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    measured = snn.evaluate(x, y, verbose=0, return_dict=True)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=0.05)


def test_fit_raises_when_there_is_no_optimizer(rng, pair):
    model, _, x = pair
    model.compile("sgd", "mse")
    snn = convert(model, x, timesteps=2)
    with pytest.raises(ValueError, match="must have an optimizer for fit. Received: a model compiled by"):
        snn.fit(x, np.zeros((12, 4)), verbose=0)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_fit_validates_in_batches_of_another_size(pair):
    _, snn, x = pair
    snn.compile("sgd", "mse")
    x, y = x[:4], np.zeros((4, 4))
    history = snn.fit(
        x, y, batch_size=2, epochs=2, verbose=0, validation_data=(x, y), validation_batch_size=1
    )
    assert len(history.history["val_loss"]) == 2


def test_two_outputs_of_one_value_share_its_readout(rng):
    inputs = keras.Input((4,))
    y = keras.layers.Dense(2, name="y")(keras.layers.Dense(6, activation="relu", name="y_readout")(inputs))
    model = networks.randomize(keras.Model(inputs, [y, y]), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=3)
    assert [layer.name for layer in snn.layers] == ["y_readout", "y", "y_readout_2"]
    first, second = snn.predict(x, verbose=0)
    assert_same(first, second)
