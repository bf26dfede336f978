"""What the first call loses with each choice of scales and corrections, on a panel of eleven networks.

    TFDS_DATA_DIR=… python benchmarks/defaults.py [networks] [--only 'if, 32'] [--samples 100 1000]

The defaults of `convert` are chosen by this table, on training images alone: those that calibrate, and 500
others (64 images of the networks of `real_networks.py`) that judge. Five networks are those of `paper/`;
four are trained here, briefly; two are those of others, where their packages are installed. A cell is what
is lost in points: of accuracy; of agreement with the source network where there are no labels, by pixels for
the segmentation; of the deviation of the outputs for the regression (100 × RMS of the error / standard
deviation). Beside it is the relative error of the outputs in front of the softmax, in per cent.
`--samples 0` converts without data, which not every choice can.
"""

import argparse
import pathlib
import sys
import warnings

import keras
import numpy as np
import real_networks
from keras import layers
from machine import describe

import keras_snn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))
import networks

CHOICES = {
    "percentile, layer": {"normalization": "percentile", "per_channel": False, "bias_correction": False},
    "percentile, channel": {"normalization": "percentile", "per_channel": True, "bias_correction": False},
    "mse, layer": {"normalization": "mse", "per_channel": False, "bias_correction": False},
    "mse, channel": {"normalization": "mse", "per_channel": True, "bias_correction": False},
    "percentile, layer, corrected": {
        "normalization": "percentile",
        "per_channel": False,
        "bias_correction": True,
    },
    "mse, layer, corrected": {"normalization": "mse", "per_channel": False, "bias_correction": True},
    "mse, channel, corrected": {"normalization": "mse", "per_channel": True, "bias_correction": True},
    "mse, channel, potential": {"normalization": "mse", "per_channel": True, "bias_correction": "potential"},
    "mse, channel, either": {"normalization": "mse", "per_channel": True, "bias_correction": "either"},
    "mse, channel, either, weighted": {
        "normalization": "mse",
        "per_channel": True,
        "bias_correction": "either",
        "readout_weighting": "auto",
    },
    "default, even average": {"readout_weighting": "uniform"},
    "default, late steps count more": {"readout_weighting": "linear"},
    "mse, channel, either, late": {
        "normalization": "mse",
        "per_channel": True,
        "bias_correction": "either",
        "readout_delay": "auto",
    },
}
NEURONS = {
    "if, 8": ("if", 8),
    "if, 32": ("if", 32),
    "if, 64": ("if", 64),
    "signed, 8": ("signed", 8),
    "multi_threshold, 2": ("multi_threshold", 2),
    "digits": ("digits", None),
}
JUDGING = 500


def of_paper(name):
    """Return a network of `paper/`, images to calibrate, and images and labels to judge."""
    dataset = networks.NETWORKS[name][1]
    x, _ = networks.data(dataset, "train[:1000]")
    return networks.trained(name), x, *networks.data(dataset, f"train[2000:{2000 + JUDGING}]")


def _trained(model, loss, x, y, epochs):
    model.compile("adam", loss)
    model.fit(x[2500:], y[2500:], batch_size=64, epochs=epochs, verbose=0)
    return model, x[:1000], x[2000 : 2000 + JUDGING], y[2000 : 2000 + JUDGING]


def mobilenet_v2():
    """The smallest MobileNetV2 of `keras.applications`, on CIFAR-10."""
    x, y = networks.data("cifar10", "train[:12500]")
    model = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=10, classifier_activation="softmax"
    )
    return _trained(model, "sparse_categorical_crossentropy", x, y, 6)


def sequences():
    """Convolutions in one dimension over the rows of digits."""
    x, y = networks.data("mnist", "train[:12500]")
    blocks = [layers.Conv1D(32 * 2**i, 3, activation="relu", padding="same") for i in range(3)]
    blocks[1:1] = [layers.MaxPooling1D(2)]
    head = [layers.GlobalAveragePooling1D(), layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((28, 28)), *blocks, *head])
    return _trained(model, "sparse_categorical_crossentropy", x[..., 0], y, 3)


def regression():
    """The centre of a digit and its ink, from an image that is moved at random."""
    x, _ = networks.data("mnist", "train[:12500]")
    rng = np.random.default_rng(0)
    x = np.stack([np.roll(image, rng.integers(-6, 7, 2), (0, 1)) for image in x])
    ink = x.sum(axis=(1, 2, 3))
    places = np.arange(28)
    rows, columns = (np.tensordot(x.sum(axis=(3, axis)), places, 1) / ink for axis in (2, 1))
    y = np.stack([rows, columns, ink / 10], axis=-1)
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (8, 16, 32):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu"))
    for layer in (layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(3)):
        model.add(layer)
    return _trained(model, "mse", x, ((y - y.mean(0)) / y.std(0)).astype("float32"), 4)


def segmentation():
    """A small U-Net that finds the digit in noise."""
    clean, _ = networks.data("mnist", "train[:8000]")
    noise = np.random.default_rng(0).uniform(0, 1, clean.shape)
    image = keras.Input((28, 28, 1))
    skips, x = [], image
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    for filters, skip in ((16, skips[1]), (8, skips[0])):
        x = layers.Concatenate()([layers.UpSampling2D(2)(x), skip])
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))
    noisy = (0.6 * clean + 0.4 * noise).astype("float32")
    return _trained(model, "binary_crossentropy", noisy, (clean > 0.5).astype("float32"), 2)


def of_others(name):
    """Return a network of `real_networks.py`, images to calibrate, images to judge, and no labels."""
    return *real_networks.NETWORKS[name](), None


PANEL = {
    **{name: lambda name=name: of_paper(name) for name in ("mnist_cnn", "lenet5", "cifar10_cnn", "resnet")},
    "mobilenet": lambda: of_paper("mobilenet"),
    **{of.__name__: of for of in (mobilenet_v2, sequences, regression, segmentation)},
    **{name: lambda name=name: of_others(name) for name in real_networks.NETWORKS},
}


def loss_of(outputs, of_source, y):
    """Return what is lost, in points, and the relative error of the outputs in per cent."""
    last = of_source.shape[-1]
    if last > 3:
        right = of_source.argmax(-1) if y is None else y
        lost = 100 * (np.mean(of_source.argmax(-1) == right) - np.mean(outputs.argmax(-1) == right))
        outputs, of_source = (np.log(np.maximum(a, 1e-7)) for a in (outputs, of_source))
    elif last == 1:
        lost = 100 * np.mean((outputs > 0.5) != (of_source > 0.5))
    else:
        lost = 100 * np.sqrt(np.mean((outputs - of_source) ** 2)) / of_source.std()
    if last > 1:
        outputs, of_source = (a - a.mean(-1, keepdims=True) for a in (outputs, of_source))
    return lost, 100 * np.linalg.norm(outputs - of_source) / np.linalg.norm(of_source)


def rows_of(name, neurons_tried, numbers, choices_tried):
    """Yield the cells of the rows of a network."""
    keras.utils.set_random_seed(0)
    model, x_calibration, x, y = PANEL[name]()
    of_source = model.predict(x, batch_size=50, verbose=0).astype("float64")
    for label in neurons_tried:
        neuron, timesteps = NEURONS[label]
        for number in sorted({min(number, len(x_calibration)) for number in numbers}):
            cells = []
            for choice in choices_tried:
                options = {"readout_weighting": "uniform", **CHOICES[choice]}
                options |= {"timesteps": timesteps, "neuron": neuron}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    data = x_calibration[:number] if number else None
                    snn = keras_snn.convert(model, data, verbose=0, **options)
                outputs = snn.predict(x, batch_size=50, verbose=0).astype("float64")
                cells.append("{:.2f} / {:.1f}".format(*loss_of(outputs, of_source, y)))
            yield (name, label, number, *cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(PANEL))
    parser.add_argument("--only", nargs="+", choices=NEURONS, default=list(NEURONS))
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 1000])
    options = parser.parse_args()
    columns = ("network", "neuron", "samples", *options.choices)
    print(f"{describe()}\n\n| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|", flush=True)
    for name in options.names or PANEL:
        for cells in rows_of(name, options.only, options.samples, options.choices):
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
