"""Simulation with records: the same chunks as in `predict`, driven from Python."""

import keras
import numpy as np

from keras_snn._data import Batches
from keras_snn._validation import check_choice, check_integer
from keras_snn.simulation.memory import check_memory, show_bytes
from keras_snn.simulation.result import SimulationResult

__all__ = ["Runner", "simulate"]

_RECORDS = ("spike_counts", "spike_trains", "membrane_potentials")


def simulate(model, x, y=None, *, timesteps=None, record=(), batch_size=32, verbose=0):
    """Run a spiking model step by step and keep what happens.

    Args:
        model: A `SpikingModel`.
        x: Input data: array, list or dict of arrays, `tf.data.Dataset` or `keras.utils.PyDataset`
            of `x` or `(x, y)`.
        y: Labels of arrays: class numbers `(batch,)` or one-hot `(batch, classes)`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        record: Names of `"spike_counts"`, `"spike_trains"`, `"membrane_potentials"`, each kept for
            every layer of neurons. Trains and potentials need memory for every neuron and step.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar, and the memory that trains and potentials take.

    Returns:
        A `SimulationResult`.

    Raises:
        ValueError, TypeError: If an argument is not what it may be, or trains or potentials would
            not fit into memory.
    """
    timesteps = model.timesteps if timesteps is None else check_integer("timesteps", timesteps, minimum=1)
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    record = (record,) if isinstance(record, str) else tuple(record)
    for name in record:
        check_choice("record", name, _RECORDS)
    batches = Batches(
        x if y is None else (x, np.asarray(y) if isinstance(y, list) else y),
        model.network.inputs,
        model.given_shapes,
        batch_size=batch_size,
        argument="x",
    )
    chunk = 1 if "membrane_potentials" in record else min(model.chunk, timesteps)
    runner = _runner(model, chunk, record)
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    outputs, records, labels = [], [], []
    for inputs, targets in batches:
        if not outputs:
            samples = len(keras.tree.flatten(inputs)[0]) * (batches.count or 1)
            memory = check_memory(model, record, batches.samples or samples, timesteps)
            if verbose and memory:
                print(f"Recording takes {show_bytes(memory)}")  # noqa: T201 - beside the progress bar
        outputs_of_batch, records_of_batch, counts = [], [], {}
        for values, seen in runner.run(inputs, timesteps):
            outputs_of_batch.append(values)
            # Counts are summed right away: memory does not grow with time.
            for name, array in seen.pop("spike_counts", {}).items():
                counts[name] = counts[name] + array if name in counts else array
            records_of_batch.append(seen)
        outputs.append(_join(outputs_of_batch, axis=1))
        records_of_batch = _join(records_of_batch, axis=1)
        if "spike_counts" in record:
            records_of_batch["spike_counts"] = counts
        records.append(records_of_batch)
        labels.append(targets)
        if progress:
            progress.add(1)
    over_time = _join(outputs)
    return SimulationResult(
        outputs=keras.tree.map_structure(lambda a: a[:, -1], over_time),
        outputs_over_time=over_time,
        accuracy_over_time=_accuracy_over_time(over_time, labels),
        timesteps=timesteps,
        records=_join(records),
    )


class _Compiled(keras.Model):
    """A function of tensors, run the way Keras runs `predict` on the backend in use."""

    def __init__(self, function, layers):
        # Without autocast, which would round states to the default dtype.
        super().__init__(name="steps", autocast=False)
        self._function = function
        # Held so that a backend that tracks variables sees them.
        self._used_layers = layers
        self.built = True

    def call(self, inputs):
        return self._function(inputs)


class Runner:
    """Runs batches of a spiking model chunk by chunk.

    Args:
        model: A `SpikingModel`.
        chunk: How many steps run at once.
        observe: Function of the values of all calls over a chunk, and of the states behind it; returns
            nested tensors.
    """

    def __init__(self, model, chunk, observe):
        self.model, self.chunk, self.observe = model, chunk, observe
        self.network = model.network

        def begin(x):
            inputs = model.cast(x)
            return {"drive": self.network.drive(inputs), "states": self.network.start(inputs)}

        self.begin = _Compiled(begin, model.layers)
        self.chunks = {}

    def _chunk(self, timesteps):
        if timesteps not in self.chunks:

            def function(carry):
                values, states = self.network.run(carry["drive"], carry["states"], timesteps)
                outputs = keras.tree.map_structure(values.__getitem__, self.network.outputs)
                return {"states": states, "outputs": outputs, "seen": self.observe(values, states)}

            self.chunks[timesteps] = _Compiled(function, self.model.layers)
        return self.chunks[timesteps]

    def run(self, inputs, timesteps):
        """Yield `(outputs, what was observed)` of one batch and so many steps, chunk by chunk."""
        carry = self.begin.predict_on_batch(self.model.shaped(inputs, timesteps))
        for start in range(0, timesteps, self.chunk):
            length = min(self.chunk, timesteps - start)
            now = {**carry, "drive": self.network.at(carry["drive"], start, length)}
            result = self._chunk(length).predict_on_batch(now)
            carry = {**carry, "states": result["states"]}
            yield result["outputs"], result["seen"]


def _runner(model, chunk, record):
    """Return the runner of an earlier call, which is compiled, or a new one."""
    key = (chunk, record)
    if key not in model.runners.by_key:
        model.runners.by_key[key] = Runner(model, chunk, _recorder(model.network, record))
    return model.runners.by_key[key]


def _recorder(network, record):
    """Return the function that observes what is named in `record`, of every layer of neurons."""
    kept = {
        "spike_counts": lambda name, values, states: keras.ops.sum(
            keras.ops.cast(values[name], "float32"), axis=1
        ),
        "spike_trains": lambda name, values, states: values[name],
        "membrane_potentials": lambda name, values, states: states[name][0][:, None],
    }
    neurons = [name for name, layer in network.stateful.items() if hasattr(layer, "neuron")]
    return lambda values, states: {
        what: {name: kept[what](name, values, states) for name in neurons} for what in record
    }


def _join(parts, axis=0):
    """Concatenate nested arrays leaf by leaf."""
    return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves, axis=axis), *parts)


def _accuracy_over_time(outputs, labels):
    """Return the share of right classes after every step, or `None` if these are no classes."""
    if any(y is None for y in labels) or not isinstance(outputs, np.ndarray):
        return None
    labels = np.concatenate(labels)
    samples, _, *shape = outputs.shape
    if len(shape) != 1 or shape[0] < 2:
        return None
    if labels.shape == (samples, *shape):
        one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all()
        labels = labels.argmax(axis=-1) if one_hot else labels
    elif labels.size != samples:
        raise ValueError(
            f"`y` must be class numbers of shape ({samples},) or one-hot of shape "
            f"({samples}, {shape[0]}). Received: shape {labels.shape}. Leave it out if the model "
            "does not classify."
        )
    if labels.size != samples or not np.all(labels == np.round(labels)):
        return None
    return (outputs.argmax(axis=-1) == labels.reshape(-1, 1)).mean(axis=0)
