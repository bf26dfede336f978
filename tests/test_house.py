"""How the code is written, as far as no linter checks it: sizes, names, documentation, and who knows what."""

import ast
import inspect
import pathlib
import re

import keras
import pytest

import keras_snn

PACKAGE = pathlib.Path(keras_snn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PUBLIC = [
    keras_snn,
    *(
        getattr(keras_snn, name)
        for name in ("callbacks", "distributed", "errors", "layers", "neurons", "plots", "rules", "summaries")
    ),
]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions_in(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def lines_of(function):
    """Return the number of lines of a function below its docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def faults(path):
    """Yield what is too long in a file, or has no name."""
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > 400:
        yield "file of more than 400 lines"
    for function in functions_in(ast.parse(text)):
        if lines_of(function) > 40:
            yield f"{function.name}: more than 40 lines"
        if function.name == "_":
            yield f"line {function.lineno}: function without a name"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short_and_have_names(path):
    assert not list(faults(path))


def test_what_is_too_long_or_has_no_name_is_found(tmp_path):
    path = tmp_path / "long.py"
    path.write_text("def long():\n" + "    x = 1\n" * 41 + "\n" * 360 + "def _(): ...\n", encoding="utf-8")
    assert len(list(faults(path))) == 3
    path.write_text("def short():\n" + "    x = 1\n" * 40, encoding="utf-8")
    assert not list(faults(path))


def test_modules_of_tests_have_names_of_their_own():
    """Of two with one name, pytest would import one alone."""
    names = [path.name for path in pathlib.Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_model_is_a_small_class():
    """Names that Keras has are its interface; ours are few, and none is public by accident."""
    (tree,) = [
        node for node in tree_of(PACKAGE / "simulation" / "model.py").body if isinstance(node, ast.ClassDef)
    ]
    assert tree.end_lineno - tree.lineno < 250
    names = {name for name in vars(keras_snn.SpikingModel) if not name.startswith("_")}
    of_keras = [*dir(keras.Model), "inputs", "outputs"]
    ours = names - set(of_keras)
    assert ours == {
        "as_functional",
        "calls",
        "chunk_for",
        "engine",
        "exact_steps",
        "is_time_coded",
        "passes",
        "simulate",
        "timesteps",
        "unroll",
        "weight_bits",
    }
    assert len(names) <= 20


def test_facts_about_neurons_are_asked_of_neurons():
    """Outside its package nobody asks a neuron for its class, or whether it has an attribute."""
    classes = "|".join(name for name in keras_snn.neurons.__all__ if name[0].isupper())
    asked = re.compile(
        rf"isinstance\([^()]*, \(?(?:neurons\.)?(?:{classes})\b|(?:get|has)attr\((?:\w+\.)*neuron\b"
    )
    assert asked.search("if isinstance(neuron, neurons.Binary):")
    assert asked.search('getattr(spike.neuron, "unit", 1.0)')
    for path in FILES:
        if path.parent.name != "neurons":
            assert not asked.search(path.read_text(encoding="utf-8")), path


def public_members():
    """Return all public functions, classes and methods of the package's public modules, by name."""
    found = {}
    for module in PUBLIC:
        for name in module.__all__:
            value = getattr(module, name)
            if getattr(value, "__module__", "").startswith("keras_snn") and callable(value):
                found[f"{module.__name__}.{name}"] = value
    for name, value in list(found.items()):
        if inspect.isclass(value):
            found.update({f"{name}.{part}": method for part, method in methods_of(value).items()})
    return found


def methods_of(cls):
    """Return the public methods and properties that a class has first: no base has them."""
    found = {}
    for name, value in vars(cls).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        is_new = not any(hasattr(base, name) for base in cls.__mro__[1:])
        if inspect.isfunction(function) and is_new and not name.startswith("_"):
            found[name] = function
    return found


def missing_in(doc, function):
    """Return what a docstring leaves out."""
    if not doc:
        return ["everything"]
    missing = []
    # Errors have no arguments of their own, and the twins those of their Keras layers.
    has_others = inspect.isclass(function) and issubclass(function, (keras.layers.Layer, Exception))
    if not has_others and "arguments these are" not in doc:
        variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        named = [p.name for p in inspect.signature(function).parameters.values() if p.kind not in variadic]
        # What a base has, it documents.
        bases = function.__mro__[1:] if inspect.isclass(function) else ()
        of_bases = {name for base in bases for name in getattr(base, "__dataclass_fields__", ())}
        own = [name for name in named if name not in {"self", "cls"} | of_bases]
        missing += [name for name in own if not re.search(rf"\b{name}\b", doc)]
    has_sections = re.search(r"^Args:", doc, re.MULTILINE)
    returns = re.search(r"^(?:Returns|Yields):|^Return ", doc, re.MULTILINE)
    if inspect.isfunction(function) and has_sections and not returns:
        gives = inspect.signature(function).return_annotation
        missing += [] if gives in (None, "None") else ["Returns"]
    return missing


def test_public_names_are_documented():
    """A docstring names every argument, and what comes back; twins document what they add to Keras."""
    members = public_members()
    assert len(members) > 130
    found = {
        name: missing_in(inspect.getdoc(value), value)
        for name, value in members.items()
        if name.count(".") < 3 or inspect.isclass(value)
    }
    assert not {name: missing for name, missing in found.items() if missing}


def test_public_methods_are_documented():
    for name, value in public_members().items():
        assert inspect.getdoc(value), name


def test_missing_documentation_is_found():
    def function(first, second):
        """Return a sum.

        Args:
            first: A number.
        """

    assert missing_in(inspect.getdoc(function), function) == ["second"]
    assert missing_in("Add.\n\nArgs:\n    first, second: Numbers.", function) == ["Returns"]
    assert missing_in(None, function) == ["everything"]
