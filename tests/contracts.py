"""The laws of the design, as functions. Each takes what it is about and asserts that it holds."""

import dataclasses
import functools
import inspect
import warnings

import keras
import numpy as np
import running

import keras_snn
from keras_snn.conversion.calibration import calibrate
from keras_snn.conversion.normalization import normalize, relus
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold
from keras_snn.neurons import Corrected
from keras_snn.simulation.building import build, rebuilt
from keras_snn.simulation.internals import internals
from keras_snn.simulation.source import program_of, source_graph  # noqa: F401 - for the tests


def convert(model, data, **options):
    with warnings.catch_warnings():
        # Random weights may make a layer silent, which is allowed.
        warnings.filterwarnings("ignore", message="Silent on all calibration data")
        warnings.filterwarnings("ignore", message="Nothing in '.*' spikes")
        defaults = {"normalization": "max", "nonspiking": "allow", "verbose": 0}
        return keras_snn.convert(model, data, **{**defaults, **options})


def corrected(snn, what, rng):
    """Return a spiking model with random `"current"` or `"potential"` added to every channel of neurons."""
    program = program_of(snn)
    nodes = dict(program.graph.nodes)
    for name, node in nodes.items():
        if isinstance(node, kinds.Spike):
            added = tuple(rng.uniform(-0.2, 0.2, node.shape[-1]).tolist())
            nodes[name] = dataclasses.replace(node, neuron=Corrected(node.neuron, **{what: added}))
    return rebuilt(snn, program.with_nodes(nodes))


def assert_same(first, second, *, tolerance=0.0):
    """Nested arrays are equal, up to `tolerance` relative to the largest value."""
    keras.tree.assert_same_structure(first, second)
    for a, b in zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True):
        a, b = keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        assert a.shape == b.shape
        largest = max(np.abs(b).max(), 1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)


def law_1_lowering_keeps_the_function(model, x):
    assert_same(evaluate(lower(model, nonspiking="allow"), x), model(x, training=False), tolerance=1e-5)


def law_2_folding_keeps_the_function(model, x):
    """Returns the folded graph."""
    graph = lower(model, nonspiking="allow")
    folded = fold(graph)
    assert_same(evaluate(folded, x), evaluate(graph, x), tolerance=1e-5)
    return folded


def law_3_normalizing_keeps_the_function_up_to_the_scale(graph, x, rng):
    """`graph` is folded."""
    before = evaluate(graph, x, everything=True)
    # Scales that clip nothing.
    largest = {node.name: max(before[node.name].max(), 0.1) for node in relus(graph)}
    scales = {name: value * rng.uniform(1.0, 3.0) for name, value in largest.items()}
    normalized = normalize(graph, scales)
    after = evaluate(normalized, x, everything=True)
    for name, scale in scales.items():
        assert_same(after[name] * scale, before[name], tolerance=1e-5)
    outputs = [
        keras.tree.map_structure(values.__getitem__, of.outputs)
        for of, values in ((normalized, after), (graph, before))
    ]
    assert_same(*outputs, tolerance=1e-5)


def law_4_calibration_depends_on_neither_batches_nor_order(model, x, rng):
    """For values whose sums are exact, so that every order gives the same activations."""
    graph = fold(lower(model, nonspiking="allow"))
    order = rng.permutation(len(keras.tree.flatten(x)[0]))
    shuffled = keras.tree.map_structure(lambda a: a[order], x)
    first = calibrate(graph, x, batch_size=5, verbose=0)
    second = calibrate(graph, shuffled, batch_size=3, verbose=0)
    assert first.keys() == second.keys() == {node.name for node in relus(graph)}
    for name, histogram in first.items():
        np.testing.assert_array_equal(histogram.counts, second[name].counts)
        np.testing.assert_array_equal(histogram.zeros, second[name].zeros)
        np.testing.assert_array_equal(histogram.maximum, second[name].maximum)


def law_5_charge_is_conserved(layer, current, state, spikes, timesteps):
    """v[T] = v[0] + Σ current − v_threshold · spike_count, exactly: for exact sums."""
    start = layer.neuron.initial_potential * layer.neuron.v_threshold
    expected = start + current.sum(axis=1) - layer.neuron.v_threshold * spikes.sum(axis=1)
    np.testing.assert_array_equal(np.asarray(state), expected)
    assert spikes.shape[1] == timesteps


def law_6_rate_of_constant_current(current, spike_count, timesteps, v_threshold):
    bound = 1 / timesteps + 4 * timesteps * np.finfo("float32").eps
    assert np.all(np.abs(spike_count / timesteps - current / v_threshold) <= bound)


def law_7_twin_has_the_signature_of_its_layer(twin):
    theirs = [
        p
        for p in list(inspect.signature(twin.analog_class.__init__).parameters.values())[1:]
        if p.kind is not p.VAR_KEYWORD
    ]
    parameters = list(inspect.signature(twin).parameters.values())
    assert [(p.name, p.default, p.kind) for p in parameters[: len(theirs)]] == [
        (p.name, p.default, p.kind) for p in theirs
    ]
    ours = parameters[len(theirs) : -1]
    assert {"return_state", "stateful"} <= {p.name for p in ours}
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in ours)


def law_8_saved_and_loaded_it_spikes_the_same(snn, x, path):
    snn.save(path)
    loaded = keras.models.load_model(path)
    first, second = (m.simulate(x, record=["spike_trains", "membrane_potentials"]) for m in (snn, loaded))
    assert first.spike_trains.keys() == second.spike_trains.keys()
    assert_same(first.spike_trains, second.spike_trains)
    assert_same(first.membrane_potentials, second.membrane_potentials)
    assert_same(snn.predict(x, verbose=0), loaded.predict(x, verbose=0))
    return loaded


def law_9_results_depend_on_neither_unroll_nor_batches(snn, x, samples):
    """Bit for bit; for values whose sums are exact."""
    timesteps = snn.timesteps
    snn.unroll = timesteps
    reference = snn.simulate(x, record=["spike_trains"], batch_size=samples)
    # Each of few samples alone, and batches of which the last is smaller: more would take longer.
    for unroll, batch_size, first in ((1, samples, samples), (3, 5, 8), (timesteps - 1, 1, 2)):
        snn.unroll = unroll
        of_first = functools.partial(keras.tree.map_structure, lambda a, first=first: a[:first])
        again = snn.simulate(of_first(x), record=["spike_trains"], batch_size=batch_size)
        assert_same(again.spike_trains, of_first(reference.spike_trains))
        predicted = snn.predict(of_first(x), batch_size=batch_size, verbose=0)
        # Softmax and division by the steps round the same sums in another order of vectors.
        assert_same(predicted, of_first(reference.outputs), tolerance=1e-6)


def law_9_results_do_not_depend_on_which_calls_take_fewer_steps(snn, x):
    """Bit for bit, for values whose sums are exact: every call at every step, and all states in the end."""
    network, timesteps = internals(snn).network, snn.timesteps
    inputs = internals(snn).inputs.cast(internals(snn).inputs.shaped(x, timesteps))
    drive, start = network.drive(inputs), network.start(inputs)

    def run(**options):
        values, states = network.run(drive, start, timesteps, **options)
        return dict(values), states

    expected, calls = run(), len(network.running)
    # Of many calls some: from few of them to nearly all, in steps of one and in longer ones.
    for i, light in enumerate(range(1, calls, max(calls // 4, 1))):
        assert_same(run(light=light, part=(1, timesteps - 2)[i % 2]), expected)


def law_10_a_file_holds_the_same(snn, loaded):
    """The .keras file keeps arrays, edges and units; other formats are tested with their writers."""
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in snn.layers]
    for ours, theirs in zip(snn.layers, loaded.layers, strict=True):
        assert type(ours) is type(theirs)
        assert_same(ours.get_weights(), theirs.get_weights())
    keep = ("calls", "inputs", "outputs", "shapes", "timesteps", "unroll")
    assert all(snn.get_config()[key] == loaded.get_config()[key] for key in keep)
    assert loaded.conversion_report == snn.conversion_report


def law_11_the_source_is_unchanged(model, x, act):
    """`act` runs; the weights, outputs and recorded calls of `model` stay."""

    def recorded_calls():
        return [(layer.name, len(layer._inbound_nodes)) for layer in [model, *model.layers]]

    weights, outputs, calls = model.get_weights(), model(x, training=False), recorded_calls()
    snn = act()
    assert_same(model.get_weights(), weights)
    assert_same(model(x, training=False), outputs)
    assert recorded_calls() == calls
    ours = {id(variable) for variable in snn.variables}
    assert not ours & {id(variable) for variable in model.variables}
    return snn


def law_12_it_converges_to_the_source(snn, model, x, events=None):
    """The error falls as 1/T: error · T stays, within a factor for how it happens to be rounded.

    Of a network of events `x` is the average of `events`.
    """
    expected = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    expected = keras.tree.flatten(expected)
    x = x if events is None else events
    with running.compiled():
        outputs = keras.tree.flatten(snn.simulate(x, timesteps=512).outputs_over_time)
    constants = []
    for steps in (16, 64, 512):
        pairs = [(a[:, steps - 1], b) for a, b in zip(outputs, expected, strict=True)]
        error = max(float(np.abs(a - b).mean() / max(np.abs(b).mean(), 1e-3)) for a, b in pairs)
        constants.append(error * steps)
    # Sums of 512 float32 numbers are off by up to 1e-5 of the largest.
    largest = max(float(np.abs(b).max() / max(np.abs(b).mean(), 1e-3)) for b in expected)
    assert constants[-1] <= 4 * max(constants[:-1]) + 512 * 1e-5 * largest, constants


def law_12_with_levels_it_converges_to_the_source(model, x, levels_for, steps=(4, 16, 64)):
    """Silent, signed neurons are off by their rounding alone, λ/(2L): the error falls as 1/L, whatever T.

    Args:
        levels_for: Function of the number of steps that gives L.
        steps: Numbers of steps, each four times the one before, as their levels must be.
    """
    expected = model(x, training=False)
    constants = []
    for timesteps in steps:
        levels = levels_for(timesteps)
        neuron = keras_snn.neurons.SignedIntegrateAndFire(levels)
        snn = convert(model, x, timesteps=timesteps, neuron=neuron)
        outputs = snn.simulate(x, settle=True).outputs
        pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True)
        pairs = [(a, keras.ops.convert_to_numpy(b)) for a, b in pairs]
        constants.append(levels * max(float(np.abs(a - b).mean() / np.abs(b).mean()) for a, b in pairs))
    assert constants[-1] <= 4 * max(constants[:-1]), constants


def law_13_a_model_and_its_program_are_the_same(program):
    """What a model of a program runs is that program."""
    again = program_of(build(program))
    assert again == program
    return again


def law_15_compiled_it_spikes_the_same(snn, x):
    """As eagerly, bit for bit, for values whose sums are exact."""
    compiled = build(program_of(snn))
    with running.eagerly():
        run = snn.simulate(x, record="spike_counts")
    with running.compiled():
        assert_same(compiled.simulate(x, record="spike_counts").spike_counts, run.spike_counts)
        # Softmax and division by the steps round the same sums in another order of vectors.
        assert_same(compiled.predict(x, verbose=0), run.outputs, tolerance=1e-6)
