"""Simulation with records: the same chunks as in `predict`, driven from Python."""

import keras
import numpy as np

from keras_snn._data import Batches
from keras_snn._validation import check_choice, check_integer
from keras_snn.simulation.result import SimulationResult

__all__ = ["simulate"]

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
        verbose: 1 shows a progress bar.

    Returns:
        A `SimulationResult`.

    Raises:
        ValueError, TypeError: If an argument is not what it may be.
    """
    timesteps = model.timesteps if timesteps is None else check_integer("timesteps", timesteps, minimum=1)
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    record = (record,) if isinstance(record, str) else tuple(record)
    for name in record:
        check_choice("record", name, _RECORDS)
    batches = Batches(
        x if y is None else (x, np.asarray(y) if isinstance(y, list) else y),
        model.network.inputs,
        model.input_shapes,
        batch_size=batch_size,
        argument="x",
    )
    chunk = 1 if "membrane_potentials" in record else min(model.chunk, timesteps)
    runner = _Runner(model, record)
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    outputs, records, labels = [], [], []
    for inputs, targets in batches:
        outputs_of_batch, records_of_batch = runner.run(inputs, timesteps, chunk)
        outputs.append(outputs_of_batch)
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
        super().__init__(name="steps")
        self._function = function
        # Held so that a backend that tracks variables sees them.
        self._used_layers = layers
        self.built = True

    def call(self, inputs):
        return self._function(inputs)


class _Runner:
    """Runs batches of a spiking model chunk by chunk."""

    def __init__(self, model, record):
        self.network, self.record, self.layers = model.network, record, model.layers
        self.neurons = [name for name, layer in self.network.stateful.items() if hasattr(layer, "neuron")]
        self.begin = _Compiled(lambda x: self._begin(model.as_given(x)), self.layers)
        self.chunks = {}

    def _begin(self, inputs):
        drive = self.network.drive(inputs)
        return {"drive": drive, "states": self.network.start(drive)}

    def _chunk(self, timesteps):
        if timesteps not in self.chunks:

            def function(carry):
                values, states = self.network.run(carry["drive"], carry["states"], timesteps)
                outputs = keras.tree.map_structure(values.__getitem__, self.network.outputs)
                return {"states": states, "outputs": outputs, "records": self._records(values, states)}

            self.chunks[timesteps] = _Compiled(function, self.layers)
        return self.chunks[timesteps]

    def _records(self, values, states):
        kept = {
            "spike_counts": lambda name: keras.ops.sum(keras.ops.cast(values[name], "float32"), axis=1),
            "spike_trains": lambda name: values[name],
            "membrane_potentials": lambda name: states[name][0][:, None],
        }
        return {what: {name: kept[what](name) for name in self.neurons} for what in self.record}

    def run(self, inputs, timesteps, chunk):
        """Return the outputs over time and the records of one batch."""
        carry = self.begin.predict_on_batch(inputs)
        outputs, counts, over_time = [], {}, []
        for start in range(0, timesteps, chunk):
            result = self._chunk(min(chunk, timesteps - start)).predict_on_batch(carry)
            carry = {"drive": carry["drive"], "states": result["states"]}
            outputs.append(result["outputs"])
            # Counts are summed right away: memory does not grow with time.
            for name, values in result["records"].pop("spike_counts", {}).items():
                counts[name] = counts[name] + values if name in counts else values
            over_time.append(result["records"])
        records = _join(over_time, axis=1)
        if "spike_counts" in self.record:
            records["spike_counts"] = counts
        return _join(outputs, axis=1), records


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
