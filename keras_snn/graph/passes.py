"""Rewriting a graph without changing what it computes.

Batch normalization, rescaling and the scales of normalization are all a
`ChannelAffine`. `fold` moves each one into a neighbouring linear layer where that is
exact, and leaves it where it is where not.
"""

import dataclasses
import math

import numpy as np

from keras_snn.graph import nodes as kinds

__all__ = ["fold", "insert_scale", "pool_by_axes"]


def insert_scale(graph, scale, *, before=None, after=None):
    """Return the graph with one value multiplied by a number.

    Args:
        graph: A `Graph`.
        scale: The number.
        before: Name of the node whose only input is multiplied; or
        after: name of the node whose value is multiplied for all who take it.
    """
    node = graph.nodes[before or after]
    source = graph.nodes[node.inputs[0]] if before else node
    factor = _channel_affine(graph.nodes, f"{node.name}/scale", source, scale, 0.0, origins=())
    nodes = {**graph.nodes, factor.name: factor}
    if after:
        return graph.with_nodes(nodes, {after: factor.name})
    nodes[before] = dataclasses.replace(node, inputs=(factor.name,))
    return graph.with_nodes(nodes)


def pool_by_axes(graph):
    """Return the graph with every pool over three axes as one over the first two and one over the last.

    For what has none over three: TensorFlow in float64.
    """
    for node in graph.nodes.values():
        if isinstance(node, kinds.Pool) and len(node.window) == 3:
            graph = graph.with_nodes(_in_parts(graph, node))
    return graph


def _in_parts(graph, node):
    """Return the nodes of `graph` with others, of fewer axes, that compute a pool over three."""
    (*first, last, channels), (*pooled, _, _) = graph.nodes[node.inputs[0]].shape, node.shape
    steps = [
        ("reshape", (*first, last * channels)),
        (node.function, node.window[:2], node.strides[:2]),
        ("reshape", (math.prod(pooled), last, channels)),
        (node.function, (1, node.window[2]), (1, node.strides[2])),
        ("reshape", node.shape),
    ]
    nodes, source = dict(graph.nodes), graph.nodes[node.inputs[0]]
    for i, (function, *how) in enumerate(steps):
        name = kinds.free_name(f"{node.name}/part", nodes) if i < len(steps) - 1 else node.name
        common = {"name": name, "inputs": (source.name,), "origins": node.origins, "function": function}
        if function == node.function:
            new = kinds.Pool(**common, window=how[0], strides=how[1], padding=node.padding)
        else:
            new = kinds.Rearrange(**common, argument=how[0])
        nodes[name] = source = dataclasses.replace(new, shape=new.output_shape(source.shape))
    return nodes


def fold(graph):
    """Return the graph with every `ChannelAffine` folded into a linear layer, where it can be.

    It goes into the linear layer before it, if nothing else takes that layer's value;
    else forward, through layers that it commutes with, into the next linear layers.
    A shift does not pass zero padding, and a negative scale does not pass a maximum.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Conversion of Batch-Normalization
        Layers".
    """
    progress = True
    while progress:
        progress = False
        users = graph.users()
        for node in graph.nodes.values():
            if isinstance(node, kinds.ChannelAffine):
                folded = _fold_one(graph, node, users)
                if folded is not None:
                    graph, progress = folded, True
                    break
    return graph


def _fold_one(graph, node, users):
    """Return the graph after one move of a `ChannelAffine`, or `None` if it is stuck."""
    source = graph.nodes[node.inputs[0]]
    if np.all(node.scale == 1) and np.all(node.shift == 0):
        return graph.with_nodes(graph.nodes, {node.name: source.name})
    if isinstance(source, kinds.ChannelAffine):
        return _merge(graph, source, node)
    if _is_only_user(graph, source, users):
        if isinstance(source, kinds.Affine):
            folded = _fold_backward(source, node)
            if folded is not None:
                return graph.with_nodes({**graph.nodes, source.name: folded}, {node.name: source.name})
        if isinstance(source, kinds.Add) and _absorbs(graph, source, users):
            return _distribute(graph, source, node)
    for name in users[node.name]:
        moved = _move_forward(graph, source, node, graph.nodes[name])
        if moved is not None:
            return moved
    return None


def _is_only_user(graph, source, users):
    return len(users[source.name]) == 1 and source.name not in graph.output_names


def _merge(graph, first, second):
    merged = _channel_affine(
        (),
        second.name,
        graph.nodes[first.inputs[0]],
        first.scale * second.scale,
        first.shift * second.scale + second.shift,
        origins=_union(first, second),
    )
    return graph.with_nodes({**graph.nodes, second.name: merged})


def _fold_backward(affine, node):
    """Return scale·(W·x + b) + shift as one `Affine`, or `None` if the scale varies in space."""
    scale, shift = _per_channel(node, affine.kernel.shape[-1])
    if scale is None:
        return None
    return _with_weights(affine, scale, affine.bias * scale + shift, node)


def _fold_forward(affine, node, shape):
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
    return dataclasses.replace(affine, kernel=kernel, bias=bias, origins=_union(affine, node))


def _pads(affine, shape):
    """Whether a constant input does not give a constant output, because zeros come in."""
    if affine.transposed:
        return True
    axes = zip(shape, affine.window, affine.strides, affine.dilation, strict=False)
    return any(any(kinds.pad_widths(*axis, affine.padding)) for axis in axes)


def _absorbs(graph, source, users):
    """Whether a scale behind `source` can be moved into what `source` computes."""
    if isinstance(source, kinds.ChannelAffine):
        return True
    if not _is_only_user(graph, source, users):
        return False
    if isinstance(source, kinds.Add):
        return all(_absorbs(graph, graph.nodes[name], users) for name in source.inputs)
    return isinstance(source, kinds.Affine)


def _distribute(graph, add, node):
    """Scale the branches of a sum instead of the sum; the shift goes to the first branch."""
    nodes = dict(graph.nodes)
    branches = []
    for i, name in enumerate(add.inputs):
        shift = node.shift if i == 0 else 0.0
        branch = _channel_affine(
            graph.nodes, f"{node.name}/{i}", graph.nodes[name], node.scale, shift, origins=node.origins
        )
        nodes[branch.name] = branch
        branches.append(branch.name)
    nodes[add.name] = dataclasses.replace(add, inputs=tuple(branches), origins=_union(add, node))
    return graph.with_nodes(nodes, {node.name: add.name})


def _move_forward(graph, source, node, user):
    """Move a `ChannelAffine` behind one user of it, or into it; `None` if that changes the function."""
    if isinstance(user, kinds.Affine):
        folded = _fold_forward(user, node, node.shape)
        if folded is None:
            return None
        return graph.with_nodes(
            {**graph.nodes, user.name: dataclasses.replace(folded, inputs=(source.name,))}
        )
    behind = _behind(graph, node, user)
    if behind is None:
        return None
    inputs = tuple(source.name if name == node.name else name for name in user.inputs)
    user = dataclasses.replace(user, inputs=inputs)
    # The node keeps its name if it moves whole.
    rest = {name: other for name, other in graph.nodes.items() if name != node.name}
    stays = any(node.name in other.inputs for other in rest.values() if other.name != user.name)
    taken = graph.nodes if stays or node.name in graph.output_names else rest
    factor = _channel_affine(taken, node.name, user, *behind, origins=node.origins)
    nodes = {**graph.nodes, user.name: user, factor.name: factor}
    return graph.with_nodes(nodes, {user.name: factor.name})


def _behind(graph, node, user):
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
        shapes = [graph.nodes[name].shape for name in user.inputs]
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


def _channel_affine(taken, name, source, scale, shift, *, origins):
    """Return a `ChannelAffine` on the value of `source`, under a name that is not `taken`."""
    scale, shift = (_compact(np.asarray(v, "float64"), source.shape) for v in (scale, shift))
    return kinds.ChannelAffine(
        name=kinds.free_name(name, taken),
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


def _union(*nodes):
    """Return the origins of the nodes, each once, in order."""
    return tuple(dict.fromkeys(origin for node in nodes for origin in node.origins))
