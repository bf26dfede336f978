"""Sums over axes in the notation of `einsum`, as nodes; arguments as in `common.py`."""

import math

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal

__all__ = ["einsum"]


def einsum(equation, x, kernel, emit):
    """Emit a sum over axes that an input and a constant share, in the notation of `numpy.einsum`."""
    inputs, weights, outputs = _letters(equation, len(x.shape) + 1, kernel.ndim)
    batch, inputs = inputs[0], inputs[1:]
    summed = [a for a in inputs if a in weights]
    features = [a for a in weights if a not in summed]
    kept = [a for a in inputs if a not in summed]
    is_dense = outputs[:1] == [batch] and batch not in weights and summed
    if not is_dense or sorted(outputs[1:]) != sorted(kept + features) or len(set(inputs)) != len(inputs):
        raise Refusal(f"equation {equation!r}", "use one that sums over all axes shared with the kernel")
    size = dict(zip(inputs, x.shape, strict=True)) | dict(zip(weights, kernel.shape, strict=True))
    y = common.transpose(x, [inputs.index(a) for a in kept + summed], emit, part="transpose")
    y = common.reshape(
        y, [*(size[a] for a in kept), math.prod(size[a] for a in summed)], emit, part="reshape"
    )
    kernel = kernel.transpose([weights.index(a) for a in summed + features])
    kernel = kernel.reshape(y.shape[-1], -1)
    y = emit(kinds.Affine, y, kernel=kernel, bias=np.zeros(kernel.shape[-1], kernel.dtype))
    y = common.reshape(y, [size[a] for a in kept + features], emit, part="reshape")
    return common.transpose(y, [(kept + features).index(a) for a in outputs[1:]], emit, part="transpose")


def _letters(equation, rank, kernel_rank):
    """Return the letters of input, kernel and output of an equation, as lists, without dots."""
    sides = equation.replace(" ", "").replace("->", ",").split(",")
    if len(sides) != 3 or "->" not in equation:
        raise Refusal(f"equation {equation!r}", "use one of the form 'input,kernel->output'")
    inputs, weights, outputs = sides
    free = [a for a in map(chr, range(ord("A"), ord("Z"))) if a not in equation]
    count = rank - len(inputs.replace("...", ""))
    dots = "".join(free[: max(count, 0)])
    inputs, outputs = (list(side.replace("...", dots)) for side in (inputs, outputs))
    if "." in weights or len(inputs) != rank or len(weights) != kernel_rank:
        raise Refusal(f"equation {equation!r}", "use one without dots in the kernel")
    return inputs, list(weights), outputs
