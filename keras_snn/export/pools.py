"""Average pooling in the forms that NIR has: sums, averages without padding, or convolutions."""

from keras_snn.graph import nodes as kinds
from keras_snn.graph.geometry import pad_widths
from keras_snn.graph.passes import fold, insert_scale
from keras_snn.graph.pool_sums import as_convolution, window_counts

__all__ = ["without_pools"]


def without_pools(graph, pooling):
    """Return the graph with average pooling in a form that NIR has.

    Args:
        graph: A `Graph`.
        pooling: `"sum"`: sums, with what they are divided by folded into the next weights where that
            is exact. `"average"`: as it is. `"convolution"`: convolutions. Pools of one dimension and
            padded ones become convolutions anyway.

    Returns:
        `(graph, sums)`, the latter the names of the pools of the graph that are to be sums.
    """
    graph, sums = fold(graph), set()
    for name in tuple(graph.nodes):
        # As it is now: what it takes may have got a scale.
        node = graph.nodes[name]
        if not isinstance(node, kinds.Pool) or node.function != "average" or len(node.window) > 2:
            continue
        shape = graph.nodes[node.inputs[0]].shape
        counts = window_counts(node, shape)
        if len(node.window) == 2 and pooling != "convolution" and _is_unpadded(node, shape):
            if pooling == "sum":
                sums.add(node.name)
                graph = insert_scale(graph, 1 / counts.max(), after=node.name)
            continue
        graph = graph.with_nodes({**graph.nodes, node.name: as_convolution(node, shape[-1])})
        graph = insert_scale(graph, 1 / counts, after=node.name)
    return fold(graph), sums


def _is_unpadded(node, shape):
    axes = zip(shape, node.window, node.strides, strict=False)
    return not any(any(pad_widths(*axis, 1, node.padding)) for axis in axes)
