"""Operations of `keras.ops` that take values from other places, as nodes."""

import numpy as np
from keras import ops

from keras_snn.graph.rules import common
from keras_snn.graph.rules.registry import Refusal, operation
from keras_snn.graph.rules.taking import interpolate, take_along


@operation("Flip", (lambda v: ops.flip(v, 2), (4, 3)), (lambda v: ops.flip(v, 1), (4, 5, 3)))
def lower_flip(op, x, *, emit):
    for axis in common.axes_of(op.axis, x):
        x = take_along(x, axis, reversed(range(x.shape[axis])), emit)
    return x


@operation("Roll", (lambda v: ops.roll(v, 1, axis=1), (4, 3)))
def lower_roll(op, x, *, emit):
    if not isinstance(op.shift, int) or not isinstance(op.axis, int):
        raise Refusal(f"shift={op.shift!r}, axis={op.axis!r}", "roll one axis at a time")
    axis = common.axis_of(op.axis, x)
    return take_along(x, axis, (np.arange(x.shape[axis]) - op.shift) % x.shape[axis], emit)


@operation("Take", (lambda v: ops.take(v, np.array([2, 0, 0, -1]), axis=1), (4, 3)))
def lower_take(op, x, places, *, emit):
    if not common.is_node(x) or common.is_node(places) or op.axis is None:
        raise Refusal("values at places that are not constant", "take from an axis at constant places")
    places = np.asarray(ops.convert_to_numpy(places))
    if places.ndim != 1:
        raise Refusal(f"places of shape {places.shape}", "take at a list of places")
    return take_along(x, common.axis_of(op.axis, x), places, emit)


@operation("Tile", (lambda v: ops.tile(v, (1, 2, 1)), (4, 3)), (lambda v: ops.tile(v, (1, 3)), (4,)))
def lower_tile(op, x, *, emit):
    repeats = [op.repeats] if isinstance(op.repeats, int) else list(op.repeats)
    repeats = [1] * (len(x.shape) + 1 - len(repeats)) + repeats
    if len(repeats) > len(x.shape) + 1 or repeats[0] != 1:
        raise Refusal("repeats samples, or adds axes", "repeat the other axes", may_stay=False)
    for axis, times in enumerate(repeats[1:]):
        if times != 1:
            x = take_along(x, axis, [*range(x.shape[axis])] * times, emit)
    return x


@operation("Unstack", (lambda v: ops.unstack(v, axis=1)[-1], (4, 3)))
def lower_unstack(op, x, *, emit):
    axis = common.axis_of(op.axis, x)
    whole, rest = [(None, None, None)] * axis, [n for i, n in enumerate(x.shape) if i != axis]
    parts = [common.cut(x, [*whole, (i, i + 1, None)], emit) for i in range(x.shape[axis])]
    return [common.reshape(part, rest, emit, part="part") for part in parts]


def _blocks(x, size, emit, *, spread):
    """Emit blocks of space as channels, or, if `spread`, channels as blocks of space."""
    height, width, channels = x.shape
    if spread:
        inner = channels // size**2
        y = common.reshape(x, (height, width, size, size, inner), emit, part="split")
        y = common.transpose(y, (0, 2, 1, 3, 4), emit, part="turn")
        return common.reshape(y, (height * size, width * size, inner), emit)
    y = common.reshape(x, (height // size, size, width // size, size, channels), emit, part="split")
    y = common.transpose(y, (0, 2, 1, 3, 4), emit, part="turn")
    return common.reshape(y, (height // size, width // size, size**2 * channels), emit)


def _block_operation(spread):
    def lower(op, x, *, emit):
        if op.data_format == "channels_first":
            raise Refusal("data_format='channels_first'", "use data_format='channels_last'", may_stay=False)
        return _blocks(x, op.block_size, emit, spread=spread)

    return lower


# Not in the oldest Keras.
_HAS_BLOCKS = hasattr(ops, "space_to_depth")
operation("SpaceToDepth", *([(lambda v: ops.space_to_depth(v, 2), (4, 6, 3))] if _HAS_BLOCKS else []))(
    _block_operation(spread=False)
)
operation("DepthToSpace", *([(lambda v: ops.depth_to_space(v, 2), (2, 3, 8))] if _HAS_BLOCKS else []))(
    _block_operation(spread=True)
)


@operation(
    "Resize",
    (lambda v: ops.image.resize(v, (5, 3)), (4, 6, 2)),
    (lambda v: ops.image.resize(v, (3, 4), interpolation="nearest"), (6, 6, 1)),
)
def lower_resize(op, x, *, emit):
    if len(x.shape) != 3 or op.data_format == "channels_first":
        raise Refusal("no image with channels last", "resize (height, width, channels)")
    if op.crop_to_aspect_ratio or op.pad_to_aspect_ratio:
        raise Refusal("keeps the aspect ratio", "resize without crop_to_aspect_ratio and pad_to_aspect_ratio")
    return interpolate(x, op, emit)


def _extreme(sign):
    def lower(op, x, *, emit):
        if getattr(op, "initial", None) is not None:
            raise Refusal("initial=…", "use ops.maximum or ops.minimum")
        x = x if sign > 0 else common.scale(x, -1.0, emit, part="negated")
        y = common.reduce(x, common.axes_of(op.axis, x), op.keepdims, "max", emit)
        return y if sign > 0 else common.scale(y, -1.0, emit, part="negated")

    return lower


operation("Min", (lambda v: ops.min(v, axis=(1, 2)), (4, 5, 3)))(_extreme(-1))
operation("Amin", (lambda v: ops.amin(v, axis=-1), (4, 3)))(_extreme(-1))
operation("Amax", (lambda v: ops.amax(v, axis=1, keepdims=True), (4, 3)))(_extreme(1))


@operation("SoftShrink", (lambda v: ops.soft_shrink(v, 0.3), (4, 3)))
def lower_soft_shrink(op, x, *, emit):
    return common.soft_shrink(x, op.threshold, emit)
