"""Weights of another conversion: loaded they give that model's outputs, or nothing is changed."""

import contracts
import h5py
import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn import diagnose
from keras_snn.neurons import Corrected, IntegrateAndFire, SignedIntegrateAndFire


@pytest.fixture
def network(rng):
    inputs = keras.Input((6,))
    x = inputs
    for _ in range(2):
        x = layers.ReLU(6.0)(layers.Dense(8)(x))
    return networks.randomize(keras.Model(inputs, layers.Dense(3)(x)), rng), rng.normal(0, 4, (60, 6)).astype(
        "float32"
    )


LOADS = {
    "if": ({"neuron": "if"}, {"neuron": "if"}),
    "signed": ({"neuron": "signed"}, {"neuron": "signed"}),
    "other steps": ({"neuron": "signed"}, {"neuron": "signed", "timesteps": 5}),
    "same ratio": (
        {"neuron": SignedIntegrateAndFire(4)},
        {"neuron": SignedIntegrateAndFire(8), "timesteps": 24, "percentile": 100.0},
    ),
    "no need of limits": ({"neuron": "multi_threshold"}, {"neuron": "if"}),
    "same limits": ({"neuron": "burst"}, {"neuron": "multi_threshold", "percentile": 100.0}),
}
REFUSED = {
    "limit": ({"neuron": "multi_threshold"}, {"neuron": "multi_threshold"}, "saturates"),
    "limit of bursts": ({"neuron": "burst", "per_channel": True}, {"neuron": "burst"}, "saturates"),
    "limit of none": ({"neuron": "if"}, {"neuron": "multi_threshold"}, "saturates"),
    "threshold": ({"neuron": "if"}, {"neuron": IntegrateAndFire(0.5)}, "threshold"),
    "levels": ({"neuron": "signed"}, {"neuron": SignedIntegrateAndFire(5)}, "spikes per step"),
    "steps": (
        {"neuron": SignedIntegrateAndFire(5)},
        {"neuron": SignedIntegrateAndFire(5), "timesteps": 7},
        "spikes per step",
    ),
    "correction": (
        {"neuron": Corrected(IntegrateAndFire(), current=(0.1,))},
        {"neuron": "if"},
        "correction of its current",
    ),
    "other correction": (
        {"neuron": Corrected(IntegrateAndFire(), potential=(0.1,))},
        {"neuron": Corrected(IntegrateAndFire(), potential=(0.2,))},
        "correction of its potential",
    ),
    "input": (
        {"neuron": "if", "input_encoding": "poisson", "seed": 1},
        {"neuron": "if", "input_encoding": "poisson", "seed": 1, "input_rate": 0.5},
        "its input",
    ),
}


def _two(network, first, second):
    """Two conversions, with scales that differ if nothing else is asked for."""
    model, x = network
    common = {"timesteps": 12, "normalization": "percentile", "percentile": 100.0}
    return [contracts.convert(model, x, **{**common, **o}) for o in (first, {"percentile": 70.0, **second})]


@pytest.mark.parametrize("case", LOADS.values(), ids=LOADS)
def test_weights_in_the_same_units_give_the_outputs_of_the_other_conversion(case, network, tmp_path):
    first, second = _two(network, *case)
    x = network[1]
    first.save_weights(tmp_path / "first.weights.h5")
    second.load_weights(tmp_path / "first.weights.h5")
    contracts.assert_same(second.get_weights(), first.get_weights())
    pairs = zip(second.conversion_report.layers, first.conversion_report.layers, strict=True)
    assert all((a.scale, a.max_value) == (b.scale, b.max_value) for a, b in pairs)
    if case[0].get("neuron") == case[1].get("neuron"):
        second.timesteps = first.timesteps
        contracts.assert_same(second.predict(x, verbose=0), first.predict(x, verbose=0))
        errors = [[layer.error for layer in diagnose(snn, x).layers] for snn in (first, second)]
        assert errors[0] == errors[1]


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_weights_in_other_units_are_refused_and_change_nothing(case, network, tmp_path):
    *options, what = case
    first, second = _two(network, *options)
    x = network[1]
    before, report = second.predict(x, verbose=0), str(second.conversion_report)
    first.save_weights(tmp_path / "first.weights.h5")
    with pytest.raises(ValueError, match=f"Weights must be of a model in the same units.*{what}"):
        second.load_weights(tmp_path / "first.weights.h5")
    contracts.assert_same(second.predict(x, verbose=0), before)
    assert str(second.conversion_report) == report
    # Its own come back.
    second.save_weights(tmp_path / "second.weights.h5")
    second.set_weights([np.zeros_like(w) for w in second.get_weights()])
    second.load_weights(tmp_path / "second.weights.h5")
    contracts.assert_same(second.predict(x, verbose=0), before)


def test_files_of_weights_without_units_load(network, tmp_path):
    first, second = _two(network, {"neuron": "multi_threshold"}, {"neuron": "multi_threshold"})
    first.save_weights(tmp_path / "first.weights.h5")
    with h5py.File(tmp_path / "first.weights.h5", "a") as file:
        del file["vars"]["units"]
        assert "units" not in str(list(file["vars"]))
    second.load_weights(tmp_path / "first.weights.h5")
    contracts.assert_same(second.get_weights(), first.get_weights())
