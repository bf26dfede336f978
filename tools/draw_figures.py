"""Draw the pictures of docs/gallery.md and docs/concepts.md, with the network and the digits of the demo.

python tools/draw_figures.py
"""

import importlib.resources
import pathlib

import keras
import numpy as np
from matplotlib.figure import Figure

import keras_snn
from keras_snn import neurons, plots

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "figures"


def demo():
    """Return the network of the demo, test digits with labels, and training digits."""
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        return model, data["x_test"][:500], data["y_test"][:500], data["x_calibration"]


def save(ax, name):
    """Write the figure of `Axes` as a file."""
    figure = getattr(ax, "figure", ax)
    figure.savefig(FOLDER / f"{name}.png", dpi=110, metadata={"Software": None})


def draw_gallery():
    """Draw what a simulation, a diagnosis and counts show."""
    model, x, y, x_calibration = demo()
    snn = keras_snn.convert(model, x_calibration, timesteps=32, verbose=0)
    record = ["spike_counts", "spike_trains", "membrane_potentials"]
    few = snn.simulate(x[:8], record=record)
    run = snn.simulate(x, y, record=["spike_counts"], batch_size=100)
    ann = float(np.mean(model.predict(x, verbose=0).argmax(axis=-1) == y))
    counts, diagnosis = keras_snn.count_operations(snn, x[:100]), keras_snn.diagnose(snn, x[:100])
    save(plots.accuracy_over_time(run.accuracy_over_time, ann), "accuracy_over_time")
    save(plots.error_over_operations(run.accuracy_over_time, counts, ann), "gallery_operations")
    save(plots.spike_raster(few.spike_trains["conv2"][0], neurons=60), "spike_raster")
    save(plots.firing_rate_histogram(run.firing_rates), "firing_rates")
    busy = np.argsort(-few.spike_counts["conv2"][0].ravel())[[60, 200, 400]]
    save(plots.membrane_potentials(few.membrane_potentials["conv2"][0], busy.tolist()), "membrane_potentials")
    save(plots.error_per_layer(diagnosis), "error_per_layer")
    save(plots.activation_against_rate(diagnosis.layers[1]), "activation_against_rate")
    save(counts.plot(), "operations_per_layer")
    save(keras_snn.calibrate_exit(snn, x, y).plot(), "exit_calibration")
    first = keras_snn.convert(
        model, x_calibration, neuron="ttfs", normalization="mse", per_channel=True, verbose=0
    )
    times = first.simulate(x[:8], record=["spike_trains", "spike_times"])
    save(plots.spike_wave(times.spike_trains), "spike_wave")
    save(plots.spike_time_histogram(times.spike_times), "spike_times")


def draw_codes():
    """Draw the same three activations in three codes, each by a network of one layer."""
    values = np.array([0.25, 0.6, 0.9], "float32")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, "relu", name="neurons"), keras.layers.Dense(1)]
    )
    model.set_weights([np.eye(3), np.zeros(3), np.ones((3, 1)), np.zeros(1)])
    codes = {
        "rate, 15 steps: the number of spikes": ("if", 15),
        "time to first spike, 15 levels: the earlier, the larger": (neurons.TimeToFirstSpike(15), None),
        "digits in base 4, 15 levels: some spikes, each worth a power of 4": (neurons.DigitCode(15, 4), None),
    }
    figure = Figure(figsize=(7, 4.9), layout="constrained")
    for ax, (title, (neuron, steps)) in zip(figure.subplots(len(codes)), codes.items(), strict=True):
        snn = keras_snn.convert(
            model, np.ones((8, 3), "float32"), neuron=neuron, timesteps=steps, normalization="max", verbose=0
        )
        train = snn.simulate(values[None], record=["spike_trains"]).spike_trains["neurons"][0]
        at, rows = np.nonzero(train)
        marks = {"marker": "|", "markersize": 15, "markeredgewidth": 2.5, "color": "#0072B2"}
        ax.plot(at + 1, rows, linestyle="", **marks)
        ax.set_yticks(range(3), [f"{value:.2f}" for value in values])
        ax.set_ylim(-0.6, 2.6)
        ax.set_xlim(0.4, 16.6)
        ax.set_xticks(range(1, 17))
        ax.set_title(title, fontsize=10.5, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", alpha=0.25)
    ax.set_xlabel("time step")
    figure.supylabel("activation / λ")
    save(figure, "codes")


if __name__ == "__main__":
    draw_codes()
    draw_gallery()
