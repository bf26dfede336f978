"""`keras-snn demo`."""

import re

import pytest
from commands import run


def test_demo_prints_accuracies_rates_and_time(capsys):
    status, out, _ = run(capsys, "demo", "--samples", 200)
    assert status == 0
    assert "ANN accuracy" in out
    table = out[out.index("time steps") :]
    rows = [line.split() for line in table.splitlines()[2:9]]
    assert [row[0] for row in rows] == ["1", "2", "4", "8", "16", "32", "64"]
    assert float(rows[-1][1].rstrip("%")) >= 98
    assert float(rows[-1][2].rstrip("%")) >= 98
    assert "spikes per neuron and step" in table
    assert "simulation" in table.splitlines()[-1]


def test_the_demo_leaves_files_for_the_command_that_it_proposes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "demo", "--samples", 20, "--output", "digits")
    assert status == 0
    written = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "digits").iterdir())
    assert written == re.findall(r"^wrote (.*)$", out, re.MULTILINE)
    assert {"digits/cnn.keras", "digits/snn.keras", "digits/report.html"} < set(written)
    while proposed := re.search(r"^next: keras-snn ((?:convert|evaluate) .*)$", err, re.MULTILINE):
        status, out, err = run(capsys, *proposed[1].split())
        assert status == 0, err
    assert re.search(
        r"^next: keras-snn report digits/few_steps.keras --data digits/test.npz", err, re.MULTILINE
    )
    assert run(capsys, "demo", "--samples", 20, "--output", "digits")[0] == 1
