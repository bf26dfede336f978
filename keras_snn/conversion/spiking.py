"""Putting neurons where the activations were."""

from keras_snn.conversion.normalization import relus
from keras_snn.conversion.passes import fold, insert_scale
from keras_snn.graph import nodes as kinds

__all__ = ["to_spiking"]


def to_spiking(graph, neuron, scales):
    """Return the graph with a `Spike` in the place of every relu.

    Args:
        graph: A normalized `Graph`: the value of every relu is a rate.
        neuron: Object of `keras_snn.neurons`. A threshold other than 1 scales the current.
        scales: λ by name of the relu, to keep with the neurons.
    """
    for node in relus(graph):
        spike = kinds.Spike(
            name=node.name,
            inputs=node.inputs,
            shape=node.shape,
            origins=node.origins,
            source=node.source,
            neuron=neuron,
            scale=scales[node.name],
        )
        graph = graph.with_nodes({**graph.nodes, node.name: spike})
        graph = insert_scale(graph, neuron.v_threshold, before=node.name)
    return fold(graph)
