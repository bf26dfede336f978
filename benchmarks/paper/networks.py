"""The networks of Rueckauer et al. (2016), arXiv:1612.04052, a small ResNet and MobileNet, and their data.

Weights are kept beside this file in half precision: a network is what these define, for its
ANN and for its SNN.
"""

import pathlib

import keras
import numpy as np
from keras import layers

from keras_snn.layers import BinaryActivation

WEIGHTS = pathlib.Path(__file__).parent / "weights"


def data(dataset, split):
    """Return `(x, y)` of a split; pixels in [0, 1]."""
    # Benchmarks of speed need the networks only, also where there is no TensorFlow.
    import tensorflow_datasets as tfds

    x, y = tfds.as_numpy(tfds.load(dataset, split=split, batch_size=-1, as_supervised=True))
    return (x / 255).astype("float32"), y


def _network(name, shape, blocks, *, dropout=0.3, pooling=layers.MaxPooling2D, biases=True):
    """Return a network of convolutions `(filters, window, options)`, pools "P" and dense layers.

    The biases are the shifts of batch norms: without them there are no batch norms either.
    """
    model = keras.Sequential([keras.Input(shape, name="image")], name=name)
    convolutions = dense = pools = 0
    for block in blocks:
        if block == "P":
            pools += 1
            model.add(pooling(2, name=f"pool{pools}"))
            continue
        if isinstance(block, tuple):
            filters, window, options = block
            convolutions += 1
            suffix = f"conv{convolutions}"
            model.add(layers.Conv2D(filters, window, use_bias=False, name=suffix, **options))
        else:
            if not dense:
                model.add(layers.Flatten(name="flatten"))
            dense += 1
            suffix = f"dense{dense}"
            model.add(layers.Dropout(dropout, name=f"dropout{dense}"))
            model.add(layers.Dense(block, use_bias=False, name=suffix))
        if biases:
            model.add(layers.BatchNormalization(name=f"norm_{suffix}"))
        model.add(layers.ReLU(name=f"relu_{suffix}"))
    model.add(layers.Dropout(dropout, name="dropout"))
    model.add(layers.Dense(10, use_bias=False, activation="softmax", name="output"))
    return model


def cifar10_cnn(pooling=layers.MaxPooling2D):
    """32C3-32C3-P2-64C3-64C3-P2-FC512-FC10: 40,855,552 operations."""
    same, valid = {"padding": "same"}, {}
    blocks = [(32, 3, same), (32, 3, same), "P", (64, 3, valid), (64, 3, valid), "P", 512]
    return _network("cifar10_cnn", (32, 32, 3), blocks, dropout=0.2, pooling=pooling)


def mnist_cnn():
    """16C5/2-32C3-P2-FC800-FC10."""
    return _network("mnist_cnn", (28, 28, 1), [(16, 5, {"strides": 2}), (32, 3, {}), "P", 800])


def lenet5(biases=True):
    """6C5-P2-16C5-P2-120C5-FC84-FC10."""
    blocks = [(6, 5, {}), "P", (16, 5, {}), "P", (120, 5, {"padding": "same"}), 84]
    return _network("lenet5", (28, 28, 1), blocks, dropout=0.1, biases=biases)


def binarynet(function):
    """A small BinaryNet: 32C3-P2-64C3-P2-128C3-P2-FC128-FC10, binary activations, real weights."""
    model = keras.Sequential([keras.Input((32, 32, 3), name="image")], name=f"binarynet_{function}")
    for i, filters in enumerate((32, 64, 128), start=1):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{i}"))
        model.add(layers.MaxPooling2D(2, name=f"pool{i}"))
        model.add(layers.BatchNormalization(name=f"norm_conv{i}"))
        model.add(BinaryActivation(function, name=f"{function}_conv{i}"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(128, use_bias=False, name="dense"))
    model.add(layers.BatchNormalization(name="norm_dense"))
    model.add(BinaryActivation(function, name=f"{function}_dense"))
    model.add(layers.Dense(10, activation="softmax", name="output"))
    return model


def _normalized(x, layer, suffix, activation):
    """Return a layer of `x` without bias, a batch norm after it, and an activation if there is one."""
    x = layers.BatchNormalization(name=f"norm_{suffix}")(layer(x))
    return layers.Activation(activation, name=f"relu_{suffix}")(x) if activation else x


def resnet():
    """16C3, residual blocks of 16, 32 and 64 channels, global average pooling (He et al. 2016, CVPR)."""

    def convolution(x, filters, window, strides, suffix, activation):
        options = {"strides": strides, "padding": "same", "use_bias": False, "name": suffix}
        return _normalized(x, layers.Conv2D(filters, window, **options), suffix, activation)

    image = keras.Input((32, 32, 3), name="image")
    x = convolution(image, 16, 3, 1, "conv", "relu")
    for block, (filters, strides) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        y = convolution(x, filters, 3, strides, f"block{block}_conv1", "relu")
        y = convolution(y, filters, 3, 1, f"block{block}_conv2", None)
        if strides > 1:
            x = convolution(x, filters, 1, strides, f"block{block}_shortcut", None)
        x = layers.Add(name=f"block{block}_add")([x, y])
        x = layers.ReLU(name=f"block{block}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="output")(x), name="resnet")


def mobilenet():
    """24C3 and four depthwise separable blocks of 48 to 192 channels, with relu6 (arXiv:1704.04861)."""
    options = {"padding": "same", "use_bias": False}
    image = keras.Input((32, 32, 3), name="image")
    x = _normalized(image, layers.Conv2D(24, 3, name="conv", **options), "conv", "relu6")
    for block, (filters, strides) in enumerate(((48, 2), (96, 1), (96, 1), (192, 2)), start=1):
        depthwise, pointwise = f"block{block}_depthwise", f"block{block}_pointwise"
        x = _normalized(x, layers.DepthwiseConv2D(3, strides, name=depthwise, **options), depthwise, "relu6")
        x = _normalized(x, layers.Conv2D(filters, 1, name=pointwise, **options), pointwise, "relu6")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="output")(x), name="mobilenet")


# Name: how to build it, its data, and the stages of its training as `train.train` takes them.
MNIST = [("adamw", 0.003, 8, ())]
NETWORKS = {
    "mnist_cnn": (mnist_cnn, "mnist", MNIST),
    "lenet5": (lenet5, "mnist", MNIST),
    "lenet5_no_biases": (lambda: lenet5(biases=False), "mnist", MNIST),
    "cifar10_cnn": (
        cifar10_cnn,
        "cifar10",
        [
            ("sgd", 0.1, 40, ("move",)),
            ("sgd", 0.05, 30, ("move", "colour", "hole")),
            ("sgd", 0.05, 30, ("move", "colour", "hole", "mix")),
        ],
    ),
    "cifar10_cnn_average": (
        lambda: cifar10_cnn(layers.AveragePooling2D),
        "cifar10",
        [("sgd", 0.1, 12, ("move",))],
    ),
    "resnet": (resnet, "cifar10", [("sgd", 0.1, 8, ("move",))]),
    "mobilenet": (mobilenet, "cifar10", [("sgd", 0.1, 8, ("move",))]),
    "binarynet_sign": (lambda: binarynet("sign"), "cifar10", [("adamw", 0.003, 10, ("move",))]),
    "binarynet_heaviside": (lambda: binarynet("heaviside"), "cifar10", [("adamw", 0.003, 10, ("move",))]),
}


def store(name, model):
    """Write the weights of a network, in half precision, of which kernels keep 6 significant bits."""
    WEIGHTS.mkdir(exist_ok=True)
    arrays = {}
    for i, weight in enumerate(model.get_weights()):
        if weight.ndim > 1:
            mantissa, exponent = np.frexp(weight)
            weight = np.ldexp(np.round(mantissa * 2**6), exponent - 6)
        arrays[f"{i:03d}"] = weight.astype("float16")
    np.savez_compressed(WEIGHTS / f"{name}.npz", **arrays)


def trained(name):
    """Return a network with the weights that are kept."""
    path = WEIGHTS / f"{name}.npz"
    if not path.exists():
        raise SystemExit(f"{path} must be there. Run: python benchmarks/paper/train.py {name}")
    model = NETWORKS[name][0]()
    with np.load(path) as arrays:
        model.set_weights([arrays[key].astype("float32") for key in sorted(arrays.files)])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
