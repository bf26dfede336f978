"""How a `ChannelAffine` combines with the node before or after it."""

import dataclasses

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.geometry import pad_widths
from keras_snn.graph.graph import free_name

__all__ = ["channel_affine", "folded_before", "folded_into", "merged", "moved_after", "union_of_origins"]


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
    """Return scale·(W·x + b) + shift as one `Affine`, or `None` if the scale varies in space."""
    scale, shift = _per_channel(node, affine.kernel.shape[-1])
    if scale is None:
        return None
    return _with_weights(affine, scale, affine.bias * scale + shift, node)


def folded_before(affine, node, shape):
    """Return W·(scale·x + shift) + b as one `Affine`, or `None` if that is not one."""
    scale, shift = _per_channel(node, shape[-1])
    if scale is None or (np.any(shift != 0) and _pads(affine, shape)):
        return None
    # One row per input of a group, one column per unit or for all of them.
    units = affine.kernel.shape[-1] // affine.groups if affine.groups > 1 else 1
    scale, shift = (np.repeat(v.reshape(affine.groups, -1), units, axis=0).T for v in (scale, shift))
    from_shift = 0.0
    if np.any(shift != 0):
        from_shift = (affine.kernel * shift).reshape(-1, affine.kernel.shape[-1]).sum(axis=0)
    return _with_weights(affine, scale, affine.bias + from_shift, node)


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


def moved_after(nodes, node, user):
    """Return `(scale, shift)` that do after `user` what `node` does before it, or `None`."""
    if isinstance(user, kinds.Pool):
        scale, shift = _per_channel(node, node.shape[-1])
        if scale is None or (user.function == "max" and np.any(scale < 0)):
            return None
        return scale, shift
    if isinstance(user, kinds.Rearrange):
        if user.function == "pad" and np.any(node.shift != 0):
            return None
        return tuple(_rearranged(user, value, node.shape) for value in (node.scale, node.shift))
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


def _rearranged(user, value, shape):
    """Return a scale or shift of values of `shape` as it goes with the values."""
    if value.ndim == 0:
        return value
    # What lies on padding multiplies zeros; the edge keeps a scale per channel one.
    return user.move(np.broadcast_to(value, shape), mode="edge")


def channel_affine(taken, name, source, scale, shift, *, origins):
    """Return a `ChannelAffine` on the value of `source`, under a name that is not `taken`."""
    scale, shift = (_compact(np.asarray(v, "float64"), source.shape) for v in (scale, shift))
    return kinds.ChannelAffine(
        name=free_name(name, taken),
        inputs=(source.name,),
        shape=source.shape,
        origins=origins,
        scale=scale,
        shift=shift,
    )


def _compact(value, shape):
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
