"""HDF5 files of whole models, which Keras would write of a spiking one, and which would not load."""

import contextlib
import os

import keras

__all__ = ["is_wanted", "remove_begun"]


def is_wanted():
    """Return whether Keras wants configs for an HDF5 file, in which they lack the module of a class."""
    probe = keras.Sequential([keras.layers.Identity(name="probe")], name="probes")
    return "module" not in probe.get_config()["layers"][0]


def remove_begun():
    """Remove the file that Keras has opened to write, which would remain, empty.

    None is removed if several files without anything in them are open.
    """
    # Keras needs it, too, but takes long to import it.
    import h5py

    opened = [h5py.File(i) for i in h5py.h5f.get_obj_ids(types=h5py.h5f.OBJ_FILE)]
    begun = [f for f in opened if f.mode == "r+" and f.driver != "core" and not (len(f) or len(f.attrs))]
    if len(begun) == 1:
        # Windows keeps what is open.
        with contextlib.suppress(OSError):
            # A link stays one.
            os.remove(os.path.realpath(begun[0].filename))
