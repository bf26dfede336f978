import contextlib
import json
import os
import re
import subprocess
import sys
import typing

import keras
import networks
import numpy as np
import pytest

import keras_snn
from keras_snn.cli import main
from keras_snn.cli.arguments import parser
from keras_snn.cli.choices import CHOICES, DEFAULT_NEURON, DEFAULT_TIMESTEPS
from keras_snn.conversion import options
from keras_snn.conversion.search import Minimize


@pytest.fixture
def files(rng, tmp_path):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=20)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    model.save(tmp_path / "cnn.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path


def run(capsys, *arguments):
    """Return the exit status, standard output and standard error of the command."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


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


def test_layers_lists_what_converts(capsys):
    status, out, _ = run(capsys, "layers")
    assert status == 0
    assert {"Conv2D", "Dense", "BatchNormalization"} <= set(out.split())


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
        ([], "COMMAND"),
    ],
)
def test_wrong_usage_has_a_status_of_its_own(arguments, wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert wrong in capsys.readouterr().err


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


def test_an_export_runs_without_this_package(files, capsys):
    tf = pytest.importorskip("tensorflow")
    data = files / "data.npz"
    arguments = ["--calibration", data, "-o", files / "snn.keras", "--timesteps", 5]
    run(capsys, "convert", files / "cnn.keras", *arguments)
    status, _, err = run(capsys, "export", files / "snn.keras", "-o", files / "saved")
    if keras.backend.backend() == "torch":
        assert status == 1
        assert "must end in .nir on PyTorch, where Keras writes no SavedModel. Received: " in err
        assert not (files / "saved").exists()
        return
    assert status == 0
    served = tf.saved_model.load(str(files / "saved"))
    with np.load(data) as arrays:
        x = np.float32(arrays["x"])
    expected = keras.models.load_model(files / "snn.keras").predict(x, verbose=0)
    np.testing.assert_allclose(served.serve(x), expected, rtol=0, atol=1e-6)


def test_an_export_to_nir_is_that_of_the_function(files, capsys, rng):
    pytest.importorskip("nir")
    source = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)]
    )
    keras_snn.convert(networks.randomize(source, rng), np.ones((2, 4)), timesteps=3, verbose=0).save(
        files / "dense.keras"
    )
    status, _, err = run(capsys, "export", files / "dense.keras", "-o", files / "net.nir")
    assert status == 1
    assert "does 3 things that a NIR file has no field for" in err
    accept = ["--accept", "reset", "threshold", "initial_potential", "--dt", "0.5"]
    assert run(capsys, "export", files / "dense.keras", "-o", files / "net.nir", *accept)[0] == 0
    assert keras_snn.import_nir(files / "net.nir").timesteps == 3
    assert run(capsys, "export", files / "dense.keras", "-o", files / "net.nir", *accept)[0] == 1


def runs_like(path, x):
    """Return what the runtime of a file, known by its suffix, computes."""
    if path.suffix == ".onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        return session.run(None, {session.get_inputs()[0].name: x})[0]
    tf = pytest.importorskip("tensorflow")
    if path.suffix == ".tflite":
        interpreter = tf.lite.Interpreter(model_path=str(path))
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    served = tf.saved_model.load(str(path))
    return served.serve(x)


@pytest.fixture
def spiking(files, capsys):
    arguments = ["--calibration", files / "data.npz", "-o", files / "snn.keras", "--timesteps", 3]
    run(capsys, "convert", files / "cnn.keras", *arguments)
    with np.load(files / "data.npz") as arrays:
        return files / "snn.keras", np.float32(arrays["x"])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras writes these on TensorFlow")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["net.onnx", "net.tflite", "net", "net.v2/"])
def test_an_export_is_what_its_suffix_names(name, spiking, files, capsys):
    snn, x = spiking
    if name == "net.onnx":
        pytest.importorskip("tf2onnx")
    status, _, err = run(capsys, "export", snn, "-o", f"{files}/{name}")
    assert status == 0, err
    path = files / name
    assert path.is_file() == (path.suffix in (".onnx", ".tflite"))
    expected = keras.models.load_model(snn).predict(x, verbose=0)
    np.testing.assert_allclose(runs_like(path, x), expected, rtol=0, atol=1e-5)


def test_an_export_of_another_suffix_is_refused_by_name(spiking, files, capsys):
    before = sorted(files.iterdir())
    for name in ("net.xyz", "net.onnx.gz", "net.ONNX", "net.keras", "net.h5", "a.v2", ".nir"):
        with pytest.raises(SystemExit) as stopped:
            main(["export", str(spiking[0]), "-o", f"{files}/{name}"])
        assert stopped.value.code == 2
        shown = capsys.readouterr().err
        assert f"must be a folder or end in .nir, .onnx, .tflite, received '{files}/{name}'" in shown
        assert sorted(files.iterdir()) == before


def test_an_export_to_a_folder_named_as_a_file_is_refused(spiking, files, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(spiking[0]), "-o", f"{files}/net.tflite/"])
    assert "must be a folder that does not end in .nir, .onnx, .tflite" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["net.onnx", "net.tflite", "net", "net.v2"])
def test_the_suffix_decides_what_the_method_exports(name, spiking, files, monkeypatch):
    snn = keras.models.load_model(spiking[0])
    monkeypatch.setattr(keras.Model, "export", lambda self, path, kind, **_: kind)
    formats = {"net.onnx": "onnx", "net.tflite": "litert"}
    assert snn.export(files / name) == formats.get(name, "tf_saved_model")
    assert snn.export(str(files / name), format="openvino") == "openvino"
    for other in (".nir", ".keras"):
        with pytest.raises(ValueError, match="must end in .onnx or .tflite, or name a folder"):
            snn.export(files / f"net{other}")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras writes these on TensorFlow")
@pytest.mark.parametrize("name", ["net.onnx", "net.tflite"])
def test_an_export_without_its_package_names_what_to_install(name, spiking, files, capsys, monkeypatch):
    def missing(*args, **kwargs):
        raise ImportError("No module named 'it'")

    monkeypatch.setattr(keras.Model, "export", missing)
    before = sorted(files.iterdir())
    status, _, err = run(capsys, "export", spiking[0], "-o", files / name)
    assert status == 1
    package = {"net.onnx": "keras-snn[onnx]", "net.tflite": "tensorflow"}[name]
    assert err.strip().endswith(f"Received: No module named 'it'. Install it: pip install '{package}'.")
    assert sorted(files.iterdir()) == before


def test_evaluate_of_one_sigmoid_and_among_the_largest(rng, tmp_path, capsys):
    for units, activation in ((1, "sigmoid"), (6, "softmax")):
        layers = [keras.layers.Dense(9, activation="relu"), keras.layers.Dense(units, activation)]
        model = networks.randomize(keras.Sequential([keras.Input((4,)), *layers]), rng)
        x = rng.uniform(size=(40, 4)).astype("float32")
        snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
        snn.save(tmp_path / "snn.keras")
        y = rng.integers(0, max(units, 2), 40)
        np.savez(tmp_path / "data.npz", x=x, y=y)
        top = ["--top-k", 3] if units > 1 else []
        arguments = ["evaluate", tmp_path / "snn.keras", "--data", tmp_path / "data.npz", "--json", *top]
        status, out, err = run(capsys, *arguments)
        assert status == 0, err
        outputs = snn.predict(x, verbose=0)
        right = (outputs[:, 0] > 0.5) == y if units == 1 else outputs.argmax(axis=-1) == y
        assert json.loads(out)["accuracy_over_time"][-1] == pytest.approx(right.mean())
        if top:
            order = np.argsort(-outputs, axis=-1)[:, :3]
            expected = (order == y[:, None]).any(axis=-1).mean()
            assert json.loads(out)["top_k_accuracy_over_time"][-1] == pytest.approx(expected)


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


# Runs one command after the other, each followed by its exit status.
START = """
import json, sys
sys.argv[0] = "keras-snn"
from keras_snn.cli import main
for arguments in json.loads(sys.argv.pop()) if len(sys.argv) > 1 else [[]]:
    sys.argv[1:] = arguments
    try:
        status = main()
    except SystemExit as stopped:
        status = stopped.code
    print("status", status, flush=True)
sys.exit(status)
"""


def in_terminal(*commands, columns=80, folder=None):
    """Run commands in a pseudo-terminal; return `(exit status, lines on the screen)` of each."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    process = subprocess.Popen(
        [sys.executable, "-c", START, json.dumps(commands)],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # Linux reports that the other side has closed
        while part := os.read(ours, 2**16):
            output += part
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.decode())
    process.wait()
    # A carriage return or backspaces write over the line so far: what counts is what was last.
    lines = [re.split(r"[\r\x08]+", line.rstrip("\r"))[-1] for line in text.split("\n")]
    results, shown = [], []
    for line in lines:
        if line.startswith("status "):
            results.append((int(line.removeprefix("status ")), shown))
            shown = []
        else:
            shown.append(line)
    assert len(results) == len(commands), text
    return results


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


def test_check_prints_a_verdict_for_every_layer(files, capsys):
    status, out, _ = run(capsys, "check", files / "cnn.keras")
    assert status == 0
    assert out.splitlines()[2].split() == ["conv", "keras.layers.Conv2D", "linear", "constants"]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "gelu"), keras.layers.Dense(2)])
    model.save(files / "gelu.keras")
    status, out, err = run(capsys, "check", files / "gelu.keras")
    assert status == 1
    assert "activation='gelu' in front of other layers" in out
    assert "does not convert" in err
    assert run(capsys, "check", files / "gelu.keras", "--nonspiking", "allow")[0] == 0


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


def test_the_demo_leaves_files_for_the_command_that_it_proposes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "demo", "--samples", 20, "--output", "digits")
    assert status == 0
    written = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "digits").iterdir())
    assert written == re.findall(r"^wrote (.*)$", out, re.MULTILINE)
    assert {"digits/cnn.keras", "digits/snn.keras", "digits/report.html"} < set(written)
    while proposed := re.search(r"^next: keras-snn ((?:convert|evaluate) .*)$", err, re.MULTILINE):
        arguments = proposed[1].replace(" test.npz", " digits/test.npz").split()
        status, out, err = run(capsys, *arguments)
        assert status == 0, err
    assert re.search(
        r"^next: keras-snn report digits/few_steps.keras --data digits/test.npz", err, re.MULTILINE
    )
    assert run(capsys, "demo", "--samples", 20, "--output", "digits")[0] == 1


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


def test_completion_of_a_shell_has_every_command(capsys):
    pytest.importorskip("shtab")
    status, out, _ = run(capsys, "completion", "bash")
    assert status == 0
    assert all(name in out for name in ("convert", "--calibration", "multi_threshold"))
