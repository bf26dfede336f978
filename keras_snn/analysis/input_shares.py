"""What layers with weights take: spikes, what is the same at every step, or numbers."""

import dataclasses
import math

import numpy as np

from keras_snn.analysis.contents import CONSTANT, contents_of
from keras_snn.analysis.fan_out import fan_out
from keras_snn.analysis.parts import source_share
from keras_snn.graph import nodes as kinds
from keras_snn.graph.program import Program

__all__ = ["InputShares", "input_shares"]


@dataclasses.dataclass(frozen=True)
class InputShares:
    """Multiply-adds of the weights of a layer, by what they take.

    Attributes:
        spikes: Those that take spikes: they are additions, where and when a spike comes.
        constants: Those that take what is the same at every step: they are done once.
        numbers: Those that take other numbers: they are multiplications at every step.
        hint: How it would be spikes instead of numbers; empty where there are none.
    """

    spikes: int = 0
    constants: int = 0
    numbers: int = 0
    hint: str = ""

    @property
    def total(self) -> int:
        """All of them."""
        return self.spikes + self.constants + self.numbers

    def __str__(self):
        """Return what is taken in words, with the shares if there are several.

        >>> str(InputShares(spikes=3, numbers=1)), str(InputShares(constants=2))
        ('75 % spikes, 25 % numbers', 'constants')
        """
        found = {name: getattr(self, name) for name in ("spikes", "constants", "numbers")}
        found = {name: count for name, count in found.items() if count}
        if len(found) < 2:
            return "".join(found)
        return ", ".join(f"{100 * count / self.total:.0f} % {name}" for name, count in found.items())

    def __add__(self, other):
        counts = (getattr(self, name) + getattr(other, name) for name in ("spikes", "constants", "numbers"))
        return InputShares(*counts, self.hint or other.hint)


def input_shares(program: Program) -> dict[str, InputShares]:
    """Return the `InputShares` of every layer of the source network with weights, by its path."""
    graph, codes, found = program.graph, contents_of(program).codes, {}
    for node in graph.nodes.values():
        if isinstance(node, kinds.Affine) and node.origins:
            shares = _of_node(node, graph, codes[node.inputs[0]])
            if shares.numbers:
                hint = _hint(graph, codes, node)
                shares = dataclasses.replace(shares, hint=hint)
            found[node.origins[0]] = found.get(node.origins[0], InputShares()) + shares
    return found


def _of_node(node, graph, code):
    shape = graph.nodes[node.inputs[0]].shape
    share = source_share(node, graph, padded=not code.ndim)
    if code.ndim:
        reached, code = fan_out(node, shape, zeros=True), np.broadcast_to(code, shape)
    else:
        reached = np.array(math.prod(node.shape) * math.prod(node.kernel.shape[:-1]))
    is_spike, is_constant = code >= 0, code == CONSTANT
    return InputShares(
        *(round(int(reached[of].sum()) * share) for of in (is_spike, is_constant, ~(is_spike | is_constant)))
    )


def _hint(graph, codes, layer):
    """Return how a layer would get spikes instead of what is partly numbers."""
    pending = list(layer.inputs)
    while pending:
        node = graph.nodes[pending.pop()]
        origin = node.origins[0] if node.origins else node.name
        if not _is_number(codes[node.name]):
            continue
        if isinstance(node, (kinds.Opaque, kinds.Activation)):
            return f"'{origin}' does not spike"
        if isinstance(node, kinds.Pool) and node.function == "average":
            return f"put the relu after '{origin}', which averages, instead of before it"
        if isinstance(node, kinds.Add):
            return f"put a relu after the sum '{origin}'"
        if isinstance(node, kinds.Affine) and origin == layer.origins[0]:
            return "make it two layers, with a relu between them"
        if isinstance(node, kinds.Affine):
            return f"put a relu after '{origin}', whose output is no spikes"
        pending += node.inputs
    return "put a relu in front of it"


def _is_number(code):
    return bool(np.any((code < 0) & (code != CONSTANT)))
