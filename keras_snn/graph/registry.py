"""Which rule says which Keras layer. The rules themselves are in `rules.py`."""

import dataclasses

__all__ = ["Example", "Refusal", "Rule", "register_rule", "rule_for", "rules", "supported_layers"]


class Refusal(Exception):  # noqa: N818 - part of an UnsupportedLayerError, never seen on its own
    """A layer, or an option of it, that has no place in a spiking network.

    Args:
        reason: What is in the way.
        way_out: What the user can do instead.
    """

    def __init__(self, reason, way_out):
        super().__init__(reason, way_out)
        self.reason, self.way_out = reason, way_out


@dataclasses.dataclass(frozen=True)
class Example:
    """A use of a layer to test its rule on.

    Attributes:
        make: Function without arguments that returns the layer.
        shapes: Shape of each input, without the batch axis.
    """

    make: object
    shapes: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the layers of one class are said in nodes, with examples."""

    layer_class: type
    lower: object
    examples: tuple[Example, ...]


_RULES = {}


def register_rule(layer_class, lower, examples=()):
    """Teach the converter a Keras layer.

    Args:
        layer_class: The class; a subclass needs a rule of its own.
        lower: Function `(layer, *inputs, emit) -> node`. `emit(kind, *inputs, **fields)` adds
            a node and returns it; `inputs` and the result are nodes of `keras_snn.graph.nodes`.
        examples: `Example`s for the tests.

    Raises:
        TypeError: If `layer_class` is not a class.
    """
    if not isinstance(layer_class, type):
        raise TypeError(f"`layer_class` must be a class. Received: layer_class={layer_class!r}.")
    _RULES[layer_class] = Rule(layer_class, lower, tuple(examples))


def rules():
    """Return all rules, in the order in which they were registered."""
    return tuple(_RULES.values())


def rule_for(layer):
    """Return the rule for a layer or operation, or `None`."""
    return _RULES.get(type(layer))


def supported_layers():
    """Return the names of the Keras layers that convert, sorted."""
    return sorted(rule.layer_class.__name__ for rule in rules())
