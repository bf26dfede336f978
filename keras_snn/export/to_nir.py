"""From a graph with neurons to the nodes and edges of NIR.

NIR is channels first and sums the edges into a node. A value of the graph is a few
`_Piece`s of NIR values, so that concatenating, flattening and permuting cost nothing:
the next weights are permuted instead.
"""

import dataclasses
import functools
import re

import numpy as np

from keras_snn.export.windows import dense_kernel, embedded_kernel
from keras_snn.graph import nodes as kinds
from keras_snn.graph.passes import fold, insert_scale

__all__ = ["nir_graph", "say_neuron", "without_pools"]

_NAME = re.compile(r"\W+")


class _UnsaidError(Exception):
    """NIR has no word for a node.

    Args:
        reason: What it has none for.
        way_out: What the user can do instead.
    """

    def __init__(self, reason, way_out):
        super().__init__(reason)
        self.reason, self.way_out = reason, way_out


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Values that NIR nodes compute, channels first.

    Attributes:
        sources: Names of the nodes, whose values are summed.
        order: For every value its flat index in the value of the graph; −1 if it is not part of it.
    """

    sources: tuple[str, ...]
    order: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Value:
    """The value of a node of the graph.

    Attributes:
        shape: Its shape, channels last.
        pieces: The `_Piece`s that it lies in.
        pads: Zeros around it `(before, after)` for each axis, which are not in the pieces.
    """

    shape: tuple[int, ...]
    pieces: tuple[_Piece, ...]
    pads: tuple[tuple[int, int], ...] = ()


def without_pools(graph, pooling):
    """Return the graph with average pooling said so that NIR has words for it.

    Args:
        graph: A `Graph`.
        pooling: `"sum"`: sums, with what they are divided by folded into the next weights where that
            is exact. `"average"`: as it is. `"convolution"`: convolutions. Pools of one dimension and
            padded ones become convolutions anyway.

    Returns:
        `(graph, sums)`, the latter the names of the pools of the graph that are to be sums.
    """
    graph, sums = fold(graph), set()
    for name in tuple(graph.nodes):
        # As it is now: what it takes may have got a scale.
        node = graph.nodes[name]
        if not isinstance(node, kinds.Pool) or node.function != "average" or len(node.window) > 2:
            continue
        shape = graph.nodes[node.inputs[0]].shape
        counts = _counts(node, shape)
        if len(node.window) == 2 and pooling != "convolution" and _is_unpadded(node, shape):
            if pooling == "sum":
                sums.add(node.name)
                graph = insert_scale(graph, 1 / counts.max(), after=node.name)
            continue
        graph = graph.with_nodes({**graph.nodes, node.name: _as_convolution(node, shape[-1])})
        graph = insert_scale(graph, 1 / counts, after=node.name)
    return fold(graph), sums


def _is_unpadded(node, shape):
    axes = zip(shape, node.window, node.strides, strict=False)
    return not any(any(kinds.pad_widths(*axis, 1, node.padding)) for axis in axes)


def _counts(node, shape):
    """Return how many values each window has, an array `(*positions, 1)`; of one value if all are alike."""
    counts = np.ones(())
    for size, width, stride in zip(shape, node.window, node.strides, strict=False):
        before, _ = kinds.pad_widths(size, width, stride, 1, node.padding)
        positions = (size if node.padding == "same" else size - width + 1) + stride - 1
        starts = np.arange(positions // stride) * stride - before
        within = np.minimum(starts + width, size) - np.maximum(starts, 0)
        counts = counts[..., None] * within
    counts = counts[..., None]
    return counts if np.ptp(counts) else counts.reshape(-1)[:1]


def _as_convolution(node, channels):
    """Return the sum over the windows of a pool as an `Affine`."""
    shared = {field.name: getattr(node, field.name) for field in dataclasses.fields(kinds.Node)}
    return kinds.Affine(
        **shared,
        kernel=np.ones((*node.window, 1, channels), "float32"),
        bias=np.zeros(channels, "float32"),
        strides=node.strides,
        dilation=(1,) * len(node.window),
        padding=node.padding,
        groups=channels,
    )


def nir_graph(graph, sums, neuron_fields, *, compact):
    """Say a graph in NIR.

    Args:
        graph: A `Graph` with neurons, of `without_pools`.
        sums: Names of the pools that are sums.
        neuron_fields: Function of a neuron and the dtype that gives `(class, fields, metadata)`: the name of
            the class in `nir`, its fields as numbers, and a dict of what it has no field for.
        compact: Whether grouped convolutions and kernels that are not square stay as they are.

    Returns:
        `(nodes, edges, obstacles)`: a dict of objects of `nir`, a list of pairs of names, and a list of
        `(name, what, reason, way_out)` for all nodes that cannot be said.
    """
    writer = _Writer(graph, sums, neuron_fields, compact)
    for node in graph.nodes.values():
        writer.add(node)
    names = graph.output_names
    for i, name in enumerate(names):
        writer.finish(name, "output" if len(names) == 1 else f"output_{i}")
    return writer.nodes, writer.edges, writer.obstacles


class _Writer:
    """The nodes and edges said so far, and the `_Value` of each node of the graph."""

    def __init__(self, graph, sums, neuron_fields, compact):
        import nir

        self.nir = nir
        self.graph, self.sums, self.neuron_fields, self.compact = graph, sums, neuron_fields, compact
        self.nodes, self.edges, self.obstacles, self.values = {}, [], [], {}
        kernels = [n.kernel.dtype for n in graph.nodes.values() if isinstance(n, kinds.Affine)]
        self.dtype = np.result_type("float32", *kernels)
        self.users = graph.users()

    def add(self, node):
        """Say a node, or note why it cannot be said."""
        inputs = [self.values[name] for name in node.inputs]
        if None in inputs:
            # Something before it is an obstacle already; it may be one itself.
            inputs = [value or self._stand_in(name) for value, name in zip(inputs, node.inputs, strict=True)]
        before = dict(self.nodes), list(self.edges)
        try:
            self.values[node.name] = _say(node, self, *inputs)
        except _UnsaidError as error:
            self.nodes, self.edges = before
            self.values[node.name] = None
            name = node.origins[0] if node.origins else node.name
            self.obstacles.append((name, type(node).__name__, error.reason, error.way_out))

    def finish(self, name, output):
        """Let the value of a node be an output."""
        value = self.values[name]
        if value is None:
            return
        (piece, *others), shape = value.pieces, value.shape
        if others or any(map(any, value.pads)) or not np.array_equal(piece.order, _channels_first(shape)):
            way_out = "end the network with a Dense layer or neurons"
            self.obstacles.append((name, "output", "values that were moved and then not used", way_out))
            return
        if len(piece.sources) > 1 or piece.sources[0] in self.graph.inputs:
            # Readers sum what goes into a node, but not all of them what goes into an output.
            piece = self.scaled(f"{name}_sum", piece, np.ones(piece.order.shape))
        self.put(output, self.nir.Output(np.array(piece.order.shape)), piece.sources)

    def _stand_in(self, name):
        shape = self.graph.nodes[name].shape
        return _Value(shape, (_Piece((), _channels_first(shape)),))

    def put(self, name, node, sources=()):
        """Add a NIR node behind others; return its name, which says no more than letters."""
        name = kinds.free_name(_NAME.sub("_", name), self.nodes)
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def scaled(self, name, piece, scale):
        node = self.nir.Scale(np.asarray(scale, self.dtype))
        return _Piece((self.put(name, node, piece.sources),), piece.order)


def _channels_first(shape):
    """Return the flat index of each value of an array of `shape`, channels last, in an array channels first.

    >>> _channels_first((2, 2))
    array([[0, 2],
           [1, 3]])
    """
    return np.moveaxis(np.arange(np.prod(shape, dtype=int)).reshape(shape), -1, 0)


def _need_no_pads(value):
    if any(map(any, value.pads)):
        raise _UnsaidError(
            "zeros around values that no convolution takes", "use ZeroPadding only in front of convolutions"
        )


@functools.singledispatch
def _say(node, writer, *inputs):
    """Add the NIR nodes for a node; return its `_Value`."""
    raise _UnsaidError("no word for it", "leave it out")


@_say.register
def _(node: kinds.Input, writer):
    count = sum(isinstance(other, kinds.Input) for other in writer.graph.nodes.values())
    order = _channels_first(node.shape)
    name = writer.put("input" if count == 1 else node.name, writer.nir.Input(np.array(order.shape)))
    return _Value(node.shape, (_Piece((name,), order),))


@_say.register
def _(node: kinds.Affine, writer, x):
    if node.transposed:
        raise _UnsaidError("no transposed convolution", "use convolutions that do not enlarge")
    if len(node.window) > 2:
        raise _UnsaidError("no convolution of three dimensions", "use Conv1D or Conv2D")
    if len(x.shape) > 3:
        raise _UnsaidError(f"a dense layer on {len(x.shape)} axes", "flatten in front of it")
    if len(x.shape) == 1:
        return _dense(node, writer, x)
    if not node.window:
        # On every position, which is a convolution of one value.
        rank = len(x.shape) - 1
        ones = (1,) * rank
        kernel = node.kernel.reshape(*ones, *node.kernel.shape)
        node = dataclasses.replace(node, kernel=kernel, strides=ones, dilation=ones)
    return _convolution(node, writer, x)


def _dense(node, writer, x):
    sources, bias = (), node.bias
    for piece in x.pieces:
        weight = np.where(piece.order >= 0, node.kernel.T[:, piece.order], 0)
        affine = writer.nir.Affine(_cast(weight, writer.dtype), _cast(bias, writer.dtype))
        sources += (writer.put(node.name, affine, piece.sources),)
        bias = np.zeros_like(bias)
    return _Value(node.shape, (_Piece(sources, np.arange(node.shape[-1])),))


def _convolution(node, writer, x):
    *spatial, _ = x.shape
    pads = x.pads[:-1] or ((0, 0),) * len(spatial)
    if x.pads and any(x.pads[-1]):
        raise _UnsaidError("zeros as channels", "pad the axes of space only")
    keeps_groups = writer.compact and len(x.pieces) == 1
    groups = node.groups if keeps_groups else 1
    if not keeps_groups:
        node = dataclasses.replace(node, kernel=dense_kernel(node.kernel, node.groups), groups=1)
    embedded = embedded_kernel(node, spatial, pads, square=len(spatial) == 2 and not writer.compact)
    if embedded is None:
        raise _UnsaidError(
            f"nir.read rejects a kernel of {' × '.join(map(str, node.window))} values, which fits no square",
            "use square kernels, or compact=True and nir.read(path, type_check=False)",
        )
    kernel, padding, dilation = embedded
    sources, bias = (), node.bias
    for piece in x.pieces:
        channels = _channels(piece, x.shape)
        rows = kernel
        if groups == 1:
            rows = np.where((channels >= 0)[:, None], kernel[..., channels, :], 0)
        elif not np.array_equal(channels, np.arange(len(channels))):
            raise _UnsaidError("groups of channels that were moved", "use groups=1, or compact=False")
        layer = _nir_convolution(
            writer,
            weight=np.moveaxis(rows, (-1, -2), (0, 1)),
            bias=bias,
            input_shape=spatial,
            stride=node.strides,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        sources += (writer.put(node.name, layer, piece.sources),)
        bias = np.zeros_like(bias)
    return _Value(node.shape, (_Piece(sources, _channels_first(node.shape)),))


def _nir_convolution(writer, *, weight, bias, groups, **per_axis):
    arrays = {"weight": _cast(weight, writer.dtype), "bias": _cast(bias, writer.dtype)}
    numbers = {name: tuple(map(int, values)) for name, values in per_axis.items()}
    if weight.ndim == 4:
        return writer.nir.Conv2d(**arrays, **numbers, groups=groups)
    return writer.nir.Conv1d(**arrays, **{name: value for name, (value,) in numbers.items()}, groups=groups)


def _channels(piece, shape):
    """Return the channel of a value of `shape` that each channel of a piece is; −1 if none.

    Raises:
        _UnsaidError: If the piece is not whole channels in their order in space.
    """
    *spatial, channels = shape
    if piece.order.shape[1:] == tuple(spatial):
        order = piece.order.reshape(len(piece.order), -1)
        first = order[:, :1]
        wanted = np.where(first >= 0, first + channels * np.arange(order.shape[1]), -1)
        if first.max() < channels and np.array_equal(order, wanted):
            return first[:, 0]
    raise _UnsaidError(
        "a convolution of values that were moved in space; values can only be flattened",
        "reshape, permute and crop outside of the network",
    )


@_say.register
def _(node: kinds.ChannelAffine, writer, x):
    _need_no_pads(x)
    scale, shift = (np.broadcast_to(v, x.shape).reshape(-1) for v in (node.scale, node.shift))
    pieces = []
    for piece in x.pieces:
        of_piece = [np.where(piece.order >= 0, v[piece.order], 0) for v in (scale, shift)]
        if not np.any(of_piece[1]):
            pieces.append(writer.scaled(node.name, piece, of_piece[0]))
            continue
        axes = tuple(range(1, piece.order.ndim))
        if any(np.any(np.ptp(v, axis=axes)) for v in of_piece if axes):
            raise _UnsaidError("a constant that differs from place to place", "use biases")
        weight, bias = (v.reshape(len(v), -1)[:, 0] for v in of_piece)
        weight = np.diag(weight)
        if axes:
            ones = (1,) * len(axes)
            layer = _nir_convolution(
                writer,
                weight=weight.reshape(*weight.shape, *ones),
                bias=bias,
                input_shape=piece.order.shape[1:],
                stride=ones,
                padding=(0,) * len(axes),
                dilation=ones,
                groups=1,
            )
        else:
            layer = writer.nir.Affine(_cast(weight, writer.dtype), _cast(bias, writer.dtype))
        pieces.append(_Piece((writer.put(node.name, layer, piece.sources),), piece.order))
    return _Value(x.shape, tuple(pieces))


@_say.register
def _(node: kinds.Spike, writer, x):
    _need_no_pads(x)
    kind, fields, metadata = writer.neuron_fields(node.neuron, writer.dtype)
    pieces = []
    for piece in x.pieces:
        shape = piece.order.shape
        arrays = {name: np.full(shape, value, writer.dtype) for name, value in fields.items()}
        neuron = getattr(writer.nir, kind)(**arrays, metadata=metadata)
        # Its neurons go by the layer they belong to, as in Keras, which is that of the weights.
        name = f"{node.name.removesuffix('/spike')}_{kind.lower()}"
        pieces.append(_Piece((writer.put(name, neuron, piece.sources),), piece.order))
    return _Value(x.shape, tuple(pieces))


@_say.register
def _(node: kinds.Pool, writer, x):
    if node.function == "max":
        raise _UnsaidError("no maximum", "train with average pooling, or with strides instead of pooling")
    if len(node.window) > 2:
        raise _UnsaidError("no pooling of three dimensions", "pool in two")
    _need_no_pads(x)
    kind = writer.nir.SumPool2d if node.name in writer.sums else writer.nir.AvgPool2d
    pieces = []
    for piece in x.pieces:
        channels = _channels(piece, x.shape)
        pool = kind(
            kernel_size=np.array(node.window), stride=np.array(node.strides), padding=np.zeros(2, int)
        )
        name = writer.put(node.name, pool, piece.sources)
        order = _channels_first(node.shape)[channels]
        order[channels < 0] = -1
        pieces.append(_Piece((name,), order))
    return _Value(node.shape, tuple(pieces))


@_say.register
def _(node: kinds.Rearrange, writer, x):
    if node.function == "repeat":
        raise _UnsaidError("no word for repeating values", "leave up-sampling out")
    if node.function == "pad":
        before = x.pads or ((0, 0),) * len(x.shape)
        pads = tuple((a + c, b + d) for (a, b), (c, d) in zip(before, node.argument, strict=True))
        return _Value(x.shape, x.pieces, pads)
    _need_no_pads(x)
    size = int(np.prod(x.shape))
    moved = node.move(np.arange(size).reshape(x.shape)).reshape(-1)
    # The last place is for what is not part of the value.
    places = np.full(size + 1, -1)
    places[moved] = np.arange(len(moved))
    pieces = []
    for piece in x.pieces:
        order = places[piece.order]
        if len(node.shape) == 1 and order.ndim > 1:
            flatten = writer.nir.Flatten(np.array(order.shape), start_dim=0, end_dim=-1)
            piece = _Piece((writer.put(node.name, flatten, piece.sources),), piece.order)
            order = order.reshape(-1)
        pieces.append(_Piece(piece.sources, order))
    return _Value(node.shape, tuple(pieces))


@_say.register
def _(node: kinds.Add, writer, *inputs):
    for value in inputs:
        _need_no_pads(value)
    pieces = []
    for parts in zip(*(value.pieces for value in inputs), strict=False):
        same = all(np.array_equal(parts[0].order, part.order) for part in parts)
        if not same or len({len(value.pieces) for value in inputs}) > 1:
            raise _UnsaidError("a sum of values that were moved differently", "move the sum instead")
        sources = ()
        for part in parts:
            if set(part.sources) & set(sources):
                # NIR has no two edges between the same nodes.
                part = writer.scaled(f"{node.name}_again", part, np.ones(part.order.shape))
            sources += part.sources
        pieces.append(_Piece(sources, parts[0].order))
    return _Value(node.shape, tuple(pieces))


@_say.register
def _(node: kinds.Concatenate, writer, *inputs):
    pieces, start = [], 0
    indices = np.arange(int(np.prod(node.shape))).reshape(node.shape)
    for value in inputs:
        _need_no_pads(value)
        stop = start + value.shape[node.axis]
        places = np.append(np.take(indices, range(start, stop), node.axis).reshape(-1), -1)
        pieces += [_Piece(piece.sources, places[piece.order]) for piece in value.pieces]
        start = stop
    return _Value(node.shape, tuple(pieces))


@_say.register
def _(node: kinds.Encode, writer, x):
    raise _UnsaidError("no random numbers", "convert with input_encoding='events', and encode outside")


@_say.register
def _(node: kinds.Activation, writer, x):
    if not writer.users[node.name]:
        return x
    raise _UnsaidError(f"no {node.function}", "train with activation='relu'")


@_say.register
def _(node: kinds.Opaque, writer, *inputs):
    raise _UnsaidError(f"no word for {node.layer_class}", node.way_out)


def _cast(array, dtype):
    return np.ascontiguousarray(array, dtype)


def say_neuron(neuron, dtype, *, dt):
    """Return `(class, fields, metadata)` of a neuron, for `nir_graph`.

    Args:
        neuron: Object of `keras_snn.neurons`.
        dtype: Dtype of the arrays.
        dt: Length of a time step.

    Returns:
        With a reset to zero the threshold is the next smaller number, so that v > threshold is what
        v ≥ v_threshold is here.

    Raises:
        _UnsaidError: If NIR has no such neuron.
    """
    form = neuron.nir_form(dt)
    if form is None:
        raise _UnsaidError(
            f"no {type(neuron).__name__} neurons, only those with one potential and spikes of 1",
            "convert with neuron='if', without delays and corrections",
        )
    threshold = np.asarray(neuron.v_threshold, dtype)
    if neuron.reset == "zero":
        threshold = np.nextafter(threshold, np.zeros((), dtype))
    metadata = {"reset": neuron.reset, "initial_potential": float(neuron.initial_potential)}
    kind, fields = form
    return kind, {**fields, "v_threshold": threshold}, metadata
