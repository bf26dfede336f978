"""Python code in a layer: what it does with `keras.ops` is recorded, and converts by the rules of those."""

import contextlib

from keras import layers, ops

from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, rule


def _weighted_difference(values, weight):
    return ops.relu(values[0] - weight * values[1])


@rule(
    "Around other layers",
    layers.Lambda,
    (lambda: layers.Lambda(lambda v: v / 127.5 - 1), (4, 3)),
    (lambda: layers.Lambda(lambda v: ops.transpose(v, (0, 2, 1))[:, -1]), (4, 3)),
    (lambda: layers.Lambda(_weighted_difference, arguments={"weight": 0.5}), (4,), (4,)),
)
def lower_lambda(layer, *inputs, emit, call):
    if not all(map(common.is_node, inputs)):
        raise Refusal("a constant beside activations", "give activations only")
    try:
        return emit.code(layer, *call)
    except Refusal as refusal:
        way_out = "leave out what is random, and what mixes samples"
        raise Refusal(refusal.reason, way_out, may_stay=False) from refusal
    except Exception as error:
        if len(inputs) == 1:
            with contextlib.suppress(Refusal):
                return common.activation(layer.call, *inputs, emit)
        way_out = "write it with keras.ops or as a layer, and teach that with keras_snn.register_rule"
        raise Refusal("Python code that is not made of keras.ops", way_out) from error
