import ast
import decimal
import re
import shlex

import contracts
import keras
import networks
import numpy as np
import pytest
from documents import ROOT, blocks, run_blocks
from keras import layers

import keras_snn
from keras_snn.cli import main
from keras_snn.graph.rules import registry
from keras_snn.graph.rules.registry import table
from keras_snn.neurons import base as neuron_base
from keras_snn.neurons import lookup as neuron_lookup

# As for a user.
pytestmark = pytest.mark.compiled


def test_the_table_of_what_converts_is_that_of_the_rules():
    text = (ROOT / "docs" / "what_converts.md").read_text(encoding="utf-8")
    between = re.search(r"<!-- keras-snn layers --markdown -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert between.group(1) == table()


def rows(name):
    """Return the tables of a document, as lists of the cells of each row."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def is_part(cells, row):
    """Whether all cells are in a row, in this order; a number may be rounded, and its interval left out."""
    left = iter(row)
    return all(any(is_rounded(cell, other) for other in left) for cell in cells)


def is_rounded(cell, number):
    if cell == number:
        return True
    exact = re.match(r"[+-]?\d+\.\d+", number)
    if exact is None or not re.fullmatch(r"[+-]?\d+\.\d+", cell):
        return False
    shown = decimal.Decimal(cell)
    half = decimal.Decimal(5).scaleb(shown.as_tuple().exponent - 1)
    return abs(shown - decimal.Decimal(exact.group())) <= half


def test_tables_that_lead_are_rows_of_the_full_ones():
    full = [row for path in (ROOT / "docs/results").glob("*.md") for row in rows(f"docs/results/{path.name}")]
    found = [row for row in rows("docs/results.md") if not any(is_part(row, other) for other in full)]
    assert not found, f"no rows of docs/results: {found}"
    names = {"CNN": "mnist_cnn", "LeNet-5": "lenet5", "CIFAR-10, CNN": "cifar10_cnn"}
    names |= {"ResNet": "resnet", "MobileNet": "mobilenet"}
    chosen = [row for row in rows("README.md") if re.match("MNIST|CIFAR-10", row[0])]
    assert len(chosen) == 5
    for label, *cells in chosen:
        code = "63 mixed levels" if label.endswith("MobileNet") else "TimeToFirstSpike, 31 levels"
        name = names.get(label) or names[label.split(", ")[1]]
        (row,) = (row for row in full if row[0] == name and code in row[1])
        assert is_part(cells, row), (label, cells)


def test_the_walk_through_a_rule_runs(monkeypatch, capsys):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    names = {}
    run_blocks("docs/adding_a_layer.md", names)
    out = capsys.readouterr().out
    assert "'leak/greater' (keras.ops operation Greater): no conversion rule" in out
    assert re.search(r"^leak +SpikingActivation +leak ", out, re.MULTILINE)
    assert names["error"] < 0.02
    networks.randomize(names["model"], np.random.default_rng(1))
    contracts.law_2_folding_keeps_the_function(names["model"], names["x"])


def test_python_in_the_readme_and_the_overview_runs(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hidden = [
        layers.Conv2D(3, 3, activation="relu", name="conv2d"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]
    model = networks.randomize(keras.Sequential([keras.Input((8, 8, 1)), *hidden]), rng)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save("cnn.keras")
    x = networks.data_for(model, rng, samples=40)
    names = {"x_train": x, "x_test": x[:8], "y_test": np.arange(8) % 4}
    assert run_blocks("README.md", names) == 1
    assert (tmp_path / "report.html").exists()
    assert repr(names["run"]) in capsys.readouterr().out
    assert run_blocks("docs/overview.md", names) == 5
    assert names["run"].timesteps == 32
    reference = keras_snn.quantized_reference(names["snn"]).predict(x[:8], verbose=0)
    np.testing.assert_allclose(names["settled"], reference, atol=1e-5)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["evaluate"]
    assert isinstance(keras.models.load_model("snn.keras"), type(names["snn"]))
    assert names["model"].output_shape == (None, 16, 10)
    assert "SpikingConv2D" in capsys.readouterr().out


def is_python(language, code):
    if language:
        return language.lower().lstrip("{").startswith(("py", "ipy"))
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def test_all_python_in_the_documents_is_run_or_marked():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")]
    run = {name for source in sources for name in re.findall(r'run_blocks\("(.+?)"', source)}
    documents = [
        path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    ]
    assert run <= set(documents)
    for name in documents:
        for language, code, why in blocks(name):
            is_run = language == "python" and name in run
            assert is_run or why or not is_python(language, code), f"{name} has code that is not run:\n{code}"


def test_commands_in_the_overview_run(rng, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("nir")
    tfds = pytest.importorskip("tensorflow_datasets")
    if keras.backend.backend() == "torch":
        pytest.skip("Keras exports no SavedModel on PyTorch")
    monkeypatch.chdir(tmp_path)
    hidden = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(4, activation="softmax")]
    model = networks.randomize(keras.Sequential([keras.Input((8, 8, 1)), *hidden]), rng)
    model.save("cnn.keras")
    x, y = networks.data_for(model, rng, samples=20), np.arange(20) % 4
    for name in ("train", "test"):
        np.savez(f"{name}.npz", x=x, y=y)
    monkeypatch.setattr(tfds, "load", lambda *args, **kwargs: (x, y))
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    code = "\n".join(code for language, code, _ in blocks("docs/overview.md") if language == "sh")
    commands = re.findall(r"^keras-snn (.*)", code, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        assert main(shlex.split(command, comments=True)) == 0, (command, capsys.readouterr().err)
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"snn.keras", "report.html", "report.json", "folder", "net.nir"}


def test_getting_started_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    assert run_blocks("docs/getting_started.md", names) == 7
    accuracy = names["run"].accuracy_over_time
    assert accuracy[-1] > 0.97 > accuracy[0]
    out = capsys.readouterr().out
    assert re.search(r"^conv1 +keras.layers.Conv2D +linear +constants$", out, re.MULTILINE)
    assert re.search(r"^conv1 +SpikingConv2D ", out, re.MULTILINE)


def test_the_advice_on_options_runs(rng, capsys):
    model = networks.build(networks.plain, rng)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = networks.data_for(model, rng, samples=530)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    names = {"keras_snn": keras_snn, "model": model, "x_train": x, "y_train": y}
    names |= {"x_test": x[:30], "y_test": y[:30], "x_validation": x[:400], "y_validation": y[:400]}
    assert run_blocks("docs/choosing_options.md", names) == 7
    assert "inherited" in capsys.readouterr().out
    assert names["found"].accuracy >= names["found"].full_accuracy - 0.005


def test_the_guide_to_time_codes_runs(rng, capsys):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=530)
    names = {"keras_snn": keras_snn, "model": model, "x_train": x, "x_test": x[:30]}
    assert run_blocks("docs/time_codes.md", names) == 5
    assert capsys.readouterr().out.count("at most 1 spike per neuron") == len(names["run"].spike_times) > 0


def test_deploying_runs(monkeypatch, tmp_path):
    pytest.importorskip("nir")
    monkeypatch.chdir(tmp_path)
    names = {}
    assert run_blocks("docs/deploying.md", names) == 1
    np.testing.assert_allclose(
        names["back"].predict(names["x"], verbose=0), names["snn"].predict(names["x"], verbose=0), atol=1e-6
    )
    assert {path.name for path in tmp_path.iterdir()} == {"net.nir", "zero.nir"}


def test_the_walk_through_a_neuron_does_what_it_describes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    aliases = dict(neuron_base.BY_ALIAS)
    for module in (neuron_base, neuron_lookup):
        monkeypatch.setattr(module, "BY_ALIAS", aliases)
    names = {}
    assert run_blocks("docs/adding_a_neuron.md", names) == 2
    snn, loaded, x = names["snn"], names["loaded"], names["x"]
    assert names["error"] < 0.02
    assert "most spikes of a neuron: 256" in capsys.readouterr().out
    neuron = names["Refractory"]()
    assert loaded.get_layer("conv").neuron == neuron == snn.get_layer("conv").neuron
    contracts.assert_same(loaded.predict(x, verbose=0), snn.predict(x, verbose=0))
    # λ is the activation that one spike per step would stand for: two steps give one spike here.
    largest = np.maximum(names["model"].layers[0](x), 0).max()
    np.testing.assert_allclose(snn.conversion_report.layers[0].scale, 2 * largest, rtol=1e-5)
    assert keras_snn.report(snn, x[:8], path="report.html").layers[0]["neuron"] == repr(neuron)
    settled = snn.simulate(x[:8], timesteps=9, settle=True, record=["spike_trains"]).spike_trains["conv"]
    assert not np.any(settled[:, 1:] * settled[:, :-1])
    diagnosis = keras_snn.diagnose(snn, x[:8], timesteps=16)
    assert diagnosis.layers[0].clipping.relative < 1e-6
    with pytest.raises(keras_snn.errors.ExportError, match="no Refractory neurons"):
        keras_snn.export_nir(snn, "net.nir")
