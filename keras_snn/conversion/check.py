"""The dry run of a conversion: what would become of every layer."""

import dataclasses
import textwrap

from keras_snn._text import show_table
from keras_snn._validation import check_choice
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import inspect_model

__all__ = ["CheckReport", "Verdict", "check"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What would become of one call of a layer.

    Attributes:
        path: Name of the layer, behind those of the models that it is in.
        layer_class: Its class.
        becomes: `"neurons"`, `"linear"`, `"max pooling"`, `"read-out"`, `"nothing"` (it acts in training
            only), `"non-spiking"`, or `"?"` if it cannot be converted.
        reason, way_out: Why it cannot be converted or does not spike, and what to do instead.
    """

    path: str
    layer_class: str
    becomes: str
    reason: str = ""
    way_out: str = ""


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The verdicts on all layers of a model, in order; `print` it for a table."""

    verdicts: tuple[Verdict, ...]
    nonspiking: str = "error"

    @property
    def converts(self):
        """Whether `convert` would accept the model."""
        becomes = {v.becomes for v in self.verdicts}
        return "?" not in becomes and ("neurons" in becomes or self.nonspiking == "allow")

    def __str__(self):
        return self.show()

    def show(self, width=None):
        """Return the report as text, in lines of at most `width` characters as far as that goes."""
        rows = [("layer", "class", "becomes")]
        rows += [(v.path, v.layer_class, v.becomes) for v in self.verdicts]
        notes = [f"'{v.path}': {v.reason}. Instead: {v.way_out}." for v in self.verdicts if v.reason]
        if not any(v.becomes == "neurons" for v in self.verdicts):
            notes.append("Nothing would spike. Train with activation='relu'.")
        if width is not None:
            notes = [textwrap.fill(note, width) for note in notes]
        return "\n".join([show_table(rows, width=width), *([""] if notes else []), *notes])


def check(model, *, nonspiking="error"):
    """Say what `convert` would make of every layer of a model, without converting it.

    Args:
        model: A built Sequential or Functional model. Not changed.
        nonspiking: As in `convert`.

    Returns:
        A `CheckReport`.

    Raises:
        TypeError, ValueError: If `model` is no built Sequential or Functional model.
    """
    check_choice("nonspiking", nonspiking, ("error", "allow"))
    graph, callees, obstacles = inspect_model(model, nonspiking=nonspiking)
    refused = {path: rest for path, *rest in obstacles}
    parts = {path: [] for path in callees}
    users = graph.users()
    for node in graph.nodes.values():
        for path in node.origins[:1]:
            parts.setdefault(path, []).append(node)
    verdicts = [
        Verdict(path, layer_class, "?", reason, way_out)
        for path, (layer_class, reason, way_out) in refused.items()
        if path not in callees
    ]
    for path, layer_class in callees.items():
        if path in refused:
            verdicts.append(Verdict(path, layer_class, "?", *refused[path][1:]))
        else:
            verdicts.append(Verdict(path, layer_class, _becomes(parts[path], users)))
    return CheckReport(tuple(verdicts), nonspiking)


def _becomes(nodes, users):
    """Return what the nodes of one layer become together."""
    activations = [node for node in nodes if isinstance(node, kinds.Activation)]
    if any(node.becomes_spiking for node in activations):
        return "neurons"
    if any(isinstance(node, kinds.Opaque) for node in nodes):
        return "non-spiking"
    if activations:
        return "non-spiking" if any(users[node.name] for node in activations) else "read-out"
    if any(isinstance(node, kinds.Pool) and node.function == "max" for node in nodes):
        return "max pooling"
    return "linear" if nodes else "nothing"
