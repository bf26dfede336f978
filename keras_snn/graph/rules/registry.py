"""Registry of the lowering rules, by layer class. The rules are in the modules beside it, by family."""

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import keras

__all__ = [
    "Example",
    "LoweringRule",
    "Refusal",
    "operation",
    "register_named",
    "register_rule",
    "rule",
    "rule_for",
    "rules",
    "supported_layers",
    "table",
]


class Refusal(Exception):  # noqa: N818 - part of an UnsupportedLayerError, never seen on its own
    """A layer, or an option of it, that has no place in a spiking network.

    Args:
        reason: What is in the way.
        way_out: What the user can do instead.
        may_stay: Whether `nonspiking="allow"` may run the layer as it is.
    """

    def __init__(self, reason, way_out, *, may_stay=True):
        super().__init__(reason, way_out)
        self.reason, self.way_out, self.may_stay = reason, way_out, may_stay


@dataclasses.dataclass(frozen=True)
class Example:
    """A use of a layer to test its rule on.

    Attributes:
        make: Function without arguments that returns the layer, or another function of its inputs.
        shapes: Shape of each input, without the batch axis.
    """

    make: object
    shapes: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class LoweringRule:
    """How the layers of one class become nodes of a graph, with examples.

    Attributes:
        layer_class: The class; or its name, if it is a class of Keras without a public name.
        lower: The function that emits the nodes.
        examples: `Example`s.
        group: Heading in the table of what converts; `None` if the rule always refuses.
    """

    layer_class: type | str
    lower: object
    examples: tuple[Example, ...]
    group: str | None

    @property
    def name(self):
        """Name to show: that of a layer class, or `ops.name` for an operation of Keras."""
        name = self.layer_class if isinstance(self.layer_class, str) else self.layer_class.__name__
        return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower() if name.startswith("ops.") else name


_RULES = {}


def register_rule(
    layer_class: type[keras.layers.Layer],
    lower: Callable[..., Any],
    examples: Iterable[Example] = (),
    *,
    group: str = "Own layers",
) -> None:
    """Teach the converter a Keras layer.

    Args:
        layer_class: The class; a subclass needs a rule of its own.
        lower: Function `(layer, *inputs, emit) -> node`. `emit(kind, *inputs, **fields)` adds
            a node and returns it; `inputs` and the result are nodes of `keras_snn.graph.nodes`.
            See docs/adding_a_layer.md.
        examples: `Example`s for the tests.
        group: Heading in the table of what converts.

    Raises:
        TypeError: If `layer_class` is not a class.
    """
    if not isinstance(layer_class, type):
        raise TypeError(f"`layer_class` must be a class. Received: layer_class={layer_class!r}.")
    register_named(layer_class, lower, examples, group=group)


def register_named(layer_class, lower, examples=(), *, group):
    """Register a rule as `register_rule` does, or for the name of a class that Keras does not publish."""
    _RULES[layer_class] = LoweringRule(layer_class, lower, tuple(examples), group)


def rule(group, layer_class, *examples):
    """Return a decorator that registers a function as the rule for a class.

    Args:
        group: Heading in the table of what converts.
        layer_class: The class, or its name if Keras does not publish it.
        *examples: Uses of the layer as `(make, shape, …)`: see `Example`.
    """

    def decorate(lower):
        register_named(
            layer_class, lower, [Example(make, tuple(shapes)) for make, *shapes in examples], group=group
        )
        return lower

    return decorate


def operation(class_name, *examples):
    """Return a decorator that registers a function as the rule for a class of operations of Keras.

    Args:
        class_name: Name of the class; Keras publishes none of them.
        *examples: Uses of the operation as `(function, shape, …)`.
    """
    made = [((lambda function=function: function), *shapes) for function, *shapes in examples]
    return rule("keras.ops and operators", f"ops.{class_name}", *made)


def rules():
    """Return all rules, in the order in which they were registered."""
    return tuple(_RULES.values())


def rule_for(layer):
    """Return the rule for a layer or operation, or `None`."""
    kind = type(layer)
    if kind in _RULES or not _is_of_keras(kind):
        return _RULES.get(kind)
    is_layer = isinstance(layer, keras.layers.Layer)
    return _RULES.get(kind.__name__ if is_layer else f"ops.{kind.__name__}")


def _is_of_keras(kind):
    """Whether a class is what a module of Keras has under its name."""
    module = sys.modules.get(kind.__module__) if kind.__module__.startswith("keras.") else None
    return getattr(module, kind.__name__, None) is kind


def supported_layers() -> tuple[str, ...]:
    """Return the names of the Keras layers and operations that convert, sorted, each once."""
    return tuple(sorted({known.name for known in rules() if known.group is not None}))


# What a layer with weights gets from those of a group, if these get spikes.
_GIVES = {
    "Activations": "spikes",
    "At the output": "",
    "Linear": "spikes after a relu, or where one map of two or a relay takes fewer operations; else numbers",
    "Normalization and scaling": "spikes: folded into weights",
    "Pooling": "spikes of maxima, or of averages that relays send; average before a relu where you can",
    "Moving values": "spikes; numbers of interpolation, but where one map or a relay takes fewer operations",
    "Merging": "spikes; numbers of some sums, but where a relay takes fewer operations",
    "Acts in training only": "spikes",
}


def table():
    """Return what converts as a Markdown table, a row for each group of rules."""
    groups = {}
    for known in rules():
        if known.group is not None:
            # Conv1D, Conv2D and Conv3D become Conv1D/2D/3D.
            stem, dimension, end = re.fullmatch(r"(.*?)([123]D)?((?<=D)Transpose)?", known.name).groups()
            dimensions = groups.setdefault(known.group, {}).setdefault((stem, end or ""), [])
            dimensions += [dimension] if dimension else []
    lines = ["| | | what weights after them get |", "| --- | --- | --- |"]
    # Operations last, wherever they were registered.
    for group, names in sorted(groups.items(), key=lambda item: item[0].startswith("keras.ops")):
        shown = (f"`{stem}{'/'.join(dimensions)}{end}`" for (stem, end), dimensions in names.items())
        lines.append(f"| {group} | {', '.join(shown)} | {_GIVES.get(group, 'by what is inside')} |")
    return "\n".join(lines)
