"""`keras-snn report`."""

import json
import sys

import numpy as np
import pytest
from commands import run


def test_report_writes_a_page_and_its_numbers(files, capsys):
    pytest.importorskip("matplotlib")
    run(
        capsys, "convert", files / "cnn.keras", "-o", files / "snn.keras", "--calibration", files / "data.npz"
    )
    arguments = ["report", files / "snn.keras", "--data", files / "data.npz", "-o", files / "r.html"]
    status, out, _ = run(capsys, *arguments, "--timesteps", 4)
    assert status == 0
    assert "After 4 time steps the spiking network gets" in out
    assert f"wrote {files / 'r.html'} and {files / 'r.json'}" in out
    assert json.loads((files / "r.json").read_text(encoding="utf-8"))["timesteps"] == 4
    before = (files / "r.html").read_bytes()
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert "r.html' exists. Use --force to overwrite it." in err
    assert (files / "r.html").read_bytes() == before
    assert run(capsys, *arguments, "--timesteps", 4, "--force")[0] == 0


def test_report_of_bad_files_is_one_line_and_writes_nothing(files, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    run(
        capsys, "convert", files / "cnn.keras", "-o", files / "snn.keras", "--calibration", files / "data.npz"
    )
    with np.load(files / "data.npz") as data:
        np.savez(files / "labels.npz", x=data["x"], y=data["y"] + 100)
    np.savez(files / "only_z.npz", z=np.zeros(3))
    np.savez(files / "shape.npz", x=np.zeros((2, 5)), y=np.zeros(2))
    before = sorted(files.iterdir())
    cases = [
        ("snn.keras", "labels.npz", "r.html", "`y` must hold class numbers from 0 to 3"),
        ("snn.keras", "only_z.npz", "r.html", ". Received: z."),
        ("snn.keras", "shape.npz", "r.html", "Received: shape (batch, 5)."),
        ("cnn.keras", "data.npz", "r.html", "must hold a spiking model. Received: a "),
        ("snn.keras", "data.npz", "r.pdf", "must end in .html."),
        ("snn.keras", "data.npz", "no/r.html", "must be a folder. Received: no such folder."),
    ]
    for model, data, output, message in cases:
        status, _, err = run(capsys, "report", files / model, "--data", files / data, "-o", files / output)
        assert status == 1
        assert err.startswith("keras-snn: error: ")
        assert err.count("\n") == 1
        assert message in err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, _, err = run(
        capsys, "report", files / "snn.keras", "--data", files / "data.npz", "-o", files / "r.html"
    )
    assert (status, err) == (
        1,
        "keras-snn: error: Plots need matplotlib. Install it with pip install 'keras-snn[plots]'.\n",
    )
    assert sorted(files.iterdir()) == before
