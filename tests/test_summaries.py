"""Summaries of parts of the data add up to that of the whole, however it is split."""

import pickle

import keras
import networks
import numpy as np
import pytest
from documents import run_blocks
from keras import layers

import keras_snn
from keras_snn import summaries
from keras_snn.conversion.calibration import CalibrationPass
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold
from keras_snn.simulation.early_exit import confidence

TIMESTEPS, SAMPLES = 6, 47


@pytest.fixture(scope="module")
def case():
    """A network whose numbers are dyadic: no order of additions rounds, so that only summaries may differ."""
    rng = np.random.default_rng(5)
    inputs = keras.Input((5, 4, 2))
    x = layers.Conv2D(3, 2, activation="relu", name="conv")(inputs)
    x = layers.Dense(6, activation="relu", name="dense")(layers.Flatten()(x))
    model = networks.make_dyadic(keras.Model(inputs, layers.Dense(4, name="label")(x)), rng)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x = networks.data_for(model, rng, samples=SAMPLES, dyadic=True)
    snn = keras_snn.convert(model, x, normalization="none", timesteps=TIMESTEPS, verbose=0)
    return model, snn, x, rng.integers(0, 4, SAMPLES)


def parts_of(summarize, x, y, rng):
    """The summaries of random parts of the data, in random order."""
    cuts = np.sort(rng.choice(np.arange(1, SAMPLES), 4, replace=False))
    bounds = rng.permutation(np.stack([[0, *cuts], [*cuts, SAMPLES]], axis=1))
    return [summarize(x[a:b], y[a:b], first_row=int(a)) for a, b in bounds]


def assert_same(found, wanted):
    for name in ("kind", "model", "settings", "samples", "limits"):
        assert getattr(found, name) == getattr(wanted, name), name
    for field in ("sums", "maxima"):
        ours, theirs = getattr(found, field), getattr(wanted, field)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype
            if value.dtype == "int64" or field == "maxima":
                np.testing.assert_array_equal(ours[name], value, err_msg=name)
            else:
                np.testing.assert_allclose(ours[name], value, rtol=1e-12, err_msg=name)
    assert found.first.keys() == wanted.first.keys()
    for name, pair in wanted.first.items():
        np.testing.assert_array_equal(found.first[name][0], pair[0])
        np.testing.assert_array_equal(found.first[name][1], pair[1])


def functions(model, snn):
    """Each kind of summary: a function of samples, labels and the first row."""

    def without_row(summarize):
        return lambda x, y, first_row: summarize(x, y)

    def of_samples(summarize, **options):
        return lambda x, y, first_row: summarize(snn, x, first_row=first_row, **options)

    def of_labels(summarize, **options):
        return lambda x, y, first_row: summarize(snn, x, y, first_row=first_row, **options)

    graph = fold(lower(model))
    return {
        "count_operations": of_samples(summaries.count_operations, batch_size=7),
        "diagnose": of_samples(summaries.diagnose, batch_size=7),
        "report": of_labels(summaries.report, batch_size=7),
        "simulate": of_labels(summaries.simulate, batch_size=7, record=["spike_counts"]),
        "exit": of_labels(summaries.simulate, exit="confidence", level=0.9),
        "calibrate_exit": without_row(lambda x, y: summaries.calibrate_exit(snn, x, y, batch_size=7)),
        "activations": without_row(
            lambda x, y: CalibrationPass("activations", graph, batch_size=7).summarize(x)
        ),
        "channels": without_row(
            lambda x, y: CalibrationPass(
                "activations", graph, None, {"conv": 3}, True, batch_size=7
            ).summarize(x)
        ),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "count_operations",
        "diagnose",
        "report",
        "simulate",
        "exit",
        "calibrate_exit",
        "activations",
        "channels",
    ],
)
def test_parts_add_up_to_the_whole(kind, case, rng):
    """For any split, in any order, through a file or a pickle."""
    model, snn, x, y = case
    summarize = functions(model, snn)[kind]
    whole = summarize(x, y, first_row=0)
    assert whole.samples == SAMPLES
    for _ in range(2):
        first, *others = parts_of(summarize, x, y, rng)
        assert_same(first.merge(*others), whole)
    # In a tree, of copies.
    first, second, *others = (pickle.loads(pickle.dumps(part)) for part in parts_of(summarize, x, y, rng))
    assert_same(first.merge(second).merge(others[0].merge(*others[1:])), whole)


def assert_equal_results(found, wanted, tolerance=1e-12):
    """All fields of two results, as plain values, but the time at which they were made."""
    found, wanted = found.to_dict(), wanted.to_dict()
    for values in (found, wanted):
        values.pop("date", None)

    def assert_equal(found, wanted):
        if isinstance(wanted, float):
            np.testing.assert_allclose(found, wanted, rtol=tolerance)
        else:
            assert found == wanted

    keras.tree.map_structure(assert_equal, found, wanted)


def test_results_of_parts_are_those_of_one_machine(case, rng):
    model, snn, x, y = case
    of = functions(model, snn)
    wanted = {
        "count_operations": keras_snn.count_operations(snn, x),
        "diagnose": keras_snn.diagnose(snn, x),
        "report": keras_snn.report(snn, x, y, path=None, batch_size=7),
        "calibrate_exit": keras_snn.calibrate_exit(snn, x, y, max_loss=0.1),
    }
    for kind, result in wanted.items():
        first, *others = parts_of(of[kind], x, y, rng)
        options = {"max_loss": 0.1} if kind == "calibrate_exit" else {}
        assert_equal_results(summaries.result(snn, first.merge(*others), **options), result)


def test_statistics_and_parts_are_those_of_a_simulation(case, tmp_path, rng):
    _, snn, x, y = case
    wanted = snn.simulate(x, y, record=["spike_counts", "spike_trains"])

    def summarize(x, y, first_row):
        options = {"record": ["spike_counts", "spike_trains"], "folder": tmp_path / "run"}
        return summaries.simulate(snn, x, y, first_row=first_row, batch_size=5, **options)

    first, *others = parts_of(summarize, x, y, rng)
    found = summaries.result(snn, first.merge(*others), folder=tmp_path / "run")
    np.testing.assert_allclose(found.accuracy_over_time, wanted.accuracy_over_time, rtol=1e-12)
    for name, rates in wanted.firing_rates.items():
        np.testing.assert_allclose(found.firing_rates[name], rates, rtol=1e-6)
    parts = list(summaries.read_parts(found.folder))
    assert [part["row"] for part in parts] == list(np.cumsum([0, *(len(p["labels 0"]) for p in parts)])[:-1])
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "row"}
    np.testing.assert_array_equal(joined["outputs_over_time 0"], wanted.outputs_over_time)
    np.testing.assert_array_equal(joined["spike_trains conv"], wanted.spike_trains["conv"])
    np.testing.assert_array_equal(joined["labels 0"], y)


def test_exits_are_those_of_simulations_that_end_early(case):
    """Of every level of the curve, counted one sample at a time from the confidence of every step."""
    _, snn, x, y = case
    outputs = snn.simulate(x).outputs_over_time
    sure, right = confidence(snn, outputs), outputs.argmax(axis=-1) == y[:, None]
    for level, steps, accuracy in keras_snn.calibrate_exit(snn, x, y).curve[:-1]:
        ends = [next((t for t in range(TIMESTEPS) if row[t] >= level), TIMESTEPS - 1) for row in sure]
        assert steps == pytest.approx(np.mean(ends) + 1, rel=1e-12)
        assert accuracy == pytest.approx(np.mean([right[i, t] for i, t in enumerate(ends)]), rel=1e-12)
    run = snn.simulate(x, y, exit="confidence", level=0.9)
    summary = summaries.simulate(snn, x, y, exit="confidence", level=0.9)
    assert summaries.result(snn, summary).mean_timesteps == pytest.approx(run.steps_used.mean())


def test_what_does_not_belong_together_is_refused(case, tmp_path):
    model, snn, x, _ = case
    part = summaries.simulate(snn, x[:5])
    other = keras_snn.convert(model, x, normalization="max", timesteps=TIMESTEPS, verbose=0)
    for wrong, name in (
        (summaries.simulate(other, x[5:9]), "model"),
        (summaries.simulate(snn, x[5:9], timesteps=3), "settings"),
        (summaries.diagnose(snn, x[5:9]), "kind"),
    ):
        with pytest.raises(ValueError, match=f"same kind, model and settings. Received: {name}"):
            part.merge(wrong)
    with pytest.raises(TypeError, match="`others` must be summaries. Received: int"):
        part.merge(3)
    with pytest.raises(ValueError, match="`summary` must be of this model"):
        summaries.result(other, part)
    with pytest.raises(ValueError, match="'spike_counts' alone without a folder"):
        summaries.simulate(snn, x, record="spike_trains")
    (tmp_path / "part.npz").write_bytes(b"something")
    with pytest.raises(ValueError, match="must be what Summary.save wrote"):
        summaries.Summary.load(tmp_path / "part.npz")


def test_a_summary_is_of_a_model_wherever_it_is_loaded(case, tmp_path):
    _, snn, x, y = case
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    summaries.simulate(loaded, x[:9], y[:9]).save(tmp_path / "part.npz")
    part = summaries.Summary.load(tmp_path / "part.npz")
    whole = part.merge(summaries.simulate(snn, x[9:], y[9:]))
    np.testing.assert_array_equal(
        summaries.result(snn, whole).accuracy_over_time, snn.simulate(x, y).accuracy_over_time
    )


@pytest.mark.parametrize("options", [{"per_channel": True}, {"normalization": "gaussian"}])
def test_remote_data_gives_the_scales_of_all_of_it(options, case, rng):
    """Some samples are given, and all are summarized: in parts, in another order."""
    model, _, x, _ = case

    def summarize(request):
        request = pickle.loads(pickle.dumps(request))
        first, *others = (request.summarize(part) for part in np.array_split(x[rng.permutation(SAMPLES)], 3))
        return first.merge(*others)

    remote = summaries.RemoteData(x[:8], summarize)
    found = keras_snn.convert(model, remote, timesteps=4, verbose=0, **options)
    wanted = keras_snn.convert(model, x, timesteps=4, verbose=0, **options)
    # Moments are in float32 within a batch; histograms are integers.
    tolerance = 1e-5 if options.get("normalization") == "gaussian" else 0
    for ours, theirs in zip(found.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert not all(
        np.array_equal(*pair)
        for pair in zip(
            found.get_weights(),
            keras_snn.convert(model, x[:8], timesteps=4, verbose=0, **options).get_weights(),
            strict=True,
        )
    )


def test_the_guide_runs(case, tmp_path, monkeypatch):
    _, snn, x, y = case
    monkeypatch.chdir(tmp_path)
    names = {"snn": snn, "x_test": x, "y_test": y}
    assert run_blocks("docs/scaling.md", names, slice(4, 5)) == 1
    assert_equal_results(names["report"].counts, keras_snn.count_operations(snn, x))
