"""A network of integers, run in NumPy's int64: written from the equations, not from the code."""

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import affine_windows, pool_windows

# Spikes of multi-threshold neurons are multiples of 1/8.
_PARTS = 8


def integers(x):
    """Return numbers as int64, if they are integers."""
    x = np.asarray(x, "float64")
    assert np.array_equal(x, np.round(x)), f"not integers: {x[x != np.round(x)][:3]}"
    return x.astype("int64")


class Reference:
    """Runs a program of integers, all in eighths, and keeps what its neurons do.

    Attributes:
        spikes, potentials: By name of the call, lists over the steps of arrays `(batch, …)`, in eighths.
        sums: Sums of the read-outs by name of the node, in eighths.
    """

    def __init__(self, program, inputs):
        self.graph, self.events = program.graph, program.events
        self.spikes, self.potentials, self.sums, self.states = {}, {}, {}, {}
        names = keras.tree.flatten(program.graph.inputs)
        given = dict(zip(names, keras.tree.flatten(inputs), strict=True))
        for step in range(program.timesteps):
            values = {}
            for node in self.graph.nodes.values():
                if isinstance(node, kinds.Input):
                    values[node.name] = given[node.name][:, step] if self.events else given[node.name]
                else:
                    taken = [values[name] for name in node.inputs]
                    values[node.name] = self._value(node, step, *taken)

    def _value(self, node, step, *taken):
        if isinstance(node, kinds.Activation):
            # The one rounding: of the input, or of what a layer makes of it, which is then in eighths.
            x = np.asarray(taken[0], "float32")
            assert (node.max_value, node.per_step) == (node.levels, True)
            lowest = -node.levels if node.function == "linear" else 0
            return _PARTS * integers(np.clip(np.floor(x + np.float32(0.5)), lowest, node.levels))
        if isinstance(node, kinds.ChannelAffine):
            return self._channel_affine(node, taken[0])
        if isinstance(node, kinds.Affine):
            return _affine(node, taken[0])
        if isinstance(node, kinds.Pool):
            return self._pool(node, taken[0])
        if isinstance(node, kinds.Add):
            return sum(taken)
        if isinstance(node, kinds.Concatenate):
            return np.concatenate(taken, axis=node.axis)
        if isinstance(node, kinds.Rearrange):
            return node.move(taken[0], leading=1)
        if isinstance(node, kinds.Readout):
            counts = step >= node.delay
            self.sums[node.name] = self.sums.get(node.name, 0) + (taken[0] if counts else 0)
            return None
        spikes, potential = self._neurons(node, taken[0])
        self.spikes.setdefault(node.origins[0], []).append(spikes)
        self.potentials.setdefault(node.origins[0], []).append(potential)
        return spikes

    def _channel_affine(self, node, x):
        users = [other for other in self.graph.nodes.values() if node.name in other.inputs]
        if all(isinstance(user, kinds.Activation) for user in users):
            # In front of a rounding, of an input or of integers.
            return np.float32(node.scale) * np.asarray(x / (_PARTS if x.dtype == "int64" else 1), "float32")
        return integers(node.scale * x) + _PARTS * integers(node.shift)

    def _pool(self, node, x):
        windows = pool_windows(node, x.astype("float64"), fill=np.nan)
        axes = tuple(range(x.ndim, windows.ndim))
        if node.function == "average":
            return np.nanmean(windows, axes)
        total = self.states[node.name] = self.states.get(node.name, 0) + x
        windows = pool_windows(node, total.astype("float64"), fill=-np.inf)
        largest = integers(np.max(windows, axes))
        before, self.states[f"{node.name}/max"] = self.states.get(f"{node.name}/max", 0), largest
        return largest - before

    def _neurons(self, node, current):
        neuron, delay, more = node.neuron, 0, 0
        start = 0
        while hasattr(neuron, "neuron"):
            delay += getattr(neuron, "timesteps", 0)
            more = more + _PARTS * integers(np.asarray(getattr(neuron, "current", ()) or 0))
            start = start + _PARTS * integers(np.asarray(getattr(neuron, "potential", ()) or 0))
            neuron = neuron.neuron
        theta = _PARTS * integers(neuron.v_threshold)
        unit = int(_PARTS * neuron.unit)
        # V(0) is a fraction of the smallest threshold, θ·ε.
        start = start + integers(neuron.initial_potential * theta * unit / _PARTS)
        v, n, step = self.states.get(node.name, (np.zeros_like(current) + start, 0 * current, 0))
        spikes = 0 * current
        if step >= delay:
            v = v + current + more
            spikes, v = _fired(neuron, v, n, theta, unit)
        self.states[node.name] = v, n + spikes, step + 1
        return spikes, v


def _fired(neuron, v, n, theta, unit):
    """Return spikes in eighths, and the potential after them."""
    name = type(neuron).__name__
    if name == "IntegrateAndFire":
        fires = v >= theta
        return _PARTS * fires, (np.where(fires, 0, v) if neuron.reset == "zero" else v - theta * fires)
    if name == "SignedIntegrateAndFire":
        below = True if neuron.levels is None else n < _PARTS * neuron.levels
        spikes = 1 * ((v >= theta) & below) - 1 * ((v < 0) & (n > 0))
        return _PARTS * spikes, v - theta * spikes
    largest = _PARTS * np.asarray(neuron.largest_spike)
    spikes = unit * (v // (theta * unit // _PARTS))
    spikes = np.clip(spikes, 0 if name == "Burst" else -n, integers(largest))
    return spikes, v - theta * spikes // _PARTS


def _affine(node, x):
    kernel, bias = integers(node.kernel), _PARTS * integers(node.bias)
    if not node.window:
        return x @ kernel + bias
    windows = integers(affine_windows(node, np.asarray(x, "float64")))
    if node.transposed:
        kernel = kernel[(slice(None, None, -1),) * len(node.window)]
    *places, channels = windows.shape[: x.ndim]
    windows = windows.reshape(*places, node.groups, channels // node.groups, -1)
    kernel = kernel.reshape(-1, kernel.shape[-2], node.groups, kernel.shape[-1] // node.groups)
    return np.einsum("...gcw,wcgu->...gu", windows, kernel).reshape(*places, -1) + bias
