import json
import sys

import keras
import networks
import numpy as np
import pytest

import keras_snn
from keras_snn.cli import main


@pytest.fixture
def files(rng, tmp_path):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=20)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    model.save(tmp_path / "cnn.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_demo_prints_accuracies_rates_and_time(capsys):
    status, out, _ = run(capsys, "demo", "--samples", 200)
    assert status == 0
    assert "ANN accuracy" in out
    table = out[out.index("time steps") :]
    rows = [line.split() for line in table.splitlines()[1:8]]
    assert [row[0] for row in rows] == ["1", "2", "4", "8", "16", "32", "64"]
    assert float(rows[-1][1].rstrip("%")) >= 98
    assert float(rows[-1][2].rstrip("%")) >= 98
    assert "spikes per neuron and step" in table
    assert "simulation" in table.splitlines()[-1]


def test_convert_and_evaluate_do_what_the_library_does(files, capsys):
    snn_path = files / "snn.keras"
    arguments = ["--data", files / "data.npz", "--output", snn_path, "--timesteps", 16, "--percentile", 99]
    status, out, _ = run(capsys, "convert", files / "cnn.keras", *arguments)
    assert status == 0
    assert f"wrote {snn_path}" in out
    assert sorted(path.name for path in files.iterdir()) == ["cnn.keras", "data.npz", "snn.keras"]

    with np.load(files / "data.npz") as data:
        x, y = data["x"], data["y"]
    model = keras.models.load_model(files / "cnn.keras")
    snn = keras_snn.convert(model, x, timesteps=16, percentile=99, verbose=0)
    loaded = keras.models.load_model(snn_path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), snn.predict(x, verbose=0))

    status, out, _ = run(capsys, "evaluate", snn_path, "--data", files / "data.npz")
    assert status == 0
    accuracy = snn.simulate(x, y).accuracy_over_time
    rows = [line.split() for line in out[out.index("time steps") :].splitlines()[1:]]
    assert rows == [[str(t), f"{accuracy[t - 1]:.2%}"] for t in (1, 2, 4, 8, 16)]


def test_convert_takes_the_options_of_the_library(files, capsys):
    text = (
        "--timesteps 16 --normalization max --percentile 98 --reset zero --initial-potential 0.25 "
        "--input-encoding poisson --input-rate 0.5 --max-pool fir --softmax clock --delay 2 "
        "--readout-delay 3 --nonspiking allow --dtype float64 --seed 7"
    )
    out = files / "snn.keras"
    status, *_ = run(
        capsys, "convert", files / "cnn.keras", "--data", files / "data.npz", "--output", out, *text.split()
    )
    assert status == 0
    with np.load(files / "data.npz") as data:
        x = data["x"]
    snn = keras_snn.convert(
        keras.models.load_model(files / "cnn.keras"),
        x,
        timesteps=16,
        normalization="max",
        percentile=98,
        neuron=keras_snn.neurons.IntegrateAndFire(reset="zero", initial_potential=0.25),
        input_encoding="poisson",
        input_rate=0.5,
        max_pool="fir",
        softmax="clock",
        delay=2,
        readout_delay=3,
        nonspiking="allow",
        dtype="float64",
        seed=7,
        verbose=0,
    )
    loaded = keras.models.load_model(out)
    assert loaded.conversion_report.options == snn.conversion_report.options
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), snn.predict(x, verbose=0))


def test_convert_without_data_warns_in_one_line(files, capsys):
    status, _, err = run(capsys, "convert", files / "cnn.keras", "--output", files / "snn.keras")
    assert status == 0
    assert "\nkeras-snn: warning: keras_snn.convert estimated the scales" in "\n" + err


def test_layers_lists_what_converts(capsys):
    status, out, _ = run(capsys, "layers")
    assert status == 0
    assert {"Conv2D", "Dense", "BatchNormalization"} <= set(out.split())


def test_an_existing_output_is_overwritten_only_with_force(files, capsys):
    (files / "snn.keras").write_text("mine")
    arguments = [
        "convert",
        files / "cnn.keras",
        "--data",
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
    np.savez(files / "pickled.npz", x=np.array([{}], dtype=object))
    np.savez(files / "shape.npz", x=np.zeros((2, 5)), y=np.zeros(2))
    run(capsys, "convert", files / "cnn.keras", "--data", files / "data.npz", "-o", files / "snn.keras")
    out = ["--output", files / "new.keras"]
    cases = [
        (
            ["evaluate", files / "cnn.keras", "--data", files / "data.npz"],
            "must hold a spiking model. Received: a ",
        ),
        (
            ["evaluate", files / "text.keras", "--data", files / "data.npz"],
            "must be a .keras file. Received: one",
        ),
        (["evaluate", files / "none.keras", "--data", files / "data.npz"], "Received: no such file."),
        (["evaluate", files / "snn.keras", "--data", files / "only_x.npz"], "must hold the arrays x and y."),
        (["evaluate", files / "snn.keras", "--data", files / "shape.npz"], "Received: shape (batch, 5)."),
        (["convert", files / "snn.keras", *out], "must be an analog network."),
        (
            ["convert", files / "cnn.keras", *out, "--data", files / "only_z.npz"],
            "must hold an array x. Received: z",
        ),
        (["convert", files / "cnn.keras", *out, "--data", files / "pickled.npz"], "allow_pickle=False"),
        (
            ["convert", files / "cnn.keras", *out, "--data", files / "text.keras"],
            "must be an .npz or .npy file",
        ),
        (["convert", files / "cnn.keras", *out, "--percentile", 0], "`percentile` must be in (0, 100]."),
        (["convert", files / "cnn.keras", "--output", files / "new.h5"], "--output must end in .keras."),
        (
            ["convert", files / "cnn.keras", "--output", files / "no" / "new.keras"],
            "no' must be a folder. Received: no such folder.",
        ),
    ]
    for arguments, message in cases:
        status, _, err = run(capsys, *arguments)
        assert status == 1, arguments
        assert err.startswith("keras-snn: error: "), err
        assert message in err
    assert not (files / "new.keras").exists()


@pytest.mark.parametrize("text", ["0", "-3", "many"])
def test_a_wrong_number_of_steps_is_refused(text, files, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(files / "cnn.keras"), "--data", "data.npz", "--timesteps", text])
    assert stopped.value.code == 2
    assert "--timesteps" in capsys.readouterr().err


def test_check_prints_a_verdict_for_every_layer(files, capsys):
    status, out, _ = run(capsys, "check", files / "cnn.keras")
    assert status == 0
    assert out.splitlines()[2].split() == ["conv", "keras.layers.Conv2D", "linear"]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "gelu"), keras.layers.Dense(2)])
    model.save(files / "gelu.keras")
    status, out, err = run(capsys, "check", files / "gelu.keras")
    assert status == 1
    assert "activation='gelu' in front of other layers" in out
    assert "does not convert" in err
    assert run(capsys, "check", files / "gelu.keras", "--nonspiking", "allow")[0] == 0


def test_report_writes_a_page_and_its_numbers(files, capsys):
    pytest.importorskip("matplotlib")
    run(capsys, "convert", files / "cnn.keras", "--data", files / "data.npz", "-o", files / "snn.keras")
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
    run(capsys, "convert", files / "cnn.keras", "--data", files / "data.npz", "-o", files / "snn.keras")
    with np.load(files / "data.npz") as data:
        np.savez(files / "labels.npz", x=data["x"], y=data["y"] + 100)
    np.savez(files / "only_z.npz", z=np.zeros(3))
    np.savez(files / "shape.npz", x=np.zeros((2, 5)), y=np.zeros(2))
    before = sorted(files.iterdir())
    cases = [
        ("snn.keras", "labels.npz", "r.html", "`y` must hold class numbers from 0 to 3"),
        ("snn.keras", "only_z.npz", "r.html", "must hold an array x. Received: z"),
        ("snn.keras", "shape.npz", "r.html", "Received: shape (batch, 5)."),
        ("cnn.keras", "data.npz", "r.html", "must hold a spiking model. Received: a "),
        ("snn.keras", "data.npz", "r.pdf", "must end in .html."),
        ("snn.keras", "data.npz", "no/r.html", "must be in a folder that exists."),
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
