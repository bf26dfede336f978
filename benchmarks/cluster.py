"""Analyses on a Ray cluster of this machine: two workers beside one, memory of the driver, bytes of a part.

    python benchmarks/cluster.py [speed] [memory] [bytes] [--samples 32768] [--timesteps 16]

`speed` is the rate of a simulation of the CIFAR-10 network by workers of one thread, once each has given a
part; `memory` what the driver takes while operations of 1,000 and 100,000 rows are counted; `bytes` what a
worker sends for a part, of three networks. It needs `pip install 'keras-snn[ray]'`.
"""

import argparse
import os
import pathlib
import sys
import threading
import time

import keras
import numpy as np
from keras import layers
from machine import describe

import keras_snn
from keras_snn import distributed, summaries
from keras_snn.conversion.calibration import CalibrationPass
from keras_snn.distributed import cluster
from keras_snn.distributed.worker import Analysis
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold

sys.path.insert(0, str(pathlib.Path(__file__).parent / "paper"))

# Rows of a part: the default.
PART = 512
ROWS = (1000, 100_000)


def converted(model, samples=2, **options):
    """Return a network with random weights and random samples, converted."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (samples, *model.input_shape[1:])).astype("float32")
    return keras_snn.convert(model, x, preset="rueckauer2017", verbose=0, **options), x


def rate(snn, dataset, workers):
    """Return what workers simulate: rows a second, milliseconds of CPU a row, and the accuracy.

    The CPU time is that of the workers, and of all processes: with other work on the machine it shows more
    than the rate does.
    """
    task = Analysis.of("simulate", snn, {"batch_size": PART})
    options = distributed.Cluster(workers=workers, cpus=1, part_size=PART)
    found, times, spent = [], [], []
    for content in cluster.parts_of(task, dataset, {"x": "x"}, "y", options):
        found.append(summaries.Summary.from_bytes(content))
        times.append(time.perf_counter())
        spent.append(cpu_seconds())
    whole = found[0].merge(*found[1:])
    # Each worker has compiled by then.
    first = 2 * workers
    rows = sum(part.samples for part in found[first:])
    cpu = 1000 * (np.array(spent[-1]) - spent[first - 1]) / rows
    accuracy = summaries.result(snn, whole).accuracy_over_time
    return rows / (times[-1] - times[first - 1]), cpu, accuracy


def cpu_seconds():
    """Return the CPU seconds of the workers, and of this process and all that it started."""
    found, tick = {}, os.sysconf("SC_CLK_TCK")
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The name of the process may have spaces and brackets.
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            name = (path / "cmdline").read_bytes()
        except OSError:
            continue
        found[int(path.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick, name
    ours = {os.getpid()}
    for _ in range(5):
        ours |= {process for process, (parent, *_) in found.items() if parent in ours}
    workers = sum(found[one][1] for one in ours if b"MapWorker" in found[one][2])
    return workers, sum(found[one][1] for one in ours)


def speed(ray, options):
    import networks

    keras.utils.set_random_seed(0)
    snn, _ = converted(networks.cifar10_cnn(), 16, timesteps=options.timesteps)
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (options.samples, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, options.samples)
    rows = [{"x": x[i], "y": int(y[i])} for i in range(len(x))]
    dataset = ray.data.from_items(rows, override_num_blocks=len(x) // PART)
    rates, cpu, wanted = {}, {}, None
    print("| workers | rows/s | CPU of workers, ms a row | of all processes |\n| --- | --- | --- | --- |")
    for workers in (1, 2):
        rates[workers], cpu[workers], accuracy = rate(snn, dataset, workers)
        texts = " | ".join(f"{value:.2f}" for value in cpu[workers])
        print(f"| {workers} | {rates[workers]:.1f} | {texts} |", flush=True)
        wanted = accuracy if wanted is None else wanted
        assert np.array_equal(accuracy, wanted)
    print(f"\n{rates[2] / rates[1]:.2f} times as many rows by two, with the same accuracies after every step")
    # Two cores are then busy with all that runs, and one worker with one.
    print(f"{2 * cpu[1][0] / cpu[2][1]:.2f} times on two cores without other work, by CPU time", flush=True)


def resident():
    """Return the MiB of memory of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(ray, options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(32, "relu"), layers.Dense(10)])
    snn, _ = converted(model, 16, timesteps=4)

    def made(batch):
        return {
            "x": np.random.default_rng(batch["id"][:1])
            .uniform(0, 1, (len(batch["id"]), 64))
            .astype("float32")
        }

    print("| rows | MiB of the driver, largest |\n| --- | --- |")
    for number in (ROWS[0], *ROWS):
        dataset = ray.data.range(number, override_num_blocks=max(1, number // 1000)).map_batches(made)
        largest, stop = [resident()], threading.Event()

        def watch(largest=largest, stop=stop):
            while not stop.wait(0.05):
                largest[0] = max(largest[0], resident())

        thread = threading.Thread(target=watch)
        thread.start()
        distributed.count_operations(snn, dataset, batch_size=256, workers=1, part_size=1000)
        stop.set()
        thread.join()
        print(f"| {number:,} | {largest[0]:,.0f} |", flush=True)


def lenet():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def sizes(options):
    networks = {
        "LeNet": lenet,
        "VGG16": lambda: keras.applications.VGG16(weights=None),
        "ResNet-50": lambda: keras.applications.ResNet50(weights=None),
    }
    print("| network | scales | of channels | simulate | spike counts | count_operations | report |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, make in networks.items():
        keras.utils.set_random_seed(0)
        model = make()
        snn, x = converted(model, 2, timesteps=options.timesteps)
        y = np.zeros(len(x), int)
        graph = fold(lower(model, nonspiking="allow"))
        channels = {node.name: node.shape[-1] for node in graph.nodes.values() if node.shape}
        found = [
            CalibrationPass("activations", graph).summarize(x),
            CalibrationPass("activations", graph, channels=channels).summarize(x),
        ]
        del model
        run = {"timesteps": options.timesteps, "batch_size": 2}
        found.append(summaries.simulate(snn, x, y, **run))
        found.append(summaries.simulate(snn, x, y, record="spike_counts", **run))
        found.append(summaries.count_operations(snn, x, **run))
        found.append(summaries.report(snn, x, y, **run))
        texts = [f"{summary.nbytes / 1024:,.1f} KiB, {1000 * merging(summary):.0f} ms" for summary in found]
        print(f"| {name} | {' | '.join(texts)} |", flush=True)


def merging(summary, repeats=3):
    """Return the seconds that the driver takes to read a part and to merge it."""
    content, times = summary.to_bytes(), []
    for _ in range(repeats):
        start = time.perf_counter()
        summary.merge(summaries.Summary.from_bytes(content))
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help="speed, memory, bytes; all by default")
    parser.add_argument("--samples", type=int, default=32768)
    parser.add_argument("--timesteps", type=int, default=16)
    options = parser.parse_args()
    parts = options.parts or ["speed", "memory", "bytes"]
    print(f"{describe()}\n")
    if "bytes" in parts:
        sizes(options)
    if {"speed", "memory"} & {*parts}:
        import ray
        import ray.data

        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
        if "speed" in parts:
            speed(ray, options)
        if "memory" in parts:
            memory(ray, options)


if __name__ == "__main__":
    main()
