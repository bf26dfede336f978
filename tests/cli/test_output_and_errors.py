"""What all commands print and write: results, errors, interruptions."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from commands import START, in_terminal, run

import keras_snn


def test_an_existing_output_is_overwritten_only_with_force(files, capsys):
    (files / "snn.keras").write_text("mine")
    arguments = [
        "convert",
        files / "cnn.keras",
        "--calibration",
        files / "data.npz",
        "--output",
        files / "snn.keras",
    ]
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert "snn.keras' exists. Use --force to overwrite it." in err
    assert (files / "snn.keras").read_text() == "mine"
    assert run(capsys, *arguments, "--force")[0] == 0
    assert isinstance(keras.models.load_model(files / "snn.keras"), keras_snn.SpikingModel)


def test_bad_files_give_one_line_and_no_output(files, capsys):
    (files / "text.keras").write_text("not a model")
    np.savez(files / "only_x.npz", x=np.zeros((2, 9, 8, 2)))
    np.savez(files / "only_z.npz", z=np.zeros(3))
    np.savez(files / "strings.npz", x=np.zeros((2, 9, 8, 2)), y=["cat", "dog"])
    np.savez(files / "pickled.npz", x=np.array([{}], dtype=object))
    np.savez(files / "shape.npz", x=np.zeros((2, 5)), y=np.zeros(2))
    run(
        capsys, "convert", files / "cnn.keras", "--calibration", files / "data.npz", "-o", files / "snn.keras"
    )
    out = ["--output", files / "new.keras"]
    cases = [
        (
            ["evaluate", files / "cnn.keras", "--data", files / "data.npz"],
            "must hold a spiking model. Received: a ",
        ),
        (
            ["evaluate", files / "text.keras", "--data", files / "data.npz"],
            "must be a .keras file. Received: another format",
        ),
        (["evaluate", files / "none.keras", "--data", files / "data.npz"], "Received: no such file."),
        (
            ["evaluate", files / "snn.keras", "--data", files / "only_x.npz"],
            "must hold labels in an array y. Received: x.",
        ),
        (["evaluate", files / "snn.keras", "--data", files / "shape.npz"], "Received: shape (batch, 5)."),
        (["convert", files / "snn.keras", *out], "must be an analog network."),
        (
            ["convert", files / "cnn.keras", *out, "--calibration", files / "only_z.npz"],
            "must hold an array x, or arrays named as the inputs of the model, input_layer. Received: z.",
        ),
        (
            ["evaluate", files / "snn.keras", "--data", files / "strings.npz"],
            "Received: dtype <U3, shape (2,).",
        ),
        (
            ["convert", files / "cnn.keras", *out, "--calibration", files / "pickled.npz"],
            "Received: pickled objects, which are never loaded.",
        ),
        (
            ["convert", files / "cnn.keras", *out, "--calibration", files / "text.keras"],
            "must be an .npz or .npy file",
        ),
        (["convert", files / "cnn.keras", *out, "--percentile", 0], "`percentile` must be in (0, 100]."),
        (
            ["convert", files / "cnn.keras", *out, "--neuron", "burst", "--reset", "zero"],
            "need --neuron if. Received: --neuron burst.",
        ),
        (["export", files / "cnn.keras", "-o", files / "folder"], "must hold a spiking model. Received: a "),
        (["export", files / "snn.keras", "-o", files], "exists. Name another --output."),
        (
            ["evaluate", files / "snn.keras", "--data", "tfds:no_such_data"],
            "'tfds:no_such_data' must be tfds:",
        ),
        (
            ["convert", files / "cnn.keras", "--output", files / "no" / "new.keras"],
            "no' must be a folder. Received: no such folder.",
        ),
    ]
    for arguments, message in cases:
        status, _, err = run(capsys, *arguments)
        assert status == 1, arguments
        assert err.splitlines()[-1].startswith("keras-snn: error: "), err
        assert message in err
    assert {path.suffix for path in files.iterdir()} == {".keras", ".npz"}
    assert not (files / "new.keras").exists()


def test_json_is_all_of_standard_output_and_holds_the_same(files, capsys):
    snn_path, data = files / "snn.keras", files / "data.npz"
    convert = ["convert", files / "cnn.keras", "--calibration", data, "-o", snn_path, "--timesteps", 8]
    status, out, err = run(capsys, *convert, "--json")
    assert (status, err) == (0, "")
    snn = keras.models.load_model(snn_path)
    report = json.loads(out)["report"]
    assert snn.conversion_report.from_config(report) == snn.conversion_report

    _, out, _ = run(capsys, "evaluate", snn_path, "--data", data, "--json")
    with np.load(data) as arrays:
        accuracy = snn.simulate(arrays["x"], arrays["y"]).accuracy_over_time
    assert json.loads(out) == {"samples": 20, "accuracy_over_time": accuracy.tolist()}

    _, out, _ = run(capsys, "layers", "--json")
    assert json.loads(out) == list(keras_snn.supported_layers())
    _, out, _ = run(capsys, "check", files / "cnn.keras", "--json")
    assert next(layer["path"] for layer in json.loads(out)["layers"]) == "conv"


def test_quiet_leaves_the_result_alone(files, capsys):
    arguments = ["convert", files / "cnn.keras", "-o", files / "snn.keras"]
    status, out, err = run(capsys, *arguments, "--quiet")
    assert (status, err) == (0, "")
    assert "estimated" in run(capsys, *arguments, "--force")[2]
    assert run(capsys, *arguments, "--force", "--quiet")[1] == out


def test_an_interrupted_command_leaves_nothing(files, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras_snn.SpikingModel, "save", interrupted)
    before = sorted(files.iterdir())
    status, out, err = run(capsys, "convert", files / "cnn.keras", "-o", files / "snn.keras", "--quiet")
    assert (status, out) == (130, "")
    assert err == "keras-snn: error: interrupted; nothing was written\n"
    assert sorted(files.iterdir()) == before


@pytest.mark.process
def test_an_interruption_while_it_starts_is_one_line(tmp_path):
    (tmp_path / "keras.py").write_text("import os; os.write(2, b'noise'); raise KeyboardInterrupt")
    stopped = subprocess.run(
        [sys.executable, "-c", START, json.dumps([["layers"]])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert stopped.returncode == 130
    assert stopped.stderr == b"keras-snn: error: interrupted; nothing was written\n"


@pytest.mark.parametrize(
    "error", [KeyError("conv"), RuntimeError("no such device\nmore"), "tensorflow"], ids=str
)
def test_an_error_of_other_packages_is_one_line_that_explains_how_to_see_more(
    files, capsys, monkeypatch, error
):
    if error == "tensorflow":
        tf = pytest.importorskip("tensorflow")
        error = tf.errors.ResourceExhaustedError(None, None, "no memory\nGraph: a, b")

    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr(keras_snn, "convert", failing)
    arguments = ["convert", files / "cnn.keras", "-o", files / "snn.keras", "--quiet"]
    start = str(error).split("\n")[0]
    assert run(capsys, *arguments) == (
        1,
        "",
        f"keras-snn: error: {type(error).__name__}: {start}. Run with --debug for the traceback.\n",
    )
    with pytest.raises(type(error)):
        run(capsys, *arguments, "--debug")


@pytest.mark.process
def test_a_terminal_of_80_columns_shows_results_and_nothing_else(files):
    pytest.importorskip("matplotlib")
    work = [
        ("demo --samples 50", "Converting 'mnist_cnn' on 500 training digits", "16/16"),
        (
            "convert cnn.keras --calibration data.npz -o snn.keras",
            "Converting 'sequential",
            "wrote snn.keras",
        ),
        ("evaluate snn.keras --data data.npz", "1/1", "time steps  accuracy"),
        ("report snn.keras --data data.npz", "1/1", "wrote report.html and report.json"),
    ]
    helped = ["", "demo", "check", "convert", "evaluate", "report", "export", "layers"]
    commands = [text.split() for text, *_ in work] + [[*name.split(), "--help"] for name in helped]
    *results, (status, lines) = in_terminal(*commands, ["check", "none.keras"], folder=files)
    assert status == 1
    assert lines == ["keras-snn: error: 'none.keras' must be a .keras file. Received: no such file."]
    assert [status for status, _ in results] == [0] * len(results)
    for _, lines in results:
        assert [line for line in lines if len(line) > 80] == []
        shown = "\n".join(lines)
        assert not re.search(r"WARNING|cuda|oneDNN|absl|Traceback", shown), shown
    for (_, begins, has), (_, lines) in zip(work, results, strict=False):
        assert begins in lines[0]
        assert has in "\n".join(lines)
    for _, lines in results[len(work) :]:
        assert lines[0].startswith("usage: keras-snn")
