"""`fit` of spiking networks, by surrogate gradients."""

import importlib.resources

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.layers import QuantizedClip, SpikingActivation
from keras_snn.neurons import (
    Burst,
    IntegrateAndFire,
    LeakyIntegrateAndFire,
    MultiThreshold,
    SignedIntegrateAndFire,
)


def gradient_of_spike_count(neuron, current, timesteps):
    """Return dΣs/dz of neurons with a constant current each: what one step of gradient descent subtracts."""
    inputs = keras.Input((1,))
    dense = layers.Dense(len(current), use_bias=False, dtype="float64")
    z = layers.RepeatVector(timesteps, dtype="float64")(dense(inputs))
    spikes = SpikingActivation("relu", neuron=neuron, dtype="float64")(z)
    model = keras.Model(inputs, spikes)
    dense.set_weights([current[None]])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, spikes: ops.sum(spikes, axis=(1, 2)))
    model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
    return current - dense.get_weights()[0][0]


def triangle(v, at, width):
    return np.maximum(0, 1 - np.abs(v - at) / width) / width


# The surrogates of ds/dV as the documentation defines them: of V before the reset, and of n before the spike.
SURROGATES = [
    (IntegrateAndFire(0.8), lambda v, n: triangle(v, 0.8, 0.8)),
    (
        SignedIntegrateAndFire(4, 0.8),
        lambda v, n: triangle(v, 0.8, 0.8) * (n < 4) + triangle(v, 0, 0.8) * (n > 0),
    ),
    (
        SignedIntegrateAndFire(v_threshold=0.8),
        lambda v, n: triangle(v, 0.8, 0.8) + triangle(v, 0, 0.8) * (n > 0),
    ),
    (MultiThreshold(3, 0.8), lambda v, n: ((v >= 0.8 * (0.125 - n)) & (v < 0.8 * 1.875)) / 0.8),
    (Burst(2, 0.8), lambda v, n: ((v >= 0.4) & (v < 2.0)) / 0.8),
]


@pytest.mark.parametrize(("neuron", "slope"), SURROGATES, ids=lambda case: type(case).__name__)
def test_gradient_is_that_of_the_surrogate_through_the_reset(neuron, slope, rng):
    """By hand, forwards in time: dV += dz; ds = slope·dV; dV −= θ·ds. So θ·Σ ds = T − dV(T)."""
    current, timesteps = rng.uniform(-0.4, 2.2, 300) * neuron.v_threshold, 7
    (v, *_), theta = neuron.initial_state((300,), "float64"), neuron.v_threshold
    v, dv, n, ds = ops.convert_to_numpy(v), 0.0, 0.0, 0.0
    state = neuron.initial_state((300,), "float64")
    for _ in range(timesteps):
        dv = dv + 1
        change = slope(v + current, n) * dv
        spikes, state = neuron.step(ops.convert_to_tensor(current, "float64"), state)
        v, n = ops.convert_to_numpy(state[0]), n + ops.convert_to_numpy(spikes)
        ds, dv = ds + change, dv - theta * change
    gradient = gradient_of_spike_count(neuron, current, timesteps)
    np.testing.assert_allclose(gradient, ds, rtol=0, atol=2e-5)
    np.testing.assert_allclose(theta * gradient, timesteps - dv, rtol=0, atol=2e-5)
    assert gradient.min() < 0.1 < gradient.max()


@pytest.mark.parametrize(
    "neuron",
    [
        LeakyIntegrateAndFire(0.8, 0.7),
        LeakyIntegrateAndFire(0.8, 0.7, 0.25, "zero"),
        IntegrateAndFire(0.7, reset="zero"),
    ],
)
def test_gradient_is_that_of_the_surrogate_when_charge_is_lost(neuron, rng):
    """By hand: what leaks takes its derivative along, and a reset to zero leaves none."""
    current, theta, leak = rng.uniform(0.1, 1.5, 200), neuron.v_threshold, getattr(neuron, "leak", 1.0)
    v, dv, ds = neuron.initial_potential * theta, 0.0, 0.0
    for _ in range(5):
        v, dv = leak * v + current, leak * dv + 1
        change, fires = triangle(v, theta, theta) * dv, v >= theta
        ds = ds + change
        if neuron.reset == "zero":
            v, dv = np.where(fires, 0, v), np.where(fires, 0, dv)
        else:
            v, dv = v - theta * fires, dv - theta * change
    np.testing.assert_allclose(gradient_of_spike_count(neuron, current, 5), ds, rtol=0, atol=2e-5)


def test_gradient_of_quantized_clip_is_straight_through(rng):
    """dy/dx = 1 within (0, λ); dy/dλ = y/λ − x/λ within, 1 above, 0 below."""
    x = rng.uniform(-1, 3, 200)
    scale, levels = 1.7, 4
    inputs = keras.Input((200,), dtype="float64")
    shift = keras_snn.layers.ScaleShift((200,), dtype="float64")
    clip = QuantizedClip(levels, scale=scale, dtype="float64")
    model = keras.Model(inputs, clip(shift(inputs)))
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: ops.sum(p, axis=1))
    expected = scale * np.clip(np.floor(x * levels / scale + 0.5), 0, levels) / levels
    np.testing.assert_allclose(model.predict(x[None], verbose=0)[0], expected, rtol=0, atol=1e-6)
    model.fit(x[None], np.zeros((1, 1)), verbose=0)
    steps = np.floor(x * levels / scale + 0.5)
    inside = (steps > 0) & (steps < levels)
    away = (steps < 0) | (steps > levels)
    by_x = -shift.get_weights()[1]
    np.testing.assert_allclose(by_x[inside], 1.0, atol=1e-6)
    np.testing.assert_allclose(by_x[away], 0.0, atol=1e-6)
    assert clip.get_weights()[0] != scale


def test_network_of_quantized_clips_becomes_spiking_without_loss(rng):
    """As many steps as levels, and λ as trained: every spike count of the first layer is the activation."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(20, name="hidden"), QuantizedClip(4, 0.9)])
    model.add(layers.Dense(3, name="label"))
    networks.randomize(model, rng)
    x = networks.data_for(model, rng, samples=30)
    snn = keras_snn.convert(model, 0.01 * x, timesteps=4, verbose=0)
    np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0, atol=1e-5)
    assert snn.conversion_report.layers[0].scale == pytest.approx(model.layers[1].get_weights()[0], rel=1e-6)


def test_quantized_clip_refuses_a_scale_that_is_not_positive():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), QuantizedClip(4)])
    model.layers[1].set_weights([np.array(-0.5)])
    with pytest.raises(keras_snn.errors.UnsupportedLayerError, match="scale=-0.5"):
        keras_snn.convert(model)
    with pytest.raises(ValueError, match="`levels` must be at least 1. Received: levels=0."):
        QuantizedClip(0)


def digits():
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        return model, data["x_calibration"], data["x_test"], data["y_test"].astype("int32")


@pytest.mark.parametrize(
    ("timesteps", "neuron"),
    [
        (2, IntegrateAndFire(initial_potential=0.0)),
        (4, SignedIntegrateAndFire(initial_potential=0.0)),
    ],
)
@pytest.mark.compiled
def test_fit_raises_the_accuracy_of_few_steps(timesteps, neuron):
    keras.utils.set_random_seed(0)
    model, x_calibration, x, y = digits()
    # The settings of 2016, which need many steps.
    options = {"normalization": "max", "timesteps": timesteps, "neuron": neuron}
    snn = keras_snn.convert(model, x_calibration, **options, verbose=0)
    snn.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    train, test = slice(0, 500), slice(800, 1000)
    before = snn.evaluate(x[test], y[test], verbose=0)[1]
    snn.fit(x[train], y[train], batch_size=50, epochs=2, verbose=0)
    after = snn.evaluate(x[test], y[test], verbose=0)[1]
    assert after > before + 0.2, (before, after)
