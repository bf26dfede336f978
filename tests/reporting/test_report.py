import dataclasses
import datetime
import html.parser
import json
import platform
import re
import shutil
import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
from diagnosed import diagnosed_layer
from keras import layers

import keras_snn
from keras_snn.analysis.causes import Agreement
from keras_snn.analysis.diagnosis import Error

NAME = "<script>alert(1)<b>&amp;\"'"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A spiking model with a layer of an evil name, data, its report, and the path of the file."""
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(7)
    model = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.Dense(3, activation="softmax", name="label"),
        ],
        name="net",
    )
    networks.randomize(model, rng)
    x = networks.data_for(model, rng, samples=11)
    y = rng.integers(0, 3, 11)
    snn = keras_snn.convert(model, x, timesteps=6, percentile=95, verbose=0)
    path = tmp_path_factory.mktemp("report") / "report.html"
    report = keras_snn.report(snn, x, y, path=path, batch_size=4)
    return model, snn, x, y, report, path


class Page(html.parser.HTMLParser):
    """Tags, text and addresses of a page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.texts, self.addresses = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data):
        self.texts.append(data)


def test_report_agrees_with_diagnosis_counts_and_simulation(case):
    model, snn, x, y, _, path = case
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json"]
    run = snn.simulate(x, y, record="spike_counts")
    ann = model.predict(x, verbose=0).argmax(axis=-1)
    agreement = facts["agreement"]
    np.testing.assert_allclose(agreement["accuracy_over_time"], run.accuracy_over_time)
    np.testing.assert_allclose(agreement["ann_accuracy"], np.mean(ann == y))
    same = (run.outputs_over_time.argmax(axis=-1) == ann[:, None]).mean(axis=0)
    np.testing.assert_allclose(agreement["agreement_over_time"], same)
    counts, diagnosis = keras_snn.count_operations(snn, x), keras_snn.diagnose(snn, x)
    np.testing.assert_allclose(facts["operations"]["snn"]["operations_over_time"], counts.snn_operations)
    assert facts["operations"]["ann"]["operations"] == counts.ann_operations
    for network, names in (
        ("ann", ["zero_skipping_operations", "same_levels"]),
        ("snn", ["operations_with_updates", "events", "units"]),
    ):
        for name in names:
            np.testing.assert_allclose(facts["operations"][network][name], getattr(counts, name))
    np.testing.assert_allclose(facts["energy"]["snn"], counts.energy().snn)
    rows = {row["name"]: row for row in facts["layers"]}
    assert list(rows) == ["conv", "hidden", "label"]
    for layer in diagnosis.layers:
        row = rows[layer.name]
        for name in ("scale", "firing_rate", "saturated", "silent", "correlation"):
            np.testing.assert_allclose(row[name], getattr(layer, name), rtol=1e-6)
        np.testing.assert_allclose(row["error"]["mean"], layer.error.mean, rtol=1e-6)
        spikes = run.spike_counts[layer.name].sum() / len(x)
        np.testing.assert_allclose(row["spikes"], spikes)
        assert row["neuron_updates"] == 6 * row["neurons"]
    names = ("effective_macs", "effective_acs", "dense")
    for name in (*names, *(f"ann_{name}" for name in names), "ann_footprint"):
        np.testing.assert_allclose(sum(row[name] for row in rows.values()), getattr(counts, name))
    assert {"footprint", "connection_sparsity", "activation_sparsity"} <= rows["conv"].keys()
    assert facts["options"] == {"seed": None, **snn.conversion_report.options}
    assert facts["run"] == {"timesteps": 6, "samples": 11, "batch_size": 4, "energy": "45nm_float32"}
    backend = sys.modules[keras.backend.backend()]
    ran_with = facts["versions"]["run with"]
    assert ran_with["keras"] == keras.__version__
    assert ran_with[keras.backend.backend()] == backend.__version__
    assert ran_with["python"] == platform.python_version()


def test_report_shows_the_seed_of_what_is_random_and_figures_of_the_user(case):
    model, _, x, *_ = case
    snn = keras_snn.convert(model, x, timesteps=2, input_encoding="poisson", seed=5, verbose=0)
    found = keras_snn.report(snn, x, path=None, energy=(3.0, 0.5))
    assert found.facts["options"]["seed"] == 5
    assert found.facts["run"]["energy"] == [3.0, 0.5]
    assert (found.energy.mac, found.energy.ac) == (3.0, 0.5)


def test_a_page_has_all_it_shows_inside(case):
    *_, report, path = case
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert "script" not in page.tags
    assert "url(" not in source
    assert "http" not in source
    # Curves, parts of the error; rates and spikes of two layers; first spikes.
    assert source.count("data:image/png;base64,") == 3 + 2 + 2 + 1
    text = " ".join(page.texts)
    assert report.summary in text
    assert all(finding.replace("`", "") in "".join(page.texts) for finding in report.findings)
    assert report.energy.assumptions in text
    assert {"conv", "hidden", "label", "percentile", "95.0", "seed"} <= set(page.texts)
    assert {"effective MACs", "effective ACs", "dense", "footprint", "connection sparsity"} <= set(page.texts)
    assert {"without zeros", "with updates", "events", "units"} <= set(page.texts)
    # A table of operations, and one of metrics.
    assert page.texts.count("total") == 2
    assert "timesteps 6, samples 11, batch_size 4, energy 45nm_float32" in page.texts
    assert f"{report.counts.dense:,}" in page.texts


def test_a_report_has_the_classes_and_the_spikes_of_a_simulation(case):
    _, snn, x, y, report, _ = case
    run = snn.simulate(x, y, record="spike_trains")
    expected = np.zeros((3, 3), int)
    for label, decided in zip(y, run.outputs.argmax(axis=-1), strict=True):
        expected[label, decided] += 1
    np.testing.assert_array_equal(report.agreement.confusion, expected)
    assert report.trains.keys() == run.spike_trains.keys() != set()
    for name, train in report.trains.items():
        of_first = run.spike_trains[name][0].reshape(6, -1)
        assert any(np.array_equal(of_first[:, 0], column) for column in train.T)
        np.testing.assert_array_equal(train[:, [0, -1]], of_first[:, [0, -1]])
    assert datetime.datetime.fromisoformat(report.date).tzinfo is not None


@pytest.mark.parametrize("neuron", ["if", "digits", "ttfs"])
def test_a_report_has_trains_and_times_of_first_spikes(rng, neuron):
    """As `simulate` records them, here with one row for each neuron."""
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(30, "relu"), layers.Dense(9, "relu"), layers.Dense(2)]
    )
    networks.randomize(model, rng)
    x = networks.data_for(model, rng, samples=40)
    options = {"bias_correction": True, "timesteps": 7} if neuron == "if" else {"bias_correction": True}
    snn = keras_snn.convert(model, x, neuron=neuron, verbose=0, **options)
    run = snn.simulate(x, record=["spike_trains"])
    report = keras_snn.report(snn, x, path=None, batch_size=16)
    assert report.spike_times.keys() == report.trains.keys() == run.spike_trains.keys()
    for name, trains in run.spike_trains.items():
        np.testing.assert_array_equal(report.trains[name], trains[0])
        wanted = [next((i for i, spike in enumerate(train, 1) if spike), 0) for train in trains[0].T]
        np.testing.assert_array_equal(report.spike_times[name], wanted)


def test_a_report_on_a_regression_has_the_error_of_its_outputs(rng, tmp_path):
    pytest.importorskip("matplotlib")
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "relu")(inputs)
    model = networks.randomize(keras.Model(inputs, [layers.Dense(2)(hidden), layers.Dense(1)(hidden)]), rng)
    x = networks.data_for(model, rng, samples=9)
    snn = keras_snn.convert(model, x, timesteps=5, verbose=0)
    report = keras_snn.report(snn, x, path=tmp_path / "report.html", batch_size=4)
    wanted = np.concatenate(model.predict(x, verbose=0), axis=-1)
    found = np.concatenate(snn.simulate(x).outputs_over_time, axis=-1)
    expected = np.sqrt(((found - wanted[:, None]) ** 2).mean(axis=(0, 2)) / np.mean(wanted**2))
    np.testing.assert_allclose(report.output_error, expected, rtol=1e-5)
    assert f"off by {expected[-1]:.2%}" in report.summary
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Error of the outputs over time" in page
    assert f"<div><strong>{expected[-1]:.2%}</strong>error of the outputs</div>" in page


def test_good_news_is_not_marked_as_a_cause(case, tmp_path):
    *_, report, _ = case
    curve = np.array([0.2, 0.7, 0.9, 0.899, 0.9, 0.9])
    silent = dataclasses.replace(report.diagnosis, layers=(diagnosed_layer("quiet", silent=1.0),))
    fine = dataclasses.replace(report, agreement=Agreement(curve, curve, 0.902), diagnosis=silent)
    fine.save(tmp_path / "fine.html")
    marked = re.findall(r'<p class="(\w+)">(.*?)</p>', (tmp_path / "fine.html").read_text(encoding="utf-8"))
    kinds = [kind for kind, text in marked if kind in ("good", "cause")]
    assert kinds == ["cause", "good", "good"]


def test_a_page_shows_code_as_code(case, tmp_path):
    *_, report, _ = case
    agreement = Agreement(np.full(6, 0.5), np.full(6, 0.5), 0.9)
    losing = dataclasses.replace(report, agreement=agreement, options={**report.options, "calibrated": False})
    assert "`calibration_data`" in str(losing)
    losing.save(tmp_path / "r.html")
    source = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<code>calibration_data</code>" in source
    assert "`" not in source


@pytest.mark.parametrize(
    ("neuron", "values", "rates"),
    [
        ("if", "0 or 1", "multiples of 1/4 up to 1"),
        ("signed", "−1, 0 or 1", "multiples of 1/4 up to 1"),
        (
            "multi_threshold",
            "multiples of 0.125 up to 1.875, negative ones too",
            "multiples of 1/32 up to 1.875",
        ),
        ("burst", "whole numbers from 0 to 5", "multiples of 1/4 up to 5"),
    ],
)
def test_a_page_describes_the_spikes_of_its_neurons(case, neuron, values, rates, tmp_path):
    """Its figures are those of the spikes and rates of a simulation."""
    model, _, x, *_ = case
    snn = keras_snn.convert(model, x, timesteps=4, neuron=neuron, percentile=60, verbose=0)
    found = keras_snn.report(snn, x, path=tmp_path / "r.html")
    text = " ".join(Page((tmp_path / "r.html").read_text(encoding="utf-8")).texts)
    assert f"Its neurons send spikes ({values}) over a number of time steps" in text
    assert f"after 4 steps rates are only {rates}." in text
    assert found.facts["layers"][0]["neuron"] == str(snn.get_layer("conv").neuron)
    unit, largest = {"multi_threshold": (1 / 8, 1.875), "burst": (1, 5)}.get(neuron, (1, 1))
    spikes = snn.simulate(x, record="spike_trains").spike_trains
    for name in ("conv", "hidden"):
        units = spikes[name] / unit
        assert np.all(units == np.round(units))
        assert spikes[name].max() <= largest
        assert spikes[name].min() >= 0 or neuron in ("signed", "multi_threshold")
    by_kind = {"if": {0, 1}, "signed": {-1, 0, 1}}
    if neuron in by_kind:
        assert set(np.unique(spikes["hidden"])) <= by_kind[neuron]


def test_names_in_a_page_are_text(case, tmp_path):
    *_, report, _ = case
    one, *others = report.diagnosis.layers
    diagnosis = dataclasses.replace(report.diagnosis, layers=(dataclasses.replace(one, name=NAME), *others))
    neuron, *rest = report.counts.neurons
    counts = dataclasses.replace(
        report.counts, neurons=(dataclasses.replace(neuron, name=NAME), *rest), not_counted=(NAME,)
    )
    evil = dataclasses.replace(report, name=NAME, diagnosis=diagnosis, counts=counts, options={NAME: NAME})
    evil.save(tmp_path / "evil.html")
    page = Page((tmp_path / "evil.html").read_text(encoding="utf-8"))
    assert not {"script", "b"} & set(page.tags)
    assert page.texts.count(NAME) >= 3
    facts = json.loads((tmp_path / "evil.json").read_text(encoding="utf-8"))
    assert facts["model"] == NAME


def test_what_is_not_finite_is_null_in_json(case, tmp_path):
    *_, report, _ = case
    one = dataclasses.replace(
        report.diagnosis.layers[0], error=Error(1.0, 2.0, float("inf")), correlation=None
    )
    broken = dataclasses.replace(report, diagnosis=dataclasses.replace(report.diagnosis, layers=(one,)))
    broken = dataclasses.replace(broken, counts=dataclasses.replace(report.counts, neurons=()))
    broken.save(tmp_path / "r.html")
    (row, *_) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["layers"]
    assert row["error"] == {"mean": 1.0, "largest": 2.0, "relative": None}
    assert row["correlation"] is None


def test_nothing_is_written_when_drawing_fails(case, tmp_path, monkeypatch):
    *_, report, _ = case
    (tmp_path / "r.html").write_text("before")

    def fail(diagnosis):
        raise RuntimeError("no ink")

    monkeypatch.setattr(keras_snn.plots, "error_per_layer", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        report.save(tmp_path / "r.html")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("r.html", "before")]


def test_report_without_labels_has_the_agreement(case):
    _, snn, x, _, _, _ = case
    report = keras_snn.report(snn, x, path=None, timesteps=3)
    assert report.agreement.ann_accuracy is None
    assert "into the same class as its source network" in report.summary
    assert f"{report.agreement.agreement_over_time[-1]:.2%} of 11 samples" in str(report)
    assert len(report.agreement.agreement_over_time) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "report.pdf"}, "`path` must end in .html. Received: 'report.pdf'."),
        ({"path": "no/such/report.html"}, "`path` must be in a folder that exists."),
        ({"energy": "1nm"}, "`energy` must be one of '45nm_float32'"),
        ({"y": np.full(11, 3)}, "`y` must hold class numbers from 0 to 2.*Received: 3."),
        ({"y": np.full(11, 0.5)}, "`y` must hold class numbers from 0 to 2.*Received: 0.5."),
        ({"y": np.full(11, "cat")}, "`y` must hold numbers, for every sample. Received: dtype <U3"),
        ({"y": np.zeros(4)}, "must hold as many samples in every array. Received: 11 in x, 4 in y."),
        ({"x": np.zeros((11, 4, 4, 2))}, r"`x` must have the shape \(batch, 6, 5, 2\)"),
    ],
    ids=str,
)
def test_report_refuses_bad_input_and_writes_nothing(case, arguments, message, tmp_path, monkeypatch):
    _, snn, x, y, _, _ = case
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        keras_snn.report(snn, **{"x": x, "y": y, "path": "report.html", **arguments})
    assert not list(tmp_path.iterdir())


def test_a_report_on_classes_leads_with_accuracy_and_not_with_the_error_of_outputs(case):
    *_, path = case
    assert "error of the outputs</div>" not in path.read_text(encoding="utf-8")


def test_report_needs_matplotlib_before_it_runs(case, tmp_path, monkeypatch):
    _, snn, x, y, _, _ = case
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="Plots need matplotlib"):
        keras_snn.report(snn, x, y, path=tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_page_opens_in_a_browser_without_a_network(case, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    *_, report, path = case
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--enable-logging=stderr",
    ]
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}"]
    command += ["--window-size=1100,2600", "--dump-dom", path.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in result.stderr
    assert report.summary in " ".join(Page(result.stdout).texts)
