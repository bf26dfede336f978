"""Values of a graph as NIR has them: pieces, channels first, each with an order.

Flattening, permuting and concatenating then only change the order, and the next weights are permuted.
"""

import dataclasses

import numpy as np

__all__ = ["NotInNIRError", "Piece", "Value", "channels_first", "channels_of", "refuse_pads"]


class NotInNIRError(Exception):
    """NIR cannot express a node.

    Args:
        reason: What it cannot express.
        way_out: What the user can do instead.
    """

    def __init__(self, reason, way_out):
        super().__init__(reason)
        self.reason, self.way_out = reason, way_out


@dataclasses.dataclass(frozen=True)
class Piece:
    """Values that NIR nodes compute, channels first.

    Attributes:
        sources: Names of the nodes, whose values are summed.
        order: For every value its flat index in the value of the graph; −1 if it is not part of it.
    """

    sources: tuple[str, ...]
    order: np.ndarray


@dataclasses.dataclass(frozen=True)
class Value:
    """The value of a node of the graph.

    Attributes:
        shape: Its shape, channels last.
        pieces: The `Piece`s that it lies in.
        pads: Zeros around it `(before, after)` for each axis, which are not in the pieces.
    """

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    pads: tuple[tuple[int, int], ...] = ()


def channels_first(shape):
    """Return the flat index of each value of an array of `shape`, channels last, in an array channels first.

    >>> channels_first((2, 2))
    array([[0, 2],
           [1, 3]])
    """
    return np.moveaxis(np.arange(np.prod(shape, dtype=int)).reshape(shape), -1, 0)


def refuse_pads(value):
    """Raise `NotInNIRError` if there are zeros around a value, which only a convolution takes."""
    if any(map(any, value.pads)):
        raise NotInNIRError(
            "zeros around values that no convolution takes", "use ZeroPadding only in front of convolutions"
        )


def channels_of(piece, shape):
    """Return the channel of a value of `shape` that each channel of a piece is; −1 if none.

    Raises:
        NotInNIRError: If the piece is not whole channels in their order in space.
    """
    *spatial, channels = shape
    if piece.order.shape[1:] == tuple(spatial):
        order = piece.order.reshape(len(piece.order), -1)
        first = order[:, :1]
        wanted = np.where(first >= 0, first + channels * np.arange(order.shape[1]), -1)
        if first.max() < channels and np.array_equal(order, wanted):
            return first[:, 0]
    raise NotInNIRError(
        "a convolution of values that were moved in space; values can only be flattened",
        "reshape, permute and crop outside of the network",
    )
