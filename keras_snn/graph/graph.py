"""The graph that nodes form, and names in it."""

import dataclasses
from collections.abc import Mapping

import keras

from keras_snn.graph.nodes import ChannelAffine, Node

__all__ = ["Graph", "free_name"]


def free_name(name, taken):
    """Return `name`, with a number after it if it is `taken`.

    >>> free_name("conv", {"conv", "conv_2"})
    'conv_3'
    """
    free, n = name, 1
    while free in taken:
        n += 1
        free = f"{name}_{n}"
    return free


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which each comes after its inputs.

    Attributes:
        nodes: Node by name.
        inputs: Names of the `Input` nodes, nested as the model takes them.
        outputs: Names of the nodes the model returns, nested as it returns them.
    """

    nodes: Mapping[str, Node]
    inputs: object
    outputs: object

    @property
    def output_names(self):
        return tuple(keras.tree.flatten(self.outputs))

    def users(self):
        """Return, for every node, the names of the nodes that take its value."""
        users = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for name in node.inputs:
                users[name].append(node.name)
        return users

    def weighted_before(self, node):
        """Return the node whose value `node` takes, without a constant that is added to it.

        In front of neurons that is their linear layer, if there is one.
        """
        before = self.nodes[node.inputs[0]]
        adds = isinstance(before, ChannelAffine) and before.only_adds
        return self.nodes[before.inputs[0]] if adds else before

    def with_nodes(self, nodes, renamed=None):
        """Return the graph of these nodes that the outputs need, in order.

        Args:
            nodes: Node by name, in any order.
            renamed: Dict of node names and who takes their place.
        """
        renamed = renamed or {}
        ordered = {}
        outputs = keras.tree.map_structure(lambda name: renamed.get(name, name), self.outputs)
        pending = [*reversed(keras.tree.flatten(outputs)), *reversed(keras.tree.flatten(self.inputs))]
        while pending:
            name = pending[-1]
            node = nodes[name]
            # The node that takes another's place may itself take that one's value.
            inputs = tuple(i if renamed.get(i, i) == name else renamed.get(i, i) for i in node.inputs)
            missing = [i for i in inputs if i not in ordered]
            if missing and name not in ordered:
                pending += reversed(missing)
                continue
            pending.pop()
            if name not in ordered:
                ordered[name] = node if inputs == node.inputs else dataclasses.replace(node, inputs=inputs)
        return Graph(ordered, self.inputs, outputs)
