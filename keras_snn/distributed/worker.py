"""What runs on the workers: an analysis of one part of the data after the other."""

import dataclasses
import hashlib
import importlib
import json
import pathlib
import pickle
import platform
import tempfile
import threading
import warnings

import keras
import numpy as np

from keras_snn import summaries
from keras_snn._files import replacing
from keras_snn._summary import Summary
from keras_snn._version import __version__
from keras_snn.simulation.source import digest_of

__all__ = [
    "ROW",
    "Analysis",
    "CalibrationTask",
    "Worker",
    "bytes_of_model",
    "merge_cells",
    "raised",
    "versions",
]

# The column of row numbers: the block of the dataset times 2³³, and the row in it.
ROW = "keras_snn_row"
_BITS = 33


def versions():
    """Return the versions that must be the same everywhere."""
    backend = keras.backend.backend()
    known = {"keras_snn": __version__, "keras": keras.__version__}
    return {**known, backend: importlib.import_module(backend).__version__}


def bytes_of_model(model):
    """Return a model as the content of a .keras file."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Of what a file does not hold, such as a schedule: nothing that an analysis needs.
        warnings.simplefilter("ignore")
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """A function of `keras_snn.summaries`, with its model and options, that goes to other processes.

    Attributes:
        kind: Name of the function.
        content: The model, as a .keras file.
        options: Its other arguments.
        name: A digest of all of it, as bytes: equal for equal ones, in every process.
    """

    kind: str
    content: bytes
    options: dict
    name: bytes

    @classmethod
    def of(cls, kind, model, options):
        """Return the analysis of a spiking model."""
        # A file has the date in it.
        settings = [kind, digest_of(model), model.timesteps, model.get_compile_config(), options]
        name = json.dumps(settings, sort_keys=True, default=str).encode()
        return cls(kind, bytes_of_model(model), options, name)

    def start(self):
        """Return the function of samples, labels and the number of the first row that gives a `Summary`."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.keras"
            path.write_bytes(self.content)
            # It comes from the memory of the driver, and may have code in it.
            model = keras.models.load_model(path, safe_mode=False)
        function = getattr(summaries, self.kind)

        def run(x, y, first_row):
            options = dict(self.options)
            if self.kind not in ("calibrate_exit", "evaluate"):
                options["first_row"] = first_row
            labels = () if y is None else (y,)
            return function(model, x, *labels, **options)

        return run


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationTask:
    """A `CalibrationPass` that goes to other processes; as `Analysis`."""

    calibration: summaries.CalibrationPass

    def start(self):
        """As of `Analysis`."""

        def run(x, *_):
            return self.calibration.summarize(x)

        return run

    @property
    def name(self):
        own = self.calibration
        return f"{own.kind} {own.digest} {own.channels} {own.inputs_too}".encode()


class Worker:
    """Takes batches of columns and gives one row for each: the bytes of a `Summary`, or an error.

    An error is a value, since Ray would wrap it, and run other parts before it ends.

    Args:
        task: Function that returns an `Analysis` or a `CalibrationTask`.
        inputs: Dict of the column of every input.
        labels: Column of the labels, or `None`.
        wanted: Versions of the driver, as of `versions`.
        resume: Folder of summaries of parts that are done, or `None`.
    """

    def __init__(self, task, inputs, labels, wanted, resume):
        self.inputs, self.labels, self.resume = inputs, labels, resume
        self.refused = _difference(wanted)
        self.task = None if self.refused else task()
        self.run = None if self.refused else self.task.start()
        # Keras runs a model in one thread at a time.
        self.lock = threading.Lock()

    def __call__(self, batch):
        summary, error = b"", b""
        try:
            with self.lock:
                summary = self._summary(batch)
        except (ValueError, TypeError) as raised:
            error = pickle.dumps(raised)
        return {"summary": _cell(summary), "error": _cell(error)}

    def _summary(self, batch):
        if self.refused:
            raise ValueError(self.refused)
        rows = batch[ROW]
        x = {name: _stacked(batch[column]) for name, column in self.inputs.items()}
        y = None if self.labels is None else _stacked(batch[self.labels])
        path = None if self.resume is None else self._path(rows, x, y)
        if path is not None and path.exists():
            return path.read_bytes()
        try:
            content = self._run(x, y, rows).to_bytes()
        except (ValueError, TypeError) as error:
            place = self._failing(x, y, rows)
            raise type(error)(f"{_where(batch, place)}: {error}") from error
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as (file,):
                file.write_bytes(content)
        return content

    def _run(self, x, y, rows):
        only = x if len(x) > 1 else next(iter(x.values()))
        return self.run(only, y, int(rows[0]))

    def _failing(self, x, y, rows):
        """Return the place of the first row that fails alone, or `None` if each of them is good alone."""
        for i in range(len(rows)):
            one = slice(i, i + 1)
            try:
                of_one = {name: values[one] for name, values in x.items()}
                self._run(of_one, None if y is None else y[one], rows[one])
            except (ValueError, TypeError):
                return i
        return None

    def _path(self, rows, x, y):
        """Return where the summary of a part is kept: by what is asked, and the content of the part."""
        digest = hashlib.sha256(self.task.name)
        for array in (rows, *x.values(), *(() if y is None else (y,))):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return pathlib.Path(self.resume) / f"{digest.hexdigest()[:32]}.npz"


def merge_cells(batch):
    """Return one row for those of several parts, as `Worker` gives them; of errors the first."""
    summary, error = b"", next((content for content in batch["error"] if content), b"")
    if not error:
        first, *others = map(Summary.from_bytes, batch["summary"])
        summary = first.merge(*others).to_bytes()
    return {"summary": _cell(summary), "error": _cell(error)}


def _difference(wanted):
    """Return what is wrong with the versions here, or nothing."""
    here = versions()
    for name, version in wanted.items():
        if here.get(name) != version:
            return (
                f"Workers must have the versions of the driver. Received: {name} {here.get(name, 'missing')} "
                f"on {platform.node()} beside {version}. Install the same version on all machines."
            )
    return ""


def _cell(content):
    cell = np.empty(1, object)
    cell[0] = content
    return cell


def _stacked(column):
    """Return a column as an array of numbers; Ray gives an array of arrays where Parquet has lists."""
    if column.dtype != object:
        return column
    # Rows of several shapes are refused as any data, by name of the row.
    if len({np.shape(value) for value in column}) != 1:
        return column
    return np.stack([np.asarray(value) for value in column])


def _where(batch, place):
    """Return which row it is: of which block, and what its columns of text have of it."""
    if place is None:
        return f"rows {_number(batch[ROW][0])} to {_number(batch[ROW][-1])}"
    texts = [
        f"{name} '{values[place]}'"
        for name, values in batch.items()
        if isinstance(values[place], (str, np.str_))
    ]
    return ", ".join([f"row {_number(batch[ROW][place])}", *texts])


def _number(row):
    return f"{int(row) % 2**_BITS} of block {int(row) >> _BITS}"


def raised(content):
    """Return the error that a `Worker` gave as bytes."""
    return pickle.loads(content)
