"""Train a convolutional network, convert it, and compare both on the full test set.

    python examples/03_convert_a_cnn.py --dataset mnist        # or fashion_mnist, cifar10

The data comes from tensorflow-datasets (pip install -e '.[datasets]'), downloaded once or in TFDS_DATA_DIR.
"""

import argparse

import keras
import tensorflow_datasets as tfds
from keras import layers

import keras_snn


def load(dataset, split):
    return tfds.as_numpy(tfds.load(dataset, split=split, batch_size=-1, as_supervised=True))


def train(x, y, epochs):
    model = keras.Sequential([keras.Input(x.shape[1:]), layers.Rescaling(1 / 255)], name="cnn")
    # Without a bias, so that a dark background stays silent.
    model.add(layers.Conv2D(16, 5, padding="same", use_bias=False, activation="relu"))
    model.add(layers.MaxPooling2D())
    for filters, pooling in ((32, layers.MaxPooling2D(2)), (64, layers.AveragePooling2D(2))):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(pooling)
    for layer in (layers.Flatten(), layers.Dropout(0.4), layers.Dense(10, activation="softmax")):
        model.add(layer)
    rate = keras.optimizers.schedules.CosineDecay(0.004, epochs * -(-len(x) // 64))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=2)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="mnist", choices=["mnist", "fashion_mnist", "cifar10"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int, help="use only so many training and test images")
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    split = f"[:{options.samples}]" if options.samples else ""
    x_train, y_train = load(options.dataset, "train" + split)
    x_test, y_test = load(options.dataset, "test" + split)
    model = train(x_train, y_train, options.epochs)
    snn = keras_snn.convert(model, x_train[:500], timesteps=64)
    print(snn.conversion_report)
    run = snn.simulate(x_test, y_test, batch_size=100, verbose=1)
    print(f"\nANN  {model.evaluate(x_test, y_test, verbose=0)[1]:.2%} on {len(x_test)} test images")
    for timesteps in (1, 2, 4, 8, 16, 32, 64):
        print(f"SNN  {run.accuracy_over_time[timesteps - 1]:.2%} after {timesteps} steps")


if __name__ == "__main__":
    main()
