"""The program of a spiking model, and its source network."""

import dataclasses
import hashlib
import json
import math

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower_calls
from keras_snn.graph.program import Program, source_of
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel

__all__ = ["alone", "check_spiking", "digest_of", "program_of", "source_graph"]


def check_spiking(model):
    """Raise a `TypeError` if `model` is no `SpikingModel`."""
    if not isinstance(model, SpikingModel):
        raise TypeError(
            f"`model` must be a SpikingModel. Received: {type(model).__name__}. Convert it first with "
            "keras_snn.convert."
        )


def alone(model):
    """Return a context in which no other thread runs a spiking model or changes what it is.

    Raises:
        TypeError: If `model` is no `SpikingModel`.
    """
    check_spiking(model)
    return internals(model).lock


def program_of(model):
    """Return the `Program` that a spiking model runs.

    The origin of a node is the name of its call.

    Raises:
        TypeError: If `model` is no `SpikingModel`.
    """
    check_spiking(model)
    shapes, dtypes = internals(model).inputs.shapes, internals(model).inputs.dtypes
    outputs = internals(model).network.outputs
    graph = lower_calls(model.layers, model.calls, shapes, outputs, dtypes=dtypes, name=model.name)
    rows = {row.name: row for row in getattr(model.conversion_report, "layers", ())}
    nodes = {
        name: _with_units(node, rows.get(node.origins[0])) if isinstance(node, kinds.Spike) else node
        for name, node in graph.nodes.items()
    }
    graph = dataclasses.replace(graph, inputs=internals(model).network.inputs, nodes=nodes)
    events = internals(model).network.events
    return Program(graph, model.passes, events, model.dtype_policy, model.weight_bits)


def _with_units(spike, row):
    """Return neurons with what the report on a conversion knows of their activation."""
    if row is None or row.scale is None:
        return spike
    max_value = math.inf if row.max_value is None else row.max_value
    return dataclasses.replace(spike, scale=np.asarray(row.scale), max_value=max_value)


def source_graph(model):
    """Return what a spiking model approximates, as `source_of` has it of its program.

    Args:
        model: A `SpikingModel`.

    Returns:
        `(graph, activations)`: a `Graph` without neurons, and a dict of the name of the node of the
        activation by name of the call of the layer of neurons.

    Raises:
        TypeError: If `model` is no `SpikingModel`.
    """
    program = program_of(model)
    spikes = (node for node in program.graph.nodes.values() if isinstance(node, kinds.Spike))
    return source_of(program), {node.origins[0]: node.name for node in spikes}


def digest_of(model):
    """Return a digest of a Keras model, of its config and weights: copies and loaded files have the same.

    How it was compiled, how long it runs and what changes its speed only are no part of it.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    config.pop("build_config", None)
    for name in ("unroll", "engine", "timesteps", "conversion_report"):
        config["config"].pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for array in model.get_weights():
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.view("uint8") if array.ndim else array.tobytes())
    return digest.hexdigest()[:16]
