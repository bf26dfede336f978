import dataclasses

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import count_operations
from keras_snn.analysis.contents import CURRENT, NUMBER, SpikeSource
from keras_snn.analysis.counting import _state_bytes
from keras_snn.analysis.fan_out import fan_out
from keras_snn.analysis.reach import EVENTS, GRADED, NUMBERS, ONES, UNITS, Reach
from keras_snn.graph.lowering import lower
from keras_snn.graph.nodes import Affine
from keras_snn.neurons import IntegrateAndFire, MultiThreshold


@pytest.mark.parametrize("pooling", [layers.MaxPooling2D, layers.AveragePooling2D])
def test_operations_of_a_spiking_network_are_those_of_its_spikes(pooling, rng):
    """Counted again from recorded spike trains, by pushing each through weights of 1."""
    model = keras.Sequential(
        [
            keras.Input((7, 6, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv1"),
            layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="conv2"),
            pooling(2, strides=1, name="pool"),
            layers.Conv2D(3, 2, padding="same", activation="relu", use_bias=False, name="conv3"),
            layers.Flatten(),
            layers.Dense(4, activation="softmax", name="label"),
        ]
    )
    networks.randomize(model, rng)
    x = networks.data_for(model, rng, samples=6)
    snn = keras_snn.convert(model, x, timesteps=9, relays=False, verbose=0)
    counts = count_operations(snn, x, batch_size=4)
    assert [layer.name for layer in counts.layers] == ["conv1", "conv2", "conv3", "label"]
    trains = snn.simulate(x, record="spike_trains").spike_trains

    def synapses(name, values):
        """Return the synaptic events of a layer at every step, mean over the samples."""
        layer = model.get_layer(name)
        layer.set_weights([np.ones(w.shape) * (w.ndim > 1) for w in layer.get_weights()])
        layer.activation = keras.activations.linear
        folded = values.reshape(-1, *values.shape[2:])
        reached = keras.ops.convert_to_numpy(layer(folded)).reshape(len(folded), -1).sum(axis=1)
        return reached.reshape(values.shape[:2]).mean(axis=0)

    pool = snn.get_layer("pool")
    pooled = keras.ops.convert_to_numpy(pool(trains["conv2"]))
    # An average is no spike, even if it happens to be 1.
    averages = pooling is layers.AveragePooling2D
    spikes, others = (pooled != 0) & (not averages), (pooled != 0) & averages
    by_name = {layer.name: layer for layer in counts.layers}
    np.testing.assert_allclose(by_name["conv2"].additions, synapses("conv2", trains["conv1"]), rtol=1e-6)
    np.testing.assert_allclose(by_name["conv3"].additions, synapses("conv3", spikes * 1.0), rtol=1e-6)
    np.testing.assert_allclose(by_name["conv3"].multiply_adds, synapses("conv3", others * 1.0), rtol=1e-6)
    assert np.isin(pooled, (0, 1)).all() != averages
    flat = trains["conv3"].reshape(6, 9, -1)
    np.testing.assert_allclose(by_name["label"].additions, flat.sum(axis=-1).mean(axis=0) * 4, rtol=1e-6)
    steps = np.arange(1, 10)
    # The analog layer: once, and its 5·4·4 currents at every step.
    np.testing.assert_allclose(by_name["conv1"].snn_operations, 80 * (2 * 18 + 1) + 80 * steps)
    assert by_name["conv1"].is_analog
    conv2 = np.cumsum(by_name["conv2"].additions) + by_name["conv2"].biases * steps
    np.testing.assert_allclose(by_name["conv2"].snn_operations, conv2)
    total = sum(layer.snn_operations for layer in counts.layers)
    np.testing.assert_allclose(counts.snn_operations, total)
    assert by_name["conv3"].biases == 0


def bytes_of_states(snn):
    """Bytes of all states of one sample: of neurons, pooling, read-out and random numbers."""
    states = [layer.get_initial_state(1) for layer in snn.layers if hasattr(layer, "get_initial_state")]
    return sum(keras.ops.convert_to_numpy(value).nbytes for state in states for value in state)


def test_an_encoded_input_is_no_analog_layer(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = keras_snn.convert(model, x, timesteps=7, verbose=0, input_encoding="poisson", seed=1)
    counts = count_operations(snn, x)
    assert not any(layer.is_analog for layer in counts.layers)
    assert counts.footprint - counts.ann_footprint == bytes_of_states(snn)
    events = keras_snn.convert(model, x, timesteps=7, verbose=0, input_encoding="events")
    ones = np.ones((3, 7, 5), "float32")
    np.testing.assert_array_equal(count_operations(events, ones).layers[0].additions, [20] * 7)
    np.testing.assert_array_equal(count_operations(events, 0.5 * ones).layers[0].multiply_adds, [20] * 7)
    # Two spikes at once.
    np.testing.assert_array_equal(count_operations(events, 2 * ones).layers[0].additions, [40] * 7)


@pytest.mark.parametrize(("neuron", "unit"), [("multi_threshold", 1 / 8), ("burst", 1.0)])
def test_of_a_spike_of_several_units_its_events_count(neuron, unit, rng):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu", name="conv")])
    for layer in (layers.MaxPooling2D(2, name="pool"), layers.Flatten(), layers.Dense(3, name="dense")):
        model.add(layer)
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=4, neuron=neuron, normalization="percentile", percentile=80)
    trains = snn.simulate(x, record="spike_trains").spike_trains["conv"]
    pooled = np.diff(trains.cumsum(axis=1).reshape(-1, 4, 2, 2, 2, 2, 4).max((3, 5)), axis=1, prepend=0.0)
    units = (np.abs(pooled) / unit).astype(int)
    events = units if neuron == "burst" else np.vectorize(lambda k: bin(k).count("1"))(units)
    counts = count_operations(snn, x)
    dense = counts.layers[1]
    for found, expected in ((dense.additions, events), (dense.units, units)):
        at_steps = expected.reshape(-1, 4, 16).sum(axis=-1).mean(axis=0)
        np.testing.assert_allclose(found, 3 * at_steps, rtol=1e-6)
    assert not dense.multiply_adds.any()
    assert trains.max() > 1
    fired = (np.abs(trains) / unit).astype(int)
    (of_neurons,) = counts.neurons
    assert of_neurons.units == pytest.approx(fired.sum() / len(x), rel=1e-6)
    assert of_neurons.spikes == pytest.approx((fired > 0).sum() / len(x), rel=1e-6)
    # NeuroBench counts an input that is not 0 once, whatever it is, and a MAC unless all are −1, 0 or 1.
    operations = 3 * (units > 0).sum() / len(x)
    np.testing.assert_allclose(dense.snn_effective, (operations, 0), rtol=1e-6)


def test_spikes_of_several_neurons_are_counted_each_in_its_own_events(rng):
    inputs = keras.Input((5, 6))
    cells = IntegrateAndFire(), MultiThreshold(levels=3)
    first, second = (keras_snn.layers.SpikingDense(4, neuron=cell)(inputs) for cell in cells)
    for parts in ([first, second], [second, first]):
        joined = keras_snn.layers.PerTimestep(layers.Concatenate())(parts)
        outputs = keras_snn.layers.SpikingDense(3, name="last")(joined)
        model = networks.randomize(keras.Model(inputs, outputs), rng)
        x = rng.integers(0, 2, (7, 5, 6)).astype("float32")
        plain, graded = (np.abs(keras.Model(inputs, part).predict_on_batch(x)) for part in (first, second))
        units = (graded / cells[1].unit).astype(int)
        last = count_operations(model, x).layers[-1]
        events = plain.sum() + np.vectorize(lambda k: bin(k).count("1"))(units).sum()
        np.testing.assert_allclose(7 * last.additions.sum(), 3 * events, rtol=1e-6)
        np.testing.assert_allclose(7 * last.units.sum(), 3 * (plain.sum() + units.sum()), rtol=1e-6)
        assert not last.multiply_adds.any()
        assert (graded % 1).any()


def test_of_layers_that_are_computed_once_the_last_alone_is_added_at_every_step(rng):
    names = ["first", "second", "third"]
    model = keras.Sequential([keras.Input((5,)), *(layers.Dense(4, name=name) for name in names)])
    for layer in (layers.ReLU(), layers.Dense(2, name="last")):
        model.add(layer)
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    counts = count_operations(contracts.convert(model, x, timesteps=4), x)
    assert [layer.name for layer in counts.layers if layer.is_analog] == names
    assert [layer.reads for layer in counts.layers if layer.is_analog] == [0, 0, 4]


def test_a_constant_branch_of_a_sum_is_added_at_every_step(rng):
    inputs = keras.Input((5,))
    branch = layers.Dense(4, name="constant")(inputs)
    spiking = layers.Dense(4, name="last")(layers.Dense(3, activation="relu", name="first")(inputs))
    model = keras.Model(inputs, layers.ReLU()(layers.Add()([branch, spiking])))
    x = networks.data_for(networks.randomize(model, rng), rng)
    counts = count_operations(contracts.convert(model, x, timesteps=4), x)
    assert [layer.name for layer in counts.layers if layer.is_analog] == ["constant", "first"]
    assert {layer.name: layer.reads for layer in counts.layers if layer.reads} == {"add": 4, "first": 3}


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_every_network_is_counted(network, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=5)
    counts, of_source = count_operations(snn, x), count_operations(model)
    assert counts.macs >= of_source.macs > 0
    assert np.all(np.diff(counts.snn_operations) >= 0)


def test_inside_of_a_layer_values_are_no_spikes(rng):
    """Of a separable convolution the second part gets currents, of which each is taken to be not 0."""
    spiking = keras_snn.layers
    inputs = keras.Input((3, 5, 5, 2))
    first = spiking.SpikingConv2D(3, 2, name="conv")(inputs)
    second = spiking.SpikingSeparableConv2D(4, 2, name="separable")(first)
    model = networks.randomize(keras.Model(inputs, second), rng)
    x = rng.integers(0, 2, (6, 3, 5, 5, 2)).astype("float32")
    counts = count_operations(model, x)
    _, depthwise, pointwise = counts.layers
    trains = np.asarray(keras.Model(inputs, first).predict_on_batch(x))
    meets = sum(trains[:, :, i : i + 3, j : j + 3].sum(axis=(2, 3, 4)) for i in range(2) for j in range(2))
    np.testing.assert_allclose(depthwise.additions, meets.mean(axis=0), rtol=1e-6)
    assert not depthwise.multiply_adds.any()
    np.testing.assert_array_equal(pointwise.additions, np.zeros(3))
    np.testing.assert_array_equal(pointwise.multiply_adds, [3 * 3 * 3 * 4] * 3)
    assert list(counts.by_layer) == ["conv", "separable"]


def test_layers_that_do_not_spike_are_named(rng):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3, activation="relu")])
    model.add(layers.LayerNormalization(name="norm"))
    model.add(layers.Flatten())
    model.add(layers.Dense(2))
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    counts = count_operations(contracts.convert(model, x, timesteps=3), x)
    assert counts.not_counted == ("norm",)
    assert "Not counted, run on averages: norm." in str(counts)
    assert count_operations(model).not_counted == ("norm",)


def test_a_spiking_model_needs_samples(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu")])
    snn = contracts.convert(model, rng.uniform(0, 1, (4, 5)))
    with pytest.raises(ValueError, match="`x` must be some samples"):
        count_operations(snn)


def test_counts_are_exact_where_float32_is_not(rng):
    """20,000 spikes that reach 3,000 outputs each: 60 million, counted again in integers."""
    model = keras.Sequential([keras.Input((20_000,)), layers.Dense(3000), layers.Dense(2)])
    layer = next(n for n in lower(model).nodes.values() if isinstance(n, Affine))
    kernel = (rng.random((20_000, 3000)) < 0.9) * 1.0
    fan = fan_out(dataclasses.replace(layer, kernel=kernel), (20_000,))
    spikes = rng.integers(0, 3, (2, 20_000)) - 1
    values = np.where(spikes == 0, 0.5 * (rng.random(spikes.shape) < 0.5), spikes)
    reached = keras.ops.convert_to_numpy(Reach(fan)(values.astype("float32"), leading=1)).astype("float64")
    expected = np.stack([(np.abs(values) == 1) @ kernel.sum(1), (values == 0.5) @ kernel.sum(1)], axis=-1)
    np.testing.assert_array_equal(reached.sum(axis=1)[:, [ONES, GRADED]], expected)


GIVEN = SpikeSource(0.25, 16, keras.ops.convert_to_tensor, is_input=True)
NEURONS = SpikeSource(0.25, 16, MultiThreshold(levels=3).events_of)


@pytest.mark.parametrize("kind", ["numbers", "given", "neurons", "mixed"])
def test_reach_adds_up_what_spikes_and_other_values_reach(kind, rng):
    """In several blocks, whose length does not divide the number of inputs."""
    fan = rng.integers(0, 3500, (7, 11, 13))
    codes = {"numbers": NUMBER, "given": 0, "neurons": 1, "mixed": rng.choice([CURRENT, NUMBER, 0, 1], 13)}
    codes = np.broadcast_to(codes[kind], fan.shape)
    multiples = [0, 0.25, -0.25, 1.0, -1.0, 1.25, -2.0, 3.75]
    values = rng.choice([*multiples, 0.6, -0.3], (2, 3, *fan.shape))
    values = np.where(codes == 1, rng.choice(multiples, values.shape), values)
    reach = Reach(fan, codes, [GIVEN, NEURONS])
    assert reach.shape[0] > 1
    assert reach.padding > 0
    # As many inputs together as have a sum below 2²⁴ although each is a spike of 16 units.
    most = 2**24 // (16 * (fan * (codes != CURRENT)).max())
    assert most * (reach.shape[0] - 1) < fan.size
    assert reach.shape[1] <= most
    found = keras.ops.convert_to_numpy(reach(values.astype("float32"), leading=2))
    assert found.shape == (2, 3, reach.shape[0], 5)
    size = np.where(codes == CURRENT, 0, np.abs(values))
    units = np.where((codes >= 0) & (values % 0.25 == 0), size * 4, 0).astype(int)
    # Of three thresholds the largest, of 4 units, fires as often as it must.
    events = np.where(codes == 1, units // 4 + units // 2 % 2 + units % 2, units)
    expected = {
        EVENTS: events,
        UNITS: units,
        NUMBERS: (size != 0) & (units == 0),
        ONES: size == 1,
        GRADED: (size != 0) & (size != 1),
    }
    for column, part in expected.items():
        total = found[..., column].astype("float64").sum(axis=2)
        np.testing.assert_array_equal(total, np.sum(part * fan, axis=(2, 3, 4)), err_msg=str(column))


def test_where_all_weights_are_zero_nothing_is_reached():
    found = keras.ops.convert_to_numpy(Reach(np.zeros((3, 4), int))(np.ones((2, 3, 4)), leading=1))
    np.testing.assert_array_equal(found, np.zeros((2, 1, 5)))


@pytest.mark.parametrize("size", [4096, 4097])
def test_reach_is_exact_when_every_spike_is_as_large_as_may_be(size, rng):
    fan, units = np.full(size, 4095), rng.choice([15, 16], size, p=[0.01, 0.99])
    source = SpikeSource(1 / 16, 16, MultiThreshold(levels=5).events_of)
    found = keras.ops.convert_to_numpy(Reach(fan, 0, [source])(units[None] / 16, leading=1))
    assert found[..., UNITS].astype("float64").sum() == 4095 * units.sum()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_bytes_of_a_state_are_those_of_its_arrays(dtype):
    spiking = keras_snn.layers
    for layer in (spiking.SpikingDense(3, dtype=dtype), spiking.PoissonEncoder(seed=1, dtype=dtype)):
        layer.build((None, 6, 5))
        states = layer.get_initial_state(1)
        assert _state_bytes(layer) == sum(np.asarray(state).nbytes for state in states) > 0


def test_metrics_of_layers_add_up_to_those_of_the_network(rng, capsys):
    model = keras.Sequential([keras.Input((7, 6, 2)), layers.Conv2D(4, 3, activation="relu", name="conv")])
    model.add(layers.MaxPooling2D(2, strides=1))
    model.add(layers.Conv2D(3, 3, padding="same", name="second"))
    model.add(layers.ReLU(name="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(5, name="a_layer_with_a_long_name" + "_that_does_not_end" * 5))
    networks.randomize(model, rng)
    model.set_weights([w * (rng.random(w.shape) < 0.7) if w.ndim > 1 else w for w in model.get_weights()])
    x = networks.data_for(model, rng)
    snn = keras_snn.convert(model, x, timesteps=5, verbose=0)
    counts = count_operations(snn, x)
    assert capsys.readouterr().out == ""
    assert counts.footprint - counts.ann_footprint == bytes_of_states(snn)
    of_layers = {name: part.metrics for name, part in counts.by_layer.items()}
    assert len(of_layers) == 3
    for name in ("macs", "acs"):
        for prefix in ("ann_effective_", "effective_"):
            total = sum(metrics.get(prefix + name, 0) for metrics in of_layers.values())
            np.testing.assert_allclose(getattr(counts, prefix + name), total)
    for name in ("dense", "ann_dense", "neuron_updates", "ann_operations", "snn_operations", "ann_footprint"):
        total = sum(metrics.get(name, 0) for metrics in of_layers.values())
        np.testing.assert_allclose(counts.metrics[name], total)
    kept = sum(metrics["footprint"] for metrics in of_layers.values()) + counts.other_state
    assert counts.footprint == kept
    conv = of_layers["conv"]
    kernel, bias = model.get_layer("conv").get_weights()
    assert conv["ann_dense"] == 5 * 4 * kernel.size
    assert conv["ann_footprint"] == 4 * (kernel.size + bias.size)
    assert conv["footprint"] == conv["ann_footprint"] + 4 * 5 * 4 * 4
    assert conv["neuron_updates"] == 5 * (5 * 4 * 4)
    np.testing.assert_allclose(conv["connection_sparsity"], np.mean(kernel == 0))
    activations = keras.Model(model.inputs[0], model.get_layer("conv").output).predict_on_batch(x)
    np.testing.assert_allclose(conv["ann_activation_sparsity"], np.mean(activations == 0), rtol=1e-12)
    lines = str(counts).splitlines()
    assert max(map(len, lines)) <= 100
    words = str(counts).split()
    assert words.count("total") == 3
    assert f"{counts.dense:,}" in words


def test_a_hand_written_network_is_counted_like_any(rng):
    """Of every spike that its layers give one by one, the weights that it meets are counted."""
    spiking = keras_snn.layers
    inputs = keras.Input((5, 6, 5, 2))
    conv = spiking.SpikingConv2D(3, 2, name="conv")
    first = conv(inputs)
    flat = spiking.PerTimestep(layers.Flatten(), name="flat")(first)
    hidden = spiking.SpikingDense(7, name="hidden")(flat)
    model = keras.Model(inputs, spiking.PerTimestep(layers.Dense(4), name="label")(hidden))
    networks.randomize(model, rng)
    x = rng.integers(0, 2, (6, 5, 6, 5, 2)).astype("float32")
    weights = model.get_weights()
    counts = count_operations(model, x, batch_size=4)
    assert [layer.name for layer in counts.layers] == ["conv", "hidden", "label"]
    values = [np.asarray(v) for v in keras.Model(inputs, [first, hidden]).predict_on_batch(x)]
    conv_in = sum(x[:, :, i : i + 5, j : j + 4].sum() for i in range(2) for j in range(2)) * 3
    expected = [conv_in, values[0].sum() * 7, values[1].sum() * 4]
    np.testing.assert_allclose([layer.additions.sum() * 6 for layer in counts.layers], expected)
    spikes = [neuron.spikes * 6 for neuron in counts.neurons]
    np.testing.assert_allclose(spikes, [v.sum() for v in values])
    contracts.assert_same(model.get_weights(), weights)


def test_a_hand_written_network_may_end_in_a_second_call_of_a_layer(rng):
    spiking = keras_snn.layers
    inputs = [keras.Input((4, 5)), keras.Input((4, 5))]
    hidden = spiking.SpikingDense(6, name="hidden")
    fired = [hidden(x) for x in inputs]
    label = spiking.PerTimestep(layers.Dense(3), name="label")
    model = networks.randomize(keras.Model(inputs, [label(x) for x in fired]), rng)
    x = [rng.integers(0, 2, (7, 4, 5)).astype("float32") for _ in inputs]
    spikes = [np.asarray(train).sum() for train in keras.Model(inputs, fired).predict_on_batch(x)]
    counted = [layer for layer in count_operations(model, x).layers if layer.name.startswith("label")]
    np.testing.assert_allclose([7 * layer.additions.sum() for layer in counted], 3 * np.array(spikes))
    assert len(set(spikes)) == 2


def test_a_hand_written_network_may_not_mix_time_steps(rng):
    model = keras.Sequential(
        [keras.Input((5, 4)), keras_snn.layers.SpikingDense(3), layers.Flatten(name="mixes"), layers.Dense(2)]
    )
    with pytest.raises(
        ValueError, match="Received: layers 'mixes', 'dense.*'. Put others into .*PerTimestep"
    ):
        count_operations(model, np.zeros((2, 5, 4)))
