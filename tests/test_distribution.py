"""Several devices give what one gives. In processes of their own: devices are set before all else."""

import subprocess
import sys

import keras
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
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_devices_give_what_one_gives():
    path = [folder for folder in sys.path if folder.endswith("tests")]
    code = f"import sys; sys.path[:0] = {path}\n{MIRRORED}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
