"""Helpers shared by the rules: read weights and options of layers, and emit common patterns of nodes.

In every function `emit` is that of the rule, and `x` and `y` are nodes or, where a docstring names
them, constants; axes and shapes count without the batch axis unless stated otherwise.
"""

import math

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.functions import keras_function, name_of, ramp_of, shown
from keras_snn.graph.rules.registry import Refusal

__all__ = [
    "absolute",
    "activation",
    "activation_of",
    "add",
    "axes_of",
    "axis_from_end",
    "axis_of",
    "bias_of",
    "concatenate",
    "convolve",
    "cut",
    "is_node",
    "leaky_relu",
    "maximum",
    "minimum",
    "multiply",
    "need_channels_last",
    "need_nodes",
    "pad",
    "reduce",
    "relu",
    "repeat",
    "reshape",
    "scale",
    "shift",
    "soft_shrink",
    "softmax_axis",
    "subtract",
    "transpose",
    "weight",
]


def axis_of(axis, x):
    """Return an axis of Keras, which counts the batch axis, as one of the value of `x`."""
    axis = axis - 1 if axis > 0 else axis + len(x.shape) if axis < 0 else -1
    if axis < 0:
        raise Refusal("an operation along the batch axis", "use the other axes", may_stay=False)
    return axis


def axis_from_end(axis, x):
    """Return an axis of Keras, which counts the batch axis, counted from the end."""
    return axis_of(axis, x) - len(x.shape)


def axes_of(axis, x):
    """Return one axis of Keras, several or `None` as a list of axes of the value of `x`."""
    if axis is None:
        return [axis_of(0, x)]
    return [axis_of(a, x) for a in (axis if isinstance(axis, (tuple, list)) else [axis])]


# --- Weights and options of layers ---------------------------------------------


def weight(value):
    """Return a weight of a layer as an array; it must be finite."""
    value = keras.ops.convert_to_numpy(value)
    if not np.isfinite(value).all():
        raise Refusal("weights that are NaN or infinite", "train it again", may_stay=False)
    return value


def bias_of(layer, units, dtype):
    """Return the bias of a layer, or zeros if it has none."""
    return weight(layer.bias) if layer.use_bias else np.zeros(units, dtype)


def need_channels_last(layer):
    """Refuse a layer with another data format."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Refusal(
            f"data_format={layer.data_format!r}",
            "build the model with data_format='channels_last'",
            may_stay=False,
        )


def activation_of(function, x, emit):
    """Emit an activation: a layer, or a function, recognised by what it computes."""
    if isinstance(function, keras.layers.Layer):
        return emit.call(function, x)
    return activation(function, x, emit)


# --- Scaling and shifting ------------------------------------------------------


def scale(x, factor, emit, part=None):
    """Emit factor·x."""
    return emit(kinds.ChannelAffine, x, scale=np.asarray(factor, "float64"), shift=np.zeros(()), part=part)


def shift(x, summand, emit, part=None):
    """Emit x + summand."""
    return emit(kinds.ChannelAffine, x, scale=np.ones(()), shift=np.asarray(summand, "float64"), part=part)


def is_node(x):
    """Whether `x` is a node, not a constant."""
    return isinstance(x, kinds.Node)


def need_nodes(inputs):
    """Refuse constants among the inputs."""
    if not all(map(is_node, inputs)):
        raise Refusal("a constant beside activations", "give activations only")


def _constant(value, x):
    """Return what is no node as an array that broadcasts against the value of `x`."""
    value = np.asarray(keras.ops.convert_to_numpy(value), "float64")
    if value.ndim == len(x.shape) + 1 and len(value) == 1:
        value = value[0]
    fits = value.ndim <= len(x.shape) and np.broadcast_shapes(value.shape, x.shape) == x.shape
    if not fits:
        raise Refusal(
            f"a constant of shape {value.shape} beside a value of {x.shape}", "reshape the constant"
        )
    if not np.isfinite(value).all():
        raise Refusal("a constant that is NaN or infinite", "use finite numbers", may_stay=False)
    return value


def _aligned(inputs, emit):
    """Return the nodes with axes of length 1 repeated to the common shape, as they broadcast."""
    shapes = [x.shape for x in inputs]
    if len({len(shape) for shape in shapes}) > 1:
        listed = ", ".join(map(str, shapes))
        raise Refusal(f"inputs of the shapes {listed}", "give inputs of as many axes")
    common = np.broadcast_shapes(*shapes)
    times = [tuple(n // m if m == 1 else 1 for n, m in zip(common, shape, strict=True)) for shape in shapes]
    return [
        x if max(t, default=1) == 1 else repeat(x, t, emit, part="repeat")
        for x, t in zip(inputs, times, strict=True)
    ]


# --- Arithmetic of two values --------------------------------------------------


def add(inputs, emit):
    """Emit the sum of nodes and constants."""
    inputs = list(inputs)
    found = [x for x in inputs if is_node(x)]
    constants = [x for x in inputs if not is_node(x)]
    y = emit(kinds.Add, *_aligned(found, emit)) if len(found) > 1 else found[0]
    for value in constants:
        y = shift(y, _constant(value, y), emit)
    return y


def subtract(x, y, emit):
    """Emit x − y; one of them may be a constant."""
    if not is_node(y):
        return shift(x, -_constant(y, x), emit)
    return add([x, scale(y, -1.0, emit, part="negated")], emit)


def multiply(x, y, emit):
    """Emit x·y, where one is a constant."""
    if is_node(x) and is_node(y):
        raise Refusal("the product of two activations", "scale by constants, or add instead")
    x, y = (x, y) if is_node(x) else (y, x)
    factor = _constant(y, x)
    if math.prod(factor.shape[:-1]) > 1 and np.isin(factor, (0, 1)).all():
        return _masked(x, np.broadcast_to(factor, x.shape), emit)
    return scale(x, factor, emit)


def _masked(x, mask, emit):
    """Emit x where a mask is 1, and zeros elsewhere: what is spikes stays spikes.

    After all places there is a row of zeros, one for each channel.
    """
    channels = x.shape[-1]
    count = math.prod(x.shape[:-1])
    y = reshape(x, (count, channels), emit, part="places")
    y = reshape(pad(y, [(0, 1), (0, 0)], emit), ((count + 1) * channels,), emit, part="flat")
    own = np.arange(count * channels).reshape(count, channels)
    places = np.where(mask.reshape(count, channels) == 1, own, count * channels + np.arange(channels))
    y = emit(kinds.Rearrange, y, function="take", argument=(tuple(places.ravel().tolist()),), part="mask")
    return reshape(y, x.shape, emit, part="masked")


def maximum(x, y, emit):
    """Emit max(x, y); one of them may be a constant."""
    if not (is_node(x) and is_node(y)):
        x, y = (x, y) if is_node(x) else (y, x)
        limit = _constant(y, x)
        return relu(x, emit) if not limit.any() else _above(x, limit, math.inf, emit)
    x, y = _aligned([x, y], emit)
    if not (emit.has_spikes(x) or emit.has_spikes(y)):
        # Of sums y + relu(x − y), of which the relu spikes.
        above = add([x, scale(y, -1.0, emit, part="negated")], emit)
        return emit(kinds.Add, y, relu(above, emit, part="above"), part="sum")
    flat = (1, math.prod(x.shape[:-1]), *(x.shape[-1:] or (1,)))
    sides = [reshape(value, flat, emit, part="side") for value in (x, y)]
    both = emit(kinds.Concatenate, *sides, axis=-3, part="sides")
    window = (2, 1)
    largest = emit(kinds.Pool, both, function="max", window=window, strides=window)
    return reshape(largest, x.shape, emit, part="reshape")


def minimum(x, y, emit):
    """Emit min(x, y) = −max(−x, −y); one of them may be a constant."""
    x, y = (scale(v, -1.0, emit, part="negated") if is_node(v) else -np.asarray(v) for v in (x, y))
    return scale(maximum(x, y, emit), -1.0, emit, part="negated")


def absolute(x, emit):
    """Emit |x| = relu(x) + relu(−x)."""
    negated = scale(x, -1.0, emit, part="negated")
    return emit(kinds.Add, relu(x, emit), relu(negated, emit, part="negative"), part="sum")


def _above(x, low, high, emit):
    """Emit min(max(x, low), high) = relu(x − low) + low, with the relu saturating at high − low."""
    y = shift(x, -low, emit, part="from")
    y = relu(y, emit, max_value=high - float(np.max(low)))
    return shift(y, low, emit, part="back")


# --- Activations ---------------------------------------------------------------


def relu(x, emit, *, max_value=math.inf, part=None):
    """Emit min(max(x, 0), max_value): neurons."""
    if not max_value > 0:
        raise Refusal(f"max_value={max_value:g}", "use a positive one")
    return emit(kinds.Activation, x, function="relu", max_value=max_value, part=part)


def clip(x, low, high, emit):
    """Emit min(max(x, low), high) for two numbers."""
    low, high = (_constant(v, x).item() if np.size(v) == 1 else None for v in (low, high))
    if low is None or high is None or not low < high:
        raise Refusal("limits that are no two rising numbers", "clip to two numbers")
    return relu(x, emit, max_value=high) if low == 0 else _above(x, np.asarray(low), high, emit)


def leaky_relu(x, slope, emit, *, max_value=math.inf):
    """Emit relu(x) − slope·relu(−x): neurons for either sign.

    Args:
        x: A node.
        slope: A number, or an array that broadcasts against the value of `x`.
        emit: Adds a node.
        max_value: Value that relu(x) does not exceed.

    Returns:
        The last node.
    """
    positive = relu(x, emit, max_value=max_value)
    if not np.any(slope):
        return positive
    size, slope = 1.0, np.asarray(slope, "float64")
    if math.prod(slope.shape[:-1]) > 1:
        # Weights that the neurons' spikes meet are the same at every place, those before them need not be.
        size, slope = np.abs(slope), np.where(slope < 0, -1.0, 1.0)
        slope = slope if np.ptp(slope) else slope.flat[0]
    negated = scale(x, -size, emit, part="negated")
    negative = scale(relu(negated, emit, part="negative"), -slope, emit, part="slope")
    return emit(kinds.Add, positive, negative, part="sum")


def soft_shrink(x, threshold, emit):
    """Emit relu(x − threshold) − relu(−x − threshold): neurons for either sign."""
    above = relu(shift(x, -threshold, emit, part="above"), emit)
    negated = scale(x, -1.0, emit, part="negated")
    below = relu(shift(negated, -threshold, emit, part="below"), emit, part="negative")
    return subtract(above, below, emit)


def activation(function, x, emit):
    """Emit an activation function: one of Keras, or another that computes the same.

    `function` is a function of a tensor, or the name of an activation of Keras.
    """
    function = keras_function(function) if isinstance(function, str) else function
    ramp = ramp_of(function)
    if ramp is not None:
        return _ramp(ramp, x, emit)
    name = name_of(function)
    if name == "linear":
        return x
    if name == "soft_shrink":
        return soft_shrink(x, 0.5, emit)
    if name == "sign":
        return emit(kinds.Activation, x, function="sign", at_zero=0.0)
    if name is None:
        recorded = emit.recorded_whole(function, x)
        if recorded is not None:
            return recorded
        raise Refusal(f"activation={shown(function)!r}", "train with activation='relu'")
    return emit(kinds.Activation, x, function=name)


def _ramp(ramp, x, emit):
    """Emit a `Ramp`: neurons with a limit, and shifts."""
    if ramp.is_relu:
        return leaky_relu(x, ramp.negative_slope, emit, max_value=ramp.high)
    y = shift(x, (ramp.shift - ramp.low) / ramp.slope, emit, part="from")
    y = relu(y, emit, max_value=(ramp.high - ramp.low) / ramp.slope)
    y = y if ramp.slope == 1 else scale(y, ramp.slope, emit, part="scaled")
    return y if ramp.low == 0 else shift(y, ramp.low, emit, part="back")


def softmax_axis(axis, x):
    """Return the axis of a softmax of Keras, which counts the batch axis, counted from the end."""
    if not isinstance(axis, int):
        raise Refusal(f"axis={axis!r}", "use one axis")
    return axis if axis < 0 else axis - len(x.shape) - 1


# --- Linear maps ---------------------------------------------------------------


def convolve(x, kernel, bias, emit, *, strides, dilation, part=None, **fields):
    """Emit a convolution; `fields` are those of `Affine`."""
    strides, dilation = tuple(strides), tuple(dilation)
    return emit(
        kinds.Affine, x, kernel=kernel, bias=bias, strides=strides, dilation=dilation, part=part, **fields
    )


# --- Moving --------------------------------------------------------------------


def reshape(x, shape, emit, part=None):
    """Emit the values of `x` in another shape."""
    shape = tuple(int(n) for n in shape)
    return emit(kinds.Rearrange, x, function="reshape", argument=shape, part=part)


def transpose(x, order, emit, part=None):
    """Emit `x` with its axes in another order."""
    order = tuple(order)
    if order == tuple(range(len(order))):
        return x
    return emit(kinds.Rearrange, x, function="transpose", argument=order, part=part)


def pad(x, widths, emit):
    """Emit `x` with zeros `(before, after)` on every axis."""
    return emit(kinds.Rearrange, x, function="pad", argument=tuple(map(tuple, widths)))


def cut(x, bounds, emit):
    """Emit the part of `x` in `(start, stop, step)` along the first axes."""
    rest = [(None, None, None)] * (len(x.shape) - len(bounds))
    return emit(kinds.Rearrange, x, function="slice", argument=(*map(tuple, bounds), *rest))


def repeat(x, times, emit, part=None):
    """Emit every value of `x` as many times along each axis."""
    return emit(kinds.Rearrange, x, function="repeat", argument=tuple(times), part=part)


def concatenate(inputs, axis, emit):
    """Emit the inputs side by side along an axis of Keras."""
    need_nodes(inputs)
    return emit(kinds.Concatenate, *inputs, axis=axis_from_end(axis, inputs[0]))


def reduce(x, axes, keepdims, function, emit):
    """Emit the maximum or average of `x` over some axes: as pooling, with these axes in front."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    count, rest = math.prod(x.shape[axis] for axis in axes), math.prod(x.shape[axis] for axis in kept)
    y = transpose(x, (*axes, *kept), emit, part="transpose")
    y = reshape(y, (count, rest), emit, part="reshape")
    y = emit(kinds.Pool, y, function=function, window=(count,), strides=(count,))
    shape = [1 if axis in axes else x.shape[axis] for axis in range(len(x.shape)) if keepdims or axis in kept]
    return reshape(y, shape, emit, part="reshape")
