"""What each Keras layer means in the words of the graph. A layer is known here and nowhere else.

A rule is a function `rule(layer, *inputs, emit)`: it gets the layer and the nodes
it is applied to, says the layer in nodes through `emit`, and returns the last of
them. What it cannot say it refuses with `Refusal`. Each rule brings examples, on
which all laws of the package are tested.
"""

import math

import keras
import numpy as np
from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph.registry import Example, Refusal, register_rule, rule_for


def _rule(layer_class, *examples):
    """Register the decorated function for a class, with examples `(make, shape, …)`."""

    def decorate(lower):
        register_rule(layer_class, lower, [Example(make, tuple(shapes)) for make, *shapes in examples])
        return lower

    return decorate


def _weight(value):
    value = keras.ops.convert_to_numpy(value)
    if not np.isfinite(value).all():
        raise Refusal("weights that are NaN or infinite", "train it again")
    return value


def _bias(layer, units, dtype):
    return _weight(layer.bias) if layer.use_bias else np.zeros(units, dtype)


def _need_channels_last(layer):
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Refusal(
            f"data_format={layer.data_format!r}",
            "build the model with data_format='channels_last'",
        )


# --- Activations ---------------------------------------------------------------


def _activation(function, x, emit):
    """Say an activation function, recognised by its serialised name."""
    if isinstance(function, layers.Layer):
        rule = rule_for(function)
        if rule is None:
            raise Refusal(f"activation={type(function).__name__}", "train with activation='relu'")
        return rule.lower(function, x, emit=emit)
    name = _name_of(function)
    if name == "linear":
        return x
    if name in ("relu", "relu6"):
        return emit(kinds.Activation, x, function="relu", max_value=6.0 if name == "relu6" else math.inf)
    if name == "softmax":
        return emit(kinds.Activation, x, function="softmax")
    raise Refusal(f"activation={name!r}", "train with activation='relu'")


def _name_of(function):
    """Return the name of an activation of Keras; another function of that name has dots before it."""
    plain = getattr(function, "__name__", type(function).__name__)
    if plain == "<lambda>":
        return plain
    try:
        name = keras.activations.serialize(function)
    except (TypeError, ValueError):
        return plain
    if not isinstance(name, str):
        return plain
    probe = keras.ops.convert_to_tensor([-2.0, 0.25, 7.0])
    known = keras.activations.get(name)
    values, expected = (keras.ops.convert_to_numpy(f(probe)) for f in (function, known))
    return name if np.array_equal(values, expected) else f"….{plain}"


@_rule(
    layers.Activation,
    (lambda: layers.Activation("relu"), (5, 4)),
    (lambda: layers.Activation("relu6"), (5, 4)),
    (lambda: layers.Activation("linear"), (5, 4)),
)
def _(layer, x, *, emit):
    return _activation(layer.activation, x, emit)


@_rule(
    layers.ReLU,
    (lambda: layers.ReLU(), (5, 5, 3)),
    (lambda: layers.ReLU(max_value=0.7), (5, 5, 3)),
)
def _(layer, x, *, emit):
    if layer.negative_slope or layer.threshold:
        raise Refusal(
            f"negative_slope={float(layer.negative_slope):g}, threshold={float(layer.threshold):g}",
            "train with ReLU(), whose negative_slope and threshold are 0",
        )
    limit = math.inf if layer.max_value is None else float(layer.max_value)
    return emit(kinds.Activation, x, function="relu", max_value=limit)


@_rule(layers.Softmax, (lambda: layers.Softmax(), (6,)), (lambda: layers.Softmax(axis=1), (6, 4)))
def _(layer, x, *, emit):
    if not isinstance(layer.axis, int):
        raise Refusal(f"axis={layer.axis!r}", "use one axis")
    axis = layer.axis if layer.axis < 0 else layer.axis - len(x.shape) - 1
    return emit(kinds.Activation, x, function="softmax", axis=axis)


# --- Layers with weights -------------------------------------------------------


@_rule(
    layers.Dense,
    (lambda: layers.Dense(6, activation="relu"), (7,)),
    (lambda: layers.Dense(4, use_bias=False), (3, 5)),
    (lambda: layers.Dense(5, activation="softmax"), (7,)),
)
def _(layer, x, *, emit):
    kernel = _weight(layer.kernel)
    y = emit(kinds.Affine, x, kernel=kernel, bias=_bias(layer, kernel.shape[-1], kernel.dtype))
    return _activation(layer.activation, y, emit)


def _convolution(layer, x, *, emit):
    return _convolve(layer, x, _weight(layer.kernel), layer.groups, emit)


def _depthwise(layer, x, *, emit):
    kernel = _weight(layer.kernel)
    return _convolve(layer, x, kernel.reshape(*kernel.shape[:-2], 1, -1), kernel.shape[-2], emit)


def _convolve(layer, x, kernel, groups, emit):
    _need_channels_last(layer)
    y = emit(
        kinds.Affine,
        x,
        kernel=kernel,
        bias=_bias(layer, kernel.shape[-1], kernel.dtype),
        strides=tuple(layer.strides),
        dilation=tuple(layer.dilation_rate),
        padding=layer.padding,
        groups=groups,
    )
    return _activation(layer.activation, y, emit)


_rule(
    layers.Conv1D,
    (lambda: layers.Conv1D(4, 3, strides=2, padding="same", activation="relu"), (9, 3)),
    (lambda: layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 3)),
)(_convolution)
_rule(
    layers.Conv2D,
    (lambda: layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"), (8, 7, 3)),
    (lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same", use_bias=False), (8, 7, 3)),
    (lambda: layers.Conv2D(6, 3, groups=2), (6, 6, 4)),
)(_convolution)
_rule(
    layers.Conv3D,
    (lambda: layers.Conv3D(3, 2, strides=(1, 2, 1), padding="same", activation="relu"), (4, 5, 6, 2)),
    (lambda: layers.Conv3D(3, (1, 2, 3)), (3, 4, 5, 2)),
)(_convolution)


_rule(
    layers.DepthwiseConv1D,
    (lambda: layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2, activation="relu"), (9, 3)),
)(_depthwise)
_rule(
    layers.DepthwiseConv2D,
    (lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu"), (7, 8, 3)),
    (lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=2, use_bias=False), (7, 8, 3)),
)(_depthwise)


@_rule(
    layers.BatchNormalization,
    (lambda: layers.BatchNormalization(), (5, 5, 3)),
    (lambda: layers.BatchNormalization(scale=False, epsilon=0.1), (6,)),
    (lambda: layers.BatchNormalization(center=False), (4, 4, 3)),
)
def _(layer, x, *, emit):
    if layer.axis not in (-1, len(x.shape)):
        raise Refusal(f"axis={layer.axis}", "normalize the last axis (channels last)")
    mean, variance = (_weight(v).astype("float64") for v in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * _weight(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + _weight(layer.beta)
    return emit(kinds.ChannelAffine, x, scale=scale, shift=shift, moments=(mean, variance))


# --- Affine maps on the input --------------------------------------------------


@_rule(
    layers.Rescaling,
    (lambda: layers.Rescaling(1 / 255), (6, 6, 3)),
    (lambda: layers.Rescaling([0.5, 2.0, 1.5], offset=[-1.0, 0.0, 0.3]), (6, 6, 3)),
)
def _(layer, x, *, emit):
    scale, offset = (np.asarray(v, "float64") for v in (layer.scale, layer.offset))
    return emit(kinds.ChannelAffine, x, scale=scale, shift=offset)


@_rule(
    layers.Normalization,
    (lambda: layers.Normalization(mean=[0.5, -1.0, 2.0], variance=[0.3, 2.0, 1.1]), (6, 6, 3)),
    (lambda: layers.Normalization(mean=0.4, variance=0.2, axis=None), (6, 6, 3)),
    (lambda: layers.Normalization(mean=[0.5, -1.0], variance=[0.3, 2.0], invert=True), (6, 2)),
)
def _(layer, x, *, emit):
    mean, variance = (_without_leading_ones(_weight(v)) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return emit(kinds.ChannelAffine, x, scale=deviation, shift=mean)
    moments = None if mean.ndim > 1 else tuple(np.broadcast_to(v, x.shape[-1]) for v in (mean, variance))
    return emit(kinds.ChannelAffine, x, scale=1 / deviation, shift=-mean / deviation, moments=moments)


def _without_leading_ones(value):
    """Return statistics as a number or a vector over channels if they are that."""
    value = np.asarray(value, "float64")
    while value.ndim and value.shape[0] == 1 and (value.ndim > 1 or value.size == 1):
        value = value[0]
    return value


# --- Pooling -------------------------------------------------------------------


def _pooling(function):
    def lower(layer, x, *, emit):
        _need_channels_last(layer)
        window, strides = tuple(layer.pool_size), tuple(layer.strides)
        return emit(kinds.Pool, x, function=function, window=window, strides=strides, padding=layer.padding)

    return lower


def _global_pooling(function):
    def lower(layer, x, *, emit):
        _need_channels_last(layer)
        window = x.shape[:-1]
        y = emit(kinds.Pool, x, function=function, window=window, strides=window)
        return y if layer.keepdims else emit(kinds.Rearrange, y, target=(x.shape[-1],))

    return lower


_SPATIAL = {1: (9, 3), 2: (7, 8, 3), 3: (5, 4, 6, 2)}

for _rank, _shape in _SPATIAL.items():
    for _keras_name, _function in (("Max", "max"), ("Average", "average")):
        _class = getattr(layers, f"{_keras_name}Pooling{_rank}D")
        _rule(
            _class,
            (lambda c=_class: c(2), _shape),
            (lambda c=_class: c(3, strides=2, padding="same"), _shape),
        )(_pooling(_function))
    _class = getattr(layers, f"GlobalAveragePooling{_rank}D")
    _rule(_class, (lambda c=_class: c(), _shape), (lambda c=_class: c(keepdims=True), _shape))(
        _global_pooling("average")
    )


# --- Moving values -------------------------------------------------------------


def _reshape(layer, x, *, emit):
    _need_channels_last(layer)
    target = layer.compute_output_shape((None, *x.shape))[1:]
    return emit(kinds.Rearrange, x, target=tuple(target))


_rule(layers.Flatten, (lambda: layers.Flatten(), (3, 4, 2)), (lambda: layers.Flatten(), (5,)))(_reshape)
_rule(
    layers.Reshape,
    (lambda: layers.Reshape((4, 6)), (2, 4, 3)),
    (lambda: layers.Reshape((-1, 2, 3)), (24,)),
)(_reshape)


def _zero_padding(layer, x, *, emit):
    _need_channels_last(layer)
    widths = layer.padding if isinstance(layer.padding[0], tuple) else (layer.padding,)
    return emit(kinds.Rearrange, x, padding=tuple(widths))


_rule(layers.ZeroPadding1D, (lambda: layers.ZeroPadding1D((2, 1)), (5, 3)))(_zero_padding)
_rule(
    layers.ZeroPadding2D,
    (lambda: layers.ZeroPadding2D(((1, 2), (0, 3))), (4, 5, 3)),
    (lambda: layers.ZeroPadding2D(1), (4, 5, 3)),
)(_zero_padding)
_rule(layers.ZeroPadding3D, (lambda: layers.ZeroPadding3D((1, 0, 2)), (3, 4, 2, 2)))(_zero_padding)


# --- Merging -------------------------------------------------------------------


@_rule(layers.Add, (lambda: layers.Add(), (4, 4, 3), (4, 4, 3)), (lambda: layers.Add(), (6,), (6,), (6,)))
def _(layer, *inputs, emit):
    if len({x.shape for x in inputs}) > 1:
        shapes = ", ".join(str(x.shape) for x in inputs)
        raise Refusal(f"inputs of the shapes {shapes}", "add tensors of one shape")
    return emit(kinds.Add, *inputs)


@_rule(
    layers.Concatenate,
    (lambda: layers.Concatenate(), (4, 4, 3), (4, 4, 2)),
    (lambda: layers.Concatenate(axis=1), (3, 4), (2, 4)),
)
def _(layer, *inputs, emit):
    axis = layer.axis if layer.axis < 0 else layer.axis - len(inputs[0].shape) - 1
    if axis == -len(inputs[0].shape) - 1:
        raise Refusal(f"axis={layer.axis}, the batch axis", "concatenate another axis")
    return emit(kinds.Concatenate, *inputs, axis=axis)


# --- Layers that do nothing after training -------------------------------------


def _identity(layer, x, *, emit):
    return x


for _make, _shape in (
    (lambda: layers.Dropout(0.5), (6,)),
    (lambda: layers.SpatialDropout1D(0.5), _SPATIAL[1]),
    (lambda: layers.SpatialDropout2D(0.5), _SPATIAL[2]),
    (lambda: layers.SpatialDropout3D(0.5), _SPATIAL[3]),
    (lambda: layers.AlphaDropout(0.5), (6,)),
    (lambda: layers.GaussianDropout(0.5), (6,)),
    (lambda: layers.GaussianNoise(0.5), (6,)),
    (lambda: layers.ActivityRegularization(l1=0.1), (6,)),
    (lambda: layers.Identity(), (6,)),
    (lambda: layers.RandomFlip(), (6, 6, 3)),
    (lambda: layers.RandomRotation(0.1), (6, 6, 3)),
    (lambda: layers.RandomTranslation(0.1, 0.1), (6, 6, 3)),
    (lambda: layers.RandomZoom(0.1), (6, 6, 3)),
    (lambda: layers.RandomContrast(0.1), (6, 6, 3)),
    (lambda: layers.RandomBrightness(0.1), (6, 6, 3)),
):
    _rule(type(_make()), (_make, _shape))(_identity)
