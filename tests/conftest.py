import os

# Before JAX is imported: it has no float64 otherwise.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import keras
import numpy as np
import pytest


@pytest.fixture
def rng(request):
    # Another stream for every test, the same one at every run.
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _fresh_names():
    keras.utils.clear_session()
