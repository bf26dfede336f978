"""The rate equations of Rueckauer et al. (2016), arXiv:1612.04052, section 2, on random currents.

In the notation there: r is the firing rate after t steps, a the activation, θ the threshold and ε the
surplus above it when a neuron with reset to zero fires. All in float64, to its precision.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.layers import SpikingDense
from keras_snn.neurons import IntegrateAndFire

EXACT = {"rtol": 0, "atol": 1e-12}
# On PyTorch dense layers return float32, whatever their dtype is (Keras 3.15): off by 1.5e-7 here.
WITH_DENSE = {"rtol": 0, "atol": 1e-6 if keras.backend.backend() == "torch" else 1e-12}


def run(neuron, current, timesteps):
    """Return spikes and potential after the last step, for a current `(neurons,)` or `(time, neurons)`."""
    current = np.broadcast_to(current, (timesteps, current.shape[-1]))
    layer = keras_snn.layers.SpikingActivation("relu", neuron=neuron, return_state=True, dtype="float64")
    spikes, potential = (keras.ops.convert_to_numpy(x)[0] for x in layer(current[None]))
    return spikes, potential


@pytest.mark.parametrize("initial_potential", [0.0, 0.5])
def test_first_layer_with_reset_by_subtraction(initial_potential, rng):
    """r = a − (V(t) − V(0)) / (tθ), for a in [0, 1]."""
    theta, t = rng.uniform(0.3, 3.0), int(rng.integers(20, 60))
    a = rng.uniform(0, 1, 500)
    spikes, potential = run(IntegrateAndFire(theta, "subtract", initial_potential), theta * a, t)
    rate = spikes.mean(axis=0)
    np.testing.assert_allclose(rate, a - (potential - initial_potential * theta) / (t * theta), **EXACT)
    # The error is bounded by one spike: it vanishes as 1/t.
    assert np.all(np.abs(rate - a) <= 1 / t)


def test_first_layer_with_reset_to_zero(rng):
    """r = a·θ/(θ+ε) − V(t)/(t(θ+ε)), with ε = nz − θ from the n-th step, at which the neuron fires."""
    theta, t = rng.uniform(0.3, 3.0), 97
    a = rng.uniform(0.02, 1, 500)
    spikes, potential = run(IntegrateAndFire(theta, "zero", 0.0), theta * a, t)
    n = spikes.argmax(axis=0) + 1
    surplus = n * theta * a - theta
    assert np.all(surplus >= -1e-12)
    expected = a * theta / (theta + surplus) - potential / (t * (theta + surplus))
    np.testing.assert_allclose(spikes.mean(axis=0), expected, **EXACT)


def test_reset_to_zero_loses_the_surplus_for_ever(rng):
    """As t grows, r goes to a·θ/(θ+ε) = 1/n: below a unless a divides 1."""
    a = rng.uniform(0.3, 0.99, 50)
    spikes, _ = run(IntegrateAndFire(1.0, "zero", 0.0), a, 1000)
    np.testing.assert_allclose(spikes.mean(axis=0), 1 / np.ceil(1 / a), rtol=0, atol=1 / 1000)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_higher_layers(reset, rng):
    """θ·r of layer l is the charge that came, less what is left and what the resets lost.

    By subtraction: r_l = W·r_{l−1} + b − (V_l(t) − V_l(0)) / (tθ), with no other loss.
    """
    theta, t, widths = rng.uniform(0.5, 2.0), 40, (9, 12, 7, 5)
    neuron = IntegrateAndFire(theta, reset, 0.5)
    spikes = rng.integers(0, 2, (1, t, widths[0])).astype("float64")
    for inputs, units in itertools.pairwise(widths):
        layer = SpikingDense(units, neuron=neuron, return_state=True, dtype="float64")
        layer.build((None, t, inputs))
        kernel, bias = rng.normal(0.1, 0.3, (inputs, units)), rng.normal(0, 0.1, units)
        layer.set_weights([theta * kernel, theta * bias])
        before = spikes
        spikes, potential = (keras.ops.convert_to_numpy(x) for x in layer(before))
        lost = np.zeros(units)
        if reset == "zero":
            # What was above the threshold, from the potential after the same currents, step by step.
            v = np.full(units, 0.5 * theta)
            for step in range(t):
                v = v + theta * (before[0, step] @ kernel + bias)
                fires = spikes[0, step] == 1
                lost += np.where(fires, v - theta, 0.0)
                v = np.where(fires, 0.0, v)
        rate = spikes[0].mean(axis=0)
        of_inputs = before[0].mean(axis=0) @ kernel + bias
        remainder = (potential[0] - 0.5 * theta + lost) / (t * theta)
        np.testing.assert_allclose(rate, of_inputs - remainder, **WITH_DENSE)


def test_errors_of_earlier_layers_travel_through_the_weights(rng):
    """Unrolled over two layers: r_2 = a_2 − W_2·ΔV_1/(tθ) − ΔV_2/(tθ), for active, unsaturated neurons."""
    t, theta = 64, 1.0
    x = rng.uniform(0, 1, (1, 6))
    w1, w2 = rng.uniform(0, 0.25, (6, 8)), rng.uniform(0, 0.2, (8, 4))
    neuron = IntegrateAndFire(theta, "subtract", 0.0)
    current = np.repeat((x @ w1)[:, None], t, axis=1)
    first, v1 = run(neuron, current[0], t)
    second, v2 = run(neuron, first @ w2, t)
    # Active and unsaturated.
    assert 0 < (x @ w1).min() <= (x @ w1).max() < 1
    assert (first @ w2).max() < 1.5
    a2 = x @ w1 @ w2
    np.testing.assert_allclose(second.mean(axis=0), a2[0] - (v1 @ w2 + v2) / (t * theta), **EXACT)


def test_the_equation_holds_in_a_converted_network(rng):
    """The first layer, in what `convert` made: rates are the activations over λ, less the remainder."""
    model = keras.Sequential([keras.Input((10,), dtype="float64")])
    model.add(layers.Dense(8, activation="relu", name="hidden", dtype="float64"))
    model.add(layers.Dense(3, name="output", dtype="float64"))
    x = rng.uniform(0, 1, (20, 10))
    neuron = IntegrateAndFire(initial_potential=0.0)
    snn = keras_snn.convert(model, x, timesteps=30, normalization="max", neuron=neuron, verbose=0)
    run = snn.simulate(x, record=["spike_counts", "membrane_potentials"])
    scale = next(row.scale for row in snn.conversion_report.layers if row.name == "hidden")
    a = keras.ops.convert_to_numpy(model.layers[0](x)) / scale
    rate, potential = (
        run.spike_counts["hidden"].astype("float64") / 30,
        run.membrane_potentials["hidden"][:, -1],
    )
    active = a > 0
    np.testing.assert_allclose(rate[active], (a - potential / 30)[active], **WITH_DENSE)
    assert not rate[~active].any()
