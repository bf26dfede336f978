"""Reproduces the tables of Rueckauer et al. (2016 and 2017) and prints them beside the published numbers.

    TFDS_DATA_DIR=… python benchmarks/paper/evaluate.py [experiments] [--samples 1000]

Every experiment writes its part of results.json; what is there is not run again. An interrupted
experiment goes on at its last thousand images. `--list` shows the experiments.
"""

import argparse
import json
import pathlib
import sys
import time

import keras
import networks
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from machine import describe

import keras_snn
from keras_snn.neurons import IntegrateAndFire

FOLDER = pathlib.Path(__file__).parent
RESULTS = FOLDER / "results.json"
PARTS = FOLDER / "backups"
PART = 1000
ZERO = {"reset": "zero", "initial_potential": 0.0}
SUBTRACT = {"reset": "subtract", "initial_potential": 0.0}
PAPER = {"neuron": SUBTRACT}

# Name: network, time steps, number of test images (None: the value of --samples), options of `convert`.
EXPERIMENTS = {
    "mnist": ("mnist_cnn", 50, 10_000, {}),
    "mnist, V(0) = 0": ("mnist_cnn", 50, 10_000, PAPER),
    "lenet5": ("lenet5", 50, 10_000, {}),
    "lenet5, V(0) = 0": ("lenet5", 50, 10_000, PAPER),
    "lenet5 without biases": ("lenet5_no_biases", 50, 10_000, {}),
    "cifar10": ("cifar10_cnn", 400, 10_000, {}),
    "ladder 1: no normalization, Poisson input, reset to zero": (
        "cifar10_cnn",
        200,
        None,
        {"normalization": "none", "input_encoding": "poisson", "neuron": ZERO},
    ),
    "ladder 2: + maximum": (
        "cifar10_cnn",
        200,
        None,
        {"normalization": "max", "input_encoding": "poisson", "neuron": ZERO},
    ),
    "ladder 3: + reset by subtraction": (
        "cifar10_cnn",
        200,
        None,
        {"normalization": "max", "input_encoding": "poisson", "neuron": SUBTRACT},
    ),
    "ladder 4: + analog input": ("cifar10_cnn", 200, 5000, {"normalization": "max", "neuron": SUBTRACT}),
    "ladder 5: + percentile 99.9": ("cifar10_cnn", 200, 5000, PAPER),
    "average pooling": ("cifar10_cnn_average", 200, None, {}),
    **{
        f"max pooling: {gate}": ("cifar10_cnn", 200, None, {"max_pool": gate})
        for gate in ("fir", "avg", "exp")
    },
    **{
        f"softmax: {method}": ("cifar10_cnn", 200, None, {"softmax": method})
        for method in ("poisson", "clock")
    },
    **{
        f"percentile {percentile}": ("cifar10_cnn", 200, None, {"percentile": percentile})
        for percentile in (99, 99.5, 99.99, 100)
    },
    **{f"delay {delay}": ("cifar10_cnn", 200, None, {"delay": delay}) for delay in (2, 5, 10)},
    **{f"read-out from step {n + 1}": ("cifar10_cnn", 200, None, {"readout_delay": n}) for n in (10, 50)},
    "mnist, bfloat16": ("mnist_cnn", 50, 10_000, {"dtype": "mixed_bfloat16"}),
    "cifar10, bfloat16": ("cifar10_cnn", 64, 10_000, {"dtype": "mixed_bfloat16"}),
    "BinaryNet, sign": ("binarynet_sign", 10, None, {}),
    "BinaryNet, Heaviside": ("binarynet_heaviside", 10, None, {}),
    "BinaryNet, sign, Poisson input": ("binarynet_sign", 200, None, {"input_encoding": "poisson"}),
    "BinaryNet, Heaviside, Poisson input": ("binarynet_heaviside", 200, None, {"input_encoding": "poisson"}),
}


def convert(name, options, timesteps):
    """Return the ANN and the SNN of an experiment."""
    dataset = networks.NETWORKS[name][1]
    model = networks.trained(name)
    options = dict(options)
    if "neuron" in options:
        options["neuron"] = IntegrateAndFire(**options["neuron"])
    x, _ = networks.data(dataset, "train[:1000]")
    return model, keras_snn.convert(
        model, x, timesteps=timesteps, preset="rueckauer2017", seed=1, verbose=0, **options
    )


def run(experiment, samples):
    """Return the results of an experiment: errors in percent."""
    name, timesteps, wanted, options = EXPERIMENTS[experiment]
    samples = wanted or samples
    dataset = networks.NETWORKS[name][1]
    x, y = networks.data(dataset, f"test[:{samples}]")
    model, snn = convert(name, options, timesteps)
    of_ann = model.predict(x, batch_size=200, verbose=0).argmax(axis=-1)
    wrong, agrees = np.zeros(timesteps), np.zeros(timesteps)
    for start in range(0, samples, PART):
        part = PARTS / f"{experiment.replace('/', ' ')} {samples} {start}.json"
        if not part.exists():
            began = time.time()
            rows = slice(start, start + PART)
            # Spike rates of few steps have ties: the first class wins.
            outputs = snn.simulate(x[rows], batch_size=100).outputs_over_time.argmax(axis=-1)
            counts = {
                "wrong": (outputs != y[rows, None]).sum(axis=0).tolist(),
                "agrees": (outputs == of_ann[rows, None]).sum(axis=0).tolist(),
            }
            PARTS.mkdir(exist_ok=True)
            part.write_text(json.dumps(counts))
            print(f"{experiment}: {start + PART} of {samples}, {time.time() - began:.0f} s", flush=True)
        counts = json.loads(part.read_text())
        wrong += counts["wrong"]
        agrees += counts["agrees"]
    return {
        "network": name,
        "samples": samples,
        "timesteps": timesteps,
        "ann_error": 100 * float(np.mean(of_ann != y)),
        "snn_error": np.round(100 * wrong / samples, 4).tolist(),
        "agreement": np.round(100 * agrees / samples, 4).tolist(),
        "where": describe(),
    }


def run_operations(samples=100):
    """Return operations of the CIFAR-10 network as ANN, and as SNN up to each step."""
    model, snn = convert("cifar10_cnn", {}, 400)
    x, _ = networks.data("cifar10", f"test[:{samples}]")
    of_snn = keras_snn.count_operations(snn, x, batch_size=50)
    of_ann = keras_snn.count_operations(model)
    return {
        "samples": samples,
        "macs": of_ann.macs,
        "ann_operations": of_ann.ann_operations,
        "snn_operations": [round(n) for n in of_snn.snn_operations],
        "where": describe(),
    }


def load():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiments", nargs="*", help="beginnings of names; all by default")
    parser.add_argument("--samples", type=int, default=1000, help="test images, where not all are used")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join([*EXPERIMENTS, "operations"]))
        return
    wanted = [
        name
        for name in [*EXPERIMENTS, "operations"]
        if not options.experiments or name.startswith(tuple(options.experiments))
    ]
    for name in wanted:
        if name in load():
            continue
        found = run_operations() if name == "operations" else run(name, options.samples)
        RESULTS.write_text(json.dumps({**load(), name: found}, indent=1, ensure_ascii=False) + "\n")
        keras.utils.clear_session()
    print_table()


def print_table():
    print("| experiment | images | ANN error % | SNN error % | T | points SNN − ANN | agreement % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, found in load().items():
        if "snn_error" not in found:
            continue
        ann, snn = found["ann_error"], found["snn_error"][-1]
        cells = [name, found["samples"], f"{ann:.2f}", f"{snn:.2f}", found["timesteps"], f"{snn - ann:+.2f}"]
        print("|", " | ".join(map(str, cells)), f"| {found['agreement'][-1]:.2f} |")


if __name__ == "__main__":
    main()
