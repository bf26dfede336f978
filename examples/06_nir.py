"""Write a spiking network as a NIR file, which other simulators and chip tool chains read, and read it back.

python examples/06_nir.py --output digits.nir

Needs the package nir: pip install -e '.[nir]'. docs/deploying.md shows how to configure each reader for
the reset.
"""

import argparse
import importlib.resources
import pathlib

import keras
import numpy as np

import keras_snn


def load_digits():
    with (
        (importlib.resources.files("keras_snn.demo") / "mnist.npz").open("rb") as file,
        np.load(file) as data,
    ):
        return data["x_calibration"], data["x_test"], data["y_test"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("digits.nir"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x_calibration, x, y = load_digits()
    # Average pooling: NIR has no maximum.
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Conv2D(8, 5, activation="relu", name="conv"),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax", name="scores"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:700], y[:700], epochs=8, batch_size=20, verbose=0)

    snn = keras_snn.convert(model, x_calibration, timesteps=16, verbose=0)
    try:
        keras_snn.export_nir(snn, options.output)
    except keras_snn.errors.ExportError as error:
        print(error, end="\n\n")
    keras_snn.export_nir(snn, options.output, accept=("reset", "threshold", "initial_potential"))

    back = keras_snn.import_nir(options.output)
    agree = snn.predict(x[700:], verbose=0).argmax(-1) == back.predict(x[700:], verbose=0).argmax(-1)
    print(f"wrote {options.output}; read back, {agree.mean():.1%} of the predictions agree")


if __name__ == "__main__":
    main()
