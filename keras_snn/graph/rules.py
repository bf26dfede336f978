"""What each Keras layer means in the words of the graph. A layer is known here and nowhere else.

A rule is a function `rule(layer, *inputs, emit)`: it gets the layer and the nodes
it is applied to, says the layer in nodes through `emit`, and returns the last of
them. What it cannot say it refuses with `Refusal`. Each rule brings examples, on
which all laws of the package are tested. Operations of `keras.ops` are in `operations.py`.
"""

import functools
import math

import keras
import numpy as np
from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph import words
from keras_snn.graph.registry import Example, Refusal, register_named
from keras_snn.layers import BinaryActivation, QuantizedClip

_SPATIAL = {1: (9, 3), 2: (7, 8, 3), 3: (5, 4, 6, 2)}


def _rule(group, layer_class, *examples):
    """Register the decorated function for a class, with examples `(make, shape, …)`."""

    def decorate(lower):
        register_named(
            layer_class,
            lower,
            [Example(make, tuple(shapes)) for make, *shapes in examples],
            group=group,
        )
        return lower

    return decorate


_linear = functools.partial(_rule, "Linear")
_activations = functools.partial(_rule, "Activations")
_readout = functools.partial(_rule, "At the output")
_affine = functools.partial(_rule, "Normalization and scaling")
_pooling = functools.partial(_rule, "Pooling")
_moving = functools.partial(_rule, "Moving values")
_merging = functools.partial(_rule, "Merging")
_structure = functools.partial(_rule, "Around other layers")
_training = functools.partial(_rule, "Acts in training only")


def _weight(value):
    value = keras.ops.convert_to_numpy(value)
    if not np.isfinite(value).all():
        raise Refusal("weights that are NaN or infinite", "train it again", may_stay=False)
    return value


def _bias(layer, units, dtype):
    return _weight(layer.bias) if layer.use_bias else np.zeros(units, dtype)


def _need_channels_last(layer):
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Refusal(
            f"data_format={layer.data_format!r}",
            "build the model with data_format='channels_last'",
            may_stay=False,
        )


# --- Activations ---------------------------------------------------------------


def _activation(function, x, emit):
    """Say an activation: a layer, or a function, recognised by what it computes."""
    if isinstance(function, layers.Layer):
        return emit.call(function, x)
    return words.activation(function, x, emit)


@_activations(
    layers.Activation,
    *((lambda name=name: layers.Activation(name), (5, 4)) for name in ("relu", "relu6", "linear")),
    *((lambda name=name: layers.Activation(name), (5, 4)) for name in ("leaky_relu", "hard_sigmoid")),
    *((lambda name=name: layers.Activation(name), (5, 4)) for name in ("sigmoid", "gelu", "silu", "tanh")),
    (lambda: layers.Activation(keras.ops.sign), (5, 4)),
)
def _(layer, x, *, emit):
    return _activation(layer.activation, x, emit)


@_activations(
    layers.ReLU,
    (lambda: layers.ReLU(), (5, 5, 3)),
    (lambda: layers.ReLU(max_value=0.7), (5, 5, 3)),
    (lambda: layers.ReLU(max_value=0.7, negative_slope=0.3), (5, 5, 3)),
    (lambda: layers.ReLU(negative_slope=0.1, threshold=0.4), (6,)),
)
def _(layer, x, *, emit):
    if layer.threshold:
        raise Refusal(f"threshold={float(layer.threshold):g}, where it jumps", "train with threshold=0")
    limit = math.inf if layer.max_value is None else float(layer.max_value)
    return words.leaky_relu(x, float(layer.negative_slope), emit, max_value=limit)


@_activations(layers.LeakyReLU, (lambda: layers.LeakyReLU(0.25), (5, 3)), (lambda: layers.LeakyReLU(0), (6,)))
def _(layer, x, *, emit):
    return words.leaky_relu(x, float(layer.negative_slope), emit)


@_activations(
    layers.PReLU,
    (lambda: layers.PReLU(), (6,)),
    (lambda: layers.PReLU(shared_axes=[1, 2]), (4, 5, 3)),
    (lambda: layers.PReLU(shared_axes=[2]), (4, 3)),
)
def _(layer, x, *, emit):
    return words.leaky_relu(x, _weight(layer.alpha).astype("float64"), emit)


@_activations(
    BinaryActivation,
    (lambda: BinaryActivation("sign"), (5, 4)),
    (lambda: BinaryActivation("heaviside", at_zero=0), (5, 4)),
)
def _(layer, x, *, emit):
    return emit(kinds.Activation, x, function=layer.function, at_zero=layer.at_zero)


@_activations(QuantizedClip, (lambda: QuantizedClip(4096), (5, 4)))
def _(layer, x, *, emit):
    scale = float(_weight(layer.scale))
    if not scale > 0:
        raise Refusal(f"scale={scale:g}", "train it to a positive one", may_stay=False)
    return emit(kinds.Activation, x, function="relu", max_value=scale, levels=layer.levels)


@_readout(layers.ELU, (lambda: layers.ELU(), (5, 3)))
def _(layer, x, *, emit):
    if layer.alpha != 1:
        raise Refusal(f"alpha={float(layer.alpha):g}", "train with activation='relu'")
    return words.activation("elu", x, emit)


@_readout(layers.Softmax, (lambda: layers.Softmax(), (6,)), (lambda: layers.Softmax(axis=1), (6, 4)))
def _(layer, x, *, emit):
    return emit(kinds.Activation, x, function="softmax", axis=words.softmax_axis(layer.axis, x))


# --- Layers with weights -------------------------------------------------------


@_linear(
    layers.Dense,
    (lambda: layers.Dense(6, activation="relu"), (7,)),
    (lambda: layers.Dense(4, use_bias=False), (3, 5)),
    (lambda: layers.Dense(5, activation="softmax"), (7,)),
    (lambda: layers.Dense(5, activation="elu"), (7,)),
    (lambda: layers.Dense(5, activation=layers.LeakyReLU(0.1)), (7,)),
)
def _(layer, x, *, emit):
    kernel = _weight(layer.kernel)
    y = emit(kinds.Affine, x, kernel=kernel, bias=_bias(layer, kernel.shape[-1], kernel.dtype))
    return _activation(layer.activation, y, emit)


@_linear(
    layers.EinsumDense,
    (lambda: layers.EinsumDense("ab,bc->ac", output_shape=5, bias_axes="c", activation="relu"), (6,)),
    (lambda: layers.EinsumDense("...x,xy->...y", output_shape=5, bias_axes="y"), (4, 3)),
    (lambda: layers.EinsumDense("abc,cde->adbe", output_shape=(2, 3, 5), bias_axes="de"), (3, 4)),
    (lambda: layers.EinsumDense("abc,bcd->ad", output_shape=(5,)), (3, 4)),
)
def _(layer, x, *, emit):
    y = words.einsum(layer.equation, x, _weight(layer.kernel), emit)
    if layer.bias is not None:
        y = words.shift(y, _weight(layer.bias).astype("float64"), emit)
    return _activation(layer.activation, y, emit)


def _convolve(layer, x, kernel, emit, *, bias=None, **options):
    """Say the convolution of a layer that has strides, dilation_rate and padding."""
    _need_channels_last(layer)
    bias = np.zeros(kernel.shape[-1], kernel.dtype) if bias is None else bias
    options |= {"strides": layer.strides, "dilation": layer.dilation_rate, "padding": layer.padding}
    return words.convolve(x, kernel, bias, emit, **options)


def _with_one_kernel(layer, x, kernel, emit, **options):
    y = _convolve(layer, x, kernel, emit, bias=_bias(layer, kernel.shape[-1], kernel.dtype), **options)
    return _activation(layer.activation, y, emit)


def _convolution(layer, x, *, emit):
    return _with_one_kernel(layer, x, _weight(layer.kernel), emit, groups=layer.groups)


def _depthwise(layer, x, *, emit):
    kernel = _weight(layer.kernel)
    groups = kernel.shape[-2]
    return _with_one_kernel(layer, x, kernel.reshape(*kernel.shape[:-2], 1, -1), emit, groups=groups)


def _separable(layer, x, *, emit):
    depthwise, pointwise = _weight(layer.depthwise_kernel), _weight(layer.pointwise_kernel)
    kernel = depthwise.reshape(*depthwise.shape[:-2], 1, -1)
    y = _convolve(layer, x, kernel, emit, groups=depthwise.shape[-2], part="depthwise")
    one = (1,) * (pointwise.ndim - 2)
    bias = _bias(layer, pointwise.shape[-1], pointwise.dtype)
    y = words.convolve(y, pointwise, bias, emit, strides=one, dilation=one)
    return _activation(layer.activation, y, emit)


def _transposed(layer, x, *, emit):
    kernel = np.swapaxes(_weight(layer.kernel), -1, -2)
    extra = None if layer.output_padding is None else tuple(layer.output_padding)
    return _with_one_kernel(layer, x, kernel, emit, transposed=True, output_padding=extra)


_linear(
    layers.Conv1D,
    (lambda: layers.Conv1D(4, 3, strides=2, padding="same", activation="relu"), (9, 3)),
    (lambda: layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 3)),
)(_convolution)
_linear(
    layers.Conv2D,
    (lambda: layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"), (8, 7, 3)),
    (lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same", use_bias=False), (8, 7, 3)),
    (lambda: layers.Conv2D(6, 3, groups=2), (6, 6, 4)),
)(_convolution)
_linear(
    layers.Conv3D,
    (lambda: layers.Conv3D(3, 2, strides=(1, 2, 1), padding="same", activation="relu"), (4, 5, 6, 2)),
    (lambda: layers.Conv3D(3, (1, 2, 3)), (3, 4, 5, 2)),
)(_convolution)
_linear(
    layers.DepthwiseConv1D,
    (lambda: layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2, activation="relu"), (9, 3)),
)(_depthwise)
_linear(
    layers.DepthwiseConv2D,
    (lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu"), (7, 8, 3)),
    (lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=2, use_bias=False), (7, 8, 3)),
)(_depthwise)
_linear(
    layers.SeparableConv1D,
    (lambda: layers.SeparableConv1D(4, 3, strides=2, padding="same", activation="relu"), (9, 3)),
    (lambda: layers.SeparableConv1D(4, 3, dilation_rate=2), (9, 3)),
)(_separable)
_linear(
    layers.SeparableConv2D,
    (lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu"), (7, 8, 3)),
    (lambda: layers.SeparableConv2D(5, (2, 3), padding="same", use_bias=False), (7, 8, 3)),
)(_separable)
_linear(
    layers.Conv1DTranspose,
    (lambda: layers.Conv1DTranspose(4, 3, strides=2, activation="relu"), (5, 3)),
    (lambda: layers.Conv1DTranspose(4, 2, strides=3, padding="same"), (5, 3)),
)(_transposed)
_linear(
    layers.Conv2DTranspose,
    (lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"), (4, 5, 3)),
    (lambda: layers.Conv2DTranspose(4, (4, 3), strides=(2, 3), output_padding=(1, 2)), (4, 5, 3)),
    (lambda: layers.Conv2DTranspose(3, 2, strides=2, use_bias=False), (4, 5, 3)),
)(_transposed)
_linear(
    layers.Conv3DTranspose,
    (lambda: layers.Conv3DTranspose(3, 2, strides=(1, 2, 1), activation="relu"), (3, 2, 4, 2)),
)(_transposed)


# --- Normalization and scaling -------------------------------------------------


@_affine(
    layers.BatchNormalization,
    (lambda: layers.BatchNormalization(), (5, 5, 3)),
    (lambda: layers.BatchNormalization(scale=False, epsilon=0.1), (6,)),
    (lambda: layers.BatchNormalization(center=False), (4, 4, 3)),
    (lambda: layers.BatchNormalization(axis=1), (4, 5, 3)),
)
def _(layer, x, *, emit):
    mean, variance = (_weight(v).astype("float64") for v in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / _deviation(variance, layer.epsilon)
    if layer.scale:
        scale = scale * _weight(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + _weight(layer.beta)
    axis = words.axis_from_end(layer.axis, x)
    along = (-1,) + (1,) * (-axis - 1)
    moments = (mean, variance) if axis == -1 else None
    return emit(
        kinds.ChannelAffine, x, scale=scale.reshape(along), shift=shift.reshape(along), moments=moments
    )


def _deviation(variance, epsilon=0.0):
    """Return the square root of variances, if there is one."""
    lowest = float(np.min(variance)) + epsilon
    if not lowest > 0 and (epsilon or lowest):
        raise Refusal(
            f"a variance of {float(np.min(variance)):g}, which has no square root",
            "set it to what it is on the training data",
            may_stay=False,
        )
    return np.sqrt(variance + epsilon)


@_affine(
    layers.Rescaling,
    (lambda: layers.Rescaling(1 / 255), (6, 6, 3)),
    (lambda: layers.Rescaling([0.5, 2.0, 1.5], offset=[-1.0, 0.0, 0.3]), (6, 6, 3)),
)
def _(layer, x, *, emit):
    scale, offset = (np.asarray(v, "float64") for v in (layer.scale, layer.offset))
    return emit(kinds.ChannelAffine, x, scale=scale, shift=offset)


@_affine(
    layers.Normalization,
    (lambda: layers.Normalization(mean=[0.5, -1.0, 2.0], variance=[0.3, 2.0, 1.1]), (6, 6, 3)),
    (lambda: layers.Normalization(mean=0.4, variance=0.2, axis=None), (6, 6, 3)),
    (lambda: layers.Normalization(mean=[0.5, -1.0], variance=[0.3, 2.0], invert=True), (6, 2)),
)
def _(layer, x, *, emit):
    mean, variance = (_without_leading_ones(_weight(v)) for v in (layer.mean, layer.variance))
    deviation = np.maximum(_deviation(variance), keras.config.epsilon())
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


@_affine("LayerScale")
def _(layer, x, *, emit):
    return words.scale(x, _weight(layer.gamma).astype("float64"), emit)


# --- Pooling -------------------------------------------------------------------


def _windows(function):
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
        return y if layer.keepdims else words.reshape(y, (x.shape[-1],), emit)

    return lower


for _rank, _shape in _SPATIAL.items():
    for _keras_name, _function in (("Max", "max"), ("Average", "average")):
        _class = getattr(layers, f"{_keras_name}Pooling{_rank}D")
        _pooling(
            _class,
            (lambda c=_class: c(2), _shape),
            (lambda c=_class: c(3, strides=2, padding="same"), _shape),
        )(_windows(_function))
        _class = getattr(layers, f"Global{_keras_name}Pooling{_rank}D")
        _pooling(_class, (lambda c=_class: c(), _shape), (lambda c=_class: c(keepdims=True), _shape))(
            _global_pooling(_function)
        )


# --- Moving values -------------------------------------------------------------


def _reshape(layer, x, *, emit):
    _need_channels_last(layer)
    return words.reshape(x, layer.compute_output_shape((None, *x.shape))[1:], emit)


_moving(layers.Flatten, (lambda: layers.Flatten(), (3, 4, 2)), (lambda: layers.Flatten(), (5,)))(_reshape)
_moving(
    layers.Reshape,
    (lambda: layers.Reshape((4, 6)), (2, 4, 3)),
    (lambda: layers.Reshape((-1, 2, 3)), (24,)),
)(_reshape)


@_moving(
    layers.Permute, (lambda: layers.Permute((2, 3, 1)), (3, 4, 2)), (lambda: layers.Permute((2, 1)), (3, 4))
)
def _(layer, x, *, emit):
    return words.transpose(x, tuple(axis - 1 for axis in layer.dims), emit)


@_moving(layers.RepeatVector, (lambda: layers.RepeatVector(3), (5,)))
def _(layer, x, *, emit):
    return words.repeat(words.reshape(x, (1, *x.shape), emit), (layer.n, 1), emit)


def _widths(value):
    """Return `(before, after)` for each spatial axis, as padding and cropping keep it."""
    return tuple(map(tuple, value)) if isinstance(value[0], (tuple, list)) else (tuple(value),)


def _zero_padding(layer, x, *, emit):
    _need_channels_last(layer)
    return words.pad(x, (*_widths(layer.padding), (0, 0)), emit)


def _cropping(layer, x, *, emit):
    _need_channels_last(layer)
    return words.cut(
        x, [(a, n - b, None) for n, (a, b) in zip(x.shape, _widths(layer.cropping), strict=False)], emit
    )


_moving(layers.ZeroPadding1D, (lambda: layers.ZeroPadding1D((2, 1)), (5, 3)))(_zero_padding)
_moving(
    layers.ZeroPadding2D,
    (lambda: layers.ZeroPadding2D(((1, 2), (0, 3))), (4, 5, 3)),
    (lambda: layers.ZeroPadding2D(1), (4, 5, 3)),
)(_zero_padding)
_moving(layers.ZeroPadding3D, (lambda: layers.ZeroPadding3D((1, 0, 2)), (3, 4, 2, 2)))(_zero_padding)
_moving(layers.Cropping1D, (lambda: layers.Cropping1D((2, 1)), (7, 3)))(_cropping)
_moving(
    layers.Cropping2D,
    (lambda: layers.Cropping2D(((1, 2), (0, 3))), (6, 5, 3)),
    (lambda: layers.Cropping2D(1), (4, 5, 3)),
)(_cropping)
_moving(layers.Cropping3D, (lambda: layers.Cropping3D((1, 0, (0, 1))), (3, 4, 4, 2)))(_cropping)


@_moving(layers.CenterCrop, (lambda: layers.CenterCrop(4, 3), (7, 6, 2)))
def _(layer, x, *, emit):
    _need_channels_last(layer)
    if x.shape[0] < layer.height or x.shape[1] < layer.width:
        raise Refusal("smaller input, which it resizes", "crop to a size below that of the input")
    starts = ((x.shape[0] - layer.height) // 2, (x.shape[1] - layer.width) // 2)
    return words.cut(
        x, [(a, a + n, None) for a, n in zip(starts, (layer.height, layer.width), strict=True)], emit
    )


def _upsampling(layer, x, *, emit):
    _need_channels_last(layer)
    size = layer.size if isinstance(layer.size, (tuple, list)) else (layer.size,)
    if getattr(layer, "interpolation", "nearest") == "nearest":
        return words.repeat(x, (*size, 1), emit)
    return words.resize(x, layer, emit)


_moving(layers.UpSampling1D, (lambda: layers.UpSampling1D(3), (4, 2)))(_upsampling)
_moving(
    layers.UpSampling2D,
    (lambda: layers.UpSampling2D((2, 3)), (3, 4, 2)),
    (lambda: layers.UpSampling2D(2, interpolation="bilinear"), (3, 4, 2)),
    (lambda: layers.UpSampling2D((1, 2), interpolation="bicubic"), (3, 4, 2)),
)(_upsampling)
_moving(layers.UpSampling3D, (lambda: layers.UpSampling3D((1, 2, 2)), (2, 3, 2, 2)))(_upsampling)


@_moving(
    layers.Resizing,
    (lambda: layers.Resizing(5, 3), (4, 6, 2)),
    (lambda: layers.Resizing(3, 4, interpolation="nearest"), (6, 6, 1)),
)
def _(layer, x, *, emit):
    _need_channels_last(layer)
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise Refusal("keeps the aspect ratio", "resize without crop_to_aspect_ratio and pad_to_aspect_ratio")
    return words.resize(x, layer, emit)


# --- Merging -------------------------------------------------------------------


@_merging(layers.Add, (lambda: layers.Add(), (4, 4, 3), (4, 4, 3)), (lambda: layers.Add(), (6,), (6,), (6,)))
def _(layer, *inputs, emit):
    return words.add(inputs, emit)


@_merging(layers.Subtract, (lambda: layers.Subtract(), (4, 4, 3), (4, 4, 3)))
def _(layer, x, y, *, emit):
    return words.subtract(x, y, emit)


@_merging(layers.Average, (lambda: layers.Average(), (4, 3), (4, 3), (4, 3)))
def _(layer, *inputs, emit):
    return words.scale(words.add(inputs, emit), 1 / len(inputs), emit)


@_merging(
    layers.Maximum,
    (lambda: layers.Maximum(), (4, 4, 3), (4, 4, 3)),
    (lambda: layers.Maximum(), (6,), (6,), (6,)),
)
def _(layer, *inputs, emit):
    return functools.reduce(lambda x, y: words.maximum(x, y, emit), inputs)


@_merging(layers.Minimum, (lambda: layers.Minimum(), (4, 3), (4, 3)))
def _(layer, *inputs, emit):
    return functools.reduce(lambda x, y: words.minimum(x, y, emit), inputs)


@_merging(
    layers.Multiply,
    (lambda: layers.Multiply(), (4, 3), (4, 3)),
    (lambda: layers.Multiply(), (4, 5, 3), (1, 1, 3)),
)
def _(layer, *inputs, emit):
    return functools.reduce(lambda x, y: words.multiply(x, y, emit), inputs)


@_merging(
    layers.Concatenate,
    (lambda: layers.Concatenate(), (4, 4, 3), (4, 4, 2)),
    (lambda: layers.Concatenate(axis=1), (3, 4), (2, 4)),
)
def _(layer, *inputs, emit):
    return words.concatenate(inputs, layer.axis, emit)


@_merging("CustomScaleLayer")
def _(layer, x, y, *, emit):
    return words.add([x, words.scale(y, layer.scale, emit, part="scaled")], emit)


# --- Layers around other layers ------------------------------------------------


@_structure(
    layers.TimeDistributed,
    (
        lambda: layers.TimeDistributed(layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")),
        (3, 6, 5, 2),
    ),
    (lambda: layers.TimeDistributed(layers.MaxPooling1D(2)), (3, 6, 2)),
    (lambda: layers.TimeDistributed(layers.Flatten()), (3, 4, 2)),
    (lambda: layers.TimeDistributed(layers.Dense(4, activation="leaky_relu")), (3, 4)),
    (lambda: layers.TimeDistributed(layers.GlobalAveragePooling2D()), (3, 4, 5, 2)),
    (lambda: layers.TimeDistributed(_small_model()), (3, 6, 5, 2)),
)
def _(layer, x, *, emit):
    return emit.call_for_each(layer.layer, x)


def _small_model():
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.AveragePooling2D(2),
            layers.Permute((2, 1, 3)),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(((0, 1), (1, 0))),
            layers.UpSampling2D(2),
            layers.GlobalMaxPooling2D(),
            layers.LayerNormalization(),
        ]
    )


def _pipeline(layer, x, *, emit):
    return functools.reduce(lambda x, inner: emit.call(inner, x), layer.layers, x)


# Not in the oldest Keras.
if hasattr(layers, "Pipeline"):
    _structure(
        layers.Pipeline,
        (lambda: layers.Pipeline([layers.RandomFlip(), layers.Rescaling(0.5, 1.0)]), (6, 6, 3)),
    )(_pipeline)


@_structure(
    layers.SpectralNormalization,
    (lambda: layers.SpectralNormalization(layers.Conv2D(4, 3, activation="relu")), (6, 5, 2)),
)
def _(layer, x, *, emit):
    return emit.call(layer.layer, x)


# --- Layers that do nothing after training -------------------------------------


def _identity(layer, x, *, emit):
    return x


for _class, _arguments, _shape in (
    (layers.Dropout, (0.5,), (6,)),
    (layers.SpatialDropout1D, (0.5,), _SPATIAL[1]),
    (layers.SpatialDropout2D, (0.5,), _SPATIAL[2]),
    (layers.SpatialDropout3D, (0.5,), _SPATIAL[3]),
    (layers.AlphaDropout, (0.5,), (6,)),
    (layers.GaussianDropout, (0.5,), (6,)),
    (layers.GaussianNoise, (0.5,), (6,)),
    (layers.ActivityRegularization, (0.1,), (6,)),
    (layers.Identity, (), (6,)),
):
    _training(_class, (functools.partial(_class, *_arguments), _shape))(_identity)
_training("StochasticDepth")(_identity)

# With what each is made in the examples. The oldest Keras does not have all of them. What is not
# here, as AutoContrast, does the same in `predict` as in training.
_AUGMENTATION = {
    "AugMix": (), "CutMix": (), "MaxNumBoundingBoxes": (3,), "MixUp": (), "RandAugment": (),
    "RandomBrightness": (0.1,), "RandomColorDegeneration": (0.5,), "RandomColorJitter": (),
    "RandomContrast": (0.1,), "RandomElasticTransform": (), "RandomErasing": (), "RandomFlip": (),
    "RandomGaussianBlur": (), "RandomGrayscale": (), "RandomHue": (0.1,), "RandomInvert": (),
    "RandomPerspective": (), "RandomPosterization": (3,), "RandomRotation": (0.1,),
    "RandomSaturation": (0.1,), "RandomSharpness": (0.1,), "RandomShear": (0.1,),
    "RandomTranslation": (0.1, 0.1), "RandomZoom": (0.1,), "Solarization": (),
}  # fmt: skip


def augmentation_arguments(name):
    """Return the arguments that examples make a layer of augmentation with."""
    return _AUGMENTATION.get(name, ())


for _keras_name, _arguments in _AUGMENTATION.items():
    if hasattr(layers, _keras_name):
        _class = getattr(layers, _keras_name)
        _training(_class, (functools.partial(_class, *_arguments), (6, 6, 3)))(_identity)


@_training(layers.RandomCrop, (lambda: layers.RandomCrop(6, 5), (6, 5, 3)))
def _(layer, x, *, emit):
    _need_channels_last(layer)
    size = (layer.height, layer.width)
    if x.shape[:2] != size:
        raise Refusal(
            f"crops {x.shape[0]}×{x.shape[1]} to {size[0]}×{size[1]} in training only",
            "crop with CenterCrop",
            may_stay=False,
        )
    return x


# --- Layers that cannot even stay as they are ----------------------------------


def _refuse(layer_class, reason, way_out):
    def lower(layer, *inputs, emit):
        raise Refusal(reason, way_out, may_stay=False)

    register_named(layer_class, lower, group=None)


_refuse(
    layers.Lambda,
    "Python code, which cannot be read",
    "write it with keras.ops or as a layer, and teach that with keras_snn.register_rule",
)
_refuse(layers.Masking, "masks do not travel with spikes", "give it samples without a mask")


def _embedding(layer, x, *, emit):
    if layer.mask_zero:
        raise Refusal("mask_zero=True", "give it samples without a mask", may_stay=False)
    raise Refusal("looks numbers up in a table", "feed the vectors instead")


register_named(layers.Embedding, _embedding, group=None)
