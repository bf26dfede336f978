"""Values of nodes as sums of spikes that were moved and weighted: what a step has to add where."""

import dataclasses

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import pool_windows, value_of

__all__ = [
    "Part",
    "Product",
    "Signal",
    "Value",
    "averaged",
    "concatenated",
    "moved",
    "scaled",
    "summed",
    "weighted",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """What neurons, pools or sums hand on at every step: channels of a place side by side, padded.

    Attributes:
        shape: Shape of the value, without batch.
        word: Its first word of bits, set where a value is not 0.
        value: Where its numbers are in memory; −1 if all that is not 0 is 1.
    """

    shape: tuple[int, ...]
    word: int
    value: int = -1

    @property
    def channels(self):
        """Number of channels of a place."""
        return self.shape[-1] if self.shape else 1

    @property
    def width(self):
        """Number of channels with padding."""
        return -(-self.channels // 16) * 16

    @property
    def places(self):
        """Number of places."""
        return int(np.prod(self.shape[:-1], dtype="int64"))


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Elements of a signal, moved, summed and multiplied: Σ_k factor·signal[places[k]].

    Attributes:
        signal: The `Signal`.
        places: For each value the element of the signal that it gets, −1 for none; `(terms, *shape)`.
        factors: Number, or array of the shape of `places`.
    """

    signal: Signal
    places: np.ndarray
    factors: object = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """What a linear layer makes of a value, without its bias.

    Attributes:
        node: The `Affine` node.
        value: The `Value` that it takes, which consists of parts.
        shape: Shape of what it takes.
    """

    node: kinds.Affine
    value: object
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A sum of parts, of products, and of a constant.

    Attributes:
        shape: Shape of the value, without batch.
        parts, products: Tuples of `Part` and `Product`.
        shift: Array of the shape of the value, or `None` for nothing.
    """

    shape: tuple[int, ...]
    parts: tuple[Part, ...] = ()
    products: tuple[Product, ...] = ()
    shift: np.ndarray | None = None


def summed(shape, values):
    """Return the sum of values."""
    shifts = [value.shift for value in values if value.shift is not None]
    return Value(
        shape,
        tuple(part for value in values for part in value.parts),
        tuple(product for value in values for product in value.products),
        sum(shifts[1:], shifts[0]) if shifts else None,
    )


def weighted(node, value):
    """Return what a linear layer makes of a value of parts."""
    shift = np.broadcast_to(node.bias.astype("float64"), node.shape)
    if value.shift is not None:
        shift = value_of(node, value.shift[None])[0]
    product = Product(node, dataclasses.replace(value, shift=None), value.shape)
    return Value(node.shape, (), (product,), shift)


def _as_places(factors, part):
    return np.broadcast_to(factors, part.places.shape) if np.ndim(factors) else factors


def scaled(node, value):
    """Return a value of parts times the scale of a `ChannelAffine`, and its shift."""
    scale, shift = (np.broadcast_to(x, node.shape) for x in (node.scale, node.shift))
    even = scale.flat[0] if np.all(scale == scale.flat[0]) else scale
    parts = tuple(
        dataclasses.replace(part, factors=_as_places(part.factors * even, part)) for part in value.parts
    )
    if value.shift is not None:
        shift = value.shift * scale + shift
    return Value(node.shape, parts, (), shift if np.any(shift) else None)


def moved(node, value):
    """Return a value of parts as a `Rearrange` moves it."""

    def part_of(part):
        factors = node.move(part.factors, leading=1) if np.ndim(part.factors) else part.factors
        return Part(part.signal, node.move(part.places + 1, leading=1) - 1, factors)

    shift = None if value.shift is None else node.move(value.shift)
    return Value(node.shape, tuple(map(part_of, value.parts)), (), shift)


def averaged(node, value):
    """Return the averages of a value of parts over the windows of a `Pool`."""

    def windows(x, fill):
        """Return `(terms, …)` with a term for every place of the windows of each."""
        found = pool_windows(node, x, fill=fill)
        return np.moveaxis(found.reshape(*found.shape[: 1 + len(value.shape)], -1), -1, 0)

    sizes = np.sum(windows(np.ones((1, *value.shape)), 0.0), axis=0)[0]
    even = sizes.flat[0] if np.all(sizes == sizes.flat[0]) else sizes

    def part_of(part):
        places = windows(part.places, -1).reshape(-1, *node.shape)
        factors = part.factors
        if np.ndim(factors):
            factors = windows(factors, 0.0).reshape(-1, *node.shape)
        return Part(part.signal, places, _as_places(factors / even, Part(part.signal, places)))

    shift = None if value.shift is None else value_of(node, value.shift[None])[0]
    return Value(node.shape, tuple(map(part_of, value.parts)), (), shift)


def concatenated(node, values):
    """Return values of parts side by side."""
    sizes = [value.shape[node.axis] for value in values]
    parts, shift, before = [], None, 0
    if any(value.shift is not None for value in values):
        shift = np.concatenate(
            [np.zeros(v.shape) if v.shift is None else v.shift for v in values], axis=node.axis
        )
    for value, size in zip(values, sizes, strict=True):
        widths = [(0, 0)] * len(value.shape)
        widths[node.axis] = (before, sum(sizes) - before - size)
        for part in value.parts:
            places = np.pad(part.places, [(0, 0), *widths], constant_values=-1)
            factors = np.pad(part.factors, [(0, 0), *widths]) if np.ndim(part.factors) else part.factors
            parts.append(Part(part.signal, places, factors))
        before += size
    return Value(node.shape, tuple(parts), (), shift)
