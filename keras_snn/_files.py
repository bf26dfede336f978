"""Files and data sets by name: what the command line reads and writes."""

import contextlib
import os
import pathlib
import tempfile

import keras
import numpy as np

__all__ = ["load_model", "read_data", "replacing"]

_PREFIX = "tfds:"


@contextlib.contextmanager
def replacing(*paths):
    """Give paths to write to; when all is written without an error, these files take the place of `paths`.

    Args:
        paths: `pathlib.Path`s of files or folders in one folder, which exists.

    Yields:
        A list of paths of the same names in another folder, which is gone afterwards.
    """
    with tempfile.TemporaryDirectory(dir=paths[0].parent, prefix=f".{paths[0].stem}-") as folder:
        temporary = [pathlib.Path(folder) / path.name for path in paths]
        yield temporary
        for written, path in zip(temporary, paths, strict=True):
            os.replace(written, path)


def load_model(path):
    """Load a Keras model, with one message for whatever is wrong with the file.

    Raises:
        ValueError: If there is no file, or it does not load.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"'{path}' must be a .keras file. Received: no such file.")
    try:
        return keras.models.load_model(path)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"'{path}' must be a .keras file. Received: one that does not load ({reason})."
        ) from error


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
    path = pathlib.Path(source)
    if not path.is_file():
        raise ValueError(f"'{path}' must be an .npz or .npy file. Received: no such file.")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        return {name: loaded[name] for name in loaded.files}
    except Exception as error:
        raise ValueError(f"'{path}' must be an .npz or .npy file of numbers. Received: {error}.") from error


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
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"'{source}' must be tfds:name or tfds:name:split, a supervised data set of tensorflow-datasets. "
            f"Received: {reason}"
        ) from error
    if x.dtype == np.uint8:
        x = x.astype("float32") if raw_pixels else x.astype("float32") / 255
    return {"x": x, "y": y}
