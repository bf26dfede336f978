"""Where nothing can be written, kernels are compiled in every process, without a word about it."""

import subprocess
import sys

import pytest
from running import thorough

pytest.importorskip("numba")

_REFUSED = """
import tempfile

def refuse(*args, **options):
    raise OSError(30, "Read-only file system")

# With which Numba tries whether it can write.
tempfile.TemporaryFile = refuse

from keras_snn.engines.events import kernels

assert kernels.run_samples.stats.cache_path is None
"""
_USED = """
import keras
import numpy as np
import keras_snn

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])
# Of random weights a network may be silent, which is a warning.
model.set_weights([np.full(w.shape, 0.25) for w in model.weights])
x = np.linspace(0, 1, 12, dtype="float32").reshape(3, 4)
snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
snn.engine = "compiled"
expected = snn.predict_on_batch(x)
snn.engine = "events"
np.testing.assert_allclose(snn.predict_on_batch(x), expected, atol=1e-6)
"""


# To compile the kernels takes long.
@pytest.mark.parametrize("script", thorough([_REFUSED, _REFUSED + _USED], quick=[0]), ids=["loaded", "used"])
@pytest.mark.process
def test_without_a_folder_to_write_kernels_work_and_show_nothing(script, monkeypatch):
    # Quick to compile rather than to run.
    monkeypatch.setenv("NUMBA_OPT", "0")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    command = [
        sys.executable,
        "-W",
        "error:::keras_snn",
        "-W",
        "error:::numba",
        "-c",
        script,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not any(name in done.stdout + done.stderr for name in ("umba", "Warning", "cache")), done.stderr
