"""Records of networks of time codes, whose layers run one after the other, each in its window."""

from typing import get_args

import keras

from keras_snn._arrays import as_numpy
from keras_snn.engines.layered import run_layered
from keras_snn.simulation.internals import internals
from keras_snn.simulation.result import Record
from keras_snn.simulation.source import program_of

__all__ = ["TIME_CODE_RECORDS", "WindowRunner"]

# What `simulate` may record of time codes.
TIME_CODE_RECORDS = get_args(Record)


class WindowRunner:
    """Runs batches of a network of time codes step by step, and keeps what is asked for.

    Args:
        model: A `SpikingModel` of time codes.
        record: Names of `TIME_CODE_RECORDS`.
    """

    def __init__(self, model, record):
        self.model, self.record = model, record
        self.program = program_of(model)

    def outputs(self, run):
        """Return the values of the outputs, `(batch, 1, …)`, nested as the model returns them."""
        return run["outputs"]

    def whole(self, inputs, timesteps, plan, *, per_call, settle=False):
        """Return the run of one batch: outputs and, by what was asked for, a dict by name of the call."""
        given = internals(self.model).inputs
        # In their dtypes, as the closed form takes them: a value near a threshold may round to it.
        x = [as_numpy(values) for values in given.cast(given.shaped(inputs, timesteps))]
        outputs, records = run_layered(self.program, x)
        dtype = "float64" if self.model.compute_dtype == "float64" else "float32"
        run = {"outputs": keras.tree.map_structure(lambda y: y[:, None].astype(dtype), outputs)}
        fields = {
            "spike_counts": ("sums", lambda record: record.counts),
            "spike_trains": ("every", lambda record: record.trains),
            "membrane_potentials": ("potentials", lambda record: record.potentials.astype(dtype)),
            "spike_times": ("times", lambda record: record.times),
        }
        for what in self.record:
            field, of = fields[what]
            nodes = self.program.graph.nodes
            run[field] = {nodes[name].origins[0]: of(record) for name, record in records.items()}
        return run
