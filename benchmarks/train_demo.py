"""Trains the network of `keras-snn demo` and writes it and its data into the package.

    TFDS_DATA_DIR=… python benchmarks/train_demo.py

Run it with the lowest supported version of Keras: later ones read its files, earlier ones do not.
Deterministic up to the order in which threads add. Prints the accuracy on the full test set.
"""

import pathlib

import keras
import numpy as np
import tensorflow_datasets as tfds
from keras import layers

FOLDER = pathlib.Path(__file__).parent.parent / "keras_snn" / "demo"


def build():
    model = keras.Sequential([keras.Input((28, 28, 1), name="image")], name="mnist_cnn")
    model.add(layers.Rescaling(1 / 255, name="rescaling"))
    for i, filters in enumerate((16, 32, 64), start=1):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{i}"))
        model.add(layers.BatchNormalization(name=f"batch_norm{i}"))
        model.add(layers.ReLU(name=f"relu{i}"))
        model.add(layers.MaxPooling2D(name=f"max_pool{i}"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dropout(0.4, name="dropout"))
    model.add(layers.Dense(10, activation="softmax", name="dense"))
    return model


def main():
    keras.utils.set_random_seed(1)
    (x, y), (x_test, y_test) = (
        tfds.as_numpy(tfds.load("mnist", split=split, batch_size=-1, as_supervised=True))
        for split in ("train", "test")
    )
    model = build()
    epochs = 6
    rate = keras.optimizers.schedules.CosineDecay(0.004, epochs * -(-len(x) // 64))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=2)
    # An optimizer without slots keeps the file small.
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    print(f"accuracy on {len(x_test)} test images: {accuracy:.2%}")
    model.save(FOLDER / "mnist_cnn.keras")
    np.savez_compressed(
        FOLDER / "mnist.npz",
        x_test=x_test[:1000],
        y_test=y_test[:1000].astype("uint8"),
        x_calibration=x[:500],
    )


if __name__ == "__main__":
    main()
