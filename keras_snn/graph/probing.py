"""Which map a layer without a rule is, by what it makes of numbers: one that moves values, or is linear."""

import math

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.fallback import tried, values_of
from keras_snn.graph.masked import nodes_in
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal
from keras_snn.graph.rules.taking import take

__all__ = ["is_affine", "probed"]

# A matrix of all inputs and outputs may have so many weights, and numbers of values are exact up to it.
_WEIGHTS, _EXACT = 2**20, 2**24
# Samples that run together.
_ROWS = 64


def probed(layer, args, kwargs, emit):
    """Return the node of what a call of a layer computes, if that is an affine map of one input, or `None`.

    It is one if sums and multiples stay what they are for numbers of any size from 0.01 to 1000.

    Args:
        layer: The layer, or operation. Not changed.
        args: Arguments of the call, with nodes in the place of tensors.
        kwargs: Those by name.
        emit: Adds a node.
    """
    nodes = nodes_in((args, kwargs))
    if len(nodes) != 1 or nodes[0].dtype not in (None, "float32") or None in nodes[0].shape:
        return None
    if math.prod(nodes[0].shape) > _EXACT:
        return None
    (x,) = nodes
    try:
        arguments, _, values = tried(layer, args, kwargs)
    except Refusal:
        return None

    def function(given):
        (y,) = values_of(layer, arguments, {x.name: given.astype("float32")})
        return y.astype("float64")

    # What gives no numbers, as `zeros_like` with a dtype, adds up nothing.
    if len(values) != 1 or values[0].dtype.kind in "biu" or not is_affine(function, x.shape):
        return None
    found = _Affine(function, x)
    # What only drops values is moved too: a factor of 0 or 1 would make numbers of spikes.
    for emitted in (found.moved, found.scaled, found.along_an_axis, found.of_all):
        node = emitted(emit)
        if node is not None:
            return node
    return None


def is_affine(function, shape):
    """Whether a function keeps sums and multiples, but for a constant."""
    rng = np.random.default_rng(0)
    for size in (0.01, 1.0, 1000.0):
        x, y = size * rng.normal(size=(2, *shape))
        try:
            zero, fx, fy, both, multiple = function(np.stack([0 * x, x, y, x + y, -2 * x]))
        except Exception:
            # A layer may refuse some numbers, as those that are no indices.
            return False
        if not _near(both - zero, fx + fy - 2 * zero, zero) or not _near(
            multiple - zero, 2 * (zero - fx), zero
        ):
            return False
    return True


def _near(first, second, beside=0.0):
    """Whether numbers of float32 are equal, as differences from numbers of the size of `beside`."""
    largest = max(np.abs(second).max(initial=0.0), 0.1 * np.abs(beside).max(initial=0.0))
    return bool(np.isfinite(first).all() and np.abs(first - second).max(initial=0.0) <= 1e-4 * largest)


class _Affine:
    """An affine function of the value of a node: the constant that it adds, and what it makes of numbers."""

    def __init__(self, function, x):
        self.function, self.x = function, x
        self.given = np.random.default_rng(1).normal(size=(4, *x.shape))
        zero, *values = function(np.concatenate([np.zeros((1, *x.shape)), self.given]))
        self.constant, self.values = zero, np.stack(values) - zero
        self.shape = zero.shape

    def linear(self, x):
        """Return what the function makes of `x`, without the constant."""
        return self.function(x) - self.constant

    def scaled(self, emit):
        """Emit a factor for each value."""
        if self.shape != self.x.shape:
            return None
        scale = _by_channel(self.linear(np.ones((1, *self.shape)))[0])
        if not _near(self.values, scale * self.given):
            return None
        return emit(kinds.ChannelAffine, self.x, scale=scale, shift=_by_channel(self.constant))

    def moved(self, emit):
        """Emit the same values elsewhere, and zeros."""
        size = math.prod(self.x.shape)
        numbered = self.linear(np.arange(1.0, size + 1).reshape(1, *self.x.shape))[0]
        places = np.round(numbered).astype(int).reshape(-1)
        if np.any((places < 0) | (places > size)):
            return None
        padded = np.pad(self.given.reshape(len(self.given), -1), ((0, 0), (1, 0)))
        found = padded[:, places].astype("float32").reshape(self.values.shape)
        # Beside a constant, values are rounded.
        if not (_near(found, self.values) if self.constant.any() else np.array_equal(found, self.values)):
            return None
        along = _by_axis(places.reshape(self.shape) - 1, self.x.shape)
        if along is not None:
            return self._with_constant(take(self.x, along, emit) if any(along) else self.x, emit)
        y = common.reshape(self.x, (size,), emit, part="reshape")
        if np.any(places == 0):
            y, places = self._with_zeros(y, places, emit)
        else:
            places = places - 1
        if not np.array_equal(places, np.arange(*y.shape)):
            y = take(y, [tuple(places.tolist())], emit)
        return self._with_constant(common.reshape(y, self.shape, emit, part="reshape"), emit)

    def _with_zeros(self, y, places, emit):
        """Emit flat values with a zero for each channel in front, and return the places in that.

        A zero stands where others of its channel do, so that a scale of each channel stays one.
        """
        channels = self.x.shape[-1] if self.x.shape else 1
        y = common.reshape(y, (len(self.given[0].ravel()) // channels, channels), emit, part="places")
        y = common.reshape(common.pad(y, [(1, 0), (0, 0)], emit), (math.prod(y.shape) + channels,), emit)
        columns = places.reshape(-1, self.shape[-1] if self.shape else 1).T
        usual = [next(iter(column[column > 0] - 1), 0) % channels for column in columns]
        columns = [np.where(c > 0, c - 1 + channels, zero) for c, zero in zip(columns, usual, strict=True)]
        return y, np.stack(columns, axis=-1).reshape(-1)

    def along_an_axis(self, emit):
        """Emit a matrix for one axis, the same at every place of the others."""
        for axis in reversed(range(len(self.x.shape))):
            rest = (*self.x.shape[:axis], *self.x.shape[axis + 1 :])
            if len(self.shape) != len(self.x.shape) or (*self.shape[:axis], *self.shape[axis + 1 :]) != rest:
                continue
            size = self.x.shape[axis]
            units = np.broadcast_to(np.eye(size).reshape(size, *(1,) * len(rest), size), (size, *rest, size))
            matrix = np.moveaxis(self.linear(np.moveaxis(units, -1, axis + 1)), axis + 1, -1)
            matrix = matrix[(slice(None), *(0,) * len(rest))]
            if _near(np.moveaxis(np.moveaxis(self.given, axis + 1, -1) @ matrix, -1, axis + 1), self.values):
                order = [*(i for i in range(len(self.shape)) if i != axis), axis]
                y = common.transpose(self.x, order, emit, part="transpose")
                y = _multiplied(y, matrix, emit)
                y = common.transpose(y, np.argsort(order).tolist(), emit, part="transpose")
                return self._with_constant(y, emit)
        return None

    def of_all(self, emit):
        """Emit a matrix of all inputs and outputs, if it is small."""
        size = math.prod(self.x.shape)
        if size * math.prod(self.shape) > _WEIGHTS:
            return None
        units = np.eye(size).reshape(size, *self.x.shape)
        rows = [self.linear(units[start : start + _ROWS]) for start in range(0, size, _ROWS)]
        matrix = np.concatenate(rows).reshape(size, -1)
        if not _near(
            self.given.reshape(len(self.given), -1) @ matrix, self.values.reshape(len(self.given), -1)
        ):
            return None
        y = _multiplied(common.reshape(self.x, (size,), emit, part="reshape"), matrix, emit)
        return self._with_constant(common.reshape(y, self.shape, emit, part="reshape"), emit)

    def _with_constant(self, y, emit):
        constant = _by_channel(self.constant)
        return common.shift(y, constant, emit, part="constant") if constant.any() else y


def _by_channel(value):
    """Return an array over channels in the place of one that is the same at all places, but for rounding."""
    if value.ndim < 2 or not value.size:
        return value
    mean = value.reshape(-1, value.shape[-1]).mean(axis=0)
    return mean if np.abs(value - mean).max() <= 1e-6 * np.abs(value).max() else value


def _by_axis(places, shape):
    """Return the places of values along each axis, for flat places of an array of `shape`, or `None`.

    There are some if those along an axis are the same at all places of the others; of an axis that stays
    they are `None` themselves.
    """
    if places.ndim != len(shape) or places.min(initial=0) < 0 or not places.size:
        return None
    along = []
    for axis, found in enumerate(np.unravel_index(places, shape)):
        line = np.moveaxis(found, axis, 0).reshape(places.shape[axis], -1)
        if np.any(line != line[:, :1]):
            return None
        line = tuple(line[:, 0].tolist())
        along.append(None if line == tuple(range(shape[axis])) else line)
    return along


def _multiplied(x, matrix, emit):
    kernel = np.asarray(matrix, "float32")
    return emit(kinds.Affine, x, kernel=kernel, bias=np.zeros(kernel.shape[-1], "float32"))
