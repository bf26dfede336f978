"""What operations of `keras.ops` and of operators (`x + y`, `x * 0.5`, `x[:, 1:]`) mean in nodes.

Rules as in `rules.py`, for the operations that a functional model records. Keras has no
public names for their classes, so a rule goes by the name of the class. It gets the
arguments of the call with nodes in the place of tensors.
"""

import math
import re

import numpy as np
from keras import activations, ops

from keras_snn.graph import nodes as kinds
from keras_snn.graph import words
from keras_snn.graph.registry import Example, Refusal, register_named


def _operation(class_name, *examples):
    """Register the decorated function for a class of operations, with examples `(function, shape, …)`."""

    def decorate(lower):
        found = [Example(lambda f=f: f, tuple(shapes)) for f, *shapes in examples]
        register_named(f"ops.{class_name}", lower, found, group="keras.ops and operators")
        return lower

    return decorate


def _axes(axis, x):
    """Return axes of Keras as axes of the value of `x`."""
    if axis is None:
        return [words.axis_of(0, x)]
    return [words.axis_of(a, x) for a in (axis if isinstance(axis, (tuple, list)) else [axis])]


def _each(value, x):
    """Return an option of pooling or convolution as one number per spatial axis."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * (len(x.shape) - 1)


def _need_node(x, reason):
    if not words.is_node(x):
        raise Refusal(reason, "put the activation first and the constant second")


def _need_constant(x, reason):
    if words.is_node(x):
        raise Refusal(reason, "use a constant")
    x = np.asarray(ops.convert_to_numpy(x))
    # A matrix of integers would round the scales that are folded into it.
    return x if x.dtype.kind == "f" else x.astype("float32")


# --- Arithmetic ----------------------------------------------------------------


@_operation(
    "Add",
    (lambda v: v[0] + v[1], (4, 3), (4, 3)),
    (lambda v: 0.5 + v, (4, 3)),
    (lambda v: ops.add(v, np.arange(3.0, dtype="float32")), (4, 3)),
    (lambda v: v[0] + v[1], (4, 5, 3), (1, 1, 3)),
)
def _(operation, x, y, *, emit):
    return words.add([x, y], emit)


@_operation(
    "Subtract",
    (lambda v: v[0] - v[1], (4, 3), (4, 3)),
    (lambda v: 1.0 - v, (4, 3)),
    (lambda v: v - 0.25, (4, 3)),
)
def _(operation, x, y, *, emit):
    if words.is_node(x):
        return words.subtract(x, y, emit)
    return words.add([words.scale(y, -1.0, emit, part="negated"), x], emit)


@_operation(
    "Multiply",
    (lambda v: v * 0.5, (4, 3)),
    (lambda v: v * np.array([[[0.5, -2.0, 1.0]]], "float32"), (4, 3)),
    (lambda v: v[0] * v[1], (4, 3), (4, 3)),
)
def _(operation, x, y, *, emit):
    return words.multiply(x, y, emit)


def _divide(operation, x, y, *, emit):
    _need_node(x, "divides by an activation")
    return words.multiply(x, 1 / _need_constant(y, "divides by an activation").astype("float64"), emit)


_operation(
    "TrueDivide",
    (lambda v: v / 4, (4, 3)),
    (lambda v: v / np.array([2.0, 0.5, 3.0], "float32"), (4, 3)),
)(_divide)
_operation("Divide", (lambda v: ops.divide(v, 4.0), (4, 3)))(_divide)
_operation("Negative", (lambda v: -v, (4, 3)))(lambda operation, x, *, emit: words.scale(x, -1.0, emit))
for _name in ("Absolute", "Abs"):
    _function = abs if _name == "Absolute" else ops.abs
    _operation(_name, (_function, (4, 3)))(lambda operation, x, *, emit: words.absolute(x, emit))
_operation(
    "Maximum",
    (lambda v: ops.maximum(v, 0.0), (4, 3)),
    (lambda v: ops.maximum(0.3, v), (4, 3)),
    (lambda v: ops.maximum(v[0], v[1]), (4, 3), (4, 3)),
)(lambda operation, x, y, *, emit: words.maximum(x, y, emit))
_operation(
    "Minimum",
    (lambda v: ops.minimum(v, 0.4), (4, 3)),
    (lambda v: ops.minimum(v[0], v[1]), (4, 5, 3), (1, 1, 3)),
)(lambda operation, x, y, *, emit: words.minimum(x, y, emit))


@_operation("Clip", (lambda v: ops.clip(v, 0, 6), (4, 3)), (lambda v: ops.clip(v, -0.3, 0.6), (4, 3)))
def _(operation, x, *, emit):
    return words.clip(x, operation.x_min, operation.x_max, emit)


# --- Activations ---------------------------------------------------------------


def _relu(operation, x, *, emit):
    if operation.threshold:
        raise Refusal(f"threshold={float(operation.threshold):g}, where it jumps", "use threshold=0")
    limit = math.inf if operation.max_value is None else float(operation.max_value)
    return words.leaky_relu(x, float(operation.negative_slope), emit, max_value=limit)


# What keras.activations.relu records.
_operation(
    "ReLU",
    (lambda v: activations.relu(v, max_value=0.5), (4, 3)),
    (lambda v: activations.relu(v, negative_slope=0.2), (4, 3)),
)(_relu)
_operation("Relu", (ops.relu, (4, 3)))(lambda operation, x, *, emit: words.relu(x, emit))
_operation("Relu6", (lambda v: ops.relu6(8 * v), (4, 3)))(
    lambda operation, x, *, emit: words.relu(x, emit, max_value=6.0)
)
_operation("LeakyRelu", (lambda v: ops.leaky_relu(v, 0.1), (4, 3)))(
    lambda operation, x, *, emit: words.leaky_relu(x, float(operation.negative_slope), emit)
)
for _name in ("HardSigmoid", "HardTanh", "Sigmoid", "Silu", "Softplus", "Tanh"):
    _keras_name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _name).lower()
    _operation(_name, (getattr(ops, _keras_name), (4, 3)))(
        lambda operation, x, *, emit, name=_keras_name: words.activation(name, x, emit)
    )


_operation("Sign", (ops.sign, (4, 3)))(
    lambda operation, x, *, emit: emit(kinds.Activation, x, function="sign", at_zero=0.0)
)


def _heaviside(operation, x, at_zero, *, emit):
    _need_node(x, "a constant before an activation")
    at_zero = np.unique(_need_constant(at_zero, "a value at 0 that is an activation"))
    if at_zero.size != 1 or at_zero[0] not in (0, 1):
        raise Refusal("a value at 0 that is neither 0 nor 1", "use 1.0")
    return emit(kinds.Activation, x, function="heaviside", at_zero=float(at_zero[0]))


# Not in the oldest Keras; a number alone fails in those that have it.
_HEAVISIDE = [(lambda v: ops.heaviside(v, np.ones((), "float32")), (4, 3))]
_operation("Heaviside", *(_HEAVISIDE if hasattr(ops, "heaviside") else []))(_heaviside)


@_operation("Softmax", (lambda v: ops.softmax(v, axis=-1), (4, 3)))
def _(operation, x, *, emit):
    if not isinstance(operation.axis, int):
        raise Refusal(f"axis={operation.axis!r}", "use one axis")
    return emit(kinds.Activation, x, function="softmax", axis=words.axis_from_end(operation.axis, x))


# --- Reductions ----------------------------------------------------------------


@_operation(
    "Mean",
    (lambda v: ops.mean(v, axis=(1, 2)), (4, 5, 3)),
    (lambda v: ops.mean(v, axis=-1, keepdims=True), (4, 3)),
    (lambda v: ops.mean(v, axis=2), (4, 5, 3)),
)
def _(operation, x, *, emit):
    return words.reduce(x, _axes(operation.axis, x), operation.keepdims, "average", emit)


@_operation("Sum", (lambda v: ops.sum(v, axis=(1, -1)), (4, 5, 3)))
def _(operation, x, *, emit):
    axes = _axes(operation.axis, x)
    mean = words.reduce(x, axes, operation.keepdims, "average", emit)
    return words.scale(mean, math.prod(x.shape[axis] for axis in axes), emit)


@_operation(
    "Max",
    (lambda v: ops.max(v, axis=(1, 2), keepdims=True), (4, 5, 3)),
    (lambda v: ops.max(v, axis=-1), (4, 3)),
)
def _(operation, x, *, emit):
    if operation.initial is not None:
        raise Refusal("initial=…", "use ops.maximum")
    return words.reduce(x, _axes(operation.axis, x), operation.keepdims, "max", emit)


# --- Linear maps ---------------------------------------------------------------


def _matmul(operation, x, y, *, emit):
    _need_node(x, "a constant times an activation")
    kernel = _need_constant(y, "the product of two activations")
    if kernel.ndim != 2:
        raise Refusal(f"a constant of shape {kernel.shape}", "use a matrix")
    return emit(kinds.Affine, x, kernel=kernel, bias=np.zeros(kernel.shape[-1], kernel.dtype))


_MATRIX = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
_operation(
    "Matmul",
    (lambda v: v @ _MATRIX, (4, 3)),
    (lambda v: v @ np.eye(3, dtype="int32")[[1, 2, 0]], (4, 3)),
    (lambda v: ops.matmul(v, _MATRIX), (3,)),
)(_matmul)
_operation("Dot", (lambda v: ops.dot(v, _MATRIX), (4, 3)))(_matmul)


@_operation("Einsum", (lambda v: ops.einsum("abc,cd->adb", v, _MATRIX), (4, 3)))
def _(operation, *operands, emit):
    if len(operands) != 2:
        raise Refusal(f"einsum of {len(operands)} operands", "use one activation and one constant")
    _need_node(operands[0], "a constant before an activation")
    kernel = _need_constant(operands[1], "the product of two activations")
    return words.einsum(operation.subscripts, operands[0], kernel, emit)


def _windows(function):
    def lower(operation, x, *, emit):
        if operation.data_format == "channels_first":
            raise Refusal("data_format='channels_first'", "use data_format='channels_last'", may_stay=False)
        window = _each(operation.pool_size, x)
        strides = window if operation.strides is None else _each(operation.strides, x)
        return emit(
            kinds.Pool, x, function=function, window=window, strides=strides, padding=operation.padding
        )

    return lower


_operation("AveragePool", (lambda v: ops.average_pool(v, 2, 1, padding="same"), (4, 5, 3)))(
    _windows("average")
)
_operation(
    "MaxPool",
    (lambda v: ops.max_pool(v, (2, 1)), (4, 5, 3)),
    (lambda v: ops.max_pool(v, (2, 1), (1, 2)), (4, 5, 3)),
)(_windows("max"))

_KERNEL = np.random.default_rng(1).normal(size=(2, 3, 3, 4)).astype("float32")


@_operation("Conv", (lambda v: ops.conv(v, _KERNEL, strides=(1, 2), padding="same"), (4, 5, 3)))
def _(operation, x, kernel, *, emit):
    if operation.data_format == "channels_first":
        raise Refusal("data_format='channels_first'", "use data_format='channels_last'", may_stay=False)
    kernel = _need_constant(kernel, "a convolution of two activations")
    return words.convolve(
        x,
        kernel,
        np.zeros(kernel.shape[-1], kernel.dtype),
        emit,
        strides=_each(operation.strides, x),
        dilation=_each(operation.dilation_rate, x),
        padding=operation.padding,
        groups=x.shape[-1] // kernel.shape[-2],
    )


# --- Moving values -------------------------------------------------------------


@_operation(
    "Reshape",
    (lambda v: ops.reshape(v, (-1, 2, 6)), (4, 3)),
    (lambda v: ops.reshape(v, (-1, 12)), (4, 3)),
)
def _(operation, x, *, emit):
    batch, *shape = operation.newshape
    size = math.prod(x.shape)
    if -1 in shape and batch in (None, -1):
        shape[shape.index(-1)] = size // max(math.prod(n for n in shape if n != -1), 1)
    if batch not in (None, -1) or math.prod(shape) != size:
        raise Refusal("moves values from sample to sample", "keep the batch axis", may_stay=False)
    return words.reshape(x, shape, emit)


@_operation("Transpose", (lambda v: ops.transpose(v, (0, 3, 1, 2)), (4, 5, 3)))
def _(operation, x, *, emit):
    order = operation.axes or tuple(reversed(range(len(x.shape) + 1)))
    if order[0] != 0:
        raise Refusal("moves the batch axis", "keep it in front", may_stay=False)
    return words.transpose(x, [words.axis_of(axis, x) for axis in order[1:]], emit)


@_operation("Swapaxes", (lambda v: ops.swapaxes(v, 1, -1), (4, 5, 3)))
def _(operation, x, *, emit):
    order = list(range(len(x.shape)))
    first, second = (words.axis_of(axis, x) for axis in (operation.axis1, operation.axis2))
    order[first], order[second] = second, first
    return words.transpose(x, order, emit)


@_operation("Moveaxis", (lambda v: ops.moveaxis(v, 3, 1), (4, 5, 3)))
def _(operation, x, *, emit):
    pairs = zip(_axes(operation.destination, x), _axes(operation.source, x), strict=True)
    moved = dict(pairs)
    rest = iter(axis for axis in range(len(x.shape)) if axis not in moved.values())
    return words.transpose(x, [moved[i] if i in moved else next(rest) for i in range(len(x.shape))], emit)


@_operation(
    "ExpandDims", (lambda v: ops.expand_dims(v, -1), (4, 3)), (lambda v: ops.expand_dims(v, 1), (4, 3))
)
def _(operation, x, *, emit):
    if not isinstance(operation.axis, int):
        raise Refusal(f"axis={operation.axis!r}", "add one axis at a time")
    axis = operation.axis if operation.axis >= 0 else operation.axis + len(x.shape) + 2
    if axis == 0:
        raise Refusal("an axis before the batch axis", "keep the batch axis in front", may_stay=False)
    return words.reshape(x, (*x.shape[: axis - 1], 1, *x.shape[axis - 1 :]), emit)


@_operation("Squeeze", (lambda v: ops.squeeze(v, (1, 2)), (1, 1, 3)), (lambda v: ops.squeeze(v, -1), (4, 1)))
def _(operation, x, *, emit):
    axes = (
        [i for i, n in enumerate(x.shape) if n == 1] if operation.axis is None else _axes(operation.axis, x)
    )
    return words.reshape(x, [n for i, n in enumerate(x.shape) if i not in axes], emit)


@_operation(
    "GetItem",
    (lambda v: v[:, 1:, ::2], (4, 3)),
    (lambda v: v[:, -1], (4, 3)),
    (lambda v: v[..., None, 1], (4, 3)),
)
def _(operation, x, key, *, emit):
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
            raise Refusal("a slice that runs backwards", "use a positive step")
        begin, stop, step = k.indices(n) if isinstance(k, slice) else (k % n, k % n + 1, 1)
        bounds.append((begin, stop, step))
        shape += [len(range(begin, stop, step))] if isinstance(k, slice) else []
    return words.reshape(words.cut(x, bounds, emit), shape, emit)


@_operation(
    "Split",
    (lambda v: ops.split(v, 2, axis=-1)[1], (3, 4)),
    (lambda v: ops.split(v, [1, 3], axis=1)[1], (4, 3)),
)
def _(operation, x, *, emit):
    axis = words.axis_of(operation.axis, x)
    size, sections = x.shape[axis], operation.indices_or_sections
    ends = list(sections) if isinstance(sections, (tuple, list)) else None
    ends = [size // sections * (i + 1) for i in range(sections)] if ends is None else [*ends, size]
    starts = [0, *ends[:-1]]
    whole = [(None, None, None)] * axis
    return [words.cut(x, [*whole, (a, b, None)], emit) for a, b in zip(starts, ends, strict=True)]


@_operation("Pad", (lambda v: ops.pad(v, ((0, 0), (1, 2), (0, 3))), (4, 3)))
def _(operation, x, *, emit, constant_values=None):
    batch, *widths = operation.pad_width
    if tuple(batch) != (0, 0) or operation.mode != "constant" or constant_values:
        raise Refusal("no padding with zeros behind the batch axis", "pad with zeros")
    return words.pad(x, widths, emit)


@_operation("Repeat", (lambda v: ops.repeat(v, 2, axis=1), (4, 3)))
def _(operation, x, *, emit):
    if not isinstance(operation.repeats, int):
        raise Refusal(f"repeats={operation.repeats!r}", "use one number")
    axis = words.axis_of(operation.axis or 0, x)
    return words.repeat(x, [operation.repeats if i == axis else 1 for i in range(len(x.shape))], emit)


@_operation(
    "Concatenate",
    (lambda v: ops.concatenate(v, axis=1), (4, 3), (2, 3)),
    (lambda v: ops.concatenate(v, axis=-1), (4, 3), (4, 2)),
)
def _(operation, inputs, *, emit):
    return words.concatenate(inputs, operation.axis, emit)


@_operation(
    "Stack", (lambda v: ops.stack(v, axis=1), (4, 3), (4, 3)), (lambda v: ops.stack(v, axis=-1), (4,), (4,))
)
def _(operation, inputs, *, emit):
    words.need_nodes(inputs)
    rank = len(inputs[0].shape) + 2
    axis = operation.axis if operation.axis >= 0 else operation.axis + rank
    if axis == 0:
        raise Refusal("an axis before the batch axis", "keep the batch axis in front", may_stay=False)
    shape = inputs[0].shape
    shape = (*shape[: axis - 1], 1, *shape[axis - 1 :])
    parts = [words.reshape(x, shape, emit, part="part") for x in inputs]
    return words.concatenate(parts, axis, emit)


# --- Operations that change nothing --------------------------------------------


_operation("StopGradient", (ops.stop_gradient, (4, 3)))(lambda operation, x, *, emit: x)


@_operation("Cast", (lambda v: ops.cast(v, "float32"), (4, 3)))
def _(operation, x, *, emit):
    if "float" not in str(operation.dtype):
        raise Refusal(f"dtype={operation.dtype!r}", "keep floating point numbers")
    # Integers become numbers.
    return x if x.dtype is None or "float" in x.dtype else words.scale(x, 1.0, emit)
