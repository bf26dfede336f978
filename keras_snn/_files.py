"""Files and data sets by name: what the command line reads and writes."""

import contextlib
import difflib
import errno
import os
import pathlib
import stat
import tempfile
import textwrap
import zipfile

import keras
import numpy as np

__all__ = ["check_file", "load_model", "output_path", "read_data", "replacing"]

_PREFIX = "tfds:"
_HDF5 = (".h5", ".hdf5")
_NO_FILES = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@contextlib.contextmanager
def replacing(*paths):
    """Give paths to write to; when all is written without an error, these files take the place of `paths`.

    A link stays one: what it leads to is replaced.

    Args:
        paths: `pathlib.Path`s of files or folders in folders that exist.

    Yields:
        A list of paths of the same names in other folders, which are gone afterwards.

    Raises:
        OSError: If they cannot be written, or are there and no files.
    """
    for path in paths:
        check_file(path)
    paths = [pathlib.Path(os.path.realpath(path)) for path in paths]
    try:
        with contextlib.ExitStack() as stack:
            # Beside the target of a link, where it can be renamed.
            folders = [
                tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") for path in paths
            ]
            temporary = [
                pathlib.Path(stack.enter_context(folder)) / path.name
                for folder, path in zip(folders, paths, strict=True)
            ]
            yield temporary
            for written, path in zip(temporary, paths, strict=True):
                os.replace(written, path)
    except OSError as error:
        # The message of h5py is long.
        came = os.strerror(error.errno) if error.errno else error
        raise OSError(
            f"'{paths[0]}' must be in a folder that can be written. Received: {came}. "
            "Nothing was written. Choose another folder, or make room."
        ) from error


def check_file(path):
    """Raise an `OSError` if a path is there and is neither a file nor a link to one, which would be lost."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno != errno.ELOOP:
            # Not there, which a link may lead to, or not to be reached.
            return
        came = "a link to itself"
    else:
        if stat.S_ISREG(mode):
            return
        came = next((name for is_one, name in _NO_FILES.items() if is_one(mode)), "something else")
    raise OSError(f"'{path}' must be a file. Received: {came} of this name. Choose another name.")


def output_path(argument, path):
    """Return `path` as a `pathlib.Path`, before any work for what is written there.

    Raises:
        TypeError: If it is no path.
        ValueError: If its folder does not exist.
        OSError: If it is there and no file.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"`{argument}` must be the name of a file. Received: {argument}={path!r}. "
            "Use a str or pathlib.Path."
        )
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise ValueError(
            f"`{argument}` must be in a folder that exists. Received: {argument}='{path}'. "
            "Make the folder first."
        )
    check_file(path)
    return path


def load_model(path):
    """Load a Keras model from a .keras file, or from an .h5 or .hdf5 file of Keras 2 or 3.

    There is one message for whatever is wrong with the file. Code in it is refused; in a .keras file it is
    loaded after `keras.config.enable_unsafe_deserialization`.

    Raises:
        ValueError: If there is no file, or it does not load.
    """
    path = _existing(path, "a .keras file")
    if path.suffix in _HDF5:
        _check_hdf5(path)
    elif not zipfile.is_zipfile(path):
        raise ValueError(
            f"'{path}' must be a .keras file. Received: another format, or a file that was cut short. "
            "Save the model again."
        )
    try:
        return keras.models.load_model(path)
    except Exception as error:
        raise ValueError(
            f"'{path}' must be a .keras file. Received: one that does not load ({_reason(error)})."
        ) from error


def _check_hdf5(path):
    """Raise a `ValueError` if an HDF5 file holds no model, or one with code, which Keras would run."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except OSError:
        config = None
    if config is None:
        raise ValueError(
            f"'{path}' must be a whole model. Received: another format, weights alone, or a file that was "
            "cut short. Save the model with model.save."
        )
    if any(name in _text_of(config) for name in ('"Lambda"', "__lambda__")):
        raise ValueError(
            f"'{path}' must hold no code. Received: a model with a Lambda layer. Load it in Python, "
            "if you trust whoever wrote it, and replace that layer."
        )


def _text_of(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def read_data(source, *, split, raw_pixels=False):
    """Return a dict of arrays, such as `x` and `y`.

    Args:
        source: Path of an `.npz` file, or of an `.npy` file, which is `x`; pickled objects are
            refused. Or `"tfds:name"` or `"tfds:name:split"`, a supervised data set of tensorflow-datasets.
        split: Split of a data set that names none.
        raw_pixels: Whether bytes of a data set stay in 0 … 255 instead of being divided by 255.

    Raises:
        ValueError: If there is no such data.
    """
    source = str(source)
    if source.startswith(_PREFIX):
        return _read_dataset(source, split, raw_pixels)
    path = _existing(source, "an .npz or .npy file")
    if not zipfile.is_zipfile(path) and not _is_npy(path):
        raise ValueError(
            f"'{path}' must be an .npz or .npy file of numbers. Received: another format, or a file that was "
            "cut short. Save the arrays with numpy.savez."
        )
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        return {name: loaded[name] for name in loaded.files}
    except Exception as error:
        pickled = "allow_pickle" in str(error)
        came = "pickled objects, which are never loaded" if pickled else f"one that does not load ({error})"
        raise ValueError(
            f"'{path}' must be an .npz or .npy file of numbers. Received: {came}. "
            "Save the arrays with numpy.savez."
        ) from error


def _existing(path, kind):
    path = pathlib.Path(path)
    if not path.is_file():
        came = "a folder." if path.is_dir() else f"no such file.{_file_meant(path)}"
        raise ValueError(f"'{path}' must be {kind}. Received: {came}")
    return path


def _file_meant(path):
    """Return a question for the file of the same kind whose name is nearest, if one is near."""
    try:
        known = [other.stem for other in path.parent.iterdir() if other.suffix == path.suffix]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.8)
    return f" Did you mean '{path.with_name(near[0] + path.suffix)}'?" if near else ""


def _is_npy(path):
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _reason(error):
    """Return the message of an error in a line."""
    # Keras names first where it was.
    text = str(error).rpartition("Exception encountered: ")[2].strip()
    first = text.splitlines()[0] if text else type(error).__name__
    return textwrap.shorten(first, 200, placeholder=" …")


def _read_dataset(source, split, raw_pixels):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            f"'{source}' needs tensorflow-datasets. Received: {error}. "
            "Install it with pip install 'keras-snn[datasets]'."
        ) from error
    name, _, given = source.removeprefix(_PREFIX).partition(":")
    try:
        x, y = tfds.as_numpy(tfds.load(name, split=given or split, batch_size=-1, as_supervised=True))
    except Exception as error:
        near = difflib.get_close_matches(name, tfds.list_builders(), n=1, cutoff=0.8)
        meant = f" Did you mean {_PREFIX}{near[0]}?" if near and near[0] != name else ""
        raise ValueError(
            f"'{source}' must be tfds:name or tfds:name:split, a supervised data set of tensorflow-datasets. "
            f"Received: {_reason(error)}{meant}"
        ) from error
    if x.dtype == np.uint8:
        x = x.astype("float32") if raw_pixels else x.astype("float32") / 255
    return {"x": x, "y": y}
