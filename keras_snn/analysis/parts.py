"""What adds up values in a network: layers with weights, sums, neurons and read-outs; and what that costs."""

import functools
import math
from typing import NamedTuple

import numpy as np

from keras_snn.analysis.contents import ACCUMULATING, CONSTANT, CURRENT, Contents, own_sums
from keras_snn.analysis.fan_out import fan_out
from keras_snn.analysis.layer_operations import LayerOperations
from keras_snn.analysis.reach import EVENTS, GRADED, NUMBERS, ONES, UNITS, Reach
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import Graph
from keras_snn.graph.interpolation import interpolation
from keras_snn.graph.program import Program

__all__ = ["Part", "Replaced", "of_source", "source_share", "static_parts"]


class Replaced(NamedTuple):
    """What the source network has in the place of one map: several, in numbers.

    Attributes:
        macs: Multiply-adds, with those that meet zeros at borders.
        dense: Those without.
        weights: Number of weights and biases.
        sums: Values that are added without a weight.
        skipping: Multiply-adds of the maps that see spikes, which skip zeros.
        between: Those of the others.
    """

    macs: int
    dense: int
    weights: int
    sums: int
    skipping: int
    between: int


class Part:
    """A node of a program that adds up what it is given, with a weight for each or without.

    Args:
        node: The node.
        program: The `Program`.
        contents: What its values are.
        own: What `own_sums` of its graph gives.

    Attributes:
        name: Name of the node.
        host: Name of the linear node of the same call, among whose operations these are; or `None`.
        is_counted: Whether it adds up anything.
        of_source: What to count in the source network: tuples of the name of a node and a `Reach`.
        of_steps: What to count at every step: tuples of the name of a call and a `Reach`.
    """

    def __init__(self, node: kinds.Node, program: Program, contents: Contents, own: set[str]):
        self.node, self.name, self.graph, self.contents = node, node.name, program.graph, contents
        self.is_linear, self.host = _is_linear(node), None
        self.reads, self.unseen, self.of_source, self.of_steps = 0, 0, [], []
        self.is_analog = self._is(node.name, CONSTANT)
        if self.is_linear:
            fan = fan_out(node, self.graph.nodes[node.inputs[0]].shape)
            self._look(node.inputs[0], fan)
            # What only adds a constant meets no value with a weight.
            self.of_source.append((node.inputs[0], Reach(0 * fan if _only_adds(node) else fan)))
        elif isinstance(node, ACCUMULATING) and not self.is_analog:
            for name in node.inputs:
                self._look(name, np.ones(self.graph.nodes[name].shape, int))
            self.reads += self._corrected()
            self.host = self._host()
        self.sums = _unweighted(node, self.graph, own)
        for name in self.sums:
            shape = self.graph.nodes[name].shape
            self.of_source.append((name, Reach(np.ones(shape, int))))
        anything = self.is_linear or self.sums or self.of_steps or self.unseen or self.reads
        self.is_counted = bool(anything)

    def _is(self, name, code):
        return bool(np.all(self.contents.codes[name] == code))

    def _look(self, name, fan):
        """Note what is to be counted of an input that reaches so many sums."""
        codes = self.contents.codes[name]
        if self._is(name, CURRENT) or self.is_analog:
            return
        if self._is(name, CONSTANT):
            self.reads += int(fan.sum())
        elif self.graph.nodes[name].origins[:1] == self.node.origins[:1] and self.node.origins:
            # Inside of a call nobody sees what values there are.
            self.unseen += int(fan.sum())
        else:
            origins = self.graph.nodes[name].origins
            call = origins[0] if origins else name
            self.of_steps.append((call, Reach(fan, codes, self.contents.sources)))

    def _corrected(self):
        """Return how many neurons get more current at every step, where there is no bias that has it."""
        if not isinstance(self.node, kinds.Spike):
            return 0
        current = np.asarray(self.node.neuron.correction("current"), float)
        (name,) = self.node.inputs
        if not current.any() or self._is(name, CONSTANT) or _has_bias(name, self.graph, self.contents):
            return 0
        return int(np.count_nonzero(np.broadcast_to(current, self.node.shape)))

    def _host(self):
        (name, *others) = self.node.inputs
        is_own = _is_linear(self.graph.nodes[name]) and not others and not self.of_steps and not self.unseen
        same_call = self.graph.nodes[name].origins[:1] == self.node.origins[:1]
        return name if is_own and same_call else None

    def operations(self, mean, timesteps, itemsize, known, *, has_reference):
        """Return the `LayerOperations`.

        Args:
            mean: Dict of what was counted, mean over the samples.
            timesteps: Number of steps.
            itemsize: Bytes of a weight.
            known: Set of the weights that were counted, which grows.
            has_reference: Whether there is a network of the same levels.
        """
        static = _static(self.node, self.graph, self.sums, itemsize, known)
        at_steps = [mean["reached", f"{self.name} {i}"] for i in range(len(self.of_steps))]
        steps = sum(at_steps, np.zeros((timesteps, 5)))
        steps[:, [NUMBERS, GRADED]] += self.unseen
        source, skipped = self._without_zeros(mean, "source", static)
        same_levels = self._without_zeros(mean, "reference", static)[1] if has_reference else skipped
        # A number that meets no weight is added only.
        additions, numbers = steps[:, EVENTS], steps[:, NUMBERS]
        is_linear = self.is_linear
        return LayerOperations(
            **static,
            is_analog=self.is_analog,
            reads=self.reads,
            additions=additions if is_linear else additions + numbers,
            multiply_adds=numbers if is_linear else 0 * numbers,
            units=steps[:, UNITS] if is_linear else steps[:, UNITS] + numbers,
            ones=steps[:, ONES].sum() if is_linear else 0.0,
            graded=steps[:, GRADED].sum() if is_linear else 0.0,
            ann_additions=source[0],
            ann_multiply_adds=source[1],
            ann_zero_skipping=skipped,
            zero_skipping=same_levels,
            is_estimated=self.is_linear and _replaced(self.node, self.graph) is not None,
        )

    def _without_zeros(self, mean, network, static):
        """Return `((ones, graded), operations)` of the source network, or of that of the same levels."""
        found = [mean[network, f"{self.name} {i}"] for i in range(len(self.of_source))]
        ones, graded = found[0][[ONES, GRADED]].tolist() if self.is_linear else (0.0, 0.0)
        sums = sum(float(x[NUMBERS]) for x in found[self.is_linear :])
        replaced = _replaced(self.node, self.graph)
        if replaced:
            reached = max(fan_out(self.node, self.graph.nodes[self.node.inputs[0]].shape).sum(), 1)
            ones, graded = (count * replaced.skipping / reached for count in (ones, graded))
            # What is between two maps counts as not 0.
            graded, sums = graded + replaced.between, sums + replaced.sums
        each = 2 if graded else 1
        if self.is_linear and static["is_factor"]:
            each = int(static["biases"] > 0)
        return (ones, graded), each * (ones + graded) + static["biases"] + sums


def static_parts(graph: Graph, itemsize: int) -> tuple[LayerOperations, ...]:
    """Return the `LayerOperations` of an analog network, of what does not depend on data."""
    known, found, own = set(), [], own_sums(graph)
    for node in graph.nodes.values():
        sums = _unweighted(node, graph, own)
        if _is_linear(node) or sums:
            found.append(LayerOperations(**_static(node, graph, sums, itemsize, known)))
    return tuple(found)


def _static(node, graph, sums, itemsize, known):
    """Return the fields of `LayerOperations` that do not depend on data; `sums` as of `_unweighted`."""
    sums = sum(math.prod(graph.nodes[name].shape) for name in sums)
    if not _is_linear(node):
        names = ("macs", "biases", "dense", "weights", "zeros", "footprint")
        return {"name": node.name, **dict.fromkeys(names, 0), "is_factor": False, "sums": sums}
    neurons, is_affine = math.prod(node.shape), isinstance(node, kinds.Affine)
    share = weight_share = source_share(node, graph)
    weights, shift = (node.kernel, node.bias) if is_affine else (node.scale, node.shift)
    has_bias = bool(np.any(shift))
    if _only_adds(node):
        weights = np.zeros((*shift.shape, 0))
    stored = weights.size + shift.size * has_bias
    # Calls of a shared layer share its weights, each of its parts by place and shape.
    key = (node.source, node.name.removeprefix((*node.origins, "")[0]), weights.shape)
    is_known = node.source is not None and key in known
    known.add(key)
    macs = neurons * (math.prod(weights.shape[:-1]) if is_affine else bool(weights.size))
    replaced = _replaced(node, graph)
    if replaced:
        weight_share, sums = replaced.weights / stored, sums + replaced.sums
    return {
        "name": node.name,
        "macs": replaced.macs if replaced else round(macs * share),
        "biases": neurons if has_bias else 0,
        "dense": _reached(node, graph) if weights.size else 0,
        "weights": weights.size,
        "zeros": int(np.sum(weights == 0)),
        "footprint": 0 if is_known else stored * itemsize,
        "share": share,
        "weight_share": weight_share,
        "is_factor": not is_affine and bool(weights.size),
        "sums": sums,
    }


def of_source(nodes, graph, own):
    """Return `Replaced` for maps and sums of a graph that become the last of them."""
    linear, sums = [], 0
    for node in nodes:
        static = _static(node, graph, _unweighted(node, graph, own), 1, set())
        sums += static["sums"] + (static["biases"] if node is not nodes[-1] else 0)
        if isinstance(node, kinds.Affine):
            (source,) = node.inputs
            is_between = np.broadcast_to(_is_weighted(source, graph), graph.nodes[source].shape)
            reached = fan_out(node, graph.nodes[source].shape)
            linear.append((static, int(reached[~is_between].sum()), int(reached[is_between].sum())))
    return Replaced(
        macs=sum(static["macs"] for static, *_ in linear),
        dense=sum(round(static["dense"] * static["share"]) for static, *_ in linear),
        weights=sum(round(static["footprint"] * static["weight_share"]) for static, *_ in linear),
        sums=sums,
        skipping=sum(skipping for _, skipping, _ in linear),
        between=sum(between for *_, between in linear),
    )


def _is_weighted(name, graph):
    """Return which channels of a value are weighted sums, or made of some: an array, or one bool for all."""
    node = graph.nodes[name]
    if isinstance(node, kinds.Affine) or interpolation(graph, node) is not None:
        # Of channels that are 0 what is made of them alone is 0 too: it counts as often 0 as they are.
        return np.array(isinstance(node, kinds.Affine) and node.kernel.shape[-2] > 1)
    if not isinstance(node, (kinds.Rearrange, kinds.Concatenate, kinds.Add, kinds.ChannelAffine)):
        return np.array(False)
    parts = [_is_weighted(source, graph) for source in node.inputs]
    if isinstance(node, kinds.Concatenate) and node.axis == -1:
        sizes = [graph.nodes[source].shape[-1] for source in node.inputs]
        return np.concatenate([np.broadcast_to(*pair) for pair in zip(parts, sizes, strict=True)])
    if isinstance(node, kinds.Rearrange) and node.function in ("reshape", "transpose"):
        return np.array(parts[0].any())
    return functools.reduce(np.logical_or, parts)


def _replaced(node, graph):
    """Return what the source network has in the place of a map, `Replaced`, if it has several maps."""
    source = graph.nodes[node.inputs[0]]
    is_noted = isinstance(source, kinds.Concatenate) and isinstance(node, kinds.Affine)
    return Replaced(*source.stands_for) if is_noted and source.stands_for else None


def source_share(node, graph, *, padded=False):
    """Return the share of the synaptic operations of a layer that the source network has in its place.

    It adds up some of the inputs, or has several maps in a row.

    Args:
        node: The layer.
        graph: Its graph.
        padded: Whether what meets zeros at a border counts.
    """
    source, replaced = graph.nodes[node.inputs[0]], _replaced(node, graph)
    if replaced and padded:
        return replaced.macs / (math.prod(node.shape) * math.prod(node.kernel.shape[:-1]))
    if replaced:
        return replaced.dense / _reached(node, graph)
    if isinstance(source, kinds.Rearrange):
        # Those of a group of channels are side by side.
        source = graph.nodes[source.inputs[0]]
    if not isinstance(source, kinds.Concatenate) or not source.again:
        return 1.0
    return 1 - sum(graph.nodes[source.inputs[i]].shape[-1] for i in source.again) / source.shape[-1]


def _reached(node, graph):
    return int(fan_out(node, graph.nodes[node.inputs[0]].shape, zeros=True).sum())


def _only_adds(node):
    return isinstance(node, kinds.ChannelAffine) and node.only_adds


def _is_linear(node):
    return isinstance(node, (kinds.Affine, kinds.ChannelAffine))


def _unweighted(node, graph, own):
    """Return the inputs of a sum of the source network that it adds as they are.

    A factor without a shift may be part of the weights before it, and is nothing of its own there.
    """
    if not isinstance(node, kinds.Add):
        return ()
    return tuple(name for name in node.inputs if name not in own or _is_factor(name, graph))


def _is_factor(name, graph):
    """Whether a value is one multiplied by a factor, rearranged maybe."""
    node = graph.nodes[name]
    while isinstance(node, (kinds.Rearrange, kinds.Concatenate)):
        node = graph.nodes[node.inputs[0]]
    return isinstance(node, kinds.ChannelAffine) and not np.any(node.shift)


def _has_bias(name, graph, contents):
    """Whether a current has a bias of its own."""
    node = graph.nodes[name]
    if not np.all(contents.codes[name] == CURRENT):
        return False
    if _is_linear(node):
        return bool(np.any(node.bias if isinstance(node, kinds.Affine) else node.shift))
    return any(_has_bias(i, graph, contents) for i in node.inputs)
