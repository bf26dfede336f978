"""`keras-snn export`."""

import keras
import networks
import numpy as np
import pytest
from commands import run

import keras_snn
from keras_snn.cli import main


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
