"""Interpolations of images, which a graph has as a matrix of each axis, as windows that move."""

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.composing import AxisOfWindow

__all__ = ["interpolation"]

_TURN = (1, 2, 0)


def interpolation(graph, node):
    """Return what an interpolation by whole factors is, if a node is the last of one, or `None`.

    Returns:
        `(name, places, axes, kernel)`: the name of the image; a `Rearrange` that repeats its edges; how a
        transposed window moves over that, an `AxisOfWindow` for each axis; its weights, `(rows, columns)`.
    """
    matrices = []
    for _ in range(2):
        if not _turns(node):
            return None
        affine = graph.nodes[node.inputs[0]]
        if not isinstance(affine, kinds.Affine) or affine.window or affine.bias.any():
            return None
        matrices.insert(0, affine.kernel.astype("float64"))
        node = graph.nodes[affine.inputs[0]]
    if not _turns(node):
        return None
    found = [_window_of(matrix) for matrix in matrices]
    if None in found:
        return None
    (image,) = node.inputs
    *_, channels = graph.nodes[image].shape
    argument = (*(places for places, *_ in found), None)
    places = kinds.Rearrange(
        name=f"{affine.origins[0] if affine.origins else affine.name}/edges",
        inputs=(image,),
        shape=(*map(len, argument[:-1]), channels),
        origins=affine.origins,
        function="take",
        argument=argument,
    )
    return image, places, [axis for _, axis, _ in found], np.outer(*(weights for *_, weights in found))


def _turns(node):
    return isinstance(node, kinds.Rearrange) and (node.function, node.argument) == ("transpose", _TURN)


def _window_of(matrix):
    """Return `(places, axis, weights)` if a window over repeated edges makes a matrix, or `None`."""
    size, outputs = matrix.shape
    factor = outputs // size
    inner = np.flatnonzero(np.abs(matrix[size // 2]) > 1e-6 * np.abs(matrix).max())
    if size < 3 or outputs % size or factor < 2 or not inner.size:
        return None
    weights = matrix[size // 2, inner[0] : inner[-1] + 1]
    for more in range(1, 4):
        places = np.clip(np.arange(-more, size + more), 0, size - 1)
        offset = size // 2 * factor - inner[0] + more * factor
        axis = AxisOfWindow(factor, 1, len(weights), int(offset), len(places), outputs)
        made = np.zeros_like(matrix)
        for output in range(outputs):
            for i, tap in axis.inputs_of(output):
                made[places[i], output] += weights[tap]
        if np.allclose(made, matrix, rtol=0, atol=1e-5 * np.abs(matrix).max()):
            return tuple(places.tolist()), axis, weights
    return None
