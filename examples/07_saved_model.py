"""Export the demo network as a SavedModel, and serve it in a process that does not have keras_snn.

python examples/07_saved_model.py --output folder
"""

import argparse
import importlib.resources
import pathlib
import subprocess
import sys

import keras
import numpy as np

import keras_snn

SERVE = """
import sys
sys.modules["keras_snn"] = sys.modules["keras"] = None  # neither can be imported
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], served.serve(np.load(sys.argv[2])))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("saved_snn"))
    options = parser.parse_args()
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        x_calibration, x, y = data["x_calibration"], data["x_test"][:100], data["y_test"][:100]
    snn = keras_snn.convert(model, x_calibration, timesteps=8, verbose=0)
    snn.export(options.output, verbose=False)

    given, gives = options.output / "x.npy", options.output / "y.npy"
    np.save(given, x)
    subprocess.run([sys.executable, "-c", SERVE, options.output, given, gives], check=True)
    served = np.load(gives)
    print(f"served: {np.mean(served.argmax(-1) == y):.1%} of {len(x)} digits right")
    print("as here:", np.allclose(served, snn.predict(x, verbose=0), atol=1e-5))


if __name__ == "__main__":
    main()
