"""Another process, with another number of threads, gives the same spikes, from a file and from a seed."""

import os
import pathlib
import subprocess
import sys
from unittest import mock

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

OPTIONS = {
    "poisson": {"input_encoding": "poisson", "input_rate": 0.75, "softmax": "poisson"},
    "clock": {"softmax": "clock"},
}
# Those of this process are as many as it has processors.
THREADS = "1" if os.cpu_count() > 1 else "2"
# Enough for two threads to share.
TIMESTEPS, SAMPLES = 6, 64


# Tracing takes longer than all else here; the other processes compile.
eagerly = mock.patch.object(keras.Model, "run_eagerly", True)


def convert(model, x, options):
    snn = contracts.convert(model, x, timesteps=TIMESTEPS, seed=5, **options)
    for layer in snn.layers:
        # Scales are no powers of two; weights made so that sums are exact again.
        layer.set_weights([np.round(w * 64) / 64 for w in layer.get_weights()])
    return snn


def spikes(snn, x, batch_size):
    """Return spike counts of all layers and what comes out at every step, by name."""
    run = snn.simulate(x, record="spike_counts", batch_size=batch_size)
    return {**run.spike_counts, "outputs": run.outputs_over_time}


def of_this_process(folder):
    """Write what the files of a folder, and a conversion here, give; a process of its own runs it."""
    x = np.load(folder / "x.npy")
    snns = {name: keras.models.load_model(folder / f"{name}.keras") for name in OPTIONS}
    snns["again"] = convert(keras.models.load_model(folder / "cnn.keras"), x, OPTIONS["poisson"])
    for snn in snns.values():
        # Compiles soonest.
        snn.unroll = 1
    results = {name: spikes(snn, x, batch_size=SAMPLES // 2) for name, snn in snns.items()}
    found = {f"{name}/{key}": value for name, result in results.items() for key, value in result.items()}
    np.savez(folder / "found.npz", **found)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What this process and another one give, by name."""
    folder, rng = tmp_path_factory.mktemp("determinism"), np.random.default_rng(11)
    # Relus that saturate at 0.5 make scales that are exact in binary.
    hidden = [layers.Conv2D(8, 3), layers.ReLU(0.5), layers.MaxPooling2D(3), layers.Flatten()]
    hidden += [layers.Dense(16), layers.ReLU(0.5)]
    model = keras.Sequential([keras.Input((17, 17, 2)), *hidden, layers.Dense(4, activation="softmax")])
    networks.make_dyadic(model, rng)
    x = networks.data_for(model, rng, samples=SAMPLES, dyadic=True)
    model.save(folder / "cnn.keras")
    np.save(folder / "x.npy", x)
    with eagerly:
        snns = {name: convert(model, x, options) for name, options in OPTIONS.items()}
        for name, snn in snns.items():
            snn.save(folder / f"{name}.keras")
        process = _start(folder)
        here = {name: spikes(snn, x, batch_size=SAMPLES) for name, snn in snns.items()}
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    with np.load(folder / "found.npz") as found:
        return here, dict(found)


def _start(folder):
    tests = pathlib.Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    code = "import pathlib, sys, test_determinism as t; t.of_this_process(pathlib.Path(sys.argv[1]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "TF_NUM_INTRAOP_THREADS": THREADS,
            "TF_NUM_INTEROP_THREADS": THREADS,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", [*OPTIONS, "again"])
@pytest.mark.process
def test_another_process_gives_the_same_spikes(name, results):
    """Bit for bit, loaded or converted again, in batches and chunks of time of another size."""
    here, other = results
    for key, expected in here["poisson" if name == "again" else name].items():
        found = other[f"{name}/{key}"]
        # A division rounds in another order of vectors.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if key == "outputs" else 0)
        assert expected.any()
    assert 0 < expected[:, -1].max(axis=-1).mean() < 1


@eagerly
def test_a_sample_keeps_its_random_spikes_in_any_company(rng):
    """Alone, in another order and among others; random numbers belong to the sample and the step."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu", name="hidden")])
    model.add(layers.Dense(4, activation="softmax"))
    networks.make_dyadic(model, rng)
    x = networks.data_for(model, rng, samples=10, dyadic=True)
    order = rng.permutation(10)
    snn = convert(model, x, OPTIONS["poisson"])
    whole, mixed, alone = (spikes(snn, part, batch_size=10) for part in (x, x[order], x[3:4]))
    for key, value in whole.items():
        np.testing.assert_allclose(mixed[key], value[order], rtol=0, atol=1e-6)
        np.testing.assert_allclose(alone[key], value[3:4], rtol=0, atol=1e-6)
