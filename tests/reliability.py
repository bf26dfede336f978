"""Bad input, case by case: what comes, and how the package answers.

`python tests/reliability.py` prints the table of tests/reliability_messages.md.
"""

import contextlib
import dataclasses
import io
import json
import multiprocessing
import os
import pathlib
import pickle
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest.mock
import warnings
import zipfile

import h5py
import keras
import numpy as np
from keras import layers

import keras_snn
from keras_snn import neurons
from keras_snn.cli import main
from keras_snn.errors import CalibrationError, ExportError
from keras_snn.layers import PoissonEncoder, SpikingConv2D, SpikingDense, SpikingMaxPool

__all__ = ["CASES", "Case", "NotPermittedError", "World", "show"]

# What Keras puts around a value.
_AROUND = ".+(?={0})|(?<={0}).+"


class NotPermittedError(Exception):
    """The system does not let a case happen."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Bad input, or input at the edge of what is good.

    Attributes:
        where: Where it comes in.
        what: What comes.
        answer: Class of the error; the exit status of the command; or `None` if it is accepted.
        run: Function of a `World` that lets it come; returns the message if that is no error.
        foreign: Pattern of the part of the message that comes from another package, or varies.
    """

    where: str
    what: str
    answer: object
    run: object
    foreign: str = ""

    def message(self, world):
        """Return the answer of the package, with what varies replaced."""
        if isinstance(self.answer, type):
            error = _raised(self.run, world)
            text = (
                str(error) if type(error) is self.answer else f"{error!r} instead of an error of this class"
            )
        else:
            text = self.run(world)
        text = text.replace(f"{world.folder}{os.sep}", "").replace(str(world.folder), "folder")
        text = re.sub(self.foreign, "…", text, flags=re.DOTALL) if self.foreign else text
        return re.sub(r"\s+", " ", text)

    def row(self, message):
        """Return the row of the table."""
        answer = self.answer.__name__ if isinstance(self.answer, type) else f"exit {self.answer}"
        answer = "–" if self.answer is None else answer
        message = message.replace("|", "\\|")
        return f"| {self.where} | {self.what} | {answer} | `` {message} `` |"


def _raised(run, world):
    """Return the error that a function raises, or `None`."""
    try:
        run(world)
    except NotPermittedError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        return error
    return None


class World:
    """A tiny network, its spiking twin, data, and files of all kinds, most of them bad."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        # What code in a file would make.
        self.marker = self.folder / "code_ran"
        rng = np.random.default_rng(0)
        self.model = _network()
        self.x = rng.uniform(0, 1, (6, 4)).astype("float32")
        self.y = np.arange(6) % 2
        self.snn = keras_snn.convert(self.model, self.x, timesteps=4, verbose=0)
        # A simulation is stopped in its calls of the compiled engine, whether there is another one or not.
        self.snn.engine = "compiled"
        plain = neurons.IntegrateAndFire(reset="zero", initial_potential=0.0)
        self.plain = keras_snn.convert(self.model, self.x, timesteps=4, neuron=plain, verbose=0)
        self._write_models()
        self._write_arrays()
        self._write_nir()

    def __truediv__(self, name):
        return self.folder / name

    def files(self):
        """Return all paths that there are, and of files their size and when they changed."""
        found = {path: path.stat() for path in self.folder.rglob("*")}
        return {path: (path.is_file() and (s.st_size, s.st_mtime_ns)) for path, s in found.items()}

    def _write_models(self):
        self.model.save(self / "cnn.keras")
        self.snn.save(self / "snn.keras")
        _halve(self / "snn.keras", self / "half.keras")
        (self / "empty.keras").write_bytes(b"")
        (self / "text.keras").write_text("a model")
        (self / "folder.keras").mkdir()
        with zipfile.ZipFile(self / "photos.keras", "w") as file:
            file.writestr("photo.png", "pixels")

        marker = str(self.marker)
        code = layers.Lambda(lambda x: (open(marker, "w").close(), x)[1], name="code")
        keras.Sequential([keras.Input((4,)), code, layers.Dense(2, "relu")]).save(self / "lambda.keras")
        self.marker.unlink()
        saved = keras.saving.serialize_keras_object(code)
        call = {"module": "os", "class_name": "system", "config": f"touch {marker}", "registered_name": None}
        self._forge("spiking_lambda.keras", lambda config: config["layers"].__setitem__(0, saved))
        self._forge("system.keras", lambda config: config["layers"].__setitem__(0, call))
        self._forge("negative.keras", lambda config: config.update(timesteps=-4))
        self._forge("nowhere.keras", lambda config: config["calls"][0].update(inputs=["nowhere"]))
        self._forge("no_calls.keras", lambda config: config.pop("calls"))

    def _forge(self, name, edit):
        """Write a copy of the spiking model whose configuration is changed."""
        with zipfile.ZipFile(self / "snn.keras") as source, zipfile.ZipFile(self / name, "w") as copy:
            for part in source.namelist():
                content = source.read(part)
                if part == "config.json":
                    whole = json.loads(content)
                    edit(whole["config"])
                    content = json.dumps(whole)
                copy.writestr(part, content)

    def _write_arrays(self):
        x, y = self.x, self.y
        evil = np.array([_Evil(str(self.marker))], dtype=object)
        (self / "raw_pickle.npz").write_bytes(pickle.dumps(evil))
        np.save(self / "pickled.npy", evil)
        for name, arrays in {
            "data": {"x": x, "y": y},
            "pickled": {"x": evil, "y": y[:1]},
            "strings": {"x": np.full((2, 4), "a"), "y": y[:2]},
            "complex": {"x": x + 1j, "y": y},
            "nan": {"x": x * np.nan, "y": y},
            "empty": {"x": x[:0], "y": y[:0]},
            "narrow": {"x": x[:, :2], "y": y},
            "short": {"x": x, "y": y[:3]},
            "classes": {"x": x, "y": y + 7},
            "text": {"x": x, "y": np.array(list("abcdef"))},
            "only_x": {"x": x},
            "only_z": {"z": x},
        }.items():
            np.savez(self / f"{name}.npz", **arrays)
        _halve(self / "data.npz", self / "half.npz")

    def _write_nir(self):
        keras_snn.export_nir(self.plain, self / "net.nir")
        _halve(self / "net.nir", self / "half.nir")
        (self / "text.nir").write_text("a network")
        with h5py.File(self / "foreign.nir", "w") as file:
            file["temperature"] = 21.5
        for name, value in {"reset": "never", "timesteps": "many", "dt": "short"}.items():
            shutil.copy(self / "net.nir", self / f"{name}.nir")
            with h5py.File(self / f"{name}.nir", "r+") as file:
                metadata = file["node/metadata"]
                del metadata[name]
                metadata[name] = value


class _Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def _network():
    hidden = [layers.Dense(3, activation="relu", name="hidden"), layers.Dense(2, name="label")]
    network = keras.Sequential([keras.Input((4,), name="pixels"), *hidden], name="tiny")
    rng = np.random.default_rng(1)
    network.set_weights([rng.uniform(-1, 1, weight.shape) for weight in network.weights])
    return network


def _halve(path, half):
    content = path.read_bytes()
    half.write_bytes(content[: len(content) // 2])


def command(*arguments):
    """Return the exit status of the command, and its message."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            status = stopped.code
    return status, err.getvalue()


def _answers(status, *arguments):
    """Return the function of a `World` that returns the message of the command, one line."""

    def run(world):
        given = [argument(world) if callable(argument) else argument for argument in arguments]
        found, text = command(*given, *([] if status == 2 else ["--quiet"]))
        assert found == status, text
        line = text.splitlines()[-1]
        if status != 2:
            assert text == f"{line}\n", text
        return re.sub(r"^keras-snn( \w+)?: error: ", "", line)

    return run


def _in(name):
    return lambda world: world / name


def _python(what, answer, run, foreign=""):
    return Case("Python", what, answer, run, foreign)


def _convert(what, answer, data=lambda world: world.x, **options):
    """Return the case of a call of `convert` with options."""

    def run(world):
        return keras_snn.convert(world.model, data(world), **{"verbose": 0, **options})

    return _python(what, answer, run)


def _same_as_in_a_batch(world):
    one = world.snn.predict(world.x[:1], verbose=0)
    np.testing.assert_array_equal(one, world.snn.predict(world.x, verbose=0)[:1])
    run = world.snn.simulate(world.x[:1], world.y[:1], record="spike_counts")
    np.testing.assert_array_equal(run.outputs, one)
    return "the same as in a larger batch"


def _one_is_enough(world):
    report = keras_snn.convert(world.model, world.x[:1], verbose=0).conversion_report
    expected = max(layer.max() for layer in [_activations(world, world.x[:1])])
    np.testing.assert_allclose(report.layers[0].scale, expected, rtol=0.01)
    return "the scales are those of the sample"


def _activations(world, x):
    kernel, bias, *_ = world.model.get_weights()
    return np.maximum(x @ kernel + bias, 0)


def _same_in_bytes(world):
    given = (world.x * 8).astype("uint8")
    found = world.snn.predict(given, verbose=0)
    np.testing.assert_array_equal(found, world.snn.predict(given.astype("float32"), verbose=0))
    return "the same as in float32"


def _with_memory(available, run):
    """Return `run` where so many bytes are free."""

    def limited(world):
        with unittest.mock.patch(
            "keras_snn.simulation.memory_check.available_memory", return_value=available
        ):
            return run(world)

    return limited


def _batches_without_end(world):
    class Batches(keras.utils.PyDataset):
        def __getitem__(self, index):
            return world.x

    return keras_snn.convert(world.model, Batches())


_CONVERT = [
    _python("convert(None)", TypeError, lambda world: keras_snn.convert(None)),
    _python("convert of the path of a file", TypeError, lambda world: keras_snn.convert("cnn.keras")),
    _python("convert of a class", TypeError, lambda world: keras_snn.convert(keras.Sequential)),
    _python(
        "convert of a model without an input shape",
        ValueError,
        lambda world: keras_snn.convert(keras.Sequential([layers.Dense(2)], name="open")),
    ),
    _python("convert of a spiking model", ValueError, lambda world: keras_snn.convert(world.snn)),
    _convert("timesteps=-1", ValueError, timesteps=-1),
    _convert("timesteps=0", ValueError, timesteps=0),
    _convert("timesteps=2.5", TypeError, timesteps=2.5),
    _convert("timesteps='8'", TypeError, timesteps="8"),
    _convert("timesteps=True", TypeError, timesteps=True),
    _convert("timesteps=10**12", ValueError, timesteps=10**12),
    _convert("batch_size=-32", ValueError, batch_size=-32),
    _convert("delay=-1", ValueError, delay=-1),
    _convert("delay=64 of 64 time steps", ValueError, delay=64),
    _convert("readout_delay=64 of 64 time steps", ValueError, readout_delay=64),
    _convert("seed=-1", ValueError, seed=-1),
    _convert("seed=0.5", TypeError, seed=0.5),
    _convert("unroll=0", ValueError, unroll=0),
    _convert("percentile=0", ValueError, percentile=0),
    _convert("percentile='99'", TypeError, percentile="99"),
    _convert("percentile=nan", ValueError, percentile=float("nan")),
    _convert("normalization: an array of names", ValueError, normalization=np.array(["max", "mse"])),
    _convert("per_channel='yes'", ValueError, per_channel="yes"),
    _convert("neuron=3", TypeError, neuron=3),
    _convert("dtype='int8'", ValueError, dtype="int8"),
    _convert("calibration data: a name", CalibrationError, lambda world: "train.npz"),
    _convert("calibration data: a number", CalibrationError, lambda world: 3),
    _convert("calibration data: objects", CalibrationError, lambda world: np.array([{}, {}], dtype=object)),
    _convert("calibration data: lists of several lengths", CalibrationError, lambda world: [[1, 2], [3]]),
    _convert("calibration data: strings", CalibrationError, lambda world: np.full((2, 4), "a")),
    _convert("calibration data: complex numbers", CalibrationError, lambda world: world.x + 1j),
    _convert("calibration data: dates", CalibrationError, lambda world: np.zeros((2, 4), "datetime64[s]")),
    _convert("calibration data: no samples", CalibrationError, lambda world: world.x[:0]),
    _convert("calibration data: an empty list", CalibrationError, lambda world: []),
    _convert("calibration data: NaN", CalibrationError, lambda world: world.x * np.nan),
    _convert("calibration data: 1e300", CalibrationError, lambda world: np.full((2, 4), 1e300)),
    _convert("calibration data: another shape", CalibrationError, lambda world: world.x[:, :3]),
    _convert("calibration data: other names", CalibrationError, lambda world: {"image": world.x}),
    _convert("calibration data: one input too many", CalibrationError, lambda world: [world.x, world.x]),
    _convert("calibration data: fewer y than x", CalibrationError, lambda world: (world.x, world.y[:3])),
    _python("calibration data: batches without end", CalibrationError, _batches_without_end),
    _python("calibration data: one sample", None, _one_is_enough),
]
_RUN = [
    _python("predict: one sample", None, _same_as_in_a_batch),
    _python("predict: bytes", None, _same_in_bytes),
    _python("predict: no samples", ValueError, lambda world: world.snn.predict(world.x[:0])),
    _python("predict(None)", ValueError, lambda world: world.snn.predict(None)),
    _python("predict: a name", ValueError, lambda world: world.snn.predict("test.npz")),
    _python("predict: lists", ValueError, lambda world: world.snn.predict([[1, 2, 3, 4]])),
    _python("predict: strings", ValueError, lambda world: world.snn.predict(np.full((2, 4), "a"))),
    _python("predict: objects", ValueError, lambda world: world.snn.predict(world.x.astype(object))),
    _python("predict: complex numbers", ValueError, lambda world: world.snn.predict(world.x + 1j)),
    _python("predict: another shape", ValueError, lambda world: world.snn.predict(world.x[:, :3])),
    _python("predict: batch_size=0", ValueError, lambda world: world.snn.predict(world.x, batch_size=0)),
    _python("predict: batch_size=2.5", TypeError, lambda world: world.snn.predict(world.x, batch_size=2.5)),
    _python("evaluate: no samples", ValueError, lambda world: world.snn.evaluate(world.x[:0], world.y[:0])),
    _python("fit: no samples", ValueError, lambda world: world.snn.fit(world.x[:0], world.y[:0])),
    _python("fit: objects", ValueError, lambda world: world.snn.fit(world.x.astype(object), world.y)),
    _python("snn.timesteps = 0", ValueError, lambda world: setattr(world.snn, "timesteps", 0)),
    _python("snn.unroll = -3", ValueError, lambda world: setattr(world.snn, "unroll", -3)),
    _python("simulate: no samples", ValueError, lambda world: world.snn.simulate(world.x[:0])),
    _python("simulate: NaN", ValueError, lambda world: world.snn.simulate(world.x * np.nan)),
    _python("simulate: timesteps=-4", ValueError, lambda world: world.snn.simulate(world.x, timesteps=-4)),
    _python(
        "simulate: 16 million time steps, with 1 GiB free",
        ValueError,
        _with_memory(2**30, lambda world: world.snn.simulate(np.repeat(world.x, 100, 0), timesteps=2**24)),
    ),
    _python(
        "simulate: spike trains of 16 million time steps, with 1 GiB free",
        ValueError,
        _with_memory(
            2**30, lambda world: world.snn.simulate(world.x, timesteps=2**24, record="spike_trains")
        ),
    ),
    _python(
        "simulate: record='spikes'", ValueError, lambda world: world.snn.simulate(world.x, record="spikes")
    ),
    _python("simulate: record=3", ValueError, lambda world: world.snn.simulate(world.x, record=3)),
    _python(
        "simulate: labels that are no classes",
        ValueError,
        lambda world: world.snn.simulate(world.x, world.y + 1),
    ),
    _python("simulate: negative labels", ValueError, lambda world: world.snn.simulate(world.x, world.y - 1)),
    _python(
        "simulate: labels that are text",
        ValueError,
        lambda world: world.snn.simulate(world.x, np.array(list("abcdef"))),
    ),
    _python("simulate: one label for all", ValueError, lambda world: world.snn.simulate(world.x, 1)),
    _python("simulate: fewer labels", ValueError, lambda world: world.snn.simulate(world.x, world.y[:3])),
    _python(
        "simulate: level=2",
        ValueError,
        lambda world: world.snn.simulate(world.x, exit="confidence", level=2),
    ),
    _python(
        "firing rates that were not recorded",
        ValueError,
        lambda world: world.snn.simulate(world.x).firing_rates,
    ),
    _python("count_operations: no samples", ValueError, lambda w: keras_snn.count_operations(w.snn, w.x[:0])),
    _python("diagnose of an analog model", TypeError, lambda world: keras_snn.diagnose(world.model, world.x)),
    _python(
        "report: energy='3nm'",
        ValueError,
        lambda world: keras_snn.report(world.snn, world.x, path=None, energy="3nm"),
    ),
    _python(
        "calibrate_exit without labels", ValueError, lambda w: keras_snn.calibrate_exit(w.snn, w.x, None)
    ),
]
_LAYERS = [
    _python("IntegrateAndFire(-1)", ValueError, lambda world: neurons.IntegrateAndFire(-1)),
    _python("IntegrateAndFire('1')", TypeError, lambda world: neurons.IntegrateAndFire("1")),
    _python("SpikingDense(-3)", ValueError, lambda world: SpikingDense(-3), _AROUND.format("units=-3")),
    _python(
        "SpikingConv2D(2, -3)",
        ValueError,
        lambda world: SpikingConv2D(2, -3),
        _AROUND.format("kernel_size=-3"),
    ),
    _python("SpikingMaxPool(0)", ValueError, lambda world: SpikingMaxPool(0), _AROUND.format("pool_size=0")),
    _python("PoissonEncoder(0)", ValueError, lambda world: PoissonEncoder(0)),
    _python(
        "SpikingDense on an input without time",
        ValueError,
        lambda world: SpikingDense(3, name="dense")(np.zeros(3)),
    ),
    _python(
        "SpikingDense on no time steps",
        ValueError,
        lambda world: SpikingDense(3, name="dense")(np.zeros((3, 0, 4))),
    ),
]


def _loaded(name):
    return lambda world: keras.models.load_model(world / name)


def _imported(name, **options):
    return lambda world: keras_snn.import_nir(world / name, **options)


def _checked(what, name, foreign=""):
    """Return the case of a .keras file on the command line."""
    return Case("file", what, 1, _answers(1, "check", _in(name)), foreign)


def _evaluated(what, name):
    """Return the case of an .npz file on the command line."""
    return Case("file", what, 1, _answers(1, "evaluate", _in("snn.keras"), "--data", _in(name)))


_LOADS = r"(?<=does not load \().*(?=\)\.)"
_NIR = r"(?<=\.nir' \().*(?=\)\.)"
_FILES = [
    _checked(".keras, cut short", "half.keras"),
    _checked(".keras, empty", "empty.keras"),
    _checked(".keras, text", "text.keras"),
    _checked(".keras, another archive", "photos.keras", _LOADS),
    _checked(".keras, a folder", "folder.keras"),
    _checked(".keras, missing", "none.keras"),
    _checked(".keras with a Lambda layer: its code does not run", "lambda.keras", _LOADS),
    _checked(".keras, spiking, with a Lambda layer", "spiking_lambda.keras", _LOADS),
    _checked(".keras that names os.system as a layer", "system.keras", _LOADS),
    _checked(".keras with timesteps=-4", "negative.keras"),
    _checked(".keras with a call of nothing", "nowhere.keras"),
    _checked(".keras with a field missing", "no_calls.keras", _LOADS),
    Case(
        "file", "load_model, a Lambda layer", ValueError, _loaded("spiking_lambda.keras"), r"(?<=lambda\. ).*"
    ),
    _evaluated(".npz, cut short", "half.npz"),
    _evaluated(".npz with pickled objects: never unpickled", "pickled.npz"),
    _evaluated(".npy with pickled objects", "pickled.npy"),
    _evaluated(".npz that is a pickle", "raw_pickle.npz"),
    _evaluated(".npz, missing", "none.npz"),
    _evaluated(".npz, a folder", "folder.keras"),
    _evaluated(".npz, a .keras file", "cnn.keras"),
    _evaluated(".npz of strings", "strings.npz"),
    _evaluated(".npz of complex numbers", "complex.npz"),
    _evaluated(".npz with NaN", "nan.npz"),
    _evaluated(".npz without samples", "empty.npz"),
    _evaluated(".npz of another shape", "narrow.npz"),
    _evaluated(".npz with fewer y than x", "short.npz"),
    _evaluated(".npz with labels that are no classes", "classes.npz"),
    _evaluated(".npz with labels that are text", "text.npz"),
    _evaluated(".npz without y", "only_x.npz"),
    _evaluated(".npz without x", "only_z.npz"),
    Case("file", ".nir, cut short", ValueError, _imported("half.nir"), _NIR),
    Case("file", ".nir, text", ValueError, _imported("text.nir"), _NIR),
    Case("file", ".nir, another HDF5 file", ValueError, _imported("foreign.nir"), _NIR),
    Case("file", ".nir, missing", ValueError, _imported("none.nir")),
    Case("file", ".nir with reset='never'", ValueError, _imported("reset.nir")),
    Case("file", ".nir with timesteps='many'", TypeError, _imported("timesteps.nir")),
    Case("file", ".nir with dt='short'", TypeError, _imported("dt.nir")),
    Case("file", "import_nir(timesteps=0)", ValueError, _imported("net.nir", timesteps=0)),
]


def _command(what, status, *arguments):
    return Case("command", what, status, _answers(status, *arguments))


def _convert_to(output, *options):
    data = ("--calibration", _in("data.npz"))
    return ("convert", _in("cnn.keras"), *data, "-o", _in(output), *options)


_COMMAND = [
    _command("convert --timesteps -1", 2, *_convert_to("new.keras", "--timesteps", "-1")),
    _command("convert --timesteps many", 2, *_convert_to("new.keras", "--timesteps", "many")),
    _command("convert --timesteps 1000000000000", 1, *_convert_to("new.keras", "--timesteps", 10**12)),
    _command("convert --percentile nan", 1, *_convert_to("new.keras", "--percentile", "nan")),
    _command("convert --seed -1", 1, *_convert_to("new.keras", "--seed", "-1")),
    _command("convert --dtype int8", 1, *_convert_to("new.keras", "--dtype", "int8")),
    _command("convert -o of another format", 2, *_convert_to("new.h5")),
    _command("convert -o of the file it reads", 1, *_convert_to("cnn.keras", "--force")),
    _command("convert -o of a file that exists", 1, *_convert_to("snn.keras")),
    _command("convert -o of a folder that exists", 1, *_convert_to("folder.keras", "--force")),
    _command("convert -o in a folder that does not exist", 1, *_convert_to("no/new.keras")),
    _command("convert -o below a file", 1, *_convert_to("data.npz/new.keras")),
    _command("evaluate of an analog model", 1, "evaluate", _in("cnn.keras"), "--data", _in("data.npz")),
    _command("export -o of another suffix", 2, "export", _in("snn.keras"), "-o", "net.xyz"),
    _command("export --dt -1", 1, "export", _in("snn.keras"), "-o", _in("new.nir"), "--dt", "-1"),
]
_WRITE = [
    _python(
        "save in a folder that does not exist", ValueError, lambda world: world.snn.save(world / "no/a.keras")
    ),
    _python("save below a file", ValueError, lambda world: world.snn.save(world / "data.npz/a.keras")),
    _python("save over a folder", OSError, lambda world: world.snn.save(world / "folder.keras")),
    _python("save as .h5", ValueError, lambda world: world.snn.save(world / "a.h5")),
    _python("report(path=3)", TypeError, lambda world: keras_snn.report(world.snn, world.x, path=3)),
    _python("report as .pdf", ValueError, lambda w: keras_snn.report(w.snn, w.x, path=w / "report.pdf")),
    _python("export_nir over a folder", OSError, lambda w: keras_snn.export_nir(w.plain, w / "folder.keras")),
    _python(
        "export_nir of what NIR cannot express",
        ExportError,
        lambda w: keras_snn.export_nir(w.snn, w / "a.nir"),
    ),
]


@contextlib.contextmanager
def _small_disk(world):
    """Give a folder on a disk of 8 KiB, with a file of the names that results have."""
    folder = world / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], capture_output=True, text=True
    )
    try:
        if mounted.returncode:
            raise NotPermittedError(f"no small disk: {mounted.stderr.strip()}")
        try:
            yield folder
            assert not list(folder.iterdir())
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


def _on_small_disk(run):
    def on_small_disk(world):
        with _small_disk(world) as folder:
            try:
                return run(world, folder)
            finally:
                # Whatever came of it, nothing is left.
                assert [path.name for path in folder.iterdir()] == []

    return on_small_disk


def _disk_command(*arguments):
    def run(world, folder):
        if arguments[0] == "export" and keras.backend.backend() == "torch":
            raise NotPermittedError("Keras writes no SavedModel on PyTorch")
        output = folder / ("new" if arguments[0] == "export" else "new.keras")
        return _answers(1, *[a(world) if callable(a) else a for a in arguments], "-o", output)(world)

    return run


_DISK = [
    Case(
        "full disk", "save", OSError, _on_small_disk(lambda world, disk: world.snn.save(disk / "snn.keras"))
    ),
    Case(
        "full disk",
        "export_nir",
        OSError,
        _on_small_disk(lambda world, disk: keras_snn.export_nir(world.plain, disk / "net.nir")),
    ),
    Case(
        "full disk",
        "report",
        OSError,
        _on_small_disk(lambda world, disk: keras_snn.report(world.snn, world.x, path=disk / "report.html")),
    ),
    Case("full disk", "keras-snn convert", 1, _on_small_disk(_disk_command("convert", _in("cnn.keras")))),
    Case("full disk", "keras-snn export", 1, _on_small_disk(_disk_command("export", _in("snn.keras")))),
]

# Functions at whose call a run is stopped, by what it is doing then.
_MOMENTS = {
    "calibrating": "keras_snn.conversion.calibration.predict_batch",
    "simulating": "keras_snn.simulation.recording.predict_batch",
    "writing": "zipfile.ZipFile.open",
    "renaming": "os.replace",
}


@contextlib.contextmanager
def _stopped(moment, number):
    """In this context, send the process a signal at a moment; writing, at the second call."""
    module, _, name = _MOMENTS[moment].rpartition(".")
    original = getattr(pkgutil.resolve_name(module), name)
    calls = []

    def stop(*args, **kwargs):
        if moment == "writing" and "w" not in args:
            return original(*args, **kwargs)
        calls.append(args)
        if len(calls) == (2 if moment == "writing" else 1):
            signal.raise_signal(number)
        return original(*args, **kwargs)

    # As in a terminal, also where this runs in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with unittest.mock.patch(_MOMENTS[moment], stop):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(moment, run):
    """Return the function of a `World` that interrupts `run`."""

    def interrupted(world):
        with _stopped(moment, signal.SIGINT):
            return run(world)

    return interrupted


def _then(run, look):
    """Return the function of a `World` that looks at what is left of an interrupted call."""

    def looked_at(world):
        error = _raised(run, world)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(look(world))

    return looked_at


def _convert_again(world):
    report = keras_snn.convert(world.model, world.x, verbose=0).conversion_report
    assert report.options["calibrated"]
    return "the next call converts"


def _simulate_again(world):
    expected = world.snn.predict(world.x, verbose=0)
    np.testing.assert_allclose(world.snn.simulate(world.x).outputs, expected, atol=1e-6)
    return "the next call simulates"


def _load_again(world):
    loaded = keras.models.load_model(world / "snn.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], world.snn.get_weights()[0])
    return "the file is as it was"


_REPORT = ("report", _in("snn.keras"), "--data", _in("data.npz"), "-o")
_SIGINT = [
    Case(
        "SIGINT",
        f"{name}, while {moment}",
        answer,
        _then(_interrupted(moment, run), look) if look else _interrupted(moment, run),
    )
    for name, moment, answer, run, look in (
        (
            "convert",
            "calibrating",
            KeyboardInterrupt,
            lambda w: keras_snn.convert(w.model, w.x, verbose=0),
            _convert_again,
        ),
        (
            "simulate",
            "simulating",
            KeyboardInterrupt,
            lambda world: world.snn.simulate(world.x),
            _simulate_again,
        ),
        (
            "save over a file",
            "writing",
            KeyboardInterrupt,
            lambda world: world.snn.save(world / "snn.keras"),
            _load_again,
        ),
        (
            "save over a file",
            "renaming",
            KeyboardInterrupt,
            lambda world: world.snn.save(world / "snn.keras"),
            _load_again,
        ),
        ("keras-snn convert", "calibrating", 130, _answers(130, *_convert_to("new.keras")), None),
        (
            "keras-snn convert --force",
            "writing",
            130,
            _answers(130, *_convert_to("snn.keras", "--force")),
            None,
        ),
        ("keras-snn report", "simulating", 130, _answers(130, *_REPORT, _in("new.html")), None),
    )
]


def _to_be_killed(folder, moment, arguments):
    """Run the command until it is killed; in a process of its own."""
    with _stopped(moment, signal.SIGKILL):
        command(*arguments)


def _killed(moment, *arguments):
    """Return the function of a `World` that kills the command, and looks at what is left."""

    def killed(world):
        given = [str(argument(world) if callable(argument) else argument) for argument in arguments]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["reliability"])
        process = context.Process(target=_to_be_killed, args=(str(world.folder), moment, given))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        left = [path for path in world.folder.iterdir() if path.name.startswith(".")]
        for path in left:
            shutil.rmtree(path)
        return f"the files are as they were; left over: {'a hidden folder' if left else 'nothing'}"

    return killed


_SIGKILL = [
    Case("SIGKILL", f"{name}, while {moment}", None, _killed(moment, *arguments))
    for name, moment, arguments in (
        ("keras-snn convert", "calibrating", _convert_to("new.keras")),
        ("keras-snn report", "simulating", (*_REPORT, _in("new.html"))),
        ("keras-snn convert --force", "writing", _convert_to("snn.keras", "--force")),
        ("keras-snn convert --force", "renaming", _convert_to("snn.keras", "--force")),
    )
]

CASES = [*_CONVERT, *_RUN, *_LAYERS, *_WRITE, *_COMMAND, *_FILES, *_DISK, *_SIGINT, *_SIGKILL]


def show(rows):
    """Return the table."""
    return "\n".join(["| comes in | what comes | answer | message |", "| --- | --- | --- | --- |", *rows])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        world = World(folder)
        sys.stdout.write(show(case.row(case.message(world)) for case in CASES) + "\n")
