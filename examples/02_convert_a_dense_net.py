"""Convert a dense network, look inside, save it and load it again.

python examples/02_convert_a_dense_net.py
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np

import keras_snn


def spirals(samples, rng):
    """Two spirals, one class each: a problem that needs hidden layers."""
    labels = rng.integers(0, 2, samples)
    radius = rng.uniform(0.1, 1.0, samples)
    angle = 6 * radius + np.pi * labels + rng.normal(0, 0.1, samples)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype("float32"), labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = spirals(4000, rng)
    x_test, y_test = spirals(1000, rng)
    hidden = [keras.layers.Dense(64, activation="relu", name=f"hidden{i}") for i in (1, 2)]
    model = keras.Sequential([keras.Input((2,)), *hidden, keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=options.epochs, batch_size=128, verbose=0)

    snn = keras_snn.convert(model, x[:500], timesteps=32, verbose=0)
    snn.summary()
    print(f"ANN {model.evaluate(x_test, y_test, verbose=0)[1]:.2%}")
    print(f"SNN {snn.evaluate(x_test, y_test, verbose=0)[1]:.2%} after {snn.timesteps} steps")

    run = snn.simulate(x_test, y_test, record=["spike_counts"])
    for name, rates in run.firing_rates.items():
        print(f"{name}: {rates.mean():.3f} spikes per neuron and step, {np.mean(rates == 0):.0%} silent")

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "snn.keras"
        snn.save(path)
        loaded = keras.models.load_model(path)
    print("loaded:", np.array_equal(loaded.predict(x_test, verbose=0), snn.predict(x_test, verbose=0)))


if __name__ == "__main__":
    main()
