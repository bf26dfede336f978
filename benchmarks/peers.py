"""Times one converted network here and in other simulators: weights, images and time steps are the same.

    TFDS_DATA_DIR=… python benchmarks/peers.py [--timesteps 32] [--epochs 2]

Needs tensorflow-datasets, Numba, and snntorch and spikingjelly on PyTorch (pip install -e '.[events,peers]');
what is not installed is left out, sinabs too (pip install --no-deps sinabs: one of its dependencies installs
packages when it is imported).

One process per row, CPU time of all its threads, medians. The processes take turns; ratios are those of a
turn: their median with its interval of 95 % confidence. The others get what helps them: no gradients, the
current of the first layer computed once, and neurons that start at half the threshold, as ours do.
"""

import argparse
import functools
import importlib.util
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np
from timing import seconds, show_ratio, turns

# Batch size: number of images.
SIZES = {100: 1000, 1: 50}
TESTED = max(SIZES.values())

_MARK = "measured:"


def prepare(folder, timesteps, epochs):
    """Train and convert the network; keep it as models for us and as arrays for the others, and report it."""
    import keras
    import tensorflow_datasets as tfds
    from machine import describe
    from speed import lenet

    import keras_snn

    keras.utils.set_random_seed(1)
    splits = tfds.load("mnist", split=["train", f"test[:{TESTED}]"], batch_size=-1, as_supervised=True)
    (x, y), (x_test, y_test) = ((np.float32(x / 255), y) for x, y in tfds.as_numpy(splits))
    model = lenet()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=2)
    for dtype in ("float32", "mixed_bfloat16"):
        snn = keras_snn.convert(
            model, x[:1000], preset="rueckauer2017", timesteps=timesteps, dtype=dtype, verbose=0
        )
        snn.save(folder / f"{dtype}.keras")
    arrays = {f"weights{i}": weights for i, weights in enumerate(snn.get_weights())}
    np.savez(folder / "arrays.npz", x=x_test, y=y_test, **arrays)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    print(f"{describe()}\n\nT = {timesteps}; ANN {accuracy:.2%} on {TESTED} images\n")


def ours(folder, timesteps, engine, dtype="float32"):
    import keras

    import keras_snn  # noqa: F401 - registers the layers of the file

    snn = keras.models.load_model(folder / f"{dtype}.keras")
    snn.engine = engine
    return snn.predict_on_batch


def of_torch(steps):
    """Return what turns `steps(layers, images, timesteps)`, which gives scores, into a function of images."""

    def make(folder, timesteps):
        import torch
        from torch import nn

        with np.load(folder / "arrays.npz") as arrays:
            weights = [torch.tensor(arrays[f"weights{i}"]) for i in range(8)]
        layers = [nn.Conv2d(1, 16, 5), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(3 * 3 * 64, 10)]
        for i, layer in enumerate(layers):
            kernel = weights[2 * i]
            if kernel.ndim == 4:
                kernel = kernel.permute(3, 2, 0, 1)
            else:
                # Rows in the order of (3, 3, 64) are to be in that of (64, 3, 3).
                kernel = kernel.reshape(3, 3, 64, 10).permute(3, 2, 0, 1).reshape(10, -1)
            layer.weight.data, layer.bias.data = kernel.contiguous(), weights[2 * i + 1]

        @torch.no_grad()
        def run(x):
            return steps(layers, torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), timesteps).numpy()

        return run

    return make


@of_torch
def snntorch(layers, x, timesteps):
    import snntorch
    import torch
    from torch.nn.functional import avg_pool2d

    conv1, conv2, conv3, dense = layers
    neuron = snntorch.Leaky(beta=1.0, reset_mechanism="subtract", reset_delay=False, surrogate_disable=True)
    current = conv1(x)
    v1 = torch.full_like(current, 0.5)
    v2, v3 = torch.full((len(x), 32, 10, 10), 0.5), torch.full((len(x), 64, 3, 3), 0.5)
    scores = 0
    for _ in range(timesteps):
        spikes, v1 = neuron(current, v1)
        spikes, v2 = neuron(conv2(avg_pool2d(spikes, 2)), v2)
        spikes, v3 = neuron(conv3(avg_pool2d(spikes, 2)), v3)
        scores = scores + dense(spikes.flatten(1))
    return scores


def _jelly_neurons(mode):
    from spikingjelly.activation_based import neuron

    neurons = [neuron.IFNode(v_reset=None, step_mode=mode) for _ in range(3)]
    for one in neurons:
        one.v = 0.5
    return neurons


@of_torch
def spikingjelly_single(layers, x, timesteps):
    from torch.nn.functional import avg_pool2d

    conv1, conv2, conv3, dense = layers
    fire1, fire2, fire3 = _jelly_neurons("s")
    current, scores = conv1(x), 0
    for _ in range(timesteps):
        spikes = fire2(conv2(avg_pool2d(fire1(current), 2)))
        scores = scores + dense(fire3(conv3(avg_pool2d(spikes, 2))).flatten(1))
    return scores


@of_torch
def spikingjelly_multi(layers, x, timesteps):
    from spikingjelly.activation_based.functional import seq_to_ann_forward
    from torch.nn.functional import avg_pool2d

    conv1, conv2, conv3, dense = layers
    fire1, fire2, fire3 = _jelly_neurons("m")
    spikes = fire1(conv1(x).unsqueeze(0).repeat(timesteps, 1, 1, 1, 1))
    spikes = fire2(seq_to_ann_forward(spikes, lambda s: conv2(avg_pool2d(s, 2))))
    spikes = fire3(seq_to_ann_forward(spikes, lambda s: conv3(avg_pool2d(s, 2))))
    return seq_to_ann_forward(spikes, lambda s: dense(s.flatten(1))).sum(dim=0)


@of_torch
def sinabs(layers, x, timesteps):
    import torch
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAFSqueeze
    from torch.nn.functional import avg_pool2d

    conv1, conv2, conv3, dense = layers
    fires = [IAFSqueeze(batch_size=len(x), spike_fn=SingleSpike, min_v_mem=None) for _ in range(3)]
    current = conv1(x)
    shapes = [current.shape[1:], (32, 10, 10), (64, 3, 3)]
    for fire, shape in zip(fires, shapes, strict=True):
        fire.v_mem = torch.full((len(x), *shape), 0.5)
    spikes = fires[0](current.unsqueeze(1).repeat(1, timesteps, 1, 1, 1).flatten(0, 1))
    spikes = fires[2](conv3(avg_pool2d(fires[1](conv2(avg_pool2d(spikes, 2))), 2)))
    return dense(spikes.flatten(1)).unflatten(0, (len(x), timesteps)).sum(dim=1)


# Name of a row: the module it needs, and what makes a function of images that gives scores.
ROWS = {
    "keras_snn, events": ("numba", lambda *args: ours(*args, "events")),
    "keras_snn, compiled": ("keras_snn", lambda *args: ours(*args, "compiled")),
    "the same, mixed_bfloat16": ("keras_snn", lambda *args: ours(*args, "compiled", "mixed_bfloat16")),
    "snnTorch": ("snntorch", snntorch),
    "SpikingJelly, step by step": ("spikingjelly", spikingjelly_single),
    "SpikingJelly, multi-step": ("spikingjelly", spikingjelly_multi),
    "sinabs": ("sinabs", sinabs),
}


def serve(name, folder, batch_size, timesteps):
    """Print the accuracy; for every line read, CPU and wall seconds per image and step; then the peak MiB."""
    with np.load(folder / "arrays.npz") as arrays:
        x, y = arrays["x"][: SIZES[batch_size]], arrays["y"][: SIZES[batch_size]]
    run = ROWS[name][1](folder, timesteps)
    scores = [run(x[i : i + batch_size]) for i in range(0, len(x), batch_size)]
    report = functools.partial(print, flush=True)
    report(_MARK, float(np.mean(np.concatenate(scores).argmax(axis=-1) == y)))
    for _ in sys.stdin:
        cpu, wall = seconds(lambda: [run(x[i : i + batch_size]) for i in range(0, len(x), batch_size)])
        report(_MARK, cpu / (len(x) * timesteps), wall / (len(x) * timesteps))
    report(_MARK, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def numbers(process):
    """Return the numbers of the next line of `serve`; a library may print other lines."""
    line = next(line for line in process.stdout if line.startswith(_MARK))
    return np.array(line.split()[1:], "float64")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--prepare", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, options.timesteps, options.epochs)
    elif options.one:
        name, folder, batch_size = options.one
        serve(name, pathlib.Path(folder), int(batch_size), options.timesteps)
    else:
        compare(sys.argv[1:], options.repeats)


def compare(arguments, repeats):
    """Print the table. A process that starts another one hands on its peak memory: this one stays small."""
    command = [sys.executable, __file__, *arguments]
    installed = [name for name, (module, _) in ROWS.items() if importlib.util.find_spec(module)]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, "--prepare", folder], check=True)
        print("Per image and step:\n")
        print("| simulator | batch | CPU, µs | wall, µs | CPU, first = 1 | peak MiB | accuracy |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for batch_size, samples in SIZES.items():
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            started = {
                name: subprocess.Popen([*command, "--one", name, folder, str(batch_size)], **pipes)
                for name in installed
            }
            accuracy = {name: numbers(process)[0] for name, process in started.items()}
            times = {name: [] for name in installed}
            for _, name in turns(installed, repeats):
                print(file=started[name].stdin, flush=True)
                times[name].append(1e6 * numbers(started[name]))
            times = {name: np.array(pairs) for name, pairs in times.items()}
            for name, process in started.items():
                process.stdin.close()
                cpu, wall = np.median(times[name], axis=0)
                ratios = times[name][:, 0] / times[installed[0]][:, 0]
                print(
                    f"| {name} | {batch_size} | {cpu:.1f} | {wall:.1f} | {show_ratio(ratios, 1)} "
                    f"| {numbers(process)[0]:.0f} | {accuracy[name]:.1%} of {samples} |",
                    flush=True,
                )
                process.wait()


if __name__ == "__main__":
    main()
