import ast
import pathlib

import keras
import pytest
from documents import ROOT
from reliability import CASES, NotPermittedError, World

import keras_snn

DOCUMENT = (ROOT / "tests" / "reliability_messages.md").read_text(encoding="utf-8")
TABLE = [
    line
    for line in DOCUMENT.splitlines()
    if line.startswith("| ") and not line.startswith(("| comes in ", "| --- "))
]
NAME = "<script>alert(1)"
SOURCES = sorted(pathlib.Path(keras_snn.__file__).parent.rglob("*.py"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    pytest.importorskip("nir")
    pytest.importorskip("matplotlib")
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.where}: {case.what}")
def test_bad_input_gives_the_message_of_the_table_and_changes_no_file(case, world):
    before = world.files()
    try:
        row = case.row(case.message(world))
    except NotPermittedError as reason:
        pytest.skip(str(reason))
    finally:
        code_ran = world.marker.exists()
        world.marker.unlink(missing_ok=True)
        assert not code_ran
        assert world.files() == before
    documented = {tuple(row.split(" | ")[:2]): row for row in TABLE}
    assert documented.get((f"| {case.where}", case.what)) == row


def test_the_table_has_every_case_once():
    assert [tuple(row.split(" | ")[:2]) for row in TABLE] == [(f"| {c.where}", c.what) for c in CASES]
    assert len({(case.where, case.what) for case in CASES}) == len(CASES)


def test_a_report_shows_the_name_of_a_layer_as_text(world, tmp_path):
    hidden = [keras.layers.Dense(3, "relu", name=NAME), keras.layers.Dense(2, name="label")]
    model = keras.Sequential([keras.Input((4,)), *hidden], name="<script>")
    snn = keras_snn.convert(model, world.x, timesteps=2, verbose=0)
    keras_snn.report(snn, world.x, world.y, path=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<td>&lt;script&gt;alert(1)</td>" in page


def names_in(source):
    """Return the names that code imports and uses, and its keywords with their values."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Name) and node.id != "requests":
            # That module is found where it is imported; a variable may have its name.
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found |= {f".{node.attr}", ast.unparse(node)}
        elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            found.add(f"{node.arg}={node.value.value}")
    return found


# What runs code from data, and what opens connections.
FORBIDDEN = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "numpy.pickle"),
    *("eval", "exec", "compile", "__import__", "allow_pickle=True", "safe_mode=False"),
    *(".enable_unsafe_deserialization", ".func_load", ".system", ".popen", "subprocess"),
    *("urllib", "urllib.request", "http", "http.client", "requests", "ftplib", "ssl", "aiohttp"),
    *(".get_file", ".urlopen", ".urlretrieve", ".create_connection", "socket.socket", ".connect"),
}


# On a cluster the model of the user, and what comes of it, go between processes, as Ray itself sends code.
AMONG_PROCESSES = {"pickle", "safe_mode=False"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_package_runs_no_code_from_data_and_opens_no_connection(path):
    allowed = AMONG_PROCESSES if path.parent.name == "distributed" else set()
    assert not names_in(path.read_text(encoding="utf-8")) & (FORBIDDEN - allowed)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import pickle", "pickle"),
        ("from urllib import request", "urllib"),
        ("y = eval(x)", "eval"),
        ("np.load(f, allow_pickle=True)", "allow_pickle=True"),
        ("keras.models.load_model(f, safe_mode=False)", "safe_mode=False"),
        ("socket.socket()", "socket.socket"),
        ("keras.utils.get_file(u)", ".get_file"),
    ],
)
def test_names_in_code_are_found(code, name):
    assert name in names_in(code) & FORBIDDEN
