"""Time codes: closed form, step by step, quantised reference and a simulator of single spikes agree."""

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers
from running import few
from test_contracts import EXAMPLES, SEED, _between

import keras_snn
from keras_snn.engines.layered import run_layered
from keras_snn.graph import nodes as kinds
from keras_snn.neurons import DigitCode, TimeToFirstSpike
from keras_snn.simulation.source import program_of

CODES = [TimeToFirstSpike(8), TimeToFirstSpike(11), DigitCode(16, 2), DigitCode(16, 3), DigitCode(63, 8)]
# Levels that are a power of two keep dyadic weights dyadic.
DYADIC = [code for code in CODES if code.levels in (8, 16)]


def numbers_of(reference, names, x):
    """The numbers that layers of neurons send, by name, as the quantised reference has them."""
    known = {layer.name for layer in reference.layers}
    of = {name: reference.get_layer(f"{name}_spike" if f"{name}_spike" in known else name) for name in names}
    return keras.Model(reference.input, {n: layer.output for n, layer in of.items()}).predict(x, verbose=0)


def check_all_agree(snn, x, *, tolerance):
    """Outputs of all three, and every spike of every neuron."""
    # What Keras takes for a list of one input.
    x = x[0] if isinstance(x, list) and len(x) == 1 else x
    program, outputs = program_of(snn), snn.predict(x, verbose=0)
    step_by_step, records = run_layered(program, x)
    reference = keras_snn.quantized_reference(snn)
    # The function of a read-out, as a softmax, may round otherwise in another batch.
    contracts.assert_same(outputs, reference.predict(x, verbose=0), tolerance=2e-7)
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
        np.testing.assert_array_equal(np.clip(last, 0, code.levels), numbers)


# In `rows` relus saturate at 0.7, which is no dyadic scale.
EXACT = [network for network in networks.NETWORKS if network is not networks.rows]


@pytest.mark.parametrize("network", few(EXACT), ids=lambda network: network.__name__)
@pytest.mark.parametrize("code", DYADIC[::2], ids=str)
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


@pytest.mark.parametrize("example", EXAMPLES[SEED % 4 :: 4])
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
            if place:
                potentials = potentials * base
                all_updates += potentials.size
            slopes = np.zeros((2, 2, 4))
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
    of_readout = 5 * (code.window + code.digits - 1)
    assert counts.other_updates == of_readout
    updates = neurons["first"].updates + neurons["second"].updates + of_readout
    total = counts.snn_operations[-1] + updates
    np.testing.assert_allclose(counts.operations_with_updates, total)


@pytest.mark.parametrize("network", [networks.plain, networks.residual, networks.dense_block])
def test_outputs_approach_the_source_as_levels_grow(network, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng, samples=32)
    expected = keras.tree.flatten(model.predict(x, verbose=0))
    errors = []
    for levels in (15, 255, 4095):
        snn = contracts.convert(model, x, neuron="ttfs", timesteps=levels)
        assert snn.timesteps == levels
        outputs = keras.tree.flatten(snn.predict(x, verbose=0))
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
        bias_correction="potential",
        percentile=90.0,
        normalization="percentile",
        dtype="float64",
    )
    check_all_agree(snn, x[:4], tolerance=1e-6)
    assert "Corrected" in repr(snn.layers[0].neuron)


def test_files_and_copies_send_the_same(rng, tmp_path):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, neuron=DigitCode(31, 2))
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    assert (loaded.timesteps, loaded.passes) == (5, 1)
    contracts.assert_same(loaded.predict(x, verbose=0), snn.predict(x, verbose=0))
    snn.timesteps = 5
    contracts.law_13_a_model_and_its_program_are_the_same(program_of(snn))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neuron": DigitCode(255), "timesteps": 9}, "window, which follows from its levels"),
        (
            {"neuron": "ttfs", "input_encoding": "poisson"},
            "`input_encoding` must be 'current' with a time code",
        ),
        ({"neuron": "ttfs", "delay": 1, "timesteps": 8}, "`delay` must be 0 with a time code"),
        ({"neuron": "ttfs", "max_pool": "avg"}, "`max_pool` must be 'exact' with a time code"),
        ({"neuron": "digits", "softmax": "poisson"}, "`softmax` must be 'potential' with a time code"),
        (
            {"neuron": "ttfs", "layer_options": {"first": {"neuron": "if"}}},
            "all layers must have time codes, or none",
        ),
    ],
)
def test_options_without_meaning_are_refused(options, message, rng):
    model = _small_cnn(rng)
    with pytest.raises(ValueError, match=message):
        keras_snn.convert(model, np.ones((2, 6, 6, 2)), verbose=0, **options)


def test_what_a_time_code_cannot_do_is_refused(rng):
    snn = contracts.convert(_small_cnn(rng), rng.normal(size=(4, 6, 6, 2)), neuron="ttfs", timesteps=7)
    x = np.ones((2, 6, 6, 2))
    with pytest.raises(ValueError, match="`timesteps` of a time code is its window"):
        snn.timesteps = 9
    with pytest.raises(ValueError, match="`timesteps` of a time code is its window, 7 steps here"):
        snn.simulate(x, timesteps=9)
    with pytest.raises(ValueError, match="`exit` must be None"):
        snn.simulate(x, exit="confidence", level=0.5)
    contracts.assert_same(snn.simulate(x, timesteps=7, settle=True).outputs, snn.predict(x, verbose=0))


@pytest.mark.parametrize("levels", [0, 2**24, 1.5, True])
def test_levels_that_cannot_be_are_refused(levels):
    with pytest.raises((TypeError, ValueError), match="`levels` must be"):
        TimeToFirstSpike(levels)
    with pytest.raises((TypeError, ValueError), match="`levels` must be"):
        DigitCode(levels)


@pytest.mark.parametrize("base", [1, 17, 2.0, "two"])
def test_bases_that_cannot_be_are_refused(base):
    with pytest.raises((TypeError, ValueError), match="`base` must be"):
        DigitCode(15, base)
