import keras
import networks
import numpy as np
import pytest
from contracts import assert_same, convert

from keras_snn.simulation import recording
from keras_snn.simulation.internals import internals
from keras_snn.simulation.memory_check import available_memory


@pytest.fixture
def case(rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=14)
    return convert(model, x, timesteps=9), x, rng.integers(0, 4, 14)


def test_records_agree_with_each_other(case):
    snn, x, _ = case
    run = snn.simulate(x, record=["spike_counts", "spike_trains", "membrane_potentials"], batch_size=4)
    assert run.outputs_over_time.shape == (14, 9, 4)
    assert_same(run.outputs, run.outputs_over_time[:, -1])
    assert_same(run.outputs, snn.predict(x, verbose=0), tolerance=1e-6)
    assert set(run.spike_trains) == {"conv", "conv2d", "average_pooling2d_relay", "dense"}
    for name, train in run.spike_trains.items():
        assert train.shape[:2] == (14, 9)
        assert_same(run.spike_counts[name], train.sum(axis=1))
        assert_same(run.firing_rates[name], train.mean(axis=(0, 1)), tolerance=1e-6)
        assert run.membrane_potentials[name].shape == train.shape
        # A neuron that fired is below the threshold or saturated, one that did not is below it.
        assert np.all(run.membrane_potentials[name][train == 0] < 1)


def test_potentials_follow_from_current_and_spikes(case):
    """In the first layer, whose current is constant: V(t) − V(t−1) + spike is the same at every step."""
    snn, x, _ = case
    run = snn.simulate(x, record=["spike_trains", "membrane_potentials"])
    v, spikes = run.membrane_potentials["conv"], run.spike_trains["conv"]
    current = np.diff(v, axis=1) + spikes[:, 1:]
    expected = v[:, :1] - 0.5 + spikes[:, :1]
    np.testing.assert_allclose(current, np.broadcast_to(expected, current.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("one_hot", [False, True])
def test_accuracy_is_that_of_the_outputs(case, one_hot):
    snn, x, y = case
    run = snn.simulate(x, np.eye(4)[y] if one_hot else list(y), batch_size=5)
    expected = [np.mean(run.outputs_over_time[:, t].argmax(-1) == y) for t in range(9)]
    np.testing.assert_allclose(run.accuracy_over_time, expected)
    assert snn.simulate(x).accuracy_over_time is None


@pytest.mark.parametrize("case_of", ["one unit", "regression"])
def test_accuracy_is_none_when_the_model_does_not_classify(case_of, rng):
    inputs = keras.Input((4,))
    units = 1 if case_of == "one unit" else 3
    outputs = keras.layers.Dense(units)(keras.layers.Dense(6, activation="relu")(inputs))
    model = networks.randomize(keras.Model(inputs, outputs), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=3)
    y = rng.integers(0, 2, 12) if units == 1 else rng.normal(0, 1, (12, 3))
    assert snn.simulate(x, y).accuracy_over_time is None


def test_datasets_and_arrays_give_the_same(case):
    import tensorflow as tf

    snn, x, y = case
    first = snn.simulate(x, y)
    second = snn.simulate(tf.data.Dataset.from_tensor_slices((x, y)).batch(5))
    assert_same(second.outputs_over_time, first.outputs_over_time, tolerance=1e-6)
    np.testing.assert_array_equal(second.accuracy_over_time, first.accuracy_over_time)


def test_timesteps_of_a_run_leave_those_of_the_model(case):
    snn, x, _ = case
    run = snn.simulate(x, timesteps=21)
    assert run.outputs_over_time.shape[1] == run.timesteps == 21
    assert snn.timesteps == 9


def test_outputs_keep_their_structure(rng):
    model = networks.build(networks.several, rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=4)
    run = snn.simulate(x)
    assert run.outputs_over_time["label"].shape == (12, 4, 3)
    assert_same(run.outputs, snn.predict(x, verbose=0), tolerance=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"record": ["spikes"]}, ValueError, "`record` must be one of 'spike_counts', 'spike_trains'"),
        ({"timesteps": 0}, ValueError, "`timesteps` must be at least 1. Received: timesteps=0."),
        ({"batch_size": 1.5}, TypeError, "`batch_size` must be an integer. Received: batch_size=1.5."),
        ({"y": np.zeros((14, 7))}, ValueError, "or one-hot of shape (14, 4). Received: shape (14, 7)."),
        (
            {"y": np.zeros(3)},
            ValueError,
            "must hold as many samples in every array. Received: 14 in x, 3 in y.",
        ),
        ({"y": np.arange(14)}, ValueError, "`y` must hold class numbers from 0 to 3"),
        ({"y": np.full(14, 0.5)}, ValueError, "one for each output of the model. Received: 0.5."),
        ({"y": ["dog"] * 14}, ValueError, "must hold numbers, for every sample. Received: dtype <U3"),
    ],
)
def test_simulate_raises_before_it_runs_when_an_argument_is_wrong(options, error, message, case, monkeypatch):
    snn, x, _ = case
    monkeypatch.setattr(recording, "Runner", None)
    with pytest.raises(error) as raised:
        snn.simulate(x, **options)
    assert message in str(raised.value)


def test_simulate_raises_when_the_input_is_wrong(case):
    snn, x, _ = case
    with pytest.raises(ValueError, match=r"`x` must have the shape \(batch, 9, 8, 2\)"):
        snn.simulate(x[..., :1])
    with pytest.raises(ValueError, match="`x` must be finite. Received: 1 values that are NaN"):
        snn.simulate(np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x))


def test_a_record_that_was_not_made_raises(case):
    snn, x, _ = case
    with pytest.raises(ValueError, match=r"'spike_counts' was not recorded. Received: record=\[\]"):
        _ = snn.simulate(x).firing_rates


def test_an_earlier_run_is_compiled_for_later_ones(case):
    snn, x, _ = case
    snn.simulate(x, record="spike_trains")
    (runner,) = internals(snn).runners.values()
    compiled = [runner.begin, *runner.functions.values()]
    functions = [function.predict_function for function in compiled]
    assert len(snn.simulate(x[:3], record="spike_trains", timesteps=4).spike_trains["conv"]) == 3
    assert list(internals(snn).runners.values()) == [runner]
    assert [function.predict_function for function in compiled] == functions
    assert len(functions) > 1
    assert all(function is not None for function in functions)


@pytest.mark.parametrize("per_call", [1, 4, 7])
@pytest.mark.parametrize("unroll", [1, 2, 3])
def test_calls_of_any_length_give_the_same(per_call, unroll, rng, monkeypatch):
    """Exactly, of sums that are exact: TensorFlow rounds otherwise where it joins operations of one step."""
    model = networks.build_dyadic(networks.plain, rng)
    x = networks.data_for(model, rng, samples=14, dyadic=True)
    snn = convert(model, x, timesteps=9)
    expected = snn.simulate(x, record=["spike_counts", "spike_trains"], batch_size=20)
    # Of four classes.
    monkeypatch.setattr("keras_snn.simulation.recording._WIDEST", 4 * per_call)
    snn.unroll = unroll
    run = snn.simulate(x, record="spike_counts", batch_size=20)
    np.testing.assert_array_equal(run.outputs_over_time, expected.outputs_over_time)
    assert_same(run.spike_counts, expected.spike_counts)


def test_records_that_do_not_fit_into_memory_are_refused_for_what_would(case, monkeypatch, capsys):
    snn, x, _ = case
    neurons = sum(
        train[0, 0].size for train in snn.simulate(x[:1], record="spike_trains").spike_trains.values()
    )
    record = ["spike_trains", "membrane_potentials", "spike_counts"]
    step = 2 * 4 * neurons  # two records, float32
    for available, fits, does_not, hint in [
        (2 * step * 9 * 5, (5, 9), (6, 9), "Simulate at most 5 samples at a time."),
        (2 * step * 9 * 5 - 1, (4, 9), (5, 9), "Simulate at most 4 samples at a time."),
        (2 * step * 3, (1, 3), (1, 9), "Simulate single samples, for at most timesteps=3."),
        (2 * step - 1, None, (1, 1), "Record spike_counts, which do not grow with time."),
    ]:
        monkeypatch.setattr("keras_snn.simulation.memory_check.available_memory", lambda a=available: a)
        samples, timesteps = does_not
        with pytest.raises(ValueError, match=f"{samples} samples and {timesteps} time steps.* {hint}"):
            snn.simulate(x[:samples], timesteps=timesteps, record=record, batch_size=2)
        snn.simulate(x[:1], timesteps=1, record="spike_counts")
        if fits:
            samples, timesteps = fits
            capsys.readouterr()
            run = snn.simulate(x[:samples], timesteps=timesteps, record=record, verbose=1)
            held = [a for name in record[:2] for a in run.records[name].values()]
            assert sum(a.nbytes for a in held) == samples * timesteps * step
            size = samples * timesteps * step / 2**20
            assert f"Recording takes {size:.1f} MiB\n" in capsys.readouterr().out


def test_available_memory_is_less_than_the_machine_has():
    available = available_memory()
    assert available is None or 2**20 < available < 2**46
