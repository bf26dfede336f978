"""The command `keras-snn`: arguments in, text out.

Every command is a function of its options that returns a `_Result`. What it says while it works goes to
standard error; the result, and nothing else, to standard output.
"""

import argparse
import contextlib
import dataclasses
import importlib.resources
import inspect
import json
import os
import pathlib
import shutil
import sys
import tempfile
import textwrap
import time
import warnings

import keras
import numpy as np

import keras_snn
from keras_snn._files import check_file, load_model, read_data, replacing
from keras_snn._table import show_table
from keras_snn.analysis.energy import ENERGY_FIGURES
from keras_snn.conversion.options import DEFAULT_TIMESTEPS, choices
from keras_snn.graph.rules.registry import table
from keras_snn.graph.tracing import names_of_inputs
from keras_snn.simulation.internals import internals

_DEMO_STEPS = (1, 2, 4, 8, 16, 32, 64)
_DATA = ".npz with x{} (several inputs: with arrays of their names), or tfds:name[:split] such as tfds:mnist"
# What Keras calls the format of a file by its suffix; NIR files are those of `export_nir`.
_EXPORTS = {".nir": "nir", ".onnx": "onnx", ".tflite": "litert"}
# The package that Keras needs to write it, and what installs it.
_NEEDS = {".onnx": ("tf2onnx", "keras-snn[onnx]")}
_BACKENDS = {"jax": "JAX", "torch": "PyTorch"}
_EXIT = "exit status: 0 done, 1 could not, 2 wrong usage, 130 interrupted"


@dataclasses.dataclass(frozen=True)
class _Result:
    """What a command found: as text, as data for --json, and what keeps it from being a success."""

    text: str
    data: object
    error: str | None = None


_DEFAULTS = {p.name: p.default for p in inspect.signature(keras_snn.convert).parameters.values()}


def main(arguments=None):
    """Run the command; return its exit status, which `_EXIT` explains."""
    options = _parser().parse_args(arguments)
    options.width = min(shutil.get_terminal_size().columns, 100)
    options.verbose = int(sys.stderr.isatty() and not (options.quiet or options.json))
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=UserWarning, module=r"keras_snn(\.|$)")
            warnings.showwarning = lambda message, *_, **__: _say(options, f"keras-snn: warning: {message}")
            result = options.run(options)
        print(json.dumps(result.data) if options.json else result.text, flush=True)
    except BrokenPipeError:
        # Whoever reads has read enough; Python would say so again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was written", 130)
    except Exception as error:
        if options.debug:
            raise
        return _fail(_one_message(error))
    return _fail(result.error) if result.error else 0


def _fail(message, status=1):
    print(f"keras-snn: error: {message}", file=sys.stderr)
    return status


def _one_message(error):
    """Return what an error says; if it is none that we raise, such as one of TensorFlow, its start."""
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, MemoryError)):
        return str(error) or type(error).__name__
    start = str(error).strip().split("\n")[0][:200]
    return f"{type(error).__name__}: {start}. Run with --debug for the traceback."


def _say(options, text):
    if not (options.quiet or options.json):
        print(text, file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-snn",
        description="Spiking neural networks from trained Keras models.",
        epilog=f"keras-snn COMMAND --help shows options and examples.\n{_EXIT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras-snn {keras_snn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, run, summary, *examples):
        lines = "\n".join(f"  keras-snn {name} {example}".rstrip() for example in examples)
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n{lines}\n\n{_EXIT}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        command.add_argument("--quiet", "-q", action="store_true", help="the result only, no progress")
        command.add_argument("--json", action="store_true", help="the result as JSON, no progress")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return command

    demo = add(
        "demo", _demo, "convert and run a small digit network that comes along", "", "--samples 200 --json"
    )
    demo.add_argument("--samples", type=_positive, default=1000, help="test images, at most 1000")

    check = add("check", _check, "say what would become of every layer of a .keras file", "cnn.keras")
    check.add_argument("model", type=pathlib.Path, help="trained model, .keras")
    check.add_argument("--nonspiking", choices=choices("nonspiking"), default="error")
    check.add_argument(
        "--shape",
        type=_shape,
        action="append",
        help="sizes of an input that leaves some open, such as 224,224,3; once for each input",
    )

    convert = add(
        "convert",
        _convert,
        "convert a .keras file into a spiking one",
        "cnn.keras --calibration train.npz -o snn.keras",
        "cnn.keras --calibration tfds:mnist --timesteps 32 -o s.keras",
    )
    convert.add_argument("model", type=pathlib.Path, help="trained model, .keras")
    convert.add_argument("--output", "-o", type=_keras_path, required=True, help="spiking model, .keras")
    _add_data(convert, "calibration", "", required=False)
    _add_conversion_options(convert)
    convert.add_argument("--force", action="store_true", help="overwrite the output")

    evaluate = add(
        "evaluate",
        _evaluate,
        "accuracy of a spiking .keras file after every step",
        "snn.keras --data test.npz",
        "snn.keras --data tfds:mnist --timesteps 16 --json",
    )
    evaluate.add_argument("model", type=pathlib.Path, help="spiking model, .keras")
    _add_data(evaluate, "data", " and y", required=True)
    evaluate.add_argument("--timesteps", type=_positive, help="default: as converted")
    evaluate.add_argument("--top-k", type=_positive, help="also how often the label is among the K largest")

    report = add(
        "report",
        _report,
        "write an HTML report on a spiking .keras file",
        "snn.keras --data test.npz -o report.html",
        "snn.keras --data tfds:mnist:test[:1000] --timesteps 16",
    )
    report.add_argument("model", type=pathlib.Path, help="spiking model, .keras")
    _add_data(report, "data", ", and y if known", required=True)
    report.add_argument("--output", "-o", type=pathlib.Path, default=pathlib.Path("report.html"))
    report.add_argument("--timesteps", type=_positive, help="default: as converted")
    _add_choice(report, "energy", ENERGY_FIGURES, "figures of the energy estimate", default="45nm_float32")
    report.add_argument("--force", action="store_true", help="overwrite the output")

    export = add(
        "export",
        _export,
        "write a spiking .keras file as a SavedModel, or as a NIR, ONNX or LiteRT file",
        "snn.keras -o folder",
        "snn.keras -o net.onnx",
        "snn.keras -o net.nir",
    )
    export.add_argument("model", type=pathlib.Path, help="spiking model, .keras")
    export.add_argument(
        "--output",
        "-o",
        type=_export_path,
        required=True,
        help="folder, a SavedModel; .nir, .onnx or .tflite",
    )
    told = ["reset", "threshold", "initial_potential"]
    _add_choice(
        export,
        "accept",
        told,
        "of .nir: what readers may do differently, where an error names it",
        nargs="+",
        default=(),
    )
    export.add_argument("--pooling", default="sum", choices=["sum", "average", "convolution"], help="of .nir")
    export.add_argument("--dt", type=float, default=1.0, help="of .nir: length of a time step")

    layers = add("layers", _layers, "list the Keras layers that convert", "", "--markdown")
    layers.add_argument("--markdown", action="store_true", help="as the table in the README")
    return parser


def _add_data(parser, name, more, *, required):
    parser.add_argument(f"--{name}", required=required, metavar="DATA", help=_DATA.format(more))
    parser.add_argument(
        "--raw-pixels", action="store_true", help="leave pixels of tfds: in 0 … 255, instead of 0 … 1"
    )


def _add_choice(parser, name, choices, text, **how):
    """Add an argument whose choices are too long for the line of its name."""
    text = f"{text}: {', '.join(choices)}"
    parser.add_argument(f"--{name}", choices=list(choices), metavar="NAME", help=text, **how)


def _add_conversion_options(parser):
    """Add the arguments of `keras_snn.convert`, which knows their defaults."""

    def add(name, text=None, **how):
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text, **how)

    add("timesteps", f"default: {DEFAULT_TIMESTEPS}, or the window of a time code", type=_positive)
    methods, text = choices("normalization"), "what sets the scales"
    _add_choice(parser, "normalization", methods, text, default=argparse.SUPPRESS)
    add("percentile", "in percent, in (0, 100]", type=float)
    add("per-channel", "a scale for every channel", action="store_true")
    text = f"default {_DEFAULTS['neuron']}"
    _add_choice(parser, "neuron", choices("neuron"), text, default=argparse.SUPPRESS)
    add("reset", "of neurons if: of the potential after a spike", choices=["subtract", "zero"])
    add("initial-potential", "of neurons if: as a fraction of the threshold; default: 0.5", type=float)
    add("input-encoding", choices=choices("input_encoding"))
    add("input-rate", "spikes per step of the largest input, for poisson", type=float)
    add("max-pool", choices=choices("max_pool"))
    add("softmax", choices=choices("softmax"))
    add("delay", "steps that a layer waits for each one before it", type=int)
    add("readout-delay", "first steps that the read-out leaves out, or auto", type=_steps_or_auto)
    methods = [method for method in choices("bias_correction") if isinstance(method, str)]
    add("bias-correction", "add what rates lack on average", choices=methods)
    add("nonspiking", choices=choices("nonspiking"))
    add("dtype", "dtype or policy of the spiking model, such as mixed_bfloat16")
    add("seed", "for what is random", type=int)


def _steps_or_auto(text):
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer or auto, received '{text}'") from None


def _conversion_options(options):
    """Return what was given of the arguments of `keras_snn.convert`."""
    given = vars(options)
    neuron = given.get("neuron", "if")
    of_if = {name: given[name] for name in ("reset", "initial_potential") if name in given}
    if neuron == "if":
        neuron = keras_snn.neurons.IntegrateAndFire(**of_if)
    elif of_if:
        raise ValueError(f"--reset and --initial-potential need --neuron if. Received: --neuron {neuron}.")
    names = inspect.signature(keras_snn.convert).parameters.keys() - {"model"}
    found = {name: given[name] for name in names if name in given}
    return {**found, "neuron": neuron}


def _shape(text):
    return tuple(_positive(size) for size in text.split(","))


def _positive(text):
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, received '{text}'") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def _keras_path(text):
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"must end in .keras, received '{text}'")
    return pathlib.Path(text)


def _export_path(text):
    path = pathlib.Path(text)
    if path.suffix and path.suffix not in _EXPORTS and not text.endswith("/"):
        raise argparse.ArgumentTypeError(
            f"must be a folder or end in {', '.join(_EXPORTS)}, received '{text}'; "
            f"for a folder of this name use '{text}/'"
        )
    return path


def _demo(options):
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        x, y, x_calibration = data["x_test"], data["y_test"], data["x_calibration"]
    x, y = x[: options.samples], y[: options.samples]

    _say(options, f"Converting '{model.name}' on {len(x_calibration)} training digits")
    start = time.perf_counter()
    snn = keras_snn.convert(model, x_calibration, timesteps=_DEMO_STEPS[-1], verbose=options.verbose)
    converted = time.perf_counter()
    _say(options, f"Simulating {snn.timesteps} steps of {len(x)} test digits")
    run = snn.simulate(x, y, record=["spike_counts"], batch_size=100, verbose=options.verbose)
    seconds = {"conversion": converted - start, "simulation": time.perf_counter() - converted}

    of_ann = model.predict(x, batch_size=100, verbose=0).argmax(axis=-1)
    agrees = (run.outputs_over_time.argmax(axis=-1) == of_ann[:, None]).mean(axis=0)
    accuracy = {
        "ann": float(np.mean(of_ann == y)),
        "snn": {steps: float(run.accuracy_over_time[steps - 1]) for steps in _DEMO_STEPS},
        "agreement": {steps: float(agrees[steps - 1]) for steps in _DEMO_STEPS},
    }
    rates = {name: float(rate.mean()) for name, rate in run.firing_rates.items()}
    rows = [("time steps", "SNN accuracy", "agrees with ANN")]
    rows += [(n, f"{accuracy['snn'][n]:.2%}", f"{accuracy['agreement'][n]:.2%}") for n in _DEMO_STEPS]
    firing = [("layer", "spikes per neuron and step"), *((n, f"{rate:.4f}") for n, rate in rates.items())]
    parts = [
        snn.conversion_report.show(options.width),
        f"ANN accuracy  {accuracy['ann']:.2%}",
        show_table(rows, right=range(3)),
        show_table(firing, right=[1]),
        f"conversion {seconds['conversion']:.1f} s, simulation {seconds['simulation']:.1f} s",
    ]
    data = {
        "accuracy": accuracy,
        "firing_rates": rates,
        "seconds": seconds,
        "report": snn.conversion_report.get_config(),
    }
    return _Result("\n\n".join(parts), data)


def _check(options):
    report = keras_snn.check(
        load_model(options.model), input_shapes=options.shape, nonspiking=options.nonspiking
    )
    error = f"'{options.model}' does not convert, for what is said above."
    return _Result(
        report.show(options.width),
        {
            "converts": report.converts,
            "layers": [dataclasses.asdict(v) for v in report.verdicts],
            "notes": list(report.notes),
        },
        None if report.converts else error,
    )


def _convert(options):
    _check_output(options.output, overwrite=options.force)
    if options.output.exists() and options.model.exists() and options.output.samefile(options.model):
        raise ValueError(f"'{options.output}' is the model to convert. Name another --output.")
    model = load_model(options.model)
    data = None
    if options.calibration is not None:
        data = read_data(options.calibration, split="train[:1000]", raw_pixels=options.raw_pixels)
        data = _inputs(data, model, options.calibration)
    _say(options, f"Converting '{model.name}'")
    snn = keras_snn.convert(model, data, **_conversion_options(options))
    snn.save(options.output)
    text = f"{snn.conversion_report.show(options.width)}\n\nwrote {options.output}"
    return _Result(text, {"output": str(options.output), "report": snn.conversion_report.get_config()})


def _evaluate(options):
    model = _load_spiking(options.model)
    data = read_data(options.data, split="test", raw_pixels=options.raw_pixels)
    if "y" not in data:
        raise ValueError(f"'{options.data}' must hold labels in an array y. Received: {', '.join(data)}.")
    x, y = _inputs(data, model, options.data), data["y"]
    run = model.simulate(x, y, timesteps=options.timesteps, verbose=options.verbose)
    if run.accuracy_over_time is None:
        raise ValueError(
            f"'{options.model}' must classify. Received: labels y that are no classes of its output."
        )
    curves = {"accuracy_over_time": run.accuracy_over_time}
    header = ["time steps", "accuracy"]
    if options.top_k is not None:
        curves["top_k_accuracy_over_time"] = run.top_k_accuracy_over_time(y, options.top_k)
        header.append(f"among the {options.top_k} largest")
    shown = {2**i for i in range(run.timesteps.bit_length())} | {run.timesteps}
    rows = [[steps, *(f"{curve[steps - 1]:.2%}" for curve in curves.values())] for steps in sorted(shown)]
    text = show_table([header, *rows], right=range(len(header)))
    return _Result(text, {"samples": len(y), **{name: curve.tolist() for name, curve in curves.items()}})


def _report(options):
    json_file = options.output.with_suffix(".json")
    for path in (options.output, json_file):
        _check_output(path, overwrite=options.force)
    model = _load_spiking(options.model)
    data = read_data(options.data, split="test", raw_pixels=options.raw_pixels)
    report = keras_snn.report(
        model,
        _inputs(data, model, options.data),
        data.get("y"),
        path=options.output,
        timesteps=options.timesteps,
        energy=options.energy,
        verbose=options.verbose,
    )
    lines = [textwrap.fill(line, options.width) for line in str(report).splitlines()]
    text = "\n".join([*lines, "", f"wrote {options.output} and {json_file}"])
    return _Result(text, {"output": [str(options.output), str(json_file)], "report": report.facts})


def _export(options):
    kind = options.output.suffix if options.output.suffix in _EXPORTS else ""
    if kind != ".nir":
        _check_can_export(kind, options.output)
    model = _load_spiking(options.model)
    _check_output(options.output, overwrite=False)
    _say(options, f"Exporting '{model.name}'")
    if kind == ".nir":
        keras_snn.export_nir(
            model, options.output, dt=options.dt, accept=options.accept, pooling=options.pooling
        )
    else:
        with replacing(options.output) as (path,):
            try:
                model.export(path, verbose=False, format=_EXPORTS.get(kind, "tf_saved_model"))
            except ImportError as error:
                package, install = _NEEDS.get(kind, ("tensorflow", "tensorflow"))
                raise ImportError(
                    f"'{options.output}' needs the package {package}. Received: {error}. "
                    f"Install it: pip install '{install}'."
                ) from error
            except (ValueError, TypeError, OSError, MemoryError, RuntimeError):
                raise
            except Exception as error:
                # TensorFlow has errors of its own for disks.
                raise OSError(str(error).partition(" [Op:")[0].rpartition("; ")[2]) from error
    return _Result(f"wrote {options.output}", {"output": str(options.output)})


def _check_can_export(kind, path):
    """Raise, before any work, if Keras cannot write a file of this suffix, or a SavedModel, here."""
    backend = keras.backend.backend()
    if backend == "torch" or (kind and backend != "tensorflow"):
        what = f"{kind} files" if kind else "SavedModel"
        raise ValueError(
            f"--output must end in .nir on {_BACKENDS[backend]}, where Keras writes no {what}. Received: "
            f"'{path}'. Run it with KERAS_BACKEND=tensorflow; the model is the same."
        )


def _layers(options):
    names = list(keras_snn.supported_layers())
    return _Result(table() if options.markdown else "\n".join(names), names)


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


def _check_output(path, *, overwrite):
    """Raise before any work if a result could not be written."""
    if not path.parent.is_dir():
        raise ValueError(f"'{path.parent}' must be a folder. Received: no such folder.")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"'{path.parent}' must be a folder that can be written. Received: {error.strerror}."
        ) from error
    if path.is_dir() or (path.exists() and not overwrite):
        hint = "Name another --output" if path.is_dir() else "Use --force to overwrite it"
        raise ValueError(f"'{path}' exists. {hint}.")
    check_file(path)


if __name__ == "__main__":
    sys.exit(main())
