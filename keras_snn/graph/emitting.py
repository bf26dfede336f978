"""The nodes of one call of one layer."""

import contextlib
import dataclasses

import keras

from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name
from keras_snn.graph.masked import nodes_in
from keras_snn.graph.own_code import recorded
from keras_snn.graph.probing import probed
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal

__all__ = ["Emitter"]


class Emitter:
    """Adds the nodes of one call of one layer.

    Args:
        lowering: What the nodes are added to.
        path: Path of the call in the model.
        source: Number of the layer.
    """

    def __init__(self, lowering, path, source):
        self.lowering, self.path, self.source = lowering, path, source
        self.emitted = []

    def __call__(self, kind, *inputs, part=None, **fields):
        """Add a node and return it.

        Args:
            kind: Class of the node.
            inputs: Nodes whose values it takes.
            part: What it is of the layer. The first node without one has the name of the layer.
            fields: Fields of that kind.
        """
        nodes = self.lowering.nodes
        name = self.path
        if part or name in nodes:
            part = part or fields.get("function", kind.__name__.lower())
            name = free_name(f"{self.path}/{part}", nodes)
        node = kind(
            name=name,
            inputs=tuple(x.name for x in inputs),
            origins=(self.path,),
            **{"source": self.source, **fields},
        )
        shape = tuple(node.output_shape(*(x.shape for x in inputs)))
        node = dataclasses.replace(node, shape=shape, dtype=node.output_dtype(*(x.dtype for x in inputs)))
        nodes[name] = node
        self.emitted.append(name)
        return node

    def has_spikes(self, node):
        """Whether a value is made of relus or signs, moved or scaled, and of maxima of those."""
        if isinstance(node, kinds.Activation):
            return node.becomes_spiking
        hands_on = (kinds.Rearrange, kinds.Concatenate, kinds.ChannelAffine)
        if isinstance(node, hands_on) or (isinstance(node, kinds.Pool) and node.function == "max"):
            return any(self.has_spikes(self.lowering.nodes[name]) for name in node.inputs)
        return False

    def amend(self, node, **fields):
        """Set fields of all nodes emitted so far that have them; return `node` as it is then."""
        nodes = self.lowering.nodes
        for name in self.emitted:
            if all(hasattr(nodes[name], field) for field in fields):
                nodes[name] = dataclasses.replace(nodes[name], **fields)
        return nodes[node.name]

    def forget(self, count):
        """Take back what was emitted after the first `count` nodes."""
        for name in self.emitted[count:]:
            del self.lowering.nodes[name]
        del self.emitted[count:]

    def code(self, layer, args, kwargs):
        """Translate what the code of a layer does with `keras.ops` and other layers, in its place.

        If a part of it has no rule, but the whole is an affine map or an activation, it is that.

        Returns:
            The nodes of its outputs.

        Raises:
            Refusal: If the code cannot be run on numbers, or is not a function of its sample.
            Exception: Whatever the code raises for tensors without values.
        """
        before = self._state()
        results = self._record(layer, args, kwargs)
        if self._all_have_rules(before):
            return results
        recorded_parts = self._state()
        self._restore(before)
        found = self._whole(layer, args, kwargs) if len(results) == 1 else None
        if found is not None:
            return [found]
        self._restore(recorded_parts)
        return results

    def recorded_whole(self, function, x):
        """Translate what a function does with `keras.ops`, if all of it has rules; else return `None`."""
        before = self._state()
        try:
            results = self._record(keras.layers.Lambda(function), (x,), {})
        except Exception:
            results = []
        if len(results) == 1 and self._all_have_rules(before):
            return results[0]
        self._restore(before)
        return None

    def _record(self, layer, args, kwargs):
        known = set(self.lowering.nodes)
        inputs = nodes_in((args, kwargs))
        results = self.lowering.enter(recorded(layer, args, kwargs), self.path, inputs, names="/*")
        self.emitted += [name for name in self.lowering.nodes if name not in known]
        return results

    def _whole(self, layer, args, kwargs):
        """Emit a layer as an affine map or an activation of its one input, or return `None`."""
        before, nodes = self._state(), nodes_in((args, kwargs))
        with contextlib.suppress(Refusal):
            if len(nodes) == 1 and not layer.variables and not kwargs:
                return common.activation(layer.call, *nodes, self)
        self._restore(before)
        return probed(layer, args, kwargs, self)

    def _all_have_rules(self, before):
        """Whether all that was translated since a state has a rule, and becomes neurons or is linear."""
        known, obstacles, *_ = before
        new = [node for name, node in self.lowering.nodes.items() if name not in known]
        stay = any(isinstance(node, kinds.Opaque) or _stays_a_number(node) for node in new)
        return not stay and self.lowering.obstacles == obstacles

    def _state(self):
        """Return copies of all that a translation adds to."""
        lowering = self.lowering
        kept = (lowering.nodes, lowering.obstacles, lowering.applications, lowering.callees, self.emitted)
        return tuple(value.copy() for value in kept)

    def _restore(self, state):
        lowering = self.lowering
        lowering.obstacles[:], self.emitted[:] = state[1], state[4]
        for kept, value in zip(
            (lowering.nodes, lowering.applications, lowering.callees), (state[0], *state[2:4]), strict=True
        ):
            kept.clear()
            kept.update(value)

    def call(self, layer, *inputs):
        """Translate the call of another layer, as part of this one; return its node."""
        try:
            (result,) = self.lowering.lower_call(layer, inputs, {}, self)
        except Refusal as refusal:
            reason = f"{type(layer).__name__} inside: {refusal.reason}"
            raise Refusal(reason, refusal.way_out, may_stay=refusal.may_stay) from refusal
        return result

    def call_for_each(self, layer, x):
        """Translate the call of a layer or model on every slice of `x` along its first axis."""
        length, *shape = x.shape
        inner = self.lowering.part()
        start = inner.nodes["x"] = kinds.Input(name="x", shape=tuple(shape), dtype=x.dtype)
        spec = layer.compute_output_spec(keras.KerasTensor((None, *shape), x.dtype or keras.config.floatx()))
        (result,) = inner.apply(layer, f"{self.path}/{layer.name}", (start,), {}, spec)
        known = {"x": x}
        for node in inner.nodes.values():
            if isinstance(node, kinds.Input) and not node.inputs:
                continue
            fields = node.for_each(length)
            _check_rank(node, fields)
            inputs = tuple(known[name].name for name in node.inputs)
            name = free_name(self.path if node is result else node.name, self.lowering.nodes)
            node_for_each = dataclasses.replace(
                node, name=name, inputs=inputs, shape=(length, *node.shape), **fields
            )
            known[node.name] = self.lowering.nodes[name] = node_for_each
            self.emitted.append(name)
        return known[result.name]


def _stays_a_number(node):
    return isinstance(node, kinds.Activation) and not node.becomes_spiking


def _check_rank(node, fields):
    """Refuse windows that no Keras layer has."""
    is_causal = isinstance(node, kinds.Affine) and node.window and node.padding == "causal"
    if len(fields.get("strides", ())) > 3 or is_causal:
        what = "a causal convolution" if is_causal else "windows of three dimensions"
        raise Refusal(f"{what} for each step", "apply the layer without TimeDistributed")
