"""Watch the firing rates of the digit network that comes with the package in TensorBoard.

python examples/04_tensorboard.py --log-dir logs
tensorboard --logdir logs
"""

import argparse
import importlib.resources

import keras
import numpy as np

import keras_snn


def load_demo():
    """Return the trained network, and digits for calibration and for the test."""
    folder = importlib.resources.files("keras_snn") / "demo"
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with importlib.resources.as_file(folder / "mnist.npz") as path, np.load(path) as data:
        return model, data["x_calibration"], data["x_test"], data["y_test"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--log-dir", default="logs")
    parser.add_argument("--samples", type=int, default=500)
    options = parser.parse_args()
    model, x_calibration, x, y = load_demo()
    x, y = x[: options.samples], y[: options.samples]
    snn = keras_snn.convert(model, x_calibration, timesteps=16)
    callback = keras_snn.callbacks.SpikeRateTensorBoard(
        options.log_dir, histogram_freq=1, accuracy_data=(x, y)
    )
    snn.evaluate(x, y, callbacks=[callback])
    print(f"Now run: tensorboard --logdir {options.log_dir}")


if __name__ == "__main__":
    main()
