"""Operations of `keras.ops` and operators that move, repeat, drop or pad values, as nodes."""

import math

import numpy as np
from keras import ops

from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, operation
from keras_snn.graph.rules.taking import take_along


@operation(
    "Reshape",
    (lambda v: ops.reshape(v, (-1, 2, 6)), (4, 3)),
    (lambda v: ops.reshape(v, (-1, 12)), (4, 3)),
)
def lower_reshape(op, x, *, emit):
    batch, *shape = op.newshape
    size = math.prod(x.shape)
    if -1 in shape and batch in (None, -1):
        shape[shape.index(-1)] = size // max(math.prod(n for n in shape if n != -1), 1)
    if batch not in (None, -1) or math.prod(shape) != size:
        raise Refusal("moves values from sample to sample", "keep the batch axis", may_stay=False)
    return common.reshape(x, shape, emit)


@operation("Transpose", (lambda v: ops.transpose(v, (0, 3, 1, 2)), (4, 5, 3)))
def lower_transpose(op, x, *, emit):
    order = op.axes or tuple(reversed(range(len(x.shape) + 1)))
    if order[0] != 0:
        raise Refusal("moves the batch axis", "keep it in front", may_stay=False)
    return common.transpose(x, [common.axis_of(axis, x) for axis in order[1:]], emit)


@operation("Swapaxes", (lambda v: ops.swapaxes(v, 1, -1), (4, 5, 3)))
def lower_swapaxes(op, x, *, emit):
    order = list(range(len(x.shape)))
    first, second = (common.axis_of(axis, x) for axis in (op.axis1, op.axis2))
    order[first], order[second] = second, first
    return common.transpose(x, order, emit)


@operation("Moveaxis", (lambda v: ops.moveaxis(v, 3, 1), (4, 5, 3)))
def lower_moveaxis(op, x, *, emit):
    pairs = zip(common.axes_of(op.destination, x), common.axes_of(op.source, x), strict=True)
    moved = dict(pairs)
    rest = iter(axis for axis in range(len(x.shape)) if axis not in moved.values())
    return common.transpose(x, [moved[i] if i in moved else next(rest) for i in range(len(x.shape))], emit)


@operation(
    "ExpandDims", (lambda v: ops.expand_dims(v, -1), (4, 3)), (lambda v: ops.expand_dims(v, 1), (4, 3))
)
def lower_expand_dims(op, x, *, emit):
    if not isinstance(op.axis, int):
        # Found by probing.
        raise Refusal(f"axis={op.axis!r}", "add one axis at a time")
    axis = op.axis if op.axis >= 0 else op.axis + len(x.shape) + 2
    if axis == 0:
        raise Refusal("an axis before the batch axis", "keep the batch axis in front", may_stay=False)
    return common.reshape(x, (*x.shape[: axis - 1], 1, *x.shape[axis - 1 :]), emit)


@operation("Squeeze", (lambda v: ops.squeeze(v, (1, 2)), (1, 1, 3)), (lambda v: ops.squeeze(v, -1), (4, 1)))
def lower_squeeze(op, x, *, emit):
    axes = [i for i, n in enumerate(x.shape) if n == 1] if op.axis is None else common.axes_of(op.axis, x)
    return common.reshape(x, [n for i, n in enumerate(x.shape) if i not in axes], emit)


@operation(
    "GetItem",
    (lambda v: v[:, 1:, ::2], (4, 3)),
    (lambda v: v[:, -1], (4, 3)),
    (lambda v: v[..., None, 1], (4, 3)),
    (lambda v: v[:, ::-1, :0:-2], (4, 3)),
)
def lower_get_item(op, x, key, *, emit):
    key = list(key) if isinstance(key, tuple) else [key]
    if not all(k is None or k is Ellipsis or isinstance(k, (int, slice)) for k in key):
        raise Refusal("an index that is no number and no slice", "use slices")
    taken = sum(k is not None and k is not Ellipsis for k in key)
    dots = [slice(None)] * (len(x.shape) + 1 - taken)
    at = key.index(Ellipsis) if Ellipsis in key else len(key)
    key = [*key[:at], *dots, *key[at + 1 :]]
    batch, key = key[0], key[1:]
    if batch != slice(None):
        raise Refusal("selects samples", "index the other axes", may_stay=False)
    bounds, shape, sizes = [], [], iter(x.shape)
    for k in key:
        if k is None:
            shape.append(1)
            continue
        n = next(sizes)
        if isinstance(k, slice) and (k.step or 1) < 0:
            x = take_along(x, len(bounds), range(n)[k], emit)
            n, k = x.shape[len(bounds)], slice(None)
        begin, stop, step = k.indices(n) if isinstance(k, slice) else (k % n, k % n + 1, 1)
        bounds.append((begin, stop, step))
        shape += [len(range(begin, stop, step))] if isinstance(k, slice) else []
    return common.reshape(common.cut(x, bounds, emit), shape, emit)


def lower_split(op, x, *, emit):
    axis = common.axis_of(op.axis, x)
    size, sections = x.shape[axis], op.indices_or_sections
    if isinstance(sections, (tuple, list)):
        ends = [*sections, size]
    else:
        each, rest = divmod(size, sections)
        ends = [each * i + min(i, rest) for i in range(1, sections + 1)]
    starts = [0, *ends[:-1]]
    whole = [(None, None, None)] * axis
    return [common.cut(x, [*whole, (a, b, None)], emit) for a, b in zip(starts, ends, strict=True)]


operation(
    "Split",
    (lambda v: ops.split(v, 2, axis=-1)[1], (3, 4)),
    (lambda v: ops.split(v, [1, 3], axis=1)[1], (4, 3)),
)(lower_split)
operation("ArraySplit", (lambda v: ops.array_split(v, 3, axis=1)[1], (7, 3)))(lower_split)


# Keras runs it in own code alone, where the size of the batch is known.
@operation("BroadcastTo")
def lower_broadcast_to(op, x, *, emit):
    _, *shape = op.shape
    if len(shape) != len(x.shape):
        raise Refusal(f"a value of {x.shape} as one of {tuple(shape)}", "use ops.expand_dims", may_stay=False)
    return common.repeat(x, [n // m if m == 1 else 1 for n, m in zip(shape, x.shape, strict=True)], emit)


@operation(
    "Pad",
    (lambda v: ops.pad(v, ((0, 0), (1, 2), (0, 3))), (4, 3)),
    (lambda v: ops.pad(v, ((0, 0), (1, 2), (0, 1)), mode="reflect"), (4, 3)),
    (lambda v: ops.pad(v, ((0, 0), (1, 2), (0, 3)), constant_values=0.7), (4, 3)),
)
def lower_pad(op, x, *, emit, constant_values=None):
    batch, *widths = op.pad_width
    if tuple(batch) != (0, 0):
        raise Refusal("pads the batch axis", "pad the others", may_stay=False)
    if op.mode != "constant":
        for axis, (n, width) in enumerate(zip(x.shape, widths, strict=True)):
            if any(width):
                x = take_along(x, axis, np.pad(np.arange(n), width, mode=op.mode), emit)
        return x
    y = common.pad(x, widths, emit)
    if constant_values is None or not np.any(constant_values):
        return y
    if np.ndim(constant_values):
        raise Refusal("several constants", "pad with one number")
    around = np.pad(np.zeros(x.shape), widths, constant_values=float(constant_values))
    return common.shift(y, around, emit)


@operation("Repeat", (lambda v: ops.repeat(v, 2, axis=1), (4, 3)))
def lower_repeat(op, x, *, emit):
    if not isinstance(op.repeats, int):
        raise Refusal(f"repeats={op.repeats!r}", "use one number")
    axis = common.axis_of(op.axis or 0, x)
    return common.repeat(x, [op.repeats if i == axis else 1 for i in range(len(x.shape))], emit)


@operation(
    "Concatenate",
    (lambda v: ops.concatenate(v, axis=1), (4, 3), (2, 3)),
    (lambda v: ops.concatenate(v, axis=-1), (4, 3), (4, 2)),
)
def lower_concatenate(op, inputs, *, emit):
    return common.concatenate(inputs, op.axis, emit)


@operation(
    "Stack", (lambda v: ops.stack(v, axis=1), (4, 3), (4, 3)), (lambda v: ops.stack(v, axis=-1), (4,), (4,))
)
def lower_stack(op, inputs, *, emit):
    common.need_nodes(inputs)
    rank = len(inputs[0].shape) + 2
    axis = op.axis if op.axis >= 0 else op.axis + rank
    if axis == 0:
        raise Refusal("an axis before the batch axis", "keep the batch axis in front", may_stay=False)
    shape = inputs[0].shape
    shape = (*shape[: axis - 1], 1, *shape[axis - 1 :])
    parts = [common.reshape(x, shape, emit, part="part") for x in inputs]
    return common.concatenate(parts, axis, emit)
