"""`keras-snn convert`, and the files and data sets that it reads."""

import json

import keras
import networks
import numpy as np
import pytest
from commands import run

import keras_snn


def test_convert_and_evaluate_do_what_the_library_does(files, capsys):
    snn_path = files / "snn.keras"
    data = files / "data.npz"
    arguments = ["--calibration", data, "--output", snn_path, "--timesteps", 16, "--percentile", 99]
    status, out, err = run(capsys, "convert", files / "cnn.keras", *arguments)
    assert status == 0, err
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
    rows = [line.split() for line in out.splitlines()[2:]]
    assert rows == [[str(t), f"{accuracy[t - 1]:.2%}"] for t in (1, 2, 4, 8, 16)]


def test_convert_takes_the_options_of_the_library(files, capsys):
    text = (
        "--timesteps 16 --normalization max --percentile 98 --reset zero --initial-potential 0.25 "
        "--input-encoding poisson --input-rate 0.5 --max-pool fir --softmax clock --delay 2 "
        "--readout-delay 3 --readout-weighting linear --nonspiking allow --dtype float64 --seed 7"
    )
    out = files / "snn.keras"
    status, *_ = run(
        capsys,
        *("convert", files / "cnn.keras", "--calibration", files / "data.npz", "--output", out),
        *text.split(),
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
        readout_weighting="linear",
        nonspiking="allow",
        dtype="float64",
        seed=7,
        verbose=0,
    )
    loaded = keras.models.load_model(out)
    assert loaded.conversion_report.options == snn.conversion_report.options
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), snn.predict(x, verbose=0))


def test_convert_takes_neurons_by_name(files, capsys):
    arguments = [
        "--calibration",
        files / "data.npz",
        "-o",
        files / "snn.keras",
        "--neuron",
        "multi_threshold",
    ]
    assert run(capsys, "convert", files / "cnn.keras", *arguments)[0] == 0
    loaded = keras.models.load_model(files / "snn.keras")
    found = [layer.neuron for layer in loaded.layers if hasattr(layer, "neuron")]
    assert found == [keras_snn.neurons.MultiThreshold()] * len(found) != []


def test_convert_chooses_what_loses_little(files, capsys):
    with np.load(files / "data.npz") as data:
        x, y = (np.concatenate([data[name]] * 20)[:400] for name in "xy")
    np.savez(files / "more.npz", x=x, y=y)
    arguments = ["--calibration", files / "more.npz", "--output", files / "chosen.keras"]
    wish = ["--max-loss", 20, "--minimize", "spikes", "--neurons", "ttfs"]
    status, out, _ = run(capsys, "convert", files / "cnn.keras", *arguments, *wish)
    assert status == 0
    assert "losses on 200 others" in " ".join(out.split())
    model = keras.models.load_model(files / "cnn.keras")
    options = {"max_loss": 20, "minimize": "spikes", "neurons": ["ttfs"], "verbose": 0}
    expected = keras_snn.convert(model, x, y, **options)
    snn = keras.models.load_model(files / "chosen.keras")
    np.testing.assert_array_equal(snn.predict(x, verbose=0), expected.predict(x, verbose=0))
    status, _, err = run(
        capsys, "convert", files / "cnn.keras", *arguments, "--force", *wish[:2], "--delay", 1
    )
    assert status == 0
    status, _, err = run(
        capsys, "convert", files / "cnn.keras", *arguments, "--force", *wish[:2], "--neuron", "signed"
    )
    assert status == 1
    assert "`neuron` is chosen by max_loss" in err


def test_convert_without_data_warns_in_one_line(files, capsys):
    status, _, err = run(capsys, "convert", files / "cnn.keras", "--output", files / "snn.keras")
    assert status == 0
    assert "\nkeras-snn: warning: keras_snn.convert estimated the scales" in "\n" + err


def test_data_sets_of_tfds_are_read_as_pixels_from_0_to_1(files, capsys, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    with np.load(files / "data.npz") as data:
        x, y = np.uint8(np.clip(data["x"], 0, 1) * 255), data["y"]
    asked = []

    def load(name, *, split, batch_size, as_supervised):
        asked.append((name, split))
        assert (batch_size, as_supervised) == (-1, True)
        return x, y

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    snn_path = files / "snn.keras"
    arguments = ["convert", files / "cnn.keras", "--calibration", "tfds:mnist", "-o", snn_path]
    assert run(capsys, *arguments)[0] == 0
    source = keras.models.load_model(files / "cnn.keras")
    loaded = keras.models.load_model(snn_path)
    snn = keras_snn.convert(source, np.float32(x / 255), verbose=0)
    assert loaded.conversion_report == snn.conversion_report
    assert run(capsys, *arguments, "--force", "--raw-pixels")[0] == 0
    snn = keras_snn.convert(source, np.float32(x), verbose=0)
    assert keras.models.load_model(snn_path).conversion_report == snn.conversion_report
    run(capsys, "evaluate", snn_path, "--data", "tfds:mnist:test[:20]", "--timesteps", 1)
    run(capsys, "evaluate", snn_path, "--data", "tfds:mnist", "--timesteps", 1)
    assert asked == [("mnist", split) for split in (*2 * ["train[:1000]"], "test[:20]", "test")]


def test_several_inputs_are_the_arrays_of_their_names(rng, tmp_path, capsys):
    left, right = keras.Input((5,), name="left"), keras.Input((3,), name="right")
    x = keras.layers.Dense(6, activation="relu")(keras.layers.Concatenate()([left, right]))
    outputs = keras.layers.Dense(4, activation="softmax")(x)
    networks.randomize(keras.Model([left, right], outputs), rng).save(tmp_path / "two.keras")
    x = {"right": rng.uniform(0, 1, (9, 3)), "left": rng.uniform(0, 1, (9, 5))}
    y = rng.integers(0, 4, 9)
    np.savez(tmp_path / "data.npz", y=y, **x)
    np.savez(tmp_path / "one.npz", x=x["left"], left=x["left"])
    convert = ["convert", tmp_path / "two.keras", "-o", tmp_path / "snn.keras", "--timesteps", 8]
    status, _, err = run(capsys, *convert, "--calibration", tmp_path / "one.npz")
    assert status == 1
    assert err.endswith(
        "one.npz' must hold arrays named as the inputs of the model, left, right. Received: x, left.\n"
    )
    assert run(capsys, *convert, "--calibration", tmp_path / "data.npz")[0] == 0
    source = keras.models.load_model(tmp_path / "two.keras")
    snn = keras_snn.convert(source, x, timesteps=8, verbose=0)
    _, out, _ = run(capsys, "evaluate", tmp_path / "snn.keras", "--data", tmp_path / "data.npz", "--json")
    accuracy = snn.simulate(x, y).accuracy_over_time.tolist()
    assert json.loads(out) == {"samples": 9, "accuracy_over_time": accuracy}
    pytest.importorskip("matplotlib")
    report = ["report", tmp_path / "snn.keras", "--data", tmp_path / "data.npz", "-o", tmp_path / "r.html"]
    _, out, _ = run(capsys, *report, "--json", "--energy", "45nm_int8")
    printed = json.loads(out)["report"]
    assert printed == json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert printed["agreement"]["accuracy_over_time"] == accuracy
    assert (printed["energy"]["mac"], printed["energy"]["ac"]) == pytest.approx((0.23, 0.03))


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_hdf5_files_of_keras_convert_but_not_those_with_code(suffix, rng, tmp_path, capsys):
    model = networks.randomize(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu")]), rng)
    x = networks.data_for(model, rng)
    model.save(tmp_path / f"cnn{suffix}")
    np.savez(tmp_path / "x.npz", x=x)
    convert = ["--calibration", tmp_path / "x.npz", "-o", tmp_path / "snn.keras", "--timesteps", 4]
    assert run(capsys, "convert", tmp_path / f"cnn{suffix}", *convert)[0] == 0
    expected = keras_snn.convert(model, x, timesteps=4, verbose=0).predict(x, verbose=0)
    found = keras.models.load_model(tmp_path / "snn.keras").predict(x, verbose=0)
    np.testing.assert_array_equal(found, expected)

    code = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda v: v + 1), keras.layers.Dense(3)])
    code.save(tmp_path / f"code{suffix}")
    model.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / f"text{suffix}").write_text("no model")
    for name, wrong in (
        (f"code{suffix}", "must hold no code. Received: a model with a Lambda layer"),
        ("only.weights.h5", "must be a whole model. Received: another format, weights alone"),
        (f"text{suffix}", "must be a whole model. Received: another format"),
    ):
        status, _, err = run(capsys, "check", tmp_path / name)
        assert status == 1
        assert wrong in err
