"""Checks of the paths that commands write to."""

import tempfile

from keras_snn._files import check_file

__all__ = ["check_output"]


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
