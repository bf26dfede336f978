"""Linear maps in a row as one, where that takes fewer operations than handing on numbers between them.

What a linear map without neurons after it makes of spikes are numbers, which take a multiplication and an
addition at every weight of the next map, at every step. One map of both gets the spikes, which take additions
where and when they come, at more weights maybe: a depthwise convolution and the one after it, a bottleneck
that no relu rectifies, a sum of spikes in front of a convolution.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_snn.analysis.contents import own_sums
from keras_snn.analysis.fan_out import fan_out
from keras_snn.analysis.parts import of_source
from keras_snn.conversion.densities import density
from keras_snn.graph import nodes as kinds
from keras_snn.graph.channel_affine import channel_affine, compact, of_shift, rows_of
from keras_snn.graph.composing import Term, composed, dense_kernel, of_windows
from keras_snn.graph.geometry import moved
from keras_snn.graph.graph import free_name
from keras_snn.graph.interpolation import interpolation

__all__ = ["with_composed_maps"]

# More weights than this no map may have: what is computed with spikes may still be kept in full.
_LARGEST = 2**20
_LARGEST_PRODUCT = 2**23


def with_composed_maps(graph, rates, *, constant_inputs=True):
    """Return the graph with linear maps in a row as one, where that takes fewer operations.

    Both are counted: one addition for every weight that a spike meets, and two operations for every one that
    a number meets which is not 0. What is computed of several spikes is 0 where none of them comes; they are
    taken to come independently.

    Args:
        graph: A folded `Graph` before neurons are put in.
        rates: Spikes in a step by name of the activation that becomes neurons, as of `rates_of`. With
            `None` the graph stays as it is.
        constant_inputs: Whether what is computed of inputs alone is the same at every step.
    """
    if rates is None:
        return graph
    own, constant = own_sums(graph), _of_inputs(graph) if constant_inputs else set()
    for name, node in list(graph.nodes.items()):
        if name in graph.nodes and isinstance(node, kinds.Affine):
            found = _Composing(graph, rates, graph.nodes[name], constant).result(own)
            graph = graph if found is None else found
    return graph


class _Composing:
    """The search for one map in the place of a linear layer and of those before it."""

    def __init__(self, graph, rates, node, constant):
        self.graph, self.node, self.rates, self.known = graph, node, rates, {}
        self.constant = constant
        self.added = np.zeros(())

    def result(self, own):
        """Return the graph with the composed map, or `None` if there is none or it does not pay.

        Args:
            own: What `own_sums` of the graph gives in which nothing is composed.
        """
        (source,) = self.node.inputs
        is_done = self._sends(source) or source in self.constant
        terms = None if is_done else self._terms(source, Term(self.node))
        if terms is None or self.constant.issuperset(name for name, _ in terms):
            return None
        # What gets spikes keeps the name.
        terms.sort(key=lambda term: term[0] in self.constant)
        nodes, last, maps = self._emitted(list(_by_geometry(self.graph, terms, self.constant).values()))
        graph = _taken_from(self.graph, self.node.name, last, nodes)
        gone = [node for name, node in self.graph.nodes.items() if name not in graph.nodes]
        before = [self._cost(self.graph, node) for node in [*gone, self.node]]
        after = [self._cost(graph, graph.nodes[name]) for name in maps]
        if sum(after) >= sum(before):
            return None
        return _noted(graph, maps, of_source([*gone, self.node], self.graph, own))

    def _terms(self, name, term):
        """Return what a map of a value is the sum of: pairs of a name and a `Term`; `None` for no way."""
        node, affine = self.graph.nodes[name], term.affine
        if self._sends(name) or name in self.constant:
            return [(name, term)]
        if isinstance(node, kinds.Add):
            return _joined(self._terms(source, term) for source in node.inputs)
        if isinstance(node, kinds.Concatenate) and node.axis == -1 and affine.groups == 1:
            return _joined(self._terms(*part) for part in _parts(self.graph, node, term))
        if isinstance(node, kinds.Rearrange) and _keeps_channels(self.graph, node):
            return self._terms(node.inputs[0], dataclasses.replace(term, before=(node, *term.before)))
        if isinstance(node, kinds.ChannelAffine) and node.scale.ndim < 2:
            self._add(term, node.shift, node.shape)
            rows = rows_of(affine, np.broadcast_to(node.scale, node.shape[-1]))
            scaled = dataclasses.replace(affine, kernel=(affine.kernel * rows).astype(affine.kernel.dtype))
            return self._terms(node.inputs[0], dataclasses.replace(term, affine=scaled))
        if isinstance(node, kinds.Affine):
            self._add(term, node.bias, node.shape)
            (source,) = node.inputs
            return _joined(
                self._terms(source, new) for new in _after(node, term, self.graph.nodes[source].shape)
            )
        found = interpolation(self.graph, node)
        if found is not None and not term.before and affine.window:
            return _joined(self._terms(found[0], new) for new in _of_interpolation(found[1:], term))
        return None

    def _add(self, term, shift, shape):
        """Note what a `Term` makes of a constant."""
        if not np.any(shift):
            return
        for move in term.before:
            shift = move.move(np.broadcast_to(shift, shape))
            # It is that of a later value, which may have more channels.
            shape = (*move.shape[:-1], shape[-1])
        added = of_shift(term.affine, np.asarray(shift, "float64"), shape)
        if term.after:
            added = np.broadcast_to(added, term.affine.shape)
        for function, argument in term.after:
            added = moved(added, function, argument)
        self.added = self.added + added

    def _sends(self, name):
        """Whether a value is spikes, moved maybe, or maxima of them."""
        if name not in self.known:
            node = self.graph.nodes[name]
            moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate))
            if isinstance(node, kinds.Activation):
                self.known[name] = node.becomes_spiking
            elif moves or (isinstance(node, kinds.Pool) and node.function == "max"):
                self.known[name] = all(map(self._sends, node.inputs))
            else:
                self.known[name] = False
        return self.known[name]

    def _emitted(self, groups):
        """Return the nodes with a map for each group of terms, the name of the sum, and those of the maps."""
        nodes, maps, summands = dict(self.graph.nodes), [], []
        for terms in groups:
            inputs = [_moved(nodes, source, term.before) for source, term in terms]
            both = kinds.Concatenate(
                name=free_name(f"{self.node.name}/terms", nodes),
                inputs=tuple(inputs),
                shape=(*nodes[inputs[0]].shape[:-1], sum(nodes[name].shape[-1] for name in inputs)),
                origins=self.node.origins,
            )
            name = free_name(f"{self.node.name}/map", nodes) if maps else self.node.name
            kernel = np.concatenate([term.affine.kernel for _, term in terms], axis=-2)
            new = dataclasses.replace(terms[0][1].affine, name=name, inputs=(both.name,), kernel=kernel)
            maps.append(dataclasses.replace(new, bias=np.zeros_like(self.node.bias)))
            nodes |= {both.name: both, name: maps[-1]}
            summands.append(_moved_after(nodes, maps[-1], terms[0][1].after))
        added, last = compact(self.node.bias + self.added, self.node.shape), nodes[summands[0]]
        is_whole = not groups[0][0][1].after
        if added.ndim < 2 and is_whole:
            bias = np.broadcast_to(added, self.node.bias.shape).astype(self.node.bias.dtype)
            nodes[maps[0].name] = last = dataclasses.replace(maps[0], bias=bias)
            added = np.zeros(())
        if len(maps) > 1:
            name = free_name(f"{self.node.name}/sum", nodes)
            last = kinds.Add(
                name=name, inputs=tuple(summands), shape=self.node.shape, origins=self.node.origins
            )
            nodes[name] = last
        if added.any():
            last = channel_affine(
                nodes, f"{self.node.name}/bias", last, 1.0, added, origins=self.node.origins
            )
            nodes[last.name] = last
        return nodes, last.name, [node.name for node in maps]

    def _cost(self, graph, node):
        """Return the operations of a linear map in a step, without biases."""
        if not isinstance(node, kinds.Affine):
            return 0
        (source,) = node.inputs
        if self._is_constant_in(graph, source):
            return 0
        each = 1 if self._sends_in(graph, source) else 2
        reached = fan_out(node, graph.nodes[source].shape)
        return each * (density(graph, source, self.rates) * reached).sum()

    def _sends_in(self, graph, name):
        return (
            self._sends(name)
            if name in self.graph.nodes
            else all(self._sends_in(graph, source) for source in graph.nodes[name].inputs)
        )

    def _is_constant_in(self, graph, name):
        new = name not in self.graph.nodes
        return name in self.constant or (
            new and all(self._is_constant_in(graph, source) for source in graph.nodes[name].inputs)
        )


def _of_inputs(graph):
    """Return the names of what is computed of inputs, without neurons."""
    found = set()
    for node in graph.nodes.values():
        fires = isinstance(node, kinds.Activation) and node.becomes_spiking
        if not fires and found.issuperset(node.inputs):
            found.add(node.name)
    return found


def _joined(parts):
    """Return the terms of all parts, or `None` if a part has none."""
    parts = list(parts)
    return (
        None
        if not parts or any(part is None for part in parts)
        else [term for part in parts for term in part]
    )


def _parts(graph, node, term):
    """Yield each input of a `Concatenate` of channels, and the `Term` with its weights."""
    start = 0
    for source in node.inputs:
        stop = start + graph.nodes[source].shape[-1]
        part = dataclasses.replace(term.affine, kernel=term.affine.kernel[..., start:stop, :])
        yield source, dataclasses.replace(term, affine=part)
        start = stop


def _after(node, term, shape):
    """Return the `Term`s of a map of values of `shape` before another `Term`; `()` if there are none."""
    channels = node.groups * math.prod(node.kernel.shape[:-1]) * math.prod(term.affine.kernel.shape[:-2])
    moved = term.before and (math.prod(node.window) > 1 or set(node.strides) - {1})
    if moved or channels * term.affine.kernel.shape[-1] > _LARGEST_PRODUCT:
        return ()
    return _continued(composed(node, term.affine, shape), term)


def _of_interpolation(found, term):
    """Return the `Term`s of an interpolation of images before another `Term`."""
    places, axes, kernel = found
    channels = places.shape[-1]
    if math.prod(kernel.shape) * math.prod(term.affine.kernel.shape) * channels > _LARGEST_PRODUCT:
        return ()
    dense = kernel[..., None, None] * np.eye(channels)
    second = dense_kernel(term.affine.kernel, term.affine.groups)
    terms = of_windows((dense, second), axes, term.affine, term.affine)
    return [dataclasses.replace(new, before=(places, *new.before)) for new in _continued(terms, term)]


def _continued(terms, term):
    """Return terms with what moves values before and after another one; `()` if they are too large."""
    if any(new.affine.kernel.size > _LARGEST for new in terms):
        return ()
    return [
        dataclasses.replace(new, before=(*new.before, *term.before), after=(*new.after, *term.after))
        for new in terms
    ]


def _by_geometry(graph, terms, constant):
    """Return lists of the terms whose maps may be one of several values side by side, by what they share."""
    found = {}
    for source, term in terms:
        affine, shape = term.affine, (term.before[-1] if term.before else graph.nodes[source]).shape
        of_places = (affine.window, affine.strides, affine.dilation, affine.padding, affine.output_padding)
        # Of groups one each.
        groups = affine.groups if affine.groups == 1 else source
        kind = (affine.transposed, groups, shape[:-1], term.after, source in constant)
        group = found.setdefault((*of_places, *kind), {})
        same = (source, *(move.name for move in term.before))
        if same in group:
            kernel = group[same][1].affine.kernel + affine.kernel
            term = dataclasses.replace(term, affine=dataclasses.replace(affine, kernel=kernel))
        group[same] = (source, term)
    return {key: list(group.values()) for key, group in found.items()}


def _moved(nodes, name, moves):
    """Return the name of a value after moves, which are added to `nodes`."""
    for move in moves:
        shape = (*move.shape[:-1], nodes[name].shape[-1])
        new = dataclasses.replace(
            move, name=free_name(f"{move.name}/spikes", nodes), inputs=(name,), shape=shape
        )
        nodes[new.name] = new
        name = new.name
    return name


def _moved_after(nodes, node, moves):
    """Return the name of the value of a map after moves, which are added to `nodes`."""
    for function, argument in moves:
        name = free_name(f"{node.name}/{function}", nodes)
        fields = {"inputs": (node.name,), "origins": node.origins, "function": function, "argument": argument}
        new = kinds.Rearrange(name=name, **fields)
        nodes[name] = node = dataclasses.replace(new, shape=new.output_shape(node.shape))
    return node.name


def _keeps_channels(graph, node):
    """Whether a `Rearrange` moves whole places, all channels alike."""
    if node.function in ("reshape", "transpose"):
        return False
    still = {"pad": (0, 0), "slice": (None, None, None), "repeat": 1, "take": None}[node.function]
    return node.argument[-1] == still and len(node.shape) == len(graph.nodes[node.inputs[0]].shape)


def _taken_from(graph, before, after, nodes):
    """Return the graph of nodes in which what took a value takes another one, which is made of that."""
    for name in graph.users()[before] if before != after else ():
        inputs = tuple(after if source == before else source for source in nodes[name].inputs)
        nodes[name] = dataclasses.replace(nodes[name], inputs=inputs)
    outputs = keras.tree.map_structure(lambda name: after if name == before else name, graph.outputs)
    return dataclasses.replace(graph, outputs=outputs).with_nodes(nodes)


def _noted(graph, maps, stands_for):
    """Return the graph in which maps know what the source network has in their place, all together."""
    sources = [graph.nodes[graph.nodes[name].inputs[0]] for name in maps]
    weights = [
        fan_out(graph.nodes[name], source.shape).sum() for name, source in zip(maps, sources, strict=True)
    ]
    noted, rest = {}, stands_for
    for source, weight in list(zip(sources, weights, strict=True))[:0:-1]:
        part = tuple(int(count * weight / sum(weights)) for count in stands_for)
        rest = tuple(count - taken for count, taken in zip(rest, part, strict=True))
        noted[source.name] = dataclasses.replace(source, stands_for=part)
    noted[sources[0].name] = dataclasses.replace(sources[0], stands_for=rest)
    return graph.with_nodes({**graph.nodes, **noted})
