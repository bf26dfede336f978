"""Types of the public names, as a type checker sees them."""

import collections
import dataclasses
import inspect
import json
import pathlib
import re
import subprocess
import sys
import typing

import keras
import layer_stubs
import pytest
from documents import ROOT, blocks

import keras_snn
from keras_snn.analysis.energy import ENERGY_FIGURES, Figures

MODULES = [keras_snn, *(getattr(keras_snn, n) for n in ("callbacks", "errors", "layers", "neurons", "plots"))]
WRONG = ROOT / "tests" / "typing" / "wrong_uses.py"
# What the documents take for granted.
PRELUDE = """
import dataclasses

import keras
import numpy as np
from typing_extensions import assert_type

import keras_snn

x_train, y_train = np.zeros((500, 28, 28, 1)), np.zeros(500)
x_test, y_test = x_train, y_train
"""
# What the documents print, and what they got it from.
EPILOGUE = """
assert_type(snn, keras_snn.SpikingModel)
assert_type(run, keras_snn.SimulationResult)
assert_type(run.firing_rates, dict[str, np.ndarray])
loaded = keras.models.load_model("snn.keras")
assert isinstance(loaded, keras_snn.SpikingModel)
assert_type(keras_snn.count_operations(loaded, x_test), keras_snn.OperationCounts)
assert_type(keras_snn.layers.SpikingDense(32), keras_snn.layers.SpikingDense)
assert run.accuracy_over_time is not None
keras_snn.plots.accuracy_over_time(run.accuracy_over_time).set_title("accuracy")


@dataclasses.dataclass(frozen=True)
class Twice(keras_snn.neurons.Neuron):
    v_threshold: float = 0.5
    alias = "twice"

    @property
    def largest_spike(self):
        return 2.0

    def initial_state(self, shape, dtype):
        return [keras.ops.zeros(shape, dtype)]

    def step(self, current, state):
        return keras.ops.floor(state[0] / self.v_threshold), [state[0] + current]


keras_snn.convert(model, x_train, neuron=Twice(1.0))
"""


def is_ours(value):
    return getattr(value, "__module__", "").startswith("keras_snn")


def methods(cls):
    """Yield the public functions of a class and of those it is derived from, as far as they are ours."""
    for base in filter(is_ours, cls.__mro__):
        for name, value in vars(base).items():
            parts = [value.fget, value.fset] if isinstance(value, property) else [value]
            for part in parts:
                part = getattr(part, "__func__", part)
                is_named = inspect.isfunction(part) and is_ours(part) and part.__name__ != "<lambda>"
                if is_named and (name == "__init__" or not name.startswith("_")):
                    yield part


def classes_in(hint):
    """Yield the classes of this package that an annotation names."""
    if inspect.isclass(hint) and is_ours(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from classes_in(part)


def functions():
    """Return the public functions and methods, of the classes too that they take and give."""
    open_, found, seen = [], {}, set()
    for module in MODULES:
        open_ += [value for value in map(vars(module).get, module.__all__) if is_ours(value)]
    while open_:
        value = open_.pop()
        if value in seen:
            continue
        seen.add(value)
        of_value = list(methods(value)) if inspect.isclass(value) else [value] * inspect.isfunction(value)
        found |= dict.fromkeys(of_value)
        annotated = [*of_value, value] if dataclasses.is_dataclass(value) else of_value
        for one in annotated:
            names = typing.TYPE_CHECKING or {"Axes": typing.Any}
            for hint in typing.get_type_hints(one, localns=names).values():
                open_ += classes_in(hint)
    return list(found)


def test_public_functions_are_annotated():
    found = functions()
    assert len(found) > 200
    for function in found:
        # What they take from `keras.Model` has no annotations there.
        if function.__qualname__.startswith(("SpikingModel.", "CheckedModel.", "StoredModel.")):
            continue
        is_method = "." in function.__qualname__
        names = [*inspect.signature(function).parameters][is_method:]
        missing = {*names, "return"} - set(function.__annotations__)
        assert not missing, f"{function.__module__}.{function.__qualname__}: {missing}"


def test_figures_of_energy_are_named_in_the_annotation():
    names, _ = typing.get_args(Figures)
    assert typing.get_args(names) == tuple(ENERGY_FIGURES)


def test_the_stub_of_the_layers_has_their_arguments():
    """After a change of arguments: python tests/layer_stubs.py."""
    text = layer_stubs.PATH.read_text(encoding="utf-8")
    made_with = tuple(map(int, re.search(r"with Keras (\d+)\.(\d+)", text).groups()))
    if tuple(map(int, keras.__version__.split(".")[:2])) < made_with:
        pytest.skip("Keras is older than the stub, and some of its layers have fewer arguments")
    assert text == layer_stubs.stub()


def test_type_checkers_get_the_package_with_its_stubs():
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert re.search(r"^keras_snn =\n    py\.typed$", config, re.MULTILINE)
    assert re.search(r"^keras_snn\.layers =\n    \*\.pyi$", config, re.MULTILINE)
    assert (ROOT / "keras_snn" / "py.typed").exists()


def test_pyright_accepts_what_documents_do_and_finds_wrong_uses(tmp_path):
    pytest.importorskip("pyright")
    pages = [*blocks("README.md"), *blocks("docs/overview.md")]
    code = [code for language, code, _ in pages if language == "python"]
    right = tmp_path / "right_uses.py"
    right.write_text("\n".join([PRELUDE, *code, EPILOGUE]), encoding="utf-8")
    found = collections.defaultdict(list)
    for problem in checked(right, WRONG):
        name, line = pathlib.Path(problem["file"]).name, problem["range"]["start"]["line"]
        found[name].append((line, problem.get("rule"), problem["message"]))
    assert not found["right_uses.py"]
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    expected = {i: line.split("# wrong: ")[1] for i, line in enumerate(lines) if "# wrong: " in line}
    assert len(expected) > 40
    assert {line: rule for line, rule, _ in found[WRONG.name]} == expected


def checked(*paths):
    """Return the errors that pyright finds in files, as it writes them in JSON."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *paths]
    # Where the package is, as a checkout.
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    return json.loads(result.stdout)["generalDiagnostics"]
