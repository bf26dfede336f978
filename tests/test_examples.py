import pathlib
import runpy
import sys

import keras
import numpy as np
import pytest

# As for a user.
pytestmark = pytest.mark.compiled

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def run_example(monkeypatch, capsys):
    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def small_mnist(monkeypatch):
    """tensorflow-datasets with the digits that come with the package, so that nothing is downloaded."""
    tfds = pytest.importorskip("tensorflow_datasets")
    with np.load(EXAMPLES.parent / "keras_snn" / "demo" / "mnist.npz") as data:
        digits = data["x_test"], data["y_test"].astype("int64")
    asked = []

    def load(name, *, split, batch_size, as_supervised):
        asked.append((name, split))
        assert batch_size == -1
        assert as_supervised
        rows = slice(0, 600) if split.startswith("train") else slice(600, 700)
        x, y = (array[rows] for array in digits)
        # As CIFAR-10 has it: colours, and another size.
        return (x.repeat(3, axis=-1)[:, :, :26], y) if name == "cifar10" else (x, y)

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    return asked


def test_one_neuron_prints_both_resets(run_example):
    out = run_example("01_one_neuron.py", "--current", "0.25", "--timesteps", "20")
    subtract, zero = out.splitlines()
    assert "rate 0.250" in subtract
    assert "rate 0.250" in zero
    assert subtract.count("|") == 5


def test_dense_net_keeps_its_accuracy_and_loads(run_example):
    out = run_example("02_convert_a_dense_net.py", "--epochs", "15")
    assert "hidden1 (SpikingDense)" in out
    ann, snn = (
        float(line.split()[1].rstrip("%")) for line in out.splitlines() if line.startswith(("ANN", "SNN"))
    )
    assert abs(ann - snn) <= 5
    assert "loaded: True" in out


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_cnn_trains_converts_and_prints_the_table(run_example, small_mnist, dataset):
    out = run_example("03_convert_a_cnn.py", "--dataset", dataset, "--epochs", "1", "--samples", "600")
    assert small_mnist == [(dataset, "train[:600]"), (dataset, "test[:600]")]
    rows = [line for line in out.splitlines() if line.startswith(("ANN", "SNN"))]
    assert len(rows) == 8
    assert rows[-1].endswith("after 64 steps")


def test_tensorboard_writes_what_it_promises(run_example, tmp_path):
    out = run_example("04_tensorboard.py", "--log-dir", str(tmp_path / "logs"), "--samples", "100")
    assert out.splitlines()[-1] == f"Now run: tensorboard --logdir {tmp_path / 'logs'}"
    (file,) = (tmp_path / "logs" / "evaluate").iterdir()
    assert file.name.startswith("events.out.tfevents.")


def test_report_names_the_cause_and_writes_files(run_example, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = [
        "--output",
        str(tmp_path / "r.html"),
        "--samples",
        "60",
        "--timesteps",
        "4",
        "--percentile",
        "90",
    ]
    out = run_example("05_report.py", *arguments)
    assert "'conv1' adds the largest error: it saturates in" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "potentials.png",
        "r.html",
        "r.json",
        "spikes.png",
    ]


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path


def test_nir_writes_a_file_that_reads_back(run_example, tmp_path):
    pytest.importorskip("nir")
    path = tmp_path / "digits.nir"
    out = run_example("06_nir.py", "--output", str(path))
    assert "does 3 things that a NIR file has no field for" in out
    assert out.splitlines()[-1] == f"wrote {path}; read back, 100.0% of the predictions agree"
    assert path.stat().st_size > 0


def test_saved_model_is_served_without_this_package(run_example, tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras exports a SavedModel of a loop over time on TensorFlow only")
    out = run_example("07_saved_model.py", "--output", str(tmp_path / "saved"))
    assert out.splitlines()[-1] == "as here: True"
