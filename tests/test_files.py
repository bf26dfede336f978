"""What is written over: files are replaced, links lead on, and all else stays as it is."""

import os
import socket
import stat

import h5py
import keras
import numpy as np
import pytest

import keras_snn
from keras_snn.cli import main
from keras_snn.neurons import IntegrateAndFire


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    x = np.random.default_rng(0).random((8, 4), "float32")
    layers = [keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    neuron = IntegrateAndFire(reset="zero", initial_potential=0.0)
    snn = keras_snn.convert(model, x, timesteps=3, neuron=neuron, verbose=0)
    folder = tmp_path_factory.mktemp("network")
    model.save(folder / "cnn.keras")
    snn.save(folder / "snn.keras")
    np.savez(folder / "data.npz", x=x, y=np.arange(8) % 2)
    return snn, x, folder


def command(*arguments):
    status = main([*map(str, arguments), "--quiet"])
    if status:
        raise OSError(f"exit {status}")


# Each is given a path, which it writes to.
WRITERS = {
    "save.keras": lambda snn, x, folder, path: snn.save(path),
    "save2.keras": lambda snn, x, folder, path: snn.save(path, overwrite=False),
    "report.html": lambda snn, x, folder, path: keras_snn.report(snn, x, path=None).save(path),
    "direct.html": lambda snn, x, folder, path: keras_snn.report(snn, x, path=path),
    "net.nir": lambda snn, x, folder, path: keras_snn.export_nir(snn, path),
    "convert.keras": lambda snn, x, folder, path: command(
        "convert", folder / "cnn.keras", "-o", path, "--force"
    ),
    "command.html": lambda snn, x, folder, path: command(
        *("report", folder / "snn.keras", "--data", folder / "data.npz", "-o", path, "--force")
    ),
    "command.nir": lambda snn, x, folder, path: command("export", folder / "snn.keras", "-o", path),
    "command.onnx": lambda snn, x, folder, path: command("export", folder / "snn.keras", "-o", path),
    "command": lambda snn, x, folder, path: command("export", folder / "snn.keras", "-o", path),
}
OVERWRITING = [
    name for name in WRITERS if name not in ("save2.keras", "command.nir", "command.onnx", "command")
]


@pytest.fixture(autouse=True)
def _packages():
    pytest.importorskip("nir")
    pytest.importorskip("matplotlib")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def make_device(path):
    try:
        # The number of /dev/null.
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only an administrator makes devices")


def make_link(path):
    os.mkfifo(path.with_name("real"))
    path.symlink_to("middle")
    path.with_name("middle").symlink_to("real")


MADE = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": make_device,
    "folder": os.mkdir,
    "link to a pipe": make_link,
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_file_is_refused_and_stays(writer, made, network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / writer
    MADE[made](path)
    before = {p.name: os.lstat(p) for p in tmp_path.iterdir()}
    with pytest.raises(OSError):
        WRITERS[writer](*network, path)
    after = {p.name: os.lstat(p) for p in tmp_path.iterdir()}
    assert {name: (s.st_ino, s.st_mode) for name, s in after.items()} == {
        name: (s.st_ino, s.st_mode) for name, s in before.items()
    }


@pytest.mark.parametrize("writer", ["report.html", "direct.html", "command.html"])
def test_numbers_beside_a_page_are_not_written_over_a_pipe(writer, network, tmp_path):
    os.mkfifo((tmp_path / writer).with_suffix(".json"))
    with pytest.raises(OSError):
        WRITERS[writer](*network, tmp_path / writer)
    assert [p.is_fifo() for p in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("writer", OVERWRITING)
def test_a_link_stays_one_and_leads_to_the_new_file(writer, there, network, tmp_path):
    """Of two links into other folders; where nothing is there yet, that is where it is written."""
    folders = [tmp_path / name for name in ("here", "there", "data")]
    for folder in folders:
        folder.mkdir()
    paths = [folders[0] / writer]
    if writer.endswith(".html"):
        paths.append(paths[0].with_suffix(".json"))
    for path, folder in zip(paths, folders[1:], strict=False):
        target = folder / f"real{path.suffix}"
        if there:
            target.write_text("old")
        (folders[0] / f"middle{path.suffix}").symlink_to(target)
        path.symlink_to(f"middle{path.suffix}")
    WRITERS[writer](*network, paths[0])
    for path, folder in zip(paths, folders[1:], strict=False):
        assert path.is_symlink()
        assert (folders[0] / f"middle{path.suffix}").is_symlink()
        assert not (folder / f"real{path.suffix}").is_symlink()
        assert len(path.read_bytes()) > 10
        assert [p.name for p in folder.iterdir()] == [f"real{path.suffix}"]


@pytest.mark.parametrize("name", ["a.h5", "a.hdf5"])
def test_hdf5_is_refused_however_it_is_asked_for(name, network, tmp_path):
    snn, *_ = network
    for save in (snn.save, lambda path: keras.saving.save_model(snn, path)):
        with pytest.raises(ValueError, match=r"`filepath` must end in \.keras\. Received: .*would not load"):
            save(tmp_path / name)
    inputs = keras.Input((4,))
    around = keras.Model(inputs, snn(inputs))
    with pytest.raises(ValueError, match="`filepath` must end in .keras. Received: an HDF5 file"):
        around.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
    snn.save(tmp_path / "a.keras")
    keras.saving.save_model(snn, tmp_path / "b.keras")


def test_refused_hdf5_leaves_links_and_files_of_others(network, tmp_path):
    snn, *_ = network
    (tmp_path / "a.h5").symlink_to(tmp_path / "target.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kept"] = 1
        with pytest.raises(ValueError, match="`filepath` must end in .keras"):
            keras.saving.save_model(snn, tmp_path / "a.h5")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.h5", tmp_path / "other.h5"]
    assert (tmp_path / "a.h5").is_symlink()
    with h5py.File(tmp_path / "empty.h5", "w"), pytest.raises(ValueError, match="must end in .keras"):
        keras.saving.save_model(snn, tmp_path / "b.h5")
    assert (tmp_path / "empty.h5").exists()
