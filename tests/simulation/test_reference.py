"""Spike trains against a step-by-step simulation in plain NumPy, bit for bit where sums are exact."""

import keras
import networks
import numpy as np
import pytest
from contracts import assert_same, convert
from keras import layers

from keras_snn.neurons import IntegrateAndFire


def network():
    return keras.Sequential(
        [
            keras.Input((14, 13, 2)),
            layers.Conv2D(5, 3, padding="same", strides=(2, 1), activation="relu", name="first"),
            layers.MaxPooling2D(2, name="max"),
            layers.Conv2D(6, (2, 3), activation="relu", name="second"),
            layers.AveragePooling2D(2, name="average"),
            layers.Flatten(name="flatten"),
            layers.Dense(7, activation="relu", name="third"),
            layers.Dense(4, name="output"),
        ]
    )


def linear_part(layer):
    """Return a function that applies the weights of a layer without its activation."""
    kernel, bias = layer.get_weights()
    if kernel.ndim == 2:
        return lambda x: x @ kernel + bias
    rows, columns = layer.strides
    padded = layer.padding == "same"

    def convolve(x):
        (height, width), (kh, kw) = x.shape[1:3], kernel.shape[:2]
        if padded:
            down, across = (
                max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in ((height, rows, kh), (width, columns, kw))
            )
            x = np.pad(
                x,
                ((0, 0), (down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)),
            )
        windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))[:, ::rows, ::columns]
        return np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias

    return convolve


def pool(x, reduce):
    """Return 2 × 2 pools; a last row or column that fills none is left out."""
    _, height, width, _ = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return reduce([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def simulate(model, x, timesteps, reset):
    """Return the spike trains by layer, and the averages of the output, step by step."""
    potentials, counts, trains, total = {}, {}, {}, 0.0
    outputs = []
    for t in range(timesteps):
        value = x
        for layer in model.layers:
            if layer.name == "max":
                counts[layer.name] = counts.get(layer.name, 0.0) + value
                highest = pool(counts[layer.name], lambda places: np.max(places, axis=0))
                value = highest - counts.get("highest", 0.0)
                counts["highest"] = highest
            elif layer.name == "average":
                value = pool(value, lambda places: np.mean(places, axis=0))
            elif layer.name == "flatten":
                value = value.reshape(len(value), -1)
            elif layer.name == "output":
                total = total + linear_part(layer)(value)
                outputs.append(total / (t + 1))
            else:
                v = potentials.get(layer.name, 0.5) + linear_part(layer)(value)
                value = (v >= 1).astype(x.dtype)
                potentials[layer.name] = v - value if reset == "subtract" else v * (1 - value)
                trains.setdefault(layer.name, []).append(value)
    return {name: np.stack(train, axis=1) for name, train in trains.items()}, np.stack(outputs, axis=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unroll", ["auto", 1, 4])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_spike_trains_are_those_of_the_equations(reset, unroll, dtype, rng):
    model = networks.make_dyadic(network(), rng)
    x = networks.data_for(model, rng, samples=7, dyadic=True)
    snn = convert(
        model,
        x,
        timesteps=13,
        normalization="none",
        unroll=unroll,
        dtype=dtype,
        neuron=IntegrateAndFire(reset=reset),
    )
    trains, outputs = simulate(model, x.astype(dtype), 13, reset)
    run = snn.simulate(x, record="spike_trains", batch_size=3)
    assert [0 < train.mean() < 1 for train in trains.values()] == [True] * 3
    assert_same(run.spike_trains, trains)
    # Division by the number of steps rounds.
    np.testing.assert_allclose(run.outputs_over_time, outputs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(snn.predict(x, verbose=0), outputs[:, -1], rtol=1e-6, atol=1e-6)
