"""The command `keras-snn`: arguments in, text out."""

import argparse
import importlib.resources
import inspect
import pathlib
import sys
import time
import warnings

import keras
import numpy as np

import keras_snn
from keras_snn._files import replacing
from keras_snn.graph.registry import table

_DEMO_STEPS = (1, 2, 4, 8, 16, 32, 64)


def main(arguments=None):
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"keras-snn: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-snn", description="Spiking networks from trained Keras models."
    )
    parser.add_argument("--version", action="version", version=f"keras-snn {keras_snn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser(
        "demo", help="convert and run a small digit network that comes with the package"
    )
    demo.add_argument("--samples", type=_positive, default=1000, help="test images, at most 1000")
    demo.set_defaults(run=_demo)

    convert = commands.add_parser("convert", help="convert a .keras file into a spiking one")
    convert.add_argument("model", type=pathlib.Path, help="trained model, .keras")
    convert.add_argument("--output", "-o", type=pathlib.Path, required=True, help="spiking model, .keras")
    convert.add_argument("--data", type=pathlib.Path, help="calibration samples: .npz with x, or .npy")
    _add_conversion_options(convert)
    convert.add_argument("--force", action="store_true", help="overwrite the output")
    convert.set_defaults(run=_convert)

    evaluate = commands.add_parser("evaluate", help="accuracy of a spiking .keras file after every step")
    evaluate.add_argument("model", type=pathlib.Path, help="spiking model, .keras")
    evaluate.add_argument("--data", type=pathlib.Path, required=True, help=".npz with x and y")
    evaluate.add_argument("--timesteps", type=_positive, help="default: as converted")
    evaluate.set_defaults(run=_evaluate)

    report = commands.add_parser("report", help="write an HTML report on a spiking .keras file")
    report.add_argument("model", type=pathlib.Path, help="spiking model, .keras")
    report.add_argument(
        "--data", type=pathlib.Path, required=True, help=".npz with x, and y if known; or .npy"
    )
    report.add_argument("--output", "-o", type=pathlib.Path, default=pathlib.Path("report.html"))
    report.add_argument("--timesteps", type=_positive, help="default: as converted")
    report.add_argument("--energy", default="45nm_float32", help="figures of the energy estimate")
    report.add_argument("--force", action="store_true", help="overwrite the output")
    report.set_defaults(run=_report)

    check = commands.add_parser("check", help="say what would become of every layer of a .keras file")
    check.add_argument("model", type=pathlib.Path, help="trained model, .keras")
    check.add_argument("--nonspiking", choices=["error", "allow"], default="error")
    check.set_defaults(run=_check)

    layers = commands.add_parser("layers", help="list the Keras layers that convert")
    layers.add_argument("--markdown", action="store_true", help="as the table in the README")
    layers.set_defaults(run=_layers)
    return parser


def _add_conversion_options(parser):
    """Add the arguments of `keras_snn.convert`, which knows their defaults."""

    def add(name, text=None, **how):
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text, **how)

    add("timesteps", "default: 64", type=_positive)
    add("normalization", choices=["percentile", "max", "none"])
    add("percentile", "in percent, in (0, 100]", type=float)
    add("reset", "of the membrane potential after a spike", choices=["subtract", "zero"])
    add("initial-potential", "as a fraction of the threshold; default: 0.5", type=float)
    add("input-encoding", choices=["current", "poisson", "events"])
    add("input-rate", "spikes per step of the largest input, for poisson", type=float)
    add("max-pool", choices=["exact", "fir", "avg", "exp"])
    add("softmax", choices=["potential", "poisson", "clock"])
    add("delay", "steps that a layer waits for each one before it", type=int)
    add("readout-delay", "first steps that the read-out leaves out", type=int)
    add("nonspiking", choices=["error", "allow"])
    add("dtype", "dtype or policy of the spiking model, such as mixed_bfloat16")
    add("seed", "for what is random", type=int)


def _conversion_options(options):
    """Return what was given of the arguments of `keras_snn.convert`."""
    given = vars(options)
    neuron = {name: given[name] for name in ("reset", "initial_potential") if name in given}
    names = inspect.signature(keras_snn.convert).parameters.keys() - {"model"}
    found = {name: given[name] for name in names if name in given}
    return {**found, "neuron": keras_snn.neurons.IntegrateAndFire(**neuron)}


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def _demo(options):
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        x, y, x_calibration = data["x_test"], data["y_test"], data["x_calibration"]
    x, y = x[: options.samples], y[: options.samples]

    print(f"Converting '{model.name}' on {len(x_calibration)} training digits")
    start = time.perf_counter()
    snn = keras_snn.convert(model, x_calibration, timesteps=_DEMO_STEPS[-1])
    converted = time.perf_counter()
    print(f"\n{snn.conversion_report}\n")
    print(f"Simulating {snn.timesteps} steps of {len(x)} test digits")
    run = snn.simulate(x, y, record=["spike_counts"], batch_size=100, verbose=1)
    simulated = time.perf_counter()

    of_ann = model.predict(x, batch_size=100, verbose=0).argmax(axis=-1)
    agreement = run.outputs_over_time.argmax(axis=-1) == of_ann[:, None]
    print(f"\nANN accuracy  {np.mean(of_ann == y):.2%}\n\ntime steps  SNN accuracy  agrees with ANN")
    for steps in _DEMO_STEPS:
        accuracy = run.accuracy_over_time[steps - 1]
        print(f"{steps:>10}  {accuracy:>12.2%}  {agreement[:, steps - 1].mean():>15.2%}")
    print("\nlayer         spikes per neuron and step")
    for name, rates in run.firing_rates.items():
        print(f"{name:12}  {rates.mean():.4f}")
    print(f"\nconversion {converted - start:.1f} s, simulation {simulated - converted:.1f} s")


def _convert(options):
    if options.output.suffix != ".keras":
        raise ValueError(f"--output must end in .keras. Received: '{options.output}'.")
    if not options.output.parent.is_dir():
        raise ValueError(f"'{options.output.parent}' must be a folder. Received: no such folder.")
    if options.output.exists() and options.output.samefile(options.model):
        raise ValueError(f"'{options.output}' is the model to convert. Name another --output.")
    if options.output.exists() and not options.force:
        raise ValueError(f"'{options.output}' exists. Use --force to overwrite it.")
    model = _load(options.model)
    data = None if options.data is None else _read(options.data)["x"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        snn = keras_snn.convert(model, data, **_conversion_options(options))
    _save(snn, options.output)
    print(f"\n{snn.conversion_report}\n")
    for warning in caught:
        print(f"keras-snn: warning: {warning.message}", file=sys.stderr)
    print(f"wrote {options.output}")


def _check(options):
    report = keras_snn.check(_load(options.model), nonspiking=options.nonspiking)
    print(report)
    if not report.converts:
        raise ValueError(f"'{options.model}' does not convert, for what is said above.")


def _layers(options):
    print(table() if options.markdown else "\n".join(keras_snn.supported_layers()))


def _evaluate(options):
    model = _load_spiking(options.model)
    data = _read(options.data)
    if "y" not in data:
        raise ValueError(f"'{options.data}' must hold the arrays x and y. Received: {', '.join(data)}.")
    run = model.simulate(data["x"], data["y"], timesteps=options.timesteps, verbose=1)
    if run.accuracy_over_time is None:
        raise ValueError(
            f"'{options.model}' must classify. Received: labels y that are no classes of its output."
        )
    print("\ntime steps  accuracy")
    shown = {2**i for i in range(run.timesteps.bit_length())} | {run.timesteps}
    for steps in sorted(shown):
        print(f"{steps:>10}  {run.accuracy_over_time[steps - 1]:>8.2%}")


def _report(options):
    json_file = options.output.with_suffix(".json")
    for path in (options.output, json_file):
        if path.exists() and not options.force:
            raise ValueError(f"'{path}' exists. Use --force to overwrite it.")
    data = _read(options.data)
    report = keras_snn.report(
        _load_spiking(options.model),
        data["x"],
        data.get("y"),
        path=options.output,
        timesteps=options.timesteps,
        energy=options.energy,
        verbose=1,
    )
    print(f"\n{report}\n\nwrote {options.output} and {json_file}")


def _load(path):
    """Load a model, with one message for whatever is wrong with the file."""
    if not path.is_file():
        raise ValueError(f"'{path}' must be a .keras file. Received: no such file.")
    try:
        return keras.models.load_model(path)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"'{path}' must be a .keras file. Received: one that does not load ({reason})."
        ) from error


def _load_spiking(path):
    model = _load(path)
    if not isinstance(model, keras_snn.SpikingModel):
        raise ValueError(
            f"'{path}' must hold a spiking model. Received: a {type(model).__name__} model. "
            f"Convert it first: keras-snn convert {path} --output snn.keras"
        )
    return model


def _read(path):
    """Read arrays from .npz, or `x` from .npy; pickled objects are refused."""
    if not path.is_file():
        raise ValueError(f"'{path}' must be an .npz or .npy file. Received: no such file.")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = (
            {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        )
    except Exception as error:
        raise ValueError(f"'{path}' must be an .npz or .npy file of numbers. Received: {error}.") from error
    if "x" not in arrays:
        raise ValueError(f"'{path}' must hold an array x. Received: {', '.join(arrays) or 'no arrays'}.")
    return arrays


def _save(model, path):
    """Save a model so that the file is whole or not there."""
    with replacing(path) as (temporary,):
        model.save(temporary)


if __name__ == "__main__":
    sys.exit(main())
