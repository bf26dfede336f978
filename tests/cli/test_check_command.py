"""`keras-snn check` and `keras-snn layers`."""

import keras
from commands import run


def test_layers_lists_what_converts(capsys):
    status, out, _ = run(capsys, "layers")
    assert status == 0
    assert {"Conv2D", "Dense", "BatchNormalization"} <= set(out.split())


def test_check_prints_a_verdict_for_every_layer(files, capsys):
    status, out, _ = run(capsys, "check", files / "cnn.keras")
    assert status == 0
    assert out.splitlines()[2].split() == ["conv", "keras.layers.Conv2D", "linear", "constants"]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "gelu"), keras.layers.Dense(2)])
    model.save(files / "gelu.keras")
    status, out, err = run(capsys, "check", files / "gelu.keras")
    assert status == 1
    assert "activation='gelu' in front of other layers" in out
    assert "does not convert" in err
    assert run(capsys, "check", files / "gelu.keras", "--nonspiking", "allow")[0] == 0
