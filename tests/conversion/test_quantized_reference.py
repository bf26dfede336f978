"""The promise of signed neurons: once all are silent, the network computes its quantized reference."""

import dataclasses

import contracts
import keras
import networks
import numpy as np
import pytest
import running
from keras import layers
from running import few

import keras_snn
from keras_snn import neurons, quantized_reference
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold

to_numpy = keras.ops.convert_to_numpy
# TensorFlow pools volumes in float32 only.
IN_FLOAT64 = [network for network in networks.NETWORKS if network is not networks.volume]

OPTIONS = [
    (6, {}),
    (8, {"levels": 3}),
    (4, {"levels": 7, "v_threshold": 0.7, "initial_potential": 0.3}),
]


@pytest.fixture
def _float64():
    if keras.backend.backend() == "torch":
        pytest.skip("Keras 3.15 multiplies matrices in float32 on PyTorch")
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def convert_signed(network, rng, timesteps, dtype="float32", samples=8, **options):
    model = networks.build(network, rng)
    x = keras.tree.map_structure(lambda a: a.astype(dtype), networks.data_for(model, rng, samples=samples))
    neuron = neurons.SignedIntegrateAndFire(**options)
    # Clips some activations.
    normalization = {"normalization": "percentile", "percentile": 95}
    return model, contracts.convert(model, x, timesteps=timesteps, neuron=neuron, **normalization), x


def activations(reference, names, x):
    """Return the value of the layers of the reference that stand for these layers of neurons, by name."""
    known = {layer.name for layer in reference.layers}
    of = {name: reference.get_layer(f"{name}_spike" if f"{name}_spike" in known else name) for name in names}
    watch = keras.Model(reference.input, {name: layer.output for name, layer in of.items()})
    return watch.predict_on_batch(x), keras.Model(
        reference.input, {name: layer.input for name, layer in of.items()}
    ).predict_on_batch(x)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    ("network", "timesteps", "options"), few([(net, *OPTIONS[i % 3]) for i, net in enumerate(IN_FLOAT64)], 2)
)
def test_settled_every_neuron_has_the_spikes_of_the_reference(network, timesteps, options, rng):
    _, snn, x = convert_signed(network, rng, timesteps, "float64", **options)
    run = snn.simulate(x, record="spike_counts", settle=True)
    reference = quantized_reference(snn)
    contracts.assert_same(run.outputs, reference.predict_on_batch(x), tolerance=1e-12)
    rates, _ = activations(reference, run.spike_counts, x)
    assert run.spike_counts
    levels = options.get("levels", timesteps)
    for name, counts in run.spike_counts.items():
        np.testing.assert_array_equal(counts, np.round(rates[name] * timesteps))
        np.testing.assert_allclose(rates[name] * timesteps, counts, rtol=0, atol=1e-12)
        assert 0 <= counts.min() <= counts.max() <= levels
    # Otherwise nothing was tested: spikes came too late or in vain.
    assert run.settling > 1


# Every network is settled, in float64 where it can be: those of many kinds of sums in float32, too.
IN_FLOAT32 = [networks.residual, networks.several, networks.volume, networks.rows]


@pytest.mark.parametrize(
    "network",
    running.thorough(networks.NETWORKS, quick=[networks.NETWORKS.index(network) for network in IN_FLOAT32]),
)
def test_settled_in_float32_too_but_near_thresholds(network, rng):
    timesteps, levels = 8, 4
    _, snn, x = convert_signed(network, rng, timesteps, samples=24, levels=levels)
    run = snn.simulate(x, record="spike_counts", settle=True)
    rates, currents = activations(quantized_reference(snn), run.spike_counts, x)
    clear = np.ones(24, bool)
    for current in currents.values():
        charge = current.astype("float64") * timesteps + 0.5
        # Below 0 and above the levels it is clipped.
        near = (np.abs(charge - np.round(charge)) < 1e-5) & (charge > 0.5) & (charge < levels + 0.5)
        clear &= ~near.reshape(24, -1).any(axis=1)
    assert clear.sum() > 12
    for name, counts in run.spike_counts.items():
        np.testing.assert_array_equal(counts[clear], np.round(rates[name][clear] * timesteps))


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    ("network", "options"),
    [
        (networks.plain, {}),
        (networks.residual, {"levels": 3}),
        (networks.branches, {"levels": 9}),
        (networks.several, {}),
        (networks.rows, {"levels": 3}),
        (networks.rows, {"levels": 13, "v_threshold": 0.7}),
    ],
)
def test_reference_is_the_source_with_rounded_activations(network, options, rng):
    """Computed in NumPy from the source: a → λ·clip(floor(½ + a·L/λ), 0, L)/L after every relu."""
    timesteps = 6
    model, snn, x = convert_signed(network, rng, timesteps, "float64", **options)
    levels = options.get("levels", timesteps)
    graph = fold(lower(model))
    scales = {}
    for row in snn.conversion_report.layers:
        if row.scale is not None:
            # A rate of 1 stands for the scale of the report, and `levels` spikes for λ.
            scales |= dict.fromkeys(row.origins, np.asarray(row.scale) * levels / timesteps)
    for node in graph.nodes.values():
        # A relu at the output acts on the average.
        if isinstance(node, kinds.Activation) and node.function == "relu" and node.origins[0] in scales:
            rounded = dataclasses.replace(node, max_value=scales[node.origins[0]], levels=levels)
            graph = graph.with_nodes({**graph.nodes, node.name: rounded})
    contracts.assert_same(quantized_reference(snn).predict_on_batch(x), evaluate(graph, x), tolerance=1e-12)


def test_reference_is_an_ordinary_model_that_saves_and_loads(rng, tmp_path):
    _, snn, x = convert_signed(networks.residual, rng, 5, levels=3)
    reference = quantized_reference(snn)
    assert type(reference) is type(keras.Model(*[keras.Input((1,))] * 2))
    assert not any(isinstance(layer, keras_snn.layers.SpikingLayer) for layer in reference.layers)
    reference.save(tmp_path / "reference.keras")
    loaded = keras.models.load_model(tmp_path / "reference.keras")
    contracts.assert_same(loaded.predict_on_batch(x), reference.predict_on_batch(x))


def test_reference_takes_the_average_of_events(rng):
    model = networks.build(networks.plain, rng)
    events = rng.integers(0, 2, (6, 9, 9, 8, 2)).astype("float32")
    average = events.mean(axis=1)
    snn = contracts.convert(model, average, timesteps=9, neuron="signed", input_encoding="events")
    run = snn.simulate(events, settle=True)
    expected = quantized_reference(snn).predict_on_batch(average)
    contracts.assert_same(run.outputs, expected, tolerance=1e-5)


def test_settled_nonspiking_layers_act_on_the_average_over_the_steps_with_input(rng):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(9, activation="relu")])
    for layer in (layers.Dense(8, activation="gelu"), layers.Dense(7, activation="relu"), layers.Dense(3)):
        model.add(layer)
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=5, neuron="signed")
    expected = quantized_reference(snn).predict_on_batch(x)
    contracts.assert_same(snn.simulate(x, settle=True).outputs, expected, tolerance=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neuron": "if"}, "with neuron=IntegrateAndFire"),
        ({"delay": 2}, "with neuron=Delayed"),
        ({"max_pool": "avg"}, "with method='avg'"),
        ({"readout_delay": 2}, "with delay=2"),
        ({"softmax": "poisson"}, "with random spikes"),
        ({"input_encoding": "poisson"}, "with random spikes"),
    ],
)
def test_reference_raises_when_spikes_depend_on_their_order_or_chance(options, message, rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, **{"neuron": "signed", **options})
    with pytest.raises(ValueError, match=message):
        quantized_reference(snn)


def test_reference_raises_when_the_model_does_not_spike():
    with pytest.raises(TypeError, match="`model` must be a SpikingModel. Received: int."):
        quantized_reference(3)


def relus_on_relus():
    """As `networks.rows`, which takes long to compile, of few layers."""
    inputs = keras.Input((6,))
    first = layers.Dense(8, activation="relu")(inputs)
    cut = layers.ReLU(0.7)(first)
    ends = [
        layers.ReLU()(layers.ReLU()(first)),
        layers.ReLU(0.4)(cut),
        layers.ReLU()(layers.Add()([first, cut])),
        layers.ReLU(1.1)(layers.Concatenate()([first, cut])),
    ]
    return keras.Model(inputs, [layers.Dense(2)(x) for x in ends])


@pytest.mark.parametrize(("levels", "timesteps"), [(1024, 16), (700, 64), (None, 512)])
@pytest.mark.compiled
def test_many_levels_are_the_source_whatever_the_steps_are(levels, timesteps, rng):
    """Relus of relus, too: the error is that of rounding to levels, in the network and in its reference."""
    model = networks.randomize(relus_on_relus(), rng)
    x = networks.data_for(model, rng, samples=16)
    neuron = neurons.SignedIntegrateAndFire(levels=levels)
    snn = contracts.convert(model, x, timesteps=timesteps, neuron=neuron)
    expected = model.predict_on_batch(x)
    for outputs in (snn.simulate(x, settle=True).outputs, quantized_reference(snn).predict_on_batch(x)):
        contracts.assert_same(outputs, expected, tolerance=20 / (levels or timesteps))
