import pathlib
import re

import keras
import networks
import numpy as np
from keras import layers

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_python_in_the_readme_runs(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hidden = [
        layers.Conv2D(3, 3, activation="relu", name="conv2d"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]
    model = networks.randomize(keras.Sequential([keras.Input((8, 8, 1)), *hidden]), rng)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save("cnn.keras")
    x = networks.data_for(model, rng, samples=40)
    names = {"x_train": x, "x_test": x[:8], "y_test": np.arange(8) % 4}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["run"].timesteps == 32
    assert isinstance(keras.models.load_model("snn.keras"), type(names["snn"]))
    assert names["model"].output_shape == (None, 16, 10)
    assert "SpikingConv2D" in capsys.readouterr().out
