"""What a rule for a layer of your own is made of: see docs/adding_a_layer.md.

A rule is a function `lower(layer, *inputs, emit)`. It emits nodes, returns the last of them, and refuses with
`Refusal` what has no place in a spiking network. `keras_snn.register_rule` makes it known to the converter.
"""

from keras_snn.graph.lowering import lower
from keras_snn.graph.nodes import (
    Activation,
    Add,
    Affine,
    ChannelAffine,
    Concatenate,
    Pool,
    Rearrange,
)
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.rules.common import leaky_relu
from keras_snn.graph.rules.registry import Example, Refusal, register_rule

__all__ = [
    "Activation",
    "Add",
    "Affine",
    "ChannelAffine",
    "Concatenate",
    "Example",
    "Pool",
    "Rearrange",
    "Refusal",
    "evaluate",
    "leaky_relu",
    "lower",
    "register_rule",
]
