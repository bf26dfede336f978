"""Time of a simulated step on both engines against a forward pass of the source network, per image.

    python benchmarks/events.py [networks] [--timesteps 32] [--repeats 7]
    TFDS_DATA_DIR=… python benchmarks/events.py lenet lenet_max cifar10_cnn --trained

CPU time of all threads and wall time in µs, medians. F is the float32 source network in the same process, at
the batch size where it takes least CPU time. Passes and steps of both engines take turns; ratios to F are of
CPU time, medians of those of a turn, with intervals of 95 % confidence (with fewer than six turns, all that
there is). Beside them: how often neurons fire, and the same network of integers (`weight_bits=8`) on
events. The last line has what it takes to compile the kernels, or to read them from disk.

Networks are untrained, of which more neurons fire than of most trained ones, and images random numbers. With
`--trained`, which needs tensorflow-datasets, LeNets are trained on MNIST for two epochs, the CIFAR-10 CNN is
that of `benchmarks/paper`, and images are of the training data.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from importlib.metadata import version

import keras
import numpy as np
from keras import layers
from machine import describe
from speed import as_trained, by_batches, cifar10_cnn, lenet, resnet18
from timing import seconds, show_ratio, take_turns

import keras_snn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))


def lenet_max():
    """LeNet with max pools."""
    pools = keras.layers.AveragePooling2D
    parts = [layers.MaxPooling2D(2) if isinstance(layer, pools) else layer for layer in lenet().layers]
    return keras.Sequential([keras.Input((28, 28, 1)), *parts], name="lenet_max")


# Network, large batch, images of it, and images one by one.
ROWS = {
    "lenet": (lenet, 100, 200, 30),
    "lenet_max": (lenet_max, 100, 200, 30),
    "cifar10_cnn": (cifar10_cnn, 64, 64, 4),
    "resnet18": (resnet18, 16, 16, 1),
}


def measure(name, options):
    """Return seconds per image of a pass and of steps, CPU and wall of every turn, and what comes first."""
    keras.utils.set_random_seed(0)
    first, (_, large, samples, singles) = first_calls(), ROWS[name]
    model, x = (trained if options.trained else untrained)(name, max(samples, 64))
    snn = keras_snn.convert(model, x[:64], timesteps=options.timesteps, verbose=0)
    whole = keras_snn.convert(model, x[:64], timesteps=options.timesteps, weight_bits=8, verbose=0)
    snn.engine = "events"
    counts = snn.simulate(x[:4], record="spike_counts").spike_counts.values()
    rate = sum(c.sum() for c in counts) / sum(c.size for c in counts) / options.timesteps
    sizes = [size for size in (16, 64, 200) if size <= len(x)]
    ways = {f"F {size}": by_batches(model, x, size) for size in sizes}
    images = {way: len(x) for way in ways}
    for who, network in (("compiled", snn), ("events", snn), ("integers", whole)):
        engine = "compiled" if who == "compiled" else "events"
        for size, number in ((large, samples), (1, singles)):
            ways[f"{who} {size}"] = _on(network, engine, by_batches(network, x[:number], size))
            images[f"{who} {size}"] = number * options.timesteps
    times = {way: pairs / images[way] for way, pairs in take_turns(ways, options.repeats).items()}
    return {
        "first": first,
        "rate": float(rate),
        "times": {way: pairs.tolist() for way, pairs in times.items()},
    }


def untrained(name, images):
    """Return a network and so many images."""
    rng = np.random.default_rng(0)
    model = as_trained(ROWS[name][0](), rng)
    return model, rng.random((images, *model.input_shape[1:]), dtype="float32")


def trained(name, images):
    """Return a network that is trained, and so many images of its training data."""
    import networks

    if name == "cifar10_cnn":
        return networks.trained(name), networks.data("cifar10", f"train[:{images}]")[0]
    model, (x, y) = ROWS[name][0](), networks.data("mnist", "train")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    return model, x[:images]


def first_calls():
    """Return how much CPU time the first of two small networks takes more, of floats and of integers."""
    small = keras.Sequential([keras.Input((4,)), *(layers.Dense(3, activation="relu") for _ in range(3))])
    x = np.linspace(0, 1, 12, dtype="float32").reshape(3, 4)

    def run(weight_bits):
        snn = keras_snn.convert(small, x, timesteps=4, weight_bits=weight_bits, verbose=0)
        snn.engine = "events"
        snn.predict_on_batch(x)

    times = [[seconds(lambda bits=bits: run(bits))[0] for _ in range(2)] for bits in (None, 8)]
    return [first - second for first, second in times]


def _on(snn, engine, run):
    def chosen():
        snn.engine = engine
        run()

    return chosen


def rows(name, found):
    """Yield the lines of the table of a network."""
    times = {way: 1e6 * np.array(pairs) for way, pairs in found["times"].items()}
    passes = min((way for way in times if way[0] == "F"), key=lambda way: np.median(times[way][:, 0]))
    cpu, wall = np.median(times[passes], axis=0)
    yield f"| {name}, {100 * found['rate']:.0f} % fire | F | {passes[2:]} | {cpu:.0f} | {wall:.0f} | 1 |"
    for way, pairs in times.items():
        if way[0] != "F":
            cpu, wall = np.median(pairs, axis=0)
            ratio = show_ratio(pairs[:, 0] / times[passes][:, 0], 2)
            who, size = way.split()
            who = "events, integers" if who == "integers" else who
            yield f"| | {who} | {size} | {cpu:.1f} | {wall:.1f} | {ratio} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--trained", action="store_true", help="trained networks, and images of their data")
    parser.add_argument("--in-process", action="store_true", help="measure the one network in this process")
    options = parser.parse_args()
    if options.in_process:
        (name,) = options.names
        print(json.dumps(measure(name, options)))
        return
    print(f"{describe()}; Numba {version('numba')}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | who | batch | CPU, µs | wall, µs | in F |\n| --- | --- | --- | --- | --- | --- |")
    firsts = None
    for name in options.names:
        command = [sys.executable, __file__, name, "--in-process", "--timesteps", str(options.timesteps)]
        command += ["--repeats", str(options.repeats), *(["--trained"] if options.trained else [])]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(printed.splitlines()[-1])
        print("\n".join(rows(name, found)), flush=True)
        firsts = firsts or found["first"]
    print("\nKernels first: {:.1f} s of CPU time, {:.1f} s more for integers.".format(*firsts))


if __name__ == "__main__":
    main()
