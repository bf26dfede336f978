import dataclasses
import re

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import count_operations
from keras_snn.analysis.operation_counts import (
    LayerOperations,
    NeuronOperations,
    OperationCounts,
    _joules,
    _Reach,
    _state_bytes,
    check_figures,
    fan_out,
    show_metric,
)
from keras_snn.graph.lowering import lower
from keras_snn.graph.nodes import Affine, ChannelAffine
from keras_snn.neurons import IntegrateAndFire, MultiThreshold

CONVOLUTIONS = [
    (lambda: layers.Conv2D(4, 3, strides=2, padding="same"), (7, 6, 3)),
    (lambda: layers.Conv2D(4, (3, 2), dilation_rate=2), (8, 7, 2)),
    (lambda: layers.Conv2D(6, 3, groups=2, strides=(2, 1)), (6, 6, 4)),
    (lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (5, 5, 3)),
    (lambda: layers.Conv1D(3, 4, dilation_rate=2, padding="causal"), (9, 2)),
    (lambda: layers.Conv3D(2, 2, strides=(1, 2, 1), padding="same"), (3, 4, 3, 2)),
    (lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same"), (4, 5, 2)),
    (lambda: layers.Conv2DTranspose(3, (4, 3), strides=(2, 3), output_padding=(1, 2)), (4, 3, 2)),
    (lambda: layers.Dense(5), (4, 3)),
]


@pytest.mark.parametrize(("make", "shape"), CONVOLUTIONS)
def test_fan_out_is_what_an_input_reaches(make, shape, rng):
    """Compared with the sum of the outputs for one input that is 1, where every weight is 0 or 1."""
    model = keras.Sequential([keras.Input(shape), make()])
    model.set_weights([rng.integers(0, 2, w.shape) * (w.ndim > 1) for w in model.get_weights()])
    node = next(n for n in lower(model).nodes.values() if isinstance(n, Affine))
    size = int(np.prod(shape))
    outputs = keras.ops.convert_to_numpy(model(np.eye(size).reshape(size, *shape)))
    reached = outputs.reshape(size, -1).sum(axis=1)
    np.testing.assert_array_equal(fan_out(node, shape), reached.reshape(shape))
    whole = dataclasses.replace(node, kernel=np.ones_like(node.kernel))
    np.testing.assert_array_equal(fan_out(node, shape, zeros=True), fan_out(whole, shape))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_fan_out_of_a_dilated_window_is_that_of_one_with_zeros_inside(padding, rng):
    """Which TensorFlow does not compute for transposed convolutions on a CPU."""
    inputs, nodes = keras.Input((5, 4, 2)), []
    for options in ({"kernel_size": 3, "dilation_rate": 2}, {"kernel_size": 5}):
        model = keras.Model(inputs, layers.Conv2DTranspose(3, padding=padding, **options)(inputs))
        nodes += [n for n in lower(model).nodes.values() if isinstance(n, Affine)]
    dilated, whole = nodes
    kernel = np.zeros_like(whole.kernel)
    kernel[::2, ::2] = dilated.kernel
    expected = fan_out(dataclasses.replace(whole, kernel=kernel), (5, 4, 2))
    np.testing.assert_array_equal(fan_out(dilated, (5, 4, 2)), expected)


def test_fan_out_of_a_factor_is_one_where_it_is_not_zero(rng):
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.BatchNormalization()(inputs))
    for gamma in ([0.5, 0.0, -2.0], [0.0, 0.0, 0.0]):
        model.set_weights([np.array(gamma), *rng.uniform(0.5, 1, (3, 3))])
        node = next(n for n in lower(model).nodes.values() if isinstance(n, ChannelAffine))
        np.testing.assert_array_equal(fan_out(node, (4, 3)), [[value != 0 for value in gamma]] * 4)
        np.testing.assert_array_equal(fan_out(node, (4, 3), zeros=True), np.ones((4, 3)))


def paper_cnn():
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters, padding in ((32, "same"), (32, "same"), (64, "valid"), (64, "valid")):
        model.add(layers.Conv2D(filters, 3, padding=padding, use_bias=False, activation="relu"))
        if len(model.layers) in (2, 5):
            model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dense(512, use_bias=False, activation="relu"))
    model.add(layers.Dense(10, use_bias=False, activation="softmax"))
    return model


def test_operations_of_the_network_of_the_paper():
    counts = count_operations(paper_cnn())
    assert counts.ann_operations == 40_855_552
    assert counts.ann_operations == 2 * counts.macs
    assert counts.snn_operations is None
    assert counts.metrics["ann_operations"] == sum(
        part.metrics["ann_operations"] for part in counts.by_layer.values()
    )
    assert "40,855,552" in str(counts)


def test_biases_count_once_per_output(rng):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(4)])
    networks.randomize(model, rng)
    counts = count_operations(model)
    assert [layer.biases for layer in counts.layers] == [4 * 4 * 3, 4]
    assert [layer.macs for layer in counts.layers] == [4 * 4 * 3 * 18, 48 * 4]
    assert counts.ann_operations == 2 * (48 * 18 + 192) + 48 + 4


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
    snn = keras_snn.convert(model, x, timesteps=9, verbose=0)
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
    spikes, others = pooled == 1, (pooled != 0) & (pooled != 1)
    by_name = {layer.name: layer for layer in counts.layers}
    np.testing.assert_allclose(by_name["conv2"].additions, synapses("conv2", trains["conv1"]), rtol=1e-6)
    np.testing.assert_allclose(by_name["conv3"].additions, synapses("conv3", spikes * 1.0), rtol=1e-6)
    np.testing.assert_allclose(by_name["conv3"].multiply_adds, synapses("conv3", others * 1.0), rtol=1e-6)
    assert others.any() == (pooling is layers.AveragePooling2D)
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
def test_a_spike_of_several_units_counts_as_many(neuron, unit, rng):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu", name="conv")])
    for layer in (layers.MaxPooling2D(2, name="pool"), layers.Flatten(), layers.Dense(3, name="dense")):
        model.add(layer)
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=4, neuron=neuron, normalization="percentile", percentile=80)
    trains = snn.simulate(x, record="spike_trains").spike_trains["conv"]
    pooled = np.diff(trains.cumsum(axis=1).reshape(-1, 4, 2, 2, 2, 2, 4).max((3, 5)), axis=1, prepend=0.0)
    units = np.abs(pooled).reshape(-1, 4, 16).sum(axis=-1).mean(axis=0) / unit
    dense = count_operations(snn, x).layers[1]
    np.testing.assert_allclose(dense.additions, 3 * units, rtol=1e-6)
    assert not dense.multiply_adds.any()
    assert trains.max() > 1


def test_spikes_of_several_sizes_are_counted_in_the_smallest(rng):
    inputs = keras.Input((5, 6))
    cells = IntegrateAndFire(), MultiThreshold(levels=3)
    first, second = (keras_snn.layers.SpikingDense(4, neuron=cell)(inputs) for cell in cells)
    for parts in ([first, second], [second, first]):
        joined = keras_snn.layers.PerTimestep(layers.Concatenate())(parts)
        outputs = keras_snn.layers.SpikingDense(3, name="last")(joined)
        model = networks.randomize(keras.Model(inputs, outputs), rng)
        x = rng.integers(0, 2, (7, 5, 6)).astype("float32")
        spikes = np.asarray(keras.Model(inputs, joined).predict(x, verbose=0))
        last = count_operations(model, x).layers[-1]
        np.testing.assert_allclose(
            7 * last.additions, 3 * np.abs(spikes).sum(axis=(0, 2)) / cells[1].unit, rtol=1e-6
        )
        assert not last.multiply_adds.any()
        assert (spikes % 1).any()


def test_of_layers_that_are_computed_once_the_last_alone_is_added_at_every_step(rng):
    names = ["first", "second", "third"]
    model = keras.Sequential([keras.Input((5,)), *(layers.Dense(4, name=name) for name in names)])
    for layer in (layers.ReLU(), layers.Dense(2, name="last")):
        model.add(layer)
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    counts = count_operations(contracts.convert(model, x, timesteps=4), x)
    assert [layer.name for layer in counts.layers if layer.is_analog] == names
    assert [layer.reads for layer in counts.layers[:3]] == [0, 0, 4]


def test_a_constant_branch_of_a_sum_is_added_at_every_step(rng):
    inputs = keras.Input((5,))
    branch = layers.Dense(4, name="constant")(inputs)
    spiking = layers.Dense(4, name="last")(layers.Dense(3, activation="relu", name="first")(inputs))
    model = keras.Model(inputs, layers.ReLU()(layers.Add()([branch, spiking])))
    x = networks.data_for(networks.randomize(model, rng), rng)
    counts = count_operations(contracts.convert(model, x, timesteps=4), x)
    analog = {layer.name: layer.reads for layer in counts.layers if layer.is_analog}
    assert analog == {"constant": 4, "first": 3}


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
    trains = np.asarray(keras.Model(inputs, first).predict(x, verbose=0))
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


def test_metrics_are_those_of_neurobench(rng):
    """On the same network in PyTorch, whose hooks NeuroBench counts with."""
    torch = pytest.importorskip("torch")
    snntorch = pytest.importorskip("snntorch")
    pytest.importorskip("neurobench")
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
    from neurobench.models import TorchModel

    timesteps, samples = 7, 5
    model = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv1"),
            layers.Conv2D(3, 3, padding="same", activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(4, name="label"),
        ]
    )
    networks.randomize(model, rng)
    model.set_weights([w * (rng.random(w.shape) < 0.7) if w.ndim > 1 else w for w in model.get_weights()])
    x = networks.data_for(model, rng, samples=samples) * (rng.random((samples, 6, 5, 2)) < 0.8)
    # With λ = an activation, that neuron gets a current of exactly 1 and its potential stays the same.
    snn = keras_snn.convert(model, x, timesteps=timesteps, percentile=90, verbose=0)

    class Neuron(snntorch.SpikingNeuron):
        def __init__(self, *shape):
            torch.nn.Module.__init__(self)
            self.init_hidden = self.output = False
            self.register_buffer("mem", torch.full((1, *shape), 0.5))

        def forward(self, current):
            v = self.mem + current
            spikes = (v >= 1).float()
            self.mem = v - spikes
            return spikes, self.mem

    class Network(torch.nn.Module):
        def __init__(self, spiking):
            super().__init__()
            self.conv1, self.conv2 = torch.nn.Conv2d(2, 4, 3), torch.nn.Conv2d(4, 3, 3, padding=1)
            self.label = torch.nn.Linear(36, 4)
            self.first, self.second = (
                (Neuron(4, 4, 3), Neuron(3, 4, 3)) if spiking else (torch.nn.ReLU(), torch.nn.ReLU())
            )
            self.spiking = spiking
            for name in ("conv1", "conv2", "label"):
                layer = snn.get_layer(name)
                layer = getattr(layer, "analog", None) or layer.layer
                kernel, bias = (torch.tensor(w) for w in layer.get_weights())
                kernel = kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1)
                getattr(self, name).load_state_dict({"weight": kernel, "bias": bias})

        def after(self, x):
            second = self.second(self.conv2(x))
            return second[0] if self.spiking else second

        def forward(self, x):
            current = self.conv1(x)
            if not self.spiking:
                return self.label(self.after(self.first(current)).permute(0, 2, 3, 1).flatten(1))
            return sum(
                self.label(self.after(self.first(current)[0]).permute(0, 2, 3, 1).flatten(1))
                for _ in range(timesteps)
            )

    data = torch.tensor(x.transpose(0, 3, 1, 2).astype("float32"))
    counts = count_operations(snn, x, batch_size=2)
    for spiking, prefix in ((True, ""), (False, "ann_")):
        net = TorchModel(Network(spiking))
        state = sum(neuron.footprint for neuron in counts.neurons) if spiking else 0
        assert counts.ann_footprint + state == Footprint()(net)
        assert round(counts.connection_sparsity, 4) == ConnectionSparsity()(net)
        net.add_activation_module(snntorch.SpikingNeuron)
        net.register_hooks()
        with torch.no_grad():
            outputs = net(data)
        sparsity = ActivationSparsity()(net, outputs, (data, None))
        np.testing.assert_allclose(getattr(counts, f"{prefix}activation_sparsity"), sparsity, rtol=1e-12)
        if spiking:
            assert counts.neuron_updates == MembraneUpdates()(net, outputs, (data, None))
        with torch.no_grad():
            found = SynapticOperations()(net, outputs, (data, None))
        for ours, theirs in (("effective_macs", "MACs"), ("effective_acs", "ACs")):
            np.testing.assert_allclose(
                getattr(counts, prefix + ours), found[f"Effective_{theirs}"], rtol=1e-12
            )
        assert getattr(counts, f"{prefix}dense") == found["Dense"]


def test_counts_are_exact_where_float32_is_not(rng):
    """20,000 spikes that reach 3,000 outputs each: 60 million, counted again in integers."""
    model = keras.Sequential([keras.Input((20_000,)), layers.Dense(3000), layers.Dense(2)])
    layer = next(n for n in lower(model).nodes.values() if isinstance(n, Affine))
    kernel = (rng.random((20_000, 3000)) < 0.9) * 1.0
    fan = fan_out(dataclasses.replace(layer, kernel=kernel), (20_000,))
    spikes = rng.integers(0, 3, (2, 20_000)) - 1
    values = np.where(spikes == 0, 0.5 * (rng.random(spikes.shape) < 0.5), spikes)
    reached = keras.ops.convert_to_numpy(_Reach(fan)(values.astype("float32"), leading=1)).astype("float64")
    expected = np.stack([(np.abs(values) == 1) @ kernel.sum(1), (values == 0.5) @ kernel.sum(1)], axis=-1)
    np.testing.assert_array_equal(reached.sum(axis=1), expected)


def test_energy_is_operations_times_published_figures(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu"), layers.Dense(2, use_bias=False)])
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    counts = count_operations(keras_snn.convert(model, x, timesteps=6, verbose=0), x)
    first, second = counts.layers
    assert (first.dense, second.dense, first.biases) == (20, 8, 4)
    spikes = second.additions.sum()
    energy = counts.energy()
    np.testing.assert_allclose(energy.ann, 1e-12 * (4.6 * 28 + 0.9 * 4))
    np.testing.assert_allclose(energy.snn, 1e-12 * (4.6 * 20 + 0.9 * (spikes + 4 + 4 * 6)))
    np.testing.assert_allclose(counts.energy("45nm_int8").ann, 1e-12 * (0.23 * 28 + 0.03 * 4))
    assert "An estimate: 4.6 pJ" in str(energy)
    assert "(Horowitz (2014)," in str(counts)
    own = counts.energy((2.5, 0.25))
    np.testing.assert_allclose(own.ann, 1e-12 * (2.5 * 28 + 0.25 * 4))
    np.testing.assert_allclose(own.snn, 1e-12 * (2.5 * 20 + 0.25 * (spikes + 4 + 4 * 6)))
    assert "2.5 pJ for every multiply-add and 0.25 pJ for every addition (figures of the user)" in str(own)
    for name, (mac, _, source) in keras_snn.ENERGY_FIGURES.items():
        assert (counts.energy(name).mac, counts.energy(name).source) == (mac, source)
    with pytest.raises(ValueError, match="`figures` must be one of '45nm_float32'.*figures='3nm'"):
        counts.energy("3nm")
    with pytest.raises(ValueError, match=r"`figures` must be a name or two numbers.*figures=\(1, 2, 3\)"):
        counts.energy((1, 2, 3))
    with pytest.raises(ValueError, match="`figures` must be finite and above 0. Received: figures=-1."):
        counts.energy((1.0, -1.0))
    with pytest.raises(ValueError, match="`energy` needs the counts of a spiking model"):
        count_operations(model).energy()


NUMBERS = ("macs", "biases", "dense", "weights", "zeros", "footprint")


def random_counts(rng, timesteps=5):
    """Counts of a layer that is computed once, one of spikes, and two of other values; and two of neurons."""
    parts = {"once": {"is_analog": True, "reads": 50}, "spikes": {}, "others/0": {}, "others/1": {}}
    layers_ = []
    for name, options in parts.items():
        numbers = dict(zip(NUMBERS, rng.integers(10, 10**6, len(NUMBERS)).tolist(), strict=True))
        options["additions"] = rng.uniform(1, 1e5, timesteps)
        options["multiply_adds"] = rng.uniform(1, 1e5, timesteps) * (name != "spikes")
        options["ann_additions"] = rng.uniform(1, 1e5)
        options["ann_multiply_adds"] = rng.uniform(1, 1e5) * (name in ("spikes", "others/1"))
        layers_.append(LayerOperations(name, **numbers, **options))
    neurons = [
        NeuronOperations(name, n, timesteps, rng.uniform(1, n * timesteps), rng.uniform(1, n), 8 * n)
        for name, n in (("spikes", 70), ("relu", 30))
    ]
    return OperationCounts(tuple(layers_), ("pool",), tuple(neurons), 12)


def test_counts_are_sums_as_documented(rng):
    counts = random_counts(rng)
    once, spikes, others, more = counts.layers
    steps = np.arange(1, 6)
    for layer in counts.layers:
        assert layer.ann_operations == 2 * layer.macs + layer.biases
    operations = {
        "once": 2 * once.macs + once.biases + 50 * steps,
        "spikes": spikes.additions.cumsum() + spikes.biases * steps,
    }
    for layer in (others, more):
        of_steps = layer.additions + 2 * layer.multiply_adds + layer.biases
        operations[layer.name] = of_steps.cumsum()
    for layer in counts.layers:
        np.testing.assert_allclose(layer.snn_operations, operations[layer.name], rtol=1e-12)
    firsts, seconds = counts.neurons
    weights, zeros = (sum(getattr(layer, name) for layer in counts.layers) for name in ("weights", "zeros"))
    expected = {
        "macs": sum(layer.macs for layer in counts.layers),
        "ann_operations": sum(2 * layer.macs + layer.biases for layer in counts.layers),
        "snn_operations": sum(operations.values()),
        # Once, as in the source network, or in all steps; a MAC as soon as one input is no spike.
        "effective_macs": sum((part.additions + part.multiply_adds).sum() for part in (others, more)),
        "effective_acs": once.ann_additions + spikes.additions.sum(),
        "ann_effective_macs": sum(part.ann_additions + part.ann_multiply_adds for part in (spikes, more)),
        "ann_effective_acs": once.ann_additions + others.ann_additions,
        "ann_dense": once.dense + spikes.dense + others.dense + more.dense,
        "dense": once.dense + 5 * (spikes.dense + others.dense + more.dense),
        "neuron_updates": 5 * 100,
        "activation_sparsity": 1 - (firsts.spikes + seconds.spikes) / 500,
        "ann_activation_sparsity": 1 - (firsts.ann_active + seconds.ann_active) / 100,
        "connection_sparsity": zeros / weights,
        "ann_footprint": sum(layer.footprint for layer in counts.layers),
        "footprint": sum(layer.footprint for layer in counts.layers) + 8 * 100 + 12,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(counts, name), value, rtol=1e-12, err_msg=name)
    for layer in counts.neurons:
        assert layer.updates == 5 * layer.neurons
        assert layer.activation_sparsity == pytest.approx(1 - layer.spikes / layer.updates, rel=1e-12)
        assert layer.ann_activation_sparsity == pytest.approx(1 - layer.ann_active / layer.neurons, rel=1e-12)
    del expected["macs"]
    expected["snn_operations"] = expected["snn_operations"][-1]
    assert counts.metrics == pytest.approx(expected, rel=1e-12)
    # A part that does not exist has no metrics.
    no_neurons = dataclasses.replace(counts, neurons=())
    of_neurons = {"neuron_updates", "activation_sparsity", "ann_activation_sparsity"}
    assert no_neurons.metrics.keys() == expected.keys() - of_neurons
    assert (no_neurons.neuron_updates, no_neurons.activation_sparsity) == (0, 1)
    assert no_neurons.ann_activation_sparsity == 1
    no_layers = dataclasses.replace(counts, layers=())
    assert no_layers.metrics.keys() == of_neurons | {"footprint", "ann_footprint"}
    assert no_layers.connection_sparsity == 0
    # Of a single one the fraction is 1 or 0.
    neuron = dataclasses.replace(firsts, neurons=1, timesteps=1, spikes=1.0, ann_active=1.0)
    single = OperationCounts((dataclasses.replace(once, weights=1, zeros=1),), neurons=(neuron,))
    assert single.connection_sparsity == 1
    assert single.activation_sparsity == single.ann_activation_sparsity == 0
    unspiking = tuple(dataclasses.replace(layer, additions=None) for layer in counts.layers)
    static = OperationCounts(unspiking)
    assert static.metrics == {
        name: expected[name]
        for name in ("ann_operations", "ann_dense", "connection_sparsity", "ann_footprint")
    }
    assert not static.has_spikes
    assert (static.not_counted, static.other_state) == ((), 0)


def test_counts_by_layer_have_all_parts_of_each(rng):
    counts = random_counts(rng)
    parts = counts.by_layer
    assert list(parts) == ["once", "spikes", "others", "relu"]
    names = {
        name: ([p.name for p in part.layers], [p.name for p in part.neurons]) for name, part in parts.items()
    }
    assert names == {
        "once": (["once"], []),
        "spikes": (["spikes"], ["spikes"]),
        "others": (["others/0", "others/1"], []),
        "relu": ([], ["relu"]),
    }
    assert all(part.other_state == 0 and part.not_counted == () for part in parts.values())
    # Arrays in them are no obstacle.
    assert len({counts, *counts.layers, *counts.neurons, *parts.values()}) == 1 + 4 + 2 + 4
    assert counts.layers[0] != dataclasses.replace(counts.layers[0])
    assert counts.neurons[0] == dataclasses.replace(counts.neurons[0])


def test_energy_is_the_sum_over_operations(rng):
    counts = random_counts(rng)
    once, *rest = counts.layers
    mac, ac = rng.uniform(1, 5, 2)
    energy = counts.energy([mac, ac])
    biases = once.biases + sum(layer.biases for layer in rest)
    added = once.biases + 50 * 5 + 5 * sum(layer.biases for layer in rest)
    np.testing.assert_allclose(energy.ann, 1e-12 * (mac * counts.ann_dense + ac * biases), rtol=1e-12)
    effective = mac * counts.ann_effective_macs + ac * (counts.ann_effective_acs + biases)
    np.testing.assert_allclose(energy.ann_effective, 1e-12 * effective, rtol=1e-12)
    np.testing.assert_allclose(
        energy.snn, 1e-12 * (mac * counts.effective_macs + ac * (counts.effective_acs + added)), rtol=1e-12
    )
    assert (energy.mac, energy.ac, energy.source) == (mac, ac, "figures of the user")
    said = [_joules(value) for value in (energy.ann, energy.ann_effective, energy.snn)]
    assert str(energy).startswith("ANN {} ({} without zeros), SNN {}. An estimate: ".format(*said))


def test_published_figures_are_those_of_horowitz():
    """Figure 1.1.9: of a multiplication and an addition, and of an addition, in picojoules."""
    figures = {"45nm_float32": (3.7, 0.9), "45nm_float16": (1.1, 0.4), "45nm_int32": (3.1, 0.1)}
    for name, (product, addition) in {**figures, "45nm_int8": (0.2, 0.03)}.items():
        assert check_figures("energy", name)[:2] == (product + addition, addition)
    with pytest.raises(ValueError, match="`energy` must be finite and above 0. Received: energy=0."):
        check_figures("energy", (0, 1))


def table(text):
    """Read a table in plain text: rows of cells, the header first, of which a line may have a part.

    Its numbers must stand on the right.
    """
    lines = text.splitlines()
    rule = next(i for i, line in enumerate(lines) if not line.strip("- "))
    spans = [match.span() for match in re.finditer("-+", lines[rule])]
    rows = [[line[a:z].strip() for a, z in spans] for line in lines]
    header = [" ".join(part for part in column if part) for column in zip(*rows[:rule], strict=True)]
    for line, row in zip(lines[rule + 1 :], rows[rule + 1 :], strict=True):
        for cell, (a, z) in zip(row[1:], spans[1:], strict=True):
            assert line[a:z].rstrip() == (cell and cell.rjust(z - a))
    return [header, *rows[rule + 1 :]]


def test_tables_say_the_metrics_of_every_layer(rng):
    counts = random_counts(rng)
    operations, synapses, of_neurons, energy, last = str(counts).split("\n\n")
    expected = [["layer", "ANN operations", "SNN operations", "per step"]]
    for name, part in [*((layer.name, layer) for layer in counts.layers), ("total", counts)]:
        total = part.snn_operations[-1]
        expected.append([name, f"{part.ann_operations:,}", f"{total:,.0f}", f"{total / 5:,.0f}"])
    assert table(operations) == expected
    keys = ["effective_macs", "effective_acs", "dense"]
    headers = [
        f"{net} {key}" for key in ("effective MACs", "effective ACs", "dense") for net in ("ANN", "SNN")
    ]
    columns = [prefix + key for key in keys for prefix in ("ann_", "")]
    more = ["ANN activation sparsity", "SNN activation sparsity", "neuron updates", "connection sparsity"]
    others = ["ann_activation_sparsity", "activation_sparsity", "neuron_updates", "connection_sparsity"]
    for text, header, names in (
        (synapses, headers, columns),
        (of_neurons, [*more, "ANN footprint", "SNN footprint"], [*others, "ann_footprint", "footprint"]),
    ):
        rows = table(text)
        assert rows[0] == ["for one sample", *header]
        for row, (name, part) in zip(rows[1:], [*counts.by_layer.items(), ("total", counts)], strict=True):
            assert row == [name, *(show_metric(key, part.metrics.get(key)) for key in names)]
    assert " ".join(energy.split()) == f"Energy: {counts.energy()}"
    assert last == "Not counted, run on averages: pool."
    for _ in range(20):
        assert max(map(len, str(random_counts(rng)).splitlines())) <= 100
    static = OperationCounts(tuple(dataclasses.replace(layer, additions=None) for layer in counts.layers))
    assert table(str(static)) == [row[:2] for row in expected]


def test_metrics_and_energies_have_readable_units():
    said = {
        ("dense", 0): "0",
        ("dense", 10**9 - 1): "999,999,999",
        ("dense", 10**9): "1,000 M",
        ("footprint", 1024): "1.0 KiB",
        ("footprint", 2**20 - 2**10): "1023.0 KiB",
        ("ann_footprint", 2**20): "1.0 MiB",
        ("activation_sparsity", 0.12345): "12.35%",
        ("footprint", None): "",
    }
    assert {case: show_metric(*case) for case in said} == said
    energies = {2.5: "2.5e+03 mJ", 1e-4: "0.1 mJ", 9.99e-5: "99.9 µJ", 1e-7: "0.1 µJ", 9.99e-8: "99.9 nJ"}
    assert {energy: _joules(energy) for energy in energies} == energies


@pytest.mark.parametrize("unit", [None, 0.25])
def test_reach_adds_up_what_spikes_and_other_values_reach(unit, rng):
    """In several blocks, whose length does not divide the number of inputs."""
    fan = rng.integers(0, 3500, (7, 11, 13))
    values = rng.choice([0, 0.25, -0.25, 0.6, 1.0, -1.0, -0.3, 1.25, -2.0], (2, 3, *fan.shape))
    reach = _Reach(fan)
    assert reach.shape[0] > 1
    assert reach.padding > 0
    # As many inputs together as have a sum below 2²⁴ although each is a spike of 16 units.
    most = 2**24 // (16 * fan.max())
    assert most * (reach.shape[0] - 1) < fan.size
    assert reach.shape[1] <= most
    found = keras.ops.convert_to_numpy(reach(values.astype("float32"), leading=2, unit=unit))
    assert found.shape == (2, 3, reach.shape[0], 2)
    size = np.abs(values)
    spikes = np.where(values % unit == 0, size / unit, 0) if unit else size == 1
    others = (values != 0) & (spikes == 0)
    expected = [np.sum(part * fan, axis=(2, 3, 4)) for part in (spikes, others)]
    np.testing.assert_array_equal(found.astype("float64").sum(axis=2), np.stack(expected, axis=-1))


def test_where_all_weights_are_zero_nothing_is_reached():
    found = keras.ops.convert_to_numpy(_Reach(np.zeros((3, 4), int))(np.ones((2, 3, 4)), leading=1))
    np.testing.assert_array_equal(found, np.zeros((2, 1, 2)))


@pytest.mark.parametrize("size", [4096, 4097])
def test_reach_is_exact_when_every_spike_is_as_large_as_may_be(size, rng):
    fan, units = np.full(size, 4095), rng.choice([15, 16], size, p=[0.01, 0.99])
    found = keras.ops.convert_to_numpy(_Reach(fan)(units[None] / 16, leading=1, unit=1 / 16))
    assert found.astype("float64").sum() == 4095 * units.sum()


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_footprint_is_that_of_the_dtype_of_the_weights(dtype, size, rng, request):
    policy = keras.config.dtype_policy()
    request.addfinalizer(lambda: keras.config.set_dtype_policy(policy))
    keras.config.set_dtype_policy(dtype)
    inputs = keras.Input((5,))
    shared = layers.Dense(5, name="shared")
    x = layers.Dense(5, use_bias=False, name="other")(shared(shared(inputs)))
    counts = count_operations(networks.randomize(keras.Model(inputs, x), rng))
    # A call of a layer that was called before has no weights of its own.
    assert [layer.footprint for layer in counts.layers] == [30 * size, 0, 25 * size]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_bytes_of_a_state_are_those_of_its_arrays(dtype):
    spiking = keras_snn.layers
    for layer in (spiking.SpikingDense(3, dtype=dtype), spiking.PoissonEncoder(seed=1, dtype=dtype)):
        layer.build((None, 6, 5))
        states = layer.get_initial_state(1)
        assert _state_bytes(layer) == sum(np.asarray(state).nbytes for state in states) > 0


def test_a_factor_counts_as_a_layer_with_one_weight_for_each_channel():
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.BatchNormalization(epsilon=0.0, name="norm")(inputs))
    model.set_weights([np.array(v) for v in ([0.5, 0.0, -2.0], [0.0, 0.3, 0.0], [0.0] * 3, [1.0] * 3)])
    (found,) = count_operations(model).layers
    counts = {"macs": 12, "biases": 12, "dense": 12, "weights": 3, "zeros": 1, "footprint": 4 * 6}
    counts |= {"reads": 0, "is_analog": False}
    assert {name: getattr(found, name) for name in counts} == counts


def test_a_factor_that_varies_in_space_multiplies_every_value_once(rng):
    inputs = keras.Input((4, 3))
    joined = layers.Concatenate(1)([layers.BatchNormalization()(layers.ReLU()(inputs)), inputs])
    model = networks.randomize(keras.Model(inputs, layers.ReLU()(joined)), rng)
    (found,) = count_operations(model).layers
    assert (found.macs, found.biases, found.dense, found.weights) == (24, 24, 24, 24)


def test_factors_that_were_moved_have_weights_of_their_own(rng):
    x = inputs = keras.Input((4, 4, 3))
    for _ in range(2):
        x = layers.AveragePooling2D(2)(layers.BatchNormalization()(layers.ReLU()(x)))
    model = networks.randomize(keras.Model(inputs, layers.ReLU()(x)), rng)
    assert [layer.footprint for layer in count_operations(model).layers] == [4 * 6, 4 * 6]


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
    activations = keras.Model(model.inputs, model.get_layer("conv").output).predict(x, verbose=0)
    np.testing.assert_allclose(conv["ann_activation_sparsity"], np.mean(activations == 0), rtol=1e-12)
    lines = str(counts).splitlines()
    assert max(map(len, lines)) <= 100
    words = str(counts).split()
    assert words.count("total") == 3
    assert f"{counts.dense:,}" in words


def test_a_network_written_by_hand_is_counted_like_any(rng):
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
    values = [np.asarray(v) for v in keras.Model(inputs, [first, hidden]).predict(x, verbose=0)]
    conv_in = sum(x[:, :, i : i + 5, j : j + 4].sum() for i in range(2) for j in range(2)) * 3
    expected = [conv_in, values[0].sum() * 7, values[1].sum() * 4]
    np.testing.assert_allclose([layer.additions.sum() * 6 for layer in counts.layers], expected)
    spikes = [neuron.spikes * 6 for neuron in counts.neurons]
    np.testing.assert_allclose(spikes, [v.sum() for v in values])
    contracts.assert_same(model.get_weights(), weights)


def test_a_network_written_by_hand_may_end_in_a_second_call_of_a_layer(rng):
    spiking = keras_snn.layers
    inputs = [keras.Input((4, 5)), keras.Input((4, 5))]
    hidden = spiking.SpikingDense(6, name="hidden")
    fired = [hidden(x) for x in inputs]
    label = spiking.PerTimestep(layers.Dense(3), name="label")
    model = networks.randomize(keras.Model(inputs, [label(x) for x in fired]), rng)
    x = [rng.integers(0, 2, (7, 4, 5)).astype("float32") for _ in inputs]
    spikes = [np.asarray(train).sum() for train in keras.Model(inputs, fired).predict(x, verbose=0)]
    counted = [layer for layer in count_operations(model, x).layers if layer.name.startswith("label")]
    np.testing.assert_allclose([7 * layer.additions.sum() for layer in counted], 3 * np.array(spikes))
    assert len(set(spikes)) == 2


def test_a_network_written_by_hand_may_not_mix_time_steps(rng):
    model = keras.Sequential(
        [keras.Input((5, 4)), keras_snn.layers.SpikingDense(3), layers.Flatten(name="mixes"), layers.Dense(2)]
    )
    with pytest.raises(
        ValueError, match="Received: layers 'mixes', 'dense.*'. Put others into .*PerTimestep"
    ):
        count_operations(model, np.zeros((2, 5, 4)))
