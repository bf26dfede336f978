"""Counts in closed form are what a run counts that makes one addition after the other."""

import contracts
import instrumented
import keras
import networks
import numpy as np
import pytest
import running
from test_contracts import SEED, _between, some

import keras_snn
from keras_snn.graph import nodes as kinds
from keras_snn.graph.levels import in_the_way, with_levels
from keras_snn.graph.program import source_of
from keras_snn.neurons import (
    Burst,
    DigitCode,
    IntegrateAndFire,
    MultiThreshold,
    SignedIntegrateAndFire,
    TimeToFirstSpike,
)
from keras_snn.simulation.source import program_of

NEURONS = [
    IntegrateAndFire(),
    IntegrateAndFire(reset="zero"),
    SignedIntegrateAndFire(),
    MultiThreshold(levels=3),
    Burst(gamma=3),
    TimeToFirstSpike(7),
    DigitCode(15, 2),
    DigitCode(15, 4),
]
SAMPLES = 2


def convert(model, x, neuron, **options):
    # All sums are relayed that may be, so that spikes with a sign are counted too.
    steps = {"relays": True} if neuron.is_time_code else {"timesteps": 3}
    return contracts.convert(model, x, neuron=neuron, dtype="float64", **steps, **options)


def check(snn, x):
    """All counts of a spiking model, and of both networks without zeros."""
    program, flat = program_of(snn), keras.tree.flatten(x)
    counts = keras_snn.count_operations(snn, x, batch_size=SAMPLES)
    made = [instrumented.run(program, [a[i] for a in flat], snn.passes) for i in range(SAMPLES)]
    for place, outputs in enumerate(keras.tree.flatten(snn.predict_on_batch(x))):
        found = np.stack([one.outputs[place] for one in made])
        np.testing.assert_allclose(found, outputs, rtol=1e-6, atol=1e-6)

    if any(getattr(node, "stands_for", ()) for node in program.graph.nodes.values()):
        # The run has one map where the source network has several.
        np.testing.assert_allclose(
            counts.snn_operations[-1], np.mean([one.operations for one in made]), rtol=1e-12
        )
        return None

    def mean(name):
        return np.mean([getattr(one, name) for one in made])

    np.testing.assert_allclose(counts.snn_operations[-1], mean("operations"), rtol=1e-12)
    np.testing.assert_allclose(counts.updates, mean("updates"), rtol=1e-12)
    np.testing.assert_allclose(sum(n.events for n in counts.neurons), mean("fired"), rtol=1e-12)
    np.testing.assert_allclose(
        counts.operations_with_updates, mean("operations") + mean("updates"), rtol=1e-12
    )
    adding = (kinds.Affine, kinds.ChannelAffine, kinds.Add)
    names = {name for name, node in program.graph.nodes.items() if isinstance(node, adding)}
    exact = not any(in_the_way(node, program.timesteps) for node in program.graph.nodes.values())
    assert counts.same_levels == exact
    graph = with_levels(program) if exact else source_of(program)
    if program.events:
        flat = [a.mean(axis=1) for a in flat]
    needed = instrumented.without_zeros(graph, flat, names) / SAMPLES
    np.testing.assert_allclose(counts.zero_skipping_operations, needed, rtol=1e-12)
    return counts


@pytest.mark.parametrize(
    ("network", "neuron"), running.pairs(networks.NETWORKS[SEED % 3 :: 3], NEURONS), ids=running.named
)
def test_counts_of_networks_are_those_of_a_run(network, neuron, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng, samples=SAMPLES)
    check(convert(model, x, neuron, normalization="percentile", percentile=90.0), x)


@pytest.mark.parametrize("example", some(6))
def test_counts_of_rules_are_those_of_a_run(example, rng):
    model = _between(example, rng)
    x = networks.data_for(model, rng, samples=SAMPLES)
    snn = convert(model, x, NEURONS[int(rng.integers(len(NEURONS)))])
    random = (kinds.Opaque, kinds.Activation, kinds.Encode)
    if not any(isinstance(node, random) for node in program_of(snn).graph.nodes.values()):
        check(snn, x)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_neurons_of_every_kind_side_by_side_are_counted_apart(neuron, rng):
    """Burst and multi-threshold spikes have other events of the same units; time codes other windows."""
    x = inputs = keras.Input((4, 4, 2))
    parts = [keras.layers.Conv2D(2, 2, activation="relu", name=f"part{i}")(x) for i in range(2)]
    x = keras.layers.Concatenate()(parts)
    x = keras.layers.MaxPooling2D(2, strides=1)(x)
    x = keras.layers.Conv2D(2, 2, activation="relu")(x)
    model = networks.randomize(keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x))), rng)
    x = networks.data_for(model, rng, samples=SAMPLES)
    other = TimeToFirstSpike(11) if neuron.is_time_code else Burst(gamma=3)
    check(convert(model, x, neuron, layer_options={"part1": {"neuron": other}}), x)


@pytest.mark.parametrize(
    ("relays", "neuron"),
    running.pairs(["auto", False, True], [*NEURONS[5:], DigitCode(15, "auto")]),
    ids=str,
)
def test_sums_that_no_relu_rectifies_are_counted_as_numbers_and_as_spikes(neuron, relays, rng):
    x = inputs = keras.Input((4, 4, 2))
    x = first = keras.layers.Conv2D(2, 1)(keras.layers.Conv2D(3, 2, activation="relu")(x))
    x = keras.layers.Conv2D(4, 2, padding="same", activation="relu")(x)
    x = keras.layers.Add()([first, keras.layers.Conv2D(2, 1)(x)])
    x = keras.layers.Concatenate()([keras.layers.Conv2D(3, 1, activation="relu")(x), x])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = networks.randomize(keras.Model(inputs, keras.layers.Dense(3)(x)), rng)
    x = networks.data_for(model, rng, samples=SAMPLES)
    snn = contracts.convert(model, x, neuron=neuron, relays=relays, dtype="float64")
    check(snn, x)
    spikes = [node for node in program_of(snn).graph.nodes.values() if isinstance(node, kinds.Spike)]
    if relays != "auto":
        assert any(node.neuron.is_signed for node in spikes) == relays


@pytest.mark.parametrize("what", ["current", "potential"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("neuron", [NEURONS[0], NEURONS[3]], ids=str)
def test_corrected_currents_are_counted(what, use_bias, neuron, rng):
    model = keras.Sequential([keras.Input((5, 5, 2))])
    for name in ("first", "second"):
        model.add(keras.layers.Conv2D(3, 2, activation="relu", use_bias=use_bias, name=name))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(2))
    networks.randomize(model, rng)
    x = networks.data_for(model, rng, samples=SAMPLES)
    counted = contracts.corrected(convert(model, x, neuron), what, rng)
    counts = check(counted, x)
    second = counts.by_layer["second"].layers
    added = sum(layer.biases + layer.reads for layer in second)
    assert added == (27 if use_bias or what == "current" else 0)


def test_a_constant_current_is_added_at_every_step_wherever_its_neurons_are(rng):
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Flatten()(keras.layers.Conv2D(3, 2)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.ReLU()(x)))
    x = networks.data_for(networks.randomize(model, rng), rng, samples=SAMPLES)
    counts = check(convert(model, x, NEURONS[0]), x)
    assert sum(layer.reads for layer in counts.layers) == 27


def test_scales_of_a_residual_sum_are_nothing_of_the_source(rng):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, samples=SAMPLES)
    of_source = keras_snn.count_operations(model)
    assert of_source.ann_operations == 49_995 + 2 * 6 * 6 * 4
    counts = keras_snn.count_operations(convert(model, x, NEURONS[0]), x)
    assert counts.ann_operations == of_source.ann_operations
    assert counts.ann_dense == of_source.ann_dense


@pytest.mark.parametrize("neuron", NEURONS[:5], ids=str)
def test_a_hand_written_layer_of_several_inputs_takes_each(neuron, rng):
    spiking, x = keras_snn.layers, [keras.Input((3, 5)), keras.Input((3, 5))]
    parts = [spiking.SpikingDense(4, neuron=neuron, dtype="float64")(part) for part in x]
    difference = spiking.PerTimestep(keras.layers.Subtract(dtype="float64"), dtype="float64")(parts)
    last = spiking.SpikingDense(3, neuron=neuron, dtype="float64")(difference)
    model = networks.randomize(keras.Model(x, last), rng)
    data = [rng.integers(0, 3, (SAMPLES, 3, 5)).astype("float32") for _ in x]
    trains = keras.Model(x, parts).predict_on_batch(data)
    counts = keras_snn.count_operations(model, data)
    (sums,) = (layer for layer in counts.layers if layer.is_factor)
    units = [np.abs(train).sum() / SAMPLES / neuron.unit for train in trains]
    np.testing.assert_allclose(sums.units.sum(), units[1])
    np.testing.assert_allclose(counts.units, sum(units) + _given(data, 4), rtol=1e-6)


def _given(data, neurons):
    return sum(part.sum() for part in data) / SAMPLES * neurons
