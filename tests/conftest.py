import gc
import os

# Before JAX is imported: it has no float64 otherwise.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import keras
import numpy as np
import pytest

from keras_snn.engines import chunks

# What is imported stays: collections of garbage need not look at it.
gc.freeze()


@pytest.fixture
def rng(request):
    # Another stream for every test, the same one at every run.
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _short_chunks(request, monkeypatch):
    """What results do not depend on; long chunks take long to compile, and tests run each but once."""
    if "long_chunks" not in request.keywords:
        monkeypatch.setattr(chunks, "_LONGEST_CHUNK", 4)


@pytest.fixture(autouse=True)
def _fresh_names():
    # To look through all objects of a long run for garbage takes longer than a test.
    keras.utils.clear_session(free_memory=False)
