import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn import count_operations
from keras_snn.graph.lowering import lower
from keras_snn.graph.nodes import Affine
from keras_snn.simulation.op_counts import fan_out

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
    """Compared with the sum of the outputs for one input that is 1, where every weight is 1."""
    model = keras.Sequential([keras.Input(shape), make()])
    model.set_weights([np.ones(w.shape) * (w.ndim > 1) for w in model.get_weights()])
    node = next(n for n in lower(model).nodes.values() if isinstance(n, Affine))
    size = int(np.prod(shape))
    reached = np.asarray(model(np.eye(size).reshape(size, *shape))).reshape(size, -1).sum(axis=1)
    expected = reached.reshape(shape)
    assert np.all(expected == expected[..., :1])
    np.testing.assert_array_equal(fan_out(node, shape), expected[..., 0])


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
        reached = np.asarray(layer(folded)).reshape(len(folded), -1).sum(axis=1)
        return reached.reshape(values.shape[:2]).mean(axis=0)

    pool = snn.get_layer("pool")
    pooled = np.asarray(pool(trains["conv2"]))
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


def test_an_encoded_input_is_no_analog_layer(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = keras_snn.convert(model, x, timesteps=7, verbose=0, input_encoding="poisson", seed=1)
    counts = count_operations(snn, x)
    assert not any(layer.is_analog for layer in counts.layers)
    events = keras_snn.convert(model, x, timesteps=7, verbose=0, input_encoding="events")
    ones = np.ones((3, 7, 5), "float32")
    np.testing.assert_array_equal(count_operations(events, ones).layers[0].additions, [20] * 7)
    np.testing.assert_array_equal(count_operations(events, 0.5 * ones).layers[0].multiply_adds, [20] * 7)


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


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_every_network_is_counted(network, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=5)
    counts, of_source = count_operations(snn, x), count_operations(model)
    assert counts.macs >= of_source.macs > 0
    assert np.all(np.diff(counts.snn_operations) >= 0)


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


def test_a_spiking_model_needs_samples(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu")])
    snn = contracts.convert(model, rng.uniform(0, 1, (4, 5)))
    with pytest.raises(ValueError, match="`x` must be some samples"):
        count_operations(snn)
