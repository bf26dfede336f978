"""`keras-snn evaluate`."""

import json

import keras
import networks
import numpy as np
import pytest
from commands import run

import keras_snn


def test_evaluate_of_one_sigmoid_and_among_the_largest(rng, tmp_path, capsys):
    for units, activation in ((1, "sigmoid"), (6, "softmax")):
        layers = [keras.layers.Dense(9, activation="relu"), keras.layers.Dense(units, activation)]
        model = networks.randomize(keras.Sequential([keras.Input((4,)), *layers]), rng)
        x = rng.uniform(size=(40, 4)).astype("float32")
        snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
        snn.save(tmp_path / "snn.keras")
        y = rng.integers(0, max(units, 2), 40)
        np.savez(tmp_path / "data.npz", x=x, y=y)
        top = ["--top-k", 3] if units > 1 else []
        arguments = ["evaluate", tmp_path / "snn.keras", "--data", tmp_path / "data.npz", "--json", *top]
        status, out, err = run(capsys, *arguments)
        assert status == 0, err
        outputs = snn.predict(x, verbose=0)
        right = (outputs[:, 0] > 0.5) == y if units == 1 else outputs.argmax(axis=-1) == y
        assert json.loads(out)["accuracy_over_time"][-1] == pytest.approx(right.mean())
        if top:
            order = np.argsort(-outputs, axis=-1)[:, :3]
            expected = (order == y[:, None]).any(axis=-1).mean()
            assert json.loads(out)["top_k_accuracy_over_time"][-1] == pytest.approx(expected)


def test_evaluate_of_a_time_code_has_the_accuracy_at_the_end_of_its_window(rng, tmp_path, capsys):
    hidden = keras.layers.Dense(9, activation="relu")
    model = networks.randomize(keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3)]), rng)
    x, y = rng.uniform(size=(40, 4)).astype("float32"), rng.integers(0, 3, 40)
    snn = keras_snn.convert(model, x, neuron="ttfs", timesteps=31, verbose=0)
    snn.save(tmp_path / "snn.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    status, out, err = run(capsys, "evaluate", tmp_path / "snn.keras", "--data", tmp_path / "data.npz")
    assert status == 0, err
    right = (snn.predict(x, verbose=0).argmax(axis=-1) == y).mean()
    assert out.splitlines()[2:] == [f"{31:10}  {right:8.2%}"]
