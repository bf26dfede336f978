"""Parts without a rule that are linear in what changes from step to step, where the rest is constant.

A masked average, a product with a function of the input, a sum over the neighbours in a graph that is given
as an input: the sum of their outputs over time is right whatever spikes come when.
"""

import dataclasses

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.probing import is_affine

__all__ = ["with_linear_parts"]

# Random constants to try; what divides by them may have no value for some.
_TRIES = 4


def with_linear_parts(graph):
    """Return the graph with `Opaque(is_linear=True)` for parts that are affine in all that neurons send.

    It is found out on random numbers, as of `keras_snn.graph.probing`. Parts that see no constants are not
    asked: those that are affine are affine maps already.

    Args:
        graph: A `Graph` of all nodes of a model whose inputs are the same at every time step.
    """
    constant, found = set(), {}
    for node in graph.nodes.values():
        becomes_spiking = isinstance(node, kinds.Activation) and node.becomes_spiking
        if constant.issuperset(node.inputs) and not becomes_spiking:
            constant.add(node.name)
        elif isinstance(node, kinds.Opaque) and constant.intersection(node.inputs):
            varying = [name not in constant for name in node.inputs]
            found[node.name] = dataclasses.replace(node, is_linear=_is_linear(node, varying))
    return dataclasses.replace(graph, nodes={**graph.nodes, **found}) if found else graph


def _is_linear(node, varying):
    """Whether a part is affine in some of its inputs, for any values of the others."""
    given = list(zip(node.model.inputs, varying, strict=True))
    if any("float" not in x.dtype for x, varies in given if varies):
        return False
    rng = np.random.default_rng(0)
    answers = [_for_constants(node.model, given, rng) for _ in range(_TRIES)]
    return any(answers) and False not in answers


def _for_constants(model, given, rng):
    """Whether a part is affine in some inputs for random others; `None` where it has no value for them."""
    shapes = [x.shape[1:] for x, varies in given if varies]
    sizes = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    others = [None if varies else _drawn(x, rng) for x, varies in given]

    def function(flat):
        parts = iter(zip(np.split(flat, sizes[:-1], axis=1), shapes, strict=True))
        values = []
        for other, (x, _) in zip(others, given, strict=True):
            if other is None:
                part, shape = next(parts)
                values.append(part.reshape(-1, *shape).astype(x.dtype))
            else:
                values.append(np.repeat(other, len(flat), axis=0))
        y = model(values if len(values) > 1 else values[0], training=False)
        return keras.ops.convert_to_numpy(y).astype("float64")

    try:
        if not np.isfinite(function(np.zeros((1, sizes[-1])))).all():
            return None
    except Exception:
        # A layer may refuse some numbers, as those that are no indices.
        return None
    return is_affine(function, (sizes[-1],))


def _drawn(x, rng):
    """Return one random value of an input of a part."""
    shape = (1, *x.shape[1:])
    if "float" in x.dtype:
        return rng.normal(size=shape).astype(x.dtype)
    return rng.integers(0, 2, size=shape).astype(x.dtype)
