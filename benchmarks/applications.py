"""Conversion of the networks of `keras.applications`, with random weights; one process per row.

python benchmarks/applications.py [--networks MobileNet ResNet50]

Random weights make no classifier, so correlations take the place of accuracy: of the logits of network
and spiking network, with and without their mean over the images, and of activations and firing rates,
layer by layer. "Ideal" is the latter if all activations are rounded to spike counts and clipped at λ.
Memory is the peak so far: before conversion, after it, and after all simulations.
"""

import argparse
import dataclasses
import resource
import subprocess
import sys
import time

import keras
import numpy as np
from keras import ops
from machine import describe

import keras_snn
from keras_snn.conversion.normalization import relus
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold
from keras_snn.graph.to_keras import build_analog

# Convert by default.
PLAIN = (
    *("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet50V2", "InceptionV3", "InceptionResNetV2"),
    *("Xception", "MobileNet", "MobileNetV2", "DenseNet121", "NASNetMobile"),
)
# Convert with nonspiking="allow", and rescale pixels themselves.
MIXED = ("EfficientNetB0", "EfficientNetV2B0", "MobileNetV3Small", "ConvNeXtTiny")
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
STEPS = (64, 256)
IN_STATISTICS, IN_CALIBRATION, IN_TEST, IN_LOWERING = 32, 16, 8, 1
OF_STEPS = ("r of logits", "without mean", "r of layers: mean (least)", "ideal", "s")
COLUMNS = (
    *("network", "nonspiking", "nodes", "error of lowering", "spiking layers", "others", "conversion, s"),
    *(f"{column}, T = {timesteps}" for timesteps in STEPS for column in OF_STEPS),
    *("MiB before", "converted", "simulated", "remarks"),
)


@dataclasses.dataclass(frozen=True)
class RoundedRelu:
    """Stands in for neurons: one step gives the rate of `timesteps` steps, rounded and clipped."""

    timesteps: int
    v_threshold = 1.0

    def initial_state(self, shape, dtype):
        return [ops.zeros(shape, dtype)]

    def step(self, current, state):
        return ops.clip(ops.floor(current * self.timesteps + 0.5) / self.timesteps, 0.0, 1.0), state


def make(name, rng):
    """Return a network with weights, images of its statistics, and images to test it on."""
    size = SIZES.get(name, 64)
    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=100, classifier_activation=None
    )
    low, high = (0, 255) if name in MIXED else (-1, 1)
    coarse = rng.uniform(low, high, (IN_STATISTICS + IN_TEST, 6, 6, 3)).astype("float32")
    x = ops.convert_to_numpy(ops.image.resize(coarse, (size, size)))
    randomise(model, x[:IN_STATISTICS], rng)
    return model, x[:IN_STATISTICS], x[IN_STATISTICS:]


def randomise(model, x, rng):
    """Draw all weights of a model; its batch norm statistics become those of `x`, somewhat changed."""
    for variable in model.weights:
        shape = tuple(variable.shape)
        if "kernel" in variable.name:
            # A depthwise kernel ends in the number of outputs of each channel, which is 1.
            fan_in = np.prod(shape[:2] if shape[-1] == 1 else shape[:-1])
            variable.assign(rng.normal(0.0, np.sqrt(2 / fan_in), shape))
        elif variable.name == "gamma" or "layer_scale" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif variable.name == "beta":
            # Around 0, each batch norm with its relu would amplify errors by a fifth, which
            # trained ones do not: after some dozens, that of rounding would be all there is.
            variable.assign(rng.normal(1.0, 0.1, shape))
        elif variable.name == "bias":
            variable.assign(rng.normal(0.0, 0.1, shape))
    batch_norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in batch_norms:
        # The moving statistics become those of the batch.
        layer.momentum = 0.0
    model(x, training=True)
    for layer in batch_norms:
        mean, variance = (ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance))
        layer.moving_mean.assign(mean + 0.1 * np.sqrt(variance) * rng.normal(size=mean.shape))
        layer.moving_variance.assign(variance * rng.uniform(0.8, 1.25, variance.shape))


def peak_memory():
    """Return the largest memory of this process so far, in MiB."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def converted(model, x, x_test, nonspiking):
    """Yield the cells about the spiking network."""
    logits = model.predict(x_test, verbose=0)
    yield "MiB before", peak_memory()
    start = time.perf_counter()
    snn = keras_snn.convert(
        model, x[:IN_CALIBRATION], preset="rueckauer2017", nonspiking=nonspiking, verbose=0
    )
    yield "conversion, s", f"{time.perf_counter() - start:.1f}"
    yield "converted", peak_memory()
    calls = {layer.name for layer in snn.conversion_report.layers if layer.scale is not None}
    yield "spiking layers", len(calls)
    yield "others", len(snn.conversion_report.nonspiking_layers)
    expected = activations(fold(lower(model, nonspiking=nonspiking)), x_test, calls)
    for timesteps in STEPS:
        start = time.perf_counter()
        run = snn.simulate(x_test, timesteps=timesteps, record=["spike_counts"])
        seconds = f"{time.perf_counter() - start:.0f}"
        with_mean = correlation(logits, run.outputs)
        without_mean = correlation(logits - logits.mean(axis=0), run.outputs - run.outputs.mean(axis=0))
        of_layers, of_ideal = compare(expected, run.spike_counts), ideal(snn, x_test, timesteps, expected)
        cells = (f"{with_mean:.4f}", f"{without_mean:.4f}", of_layers, of_ideal, seconds)
        yield from zip((f"{column}, T = {timesteps}" for column in OF_STEPS), cells, strict=True)
    yield "simulated", peak_memory()


def activations(graph, x, calls):
    """Return the activations of the source network, by name of the spiking call they became."""
    values = build_analog(graph, lambda name: keras.layers.Identity()).predict(x, verbose=0) if calls else {}
    found = {}
    for node in relus(graph):
        # A linear layer and the relu after it are one call, under the name of the former.
        names = [name.replace("/", "_") for name in (*node.inputs, node.name)]
        found[next(name for name in names if name in calls)] = values[node.name]
    return found


def compare(expected, counts):
    """Return mean and minimum over the layers of the correlation of activations and spike counts."""
    if expected.keys() != counts.keys():
        raise RuntimeError("The names of the spiking layers are not those of the relus.")
    of_layer = [correlation(expected[name], counts[name]) for name in counts]
    return f"{np.mean(of_layer):.3f} ({np.min(of_layer):.3f})" if of_layer else ""


def ideal(snn, x, timesteps, expected):
    """Return what `compare` returns if every neuron gives its count at once."""
    layers = [layer for layer in snn.layers if hasattr(layer, "neuron")]
    neurons = [layer.neuron for layer in layers]
    for layer in layers:
        layer.neuron = RoundedRelu(timesteps)
    run = snn.simulate(x, timesteps=1, record=["spike_counts"])
    for layer, neuron in zip(layers, neurons, strict=True):
        layer.neuron = neuron
    return compare(expected, run.spike_counts)


def lowered(model, x, x_test, nonspiking):
    """Yield the cells about the graph, computed in NumPy."""
    graph = lower(model, nonspiking=nonspiking)
    expected = model.predict(x_test[:IN_LOWERING], verbose=0)
    error = np.abs(evaluate(graph, x_test[:IN_LOWERING]) - expected).max() / np.abs(expected).max()
    yield "nodes", len(graph.nodes)
    yield "error of lowering", f"{error:.0e}"
    if not error <= 1e-4:
        raise RuntimeError("Lowering changed the function.")


def refused(model, x, x_test, nonspiking):
    """Yield how it converts, having checked that a network with other activations needs that."""
    if nonspiking == "allow":
        try:
            keras_snn.convert(model, x, preset="rueckauer2017", verbose=0)
        except keras_snn.errors.UnsupportedLayerError:
            yield "nonspiking", "allow"
        else:
            raise RuntimeError("It converts without nonspiking='allow' too.")


def measure(name):
    """Return the cells of the row of a network, as far as they come."""
    row, remarks = {"network": name}, []
    case = (*make(name, np.random.default_rng(1)), "allow" if name in MIXED else "error")
    for part in (converted, lowered, refused):
        try:
            row.update(part(*case))
        except Exception as error:
            remarks.append(f"{type(error).__name__}: {error}".splitlines()[0])
    return {**row, "remarks": ", ".join(remarks)}


def print_row(cells):
    texts = [str(cells.get(column, "")).replace("|", "/") for column in COLUMNS]
    print(f"| {' | '.join(texts)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = {"choices": PLAIN + MIXED, "metavar": "NAME"}
    parser.add_argument("--networks", nargs="+", default=PLAIN + MIXED, **names)
    parser.add_argument("--row", help="measure this one in this process", **names)
    options = parser.parse_args()
    if options.row:
        print_row(measure(options.row))
        return
    print(f"{describe()}\n\n| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|", flush=True)
    for name in options.networks:
        code = subprocess.run([sys.executable, __file__, "--row", name], check=False).returncode
        if code:
            print_row({"network": name, "remarks": f"ended with code {code}"})


if __name__ == "__main__":
    main()
