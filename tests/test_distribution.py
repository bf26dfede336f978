"""Several devices give what one gives. In processes of their own: devices are set before all else."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
import networks
from contracts import assert_same, convert

def build():
    model = networks.build(networks.plain, np.random.default_rng(0))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

rng = np.random.default_rng(1)
x = networks.data_for(build(), rng, samples=17)
y = rng.integers(0, 4, 17)
keras.utils.clear_session()
expected = convert(build(), x, timesteps=6)
# The same names again; inside a strategy's scope this would break it.
keras.utils.clear_session()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    snn = convert(build(), x, timesteps=6)
assert snn.distribute_strategy.num_replicas_in_sync == 2
assert snn.conversion_report.layers == expected.conversion_report.layers
predicted = [model.predict(x, batch_size=8, verbose=0) for model in (snn, expected)]
np.testing.assert_allclose(*predicted, rtol=0, atol=1e-6)
scores = [model.evaluate(x, y, batch_size=8, verbose=0) for model in (snn, expected)]
np.testing.assert_allclose(*scores, rtol=1e-6)
for record in (["spike_counts"], ["spike_trains", "membrane_potentials"]):
    runs = [expected.simulate(x, y, record=record, batch_size=8)]
    with strategy.scope():
        runs.append(snn.simulate(x, y, record=record, batch_size=8))
    np.testing.assert_allclose(*[run.outputs_over_time for run in runs], rtol=0, atol=1e-6)
    assert_same(*[run.records for run in runs], tolerance=1e-6)
firing = []
for model in (snn, expected):
    model.watch = True
    model.predict(x, batch_size=8, verbose=0)
    firing.append({name: (layer.neurons, layer.spikes) for name, layer in model.counter.read(6).items()})
    model.counter.reset()
    assert model.counter.read(6) == {}
assert firing[0] == firing[1] != {}
"""


# Keras 3.15 itself fails in `fit` and `evaluate` under this strategy, with any model
# (keras-team/keras#20585).
WORKER = """
import sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else None
import contextlib
import numpy as np
import networks
from contracts import convert

with strategy.scope() if strategy else contextlib.nullcontext():
    model = networks.build(networks.plain, np.random.default_rng(0))
    x = networks.data_for(model, np.random.default_rng(1), samples=18)
    snn = convert(model, x, timesteps=6)
    run = snn.simulate(x, batch_size=8, record=["spike_counts"])
if strategy:
    assert snn.distribute_strategy.num_replicas_in_sync == 2
arrays = {"predicted": snn.predict(x, batch_size=8, verbose=0), "simulated": run.outputs_over_time}
arrays |= run.records["spike_counts"]
scales = np.array([layer.scale for layer in snn.conversion_report.layers], dtype="float64")
np.savez(sys.argv[1], scales=scales, **arrays)
"""

only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)


def start(code, *arguments, **environment):
    """Start a Python process that finds the helpers of the tests."""
    path = [folder for folder in sys.path if folder.endswith("tests")]
    code = f"import os, sys; sys.path[:0] = {path}\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(*processes):
    """Wait for processes; all end before the first failure is shown."""
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0, error[-3000:]


def free_addresses(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


@only_tensorflow
def test_two_devices_give_what_one_gives():
    wait_for(start(MIRRORED))


@only_tensorflow
def test_two_workers_give_what_one_gives(tmp_path):
    workers = free_addresses(2)
    configs = [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]
    paths = [tmp_path / f"{name}.npz" for name in ("alone", "first", "second")]
    wait_for(
        start(WORKER, paths[0]),
        *[start(WORKER, path, TF_CONFIG=config) for path, config in zip(paths[1:], configs, strict=True)],
    )
    alone, *others = [np.load(path) for path in paths]
    for other in others:
        assert set(other.files) == set(alone.files)
        for name in alone.files:
            np.testing.assert_allclose(other[name], alone[name], rtol=0, atol=1e-6, err_msg=name)
