"""What recording takes, against the memory that there is."""

import math
import os
import pathlib

import numpy as np

from keras_snn.layers.base import neuron_of
from keras_snn.simulation.internals import internals

__all__ = ["available_memory", "check_memory", "show_bytes"]

# A record is put together from its batches, while both are held.
_COPIES = 2


def available_memory():
    """Return the bytes that can be allocated without swapping, or `None` where that is not known."""
    found = []
    info = pathlib.Path("/proc/meminfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        if "MemAvailable" in fields:
            found.append(1024 * int(fields["MemAvailable"].split()[0]))
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # The limit of a container.
    group = pathlib.Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (group / "memory.max").read_text().strip() != "max":
        used = (group / "memory.current").read_text()
        found.append(int((group / "memory.max").read_text()) - int(used))
    return min(found) if found else None


def check_memory(model, record, samples, timesteps):
    """Return the bytes that spike trains and membrane potentials take, if they or else the outputs fit.

    Args:
        model: A `SpikingModel`.
        record: Names of records, as of `simulate`.
        samples: Number of samples.
        timesteps: Number of time steps.

    Raises:
        ValueError: If they do not fit into the memory that is available; names what would.
    """
    long = [name for name in record if name in ("spike_trains", "membrane_potentials")]
    layers = internals(model).network.stateful
    if long:
        one = len(long) * sum(_bytes_of(layer) for layer in layers.values() if neuron_of(layer) is not None)
    else:
        one = sum(_bytes_of(layers[name]) for name in internals(model).output_calls)
    needed, available = one * samples * timesteps, available_memory()
    if available is None or _COPIES * needed <= available:
        return needed if long else 0
    steps = available // (_COPIES * one)
    if steps >= timesteps:
        smaller = f"Simulate at most {steps // timesteps} samples at a time"
    elif steps or not long:
        smaller = f"Simulate single samples, for at most timesteps={steps}"
    else:
        smaller = "Record spike_counts, which do not grow with time"
    raise ValueError(
        f"`{'record' if long else 'timesteps'}` must fit into the memory available, {show_bytes(available)}. "
        f"Received: {', '.join(long) or 'outputs'} of {samples} samples and {timesteps} time steps, "
        f"{show_bytes(needed)} and as much again while they are put together. {smaller}."
    )


def _bytes_of(layer):
    """Return the bytes of the values of one sample and step."""
    return math.prod(layer.value_shape) * np.dtype(layer.state_dtype).itemsize


def show_bytes(count):
    """Return a number of bytes as text: MiB, or GiB where that is at least 1."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
