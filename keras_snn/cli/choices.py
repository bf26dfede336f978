"""What arguments may be, as text: `--help` is there before anything that takes long to import.

Choices are written once, in the modules that have them. They are read from the text of these modules, since
importing one imports Keras.
"""

import ast
import functools
import pathlib

__all__ = ["CHOICES", "DEFAULT_NEURON", "DEFAULT_TIMESTEPS", "EXPORTS"]

_PACKAGE = pathlib.Path(__file__).parents[1]


@functools.cache
def _body(module):
    """Return the statements of a module, named by its path in the package."""
    return ast.parse((_PACKAGE / module).read_text(encoding="utf-8")).body


def _assigned(body, name):
    """Return the syntax of the value that is assigned to a name, or `None`."""
    for part in body:
        if isinstance(part, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in part.targets
        ):
            return part.value
    return None


def _literal(module, name):
    """Return the values that are text of `name = Literal[…]` in a module."""
    values = ast.literal_eval(_assigned(_body(module), name).slice)
    return tuple(value for value in values if isinstance(value, str))


def _neurons():
    """Return the names of the neurons whose rate can stand for an activation, sorted."""
    found = []
    for path in (_PACKAGE / "neurons").glob("*.py"):
        for part in _body(f"neurons/{path.name}"):
            if isinstance(part, ast.ClassDef):
                alias, is_rate_coding = (_assigned(part.body, n) for n in ("alias", "is_rate_coding"))
                if alias is not None and is_rate_coding is None:
                    found.append(ast.literal_eval(alias))
    return tuple(sorted(found))


_OPTIONS = "conversion/options.py"
CHOICES = {
    "preset": _literal(_OPTIONS, "Preset"),
    "normalization": _literal(_OPTIONS, "Normalization"),
    "neuron": _neurons(),
    "input-encoding": _literal(_OPTIONS, "InputEncoding"),
    "max-pool": _literal("layers/pooling.py", "MaxPoolMethod"),
    "softmax": _literal("layers/readout.py", "SoftmaxMethod"),
    "readout-weighting": ("auto", *_literal("layers/readout.py", "Weighting")),
    "bias-correction": _literal(_OPTIONS, "BiasCorrection"),
    "nonspiking": _literal(_OPTIONS, "NonSpikingParts"),
    "minimize": _literal("conversion/search.py", "Minimize"),
    "energy": tuple(
        ast.literal_eval(key) for key in _assigned(_body("analysis/energy.py"), "ENERGY_FIGURES").keys
    ),
}
DEFAULT_NEURON = "if"
DEFAULT_TIMESTEPS = ast.literal_eval(_assigned(_body(_OPTIONS), "DEFAULT_TIMESTEPS"))
# By suffix, the function of the package that writes such a file, or what Keras calls the format.
EXPORTS = {".nir": "export_nir", ".onnx": "onnx", ".tflite": "litert"}
