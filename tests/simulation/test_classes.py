"""What counts as right: that of Keras' metrics, for one output, several labels, and classes."""

import keras
import networks
import numpy as np
import pytest
import running
from keras import layers

import keras_snn

TIMESTEPS = 6
BINARY = keras.losses.BinaryCrossentropy


@pytest.fixture
def x(rng):
    return rng.normal(size=(60, 5)).astype("float32")


def converted(units, activation, rng, x, **compiled):
    hidden = layers.Dense(9, activation="relu")
    model = keras.Sequential([keras.Input((5,)), hidden, layers.Dense(units, activation)])
    networks.randomize(model, rng)
    # About half of the outputs are a yes.
    *weights, bias = model.get_weights()
    model.set_weights(
        [*weights, bias - np.median(model.predict(x, verbose=0)) if activation is None else bias]
    )
    if compiled:
        model.compile("sgd", **compiled)
    return model, keras_snn.convert(model, x, timesteps=TIMESTEPS, verbose=0)


def metric_over_time(metric, y, outputs):
    found = []
    for step in range(TIMESTEPS):
        metric.reset_state()
        metric.update_state(y, outputs[:, step])
        found.append(float(metric.result()))
    return found


OF_THE_METRIC = keras.metrics.BinaryAccuracy(threshold=0.3)
LOGITS = {"loss": BINARY(from_logits=True)}
ONE = {
    "sigmoid": ("sigmoid", {}, 0.5),
    "sigmoid, compiled": ("sigmoid", {"loss": "bce", "metrics": ["accuracy"]}, 0.5),
    "sigmoid with a loss of its own kind": ("sigmoid", {"loss": "mse"}, 0.5),
    "threshold of the metric": ("sigmoid", {"loss": "bce", "metrics": [OF_THE_METRIC]}, 0.3),
    "logit": (None, LOGITS, 0.0),
    "logit with a metric": (None, {**LOGITS, "metrics": [keras.metrics.BinaryAccuracy(threshold=0.1)]}, 0.1),
    "logit, as Keras takes accuracy": (None, {**LOGITS, "metrics": ["accuracy"]}, 0.5),
}
LABELS = {
    "(n,)": lambda y: y,
    "(n, 1)": lambda y: y[:, None],
    "bool": lambda y: y.astype(bool),
    "float": lambda y: y.astype("float32"),
    "list": lambda y: y.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
}


@pytest.mark.parametrize(("case", "form"), running.pairs(ONE, LABELS))
def test_accuracy_of_one_output_is_binary_accuracy(case, form, rng, x):
    activation, compiled, threshold = ONE[case]
    _, snn = converted(1, activation, rng, x, **compiled)
    y = rng.integers(0, 2, len(x))
    run = snn.simulate(x, LABELS[form](y), batch_size=25)
    metric = keras.metrics.BinaryAccuracy(threshold=threshold)
    expected = metric_over_time(metric, y[:, None], run.outputs_over_time)
    np.testing.assert_allclose(run.accuracy_over_time, expected, rtol=1e-6)
    if compiled.get("metrics"):
        np.testing.assert_allclose(run.accuracy_over_time[-1], snn.evaluate(x, y, verbose=0)[1], rtol=1e-6)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize(
    ("activation", "compiled", "threshold"),
    [
        ("sigmoid", {"loss": "binary_crossentropy", "metrics": ["binary_accuracy"]}, 0.5),
        ("sigmoid", {"loss": "binary_focal_crossentropy"}, 0.5),
        (None, {"loss": BINARY(from_logits=True)}, 0.0),
        (None, {"metrics": [keras.metrics.BinaryAccuracy(threshold=-0.5)]}, -0.5),
    ],
)
def test_accuracy_of_several_labels_is_binary_accuracy(activation, compiled, threshold, one_hot, rng, x):
    _, snn = converted(4, activation, rng, x, **compiled)
    y = np.eye(4)[rng.integers(0, 4, len(x))] if one_hot else rng.integers(0, 2, (len(x), 4))
    run = snn.simulate(x, y)
    metric = keras.metrics.BinaryAccuracy(threshold=threshold)
    expected = metric_over_time(metric, y, run.outputs_over_time)
    np.testing.assert_allclose(run.accuracy_over_time, expected, rtol=1e-6)
    np.testing.assert_allclose(snn.simulate(x, y > 0).accuracy_over_time, expected, rtol=1e-6)


@pytest.mark.parametrize("compiled", [{}, {"loss": "bce", "metrics": ["accuracy"]}], ids=["not", "compiled"])
def test_sigmoids_with_one_hot_labels_decide_by_the_largest_unless_compiled_otherwise(compiled, rng, x):
    _, snn = converted(4, "sigmoid", rng, x, **compiled)
    classes = rng.integers(0, 4, len(x))
    run = snn.simulate(x, np.eye(4)[classes])
    metric = keras.metrics.CategoricalAccuracy()
    expected = metric_over_time(metric, np.eye(4)[classes], run.outputs_over_time)
    np.testing.assert_allclose(run.accuracy_over_time, expected, rtol=1e-6)
    np.testing.assert_array_equal(snn.simulate(x, classes).accuracy_over_time, run.accuracy_over_time)


@pytest.mark.parametrize(
    ("activation", "compiled"),
    [(None, {}), (None, {"loss": "mse"}), ("tanh", {}), (None, {"loss": "mse", "metrics": ["mae"]})],
)
def test_a_regression_does_not_classify(activation, compiled, rng, x):
    _, snn = converted(1, activation, rng, x, **compiled)
    assert snn.simulate(x, rng.integers(0, 2, len(x))).accuracy_over_time is None
    assert keras_snn.report(snn, x, path=None).agreement is None
    with pytest.raises(ValueError, match="`exit` needs one output of at least two classes, or of sigmoids"):
        snn.simulate(x, exit="confidence", level=0.5)


def test_a_function_of_the_user_named_like_a_metric_is_another(rng, x):
    def binary_accuracy(y_true, y_pred):
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)

    _, snn = converted(1, None, rng, x)
    snn.compile(loss="mse", metrics=[binary_accuracy])
    assert snn.simulate(x, rng.integers(0, 2, len(x))).accuracy_over_time is None


def test_values_between_0_and_1_are_no_classes_of_a_sigmoid_and_other_classes_are_refused(rng, x):
    _, snn = converted(1, "sigmoid", rng, x)
    assert snn.simulate(x, rng.uniform(size=len(x))).accuracy_over_time is None
    with pytest.raises(ValueError, match="`y` must hold 0 or 1, the classes of one sigmoid.*Received: 2"):
        snn.simulate(x, np.full(len(x), 2))
    with pytest.raises(ValueError, match=r"0 or 1 for every sample.* Received: shape \(60, 2\)"):
        snn.simulate(x, np.zeros((len(x), 2)))


@pytest.mark.parametrize("batch_size", [60, 13])
@pytest.mark.parametrize("case", ["sigmoid", "labels", "softmax"])
def test_a_report_counts_as_simulate_does(case, batch_size, rng, x, tmp_path):
    units = 1 if case == "sigmoid" else 4
    compiled = {"loss": "bce"} if case == "labels" else {}
    model, snn = converted(units, "softmax" if case == "softmax" else "sigmoid", rng, x, **compiled)
    y = {"sigmoid": (len(x),), "labels": (len(x), 4), "softmax": (len(x),)}[case]
    y = rng.integers(0, 2, y)
    found = keras_snn.report(snn, x, y, path=None, batch_size=batch_size).agreement
    run = snn.simulate(x, y)
    np.testing.assert_allclose(found.accuracy_over_time, run.accuracy_over_time)
    ann = model.predict(x, verbose=0)
    outputs = run.outputs_over_time
    if case == "softmax":
        same, right = outputs.argmax(-1) == ann.argmax(-1)[:, None], ann.argmax(-1) == y
    else:
        same, right = (outputs > 0.5) == (ann > 0.5)[:, None], (ann > 0.5) == y.reshape(len(x), -1)
    np.testing.assert_allclose(found.ann_accuracy, right.mean())
    np.testing.assert_allclose(found.agreement_over_time, same.reshape(60, TIMESTEPS, -1).mean(axis=(0, 2)))
    assert found.labels == (4 if case == "labels" else 1)


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("logits", [False, True])
def test_a_sample_ends_by_the_logit_nearest_to_its_threshold(units, logits, rng, x):
    """A sigmoid and its logit end alike, and no step before the calibrated level is reached."""
    _, snn = converted(units, None if logits else "sigmoid", rng, x, loss=BINARY(from_logits=logits))
    outputs = snn.simulate(x).outputs_over_time.astype("float64")
    values = outputs if logits else np.log(outputs) - np.log1p(-outputs)
    lead = np.abs(values).min(axis=-1) * np.arange(1, TIMESTEPS + 1)
    confidence = lead / (1 + lead)
    level = float(np.quantile(confidence, 0.6)) + 1e-4
    reached = confidence >= level
    expected = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, TIMESTEPS)
    np.testing.assert_array_equal(snn.simulate(x, exit="confidence", level=level).steps_used, expected)

    y = rng.integers(0, 2, (len(x), units))
    found = keras_snn.calibrate_exit(snn, x, y, max_loss=0.02)
    run = snn.simulate(x, y, exit="confidence", level=found.level)
    assert run.accuracy_over_time[-1] == pytest.approx(found.accuracy)
    assert found.full_accuracy == pytest.approx(snn.simulate(x, y).accuracy_over_time[-1])
    assert found.accuracy >= found.full_accuracy - 0.02


def test_a_loaded_model_decides_as_the_saved_one(rng, x, tmp_path):
    metric = keras.metrics.BinaryAccuracy(threshold=0.25)
    _, snn = converted(1, None, rng, x, loss=BINARY(from_logits=True), metrics=[metric])
    y = rng.integers(0, 2, len(x))
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    expected = snn.simulate(x, y).accuracy_over_time
    np.testing.assert_array_equal(loaded.simulate(x, y).accuracy_over_time, expected)


@pytest.mark.parametrize("k", [1, 2, 4, 9])
@pytest.mark.parametrize("one_hot", [False, True])
def test_the_largest_are_those_of_keras(k, one_hot, rng, x):
    _, snn = converted(4, "softmax", rng, x)
    y = rng.integers(0, 4, len(x))
    run = snn.simulate(x)
    found = run.top_k_accuracy_over_time(np.eye(4)[y] if one_hot else y, k)
    metric = keras.metrics.SparseTopKCategoricalAccuracy(k=min(k, 4))
    np.testing.assert_allclose(found, metric_over_time(metric, y, run.outputs_over_time), rtol=1e-6)
    with pytest.raises(ValueError, match="`k` must be at least 1"):
        run.top_k_accuracy_over_time(y, 0)
    with pytest.raises(ValueError, match="`y` must hold class numbers from 0 to 3"):
        run.top_k_accuracy_over_time(y + 4, k)


def test_the_largest_need_classes(rng, x):
    _, snn = converted(1, "sigmoid", rng, x)
    with pytest.raises(ValueError, match="needs one output of at least two classes"):
        snn.simulate(x).top_k_accuracy_over_time(np.zeros(len(x)))


def test_the_callback_takes_labels_of_one_sigmoid(rng, x, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    _, snn = converted(1, "sigmoid", rng, x)
    y = rng.integers(0, 2, len(x)).tolist()
    board = keras_snn.callbacks.SpikeRateTensorBoard(tmp_path, accuracy_data=(x, y))
    snn.predict(x, callbacks=[board], verbose=0)
    (file,) = (tmp_path / "predict").iterdir()
    # At every step, and the picture of all.
    assert file.read_bytes().count(b"accuracy_over_time") == TIMESTEPS + 1


@pytest.mark.parametrize(
    ("activation", "loss"), [("tanh", "hinge"), (None, "squared_hinge"), ("tanh", "mse"), ("tanh", None)]
)
def test_labels_of_minus_and_plus_one_are_signs(activation, loss, rng, x):
    """Of a hinge 0 stands for −1, as Keras takes it; other numbers are those of a regression."""
    _, snn = converted(1, activation, rng, x, **({"loss": loss} if loss else {}))
    y = rng.choice([-1, 1], 60)
    run = snn.simulate(x, y)
    expected = (np.sign(run.outputs_over_time[..., 0]) == y[:, None]).mean(axis=0)
    np.testing.assert_allclose(run.accuracy_over_time, expected)
    zeros = snn.simulate(x, (y + 1) // 2).accuracy_over_time
    assert (zeros is None) == ("hinge" not in str(loss))
    if zeros is not None:
        np.testing.assert_allclose(zeros, expected)
        assert 0 <= keras_snn.calibrate_exit(snn, x, y).level <= 1
    assert snn.simulate(x, rng.normal(size=60)).accuracy_over_time is None
