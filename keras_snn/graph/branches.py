"""Weights after a leaky activation: they take its two sets of neurons, and not their sum."""

import dataclasses
import math

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name

__all__ = ["with_branches"]


def with_branches(graph, *, pools=True, partly=False):
    """Return the graph in which linear layers take both sides of a leaky activation instead of the sum.

    W·(relu(x) − slope·relu(−x)) is [W, W]·[relu(x), −slope·relu(−x)], and `fold` moves the slope into the
    weights: they get spikes, where the sum of two kinds of spikes is a number. Only one side is not 0, so
    that the source network has no more inputs that are not 0 than with the sum.

    Args:
        graph: A `Graph` before folding.
        pools: Whether to take the maximum before a leaky activation, which never falls, instead of after it.
        partly: Whether both sides are taken where something else that goes into the weights is a number, too.
    """
    graph = _pooled_before(graph) if pools else graph
    nodes = dict(graph.nodes)
    for node in graph.nodes.values():
        if isinstance(node, kinds.Affine):
            terms = _terms(nodes, node.inputs[0], by_place=not node.window)
            if _pays(nodes, terms, partly):
                of_terms = _of_terms if node.groups == 1 else _of_groups
                nodes[node.name] = of_terms(nodes, node, terms)
    return graph.with_nodes(nodes)


def _pays(nodes, terms, partly):
    """Whether there is a sum among terms, and all are spikes, or computed of inputs alone."""
    is_sum = len({start for _, start, _ in terms}) < len(terms)
    return is_sum and (
        partly or all(_sends_spikes(nodes, name) or _is_of_inputs(nodes, name) for name, *_ in terms)
    )


def _is_of_inputs(nodes, name):
    """Whether no neurons come before a value."""
    pending, seen = [name], set()
    while pending:
        node = nodes[pending.pop()]
        if isinstance(node, kinds.Activation) and node.becomes_spiking:
            return False
        pending += [source for source in node.inputs if source not in seen]
        seen.update(node.inputs)
    return True


def _terms(nodes, name, *, by_place):
    """Return what a value is the sum of: tuples of a name and the channels, from and to, that it is added to.

    What moves and scales a sum is done for each term, by nodes that are added to `nodes`.

    Args:
        nodes: Node by name; some are added.
        name: Name of the value.
        by_place: Whether a slope may be another one at every place.
    """
    node = nodes[name]
    whole = [(name, 0, node.shape[-1] if node.shape else 0)]
    if _leaky_sides(nodes, node, by_place=by_place):
        return [(source, *whole[0][1:]) for source in node.inputs]
    if isinstance(node, kinds.Concatenate) and node.axis == -1 and not node.again:
        terms, start = [], 0
        for source in node.inputs:
            terms += [
                (term, start + first, start + last)
                for term, first, last in _terms(nodes, source, by_place=by_place)
            ]
            start += nodes[source].shape[-1]
        return terms if len(terms) > len(node.inputs) else whole
    if isinstance(node, (kinds.Rearrange, kinds.ChannelAffine)):
        terms = _terms(nodes, node.inputs[0], by_place=by_place)
        if len(terms) > 1 and len({(start, stop) for _, start, stop in terms}) == 1:
            return [(copy, *whole[0][1:]) for copy in _for_each(nodes, node, [term for term, *_ in terms])]
    return whole


def _for_each(nodes, node, terms):
    """Return the names of copies of a node that take each term; a constant is added to one of them."""
    copies = []
    for i, term in enumerate(terms):
        fields = {"name": free_name(f"{node.name}/term", nodes), "inputs": (term,)}
        if i and isinstance(node, kinds.ChannelAffine):
            fields |= {"shift": np.zeros_like(node.shift), "moments": None}
        copy = dataclasses.replace(node, **fields)
        nodes[copy.name] = copy
        copies.append(copy.name)
    return copies


def _of_terms(nodes, node, terms):
    """Return the linear layer of all terms side by side, with its weights for each of them."""
    seen, again = set(), []
    for place, (_, start, stop) in enumerate(terms):
        if seen.issuperset(range(start, stop)):
            again.append(place)
        seen |= set(range(start, stop))
    both = kinds.Concatenate(
        name=free_name(f"{node.name}/terms", nodes),
        inputs=tuple(name for name, *_ in terms),
        shape=(*nodes[node.inputs[0]].shape[:-1], sum(stop - start for _, start, stop in terms)),
        origins=node.origins,
        again=tuple(again),
    )
    nodes[both.name] = both
    kernel = np.concatenate([node.kernel[..., start:stop, :] for _, start, stop in terms], axis=-2)
    return dataclasses.replace(node, inputs=(both.name,), kernel=kernel)


def _of_groups(nodes, node, terms):
    """Return the convolution in groups of all terms, those of a group side by side, or as it is.

    It stays as it is if some channels are the sum of more terms than others.
    """
    sides = {}
    for name, start, stop in terms:
        sides.setdefault((start, stop), []).append(name)
    if len({len(names) for names in sides.values()}) > 1:
        return node
    *places, channels = nodes[node.inputs[0]].shape
    each = channels // node.groups

    def emit(kind, part, inputs, shape, **fields):
        name = free_name(f"{node.name}/{part}", nodes)
        nodes[name] = kind(name=name, inputs=tuple(inputs), shape=shape, origins=node.origins, **fields)
        return name

    by_group, whole = (*places, node.groups, each), (*places, channels)
    parts = []
    for side in zip(*sides.values(), strict=True):
        joined = side[0] if len(side) == 1 else emit(kinds.Concatenate, "side", side, whole)
        parts.append(
            emit(kinds.Rearrange, "groups", [joined], by_group, function="reshape", argument=by_group)
        )
    together = (*by_group[:-1], len(parts) * each)
    both = emit(kinds.Concatenate, "terms", parts, together, again=tuple(range(1, len(parts))))
    flat = (*places, len(parts) * channels)
    mixed = emit(kinds.Rearrange, "channels", [both], flat, function="reshape", argument=flat)
    kernel = np.concatenate([node.kernel] * len(parts), axis=-2)
    return dataclasses.replace(node, inputs=(mixed,), kernel=kernel)


def _sends_spikes(nodes, name):
    """Whether a value is spikes of neurons, moved or scaled maybe, or maxima of them."""
    node = nodes[name]
    if isinstance(node, kinds.Activation):
        return node.becomes_spiking
    moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate, kinds.ChannelAffine))
    if moves or (isinstance(node, kinds.Pool) and node.function == "max"):
        return all(_sends_spikes(nodes, source) for source in node.inputs)
    return False


# --- Maxima of leaky activations -----------------------------------------------


def _pooled_before(graph):
    """Return the graph with maxima of leaky activations as leaky activations of maxima."""
    for node in list(graph.nodes.values()):
        if isinstance(node, kinds.Pool) and node.function == "max" and node.name not in graph.output_names:
            add, users = graph.nodes[node.inputs[0]], graph.users()
            sides = _leaky_sides(graph.nodes, add)
            chain = [add.name, *(name for side in sides for name in side)]
            alone = all(len(users[name]) == 1 and name not in graph.output_names for name in chain)
            if sides and alone:
                graph = _with_pool_first(graph, node, chain, graph.nodes[sides[0][-1]].inputs[0])
    return graph


def _leaky_sides(nodes, add, *, by_place=None):
    """Return the names of the nodes of both sides of a leaky activation, or `()`.

    Those of a side are in the order from the sum to what takes the value x.

    Args:
        nodes: Node by name.
        add: The node that may be the sum of both sides.
        by_place: Whether the slope may be another one at every place; `None` if it may not, and may not be
            negative either.
    """
    if not isinstance(add, kinds.Add) or len(add.inputs) != 2:
        return ()
    sides = tuple(_side(nodes, name, by_place) for name in add.inputs)
    if None in sides:
        return ()
    (first, one, x), (second, other, same) = sides
    return (first, second) if x == same and (one, other) == (1, -1) else ()


def _side(nodes, name, by_place):
    """Return `(names, sign, x)` of a relu of x or −x, scaled maybe, or `None`.

    Unless slopes may be anything, the scale has the same sign; arguments as of `_leaky_sides`.
    """
    names, factor, node = [], 1.0, nodes[name]
    while isinstance(node, kinds.ChannelAffine) and not np.any(node.shift):
        signs = np.sign(node.scale)
        if (_is_by_place(node) and not by_place) or (by_place is None and np.unique(signs).size > 1):
            return None
        names.append(node.name)
        factor, node = factor * signs.flat[0], nodes[node.inputs[0]]
    if not (isinstance(node, kinds.Activation) and node.becomes_spiking and node.function == "relu"):
        return None
    names.append(node.name)
    source = nodes[node.inputs[0]]
    if isinstance(source, kinds.ChannelAffine) and np.all(source.scale <= 0) and not np.any(source.shift):
        falls = by_place is None and (factor > 0 or _is_by_place(source))
        return None if falls else ([*names, source.name], -1, source.inputs[0])
    return None if by_place is None and factor < 0 else (names, 1, source.name)


def _is_by_place(node):
    return math.prod(np.shape(node.scale)[:-1]) > 1


def _with_pool_first(graph, pool, chain, x):
    """Return the graph with a leaky activation, the nodes of a chain, after the pool of its input x."""
    nodes = dict(graph.nodes)
    for user in graph.users()[pool.name]:
        inputs = tuple(chain[0] if name == pool.name else name for name in nodes[user].inputs)
        nodes[user] = dataclasses.replace(nodes[user], inputs=inputs)
    for name in chain:
        inputs = tuple(pool.name if source == x else source for source in nodes[name].inputs)
        nodes[name] = dataclasses.replace(nodes[name], inputs=inputs, shape=pool.shape)
    nodes[pool.name] = dataclasses.replace(pool, inputs=(x,))
    return graph.with_nodes(nodes)
