"""Help, choices, completion, and what is answered to a command that is misspelt or wrong."""

import os
import re
import subprocess
import sys
import typing

import pytest
from commands import run

import keras_snn
from keras_snn.cli import main
from keras_snn.cli.arguments import parser
from keras_snn.cli.choices import CHOICES, DEFAULT_NEURON, DEFAULT_TIMESTEPS
from keras_snn.conversion import options
from keras_snn.conversion.search import Minimize


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["evaluate", "snn.keras", "--data", "data.npz", "--timesteps", "0"], "--timesteps"),
        (["evaluate", "snn.keras", "--data", "data.npz", "--timesteps", "many"], "--timesteps"),
        (["evaluate", "snn.keras"], "--data"),
        (["convert", "cnn.keras", "--output", "snn.h5"], "must end in .keras, received 'snn.h5'"),
        (["convert", "cnn.keras", "--output", "snn.keras", "--max-pool", "or"], "--max-pool"),
        (["report", "snn.keras", "--data", "data.npz", "--energy", "1nm"], "45nm_float16"),
        (["fly"], "COMMAND"),
    ],
)
def test_wrong_usage_has_a_status_of_its_own(arguments, wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert wrong in capsys.readouterr().err


def test_no_command_at_all_shows_them(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert re.findall(r"^    (\w+)\b", shown, re.MULTILINE) == [
        *("demo", "check", "convert", "evaluate", "report", "export", "layers", "completion")
    ]


def test_every_command_has_help_with_examples_that_it_understands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert {"demo", "check", "convert", "evaluate", "report", "export", "layers", "completion"} == set(
        commands
    )
    for command in commands:
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        examples = re.findall(rf"^  keras-snn ({command}.*)$", capsys.readouterr().out, re.MULTILINE)
        assert examples
        for example in examples:
            parser().parse_args(example.split())


def test_the_choices_that_help_shows_are_those_of_the_library():
    for name, shown in CHOICES.items():
        if name == "energy":
            allowed = keras_snn.ENERGY_FIGURES
        elif name == "minimize":
            allowed = typing.get_args(Minimize)
        else:
            allowed = [value for value in options.choices(name.replace("-", "_")) if isinstance(value, str)]
        assert shown == tuple(allowed), name
    assert options.DEFAULT_TIMESTEPS == DEFAULT_TIMESTEPS
    assert options._PRESETS["default"]["neuron"] == DEFAULT_NEURON


@pytest.mark.process
def test_help_needs_no_keras(tmp_path):
    """To import it takes seconds."""
    (tmp_path / "keras.py").write_text("raise SystemExit('imported')")
    for arguments in (["--help"], ["convert", "--help"], ["--version"]):
        shown = subprocess.run(
            [sys.executable, "-m", "keras_snn", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "keras-snn" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["convrt"], "convert"),
        (["convert", "a.keras", "-o", "b.keras", "--normalization", "percentil"], "percentile"),
        (["convert", "a.keras", "-o", "b.keras", "--sed", "3"], "--seed"),
        (["demo", "--sampels", "3"], "--samples"),
        (["convert", "a.keras", "-o", "b.keras", "--relays", "atuo"], "auto"),
        (["convert", "a.keras", "-o", "b.kera"], "b.keras"),
        (["export", "a.keras", "-o", "folder/b.onx"], "folder/b.onnx"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(arguments, meant, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.endswith(f"Did you mean {meant}?\n")


def test_an_option_of_another_command_is_not_proposed_for_itself(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "a.keras", "-o", "b.keras", "--shape", "3,3,1"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --shape 3,3,1\n")


def test_a_misspelt_file_is_answered_with_the_nearest_of_its_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("network.keras", "network1.npz", "data.npz"):
        (tmp_path / name).touch()
    assert main(["check", "netwrok.keras"]) == 1
    assert capsys.readouterr().err.endswith("no such file. Did you mean 'network.keras'?\n")
    assert main(["check", "network1.keras"]) == 1
    assert capsys.readouterr().err.endswith("no such file. Did you mean 'network.keras'?\n")
    assert main(["check", "data.keras"]) == 1
    assert capsys.readouterr().err.endswith("no such file.\n")


def test_completion_of_a_shell_has_every_command(capsys):
    pytest.importorskip("shtab")
    status, out, _ = run(capsys, "completion", "bash")
    assert status == 0
    assert all(name in out for name in ("convert", "--calibration", "multi_threshold"))
