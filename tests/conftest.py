import contextlib
import gc
import os
import zlib

# Before JAX is imported: it has no float64 otherwise.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import keras
import numpy as np
import pytest
import running

from keras_snn.conversion import options
from keras_snn.engines import chunks
from keras_snn.simulation import engine

DEFAULT = options._PRESETS["default"]

# They have one name, by which only one could be collected for its doctests.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]

# What is imported stays: collections of garbage need not look at it.
gc.freeze()


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="run all tests, each compiled as for a user")


def pytest_collection_modifyitems(config, items):
    """Leave out what is for `make test-all`, and begin with what starts processes, which takes longest."""
    left_out = [] if config.getoption("thorough") else [item for item in items if "thorough" in item.keywords]
    config.hook.pytest_deselected(items=left_out)
    taken = [item for item in items if item not in set(left_out)]
    items[:] = sorted(taken, key=lambda item: "process" not in item.keywords)


@pytest.fixture
def rng(request):
    # Another stream for every test, the same one at every run.
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _seeded(request):
    """What layers start from is another in every test too, and the same at every run."""
    keras.utils.set_random_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _short_chunks(request, monkeypatch):
    """What results do not depend on; long chunks take long to compile, and tests run each but once."""
    if "long_chunks" not in request.keywords:
        monkeypatch.setattr(chunks, "_LONGEST_CHUNK", 4)


@pytest.fixture(scope="session", autouse=True)
def _cheap_options():
    """Laws hold for all options; with those of the default preset a conversion runs its network for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(options._PRESETS, "default", options._PRESETS["rueckauer2017"])
        yield


@pytest.fixture(autouse=True)
def _default_options(request, monkeypatch):
    if "default_options" in request.keywords:
        monkeypatch.setitem(options._PRESETS, "default", DEFAULT)


@pytest.fixture(autouse=True)
def _compiled_engine(monkeypatch):
    """Where Numba is installed and where it is not, tests are the same; those of events ask for them."""
    monkeypatch.setattr(engine, "_is_faster", lambda model: False)


@pytest.fixture(autouse=True)
def _eagerly(request):
    """What results do not depend on; to compile a small network takes longer than to run few steps."""
    compiles = "compiled" in request.keywords or request.config.getoption("thorough")
    # Other backends compile less, or nothing.
    compiles = compiles or keras.backend.backend() != "tensorflow"
    with contextlib.nullcontext() if compiles else running.eagerly():
        yield


@pytest.fixture(autouse=True)
def _fresh_names():
    # To look through all objects of a long run for garbage takes longer than a test.
    keras.utils.clear_session(free_memory=False)
