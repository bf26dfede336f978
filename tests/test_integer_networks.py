"""Networks of integers: what they compute, to the bit, and what is refused."""

import dataclasses

import contracts
import keras
import networks
import numpy as np
import pytest
from integer_reference import Reference, integers
from keras import layers
from running import few, named, thorough

from keras_snn import quantized_reference
from keras_snn.conversion.integers import input_grid
from keras_snn.graph import nodes as kinds
from keras_snn.graph.integer_bounds import exact_steps
from keras_snn.graph.integer_rounding import rounded_weights
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.program import source_of
from keras_snn.neurons import (
    Burst,
    Corrected,
    Delayed,
    IntegrateAndFire,
    MultiThreshold,
    SignedIntegrateAndFire,
)
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of

RECORDS = ["spike_trains", "membrane_potentials"]
NEURONS = {
    "if": IntegrateAndFire(),
    "reset to zero": IntegrateAndFire(reset="zero", initial_potential=0.3),
    "signed": SignedIntegrateAndFire(levels=5),
    "multi-threshold": MultiThreshold(3, 0.7),
    "burst": Burst(3, 1.5),
    "delayed": Delayed(IntegrateAndFire(), 2),
}
LAWS = [
    (networks.plain, "if"),
    (networks.residual, "burst"),
    (networks.plain, "multi-threshold"),
    (networks.decoder, "signed"),
    (networks.dense_block, "reset to zero"),
    (networks.depthwise, "delayed"),
    (networks.rows, "signed"),
    (networks.residual, "if"),
]


def converted(architecture, rng, *, weight_bits=4, **options):
    model = networks.build(architecture, rng)
    x = networks.data_for(model, rng, 6)
    return contracts.convert(model, x, timesteps=6, weight_bits=weight_bits, **options), x


def arrays_of(program):
    for node in program.graph.nodes.values():
        if isinstance(node, kinds.Affine):
            yield from (node.kernel, node.bias)
        elif isinstance(node, kinds.Spike):
            yield np.asarray(node.neuron.v_threshold)


@pytest.mark.parametrize(("architecture", "neuron"), thorough(few(LAWS, 2), quick=range(4)), ids=named)
def test_it_computes_what_integers_give(architecture, neuron, rng):
    """On every backend, in any batches, and in float64: spikes, potentials and sums of read-outs."""
    options = {"neuron": NEURONS[neuron], "nonspiking": "error"}
    if neuron == "if":
        options["bias_correction"] = "potential"
    snn, x = converted(architecture, rng, **options)
    program = program_of(snn)
    for array in arrays_of(program):
        integers(array)
    assert max(np.abs(n.kernel).max() for n in program.graph.nodes.values() if hasattr(n, "kernel")) <= 7
    expected = Reference(program, x)
    in_float64 = build(dataclasses.replace(program, dtype=keras.dtype_policies.get("float64")))
    runs = [snn.simulate(x, record=RECORDS, batch_size=size) for size in (6, 4)]
    for run in (*runs, in_float64.simulate(x, record=RECORDS)):
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(8 * run.spike_trains[name], np.stack(spikes, axis=1))
            potentials = np.stack(expected.potentials[name], axis=1)
            np.testing.assert_array_equal(8 * run.membrane_potentials[name], potentials)
    assert any(np.any(spikes) for spikes in expected.spikes.values())
    for node in program.graph.nodes.values():
        if isinstance(node, kinds.Readout) and node.function == "linear":
            sums, steps = expected.sums[node.name] // 8, np.float32(program.timesteps - node.delay)
            outputs = sums.astype("float32") * (np.asarray(node.scale, "float32") * (1 / steps))
            place = program.graph.output_names.index(node.name)
            for run in runs:
                np.testing.assert_array_equal(keras.tree.flatten(run.outputs)[place], outputs)


@pytest.mark.parametrize(
    "hidden", [layers.DepthwiseConv2D(3, activation="relu"), layers.ReLU()], ids=["depthwise", "relu"]
)
def test_no_layer_needs_to_take_all_channels(hidden, rng):
    """There is none whose weights could make up for each other."""
    hidden = type(hidden).from_config(hidden.get_config())
    model = keras.Sequential([keras.Input((6, 6, 3)), hidden, layers.GlobalAveragePooling2D()])
    x = networks.data_for(networks.randomize(model, rng), rng, 6)
    snn = contracts.convert(model, x, timesteps=6, weight_bits=8)
    run, expected = snn.simulate(x, record="spike_trains"), Reference(program_of(snn), x)
    assert any(np.any(spikes) for spikes in expected.spikes.values())
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(8 * run.spike_trains[name], np.stack(spikes, axis=1))


def activations(program, x):
    """What rates approach: continuous functions of the weights, thresholds and units."""
    values = evaluate(source_of(program), x, everything=True)
    names = [node.name for node in program.graph.nodes.values() if isinstance(node, kinds.Spike)]
    return np.concatenate([values[name].ravel() for name in names])


def test_it_approaches_the_network_of_floats_as_bits_grow(rng):
    model = networks.build(networks.residual, rng)
    x = (np.round(255 * networks.data_for(model, rng, 6)) / 255).astype("float32")
    options = {"timesteps": 4, "dtype": "float64"}
    expected = activations(program_of(contracts.convert(model, x, **options)), x)
    errors = []
    for weight_bits in (4, 6, 8):
        snn = contracts.convert(model, x, weight_bits=weight_bits, **options)
        errors.append(np.sqrt(np.mean((activations(program_of(snn), x) - expected) ** 2)))
    # As 2⁻ⁿ: each step of two bits divides the error by 4.
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.all((ratios > 2) & (ratios < 8)), errors


def test_weights_are_rounded_so_that_sums_change_less_than_by_rounding_each(rng):
    """Of inputs that go together, as those of a network do."""
    inputs = rng.uniform(0, 1, (400, 5)) @ rng.uniform(0, 1, (5, 30)) + rng.normal(0, 0.1, (400, 30))
    weights = rng.normal(0, 3, (30, 8))
    found = rounded_weights(weights, inputs, 7)
    errors = [np.mean((inputs @ (w - weights)) ** 2) for w in (found, np.clip(np.round(weights), -7, 7))]
    assert errors[0] < errors[1] / 4
    np.testing.assert_array_equal(found, np.clip(np.round(found), -7, 7))
    np.testing.assert_array_equal(rounded_weights(weights, None, 7), np.clip(np.round(weights), -7, 7))


def test_saved_and_loaded_it_is_the_same(rng, tmp_path):
    snn, x = converted(networks.plain, rng)
    loaded = contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, tmp_path / "snn.keras")
    contracts.law_10_a_file_holds_the_same(snn, loaded)
    contracts.law_13_a_model_and_its_program_are_the_same(program_of(loaded))
    assert (loaded.weight_bits, loaded.exact_steps) == (4, snn.exact_steps)
    assert program_of(snn) != dataclasses.replace(program_of(snn), weight_bits=5)


def test_it_knows_for_how_many_steps_its_sums_are_exact():
    """Of neurons that get one weight at every step: V(0) + θ + T·|W| is below 2²⁴, which float32 holds."""
    relus = [layers.Dense(1, activation="relu"), layers.Dense(1, activation="relu")]
    model = keras.Sequential([keras.Input((1,)), *relus, layers.Dense(1)])
    model.set_weights(
        [np.ones((1, 1)), np.zeros(1), -np.ones((1, 1)) / 16, np.zeros(1), np.ones((1, 1)), np.zeros(1)]
    )
    x = np.ones((4, 1), "float32")
    snn = contracts.convert(model, x, timesteps=2, weight_bits=16, normalization="none")
    nodes = program_of(snn).graph.nodes.values()
    thetas = [node.neuron.v_threshold for node in nodes if isinstance(node, kinds.Spike)]
    currents = [abs(node.kernel.item()) for node in nodes if isinstance(node, kinds.Affine)][1:]
    # What is rounded may be so large.
    currents.insert(0, [node.levels for node in nodes if isinstance(node, kinds.Activation)][-1])
    starts = [1.5 * theta for theta in thetas] + [0]
    expected = [(2**24 - start) // current for start, current in zip(starts, currents, strict=True)]
    assert snn.exact_steps == min(expected)
    with pytest.raises(ValueError, match="must be at most"):
        snn.timesteps = snn.exact_steps + 1
    with pytest.raises(ValueError, match="must be at most"):
        snn.simulate(x, timesteps=snn.exact_steps + 1)


def test_what_neurons_get_besides_their_input_counts_too(rng):
    """Of a correction that alone brings a potential to 2²⁴ in 100 steps."""
    program = program_of(converted(networks.plain, rng)[0])
    node = next(node for node in program.graph.nodes.values() if isinstance(node, kinds.Spike))
    more = 2.0**24 // 100
    neuron = Corrected(node.neuron, (more,) + (0.0,) * (node.shape[-1] - 1))
    found = exact_steps(
        program.with_nodes({**program.graph.nodes, node.name: dataclasses.replace(node, neuron=neuron)})
    )
    assert 50 < found <= 100 < exact_steps(program)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 1}, "`weight_bits` must be"),
        ({"weight_bits": 8, "input_encoding": "poisson"}, "random spikes"),
        ({"weight_bits": 8, "max_pool": "fir"}, "'max_pooling2d' with a max pool of method 'fir'"),
        ({"weight_bits": 8, "softmax": "poisson"}, "random spikes"),
        ({"weight_bits": 8, "neuron": "ttfs"}, "`weight_bits` must be None with a time code"),
        ({"weight_bits": 16}, "sums that dtype 'float32' holds exactly.* layer 'conv'"),
        ({"weight_bits": 8, "dtype": "float16"}, "sums that dtype 'float16' holds exactly.* layer 'conv'"),
        ({"weight_bits": 8, "dtype": "bfloat16"}, "sums that dtype 'bfloat16' holds exactly.* layer 'conv'"),
    ],
)
def test_what_cannot_be_of_integers_is_refused_by_name(options, message, rng):
    model = networks.build(networks.plain, rng)
    with pytest.raises(ValueError, match=message):
        contracts.convert(model, networks.data_for(model, rng), timesteps=4, **options)


def test_without_data_and_with_functions_of_numbers_it_is_refused(rng):
    dense = [layers.Dense(3, activation=function) for function in ("relu", "sigmoid", "relu", None)]
    model = networks.randomize(keras.Sequential([keras.Input((4,)), *dense]), rng)
    with pytest.raises(ValueError, match="`weight_bits` is chosen on `calibration_data`"):
        contracts.convert(model, None, weight_bits=8)
    with pytest.raises(ValueError, match="layers that add integers up.* layer 'dense_1.* sigmoid of numbers"):
        contracts.convert(model, networks.data_for(model, rng), weight_bits=8)


@pytest.mark.parametrize(
    ("values", "unit", "levels", "signed"),
    [
        ([0, 255], 1.0, 255, False),
        ([0, 1], 1.0, 1, False),
        ([0.2, 1.0], 1 / 255, 255, False),
        ([-1.3, 2.0], 1 / 64, 255, True),
        ([0.0, 300.5], 2.0, 255, False),
    ],
)
def test_inputs_are_rounded_to_the_grid_that_data_shows(values, unit, levels, signed):
    grid = input_grid(np.array(values, "float32"))
    assert (grid.unit, grid.levels, grid.signed) == (unit, levels, signed)


def test_input_of_every_step_is_rounded_to_integers(rng):
    model = networks.build(networks.residual, rng)
    x = rng.integers(-1, 3, (4, 6, 6, 6, 3)).astype("float32")
    options = {"timesteps": 6, "input_encoding": "events"}
    snn = contracts.convert(model, x.mean(axis=1), weight_bits=4, **options)
    run, expected = snn.simulate(x + 0.3, record=RECORDS), Reference(program_of(snn), x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(8 * run.spike_trains[name], np.stack(spikes, axis=1))


def test_settled_it_is_its_quantized_reference(rng):
    """Of sums that are multiples of the threshold, too, which floats alone may round to either side."""
    snn, x = converted(networks.residual, rng, neuron="signed", weight_bits=6)
    outputs = snn.simulate(x, settle=True).outputs
    np.testing.assert_allclose(outputs, quantized_reference(snn).predict(x, verbose=0), atol=1e-5)
