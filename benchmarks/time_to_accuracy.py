"""Time of an image until a spiking network is within 0.1 points of its source, beside other simulators.

    TFDS_DATA_DIR=… python benchmarks/time_to_accuracy.py [networks] [--samples 2000] [--repeats 5]

Everything is chosen on training images: 1,000 calibrate, and on 4,000 others the first of a list of time
steps (of time codes, levels) is taken that loses at most 0.05 points, half of what is allowed. With early
exit it is the level with the fewest steps that loses no more. What is chosen runs on the test images, and a
row that loses more than 0.1 points there is marked. One process per row, which take turns; CPU time of all
threads and wall time, medians; ratios are of CPU time, to the source network (F) in the same turn, with
their interval of 95 % confidence. Each row has the batch size of 100 or 500 at which it takes least; other
simulators have 100, as they hold the values of all steps, or are slower by far.

Needs tensorflow-datasets, and of snntorch, spikingjelly and sinabs what is to be compared. These run our
network, with the same neurons and exact max pools; where all their predictions on some test images are
ours, the accuracy is too. Their own converters take the source network, with scales by the 99.9th percentile
of the same images; of up to 64 time steps the first is taken that is right on as many of 500 training images
as the source network. Threads of PyTorch that wait do not spin (OMP_WAIT_POLICY=PASSIVE).
"""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import in_torch
import numpy as np
from timing import median_times, seconds, show_ratio, turns

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))

_MARK = "measured:"
_BATCH, _SIZES = 100, (100, 500)
# Points that may be lost on test images, and on training images.
_ALLOWED, _CHOSEN = 0.001, 0.0005
_CALIBRATING, _CHOOSING, _BY_OTHERS, _MOST = 1000, 4000, 500, 64
# Network: its name in the table, images of a turn of ours and of others, and those to compare predictions of.
NETWORKS = {"mnist_cnn": ("MNIST CNN", 1000, 200, 2000), "cifar10_cnn": ("CIFAR-10 CNN", 500, 100, 200)}
STEPS = {
    "if": (2, 4, 8, 16, 32, 64, 128, 256),
    "signed": (2, 4, 8, 16, 32, 64),
    "multi_threshold": (1, 2, 4, 8),
    "ttfs": (7, 15, 31, 63, 127, 255),
}
# Row: the module it needs.
WITH_OURS = {
    "SpikingJelly, our network": ("spikingjelly", in_torch.spikingjelly_neurons, False),
    "snnTorch, our network": ("snntorch", in_torch.snntorch_neurons, False),
    "sinabs, our network": ("sinabs", in_torch.sinabs_neurons, True),
}
CONVERTED = {
    "SpikingJelly, its converter": ("spikingjelly", in_torch.converted_by_spikingjelly),
    "sinabs, its converter": ("sinabs", in_torch.converted_by_sinabs),
}


def predictions(model, x):
    """Return the classes that a Keras model chooses."""
    return model.predict(x, batch_size=_BATCH, verbose=0).argmax(axis=-1)


def prepare(name, folder, samples):
    """Choose the rows of a network on training images, write them to a folder, and return their names."""
    import networks

    from keras_snn.graph.program import source_of
    from keras_snn.simulation.source import program_of

    dataset = networks.NETWORKS[name][1]
    model = networks.trained(name)
    x, y = networks.data(dataset, f"train[:{_CALIBRATING + _CHOOSING}]")
    x_test, y_test = networks.data(dataset, f"test[:{samples}]")
    calibrating, choosing = x[:_CALIBRATING], (x[_CALIBRATING:], y[_CALIBRATING:])
    rows = {"source network": {"kind": "source", "is": ""}}
    model.save(folder / "source.keras")
    right = predictions(model, choosing[0]) == choosing[1]
    wanted = np.mean(right) - _CHOSEN
    for neuron in STEPS:
        for row, settings in ours(model, neuron, calibrating, choosing, wanted, folder):
            rows[row] = settings
    snn = of_file(folder / "if.keras")
    for row in WITH_OURS:
        rows[row] = {"kind": "ours in torch", "timesteps": snn.timesteps, "is": f"T = {snn.timesteps}"}
    arrays = {
        f"spiking_{key}": value for key, value in in_torch.describe_layers(program_of(snn).graph).items()
    }
    source = in_torch.describe_layers(source_of(program_of(snn)))
    arrays |= {f"analog_{key}": value for key, value in source.items()}
    for row in CONVERTED:
        rows[row] = {"kind": "converted"}
    np.savez(
        folder / "arrays.npz",
        x_calibrating=calibrating,
        x_choosing=choosing[0][:_BY_OTHERS],
        right=right[:_BY_OTHERS],
        y_choosing=choosing[1][:_BY_OTHERS],
        x=x_test,
        y=y_test,
        **arrays,
    )
    (folder / "rows.json").write_text(json.dumps(rows))
    return rows


def ours(model, neuron, calibrating, choosing, wanted, folder):
    """Yield the rows of a kind of neurons, with all steps and with early exit: names and settings."""
    import keras_snn

    for steps in STEPS[neuron]:
        kind = keras_snn.neurons.TimeToFirstSpike(steps) if neuron == "ttfs" else neuron
        options = {"neuron": kind} if neuron == "ttfs" else {"neuron": kind, "timesteps": steps}
        snn = keras_snn.convert(model, calibrating, seed=0, verbose=0, **options)
        if np.mean(predictions(snn, choosing[0]) == choosing[1]) >= wanted:
            break
    else:
        yield f"{neuron}", {"kind": "none", "is": f"not within {steps} steps, on training images"}
        return
    snn.save(folder / f"{neuron}.keras")
    what = f"{steps} levels" if neuron == "ttfs" else f"T = {steps}"
    yield neuron, {"kind": "ours", "file": f"{neuron}.keras", "is": what}
    if neuron == "ttfs" or steps == 1:
        return
    # More steps cost little where few samples take them.
    snn.timesteps = 2 * steps
    full = snn.simulate(*choosing, batch_size=_BATCH).accuracy_over_time[-1]
    found = keras_snn.calibrate_exit(snn, *choosing, max_loss=max(full - wanted, 0.0), batch_size=_BATCH)
    settings = {"timesteps": 2 * steps, "level": found.level}
    what = f"T ≤ {2 * steps}, {found.mean_timesteps:.1f} on the mean"
    yield f"{neuron}, early exit", {"kind": "ours", "file": f"{neuron}.keras", "exit": settings, "is": what}


def of_file(path):
    """Return a model of a file."""
    import keras

    import keras_snn  # noqa: F401 - registers the layers of the file

    return keras.models.load_model(path)


def made(row, settings, folder):
    """Return a function of a batch of images that gives scores of the last step, and its settings."""
    if settings["kind"] == "source":
        return of_file(folder / "source.keras").predict_on_batch, settings
    if settings["kind"] == "ours":
        snn = of_file(folder / settings["file"])
        if "exit" not in settings:
            return snn.predict_on_batch, settings
        ending = {"timesteps": settings["exit"]["timesteps"], "level": settings["exit"]["level"]}
        return lambda x: snn.simulate(x, exit="confidence", batch_size=len(x), **ending).outputs, settings
    arrays = np.load(folder / "arrays.npz")
    if settings["kind"] == "ours in torch":
        _, neurons, over_time = WITH_OURS[row]
        network = in_torch.Spiking(only(arrays, "spiking_"), neurons, over_time=over_time)
        return lambda x: network(x, settings["timesteps"]), settings
    run = CONVERTED[row][1](in_torch.analog(only(arrays, "analog_")), arrays["x_calibrating"])
    x, y = arrays["x_choosing"], arrays["y_choosing"]
    scores = np.concatenate([run(x[i : i + _BATCH], _MOST) for i in range(0, len(x), _BATCH)])
    right = np.mean(scores.argmax(-1) == y[:, None], axis=0)
    reached = np.flatnonzero(right >= np.mean(arrays["right"]))
    timesteps = int(reached[0]) + 1 if len(reached) else _MOST
    best = f"{right.max():.1%} instead of {np.mean(arrays['right']):.1%}"
    what = f"T = {timesteps}" if len(reached) else f"not within {_MOST} steps: {best} of training images"
    return lambda x: run(x, timesteps)[:, -1], {**settings, "is": what, "reached": bool(len(reached))}


def only(arrays, start):
    """Return the arrays whose names begin so, by the rest of the name."""
    return {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


def serve(row, folder, images, compared):
    """Print what runs and its classes; for every line read, CPU and wall seconds per image."""
    run, settings = made(row, json.loads((folder / "rows.json").read_text())[row], folder)
    with np.load(folder / "arrays.npz") as arrays:
        x = arrays["x"]
    report = functools.partial(print, flush=True)

    def chosen(x, size=_BATCH):
        scores = np.concatenate([run(x[i : i + size]) for i in range(0, len(x), size)])
        return scores.argmax(axis=-1).tolist()

    first = {"ours in torch": compared}.get(
        settings["kind"], len(x) if settings.get("reached", True) else images
    )
    found = {"is": settings["is"], "classes": chosen(x[:first])}
    size = _BATCH
    if settings["kind"] in ("source", "ours"):
        size = min(_SIZES, key=lambda size: median_times(lambda: chosen(x[:images], size), 3)[0])
    report(_MARK, json.dumps({**found, "batch": size}))
    for _ in sys.stdin:
        cpu, wall = seconds(lambda: chosen(x[:images], size))
        report(_MARK, json.dumps([cpu / images, wall / images]))


def answer(process):
    """Return what the next line of `serve` has; a library may print other lines."""
    line = next(line for line in process.stdout if line.startswith(_MARK))
    return json.loads(line[len(_MARK) :])


def compare(name, options, folder):
    """Print the table of a network."""
    shown, of_ours, of_others, compared = NETWORKS[name]
    rows = prepare(name, folder, options.samples)
    needs = {row: one[0] for row, one in (WITH_OURS | CONVERTED).items()}
    usable = [row for row in rows if row not in needs or importlib.util.find_spec(needs[row])]
    running, found = {}, {}
    for row in usable:
        if rows[row]["kind"] == "none":
            print(f"| {shown} | {row} | {rows[row]['is']} | | | | | | |", flush=True)
            continue
        images = of_others if row in needs else of_ours
        command = [sys.executable, __file__, "--one", row, str(folder), str(images), str(compared)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running[row] = subprocess.Popen(command, **pipes, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
        # One after the other: what each chooses takes all cores.
        found[row] = answer(running[row])
    times = {row: [] for row in running}
    for _, row in turns(running, options.repeats):
        print(file=running[row].stdin, flush=True)
        times[row].append(answer(running[row]))
    with np.load(folder / "arrays.npz") as arrays:
        y = arrays["y"]
    for row, process in running.items():
        process.stdin.close()
        process.wait()
        cpu, wall = 1e6 * np.median(times[row], axis=0)
        ratios = np.array(times[row])[:, 0] / np.array(times["source network"])[:, 0]
        print(
            f"| {shown} | {row} | {found[row]['is']} | {accuracies(row, found, y)} | {found[row]['batch']} "
            f"| {cpu:.0f} | {wall:.0f} | {show_ratio(ratios, 2)} |",
            flush=True,
        )


def accuracies(row, found, y):
    """Return the cells of the accuracy of a row and of what it loses."""
    classes, of_source = found[row]["classes"], np.mean(found["source network"]["classes"] == y)
    if row in WITH_OURS and len(classes) < len(y):
        same = np.mean(np.equal(classes, found["if"]["classes"][: len(classes)]))
        if same < 1:
            return f"agrees with if on {same:.1%} of {len(classes)} | "
        classes = found["if"]["classes"]
    if len(classes) < len(y):
        return " | "
    right = np.mean(np.equal(classes, y))
    missed = " (missed)" if of_source - right > _ALLOWED + 1e-9 else ""
    return f"{right:.2%} | {100 * (of_source - right):+.2f}{missed}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        row, folder, images, compared = options.one
        serve(row, pathlib.Path(folder), int(images), int(compared))
        return
    from machine import describe

    print(f"{describe()}; {options.samples} test images, medians of {options.repeats}\n")
    print("| network | who | what runs | accuracy | points lost | batch | CPU, µs | wall, µs | CPU in F |")
    print("| --- " * 9 + "|", flush=True)
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
