"""How often neurons fire, counted inside the compiled function while a model is watched."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_snn.neurons import IntegrateAndFire

__all__ = ["BINS", "FiringCounter", "LayerFiring"]

# Of a histogram of firing rates, of equal width over [0, 1].
BINS = 64

# JAX has no integers of 64 bits: totals are low + _WORD·high, spikes of a batch low + _SHORT·high.
_WORD = 2**30
_SHORT = 2**16


@dataclasses.dataclass(frozen=True, eq=False)
class LayerFiring:
    """What the neurons of a layer did, each of them once for every sample.

    A neuron that gives anything but 0 fires, whatever the sign or size of the spike.

    Attributes:
        timesteps: Number of steps of a sample.
        neurons: Number of neurons times samples.
        spikes: How often they fired.
        silent: How many of them never fired.
        saturated: How many of them fired at every step.
        histogram: How many of them had a firing rate in each of `BINS` equal parts of [0, 1],
            `(BINS,)`.
    """

    timesteps: int
    neurons: int
    spikes: int
    silent: int
    saturated: int
    histogram: np.ndarray

    @property
    def firing_rate(self):
        """Spikes per neuron and step."""
        return self.spikes / (self.neurons * self.timesteps)


class FiringCounter:
    """Adds up, call by call, how often the neurons of a network fire.

    The spikes of every neuron are summed over one call and, behind its last step, added to a few
    integers per layer, which is all that leaves it. Exact up to 2¹⁵ steps.

    Args:
        network: The `StepNetwork`, built.
    """

    def __init__(self, network):
        self.layers = {name: layer for name, layer in network.stateful.items() if hasattr(layer, "neuron")}
        # Under a constant current the potential in the end tells the count.
        self._told = {
            name
            for name, layer in self.layers.items()
            if network.is_driven(name) and getattr(layer.neuron, "conserves_charge", False)
        }
        self.totals = keras.Variable(
            "zeros",
            shape=(2, len(self.layers), 5 + BINS),
            dtype="int32",
            trainable=False,
            aggregation="sum",
            synchronization="on_read",
            name="firing",
        )

    def start(self, batch_size):
        """Return the spikes of every neuron before the first step, by name of the call."""
        looped = [name for name in self.layers if name not in self._told]
        return {name: ops.zeros((batch_size, *self.layers[name].value_shape), "float32") for name in looped}

    def add(self, counts, values):
        """Return `counts` with the spikes of a chunk, whose values `(batch, time, …)` are given."""
        return {name: count + self._fired(name, values[name]) for name, count in counts.items()}

    def _fired(self, name, spikes):
        if not isinstance(self.layers[name].neuron, IntegrateAndFire):
            spikes = spikes != 0
        spikes = ops.cast(ops.stop_gradient(spikes), "float32")
        return ops.squeeze(spikes, 1) if spikes.shape[1] == 1 else ops.sum(spikes, axis=1)

    def finish(self, counts, drive, states, timesteps):
        """Add a call of so many steps to the totals.

        Args:
            counts: What `add` returned last.
            drive: Drive of the network.
            states: The states behind the last step.
            timesteps: Number of steps.
        """
        rows = []
        for name, layer in self.layers.items():
            if name in self._told:
                current = ops.cast(ops.squeeze(drive[name], 1), layer.state_dtype)
                count = layer.neuron.count_spikes(current, states[name], timesteps)
            else:
                count = counts[name]
            rows.append(_row(ops.stop_gradient(count), timesteps))
        if rows:
            low = self.totals[0] + ops.stack(rows)
            self.totals.assign(ops.stack([low % _WORD, self.totals[1] + low // _WORD]))

    def read(self, timesteps):
        """Return the `LayerFiring` since `reset` by name of the call, `{}` if nothing ran."""
        low, high = ops.convert_to_numpy(self.totals).astype("int64")
        rows = dict(zip(self.layers, low + _WORD * high, strict=True))
        return {
            name: LayerFiring(
                timesteps=timesteps,
                neurons=int(neurons),
                spikes=int(spikes_low + _SHORT * spikes_high),
                silent=int(silent),
                saturated=int(saturated),
                histogram=np.array(histogram),
            )
            for name, (neurons, spikes_low, spikes_high, silent, saturated, *histogram) in rows.items()
            if neurons
        }

    def reset(self):
        """Forget all calls."""
        self.totals.assign(ops.zeros(self.totals.shape, "int32"))


def _row(counts, timesteps):
    """Return what the totals hold of the spikes of every neuron of a layer, `(batch, …)`, in integers."""
    values = ops.arange(timesteps + 1, dtype="int32")
    neurons = _count_by_value(ops.cast(counts, "int32"), timesteps + 1)
    spikes = values * (neurons % _SHORT)
    numbers = [
        ops.sum(neurons),
        ops.sum(spikes % _SHORT),
        ops.sum(values * (neurons // _SHORT) + spikes // _SHORT),
        neurons[0],
        neurons[timesteps],
    ]
    bins = ops.minimum(values * BINS // timesteps, BINS - 1)
    histogram = ops.segment_sum(neurons, bins, num_segments=BINS)
    return ops.concatenate([ops.cast(ops.stack(numbers), "int32"), ops.cast(histogram, "int32")])


def _count_by_value(x, size):
    """Return how often each integer of [0, size) is in `x`."""
    x = ops.reshape(x, (-1,))
    if keras.backend.backend() == "jax":
        # Which cannot compile bincount; on TensorFlow that is eight times as fast.
        return ops.segment_sum(ops.ones_like(x), x, num_segments=size)
    return ops.reshape(ops.cast(ops.bincount(x, minlength=size), "int32"), (size,))
