"""The analyses of the package on a Ray cluster of two nodes on this machine, beside those of one process."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import networks
import numpy as np
import pytest
from documents import run_blocks
from keras import layers
from test_summaries import assert_equal_results

import keras_snn
from keras_snn import distributed, summaries
from keras_snn.cli.command import main
from keras_snn.distributed import cluster as cluster_module
from keras_snn.distributed.worker import Analysis

SAMPLES, PART = 150, 20
OPTIONS = {"workers": 2, "cpus": 1, "part_size": PART}
# In the environment of all processes of this cluster.
MARK = "KERAS_SNN_TEST_CLUSTER"
INTERRUPTED = f"""
import keras, numpy as np, ray
import keras_snn
from keras_snn import distributed

arrays = np.load("data.npz")
snn = keras.models.load_model("snn.keras")
ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
dataset = ray.data.from_items([{{"picture": picture}} for picture in arrays["x"]], override_num_blocks=10)
counts = distributed.count_operations(snn, dataset, resume="parts", workers=2, part_size={PART})
np.save("found.npy", counts.snn_operations)
"""


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    mark = f"{MARK}={os.getpid()}"
    os.environ[MARK] = str(os.getpid())
    paths = [str(pathlib.Path(keras_snn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=2)
    ray.init(cluster.address, log_to_driver=False)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    yield mark
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def case(ray):
    """A network whose numbers are dyadic, arrays, and the dataset of them in blocks."""
    from ray import data

    rng = np.random.default_rng(5)
    inputs = keras.Input((5, 4, 2), name="picture")
    x = layers.Conv2D(3, 2, activation="relu", name="conv")(inputs)
    x = layers.Dense(6, activation="relu", name="dense")(layers.Flatten()(x))
    model = networks.make_dyadic(keras.Model(inputs, layers.Dense(4, name="label")(x)), rng)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x, y = networks.data_for(model, rng, samples=SAMPLES, dyadic=True), rng.integers(0, 4, SAMPLES)
    snn = keras_snn.convert(model, x, normalization="none", timesteps=6, verbose=0)
    rows = [{"picture": x[i], "y": int(y[i]), "path": f"{i}.png"} for i in range(SAMPLES)]
    return model, snn, x, y, data.from_items(rows, override_num_blocks=5)


def workers_of(mark):
    """Process ids of the workers of this cluster."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_worker = b"MapWorker" in (path / "cmdline").read_bytes()
            if is_worker and mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                yield int(path.name)


@pytest.mark.thorough
@pytest.mark.process
@pytest.mark.filterwarnings("ignore")
class TestCluster:
    def test_scores_and_reports_are_those_of_one_machine(self, case):
        _, snn, x, y, dataset = case
        found = distributed.evaluate(snn, dataset, "y", **OPTIONS)
        wanted = snn.evaluate(x, y, return_dict=True, verbose=0)
        assert found == pytest.approx(wanted, rel=1e-6)
        found = distributed.report(snn, dataset, "y", path=None, **OPTIONS)
        # Read-outs round otherwise in batches of another size.
        assert_equal_results(found, keras_snn.report(snn, x, y, path=None), tolerance=1e-6)

    def test_a_killed_worker_changes_no_number(self, case, ray, tmp_path):
        """It is killed once the first part is there; all others come, and nothing twice."""
        _, snn, x, y, dataset = case
        options = {"record": ["spike_counts"], "folder": str(tmp_path), "batch_size": 8}
        task = Analysis.of("simulate", snn, options)
        parts = cluster_module.parts_of(
            task, dataset, {"picture": "picture"}, "y", distributed.Cluster(**OPTIONS)
        )
        first = summaries.Summary.from_bytes(next(parts))
        pid = min(workers_of(ray))
        os.kill(pid, signal.SIGKILL)
        others = [summaries.Summary.from_bytes(part) for part in parts]
        assert pid not in workers_of(ray)
        whole = first.merge(*others)
        assert whole.samples == SAMPLES
        wanted = snn.simulate(x, y, record=["spike_counts"])
        found = summaries.result(snn, whole, folder=tmp_path)
        np.testing.assert_array_equal(found.accuracy_over_time, wanted.accuracy_over_time)
        for name, rates in wanted.firing_rates.items():
            np.testing.assert_allclose(found.firing_rates[name], rates, rtol=1e-6)
        read = np.concatenate([part["outputs_over_time 0"] for part in summaries.read_parts(tmp_path)])
        assert read.shape == wanted.outputs_over_time.shape
        np.testing.assert_allclose(
            np.sort(read, axis=0), np.sort(wanted.outputs_over_time, axis=0), rtol=1e-6
        )

    def test_scales_follow_from_all_rows(self, case):
        model, _, x, _, dataset = case
        dataset = dataset.drop_columns(["y", "path"])
        options = {"timesteps": 4, "per_channel": True}
        found = distributed.convert(model, dataset, samples=10, **options, **OPTIONS)
        wanted = keras_snn.convert(model, x, verbose=0, **options)
        for ours, theirs in zip(found.get_weights(), wanted.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_the_cheapest_of_all_kinds_of_neurons_is_chosen(self, ray):
        """Each kind is searched on a worker; on one machine all are, one after the other."""
        from ray import data

        rng = np.random.default_rng(7)
        inputs = keras.Input((8,), name="x")
        x = layers.Dense(20, activation="relu", name="first")(inputs)
        x = layers.Dense(16, activation="relu", name="second")(x)
        model = networks.randomize(keras.Model(inputs, layers.Dense(4, activation="softmax")(x)), rng)
        x = rng.uniform(0, 1, (400, 8)).astype("float32")
        y = model.predict(x, verbose=0).argmax(axis=-1)
        dataset = data.from_items([{"x": x[i], "y": int(y[i])} for i in range(400)], override_num_blocks=4)
        options = {"max_loss": 2.0, "neurons": ("digits", "multi_threshold")}
        found = distributed.convert(model, dataset, "y", workers=2, **options).conversion_report.search
        wanted = keras_snn.convert(model, x, y, verbose=0, **options).conversion_report.search
        chosen, theirs = (next(t for t in s.trials if t.outcome == "chosen") for s in (found, wanted))
        assert (chosen.candidate, chosen.cost) == (theirs.candidate, pytest.approx(theirs.cost))
        assert found.met
        assert len(found.trials) >= len(wanted.trials)

    def test_a_row_that_fails_is_named(self, case):
        _, snn, _, _, dataset = case

        def spoil(batch):
            batch["picture"] = np.array(batch["picture"])
            batch["picture"][batch["path"] == "97.png", 0, 0, 0] = np.nan
            return batch

        message = r"row 7 of block 3, path '97.png': `x` must be finite. Received: 1 values that are NaN"
        with pytest.raises(ValueError, match=message):
            distributed.count_operations(snn, dataset.map_batches(spoil), **OPTIONS)

    def test_another_version_is_refused_by_name(self, case, monkeypatch):
        _, snn, _, _, dataset = case
        monkeypatch.setattr(cluster_module, "versions", lambda: {"keras_snn": "99.0"})
        with pytest.raises(ValueError, match=r"versions of the driver. Received: keras_snn .* beside 99.0"):
            distributed.diagnose(snn, dataset, **OPTIONS)

    def test_a_run_that_ended_goes_on(self, case, tmp_path):
        """Parts that are done are read and not computed again."""
        _, snn, x, y, dataset = case
        distributed.calibrate_exit(snn, dataset, "y", resume=tmp_path, **OPTIONS)
        first, second, *others = sorted(tmp_path.glob("*.npz"))
        first.unlink()
        second.unlink()
        done = {path: path.stat().st_mtime_ns for path in others}
        # What is merged on the way is merged alike.
        found = distributed.calibrate_exit(snn, dataset, "y", resume=tmp_path, fan_in=3, **OPTIONS)
        assert_equal_results(found, keras_snn.calibrate_exit(snn, x, y))
        after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
        assert after.keys() == {first, second, *others}
        assert {path: after[path] for path in done} == done

    def test_ctrl_c_leaves_finished_parts(self, case, tmp_path):
        """Sent to a process that waits for parts, on a cluster of its own."""
        _, snn, x, y, _ = case
        snn.save(tmp_path / "snn.keras")
        np.savez(tmp_path / "data.npz", x=np.tile(x, (20, 1, 1, 1)), y=np.tile(y, 20))
        command = [sys.executable, "-c", INTERRUPTED]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as run:
            until = time.monotonic() + 120
            while len(list((tmp_path / "parts").glob("*.npz"))) < 2:
                assert run.poll() is None, run.stderr.read().decode()
                assert time.monotonic() < until
                time.sleep(0.01)
            run.send_signal(signal.SIGINT)
            error = run.communicate(timeout=60)[1].decode()
        assert run.returncode not in (0, None)
        assert "KeyboardInterrupt" in error
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.npz")}
        assert 2 <= len(done) < 3000 // PART
        # The same call, to its end.
        subprocess.run(command, cwd=tmp_path, check=True, timeout=240)
        found = np.load(tmp_path / "found.npy")
        after = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.npz")}
        assert len(after) == 3000 // PART
        assert {path: after[path] for path in done} == done
        wanted = keras_snn.count_operations(snn, np.tile(x, (20, 1, 1, 1)))
        np.testing.assert_array_equal(found, wanted.snn_operations)

    @pytest.mark.parametrize("kind", ["parquet", "images"])
    def test_the_command_evaluates_on_a_cluster(self, case, kind, tmp_path, capsys):
        pillow = pytest.importorskip("PIL.Image")
        rng = np.random.default_rng(3)
        inputs = keras.Input((6, 5, 3))
        x = layers.Conv2D(3, 3, activation="relu")(inputs)
        model = networks.randomize(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), rng)
        pixels, y = rng.integers(0, 256, (24, 6, 5, 3), "uint8"), np.arange(24) % 2
        snn = keras_snn.convert(model, pixels / 255, timesteps=4, verbose=0)
        snn.save(tmp_path / "snn.keras")
        if kind == "parquet":
            from ray import data

            rows = [{"x": pixels[i].astype("float32") / 255, "y": int(y[i])} for i in range(24)]
            data.from_items(rows).write_parquet(str(tmp_path / "data"))
        else:
            for i in range(24):
                folder = tmp_path / "data" / f"class {y[i]}"
                folder.mkdir(parents=True, exist_ok=True)
                pillow.fromarray(pixels[i]).save(folder / f"{i}.png")
        arguments = ["--data", str(tmp_path / "data"), "--cluster", "local", "--workers", "1", "--json"]
        assert main(["evaluate", str(tmp_path / "snn.keras"), *arguments]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["samples"] == 24
        wanted = snn.simulate(pixels.astype("float32") / 255, y).accuracy_over_time
        np.testing.assert_allclose(found["accuracy_over_time"], wanted, atol=0.05)

    def test_the_guide_runs(self, case, tmp_path, monkeypatch):
        """Of docs/scaling.md the block of clusters, which comes after that of summaries."""
        model, snn, x, y, _ = case
        monkeypatch.chdir(tmp_path)
        names = {"model": model, "snn": snn, "x_test": x[:40], "y_test": y[:40]}
        assert run_blocks("docs/scaling.md", names, slice(5, None)) == 1
        wanted = snn.simulate(x[:40], y[:40]).accuracy_over_time
        np.testing.assert_array_equal(names["run"].accuracy_over_time, wanted)
        assert names["scores"]["accuracy"] == pytest.approx(wanted[-1], rel=1e-6)
        assert (
            names["counts"].snn_operations[-1] == keras_snn.count_operations(snn, x[:40]).snn_operations[-1]
        )
        assert names["snn"].timesteps == 16


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`workers` must be at least 1. Received: workers=0"):
        distributed.Cluster(workers=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'worker'"):
        distributed.Cluster(worker=3)


class Table:
    """As much of a dataset as is looked at for its columns."""

    def __init__(self, *names):
        self.names = names

    def columns(self):
        return self.names

    map_batches = None


def test_columns_are_found_by_the_names_of_the_inputs():
    columns_of = cluster_module.columns_of
    assert columns_of(Table("a", "b", "c"), ["b", "a"], None) == {"b": "b", "a": "a"}
    assert columns_of(Table("image", "y"), ["input"], "y") == {"input": "image"}
    assert columns_of(Table("x", "path", "y"), ["input"], "y") == {"input": "x"}
    with pytest.raises(ValueError, match="columns named as the inputs, 'input', or one x, or one beside"):
        columns_of(Table("image", "path", "y"), ["input"], "y")
    with pytest.raises(ValueError, match="`labels` must name a column of the dataset. Received: labels='z'"):
        columns_of(Table("image", "y"), ["input"], "z")
    with pytest.raises(TypeError, match="`dataset` must be a ray.data.Dataset. Received: ndarray"):
        columns_of(np.zeros(3), ["input"], None)
