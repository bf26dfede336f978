"""The command `demo`: a network that comes along, converted and run, and files to go on with."""

import importlib.resources
import shlex
import time

import keras
import numpy as np

import keras_snn
from keras_snn._files import replacing
from keras_snn._table import show_table
from keras_snn.cli.output import Result, write_line
from keras_snn.cli.paths import check_output

__all__ = ["demo"]

_DEMO_STEPS = (1, 2, 4, 8, 16, 32, 64)


def demo(options):
    """Convert and run the network that comes along."""
    if options.output is not None:
        check_output(options.output, overwrite=False)
    model, x, y, x_calibration = _network_and_digits()
    x, y = x[: options.samples], y[: options.samples]

    write_line(options, f"Converting '{model.name}' on {len(x_calibration)} training digits")
    start = time.perf_counter()
    snn = keras_snn.convert(model, x_calibration, timesteps=_DEMO_STEPS[-1], verbose=options.verbose)
    converted = time.perf_counter()
    write_line(options, f"Simulating {snn.timesteps} steps of {len(x)} test digits")
    run = snn.simulate(x, y, record=["spike_counts"], batch_size=100, verbose=options.verbose)
    seconds = {"conversion": converted - start, "simulation": time.perf_counter() - converted}

    found = {"accuracy": _accuracies(model, run, x, y), "seconds": seconds}
    found["firing_rates"] = {name: float(rate.mean()) for name, rate in run.firing_rates.items()}
    found["report"] = snn.conversion_report.get_config()
    text = "\n\n".join([snn.conversion_report.show(options.width), *_tables(found)])
    if options.output is None:
        return Result(text, found, next="demo --output digits")
    files = _write(options, model, snn, x, y, x_calibration)
    folder = shlex.quote(str(options.output))
    data, few = f"--calibration {folder}/train.npz", f"-o {folder}/few_steps.keras"
    return Result(
        "\n".join([text, "", *(f"wrote {options.output / name}" for name in files)]),
        {**found, "output": [str(options.output / name) for name in files]},
        next=f"convert {folder}/cnn.keras {data} --neuron signed --timesteps 8 {few}",
    )


def _network_and_digits():
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        return model, data["x_test"], data["y_test"], data["x_calibration"]


def _accuracies(model, run, x, y):
    """Return accuracies of both networks, and on how many digits they agree."""
    of_ann = model.predict(x, batch_size=100, verbose=0).argmax(axis=-1)
    agrees = (run.outputs_over_time.argmax(axis=-1) == of_ann[:, None]).mean(axis=0)
    return {
        "ann": float(np.mean(of_ann == y)),
        "snn": {steps: float(run.accuracy_over_time[steps - 1]) for steps in _DEMO_STEPS},
        "agreement": {steps: float(agrees[steps - 1]) for steps in _DEMO_STEPS},
    }


def _tables(found):
    accuracy, seconds = found["accuracy"], found["seconds"]
    rows = [("time steps", "SNN accuracy", "agrees with ANN")]
    rows += [(n, f"{accuracy['snn'][n]:.2%}", f"{accuracy['agreement'][n]:.2%}") for n in _DEMO_STEPS]
    rates = [(name, f"{rate:.4f}") for name, rate in found["firing_rates"].items()]
    return [
        f"ANN accuracy  {accuracy['ann']:.2%}",
        show_table(rows, right=range(3)),
        show_table([("layer", "spikes per neuron and step"), *rates], right=[1]),
        f"conversion {seconds['conversion']:.1f} s, simulation {seconds['simulation']:.1f} s",
    ]


def _write(options, model, snn, x, y, x_calibration):
    """Write a folder to go on with; return the names of its files."""
    with replacing(options.output) as (folder,):
        folder.mkdir()
        model.save(folder / "cnn.keras")
        snn.save(folder / "snn.keras")
        np.savez_compressed(folder / "train.npz", x=x_calibration)
        np.savez_compressed(folder / "test.npz", x=x, y=y)
        try:
            write_line(options, "Writing a report")
            keras_snn.report(snn, x, y, path=folder / "report.html", batch_size=100, verbose=options.verbose)
        except ImportError as error:
            write_line(options, f"There is no report: {error}")
        return sorted(path.name for path in folder.iterdir())
