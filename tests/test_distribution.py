"""Several devices give what one gives. In processes of their own: devices are set before all else."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
from keras import layers

SCRIPT = pathlib.Path(__file__).parent / "on_two_devices.py"

only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)


@pytest.fixture
def folder(rng, tmp_path):
    """A folder with a compiled model whose sums are exact in binary, and data for it."""
    hidden = [layers.Conv2D(3, 3), layers.ReLU(0.5), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(5)]
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), *hidden, layers.ReLU(0.5), layers.Dense(4, activation="softmax")]
    )
    networks.make_dyadic(model, rng)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(tmp_path / "cnn.keras")
    arrays = {}
    for part, samples in (("train", 128), ("test", 66)):
        arrays[f"x_{part}"] = networks.data_for(model, rng, samples=samples, dyadic=True)
        arrays[f"y_{part}"] = rng.integers(0, 4, samples)
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path


def start(engine, folder, **environment):
    """Start a process that compares two devices, or two processes, with one."""
    path = os.pathsep.join([str(SCRIPT.parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), engine],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(*processes):
    """Wait for processes; all end before the first failure is shown."""
    try:
        errors = [process.communicate(timeout=600)[1] for process in processes]
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
@pytest.mark.process
def test_two_devices_give_what_one_gives(folder):
    wait_for(start("mirrored", folder))


@only_tensorflow
@pytest.mark.process
def test_two_workers_give_what_one_gives(folder):
    workers = free_addresses(2)
    configs = [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]
    wait_for(*[start("workers", folder, TF_CONFIG=config) for config in configs])


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="keras.distribution is JAX's")
@pytest.mark.process
def test_two_devices_of_jax_give_what_one_gives(folder):
    flags = "--xla_force_host_platform_device_count=2"
    wait_for(start("jax", folder, KERAS_BACKEND="jax", XLA_FLAGS=flags))
