"""How a `ChannelAffine` combines with the node before or after it."""

import dataclasses

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.geometry import pad_widths
from keras_snn.graph.graph import free_name
from keras_snn.graph.numpy_reference import value_of

__all__ = [
    "channel_affine",
    "compact",
    "folded_before",
    "folded_into",
    "merged",
    "moved_after",
    "of_shift",
    "rearranged",
    "rows_of",
    "union_of_origins",
]


def merged(first, second, source):
    """Return two `ChannelAffine` in a row as one, on the value of `source`."""
    return channel_affine(
        (),
        second.name,
        source,
        first.scale * second.scale,
        first.shift * second.scale + second.shift,
        origins=union_of_origins(first, second),
    )


def folded_into(affine, node):
    """Return scale·(W·x + b) + shift as an `Affine` and what is to be added after it, or `None`.

    A shift that differs from place to place, together with the bias, is added after it; otherwise that is 0.
    `None` if the scale varies in space, or nothing would change.
    """
    if node.scale.ndim > 1:
        return None
    scale = np.broadcast_to(node.scale, affine.kernel.shape[-1])
    bias = affine.bias * scale + node.shift
    if node.shift.ndim < 2:
        return _with_weights(affine, scale, bias, node), np.zeros(())
    if np.all(scale == 1) and not affine.bias.any():
        return None
    return _with_weights(affine, scale, np.zeros_like(affine.bias), node), bias


def folded_before(affine, node, shape, *, by_place):
    """Return W·(scale·x + shift) + b as an `Affine` and what is to be added after it, or `None`.

    Where zeros come in at a border, a shift before the map is another one at every place after it.

    Args:
        affine: The `Affine`.
        node: The `ChannelAffine` before it.
        shape: Shape of the value.
        by_place: Whether there may be something to add that differs from place to place.
    """
    if node.scale.ndim > 1:
        return None
    is_uniform = node.shift.ndim < 2 and not (node.shift.any() and _pads(affine, shape))
    if not (is_uniform or by_place):
        return None
    scale = rows_of(affine, np.broadcast_to(node.scale, shape[-1]))
    if is_uniform:
        bias = affine.bias + _sums(affine, node.shift, shape[-1]).reshape(-1, len(affine.bias)).sum(axis=0)
        return _with_weights(affine, scale, bias, node), np.zeros(())
    added = compact(affine.bias + of_shift(affine, node.shift, shape), affine.shape)
    if added.ndim < 2:
        return _with_weights(affine, scale, np.broadcast_to(added, len(affine.bias)), node), np.zeros(())
    return _with_weights(affine, scale, np.zeros_like(affine.bias), node), added


def rows_of(affine, values):
    """Return a value for each input as a factor of the kernel.

    It has one row per input of a group, one column per unit or for all of them.
    """
    units = affine.kernel.shape[-1] // affine.groups if affine.groups > 1 else 1
    return np.repeat(values.reshape(affine.groups, -1), units, axis=0).T


def _sums(affine, shift, channels):
    """Return the sums over the inputs of the kernel times a shift per channel, by place in the window."""
    if not shift.any():
        return np.zeros(affine.kernel.shape[-1])
    return (affine.kernel * rows_of(affine, np.broadcast_to(shift, channels))).sum(axis=-2)


def of_shift(affine, shift, shape):
    """Return W·shift for a shift of values of `shape`, with the padding of the map."""
    if shift.ndim > 1 or not affine.window:
        without_bias = dataclasses.replace(affine, bias=np.zeros_like(affine.bias))
        return value_of(without_bias, np.broadcast_to(shift, shape)[None])[0]
    sums = _sums(affine, shift, shape[-1])
    if affine.transposed:
        sums = sums[(slice(None, None, -1),) * len(affine.window)]
    for axis in range(len(affine.window)):
        inside = _inside(affine, axis, shape[axis]).astype("float64")
        sums = np.moveaxis(np.tensordot(inside, sums, (1, axis)), 0, axis)
    return sums


def _inside(affine, axis, size):
    """Return whether each place of each window along an axis meets a value, `(positions, window)`."""
    window, stride, dilation = affine.window[axis], affine.strides[axis], affine.dilation[axis]
    positions, places = np.arange(affine.shape[axis])[:, None], np.arange(window) * dilation
    if affine.transposed:
        met = positions + places - affine.transposed_padding()[axis][0]
        return (met % stride == 0) & (met >= 0) & (met < size * stride)
    met = positions * stride + places - pad_widths(size, window, stride, dilation, affine.padding)[0]
    return (met >= 0) & (met < size)


def _with_weights(affine, scale, bias, node):
    """Return `affine` with its kernel multiplied by `scale`, and this bias."""
    # Into its own dtype piece by piece: in that of the scale, large weights would take memory twice more.
    kernel = np.multiply(affine.kernel, scale, out=np.empty_like(affine.kernel))
    bias = bias.astype(affine.kernel.dtype)
    return dataclasses.replace(affine, kernel=kernel, bias=bias, origins=union_of_origins(affine, node))


def _pads(affine, shape):
    """Whether a constant input does not give a constant output, because zeros come in."""
    if affine.transposed:
        return True
    axes = zip(shape, affine.window, affine.strides, affine.dilation, strict=False)
    return any(any(pad_widths(*axis, affine.padding)) for axis in axes)


def moved_after(nodes, node, user, *, by_place):
    """Return `(scale, shift)` that do after `user` what `node` does before it, or `None`.

    Args:
        nodes: Node by name.
        node: The `ChannelAffine`.
        user: The node that takes its value.
        by_place: Whether the shift may differ from place to place after it, where zeros come in.
    """
    if isinstance(user, kinds.Pool):
        scale, shift = _per_channel(node, node.shape[-1])
        if scale is None or (user.function == "max" and np.any(scale < 0)):
            return None
        return scale, shift
    if isinstance(user, kinds.Rearrange):
        is_padded = user.function == "pad" and np.any(node.shift != 0)
        if is_padded and not by_place:
            return None
        scale, shift = (rearranged(user, value, node.shape) for value in (node.scale, node.shift))
        return scale, user.move(np.broadcast_to(node.shift, node.shape)) if is_padded else shift
    if isinstance(user, kinds.Concatenate):
        parts = [
            (node.scale, node.shift) if name == node.name else (np.ones(()), np.zeros(()))
            for name in user.inputs
        ]
        shapes = [nodes[name].shape for name in user.inputs]
        return tuple(
            np.concatenate(
                [np.broadcast_to(v, shape) for v, shape in zip(values, shapes, strict=True)], axis=user.axis
            )
            for values in zip(*parts, strict=True)
        )
    return None


def rearranged(user, value, shape):
    """Return a scale or shift of values of `shape` as it goes with the values."""
    if value.ndim == 0:
        return value
    # What lies on padding multiplies zeros; the edge keeps a scale per channel one.
    return user.move(np.broadcast_to(value, shape), mode="edge")


def channel_affine(taken, name, source, scale, shift, *, origins):
    """Return a `ChannelAffine` on the value of `source`, under a name that is not `taken`."""
    scale, shift = (compact(np.asarray(v, "float64"), source.shape) for v in (scale, shift))
    return kinds.ChannelAffine(
        name=free_name(name, taken),
        inputs=(source.name,),
        shape=source.shape,
        origins=origins,
        scale=scale,
        shift=shift,
    )


def compact(value, shape):
    """Return a scale or shift as a number if it is one, per channel if it is that, else whole."""
    if np.all(value == value.flat[0]):
        return value.reshape(-1)[0].reshape(())
    if value.ndim > 1:
        value = np.broadcast_to(value, shape)
        first = value.reshape(-1, shape[-1])[0]
        return first if np.all(value == first) else value
    return value


def _per_channel(node, channels):
    """Return scale and shift as vectors over channels, or `(None, None)` if they vary in space."""
    if node.scale.ndim > 1 or node.shift.ndim > 1:
        return None, None
    return np.broadcast_to(node.scale, channels), np.broadcast_to(node.shift, channels)


def union_of_origins(*nodes):
    """Return the origins of the nodes, each once, in order."""
    return tuple(dict.fromkeys(origin for node in nodes for origin in node.origins))
