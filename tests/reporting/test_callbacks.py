import builtins
import importlib.util

import keras
import networks
import numpy as np
import pytest
from contracts import convert

from keras_snn.callbacks import SpikeRateTensorBoard
from keras_snn.simulation.internals import internals

STEPS = 8


@pytest.fixture
def snn(rng):
    hidden = [
        keras.layers.Conv2D(3, 3, activation="relu", name="conv"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, activation="relu", name="hidden"),
        keras.layers.Dense(4, activation="softmax"),
    ]
    model = networks.randomize(keras.Sequential([keras.Input((6, 5, 2)), *hidden]), rng)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return convert(model, networks.data_for(model, rng), timesteps=STEPS)


@pytest.fixture
def x(snn, rng):
    return rng.uniform(0, 1, (11, 6, 5, 2)).astype("float32")


def read(folder):
    """Return scalars `{tag: {step: value}}`, histograms `{tag: {step: buckets}}`, texts, images of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    kinds = {"scalars": {}, "histograms": {}, "text": {}, "images": {}}
    for tag in events.Tags()["tensors"]:
        kind = events.SummaryMetadata(tag).plugin_data.plugin_name
        kinds[kind][tag] = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}
    return tuple(kinds.values())


def without_rates_over_time(scalars):
    return {tag: values for tag, values in scalars.items() if "firing_rate_over_time" not in tag}


def wanted_scalars(snn, x):
    """The results that follow from the recorded counts."""
    scalars, spikes, all_neurons = {}, 0, 0
    for name, counts in snn.simulate(x, record=["spike_counts"]).spike_counts.items():
        scalars[f"firing_rate/{name}"] = counts.mean(dtype="float64") / STEPS
        scalars[f"silent/{name}"] = (counts == 0).mean()
        scalars[f"saturated/{name}"] = (counts == STEPS).mean()
        spikes, all_neurons = spikes + counts.sum(dtype="float64"), all_neurons + counts.size
    return {**scalars, "sparsity": 1 - spikes / all_neurons / STEPS}


def assert_scalars(written, wanted, steps):
    assert {tag: list(values) for tag, values in written.items()} == {tag: list(steps) for tag in wanted}
    for tag, values in written.items():
        for value in values.values():
            assert value == np.float32(wanted[tag]), tag


@pytest.mark.compiled
def test_warns_of_rates_that_are_only_about_right(snn, x, tmp_path):
    for layer in snn.layers[:3]:
        layer.set_weights([1e6 * weights for weights in layer.get_weights()])
    snn.timesteps = 500
    with pytest.warns(UserWarning, match="Layers 'hidden' have potentials so large that rounding hides"):
        snn.predict(x, callbacks=[SpikeRateTensorBoard(tmp_path)], verbose=0)


def test_predict_writes_what_was_recorded(snn, x, tmp_path):
    wanted = wanted_scalars(snn, x)
    plain = snn.predict(x, batch_size=4, verbose=0)
    callback = SpikeRateTensorBoard(tmp_path / "logs")
    for _ in range(2):
        # Nothing is left over from a run that breaks in the middle.
        np.testing.assert_array_equal(snn.predict(x, 4, 0, None, [callback]), plain)
        with pytest.raises(RuntimeError, match="broken"):
            snn.predict(x, batch_size=4, verbose=0, callbacks=[callback, Breaking()])
    scalars, histograms, text, _ = read(tmp_path / "logs" / "predict")
    assert_scalars(scalars, wanted, [0, 1])
    assert not histograms
    lines = text["conversion_report"][0].item().decode().splitlines()
    assert lines[0] == "| layer | became | from | takes | scale | clipped | error |"
    assert [line.split(" | ")[1] for line in lines[2:5]] == [
        "SpikingConv2D",
        "PerTimestep(reshape)",
        "SpikingDense",
    ]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["predict"]
    assert internals(snn).watched is False


class Breaking(keras.callbacks.Callback):
    def on_predict_batch_end(self, batch, logs=None):
        raise RuntimeError("broken")


def test_evaluate_writes_rates_histograms_and_the_accuracy_after_each_step(snn, x, rng, tmp_path):
    y = rng.integers(0, 4, len(x))
    wanted = wanted_scalars(snn, x)
    callback = SpikeRateTensorBoard(tmp_path, histogram_freq=1, accuracy_data=(x, list(y)))
    scores = snn.evaluate(x, y, batch_size=4, verbose=0, callbacks=[callback])
    assert scores == snn.evaluate(x, y, batch_size=4, verbose=0)
    scalars, histograms, _, images = read(tmp_path / "evaluate")
    curve = scalars.pop("accuracy_over_time")
    trains = snn.simulate(x[:4], record=["spike_trains"]).spike_trains
    for name, train in trains.items():
        expected = train.mean(axis=(0, *range(2, train.ndim)))
        found = scalars[f"firing_rate_over_time/{name}"]
        assert list(found) == list(range(1, STEPS + 1))
        np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6)
    if importlib.util.find_spec("matplotlib"):
        assert images.keys() == {
            "pictures/accuracy_over_time",
            *(f"pictures/spikes of {name}" for name in trains),
        }
        assert all(png.startswith(b"\x89PNG") for image in images.values() for *_, png in image.values())
    assert_scalars(without_rates_over_time(scalars), wanted, [0])
    accuracy = snn.simulate(x, y).accuracy_over_time
    assert curve == {step: np.float32(value) for step, value in enumerate(accuracy, start=1)}
    assert scores[1] == pytest.approx(accuracy[-1])
    counts = snn.simulate(x, record=["spike_counts"]).spike_counts
    assert histograms.keys() == {f"firing_rates/{name}" for name in counts}
    for name, values in counts.items():
        left, right, numbers = histograms[f"firing_rates/{name}"][0].T
        np.testing.assert_array_equal(left[1:], right[:-1])
        assert (left[0], right[-1]) == (0, 1)
        np.testing.assert_array_equal(numbers, np.histogram(values / STEPS, [*left, 1])[0])


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_fit_writes_every_epoch_of_training_and_validation(snn, x, rng, tmp_path):
    y = rng.integers(0, 4, len(x))
    wanted = [wanted_scalars(snn, data) for data in (x[:8], x[8:])]
    snn.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    callback = SpikeRateTensorBoard(tmp_path, histogram_freq=2, accuracy_data=(x, y))
    validation = {"validation_data": (x[8:], y[8:]), "validation_batch_size": 2}
    snn.fit(x[:8], y[:8], batch_size=3, epochs=3, verbose=0, callbacks=[callback], **validation)
    written = [read(tmp_path / run) for run in ("train", "validation")]
    assert len(written[0][0].pop("accuracy_over_time")) == STEPS
    for (scalars, histograms, *_), expected in zip(written, wanted, strict=True):
        assert_scalars(without_rates_over_time(scalars), expected, range(3))
        assert {tuple(values) for values in histograms.values()} == {(0, 2)}
    snn.evaluate(x[8:], y[8:], verbose=0, callbacks=[callback])
    scalars = read(tmp_path / "evaluate")[0]
    assert len(scalars.pop("accuracy_over_time_2")) == STEPS
    assert_scalars(without_rates_over_time(scalars), wanted[1], [0])


def test_predict_raises_when_the_folder_cannot_be_written(snn, x, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "logs"):
        with pytest.raises(
            OSError, match="`log_dir` must be a folder that can be written. Received: log_dir="
        ):
            snn.predict(x, verbose=0, callbacks=[SpikeRateTensorBoard(folder), Breaking()])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert internals(snn).watched is False
    assert snn.predict(x, verbose=0).shape == (11, 4)


def test_it_raises_when_tensorboard_is_not_installed(monkeypatch):
    def without_tensorboard(name, *args, **kwargs):
        if name.split(".")[0] == "tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return original(name, *args, **kwargs)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_tensorboard)
    with pytest.raises(
        ImportError, match="needs the package tensorboard.*Install it with: pip install tensorboard"
    ):
        SpikeRateTensorBoard("logs")


def test_it_raises_before_the_run_when_arguments_do_not_fit(snn, x, tmp_path):
    with pytest.raises(TypeError, match="`histogram_freq` must be an integer. Received: histogram_freq=0.5"):
        SpikeRateTensorBoard(histogram_freq=0.5)
    with pytest.raises(ValueError, match=r"`accuracy_data` must be a tuple \(x, y\). Received: ndarray."):
        SpikeRateTensorBoard(accuracy_data=x)
    for data, message in (
        ((x[..., :1], np.zeros(11)), "must have the shape"),
        (
            (np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, np.nan, x), np.zeros(11)),
            "must be finite",
        ),
        ((x, np.zeros(3)), "must hold as many samples in every array. Received: 11 in x, 3 in y."),
        ((x, np.zeros((11, 3))), r"must hold class numbers of shape \(11,\) or one-hot of shape \(11, 4\)"),
        ((x, np.arange(11) + 50), "must hold class numbers from 0 to 3.*Received: 50."),
        ((x, np.full(11, "cat")), "must hold numbers, for every sample. Received: dtype <U3"),
        ((x, np.full((11, 4), 0.25)), r"must have .* for model 'sequential.*labels of shape \(11, 4\)"),
        ((x, None), r"must have .*Received: labels of shape \(\)."),
    ):
        callback = SpikeRateTensorBoard(tmp_path, accuracy_data=data)
        with pytest.raises(ValueError, match=f"`accuracy_data` {message}"):
            snn.predict(x, verbose=0, callbacks=[callback, Breaking()])
    analog = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="analog")
    with pytest.raises(
        TypeError, match=r"watches a keras_snn.SpikingModel. Received: model 'analog' \(Sequential\)"
    ):
        analog.predict(np.zeros((1, 2)), verbose=0, callbacks=[SpikeRateTensorBoard(tmp_path)])
    assert not list(tmp_path.iterdir())
