"""Rewriting a graph without changing what it computes.

Batch normalization, rescaling and the scales of normalization are all a
`ChannelAffine`. `fold` moves each one into a neighbouring linear layer where that is
exact, and leaves it where it is where not.
"""

import dataclasses
import heapq
import math

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.channel_affine import (
    channel_affine,
    folded_before,
    folded_into,
    merged,
    moved_after,
    union_of_origins,
)
from keras_snn.graph.graph import Graph, free_name

__all__ = ["fold", "free_output_relus", "insert_scale", "insert_scales", "pool_by_axes"]


def insert_scale(graph, scale, *, before=None, after=None):
    """Return the graph with one value multiplied by a number.

    Args:
        graph: A `Graph`.
        scale: The number.
        before: Name of the node whose only input is multiplied; or
        after: name of the node whose value is multiplied for all who take it.
    """
    where = {before or after: scale}
    return insert_scales(graph, **({"before": where} if before else {"after": where}))


def insert_scales(graph, *, before=None, after=None, replaced=()):
    """Return the graph with some values multiplied by numbers, each as of `insert_scale`.

    Args:
        graph: A `Graph`.
        before: Numbers by name of the node whose only input is multiplied.
        after: Numbers by name of the node whose value is multiplied for all who take it.
        replaced: Nodes that take the place of those of their names first.
    """
    nodes = {**graph.nodes, **{node.name: node for node in replaced}}
    before, after, renamed = before or {}, after or {}, {}
    for name in [name for name in nodes if name in before or name in after]:
        node = nodes[name]
        if name in before:
            source = nodes[node.inputs[0]]
            factor = channel_affine(nodes, f"{name}/scale", source, before[name], 0.0, origins=())
            nodes[factor.name] = factor
            nodes[name] = dataclasses.replace(node, inputs=(factor.name,))
        if name in after:
            factor = channel_affine(nodes, f"{name}/scale", node, after[name], 0.0, origins=())
            nodes[factor.name] = factor
            renamed[name] = factor.name
    return graph.with_nodes(nodes, renamed)


def free_output_relus(graph):
    """Return the graph with relus that become no neurons where nothing but the output takes their value.

    At the output, as any activation there, a relu acts on the average over time: the value that it gives then
    does not depend on a scale, and is no multiple of λ/T. Values may still be scaled, shifted, summed and
    rearranged after it. If no other activation becomes neurons, all relus do.
    """
    users, at_end = graph.users(), set()
    passes = (kinds.ChannelAffine, kinds.Rearrange, kinds.Concatenate, kinds.Add, kinds.Activation)
    for node in reversed(graph.nodes.values()):
        if all(user in at_end and isinstance(graph.nodes[user], passes) for user in users[node.name]):
            at_end.add(node.name)
    spiking = [n for n in graph.nodes.values() if isinstance(n, kinds.Activation) and n.becomes_spiking]
    freed = [node for node in spiking if node.function == "relu" and node.name in at_end]
    if len(freed) == len(spiking):
        return graph
    nodes = {node.name: dataclasses.replace(node, spikes=False) for node in freed}
    return dataclasses.replace(graph, nodes={**graph.nodes, **nodes})


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
        name = free_name(f"{node.name}/part", nodes) if i < len(steps) - 1 else node.name
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
    A negative scale does not pass a maximum. A shift of spikes in front of zero padding becomes a constant
    after the linear layer, another one at every place; of numbers it stays in front.

    Source:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682, "Conversion of Batch-Normalization
        Layers".
    """
    folding = _Folding(graph)
    while folding.waiting:
        folding.fold_next()
    return folding.graph()


class _Folding:
    """A graph while it is folded: a list of work, and whoever takes which value.

    A move changes what is around it only. So those `ChannelAffine` wait that are around a change, and the
    first of them in the order of the graph is tried next.

    Attributes:
        nodes: Node by name.
        users: Names of the nodes that take a value, by its name; twice for who takes it twice.
        outputs: Names of the outputs, flat.
        waiting: Heap of `(place, name)` of the `ChannelAffine` to try.
    """

    def __init__(self, graph):
        self._before, self._moves = graph, 0
        self.nodes, self.users, self.outputs = dict(graph.nodes), graph.users(), list(graph.output_names)
        # Tuples, so that there is always a place between two.
        self._places = {name: (i,) for i, name in enumerate(graph.nodes)}
        self._queued, self.waiting = set(), []
        for node in graph.nodes.values():
            self._wait(node.name)

    def graph(self):
        """Return the `Graph` as it is now."""
        if not self._moves:
            return self._before
        outputs = keras.tree.pack_sequence_as(self._before.outputs, self.outputs)
        return Graph(self.nodes, self._before.inputs, outputs).with_nodes(self.nodes)

    def fold_next(self):
        """Try the first `ChannelAffine` that waits."""
        _, name = heapq.heappop(self.waiting)
        self._queued.discard(name)
        if name in self.nodes:
            self._moves += self._fold_one(self.nodes[name])

    def _wait(self, name):
        if isinstance(self.nodes[name], kinds.ChannelAffine) and name not in self._queued:
            self._queued.add(name)
            heapq.heappush(self.waiting, (self._places[name], name))

    def _changed(self, name):
        """Let wait whoever may be able to move since a node or its users changed."""
        self._wait(name)
        for source in self.nodes[name].inputs:
            self._wait(source)
        pending = [name]
        while pending:
            users = dict.fromkeys(self.users[pending.pop()])
            for user in users:
                self._wait(user)
                # A sum may be moved into if all that it adds up may; one of several users may not.
                if isinstance(self.nodes[user], kinds.Add) and len(self.users[user]) == 1:
                    pending.append(user)

    def _put(self, node, place=None):
        """Put in a node, in the place of one of its name if there is one."""
        old = self.nodes.get(node.name)
        self.nodes[node.name] = node
        if old is None:
            self._places[node.name], self.users[node.name] = place, []
        gone = () if old is None else old.inputs
        for name in gone:
            self.users[name].remove(node.name)
        for name in node.inputs:
            self.users[name].append(node.name)
        self._drop_unused(gone)
        self._changed(node.name)

    def _drop_unused(self, names):
        """Take out those nodes whose value nobody takes any more."""
        for name in dict.fromkeys(names):
            if name not in self.nodes:
                continue
            node = self.nodes[name]
            if self.users[name] or name in self.outputs or isinstance(node, kinds.Input):
                self._changed(name)
                continue
            del self.nodes[name], self.users[name]
            for source in node.inputs:
                self.users[source].remove(name)
            self._drop_unused(node.inputs)

    def _replace(self, old, new):
        """Let everyone but the node `new` take the value of `new` instead of that of `old`."""
        self.outputs = [new if name == old else name for name in self.outputs]
        for name in [name for name in dict.fromkeys(self.users[old]) if name != new]:
            node = self.nodes[name]
            inputs = tuple(new if source == old else source for source in node.inputs)
            self._put(dataclasses.replace(node, inputs=inputs))
        if old in self.nodes:
            self._drop_unused([old])

    def _is_only_user(self, source):
        return len(self.users[source.name]) == 1 and source.name not in self.outputs

    def _fold_one(self, node):
        """Make one move of a `ChannelAffine`; return whether there was one."""
        source = self.nodes[node.inputs[0]]
        if np.all(node.scale == 1) and np.all(node.shift == 0):
            self._replace(node.name, source.name)
            return True
        if isinstance(source, kinds.ChannelAffine):
            self._put(merged(source, node, self.nodes[source.inputs[0]]))
            return True
        if self._is_only_user(source):
            folded = folded_into(source, node) if isinstance(source, kinds.Affine) else None
            if folded is not None:
                affine, added = folded
                self._put(affine)
                if added.any():
                    self._put(channel_affine((), node.name, affine, 1.0, added, origins=node.origins))
                else:
                    self._replace(node.name, source.name)
                return True
            if isinstance(source, kinds.Add) and self._absorbs(source):
                return self._distribute(source, node)
            if self._is_moved_sum(source) and node.scale.ndim < 2 and not node.shift.any():
                self._move_back(source, node)
                return True
        users = sorted(self.users[node.name], key=self._places.__getitem__)
        return any(self._move_forward(source, node, self.nodes[name]) for name in users)

    def _absorbs(self, source):
        """Whether a scale after `source` can be moved into what `source` computes."""
        if isinstance(source, kinds.ChannelAffine):
            return True
        if not self._is_only_user(source):
            return False
        if isinstance(source, kinds.Add):
            return all(self._absorbs(self.nodes[name]) for name in source.inputs)
        return isinstance(source, kinds.Affine) or self._is_moved_sum(source)

    def _is_moved_sum(self, source):
        """Whether a value is that of a linear layer, cut or padded along other axes than the last."""
        while isinstance(source, kinds.Rearrange) and source.function in ("pad", "slice"):
            before = self.nodes[source.inputs[0]]
            whole = source.argument[-1] in ((0, 0), (None, None, None))
            if not (whole and self._is_only_user(source) and self._is_only_user(before)):
                return False
            if isinstance(before, kinds.Affine):
                return True
            source = before
        return False

    def _move_back(self, source, node):
        """Scale what a layer moves instead of what it gives."""
        moved = self.nodes[source.inputs[0]]
        factor = channel_affine(self.nodes, node.name, moved, node.scale, 0.0, origins=node.origins)
        self._put(factor, (*self._places[moved.name], 0))
        self._put(dataclasses.replace(source, inputs=(factor.name,)))
        self._replace(node.name, source.name)

    def _distribute(self, add, node):
        """Scale the branches of a sum instead of the sum; the shift goes to the first branch if it fits.

        Return whether there was anything to move.
        """
        stays = any(isinstance(self.nodes[name], kinds.Rearrange) for name in add.inputs)
        stays = stays and bool(node.shift.any())
        if stays and (np.all(node.scale == 1) or node.scale.ndim > 1):
            return False
        branches = []
        for i, name in enumerate(add.inputs):
            shift = node.shift if i == 0 and not stays else 0.0
            branch = channel_affine(
                self.nodes, f"{node.name}/{i}", self.nodes[name], node.scale, shift, origins=node.origins
            )
            self._put(branch, (*self._places[name], 0))
            branches.append(branch.name)
        self._put(dataclasses.replace(add, inputs=tuple(branches), origins=union_of_origins(add, node)))
        if stays:
            self._put(dataclasses.replace(node, scale=np.ones(())))
        else:
            self._replace(node.name, add.name)
        return True

    def _move_forward(self, source, node, user):
        """Move a `ChannelAffine` after one user of it, or into it; return whether there was a move."""
        by_place = self._sends_spikes(source.name)
        if isinstance(user, kinds.Affine):
            folded = folded_before(user, node, node.shape, by_place=by_place)
            if folded is None:
                return False
            affine, added = folded
            moved = (1.0, added) if added.any() else None
            user = dataclasses.replace(affine, inputs=(source.name,))
        else:
            moved = moved_after(self.nodes, node, user, by_place=by_place)
            if moved is None:
                return False
            inputs = tuple(source.name if name == node.name else name for name in user.inputs)
            user = dataclasses.replace(user, inputs=inputs)
        self._put(user)
        if moved is not None:
            # The node keeps its name if it moves whole.
            factor = channel_affine(self.nodes, node.name, user, *moved, origins=node.origins)
            self._put(factor, (*self._places[user.name], 0))
            self._replace(user.name, factor.name)
        return True

    def _sends_spikes(self, name):
        """Whether a value is, or is to become, spikes of neurons, at least a part of it.

        Only for them is a shift better added after a linear map, at every place, than before it: the map
        then adds where it would multiply.
        """
        pending, seen = [name], set()
        while pending:
            name = pending.pop()
            node = self.nodes[name]
            is_neuron = isinstance(node, kinds.Activation) and node.becomes_spiking
            if is_neuron or isinstance(node, (kinds.Spike, kinds.Encode)):
                return True
            moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate))
            if name not in seen and (moves or (isinstance(node, kinds.Pool) and node.function == "max")):
                pending += node.inputs
            seen.add(name)
        return False
