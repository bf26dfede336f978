"""What neither spikes nor is linear: where it may stand without being in the way of spikes."""

import dataclasses
import math

import keras

from keras_snn.graph import nodes as kinds
from keras_snn.graph.passes import free_output_relus

__all__ = ["computed_once", "in_readout", "of_input", "of_nonspiking", "with_constants"]

# Operations that give a constant of the shape of their input, by the name of their class.
_CONSTANT = {"ZerosLike": keras.ops.zeros_like, "OnesLike": keras.ops.ones_like}

_AS_IT_IS = "or run it as it is with nonspiking='allow'"


def of_nonspiking(graph, callees, *, constant_inputs):
    """Return `(path, reason, way_out)` for all that neurons see and that neither spikes nor is linear.

    What comes before the first neurons and linear layers sees inputs that are the same at every time step, so
    it is computed once; and what follows the last neurons and linear layers acts on the average over time, as
    a softmax does: neither is in the way. Without any neurons all is, but for activations at the output.

    Args:
        graph: A `Graph` of all nodes of a model.
        callees: Class of the layer or operation by path of the call.
        constant_inputs: Whether the inputs are the same at every time step.
    """
    if not any(isinstance(node, kinds.Activation) and node.becomes_spiking for node in graph.nodes.values()):
        free = _at_output(graph)
    else:
        free = in_readout(free_output_relus(graph), callees)
        free |= of_input(graph, callees) if constant_inputs else set()
    found = []
    for node in graph.nodes.values():
        if node.name in free or not _stays(node):
            continue
        if isinstance(node, kinds.Opaque):
            reason, way_out = node.reason, f"{node.way_out}, {_AS_IT_IS}"
        else:
            reason = f"activation={node.function!r} in front of other layers"
            way_out = f"train with activation='relu', {_AS_IT_IS}"
        found.append((node.origins[0], reason, way_out))
    return list({path: (path, *rest) for path, *rest in reversed(found)}.values())[::-1]


def with_constants(graph):
    """Return the graph in which constants of the shape of a value are computed of an input instead.

    Keras computes the mask of a `Concatenate` with `zeros_like` of what neurons send, so that it would look
    as if it changed with the spikes.

    Args:
        graph: A `Graph` whose inputs are the same at every time step.
    """
    found, (source, *_) = {}, map(graph.nodes.get, keras.tree.flatten(graph.inputs))
    for node in graph.nodes.values():
        if isinstance(node, kinds.Opaque) and node.layer_class in _CONSTANT:
            x = keras.Input(source.shape, dtype=source.dtype)
            # The size of the batch is known of a value alone.
            each = keras.ops.reshape(x, (-1, math.prod(source.shape)))[:, :1]
            each = _CONSTANT[node.layer_class](each, dtype=node.model.outputs[0].dtype)
            each = keras.ops.reshape(each, (-1, *(1 for _ in node.shape)))
            model = keras.Model(x, keras.ops.tile(each, (1, *node.shape)), name=node.model.name)
            found[node.name] = dataclasses.replace(node, inputs=(source.name,), model=model, source=None)
    return dataclasses.replace(graph, nodes={**graph.nodes, **found})


def computed_once(graph):
    """Return the graph with relus that are no neurons where they are part of a function of the input.

    They are if no layer with weights comes before them, and what neither spikes nor is linear comes next, as
    in `x / ops.max(ops.abs(x))`.
    """
    without_weights, neurons_before, freed = set(), {}, set()
    for node in graph.nodes.values():
        if not isinstance(node, kinds.Affine) and without_weights.issuperset(node.inputs):
            without_weights.add(node.name)
        before = set().union(*(neurons_before[name] for name in node.inputs))
        if _stays(node) and without_weights.issuperset(before):
            freed |= before
            before = set()
        if isinstance(node, kinds.Activation) and node.becomes_spiking:
            before = {*before, node.name}
        neurons_before[node.name] = before
    if not freed:
        return graph
    nodes = {name: dataclasses.replace(graph.nodes[name], spikes=False) for name in freed}
    return dataclasses.replace(graph, nodes={**graph.nodes, **nodes})


def _stays(node):
    """Whether a node neither spikes nor is linear."""
    if isinstance(node, kinds.Activation):
        return not node.becomes_spiking
    return isinstance(node, kinds.Opaque) and not node.is_linear


def of_input(graph, callees):
    """Return the names of the nodes that neither neurons nor linear layers come before.

    Args:
        graph: A `Graph`.
        callees: As of `of_nonspiking`.
    """
    names = set()
    for node in graph.nodes.values():
        is_opaque = isinstance(node, kinds.Opaque)
        if (is_opaque or not _takes(node, callees)) and names.issuperset(node.inputs):
            names.add(node.name)
    return names


def in_readout(graph, callees):
    """Return the names of the nodes that neither neurons nor layers with matrices come after.

    Args:
        graph: A `Graph`.
        callees: As of `of_nonspiking`.
    """
    users, names = graph.users(), set()
    for node in reversed(graph.nodes.values()):
        if all(name in names and not _takes(graph.nodes[name], callees) for name in users[node.name]):
            names.add(node.name)
    return {name for name in names if not _takes(graph.nodes[name], callees)}


def _at_output(graph):
    """Return the names of the activations after which values are moved at most."""
    users, names = graph.users(), set()
    for node in reversed(graph.nodes.values()):
        if all(
            name in names and isinstance(graph.nodes[name], (kinds.Rearrange, kinds.Concatenate))
            for name in users[node.name]
        ):
            names.add(node.name)
    return {name for name in names if isinstance(graph.nodes[name], kinds.Activation)}


def _takes(node, callees):
    """Whether a node is neurons, or multiplies by a matrix of weights that a layer has."""
    if isinstance(node, kinds.Activation):
        return node.becomes_spiking
    if isinstance(node, kinds.Opaque):
        return any(math.prod(v.shape) > max(v.shape, default=0) for v in node.model.weights)
    # What an operation multiplies by is a constant.
    return isinstance(node, kinds.Affine) and "operation" not in callees.get(node.origins[0], "")
