"""Convolutions and normalization of `keras.ops` with constants, and pools to a size that is given."""

import numpy as np
from keras import layers, ops

from keras_snn.graph import nodes as kinds
from keras_snn.graph.own_operations import ConvTranspose
from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, operation, register_named, rule
from keras_snn.graph.rules.taking import take

_rng = np.random.default_rng(2)
_DEPTHWISE = _rng.normal(size=(3, 2, 3, 2)).astype("float32")
_STATISTICS = _rng.normal(size=3).astype("float32"), _rng.uniform(0.5, 2, 3).astype("float32")
_SHIFT, _SCALE = (_rng.normal(size=3).astype("float32") for _ in range(2))
_POINTWISE = _rng.normal(size=(1, 1, 6, 4)).astype("float32")


def _each(value, x):
    """Return an option as one number per spatial axis."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * (len(x.shape) - 1)


def _kernel(value):
    if common.is_node(value):
        raise Refusal("a convolution of two activations", "use a constant kernel")
    return np.asarray(ops.convert_to_numpy(value), "float32")


def _convolve(op, x, kernel, emit, **options):
    if not common.is_node(x):
        raise Refusal("a constant that is convolved with an activation", "give the activation first")
    if op.data_format == "channels_first":
        raise Refusal("data_format='channels_first'", "use data_format='channels_last'", may_stay=False)
    options = {"strides": _each(op.strides, x), "dilation": _each(op.dilation_rate, x), **options}
    bias = np.zeros(kernel.shape[-1], kernel.dtype)
    return common.convolve(x, kernel, bias, emit, padding=op.padding, **options)


def _depthwise(op, x, kernel, emit, **options):
    groups = kernel.shape[-2]
    return _convolve(op, x, kernel.reshape(*kernel.shape[:-2], 1, -1), emit, groups=groups, **options)


@operation(
    "DepthwiseConv",
    (lambda v: ops.depthwise_conv(v, _DEPTHWISE, padding="same"), (5, 6, 3)),
    (lambda v: ops.depthwise_conv(v, _DEPTHWISE, strides=2), (5, 6, 3)),
)
def lower_depthwise_conv(op, x, kernel, *, emit):
    return _depthwise(op, x, _kernel(kernel), emit)


@operation(
    "SeparableConv",
    (lambda v: ops.separable_conv(v, _DEPTHWISE, _POINTWISE, strides=2, padding="same"), (5, 6, 3)),
)
def lower_separable_conv(op, x, depthwise, pointwise, *, emit):
    y = _depthwise(op, x, _kernel(depthwise), emit, part="depthwise")
    pointwise = _kernel(pointwise)
    one = (1,) * (pointwise.ndim - 2)
    bias = np.zeros(pointwise.shape[-1], pointwise.dtype)
    return common.convolve(y, pointwise, bias, emit, strides=one, dilation=one)


def lower_conv_transpose(op, x, kernel, *, emit):
    kernel = np.swapaxes(_kernel(kernel), -1, -2)
    extra = None if op.output_padding is None else _each(op.output_padding, x)
    return _convolve(op, x, kernel, emit, transposed=True, output_padding=extra)


# The class of Keras mixes up its arguments in most versions; own code is recorded with the other one.
operation("ConvTranspose")(lower_conv_transpose)
register_named(ConvTranspose, lower_conv_transpose, group=None)


@operation(
    "BatchNorm",
    (lambda v: ops.batch_normalization(v, *_STATISTICS, axis=-1), (4, 3)),
    (lambda v: ops.batch_normalization(v, *_STATISTICS, axis=1, offset=_SHIFT, scale=_SCALE), (3, 4)),
)
def lower_batch_norm(op, x, mean, variance, offset=None, scale=None, *, emit):
    values = [None if v is None else _statistic(v) for v in (mean, variance, offset, scale)]
    mean, variance, offset, scale = values
    factor = (1.0 if scale is None else scale) / np.sqrt(variance + op.epsilon)
    summand = (0.0 if offset is None else offset) - mean * factor
    axis = common.axis_of(op.axis, x)
    shape = [-1 if i == axis else 1 for i in range(axis, len(x.shape))]
    factor, summand = (np.reshape(v, shape) for v in (factor, summand))
    return emit(kinds.ChannelAffine, x, scale=factor, shift=summand)


def _statistic(value):
    if common.is_node(value):
        raise Refusal("statistics that are activations", "use constants")
    return np.asarray(ops.convert_to_numpy(value), "float64")


# --- Pools to a size -------------------------------------------------------------


def _to_size(function):
    def lower(layer, x, *, emit):
        common.need_channels_last(layer)
        sizes = _each(layer.output_size, x)
        if all(n % size == 0 for n, size in zip(x.shape, sizes, strict=False)):
            window = tuple(n // size for n, size in zip(x.shape, sizes, strict=False))
            return emit(kinds.Pool, x, function=function, window=window, strides=window)
        return _largest(x, sizes, emit) if function == "max" else _average(x, sizes, emit)

    return lower


def _bins(count, size):
    """Return the places from and to that each of `size` values of an axis is made of."""
    return [(i * count // size, -(-(i + 1) * count // size)) for i in range(size)]


def _largest(x, sizes, emit):
    """Emit maxima of windows of several lengths: short ones have their last value again."""
    places, window = [], []
    for count, size in zip(x.shape, sizes, strict=False):
        bins = _bins(count, size)
        longest = max(stop - start for start, stop in bins)
        places.append(tuple(min(start + i, stop - 1) for start, stop in bins for i in range(longest)))
        window.append(longest)
    y = take(x, (*places, None), emit, part="windows")
    return emit(kinds.Pool, y, function="max", window=tuple(window), strides=tuple(window))


def _average(x, sizes, emit):
    """Emit averages of windows of several lengths, as a linear map of each axis."""
    rank = len(sizes)
    turned = (*range(1, rank), rank, 0)
    for size in sizes:
        y = common.transpose(x, turned, emit, part="turn")
        matrix = np.zeros((y.shape[-1], size), "float32")
        for i, (start, stop) in enumerate(_bins(y.shape[-1], size)):
            matrix[start:stop, i] = 1 / (stop - start)
        x = emit(kinds.Affine, y, kernel=matrix, bias=np.zeros(size, "float32"), part="axis")
    return common.transpose(x, turned, emit, part="turn")


_SHAPES = {1: (9, 3), 2: (7, 8, 3), 3: (4, 5, 6, 2)}
for _name, _function in (("Max", "max"), ("Average", "average")):
    # Not in the oldest Keras. The operations give shapes that they do not have.
    for _rank, _shape in _SHAPES.items():
        _class = getattr(layers, f"Adaptive{_name}Pooling{_rank}D", None)
        if _class is not None:
            rule(
                "Pooling",
                _class,
                (lambda c=_class, r=_rank: c((2,) * r if r > 1 else 2), _shape),
                (lambda c=_class, r=_rank: c((3,) * r if r > 1 else 3), _shape),
            )(_to_size(_function))
