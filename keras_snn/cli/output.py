"""What commands return and write."""

import dataclasses
import sys
import tempfile

from keras_snn._files import check_file

__all__ = ["EXPORTS", "Result", "check_output", "write_line"]

# What Keras calls the format of a file by its suffix; NIR files are those of `export_nir`.
EXPORTS = {".nir": "nir", ".onnx": "onnx", ".tflite": "litert"}


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command found: as text, as data for --json, and what keeps it from being a success."""

    text: str
    data: object
    error: str | None = None


def write_line(options, text):
    """Report progress, unless the user wants none."""
    if not (options.quiet or options.json):
        print(text, file=sys.stderr)


def check_output(path, *, overwrite):
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
