import subprocess
import sys
import warnings

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn

tf = pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("Keras exports a loop over time on TensorFlow only", allow_module_level=True)


@pytest.fixture
def network(rng):
    """A spiking network whose sums are exact, inputs, and what it makes of them."""
    source = keras.Sequential(
        [
            keras.Input((9, 8, 2)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    x = networks.data_for(networks.randomize(source, rng), rng, samples=5, dyadic=True)
    snn = keras_snn.convert(source, x, timesteps=11, verbose=0)
    snn.set_weights([np.round(w * 16) / 16 for w in snn.get_weights()])
    return snn, x, snn.predict(x, verbose=0)


@pytest.mark.process
def test_a_saved_model_is_served_where_this_package_cannot_be_imported(network, tmp_path):
    snn, x, expected = network
    snn.export(tmp_path / "saved", verbose=False)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['keras_snn'] = sys.modules['keras'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        "served, x = tf.saved_model.load('saved'), np.load('x.npy')\n"
        "np.save('y.npy', np.concatenate([served.serve(x[:3]), served.serve(x[3:])]))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_litert_computes_the_same(network, tmp_path):
    snn, x, expected = network
    snn.export(tmp_path / "snn.tflite", format="litert", verbose=False)
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter  # noqa: N806
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(str(tmp_path / "snn.tflite"))
    (given,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(gives["index"]), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_onnx_computes_the_same(network, tmp_path):
    import onnxruntime

    snn, x, expected = network
    snn.export(tmp_path / "snn.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "snn.onnx"))
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def test_an_export_takes_images_in_the_dtype_of_the_source(rng, tmp_path):
    source = keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    x = rng.integers(0, 256, (4, 8, 8, 1)).astype("uint8")
    snn = keras_snn.convert(source, x, timesteps=8, verbose=0)
    snn.export(tmp_path / "saved", verbose=False)
    # Held, since TensorFlow deletes the variables of a model that nobody holds.
    loaded = tf.saved_model.load(tmp_path / "saved")
    served = loaded.serve(tf.constant(x)).numpy()
    np.testing.assert_allclose(served, snn.predict(x, verbose=0), rtol=0, atol=1e-6)
    assert loaded.signatures["serve"].structured_input_signature[1].popitem()[1].dtype == tf.uint8
