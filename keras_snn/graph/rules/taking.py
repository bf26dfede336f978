"""Helpers of the rules that take values from other places, or between them; arguments as in `common.py`."""

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common

__all__ = ["interpolate", "take", "take_along"]


def take(x, places, emit, part=None):
    """Emit the values of `x` at some places along each axis, a tuple for each; `None` for all."""
    return emit(kinds.Rearrange, x, function="take", argument=tuple(places), part=part)


def take_along(x, axis, places, emit):
    """Emit the values of `x` at some places along one axis."""
    places = tuple(int(i) % x.shape[axis] for i in places)
    return take(x, [places if i == axis else None for i in range(len(x.shape))], emit)


def interpolate(x, layer, emit):
    """Emit a layer or operation that interpolates images, as a linear map of each axis.

    What it makes of the unit vectors along an axis is the matrix of that axis. One that only takes values is
    no map: spikes stay spikes.
    """
    height, width, _ = x.shape
    rows = layer(np.eye(height, dtype="float32").reshape(1, height, 1, height))
    columns = layer(np.eye(width, dtype="float32").reshape(1, 1, width, width))
    rows, columns = (keras.ops.convert_to_numpy(v) for v in (rows, columns))
    # An axis of length 1 comes out constant, so any place of it will do.
    matrices = rows[0, :, 0], columns[0, 0]
    if all(np.isin(matrix, (0, 1)).all() and (matrix.sum(axis=1) == 1).all() for matrix in matrices):
        return take(x, [*(tuple(matrix.argmax(axis=1).tolist()) for matrix in matrices), None], emit)
    y = common.transpose(x, (1, 2, 0), emit, part="turn")
    y = emit(kinds.Affine, y, kernel=rows[0, :, 0].T, bias=np.zeros(rows.shape[1], "float32"), part="rows")
    y = common.transpose(y, (1, 2, 0), emit, part="turn")
    y = emit(kinds.Affine, y, kernel=columns[0, 0].T, bias=np.zeros(columns.shape[2], "float32"))
    return common.transpose(y, (1, 2, 0), emit, part="turn")
