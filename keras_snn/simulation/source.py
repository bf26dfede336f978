"""The source network, read back from the spiking one."""

import dataclasses

import numpy as np

from keras_snn import neurons
from keras_snn._rates import unwrapped
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower_calls
from keras_snn.graph.passes import insert_scale
from keras_snn.simulation.model import SpikingModel

__all__ = ["check_spiking", "read_back", "source_graph"]


def check_spiking(model):
    """Raise a `TypeError` if `model` is no `SpikingModel`."""
    if not isinstance(model, SpikingModel):
        raise TypeError(
            f"`model` must be a SpikingModel. Received: {type(model).__name__}. Convert it first with "
            "keras_snn.convert."
        )


def read_back(model):
    """Return the `Graph` of a spiking model, with its neurons.

    Raises:
        TypeError: If `model` is no `SpikingModel`.
    """
    check_spiking(model)
    shapes, dtypes = model.input_shapes, model.input_dtypes
    outputs = model.network.outputs
    graph = lower_calls(model.layers, model.calls, shapes, outputs, dtypes=dtypes, name=model.name)
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
            graph = _with_activation(graph, node, rows.get(call))
    return graph, activations


def _like(node, kind, **fields):
    shared = {field.name: getattr(node, field.name) for field in dataclasses.fields(kinds.Node)}
    return kind(**{**shared, **fields})


def _with_activation(graph, spike, row):
    """Return the graph with the activation that neurons stand for in their place."""
    neuron, _ = unwrapped(spike.neuron, 1)
    if isinstance(neuron, neurons.Binary):
        fields, scale = {"function": neuron.function, "at_zero": neuron.at_zero}, np.ones(())
    elif row is None or row.max_value is None:
        fields, scale = {"function": "relu"}, np.ones(())
    else:
        # It saturates at one activation, which in units of λ is another one in every channel.
        fields, scale = {"function": "relu", "max_value": row.max_value}, np.asarray(row.scale)
    activation = _like(spike, kinds.Activation, **fields)
    nodes = {**graph.nodes, spike.name: activation}
    if np.any(scale != 1):
        activation = dataclasses.replace(activation, name=kinds.free_name(f"{spike.name}/relu", graph.nodes))
        rescaled = _like(spike, kinds.ChannelAffine, scale=1 / scale, shift=np.zeros(()))
        nodes[spike.name] = dataclasses.replace(rescaled, inputs=(activation.name,))
        nodes[activation.name] = activation
    graph = graph.with_nodes(nodes)
    return insert_scale(graph, scale / neuron.v_threshold, before=activation.name)
