"""Writes `keras_snn/layers/__init__.pyi`: the arguments of the layers, for editors and type checkers.

    python tests/layer_stubs.py

Layers get the arguments of their Keras layers when they are imported, which a type checker does not do.
Beside those and ours there are only the ones of `keras.layers.Layer`, so that others are errors.
"""

import inspect
import pathlib
import re
import subprocess
import sys
import typing

import keras

from keras_snn import layers

PATH = pathlib.Path(__file__).parent.parent / "keras_snn" / "layers" / "__init__.pyi"

HEADER = """# Made by tests/layer_stubs.py with Keras {version}.
from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras

from keras_snn.layers.base import SpikingLayer as SpikingLayer
from keras_snn.neurons import Neuron
{imports}

__all__ = {names}
"""

# Of arguments of Keras layers, which have no annotations.
_SIZES = "int | tuple[int, ...]"
_TYPES = {
    # The neuron is the activation.
    "activation": "Literal['linear', 'relu'] | Callable[..., Any] | None",
    "axis": _SIZES,
    "data_format": "str | None",
    "depth_multiplier": "int",
    "dilation_rate": _SIZES,
    "filters": "int",
    "groups": "int",
    "kernel_size": _SIZES,
    "lora_alpha": "float | None",
    "lora_rank": "int | None",
    "name": "str | None",
    "output_padding": f"{_SIZES} | None",
    "padding": "str",
    "pool_size": _SIZES,
    "strides": f"{_SIZES} | None",
    "units": "int",
    "use_bias": "bool",
}
# Of `keras.layers.Layer`, which all take.
_OF_LAYERS = {
    "activity_regularizer": "Any = None",
    "autocast": "bool = True",
    "dtype": "str | keras.DTypePolicy | None = None",
    "input_shape": "tuple[int | None, ...] | None = None",
    "name": "str | None = None",
    "trainable": "bool = True",
}


def stub():
    """Return the text of the stub."""
    names = [name for name in layers.__all__ if name != "SpikingLayer"]
    # Some have two names.
    classes = {cls.__name__: cls for cls in (getattr(layers, name) for name in names)}
    imports = [f"from {cls.__module__} import {name} as _{name}" for name, cls in classes.items()]
    header = HEADER.format(version=_version(), imports="\n".join(imports), names=layers.__all__)
    aliases = [f"{name} = {getattr(layers, name).__name__}" for name in names if name not in classes]
    text = "\n".join([header, *(_class(name, cls) for name, cls in classes.items()), *aliases])
    ruff = [sys.executable, "-m", "ruff"]
    for command in ([*ruff, "check", "--quiet", "--fix", "--select", "I"], [*ruff, "format", "--quiet"]):
        given = {"input": text, "cwd": PATH.parent, "encoding": "utf-8", "check": True}
        text = subprocess.run([*command, "--stdin-filename", PATH, "-"], stdout=-1, **given).stdout
    return text


def _version():
    """Return the minor version of Keras."""
    return ".".join(keras.__version__.split(".")[:2])


def _class(name, cls):
    hints = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base) and base.__module__.startswith("keras_snn"):
            hints |= typing.get_type_hints(base.__init__)
    given = [p for p in inspect.signature(cls).parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = {p.name for p in given} | {"autocast"}
    base = inspect.signature(layers.SpikingLayer if issubclass(cls, layers.SpikingLayer) else object)
    more = [p for p in base.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in names]
    parts = ["self", *(_argument(p, hints) for p in given)]
    if not any(p.kind is p.KEYWORD_ONLY for p in given):
        parts.append("*")
    parts += [_argument(p, hints) for p in more]
    parts += [
        f"{name}: {rest}" for name, rest in _OF_LAYERS.items() if not any(p.name == name for p in given)
    ]
    # `*` in front of the first that must be given by name.
    first = next((i for i, p in enumerate(given, 1) if p.kind is p.KEYWORD_ONLY), None)
    if first is not None:
        parts.insert(first, "*")
    return f"class {name}(_{name}):\n    def __init__({', '.join(parts)}) -> None: ...\n"


def _argument(parameter, hints):
    """Return an argument with its type and its default as text."""
    name, default = parameter.name, parameter.default
    text = f"{name}: {_text(hints[name]) if name in hints else _TYPES.get(name, 'Any')}"
    return text if default is parameter.empty else f"{text} = {default!r}"


def _text(hint):
    """Return an annotation as it is written."""
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    text = re.sub(r"(?:typing|collections\.abc|keras_snn(?:\.\w+)+)\.(?=[A-Z])", "", text)
    return re.sub(r"\bkeras\.src(?:\.\w+)+\.(?=[A-Z])|\b(?=Layer\b)", "keras.layers.", text)


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")
