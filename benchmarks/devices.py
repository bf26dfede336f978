"""Prediction of the CIFAR-10 network on one device and on two, which share the cores of this machine.

    python benchmarks/devices.py [--samples 64] [--timesteps 8] [--repeats 3]

Medians of wall time, and of CPU time of all processes together, of a `predict` that is compiled already.
Every row is a process of its own, or two for MultiWorkerMirroredStrategy. The last two rows need JAX.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import keras
import numpy as np
from machine import describe
from timing import median_times

import keras_snn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))

JAX = {"KERAS_BACKEND": "jax"}
TWO_JAX = {**JAX, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
# Name: how it is shown, processes, and what their environment has besides.
ROWS = {
    "one": ("TensorFlow, one device", 1, {}),
    "mirrored": ("MirroredStrategy, two devices", 1, {}),
    "workers": ("MultiWorkerMirroredStrategy, two processes", 2, {}),
    "jax-one": ("JAX, one device", 1, JAX),
    "jax": ("DataParallel on JAX, two devices", 1, TWO_JAX),
}


def spread(row):
    """Make Keras run on what a row has, and return the strategy of tf.distribute, if there is one."""
    if row == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    if row == "mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if row == "workers":
        import tensorflow as tf

        return tf.distribute.MultiWorkerMirroredStrategy()
    return None


def measure(row, path, options):
    """Save the outputs of the converted network, and return CPU and wall seconds."""
    import networks

    strategy = spread(row)
    if strategy is not None:
        # Entered for good: the process ends with it.
        strategy.scope().__enter__()
    keras.utils.set_random_seed(0)
    model = networks.cifar10_cnn()
    # The same weights on every backend, and sums that are exact.
    rng = np.random.default_rng(0)
    model.set_weights([rng.integers(0, 3, v.shape) / 64 for v in model.weights])
    x = (rng.integers(0, 5, (options.samples, *model.input_shape[1:])) / 4).astype("float32")
    snn = keras_snn.convert(model, x[:16], preset="rueckauer2017", timesteps=options.timesteps, verbose=0)
    np.save(path, snn.predict(x, batch_size=64, verbose=0))
    return list(median_times(lambda: snn.predict(x, batch_size=64, verbose=0), options.repeats))


def run(row, folder, options):
    """Run a row in processes of its own; return CPU and wall seconds, and the outputs of every process."""
    _, number, more = ROWS[row]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    paths = [pathlib.Path(folder) / f"{row}{index}.npy" for index in range(number)]
    processes = []
    for index, path in enumerate(paths):
        command = [sys.executable, __file__, "--row", row, "--path", str(path)]
        for name in ("samples", "timesteps", "repeats"):
            command += [f"--{name}", str(getattr(options, name))]
        environment = {**os.environ, **more}
        if number > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{row} failed")
    times = np.array([json.loads(text.splitlines()[-1]) for text in printed])
    return times[:, 0].sum(), times[:, 1].max(), [np.load(path) for path in paths]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--row", help="measure this row in this process")
    parser.add_argument("--path", help="file for its outputs")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.path, options)))
        return
    print(
        f"{describe()}; {options.samples} images, T = {options.timesteps}, medians of {options.repeats}; "
        "two devices share the cores\n\n"
        "| on | wall s | CPU s | results as on one device |\n| --- | --- | --- | --- |",
        flush=True,
    )
    expected = None
    with tempfile.TemporaryDirectory() as folder:
        for row in ROWS:
            cpu, wall, outputs = run(row, folder, options)
            expected = outputs[0] if expected is None else expected
            equal = all(np.allclose(found, expected, rtol=0, atol=1e-6) for found in outputs)
            print(f"| {ROWS[row][0]} | {wall:.2f} | {cpu:.2f} | {'yes' if equal else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
