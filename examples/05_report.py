"""Convert the demo network, see where it loses and what it costs, and write a report to open in a browser.

python examples/05_report.py --output report.html
"""

import argparse
import importlib.resources
import pathlib

import keras
import numpy as np

import keras_snn


def load_demo():
    folder = importlib.resources.files("keras_snn.demo")
    with importlib.resources.as_file(folder / "mnist_cnn.keras") as path:
        model = keras.models.load_model(path)
    with (folder / "mnist.npz").open("rb") as file, np.load(file) as data:
        return model, data["x_calibration"], data["x_test"], data["y_test"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("report.html"))
    parser.add_argument("--samples", type=int, default=300, help="test digits, at most 1000")
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--percentile", type=float, default=99.9, help="try 90 to see clipping")
    options = parser.parse_args()
    model, x_calibration, x, y = load_demo()
    x, y = x[: options.samples], y[: options.samples]
    snn = keras_snn.convert(
        model, x_calibration, timesteps=options.timesteps, percentile=options.percentile, verbose=0
    )

    report = keras_snn.report(snn, x, y, path=options.output, batch_size=100)
    print(f"{report}\n\n{report.diagnosis}\n\n{report.counts}\n\nwrote {options.output}")

    run = snn.simulate(x[:1], record=["spike_trains", "membrane_potentials"])
    raster = keras_snn.plots.spike_raster(run.spike_trains["conv3"][0])
    raster.figure.savefig(options.output.with_name("spikes.png"))
    potentials = keras_snn.plots.membrane_potentials(
        run.membrane_potentials["conv3"][0], [(3, 3, 0), (3, 3, 1)]
    )
    potentials.figure.savefig(options.output.with_name("potentials.png"))


if __name__ == "__main__":
    main()
