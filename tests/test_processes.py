"""Processes that are started anew compute what the first one does, also after TensorFlow was used."""

import multiprocessing
import os

import keras
import networks
import numpy as np
import pytest

import keras_snn


def outputs_of(path, x):

    import keras_snn  # noqa: F401 - a new process imports for itself

    snn = keras.models.load_model(path)
    return os.getpid(), snn.predict(x, verbose=0), snn.simulate(x).outputs


@pytest.mark.compiled
@pytest.mark.process
def test_a_spawned_process_predicts_after_the_first_one_has(rng, tmp_path):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=8)
    snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
    # A file keeps it: the other process would take the one that is faster, which rounds otherwise.
    snn.engine = "compiled"
    expected = snn.predict(x, verbose=0)
    snn.save(tmp_path / "snn.keras")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        waiting = pool.apply_async(outputs_of, (str(tmp_path / "snn.keras"), x))
        process, predicted, simulated = waiting.get(timeout=300)
    assert process != os.getpid()
    np.testing.assert_array_equal(predicted, expected)
    np.testing.assert_allclose(simulated, expected, rtol=0, atol=1e-6)
