"""Operations of `keras.ops` and operators (`x + y`, `x * 0.5`) as nodes.

Those that move values are in `moving_operations.py`. The rules are for the operations that a functional
model records. Keras has no public names for their classes, so a rule goes by the name of the class. It gets
the arguments of the call with nodes in the place of tensors.
"""

import math
import re

import numpy as np
from keras import activations, ops

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules import common
from keras_snn.graph.rules.einsum import einsum
from keras_snn.graph.rules.registry import Refusal, operation


def _each(value, x):
    """Return an option of pooling or convolution as one number per spatial axis."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * (len(x.shape) - 1)


def _need_node(x, reason):
    if not common.is_node(x):
        raise Refusal(reason, "put the activation first and the constant second")


def _need_constant(x, reason):
    if common.is_node(x):
        raise Refusal(reason, "use a constant")
    x = np.asarray(ops.convert_to_numpy(x))
    # A matrix of integers would round the scales that are folded into it.
    return x if x.dtype.kind == "f" else x.astype("float32")


# --- Arithmetic ----------------------------------------------------------------


@operation(
    "Add",
    (lambda v: v[0] + v[1], (4, 3), (4, 3)),
    (lambda v: 0.5 + v, (4, 3)),
    (lambda v: ops.add(v, np.arange(3.0, dtype="float32")), (4, 3)),
    (lambda v: v[0] + v[1], (4, 5, 3), (1, 1, 3)),
)
def lower_add(op, x, y, *, emit):
    return common.add([x, y], emit)


@operation(
    "Subtract",
    (lambda v: v[0] - v[1], (4, 3), (4, 3)),
    (lambda v: 1.0 - v, (4, 3)),
    (lambda v: v - 0.25, (4, 3)),
)
def lower_subtract(op, x, y, *, emit):
    if common.is_node(x):
        return common.subtract(x, y, emit)
    return common.add([common.scale(y, -1.0, emit, part="negated"), x], emit)


_MASK = (np.arange(20).reshape(1, 4, 5, 1) % 3 > 0).astype("float32")


@operation(
    "Multiply",
    (lambda v: v * 0.5, (4, 3)),
    (lambda v: v * np.array([[[0.5, -2.0, 1.0]]], "float32"), (4, 3)),
    (lambda v: v * _MASK, (4, 5, 3)),
    (lambda v: v[0] * v[1], (4, 3), (4, 3)),
)
def lower_multiply(op, x, y, *, emit):
    return common.multiply(x, y, emit)


def lower_divide(op, x, y, *, emit):
    _need_node(x, "divides by an activation")
    return common.multiply(x, 1 / _need_constant(y, "divides by an activation").astype("float64"), emit)


operation(
    "TrueDivide",
    (lambda v: v / 4, (4, 3)),
    (lambda v: v / np.array([2.0, 0.5, 3.0], "float32"), (4, 3)),
)(lower_divide)
operation("Divide", (lambda v: ops.divide(v, 4.0), (4, 3)))(lower_divide)
operation("Negative", (lambda v: -v, (4, 3)))(lambda op, x, *, emit: common.scale(x, -1.0, emit))
for _name in ("Absolute", "Abs"):
    _function = abs if _name == "Absolute" else ops.abs
    operation(_name, (_function, (4, 3)))(lambda op, x, *, emit: common.absolute(x, emit))
operation(
    "Maximum",
    (lambda v: ops.maximum(v, 0.0), (4, 3)),
    (lambda v: ops.maximum(0.3, v), (4, 3)),
    (lambda v: ops.maximum(v[0], v[1]), (4, 3), (4, 3)),
)(lambda op, x, y, *, emit: common.maximum(x, y, emit))
operation(
    "Minimum",
    (lambda v: ops.minimum(v, 0.4), (4, 3)),
    (lambda v: ops.minimum(v[0], v[1]), (4, 5, 3), (1, 1, 3)),
)(lambda op, x, y, *, emit: common.minimum(x, y, emit))


@operation("Clip", (lambda v: ops.clip(v, 0, 6), (4, 3)), (lambda v: ops.clip(v, -0.3, 0.6), (4, 3)))
def lower_clip(op, x, *, emit):
    return common.clip(x, op.x_min, op.x_max, emit)


# --- Activations ---------------------------------------------------------------


def lower_relu(op, x, *, emit):
    if op.threshold:
        raise Refusal(f"threshold={float(op.threshold):g}, where it jumps", "use threshold=0")
    limit = math.inf if op.max_value is None else float(op.max_value)
    return common.leaky_relu(x, float(op.negative_slope), emit, max_value=limit)


# What keras.activations.relu records.
operation(
    "ReLU",
    (lambda v: activations.relu(v, max_value=0.5), (4, 3)),
    (lambda v: activations.relu(v, negative_slope=0.2), (4, 3)),
)(lower_relu)
operation("Relu", (ops.relu, (4, 3)))(lambda op, x, *, emit: common.relu(x, emit))
operation("Relu6", (lambda v: ops.relu6(8 * v), (4, 3)))(
    lambda op, x, *, emit: common.relu(x, emit, max_value=6.0)
)
operation("LeakyRelu", (lambda v: ops.leaky_relu(v, 0.1), (4, 3)))(
    lambda op, x, *, emit: common.leaky_relu(x, float(op.negative_slope), emit)
)
for _name in ("HardSigmoid", "HardTanh", "Sigmoid", "Silu", "Softplus", "Tanh"):
    _keras_name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _name).lower()
    operation(_name, (getattr(ops, _keras_name), (4, 3)))(
        lambda op, x, *, emit, name=_keras_name: common.activation(name, x, emit)
    )


operation("Sign", (ops.sign, (4, 3)))(
    lambda op, x, *, emit: emit(kinds.Activation, x, function="sign", at_zero=0.0)
)


def lower_heaviside(op, x, at_zero, *, emit):
    _need_node(x, "a constant before an activation")
    at_zero = np.unique(_need_constant(at_zero, "a value at 0 that is an activation"))
    if at_zero.size != 1 or at_zero[0] not in (0, 1):
        raise Refusal("a value at 0 that is neither 0 nor 1", "use 1.0")
    return emit(kinds.Activation, x, function="heaviside", at_zero=float(at_zero[0]))


# Not in the oldest Keras; a number alone fails in those that have it.
_HEAVISIDE = [(lambda v: ops.heaviside(v, np.ones((), "float32")), (4, 3))]
operation("Heaviside", *(_HEAVISIDE if hasattr(ops, "heaviside") else []))(lower_heaviside)


@operation("Softmax", (lambda v: ops.softmax(v, axis=-1), (4, 3)))
def lower_softmax(op, x, *, emit):
    if not isinstance(op.axis, int):
        raise Refusal(f"axis={op.axis!r}", "use one axis")
    return emit(kinds.Activation, x, function="softmax", axis=common.axis_from_end(op.axis, x))


# --- Reductions ----------------------------------------------------------------


@operation(
    "Mean",
    (lambda v: ops.mean(v, axis=(1, 2)), (4, 5, 3)),
    (lambda v: ops.mean(v, axis=-1, keepdims=True), (4, 3)),
    (lambda v: ops.mean(v, axis=2), (4, 5, 3)),
)
def lower_mean(op, x, *, emit):
    return common.reduce(x, common.axes_of(op.axis, x), op.keepdims, "average", emit)


@operation("Sum", (lambda v: ops.sum(v, axis=(1, -1)), (4, 5, 3)))
def lower_sum(op, x, *, emit):
    axes = common.axes_of(op.axis, x)
    mean = common.reduce(x, axes, op.keepdims, "average", emit)
    return common.scale(mean, math.prod(x.shape[axis] for axis in axes), emit)


@operation(
    "Max",
    (lambda v: ops.max(v, axis=(1, 2), keepdims=True), (4, 5, 3)),
    (lambda v: ops.max(v, axis=-1), (4, 3)),
)
def lower_max(op, x, *, emit):
    if op.initial is not None:
        raise Refusal("initial=…", "use ops.maximum")
    return common.reduce(x, common.axes_of(op.axis, x), op.keepdims, "max", emit)


# --- Linear maps ---------------------------------------------------------------


def lower_matmul(op, x, y, *, emit):
    _need_node(x, "a constant times an activation")
    kernel = _need_constant(y, "the product of two activations")
    if kernel.ndim != 2:
        raise Refusal(f"a constant of shape {kernel.shape}", "use a matrix")
    return emit(kinds.Affine, x, kernel=kernel, bias=np.zeros(kernel.shape[-1], kernel.dtype))


_MATRIX = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
operation(
    "Matmul",
    (lambda v: v @ _MATRIX, (4, 3)),
    (lambda v: v @ np.eye(3, dtype="int32")[[1, 2, 0]], (4, 3)),
    (lambda v: ops.matmul(v, _MATRIX), (3,)),
)(lower_matmul)
operation("Dot", (lambda v: ops.dot(v, _MATRIX), (4, 3)))(lower_matmul)


@operation("Einsum", (lambda v: ops.einsum("abc,cd->adb", v, _MATRIX), (4, 3)))
def lower_einsum(op, *operands, emit):
    if len(operands) != 2:
        raise Refusal(f"einsum of {len(operands)} operands", "use one activation and one constant")
    _need_node(operands[0], "a constant before an activation")
    kernel = _need_constant(operands[1], "the product of two activations")
    return einsum(op.subscripts, operands[0], kernel, emit)


def _windows(function):
    def lower(op, x, *, emit):
        if op.data_format == "channels_first":
            raise Refusal("data_format='channels_first'", "use data_format='channels_last'", may_stay=False)
        window = _each(op.pool_size, x)
        strides = window if op.strides is None else _each(op.strides, x)
        return emit(kinds.Pool, x, function=function, window=window, strides=strides, padding=op.padding)

    return lower


operation("AveragePool", (lambda v: ops.average_pool(v, 2, 1, padding="same"), (4, 5, 3)))(
    _windows("average")
)
operation(
    "MaxPool",
    (lambda v: ops.max_pool(v, (2, 1)), (4, 5, 3)),
    (lambda v: ops.max_pool(v, (2, 1), (1, 2)), (4, 5, 3)),
)(_windows("max"))

_KERNEL = np.random.default_rng(1).normal(size=(2, 3, 3, 4)).astype("float32")


@operation("Conv", (lambda v: ops.conv(v, _KERNEL, strides=(1, 2), padding="same"), (4, 5, 3)))
def lower_conv(op, x, kernel, *, emit):
    if op.data_format == "channels_first":
        raise Refusal("data_format='channels_first'", "use data_format='channels_last'", may_stay=False)
    kernel = _need_constant(kernel, "a convolution of two activations")
    return common.convolve(
        x,
        kernel,
        np.zeros(kernel.shape[-1], kernel.dtype),
        emit,
        strides=_each(op.strides, x),
        dilation=_each(op.dilation_rate, x),
        padding=op.padding,
        groups=x.shape[-1] // kernel.shape[-2],
    )


# --- Operations that change nothing --------------------------------------------


operation("StopGradient", (ops.stop_gradient, (4, 3)))(lambda op, x, *, emit: x)


@operation("Cast", (lambda v: ops.cast(v, "float32"), (4, 3)))
def lower_cast(op, x, *, emit):
    if "float" not in str(op.dtype):
        raise Refusal(f"dtype={op.dtype!r}", "keep floating point numbers")
    # Integers become numbers.
    return x if x.dtype is None or "float" in x.dtype else common.scale(x, 1.0, emit)
