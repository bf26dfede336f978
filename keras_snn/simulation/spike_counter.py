"""How often neurons fire, counted inside the compiled function while a model is watched."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_snn.layers.base import neuron_of

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
        unsure: Of how many the spikes may be off by one, as of neurons with a current so large that rounding
            hides a spike; `simulate(record="spike_counts")` counts those.
        histogram: How many of them had a firing rate in each of `BINS` equal parts of [0, 1],
            `(BINS,)`.
    """

    timesteps: int
    neurons: int
    spikes: int
    silent: int
    saturated: int
    unsure: int
    histogram: np.ndarray

    @property
    def firing_rate(self):
        """Spikes per neuron and step."""
        return self.spikes / (self.neurons * self.timesteps)


class FiringCounter:
    """Adds up, call by call, how often the neurons of a network fire.

    After the last step of a call the spikes of every neuron give a few integers per layer, which is all that
    leaves it. Where charge is conserved, the sum of its current and the potential in the end give the spikes
    of a neuron; and the sum of the current follows from those of the layers before: one pass of the network
    per call instead of an addition per step. Spikes of other neurons are summed step by step. Exact up to
    2¹⁵ steps, but for what `LayerFiring.unsure` counts.

    Args:
        network: The `StepNetwork`, built.
    """

    def __init__(self, network):
        self.layers = {
            name: layer for name, layer in network.stateful.items() if neuron_of(layer) is not None
        }
        self._network = network
        self.totals = keras.Variable(
            "zeros",
            shape=(2, len(self.layers), 6 + BINS),
            dtype="int32",
            trainable=False,
            aggregation="sum",
            synchronization="on_read",
            name="firing",
        )

    @property
    def looped(self):
        """Names of the calls whose spikes are summed up step by step."""
        ways = _ways(self._network)
        return tuple(name for name in self.layers if ways.get(name) != "charge")

    def finish(self, counts, drive, states, timesteps):
        """Add a call of so many steps to the totals.

        Args:
            counts: How often every neuron of `looped` fired, `(batch, …)` by name of the call; of all if
                `states` is `None`.
            drive: Drive of the network.
            states: The states after the last step, or `None`.
            timesteps: Number of steps.
        """
        if not self.layers:
            return
        found = {}
        if states is not None:
            drive, states = keras.tree.map_structure(ops.stop_gradient, (drive, states))
            found = self._by_charge(counts, drive, states, timesteps)
        rows = [
            _row_of_halves(_count_by_value(found[name], 2 * timesteps + 3), timesteps)
            if name in found
            else _row(_count_by_value(counts[name], timesteps + 1), 0, timesteps)
            for name in self.layers
        ]
        low = self.totals[0] + ops.stack(rows)
        self.totals.assign(ops.stack([low % _WORD, self.totals[1] + low // _WORD]))

    def _by_charge(self, counts, drive, states, timesteps):
        """Return what `_of_charge` does of all neurons that it applies to, by name of the call."""
        found, ways = {}, _ways(self._network)
        # What calls give, summed over all steps, `(batch, …)`.
        sums = {name: timesteps * x for name, x in drive.items() if self._network.is_constant(name)}
        for name, layer, sources in self._network.running:
            how = ways.get(name)
            if how == "total":
                sums[name] = states[name][1]
            elif how == "affine":
                sums[name] = _of_sums(layer.layer, [sums[source] for source in sources], timesteps)
            elif how == "charge" and self._network.is_driven(name):
                current = ops.cast(drive[name], layer.state_dtype)
                found[name] = _of_constant(layer.neuron, current, states[name], timesteps)
            elif how == "charge":
                charge = _of_sums(layer.current, [sums[source] for source in sources], timesteps)
                found[name] = _of_charge(layer.neuron, charge, states[name], timesteps)
            if how in ("charge", "spikes"):
                spikes = counts[name] if how == "spikes" else ops.floor(0.5 * found[name])
                sums[name] = ops.cast(spikes, layer.compute_dtype)
        return found

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
                unsure=int(unsure),
                histogram=np.array(histogram),
            )
            for name, row in rows.items()
            for neurons, spikes_low, spikes_high, silent, saturated, unsure, *histogram in [row]
            if neurons
        }

    def reset(self):
        """Forget all calls."""
        self.totals.assign(ops.zeros(self.totals.shape, "int32"))


def _ways(network):
    """Return how sums over time of what calls give, and spikes of neurons, are obtained, by name of call.

    Returns:
        Dict of `"total"`: the state; `"affine"`: the sums of the inputs; `"charge"`: those and the potential;
        `"spikes"`: counting them step by step. The sums of other calls cannot be obtained.
    """
    ways = {}
    for name, layer, sources in network.running:
        follows = all(source in ways or network.is_constant(source) for source in sources)
        # A sum of what is rounded at every step is another one than the sum rounded once.
        follows = follows and layer.compute_dtype not in ("float16", "bfloat16")
        neuron = neuron_of(layer)
        if getattr(layer, "keeps_total", False):
            ways[name] = "total"
        elif getattr(layer, "is_affine", False) and follows:
            ways[name] = "affine"
        elif neuron is not None and neuron.conserves_charge and (network.is_driven(name) or follows):
            ways[name] = "charge"
        elif neuron is not None and neuron.has_unit_spikes:
            ways[name] = "spikes"
    return ways


def _of_sums(affine, sums, timesteps):
    """Return the sum over time of what an affine function gives, from those of its inputs `(batch, …)`."""
    zeros = [ops.zeros((1, *x.shape[1:]), dtype=x.dtype) for x in sums]
    of_sum, of_zeros = (affine(x if len(x) > 1 else x[0]) for x in (sums, zeros))
    # Its bias came at every step.
    return of_sum + (timesteps - 1) * of_zeros


def _of_charge(neuron, charge, state, timesteps):
    """Return how many half spikes a charge gave, plus one: 2n + 1 for n spikes; even if n is unsure."""
    halves = ops.round(2 * neuron.count_spikes(charge, state))
    return ops.clip(halves, -1, 2 * timesteps + 1) + 1


def _of_constant(neuron, current, state, timesteps):
    """Return what `_of_charge` does, of a current that was the same at every step."""
    halves = _of_charge(neuron, timesteps * current, state, timesteps)

    def far_from_threshold():
        # There potentials grow, and rounding with them; but nothing is in doubt.
        always, never = current >= neuron.v_threshold, current <= 0
        return ops.where(always, 2.0 * timesteps + 1, ops.where(never, 1.0, halves))

    precision = np.finfo(keras.backend.standardize_dtype(current.dtype)).eps
    rounding = timesteps * precision * ops.max(ops.abs(state[0]))
    return ops.cond(rounding > neuron.v_threshold / 8, far_from_threshold, lambda: halves)


def _row_of_halves(neurons, timesteps):
    """Return `_row` from how many neurons have each value of `_of_charge`, `(2·timesteps + 3,)`."""
    sure, unsure = neurons[1::2], neurons[::2]
    # Those above the most that is possible count as that.
    neurons = sure + unsure[:-1] + ops.pad(unsure[-1:], (timesteps, 0))
    return _row(neurons, ops.sum(unsure), timesteps)


def _row(neurons, unsure, timesteps):
    """Return what the totals hold of a layer, in integers.

    Args:
        neurons: How many neurons fired 0 … timesteps times, `(timesteps + 1,)`.
        unsure: Of how many that may be wrong.
        timesteps: Number of steps.
    """
    values = ops.arange(timesteps + 1, dtype="int32")
    spikes = values * (neurons % _SHORT)
    numbers = [
        ops.sum(neurons),
        ops.sum(spikes % _SHORT),
        ops.sum(values * (neurons // _SHORT) + spikes // _SHORT),
        neurons[0],
        neurons[timesteps],
        unsure,
    ]
    bins = ops.minimum(values * BINS // timesteps, BINS - 1)
    histogram = ops.segment_sum(neurons, bins, num_segments=BINS)
    return ops.concatenate([ops.cast(ops.stack(numbers), "int32"), ops.cast(histogram, "int32")])


def _count_by_value(x, size):
    """Return how often each integer of [0, size) is in `x`, of any dtype."""
    x = ops.reshape(ops.cast(x, "int32"), (-1,))
    if keras.backend.backend() == "jax":
        # Which cannot compile bincount; on TensorFlow that is eight times as fast.
        return ops.segment_sum(ops.ones_like(x), x, num_segments=size)
    return ops.reshape(ops.cast(ops.bincount(x, minlength=size), "int32"), (size,))
