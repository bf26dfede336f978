import ast
import dataclasses
import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys

import keras
import pytest

import keras_snn

ROOT = pathlib.Path(keras_snn.__file__).parent

# What each part may import from; nobody imports upwards.
BASE = {"errors", "_validation", "_version", "_gradients", "_types", "_arrays"}
ALLOWED = {
    "errors": set(),
    "_validation": set(),
    "_gradients": set(),
    "_types": set(),
    "_version": set(),
    "_arrays": set(),
    "_data": {"_arrays"},
    "_files": set(),
    "_table": set(),
    "_results": {"_types"},
    "_summary": {"_files", "_results"},
    "_devices": {"_data"},
    "neurons": BASE,
    "layers": BASE | {"neurons"},
    "graph": BASE | {"neurons", "layers"},
    "engines": BASE | {"neurons", "layers", "graph"},
    "simulation": BASE
    | {"_results", "_summary", "_table", "_data", "_devices", "_files"}
    | {"neurons", "layers", "graph", "engines"},
    "analysis": BASE
    | {"_results", "_summary", "_table", "_data", "_devices"}
    | {"neurons", "layers", "graph", "engines", "simulation"},
    "conversion": BASE
    | {"_results", "_summary", "_table", "_data", "_devices"}
    | {"neurons", "layers", "graph", "simulation", "analysis"},
    "reporting": BASE
    | {"_results", "_table", "_data", "_files", "neurons", "graph", "simulation", "analysis", "conversion"},
    "export": BASE | {"_files", "neurons", "layers", "graph", "simulation", "conversion"},
    "_start": set(),
    "__main__": {"cli"},
    "cli": {
        "",
        "distributed",
        "_start",
        "_version",
        "_files",
        "_table",
        "conversion",
        "graph",
        "simulation",
        "analysis",
        "reporting",
    },
    "callbacks": {"reporting"},
    "distributed": {
        "",
        "_files",
        "_summary",
        "_types",
        "_validation",
        "_version",
        "analysis",
        "conversion",
        "graph",
        "reporting",
        "simulation",
        "summaries",
    },
    "summaries": {"_types", "_summary", "simulation", "analysis", "conversion", "reporting"},
    "rules": {"graph"},
    "": {
        "_start",
        "callbacks",
        "distributed",
        "errors",
        "layers",
        "neurons",
        "_version",
        "analysis",
        "conversion",
        "export",
        "graph",
        "reporting",
        "rules",
        "simulation",
        "summaries",
    },
    "demo": set(),
}


def part_of(path):
    relative = path.relative_to(ROOT)
    name = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    return "" if name == "__init__" else name


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "keras_snn":
                parts = name.split(".")
                yield parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""
            else:
                # Only where the backend is TensorFlow, and where the command starts.
                may = path.name in ("_data.py", "snapshot.py", "_start.py") and name == "tensorflow"
                of_backend = "" if may else r"|tensorflow\b"
                assert not re.match(r"keras\.src\b" + of_backend, name), f"{name} in {path}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = part_of(path)
    wrong = set(imported_parts(path)) - ALLOWED[part] - {part}
    assert not wrong, f"{path} imports {wrong}"


@pytest.mark.process
def test_import_loads_no_optional_package_and_makes_no_layers():
    """A layer would take some milliseconds, and a random generator some more."""
    code = (
        "import keras, sys; before = set(sys.modules); made = []; of = keras.layers.Layer.__new__\n"
        "keras.layers.Layer.__new__ = lambda cls, *a, **k: made.append(cls.__name__) or of(cls, *a, **k)\n"
        "keras.layers.Dense(1); assert made == ['Dense'], made\n"
        "import keras_snn; assert made == ['Dense'], made\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "optional = new & {'tensorboard', 'matplotlib', 'nir', 'ray', 'tensorflow_datasets', 'torch'}\n"
        "assert not optional, optional"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_backend_without_loops_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ImportError, match="backends tensorflow, jax and torch of Keras. Received: openvino"):
        importlib.reload(keras_snn)


def test_public_names_are_there():
    modules = (
        keras_snn,
        *(
            getattr(keras_snn, name)
            for name in (
                "callbacks",
                "distributed",
                "errors",
                "layers",
                "neurons",
                "plots",
                "rules",
                "summaries",
            )
        ),
    )
    for module in modules:
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_data_never_changes():
    found = 0
    for info in pkgutil.walk_packages(keras_snn.__path__, "keras_snn."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and dataclasses.fields(value):
                found += 1
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(object.__new__(value), dataclasses.fields(value)[0].name, 0)
    assert found > 20
