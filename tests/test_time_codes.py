"""Time codes: closed form, step by step, quantised reference and a simulator of single spikes agree."""

import dataclasses

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers
from running import few, named, pairs, thorough
from test_contracts import _between, some

import keras_snn
from keras_snn.engines.layered import run_layered
from keras_snn.graph import nodes as kinds
from keras_snn.neurons import DigitCode, TimeToFirstSpike
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of

CODES = [TimeToFirstSpike(8), TimeToFirstSpike(11), DigitCode(16, 2), DigitCode(16, 3), DigitCode(63, 8)]
# Levels that are a power of two keep dyadic weights dyadic.
DYADIC = [code for code in CODES if code.levels in (8, 16)]


def numbers_of(reference, names, x):
    """The numbers that layers of neurons send, by name, as the quantised reference has them."""
    known = {layer.name for layer in reference.layers}
    of = {name: reference.get_layer(f"{name}_spike" if f"{name}_spike" in known else name) for name in names}
    return keras.Model(reference.input, {n: layer.output for n, layer in of.items()}).predict_on_batch(x)


def check_all_agree(snn, x, *, tolerance):
    """Outputs of all three, and every spike of every neuron."""
    # What Keras takes for a list of one input.
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    program, outputs = program_of(snn), snn.predict_on_batch(x)
    step_by_step, records = run_layered(program, x)
    reference = keras_snn.quantized_reference(snn)
    # The function of a read-out, as a softmax, may round otherwise in another batch.
    contracts.assert_same(outputs, reference.predict_on_batch(x), tolerance=2e-7)
    contracts.assert_same(keras.tree.map_structure(np.asarray, step_by_step), outputs, tolerance=tolerance)
    call_of = {name: program.graph.nodes[name].origins[0] for name in records}
    sent = numbers_of(reference, call_of.values(), x)
    assert sent
    for name, record in records.items():
        code, numbers = program.graph.nodes[name].neuron.code, sent[call_of[name]]
        if code is None:
            np.testing.assert_array_equal(record.trains[:, 0], numbers)
            continue
        np.testing.assert_array_equal(np.moveaxis(record.trains, 1, 0), code.trains(numbers))
        np.testing.assert_array_equal(code.numbers(np.moveaxis(record.trains, 1, 0)), numbers)
        # The potential after the window is what is rounded.
        last = np.floor(record.potentials[:, -1])
        np.testing.assert_array_equal(np.clip(last, -code.levels * code.signed, code.levels), numbers)


# In `rows` relus saturate at 0.7, which is no dyadic scale.
EXACT = [network for network in networks.NETWORKS if network is not networks.rows]


@pytest.mark.parametrize(("network", "code"), pairs(few(EXACT), DYADIC[::2]), ids=named)
def test_on_dyadic_weights_all_agree(network, code, rng):
    model = networks.build_dyadic(network, rng)
    x = networks.data_for(model, rng, samples=4, dyadic=True)
    snn = contracts.convert(model, x, neuron=code, normalization="none")
    check_all_agree(snn, x, tolerance=1e-5)


def test_in_float64_all_agree_where_relus_follow_relus(rng):
    model = networks.build(networks.rows, rng)
    x = networks.data_for(model, rng, samples=4)
    snn = contracts.convert(model, x, neuron=DigitCode(16, 3), normalization="mse", dtype="float64")
    check_all_agree(snn, x, tolerance=1e-6)


def test_step_by_step_inputs_are_rounded_as_in_the_closed_form(rng):
    """Just below what one more level takes, which float32, the dtype of the input, does not hold."""
    hidden = layers.Dense(6, activation="relu", kernel_initializer="identity", name="hidden")
    model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3)])
    model.layers[-1].set_weights([rng.integers(-8, 9, (6, 3)) / 8, np.zeros(3)])
    x = (2 * rng.integers(0, 64, (4, 6)) + 1) / 128 - 1e-12
    snn = contracts.convert(model, x, neuron=TimeToFirstSpike(64), normalization="none", dtype="float64")
    run = snn.simulate(x, record="spike_times")
    contracts.assert_same(run.outputs, snn.predict(x, verbose=0), tolerance=0)
    contracts.assert_same(run.outputs, snn.predict_on_batch(x), tolerance=0)


@pytest.mark.parametrize("example", some(4))
def test_in_float64_all_agree_for_rules(example, rng):
    model = _between(example, rng)
    x = networks.data_for(model, rng, samples=4)
    code = CODES[int(rng.integers(len(CODES)))]
    snn = contracts.convert(model, x, neuron=code, per_channel=True, normalization="mse", dtype="float64")
    if any(isinstance(node, kinds.Spike) for node in program_of(snn).graph.nodes.values()):
        check_all_agree(snn, x, tolerance=1e-6)


def _small_cnn(rng):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 2, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )
    return networks.randomize(model, rng)


def _digits(number, base, count):
    return [number // base**place % base for place in reversed(range(count))]


@pytest.mark.parametrize("code", CODES, ids=str)
def test_a_simulator_of_single_spikes_computes_the_same_and_adds_no_more_than_the_source(code, rng):
    """Spike by spike in plain Python: slopes, potentials, and a race in every window of the max pool."""
    model = _small_cnn(rng)
    x = rng.normal(size=(2, 6, 6, 2)).astype("float32")
    snn = contracts.convert(model, x, neuron=code, dtype="float64")
    run = snn.simulate(x, record=["spike_times", "spike_counts"])
    weights = [np.asarray(w) for w in snn.get_weights()]
    (kernel, bias), (dense, last_bias) = weights[2:4], weights[4:6]
    base, digits = code.base, code.digits
    first = np.asarray(keras.ops.conv(x.astype("float64"), weights[0], padding="same")) + weights[1]
    all_additions, all_updates = 0, 0
    for sample in range(2):
        sent = {
            at: min(max(int(np.floor(first[(sample, *at)] + 0.5)), 0), code.levels)
            for at in np.ndindex(6, 6, 3)
        }
        counts = {at: sum(d > 0 for d in _digits(k, base, digits)) for at, k in sent.items()}
        assert counts == {at: int(run.spike_counts["first"][(sample, *at)]) for at in sent}
        pooled = {
            at: max(sent[2 * at[0] + i, 2 * at[1] + j, at[2]] for i in range(2) for j in range(2))
            for at in np.ndindex(3, 3, 3)
        }
        potentials, additions = np.zeros((2, 2, 4)), 0
        for place in range(digits):
            # What the digits before gave is added base − 1 times more.
            slopes = potentials.copy()
            for step in range(1, base):
                for (row, column, channel), k in pooled.items():
                    if _digits(k, base, digits)[place] != base - step:
                        continue
                    for i, j in np.ndindex(2, 2):
                        to = row - i, column - j
                        if 0 <= to[0] < 2 and 0 <= to[1] < 2:
                            slopes[to] += kernel[i, j, channel]
                            additions += 4
                potentials += slopes
                all_updates += potentials.size
        numbers = np.clip(np.floor(potentials + bias + 0.5), 0, code.levels)
        times = np.where(numbers > 0, code.trains(numbers).argmax(axis=0) + 1, 0)
        np.testing.assert_array_equal(run.spike_times["second"][sample], times)
        outputs = numbers.ravel() @ dense + last_bias
        np.testing.assert_allclose(run.outputs[sample], outputs, rtol=1e-9, atol=1e-9)
        all_additions += additions
        if code.digits == 1:
            assert additions <= 2 * 2 * 2 * 2 * 3 * 4
            assert max(run.spike_counts["second"].max(), run.spike_counts["first"].max()) == 1
    counts = keras_snn.count_operations(snn, x)
    by_name = {layer.name: layer for layer in counts.layers}
    neurons = {layer.name: layer for layer in counts.neurons}
    np.testing.assert_allclose(by_name["second"].additions, [all_additions / 2])
    np.testing.assert_allclose(by_name["second"].multiply_adds, [0])
    assert (neurons["first"].updates, neurons["second"].updates) == (6 * 6 * 3, all_updates / 2)
    for name, record in run.spike_counts.items():
        np.testing.assert_allclose(neurons[name].spikes, record.sum() / 2)
        np.testing.assert_allclose(
            neurons[name].activation_sparsity, 1 - record.sum() / 2 / (record[0].size * code.window)
        )
    # The sums of the read-out are updated too, in the window of the layer before.
    of_readout = 5 * code.window
    assert counts.other_updates == of_readout
    updates = neurons["first"].updates + neurons["second"].updates + of_readout
    total = counts.snn_operations[-1] + updates
    np.testing.assert_allclose(counts.operations_with_updates, total)


@pytest.mark.parametrize("network", [networks.plain, networks.residual, networks.dense_block])
def test_outputs_approach_the_source_as_levels_grow(network, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng, samples=32)
    expected = keras.tree.flatten(model.predict_on_batch(x))
    errors = []
    for levels in (15, 255, 4095):
        snn = contracts.convert(model, x, neuron="ttfs", timesteps=levels)
        assert snn.timesteps == levels
        outputs = keras.tree.flatten(snn.predict_on_batch(x))
        errors.append(max(np.abs(a - b).max() for a, b in zip(outputs, expected, strict=True)))
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4


@pytest.mark.parametrize("code", [*CODES, DigitCode(200, 15), DigitCode(5, 6), TimeToFirstSpike(1)], ids=str)
def test_trains_are_written_in_digits(code, rng):
    numbers = np.arange(code.levels + 1)
    trains = code.trains(numbers)
    assert trains.shape == (code.window, code.levels + 1)
    # Independently: digits by Python's divmod, each a spike at step base − d of its window.
    for number in numbers:
        expected = []
        for digit in _digits(int(number), code.base, code.digits):
            expected += [int(step == code.base - digit and digit > 0) for step in range(1, code.base)]
        assert trains[:, number].tolist() == expected
    np.testing.assert_array_equal(code.numbers(trains), numbers)
    np.testing.assert_array_equal(
        trains.sum(axis=0), keras.ops.convert_to_numpy(code.events_of(numbers * 1.0))
    )


def test_a_corrected_network_still_has_its_reference(rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=32)
    snn = contracts.convert(
        model,
        x,
        neuron=DigitCode(15, 4),
        percentile=90.0,
        normalization="percentile",
        dtype="float64",
    )
    snn = contracts.corrected(snn, "potential", rng)
    assert "Corrected" in repr(snn.layers[0].neuron)
    check_all_agree(snn, x[:4], tolerance=1e-6)


def _bottlenecks(rng, wide=48):
    """Sums that no relu rectifies go into weights alone, added up, concatenated, averaged and rectified."""
    x = inputs = keras.Input((6, 6, 2))
    x = first = layers.Conv2D(4, 3, padding="same", name="project")(layers.Conv2D(6, 3, activation="relu")(x))
    x = layers.Conv2D(wide, 1, activation="relu6", name="expand")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    x = layers.Add(name="add")([first, x])
    rectified = layers.Conv2D(3, 1, activation="relu", name="side")(layers.ReLU(name="relu")(x))
    x = layers.Concatenate()([layers.Conv2D(wide, 1, activation="relu", name="again")(x), rectified, x])
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Conv2D(5, 2, name="last")(x))
    return networks.randomize(keras.Model(inputs, layers.Dense(4, name="out")(x)), rng)


@pytest.mark.parametrize("code", [*CODES, DigitCode(63, "auto")], ids=str)
def test_relays_send_sums_with_their_sign(code, rng):
    model = _bottlenecks(rng)
    x = rng.normal(size=(8, 6, 6, 2))
    options = {"normalization": "mse", "per_channel": True, "dtype": "float64"}
    snn = contracts.convert(model, x, neuron=code, relays=True, **options)
    check_all_agree(snn, x, tolerance=1e-6)
    spikes = (n for n in program_of(snn).graph.nodes.values() if isinstance(n, kinds.Spike))
    signed = {node.origins[0] for node in spikes if node.neuron.is_signed}
    assert signed == {"project_relay", "separable_depthwise", "add_relay", "mean_relay"}
    trains = snn.simulate(x, record="spike_trains").spike_trains
    assert all((trains[name] < 0).any() == (name in signed) for name in trains)
    # A relu takes the sum itself: it may be what a relay sends for no number of levels.
    rates = contracts.convert(model, x, neuron=code, relays=False, **options)
    assert not any(getattr(layer, "neuron", None) and layer.neuron.is_signed for layer in rates.layers)


@pytest.mark.parametrize("code", [TimeToFirstSpike(15), DigitCode(63, 8)], ids=str)
def test_a_relay_is_where_it_needs_fewer_operations(code, rng):
    """Both ways, counted on the calibration data: many values that go into one sum pay for its window."""
    found = set()
    for size in (3, 24, 96, 200):
        inputs = keras.Input((4, 4, 3))
        x = layers.Conv2D(size, 1, name="sum")(layers.Conv2D(7, 3, activation="relu", name="first")(inputs))
        x = layers.Dense(2)(layers.Flatten()(layers.Conv2D(30, 1, activation="relu", name="next")(x)))
        model = networks.randomize(keras.Model(inputs, x), rng)
        x = rng.normal(size=(32, 4, 4, 3))
        given = {"neuron": code, "normalization": "mse"}
        networks_of = {r: contracts.convert(model, x, relays=r, **given) for r in ("auto", True, False)}
        needed = {
            r: keras_snn.count_operations(snn, x).operations_with_updates for r, snn in networks_of.items()
        }
        reasons = networks_of["auto"].conversion_report.options.get("sums_as_numbers", {})
        if "error" in reasons.get("sum", ""):
            assert needed["auto"] == needed[False]
        else:
            assert needed["auto"] == min(needed[True], needed[False])
            assert ("sum" in reasons) == (needed[False] <= needed[True])
        found.add("sum" in reasons)
        assert networks_of[False].conversion_report.options["sums_as_numbers"] == {"sum": "as asked for"}
    assert found == {True, False}


def test_layers_may_choose_relays_and_codes_of_their_own(rng):
    x = rng.normal(size=(16, 6, 6, 2))
    chosen = {"project": {"relays": True, "neuron": DigitCode(200, 15)}, "expand": {"neuron": "ttfs"}}
    snn = contracts.convert(
        _bottlenecks(rng), x, neuron=DigitCode(31, 2), relays=False, layer_options=chosen, dtype="float64"
    )
    assert snn.get_layer("project_relay").neuron == DigitCode(200, 15, signed=True)
    assert snn.get_layer("expand").neuron.code == TimeToFirstSpike(63)
    left = snn.conversion_report.options["sums_as_numbers"]
    assert "project" not in left
    assert left["add"] == "as asked for"
    check_all_agree(snn, x[:4], tolerance=1e-6)


@pytest.mark.parametrize("drawn", thorough((1, 4), quick=[0]), ids="bases={}".format)
@pytest.mark.parametrize("network", [_small_cnn, _bottlenecks], ids=lambda network: network.__name__)
def test_automatic_bases_need_fewest_operations(network, drawn, rng):
    model = network(rng)
    x = rng.normal(size=(32, 6, 6, 2))

    def needed(neuron):
        snn = contracts.convert(model, x, neuron=neuron, normalization="mse", relays=True)
        return keras_snn.count_operations(snn, x).operations_with_updates, snn

    auto, snn = needed(DigitCode(63, "auto"))
    # The relays of an average, of which each has few synapses, and everything else, of many.
    codes = {layer.neuron.code for layer in snn.layers if getattr(layer, "neuron", None)}
    assert network is _small_cnn or len({code.base for code in codes}) > 1
    for base in (2, 3, 4, 8, 64):
        assert auto <= needed(DigitCode(63, base))[0] * (1 + 1e-6)
    # Another base in any one layer is no better.
    program = program_of(snn)
    for name, node in program.graph.nodes.items():
        if isinstance(node, kinds.Spike):
            for base in map(int, rng.choice((2, 4, 8, 64), drawn, replace=False)):
                neuron = DigitCode(63, base, signed=node.neuron.is_signed)
                other = program.with_nodes(
                    {**program.graph.nodes, name: dataclasses.replace(node, neuron=neuron)}
                )
                counts = keras_snn.count_operations(build(other), x)
                assert auto <= counts.operations_with_updates * (1 + 1e-6)


def test_without_data_there_are_two_digits_and_no_relays(rng):
    with pytest.warns(UserWarning, match="estimated the scales"):
        snn = keras_snn.convert(_bottlenecks(rng), neuron=DigitCode(63, "auto"))
    neurons = [layer.neuron for layer in snn.layers if getattr(layer, "neuron", None)]
    assert {neuron.code for neuron in neurons} == {DigitCode(63, 8)}
    assert (snn.timesteps, snn.passes) == (14, 1)


@pytest.mark.parametrize("levels", [5, 63, 255])
def test_alternatives_have_the_smallest_base_of_every_number_of_digits(levels):
    code = DigitCode(levels, "auto")
    found = {one.digits: one.base for one in code.alternatives}
    for digits, base in found.items():
        assert base**digits > code.levels
        assert base == 2 or (base - 1) ** digits <= code.levels
    assert set(found) == {
        min(d for d in range(1, 9) if base**d > code.levels) for base in range(2, code.levels + 2)
    }


@pytest.mark.parametrize("code", CODES, ids=str)
def test_numbers_below_zero_are_the_same_spikes_with_a_sign(code, rng):
    numbers = rng.integers(0, code.levels + 1, 50)
    signed = dataclasses.replace(code, signed=True)
    np.testing.assert_array_equal(signed.trains(-numbers), -code.trains(numbers))
    np.testing.assert_array_equal(signed.numbers(-code.trains(numbers)), -numbers)
    v = rng.normal(0, 1.5 * code.levels, 200)
    k, (rest,) = signed.step(keras.ops.convert_to_tensor(v), signed.initial_state(v.shape, "float64"))
    expected = np.clip(np.floor(v + 0.5), -code.levels, code.levels)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(k), expected)
    np.testing.assert_array_equal(signed.ideal_rate(v, 1), expected)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(rest), v + 0.5 - expected)


def test_files_and_copies_send_the_same(rng, tmp_path):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, neuron=DigitCode(31, 2))
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    assert (loaded.timesteps, loaded.passes) == (5, 1)
    contracts.assert_same(loaded.predict_on_batch(x), snn.predict_on_batch(x))
    snn.timesteps = 5
    contracts.law_13_a_model_and_its_program_are_the_same(program_of(snn))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neuron": DigitCode(255), "timesteps": 9}, "window, which follows from its levels"),
        (
            {"neuron": "ttfs", "input_encoding": "poisson"},
            "`input_encoding` must be 'current' or 'times' with a time code",
        ),
        ({"neuron": "ttfs", "delay": 1, "timesteps": 8}, "`delay` must be 0 with a time code"),
        ({"neuron": "ttfs", "max_pool": "avg"}, "`max_pool` must be 'exact' with a time code"),
        ({"neuron": "digits", "softmax": "poisson"}, "`softmax` must be 'potential' with a time code"),
        (
            {"neuron": "ttfs", "layer_options": {"first": {"neuron": "if"}}},
            "all layers must have time codes, or none",
        ),
        ({"neuron": "burst", "relays": True}, "`relays` needs neurons 'if' that are reset"),
        ({"neuron": "ttfs", "relays": True}, "`relays` is chosen on `calibration_data`"),
        ({"neuron": DigitCode(63, "auto"), "timesteps": 6}, "window, which follows from its levels"),
    ],
)
def test_options_without_meaning_are_refused(options, message, rng):
    model = _small_cnn(rng)
    data = None if options.get("relays") else np.ones((2, 6, 6, 2))
    with pytest.raises(ValueError, match=message):
        keras_snn.convert(model, data, verbose=0, **options)


def test_what_a_time_code_cannot_do_is_refused(rng):
    snn = contracts.convert(_small_cnn(rng), rng.normal(size=(4, 6, 6, 2)), neuron="ttfs", timesteps=7)
    x = np.ones((2, 6, 6, 2))
    with pytest.raises(ValueError, match="`timesteps` of a time code is its window"):
        snn.timesteps = 9
    with pytest.raises(ValueError, match="`timesteps` of a time code is its window, 7 steps here"):
        snn.simulate(x, timesteps=9)
    with pytest.raises(ValueError, match="`exit` must be None"):
        snn.simulate(x, exit="confidence", level=0.5)
    contracts.assert_same(snn.simulate(x, timesteps=7, settle=True).outputs, snn.predict_on_batch(x))


@pytest.mark.parametrize("levels", [0, 2**24, 1.5, True])
def test_levels_that_cannot_be_are_refused(levels):
    with pytest.raises((TypeError, ValueError), match="`levels` must be"):
        TimeToFirstSpike(levels)
    with pytest.raises((TypeError, ValueError), match="`levels` must be"):
        DigitCode(levels)


def test_signed_levels_round_to_both_sides_of_zero(rng):
    levels, scale = 6, 1.7
    layer = keras_snn.layers.QuantizedClip(levels, scale, signed=True)
    x = rng.normal(0, 2, 100).astype("float32")
    expected = scale / levels * np.clip(np.floor(x * levels / scale + 0.5), -levels, levels)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, rtol=1e-6)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layer, layers.Dense(2)])
    copy = keras.models.clone_model(model)
    assert copy.layers[1].signed
    with pytest.raises(keras_snn.errors.UnsupportedLayerError, match="signed=True"):
        keras_snn.convert(model, np.ones((2, 4)), verbose=0)


@pytest.mark.parametrize("base", [1, 17, 2.0, "two"])
def test_bases_that_cannot_be_are_refused(base):
    with pytest.raises((TypeError, ValueError), match="`base` must be"):
        DigitCode(15, base)
