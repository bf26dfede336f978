"""The arguments of the commands."""

import argparse
import pathlib

from keras_snn._version import __version__
from keras_snn.cli.choices import CHOICES, DEFAULT_NEURON, DEFAULT_TIMESTEPS, EXPORTS
from keras_snn.cli.suggesting import SuggestingParser

__all__ = ["parser"]

_DATA = ".npz with x{} (several inputs: with arrays of their names), or tfds:name[:split] such as tfds:mnist"
_EXIT = "exit status: 0 done, 1 could not, 2 wrong usage, 130 interrupted"


def parser():
    """Return the parser of the command line."""
    top = SuggestingParser(
        prog="keras-snn",
        description="Spiking neural networks from trained Keras models.",
        epilog=f"keras-snn COMMAND --help shows options and examples.\n{_EXIT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"keras-snn {__version__}")
    found = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        *(_add_demo, _add_check, _add_convert, _add_evaluate, _add_report, _add_export, _add_layers),
        _add_completion,
    ):
        add(found)
    return top


def _add_command(found, name, summary, *examples):
    """Add a command and return its parser.

    Args:
        found: The commands.
        name: Name of the command, and of its function in `keras_snn.cli.commands`.
        summary: What the command does.
        examples: Arguments that show its use.
    """
    lines = "\n".join(f"  keras-snn {name} {example}".rstrip() for example in examples)
    command = found.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{lines}\n\n{_EXIT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=name)
    command.add_argument("--quiet", "-q", action="store_true", help="the result only, no progress")
    command.add_argument("--json", action="store_true", help="the result as JSON, no progress")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _add_demo(found):
    command = _add_command(
        found,
        "demo",
        "convert and run a small digit network that comes along",
        "",
        "--samples 200 --json",
        "--output digits",
    )
    command.add_argument("--samples", type=_positive, default=1000, help="test images, at most 1000")
    command.add_argument(
        "--output",
        "-o",
        type=pathlib.Path,
        metavar="FOLDER",
        help="new folder for the network, the spiking network, the digits and a report, to go on with",
    )


def _add_check(found):
    command = _add_command(
        found, "check", "show what would become of every layer of a .keras or .h5 file", "cnn.keras"
    )
    command.add_argument("model", type=pathlib.Path, help="trained model, .keras or .h5")
    command.add_argument("--nonspiking", choices=CHOICES["nonspiking"], default="error")
    command.add_argument(
        "--shape",
        type=_shape,
        action="append",
        help="sizes of an input that leaves some open, such as 224,224,3; once for each input",
    )


def _add_convert(found):
    command = _add_command(
        found,
        "convert",
        "convert a .keras or .h5 file into a spiking one",
        "cnn.keras --calibration train.npz -o snn.keras",
        "cnn.keras --calibration tfds:mnist --timesteps 32 -o s.keras",
        "cnn.keras --calibration val.npz --max-loss 0.1 -o snn.keras",
    )
    command.add_argument("model", type=pathlib.Path, help="trained model, .keras or .h5")
    command.add_argument("--output", "-o", type=_keras_path, required=True, help="spiking model, .keras")
    _add_data(command, "calibration", "", required=False)
    _add_conversion_options(command)
    command.add_argument("--force", action="store_true", help="overwrite the output")


def _add_evaluate(found):
    command = _add_command(
        found,
        "evaluate",
        "accuracy of a spiking .keras file after every step",
        "snn.keras --data test.npz",
        "snn.keras --data tfds:mnist --timesteps 16 --json",
        "snn.keras --data test.parquet --cluster 10.0.0.1:6379",
    )
    _add_spiking_model(command)
    _add_data(command, "data", " and y", required=True)
    _add_cluster(command)
    command.add_argument("--timesteps", type=_positive, help="default: as converted")
    command.add_argument("--top-k", type=_positive, help="also how often the label is among the K largest")


def _add_report(found):
    command = _add_command(
        found,
        "report",
        "write an HTML report on a spiking .keras file",
        "snn.keras --data test.npz -o report.html",
        "snn.keras --data tfds:mnist:test[:1000] --timesteps 16",
        "snn.keras --data pictures --cluster local --workers 2",
    )
    _add_spiking_model(command)
    _add_data(command, "data", ", and y if known", required=True)
    _add_cluster(command)
    command.add_argument("--output", "-o", type=pathlib.Path, default=pathlib.Path("report.html"))
    command.add_argument("--timesteps", type=_positive, help="default: as converted")
    _add_choice(
        command, "energy", CHOICES["energy"], "figures of the energy estimate", default="45nm_float32"
    )
    command.add_argument("--force", action="store_true", help="overwrite the output")


def _add_export(found):
    command = _add_command(
        found,
        "export",
        "write a spiking .keras file as a SavedModel, or as a NIR, ONNX or LiteRT file",
        "snn.keras -o folder",
        "snn.keras -o net.onnx",
        "snn.keras -o net.nir",
    )
    _add_spiking_model(command)
    command.add_argument(
        "--output",
        "-o",
        type=_export_path,
        required=True,
        help="folder, a SavedModel; .nir, .onnx or .tflite",
    )
    _add_choice(
        command,
        "accept",
        ["reset", "threshold", "initial_potential"],
        "of .nir: what readers may do differently, where an error names it",
        nargs="+",
        default=(),
    )
    command.add_argument(
        "--pooling", default="sum", choices=["sum", "average", "convolution"], help="of .nir"
    )
    command.add_argument("--dt", type=float, default=1.0, help="of .nir: length of a time step")


def _add_layers(found):
    command = _add_command(found, "layers", "list the Keras layers that convert", "", "--markdown")
    command.add_argument("--markdown", action="store_true", help="as a table in Markdown")


def _add_completion(found):
    command = _add_command(
        found,
        "completion",
        "print what lets a shell complete commands and options",
        "bash",
        "zsh",
    )
    command.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="to be read by its start-up file")


def _add_data(command, name, more, *, required):
    command.add_argument(f"--{name}", required=required, metavar="DATA", help=_DATA.format(more))
    command.add_argument(
        "--raw-pixels", action="store_true", help="leave pixels of tfds: in 0 … 255, instead of 0 … 1"
    )


def _add_cluster(command):
    command.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run on a Ray cluster, or on processes here if local; DATA is then a .parquet file or a folder "
        "of these, with columns as in .npz, or a folder with a folder of images for each class",
    )
    command.add_argument("--workers", type=_positive, help="with --cluster: default as many as have room")


def _add_choice(command, name, allowed, text, **how):
    """Add an argument whose choices are too long for the line of its name."""
    text = f"{text}: {', '.join(allowed)}"
    command.add_argument(f"--{name}", choices=list(allowed), metavar="NAME", help=text, **how)


def _add_spiking_model(command):
    command.add_argument("model", type=pathlib.Path, help="spiking model, .keras")


def _add_conversion_options(command):
    """Add the arguments of `keras_snn.convert`, which knows their defaults."""

    def add(name, text=None, **how):
        command.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text, **how)

    add("timesteps", f"default: {DEFAULT_TIMESTEPS}, or the window of a time code", type=_positive)
    text = "what options are that are not given"
    _add_choice(command, "preset", CHOICES["preset"], text, default=argparse.SUPPRESS)
    methods, text = CHOICES["normalization"], "what sets the scales"
    _add_choice(command, "normalization", methods, text, default=argparse.SUPPRESS)
    add("percentile", "in percent, in (0, 100]", type=float)
    add("per-channel", "a scale for every channel, or not", action=argparse.BooleanOptionalAction)
    text = f"default {DEFAULT_NEURON}"
    _add_choice(command, "neuron", CHOICES["neuron"], text, default=argparse.SUPPRESS)
    add("reset", "of neurons if: of the potential after a spike", choices=["subtract", "zero"])
    add("initial-potential", "of neurons if: as a fraction of the threshold; default: 0.5", type=float)
    add("input-encoding", choices=CHOICES["input-encoding"])
    add("input-rate", "spikes per step of the largest input, for poisson", type=float)
    add("max-pool", choices=CHOICES["max-pool"])
    add("softmax", choices=CHOICES["softmax"])
    add("delay", "steps that a layer waits for each one before it", type=int)
    add("readout-delay", "first steps that the read-out leaves out, or auto", type=_steps_or_auto)
    add("readout-weighting", "how much each step counts in the output", choices=CHOICES["readout-weighting"])
    text = "add what rates lack on average"
    corrections = (*CHOICES["bias-correction"], "no")
    _add_choice(command, "bias-correction", corrections, text, default=argparse.SUPPRESS)
    add("nonspiking", choices=CHOICES["nonspiking"])
    add("dtype", "dtype or policy of the spiking model, such as mixed_bfloat16")
    add("weight-bits", "2 to 16: weights, thresholds and potentials are integers", type=_positive)
    add("relays", "whether sums that no relu rectifies are sent in spikes", type=_auto_or_not)
    add("seed", "for what is random", type=int)
    _add_search_options(add, command)


def _add_search_options(add, command):
    text = "choose the cheapest network that loses at most this, in percent; the data may hold labels y"
    add("max-loss", text, type=float)
    add("minimize", "with --max-loss: what costs", choices=CHOICES["minimize"])
    text = "with --max-loss: neurons to choose among"
    _add_choice(command, "neurons", CHOICES["neuron"], text, nargs="+", default=argparse.SUPPRESS)


def _auto_or_not(text):
    known = {"auto": "auto", "yes": True, "no": False}
    if text not in known:
        raise argparse.ArgumentTypeError(f"must be auto, yes or no, received '{text}'")
    return known[text]


def _steps_or_auto(text):
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer or auto, received '{text}'") from None


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
    # `pathlib` takes `.nir` for a name without a suffix.
    suffix = path.suffix or (path.name if path.name in EXPORTS else "")
    if text.endswith("/") and suffix in EXPORTS:
        raise argparse.ArgumentTypeError(
            f"must be a folder that does not end in {', '.join(EXPORTS)}, received '{text}'"
        )
    if suffix and not text.endswith("/") and (suffix not in EXPORTS or not path.suffix):
        raise argparse.ArgumentTypeError(
            f"must be a folder or end in {', '.join(EXPORTS)}, received '{text}'; "
            f"for a folder of this name use '{text}/'"
        )
    return path
