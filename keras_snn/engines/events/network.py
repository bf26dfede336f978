"""Runs an assembled program: batches of samples, on as many threads as there are processors."""

import concurrent.futures
import math
import os

import numpy as np

from keras_snn.engines.events.operations import LANES
from keras_snn.engines.events.tables import SLACK, aligned
from keras_snn.graph.numpy_reference import value_of

__all__ = ["EventNetwork", "threads"]

# Steps that a layer runs before the next one does, fewer where lists of spikes may be long, so that they stay
# in the cache; and how many numbers of them may be in memory at once.
_STEPS, _STEPS_OF_LONG_LISTS, _LONG, _NUMBERS = 32, 16, 2**17, 2**25
# Bytes that a thread has worked on which are kept for the next call: of large networks they are not.
_KEPT = 2**26


def threads():
    """Return how many threads samples are shared among.

    As many as this process may use processors, and at most `OMP_NUM_THREADS` of the environment, which
    TensorFlow, PyTorch and NumPy follow as well. Results do not depend on it.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A list of numbers is for nested loops; the first is for the outermost.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(usable, int(wanted)) if wanted.isdecimal() and int(wanted) else usable


class EventNetwork:
    """A program that runs event by event.

    Args:
        assembled: An `Assembled` program.
    """

    def __init__(self, assembled):
        self.assembled = assembled
        # What threads have worked on, by number of steps at once: new memory takes time at its first use.
        self._unused = {}
        # By names of what is kept and added up, so that a call does not make it again.
        self._records = {}

    def begin(self, given, samples, timesteps):
        """Return `(states, drives, arriving)` of a batch before the first step.

        Args:
            given: Inputs by name, or constant values by name of a call, arrays `(samples, …)`; of what
                arrives at every step `(samples, timesteps, …)`.
            samples: Number of samples.
            timesteps: Number of steps.
        """
        plan = self.assembled
        drives = np.zeros((samples, plan.drive_size), "float32")
        arriving = np.zeros((samples, timesteps if plan.arriving else 0, plan.arriving_size), "float32")
        for into, places in ((drives, plan.drives), (arriving, plan.arriving)):
            for name, (offset, shape) in places.items():
                values = given[name]
                values = values.reshape(*values.shape[: into.ndim - 1], *shape)
                values = values if values.ndim >= into.ndim else values[..., None]
                size = -(-values.shape[-1] // LANES) * LANES
                rows = into[..., offset : offset + math.prod(values.shape[into.ndim - 1 : -1]) * size]
                rows = rows.reshape(*values.shape[:-1], size)
                rows[..., : values.shape[-1]] = values
        return np.tile(plan.initial, (samples, 1)), drives, arriving

    def run(
        self,
        states,
        drives,
        arriving,
        start,
        timesteps,
        *,
        every=(),
        sums=(),
        fired=(),
        potentials=(),
        additions=False,
    ):
        """Run some steps, and change `states` to those after them.

        Args:
            states: Array `(samples, numbers)`, float32, as of `begin`.
            drives: Array `(samples, numbers)`, as of `begin`.
            arriving: Array `(samples, timesteps, numbers)`, as of `begin`, of these steps.
            start: How many steps went before.
            timesteps: Number of steps.
            every: Names of calls whose values are kept at every step; of read-outs, their sums.
            sums: Of which values are added up.
            fired: Of which it is counted at how many steps a value is not 0.
            potentials: Of which potentials are kept at every step.
            additions: Whether additions of weights are counted.

        Returns:
            Dict by name of the argument of dicts by name of the call: arrays `(samples, timesteps, …)` of
            what is kept, and `(samples, …)` of what is added up; of additions `(samples,)`, by layer.
        """
        asked = tuple(map(tuple, (every, sums, fired, potentials)))
        if asked not in self._records:
            self._records[asked] = self._records_of(*asked)
        records = self._records[asked]
        samples = len(states)
        of_steps = np.zeros((samples, timesteps if records.kept else 0, records.kept), "float32")
        of_sums = np.zeros((samples, records.added), "float32")
        given = (states, drives, np.ascontiguousarray(arriving))
        # Neurons that run several steps at once keep no potentials in between.
        at_once = 1 if potentials else self._at_once(timesteps)
        added = np.zeros((samples, len(self.assembled.operations) if additions else 0), "int64")
        self._share(given, (start, timesteps, at_once), records.rows, of_steps, of_sums, added)
        found = records.split(of_steps, of_sums)
        if additions:
            found["additions"] = {}
            for operation, name, length in self.assembled.adds:
                so_far = found["additions"].get(name, 0)
                found["additions"][name] = so_far + added[:, operation] * length
        return found

    def _records_of(self, every, sums, fired, potentials):
        """Return the `_Records` of what is asked for; arguments as of `run`."""
        sent, inner = self.assembled.sent, self.assembled.potentials
        kept = {"every": {name: sent.get(name, inner.get(name)) for name in every}}
        kept["potentials"] = {name: inner[name] for name in potentials}
        added = {"sums": {name: sent[name] for name in sums}, "fired": {name: sent[name] for name in fired}}
        return _Records(kept, added, self.assembled.groups)

    def potential(self, name, states):
        """Return the potentials of neurons, or the sum of a read-out, `(samples, …)`, that states hold."""
        signal = self.assembled.potentials[name]
        size = signal.places * signal.width
        padded = states[:, signal.value : signal.value + size].reshape(len(states), signal.places, -1)
        return padded[..., : signal.channels].reshape(len(states), *signal.shape)

    def read(self, name, sums, start):
        """Return the values of a read-out, `(samples, timesteps, …)`, from its sums after so many steps."""
        node, timesteps = self.assembled.readouts[name], sums.shape[1]
        steps = start + np.arange(1, timesteps + 1, dtype="float32")
        steps = np.maximum(steps - node.delay, 1) if node.delay else steps
        steps = steps.reshape(-1, *(1,) * len(node.shape))
        if node.weighting == "linear":
            sums = (steps + 1) * sums[:, :, 0] - sums[:, :, 1]
            steps = 0.5 * steps * (steps + 1)
        # As the layer does it.
        is_scaled = node.scale != 1
        average = sums * (np.asarray(node.scale, "float32") * (1 / steps)) if is_scaled else sums / steps
        average = average if node.shift == 0 else average + np.asarray(node.shift, "float32")
        return average if node.function == "linear" else value_of(node, average)

    def _at_once(self, timesteps):
        """Return how many steps a layer runs before the next one does."""
        sizes = self.assembled.sizes
        steps = _STEPS_OF_LONG_LISTS if sizes.events > _LONG else _STEPS
        return min(max(_NUMBERS // max(sizes.events, sizes.step_memory, 1), 1), steps, max(timesteps, 1))

    def _share(self, given, span, records, *found):
        from keras_snn.engines.events.kernels import run_samples

        plan = self.assembled

        def run(first, last):
            unused = self._unused.setdefault(span[-1], [])
            try:
                scratch = unused.pop()
            except IndexError:
                scratch = _scratch(plan.sizes, span[-1])
            run_samples(
                (first, last),
                span,
                plan.before,
                plan.operations,
                records,
                plan.weights,
                plan.table,
                *given,
                *found,
                *scratch,
            )
            if sum(array.nbytes for array in scratch[1]) <= _KEPT:
                unused.append(scratch)

        samples = len(given[0])
        parts = min(threads(), samples) if samples > 1 else 1
        if parts == 1:
            run(0, samples)
            return
        bounds = [samples * part // parts for part in range(parts + 1)]
        with concurrent.futures.ThreadPoolExecutor(parts) as pool:
            list(pool.map(run, bounds[:-1], bounds[1:]))


def _scratch(sizes, steps):
    """Return what one thread works on, for so many steps at once.

    Returns:
        `(layout, arrays)`: where what belongs to each step begins in memory and words, and how much it is;
        memory, words, starts of lists, events, amounts, and where the list of each step ends.
    """
    layout = (sizes.memory, sizes.step_memory, sizes.words, sizes.step_words)
    memory, words = sizes.memory + steps * sizes.step_memory, sizes.words + steps * sizes.step_words
    counts = (memory + SLACK, words + LANES, steps * sizes.places, steps * sizes.events, sizes.events, steps)
    kinds = ("float32", "uint16", "int32", "int32", "float32", "int64")
    return layout, tuple(aligned(size, kind) for size, kind in zip(counts, kinds, strict=True))


class _Records:
    """Where what is kept and added up is in a row of numbers."""

    def __init__(self, kept, added, groups):
        self._kinds, self.kept, self.added = {"sums": 1, "fired": 2}, 0, 0
        self._of_steps, self._of_sums, self._groups = kept, added, groups
        self._rows, self._places = [], {}
        for fields in kept, added:
            for field, signals in fields.items():
                for name, signal in signals.items():
                    self._add(field, name, signal, fields is kept)
        # The rows of the table of records.
        self.rows = np.array(self._rows, "int64").reshape(-1, 7)

    def _add(self, field, name, signal, is_kept):
        target, size = self.kept if is_kept else self.added, signal.places * signal.channels
        # A potential is a number, whether or not it is a spike.
        word = -1 if field == "potentials" else signal.word
        kind = self._kinds.get(field, 0)
        self._rows.append(
            (signal.places, signal.channels, word, signal.value, target, kind, self._groups[name])
        )
        self._places[field, name] = (target, target + size, signal.shape)
        if is_kept:
            self.kept += size
        else:
            self.added += size

    def split(self, of_steps, of_sums):
        """Return what is kept and added up, by name of what it is and of the call."""
        found = {field: {} for field in (*self._of_steps, *self._of_sums)}
        for (field, name), (first, last, shape) in self._places.items():
            numbers = of_steps if field in self._of_steps else of_sums
            part = numbers[..., first:last]
            found[field][name] = part.reshape(*part.shape[:-1], *shape)
        return found
