"""A network, its data and its spiking copy, as files."""

import networks
import numpy as np
import pytest
from commands import run


@pytest.fixture
def files(rng, tmp_path):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=20)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    model.save(tmp_path / "cnn.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path


@pytest.fixture
def spiking(files, capsys):
    arguments = ["--calibration", files / "data.npz", "-o", files / "snn.keras", "--timesteps", 3]
    run(capsys, "convert", files / "cnn.keras", *arguments)
    with np.load(files / "data.npz") as arrays:
        return files / "snn.keras", np.float32(arrays["x"])
