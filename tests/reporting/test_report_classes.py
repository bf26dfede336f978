"""What a report has of several labels, and of many classes."""

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn


def _case(outputs, activation, rng, samples=40):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(12, activation="relu")])
    model.add(layers.Dense(outputs, activation=activation, name="last"))
    networks.randomize(model, rng)
    x = rng.normal(size=(samples, 6)).astype("float32")
    return model, contracts.convert(model, x, timesteps=5), x


@pytest.mark.parametrize("labels", [3, 24])
def test_a_report_counts_each_of_several_labels(labels, rng, tmp_path):
    _, snn, x = _case(labels, "sigmoid", rng)
    snn.compile(loss="binary_crossentropy", metrics=["binary_accuracy"])
    y = rng.integers(0, 2, (len(x), labels))
    report = keras_snn.report(snn, x, y, path=tmp_path / "report.html", verbose=0)
    found = snn.predict(x, verbose=0) > 0.5
    expected = [
        [[np.sum(~found[y[:, i] == label, i]), np.sum(found[y[:, i] == label, i])] for label in (0, 1)]
        for i in range(labels)
    ]
    np.testing.assert_array_equal(report.agreement.confusion, expected)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Which labels are found" in source
    assert ("The 20 of 24 with most mistakes" in source) == (labels == 24)
    if labels == 3:
        cells = "".join(f"<td>{count}</td>" for count in np.array(expected)[2, ::-1, ::-1].ravel())
        assert f"<tr><td>2</td>{cells}</tr>" in source


def test_a_report_counts_labels_among_the_five_largest_of_many_classes(rng):
    model, snn, x = _case(12, "softmax", rng)
    y = rng.integers(0, 12, len(x))
    report = keras_snn.report(snn, x, y, path=None, verbose=0)
    for network, share in (
        (snn, report.agreement.top_5_accuracy),
        (model, report.agreement.ann_top_5_accuracy),
    ):
        top_5 = keras.metrics.sparse_top_k_categorical_accuracy(y, network.predict(x, verbose=0), k=5)
        np.testing.assert_allclose(share, np.mean(top_5), rtol=1e-6)
    few = _case(4, "softmax", rng)
    assert keras_snn.report(few[1], few[2], y % 4, path=None, verbose=0).agreement.top_5_accuracy is None
