import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion import rate_relays


def odd():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.MaxPooling2D(name="pool")(layers.Dropout(0.2, name="drop")(x))
    x = layers.Dense(5, activation="gelu", name="gelu")(layers.Flatten(name="flat")(x))
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.UnitNormalization(name="code")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax", name="label")(x))


def test_check_reports_what_becomes_of_every_layer():
    becomes = {
        "conv": "linear",
        "norm": "linear",
        "relu": "neurons",
        "drop": "nothing",
        "pool": "max pooling",
        "flat": "linear",
        "gelu": "?",
        "layer_norm": "?",
        "code": "?",
        "label": "read-out",
    }
    report = keras_snn.check(odd())
    assert {v.path: v.becomes for v in report.verdicts} == becomes
    assert not report.converts
    allowed = {v.path: v.becomes for v in keras_snn.check(odd(), nonspiking="allow").verdicts}
    assert allowed == {**becomes, "gelu": "non-spiking", "layer_norm": "non-spiking", "code": "non-spiking"}


def test_check_and_convert_give_the_same_reasons(rng):
    model = odd()
    with pytest.raises(keras_snn.errors.UnsupportedLayerError) as error:
        keras_snn.convert(model)
    reasons = [f"{v.reason}. Instead: {v.way_out}." for v in keras_snn.check(model).verdicts if v.reason]
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == len(reasons) == 3
    assert all(line.endswith(reason) for line, reason in zip(lines, reasons, strict=True))
    assert all(reason in str(keras_snn.check(model)) for reason in reasons)


@pytest.mark.parametrize("network", networks.NETWORKS, ids=lambda network: network.__name__)
def test_check_accepts_what_converts(network, rng):
    report = keras_snn.check(networks.build(network, rng))
    assert report.converts
    assert "neurons" in {v.becomes for v in report.verdicts}


def open_model():
    inputs = keras.Input((None, 8, 3), name="image")
    return keras.Model(inputs, layers.Conv2D(2, 3, activation="relu", name="conv")(inputs))


def test_check_accepts_open_sizes_as_convert_does(rng):
    report = keras_snn.check(open_model())
    assert report.converts
    assert "Open sizes: 'image' (None, 8, 3), checked at (256, 8, 3)." in str(report)
    for known in ({"calibration_data": rng.random((2, 9, 8, 3))}, {"input_shapes": (9, 8, 3)}):
        report = keras_snn.check(open_model(), **known)
        assert report.converts
        assert not report.notes
    with pytest.raises(ValueError, match=r"fits each of \(None, 8, 3\).*input_shapes=\(9, 7, 3\)"):
        keras_snn.check(open_model(), input_shapes=(9, 7, 3))


def test_a_softmax_before_a_concatenation_is_part_of_the_read_out():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu")(inputs)
    heads = [layers.Dense(3, activation="softmax", name="scores")(x), layers.Dense(4, name="boxes")(x)]
    report = keras_snn.check(keras.Model(inputs, layers.Concatenate()(heads)))
    assert report.converts
    assert {v.path: v.becomes for v in report.verdicts}["scores"] == "read-out"


def test_check_tells_spikes_from_constants_and_numbers(rng):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, activation="relu", name="first")(inputs)
    beside = layers.Conv2D(1, 3, name="constant")(inputs)
    x = layers.AveragePooling2D(2, name="mean")(layers.Concatenate()([layers.ReLU()(x), beside]))
    x = layers.Conv2D(4, 2, name="second", activation="relu")(x)
    sides = [layers.Conv2D(4, 1, name="left")(x), layers.AveragePooling2D(2, 1, padding="same")(x)]
    x = layers.Conv2D(2, 1, name="third")(layers.Add(name="sum")(sides))
    model = keras.Model(inputs, layers.Dense(2, name="last")(layers.Flatten()(layers.ReLU()(x))))
    report = keras_snn.check(model)
    taken = {v.path: str(v.takes) for v in report.verdicts if v.takes is not None}
    names = ("first", "constant", "second", "left", "third", "last")
    kinds = ("constants", "constants", "numbers", "spikes", "numbers", "spikes")
    assert taken == dict(zip(names, kinds, strict=True))
    assert "'second' takes numbers: put the relu after 'mean', which averages" in str(report)
    assert "'third' takes numbers: put a relu after the sum 'sum'." in str(report)
    # 2 · 2 · 4 places and outputs of windows of 2 · 2 · 4; 1 · 1 of 4 inputs; 16 inputs of the last.
    spikes, numbers = 2 * 2 * (4 * 4) + 2 * 2 * 2 * 2, 2 * 2 * 4 * 16 + 2 * 2 * 2 * 4
    assert report.share_of_spikes == pytest.approx(spikes / (spikes + numbers))
    snn = keras_snn.convert(model, rng.uniform(size=(8, 8, 8, 2)), timesteps=2, relays=False, verbose=0)
    assert {layer.name: layer.takes for layer in snn.conversion_report.layers if layer.takes} == taken


@pytest.mark.parametrize("drive", [-1.5, 3.0], ids=["rarely", "often"])
def test_check_and_convert_agree_on_what_weights_take_where_firing_rates_decide(drive, rng, monkeypatch):
    # Of one map of two or two in a row; for relays see test_rate_relays.py.
    monkeypatch.setattr(rate_relays, "can_relay", lambda *_: False)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="second")(x)
    x = layers.Conv2D(4, 1, name="third")(layers.AveragePooling2D(2)(x))
    model = keras.Model(inputs, layers.Dense(2, name="last")(layers.Flatten()(x)))
    networks.randomize(model, rng)
    model.get_layer("first").bias.assign(np.full(6, drive))
    data = rng.uniform(size=(16, 6, 6, 3)).astype("float32")
    without, known = keras_snn.check(model), keras_snn.check(model, data)
    report = keras_snn.convert(model, data, timesteps=4, bias_correction=False, verbose=0).conversion_report
    taken = {v.path: str(v.takes) for v in known.verdicts if v.takes is not None}
    assert {row.origins[0]: row.takes for row in report.layers if row.takes} == taken
    # What rarely fires passes one map of two; what often does, two in a row.
    assert (taken["second"] == "spikes") == (drive < 0)
    (note,) = without.notes
    assert taken["second"] in note
    assert not known.notes
