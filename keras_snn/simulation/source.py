"""The source network, read back from the spiking one."""

import dataclasses

import numpy as np

from keras_snn import neurons
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower_calls
from keras_snn.graph.passes import insert_scale
from keras_snn.simulation.model import SpikingModel

__all__ = ["bare_neuron", "read_back", "source_graph"]


def read_back(model):
    """Return the `Graph` of a spiking model, with its neurons.

    Raises:
        TypeError: If `model` is no `SpikingModel`.
    """
    if not isinstance(model, SpikingModel):
        raise TypeError(
            f"`model` must be a SpikingModel. Received: {type(model).__name__}. Convert it first with "
            "keras_snn.convert."
        )
    graph = lower_calls(model.layers, model.calls, model.input_shapes, model.network.outputs)
    return dataclasses.replace(graph, inputs=model.network.inputs)


def source_graph(model):
    """Return what a spiking model approximates: every neuron is its activation, in units of its scale λ.

    Nothing of the source network is needed: the weights of a spiking model are those of the
    normalized source, whose activations divided by λ are what firing rates approach.

    Args:
        model: A `SpikingModel`.

    Returns:
        `(graph, activations)`: a `Graph` without neurons, and a dict of the name of the node of the
        activation by name of the call of the layer of neurons.

    Raises:
        TypeError: If `model` is no `SpikingModel`.
    """
    graph = read_back(model)
    rows = {row.name: row for row in getattr(model.conversion_report, "layers", ())}
    activations = {}
    for node in graph.nodes.values():
        call = node.origins[0] if node.origins else None
        if isinstance(node, kinds.Encode):
            rate = np.array(node.rate / node.scale)
            node = _like(node, kinds.ChannelAffine, scale=rate, shift=np.zeros(()), origins=())
            graph = graph.with_nodes({**graph.nodes, node.name: node})
        elif isinstance(node, kinds.Spike):
            activations[call] = node.name
            neuron = bare_neuron(node.neuron)
            activation = _like(node, kinds.Activation, **_function(neuron, rows.get(call)))
            graph = graph.with_nodes({**graph.nodes, node.name: activation})
            if neuron.v_threshold != 1:
                graph = insert_scale(graph, 1 / neuron.v_threshold, before=node.name)
    return graph, activations


def bare_neuron(neuron):
    """Return a neuron without its delay."""
    return neuron.neuron if isinstance(neuron, neurons.Delayed) else neuron


def _like(node, kind, **fields):
    shared = {field.name: getattr(node, field.name) for field in dataclasses.fields(kinds.Node)}
    return kind(**{**shared, **fields})


def _function(neuron, row):
    """Return the fields of the activation that a neuron stands for."""
    if isinstance(neuron, neurons.Binary):
        return {"function": neuron.function, "at_zero": neuron.at_zero}
    if row is None or row.max_value is None:
        return {"function": "relu"}
    return {"function": "relu", "max_value": float(np.max(row.max_value / np.asarray(row.scale)))}
