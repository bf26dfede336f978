"""The commands: functions of their options that return a `Result`."""

import dataclasses
import inspect
import pathlib
import shlex
import textwrap

import keras

import keras_snn
from keras_snn import distributed
from keras_snn._files import load_model, read_data, replacing
from keras_snn._table import show_table
from keras_snn.cli.arguments import parser
from keras_snn.cli.choices import EXPORTS
from keras_snn.cli.demo import demo
from keras_snn.cli.output import Result, write_line
from keras_snn.cli.paths import check_output
from keras_snn.distributed.reading import read_dataset
from keras_snn.graph.rules.registry import table
from keras_snn.graph.tracing import names_of_inputs
from keras_snn.simulation.internals import internals

__all__ = ["check", "completion", "convert", "demo", "evaluate", "export", "layers", "report"]

# The package that Keras needs to write it, and what installs it.
_NEEDS = {".onnx": ("tf2onnx", "keras-snn[onnx]")}
_BACKENDS = {"jax": "JAX", "torch": "PyTorch"}


def check(options):
    """Report what would become of every layer of a file."""
    report = keras_snn.check(
        load_model(options.model), input_shapes=options.shape, nonspiking=options.nonspiking
    )
    error = f"'{options.model}' does not convert, for the reasons above."
    data = _beside(options.model, "train.npz")
    return Result(
        report.show(options.width),
        {
            "converts": report.converts,
            "layers": [dataclasses.asdict(v) for v in report.verdicts],
            "notes": list(report.notes),
        },
        None if report.converts else error,
        next=f"convert {_quoted(options.model)} --calibration {data} -o snn.keras" if report.converts else "",
    )


def convert(options):
    """Convert a file."""
    check_output(options.output, overwrite=options.force)
    if options.output.exists() and options.model.exists() and options.output.samefile(options.model):
        raise ValueError(f"'{options.output}' is the model to convert. Name another --output.")
    model = load_model(options.model)
    data, labels = None, {}
    if options.calibration is not None:
        arrays = read_data(options.calibration, split="train[:1000]", raw_pixels=options.raw_pixels)
        data = _inputs(arrays, model, options.calibration)
        if "max_loss" in vars(options) and "y" in arrays:
            labels = {"y": arrays["y"]}
    write_line(options, f"Converting '{model.name}'")
    snn = keras_snn.convert(model, data, **labels, **_conversion_options(options))
    snn.save(options.output)
    text = f"{snn.conversion_report.show(options.width)}\n\nwrote {options.output}"
    return Result(
        text,
        {"output": str(options.output), "report": snn.conversion_report.get_config()},
        next=f"evaluate {_quoted(options.output)} --data {_beside(options.calibration, 'test.npz')}",
    )


def _conversion_options(options):
    """Return what was given of the arguments of `keras_snn.convert`."""
    given = vars(options)
    names = inspect.signature(keras_snn.convert).parameters.keys() - {"model"}
    found = {name: given[name] for name in names if name in given}
    of_if = {name: given[name] for name in ("reset", "initial_potential") if name in given}
    if found.get("bias_correction") == "no":
        found["bias_correction"] = False
    if not of_if:
        return found
    if found.get("neuron", "if") != "if":
        raise ValueError(
            f"--reset and --initial-potential need --neuron if. Received: --neuron {found['neuron']}."
        )
    return {**found, "neuron": keras_snn.neurons.IntegrateAndFire(**of_if)}


def evaluate(options):
    """Return the accuracy of a spiking file after every step."""
    model = _load_spiking(options.model)
    run, y = (_simulated_elsewhere if options.cluster else _simulated)(options, model)
    if run.accuracy_over_time is None:
        raise ValueError(
            f"'{options.model}' must classify. Received: labels y that are no classes of its output."
        )
    samples = run.samples if y is None else len(y)
    curves = {"accuracy_over_time": run.accuracy_over_time}
    header = ["time steps", "accuracy"]
    if options.top_k is not None:
        curves["top_k_accuracy_over_time"] = run.top_k_accuracy_over_time(y, options.top_k)
        header.append(f"among the {options.top_k} largest")
    last = len(run.accuracy_over_time)
    shown = sorted({2**i for i in range(last.bit_length())} | {last})
    # A time code has one output, at the end of its window.
    names = [run.timesteps] if last == 1 else shown
    accuracies = [[f"{curve[step - 1]:.2%}" for curve in curves.values()] for step in shown]
    rows = [[name, *row] for name, row in zip(names, accuracies, strict=True)]
    text = show_table([header, *rows], right=range(len(header)))
    return Result(
        text,
        {"samples": samples, **{name: curve.tolist() for name, curve in curves.items()}},
        next=f"report {_quoted(options.model)} --data {_quoted(options.data)} -o report.html",
    )


def _simulated(options, model):
    """Return the simulation of a model, and the labels."""
    data = read_data(options.data, split="test", raw_pixels=options.raw_pixels)
    if "y" not in data:
        raise ValueError(f"'{options.data}' must hold labels in an array y. Received: {', '.join(data)}.")
    x, y = _inputs(data, model, options.data), data["y"]
    return model.simulate(x, y, timesteps=options.timesteps, verbose=options.verbose), y


def _simulated_elsewhere(options, model):
    """Return what a simulation on a cluster comes to, and `None` for the labels."""
    if options.top_k is not None:
        raise ValueError("--top-k needs all outputs in one place. Received: --cluster. Leave one out.")
    dataset, labels = _dataset(options, model)
    if labels is None:
        raise ValueError(f"'{options.data}' must hold labels in a column y. Received: {dataset.columns()}.")
    on = _cluster_options(options)
    return distributed.simulate(model, dataset, labels, timesteps=options.timesteps, **on), None


def _dataset(options, model):
    """Return the dataset of --data, and the column of its labels or `None`."""
    distributed.Cluster(**_cluster_options(options)).join()
    shape = next(iter(internals(model).inputs.shapes.values()))
    return read_dataset(
        options.data, names=_names_of_inputs(model), shape=shape, raw_pixels=options.raw_pixels
    )


def _cluster_options(options):
    address = None if options.cluster == "local" else options.cluster
    return {"address": address, "workers": options.workers, "verbose": options.verbose}


def report(options):
    """Write an HTML report on a spiking file."""
    json_file = options.output.with_suffix(".json")
    for path in (options.output, json_file):
        check_output(path, overwrite=options.force)
    model = _load_spiking(options.model)
    how = {"path": options.output, "timesteps": options.timesteps, "energy": options.energy}
    if options.cluster:
        dataset, labels = _dataset(options, model)
        report = distributed.report(model, dataset, labels, **how, **_cluster_options(options))
    else:
        data = read_data(options.data, split="test", raw_pixels=options.raw_pixels)
        x = _inputs(data, model, options.data)
        report = keras_snn.report(model, x, data.get("y"), verbose=options.verbose, **how)
    lines = [textwrap.fill(line, options.width) for line in str(report).splitlines()]
    text = "\n".join([*lines, "", f"wrote {options.output} and {json_file}"])
    return Result(
        text,
        {"output": [str(options.output), str(json_file)], "report": report.facts},
        next=f"export {_quoted(options.model)} -o folder",
    )


def export(options):
    """Write a spiking file in another format."""
    kind = options.output.suffix if options.output.suffix in EXPORTS else ""
    # A function of the package, or a format of Keras.
    write = getattr(keras_snn, EXPORTS.get(kind, ""), None)
    if write is None:
        _check_can_export(kind, options.output)
    model = _load_spiking(options.model)
    check_output(options.output, overwrite=False)
    write_line(options, f"Exporting '{model.name}'")
    if write is None:
        _export_by_keras(model, options.output, kind)
    else:
        # `--output` is the name of the file, whatever a function calls so.
        names = inspect.signature(write).parameters.keys() - {"output"}
        write(model, options.output, **{name: v for name, v in vars(options).items() if name in names})
    return Result(f"wrote {options.output}", {"output": str(options.output)})


def _export_by_keras(model, output, kind):
    """Write a SavedModel, or a file of a suffix that Keras writes."""
    with replacing(output) as (path,):
        try:
            model.export(path, verbose=False, format=EXPORTS.get(kind, "tf_saved_model"))
        except ImportError as error:
            package, install = _NEEDS.get(kind, ("tensorflow", "tensorflow"))
            raise ImportError(
                f"'{output}' needs the package {package}. Received: {error}. "
                f"Install it: pip install '{install}'."
            ) from error
        except (ValueError, TypeError, OSError, MemoryError, RuntimeError):
            raise
        except Exception as error:
            # TensorFlow has errors of its own for disks.
            raise OSError(str(error).partition(" [Op:")[0].rpartition("; ")[2]) from error


def _check_can_export(kind, path):
    """Raise, before any work, if Keras cannot write a file of this suffix, or a SavedModel, here."""
    backend = keras.backend.backend()
    if backend == "torch" or (kind and backend != "tensorflow"):
        what = f"{kind} files" if kind else "SavedModel"
        raise ValueError(
            f"--output must end in .nir on {_BACKENDS[backend]}, where Keras writes no {what}. Received: "
            f"'{path}'. Run it with KERAS_BACKEND=tensorflow; the model is the same."
        )


def layers(options):
    """List the layers that convert."""
    names = list(keras_snn.supported_layers())
    text = table() if options.markdown else "\n".join(names)
    return Result(text, names, next="" if options.markdown else "check cnn.keras")


def completion(options):
    """Print a script that lets a shell complete commands and options."""
    try:
        import shtab
    except ImportError as error:
        raise ImportError(
            f"`completion` needs the package shtab. Received: {error}. "
            "Install it: pip install 'keras-snn[completion]'."
        ) from error
    script = shtab.complete(parser(), options.shell)
    return Result(script, script)


def _quoted(path):
    return shlex.quote(str(path))


def _beside(path, name):
    """Return a file of that name beside another if there is one, else the name as an example."""
    file = pathlib.Path(str(path)).with_name(name)
    return _quoted(file) if file.is_file() else name


def _load_spiking(path):
    model = load_model(path)
    if not isinstance(model, keras_snn.SpikingModel):
        raise ValueError(
            f"'{path}' must hold a spiking model. Received: a {type(model).__name__} model. "
            f"Convert it first: keras-snn convert {path} --output snn.keras"
        )
    return model


def _inputs(data, model, source):
    """Return the inputs of a model among arrays: `x`, or where there is none those named as its inputs.

    Args:
        data: Dict of arrays.
        model: The model, spiking or not.
        source: Where the arrays are from, for messages.
    """
    names = _names_of_inputs(model)
    if "x" in data and len(names) < 2:
        return data["x"]
    if names and all(name in data for name in names):
        return {name: data[name] for name in names}
    wanted = ["an array x"] if len(names) < 2 else []
    if names:
        wanted.append(f"arrays named as the inputs of the model, {', '.join(names)}")
    raise ValueError(
        f"'{source}' must hold {', or '.join(wanted)}. Received: {', '.join(data) or 'no arrays'}."
    )


def _names_of_inputs(model):
    """Return the names that the arrays of the inputs go by; none if it is not known what they are."""
    if isinstance(model, keras_snn.SpikingModel):
        names = internals(model).network.inputs
    elif isinstance(getattr(model, "input", None), dict):
        names = model.input
    else:
        names = names_of_inputs(model) if getattr(model, "inputs", None) else []
    return list(names) if isinstance(names, dict) else keras.tree.flatten(names)
