import keras
import networks
import numpy as np
import pytest
from counts import random_counts
from keras import layers

import keras_snn
from keras_snn import count_operations
from keras_snn.analysis.energy import _joules, check_figures


def test_energy_is_operations_times_published_figures(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu"), layers.Dense(2, use_bias=False)])
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    counts = count_operations(keras_snn.convert(model, x, timesteps=6, verbose=0), x)
    first, second = counts.layers
    assert (first.dense, second.dense, first.biases) == (20, 8, 4)
    # Currents are added, and neurons updated, at each of six steps.
    spikes = second.additions.sum()
    energy = counts.energy()
    np.testing.assert_allclose(energy.ann, 1e-12 * (4.6 * 28 + 0.9 * 4))
    np.testing.assert_allclose(energy.snn, 1e-12 * (4.6 * 20 + 0.9 * (spikes + 4 + 4 * 6 + 4 * 6)))
    np.testing.assert_allclose(counts.energy("45nm_int8").ann, 1e-12 * (0.23 * 28 + 0.03 * 4))
    assert "An estimate: 4.6 pJ" in str(energy)
    assert "(Horowitz (2014)," in str(counts)
    own = counts.energy((2.5, 0.25))
    np.testing.assert_allclose(own.ann, 1e-12 * (2.5 * 28 + 0.25 * 4))
    np.testing.assert_allclose(own.snn, 1e-12 * (2.5 * 20 + 0.25 * (spikes + 4 + 4 * 6 + 4 * 6)))
    assert "2.5 pJ for every multiply-add and 0.25 pJ for every addition (figures of the user)" in str(own)
    for name, (mac, _, source) in keras_snn.ENERGY_FIGURES.items():
        assert (counts.energy(name).mac, counts.energy(name).source) == (mac, source)
    with pytest.raises(ValueError, match="`figures` must be one of '45nm_float32'.*figures='3nm'"):
        counts.energy("3nm")
    with pytest.raises(ValueError, match=r"`figures` must be a name or two numbers.*figures=\(1, 2, 3\)"):
        counts.energy((1, 2, 3))
    with pytest.raises(ValueError, match="`figures` must be finite and above 0. Received: figures=-1."):
        counts.energy((1.0, -1.0))
    with pytest.raises(ValueError, match="`energy` needs the counts of a spiking model"):
        count_operations(model).energy()


def test_energy_is_the_sum_over_operations(rng):
    counts = random_counts(rng)
    once, *rest = counts.layers
    mac, ac = rng.uniform(1, 5, 2)
    energy = counts.energy([mac, ac])
    biases = sum(layer.biases + layer.sums for layer in counts.layers)
    added = once.biases + 50 * 5 + 5 * sum(layer.biases for layer in rest)
    events = once.ann_additions + sum(layer.additions.sum() for layer in rest)
    numbers = sum(layer.multiply_adds.sum() for layer in rest)
    np.testing.assert_allclose(energy.ann, 1e-12 * (mac * counts.ann_dense + ac * biases), rtol=1e-12)
    effective = mac * counts.ann_effective_macs + ac * (counts.ann_effective_acs + biases)
    np.testing.assert_allclose(energy.ann_effective, 1e-12 * effective, rtol=1e-12)
    updates = 1e-12 * ac * 5 * 100
    spent = 1e-12 * (mac * numbers + ac * (events + added))
    np.testing.assert_allclose(energy.snn, spent + updates, rtol=1e-12)
    np.testing.assert_allclose(energy.updates, updates, rtol=1e-12)
    assert (energy.mac, energy.ac, energy.source) == (mac, ac, "figures of the user")
    shown = [_joules(value) for value in (energy.ann, energy.ann_effective, energy.snn)]
    beginning = "ANN {} ({} without zeros), SNN {}, of it updates {}. An estimate: "
    assert str(energy).startswith(beginning.format(*shown, _joules(updates)))


def test_published_figures_are_those_of_horowitz():
    """Figure 1.1.9: of a multiplication and an addition, and of an addition, in picojoules."""
    figures = {"45nm_float32": (3.7, 0.9), "45nm_float16": (1.1, 0.4), "45nm_int32": (3.1, 0.1)}
    for name, (product, addition) in {**figures, "45nm_int8": (0.2, 0.03)}.items():
        assert check_figures("energy", name)[:2] == (product + addition, addition)
    with pytest.raises(ValueError, match="`energy` must be finite and above 0. Received: energy=0."):
        check_figures("energy", (0, 1))
