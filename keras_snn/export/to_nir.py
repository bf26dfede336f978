"""From a graph with neurons to the nodes and edges of NIR.

NIR is channels first and sums the edges into a node. A value of the graph is a few
`Piece`s of NIR values, so that concatenating, flattening and permuting cost nothing:
the next weights are permuted instead.
"""

import dataclasses
import functools
import re

import numpy as np

from keras_snn.export.pieces import NotInNIRError, Piece, Value, channels_first, channels_of, refuse_pads
from keras_snn.export.places import kernel_on_ones
from keras_snn.export.windows import dense_kernel, embedded_kernel
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name

__all__ = ["nir_graph", "write_neuron"]

_NAME = re.compile(r"\W+")


def nir_graph(graph, sums, neuron_fields, *, compact):
    """Translate a graph to NIR.

    Args:
        graph: A `Graph` with neurons, of `without_pools`.
        sums: Names of the pools that are sums.
        neuron_fields: Function of a neuron and the dtype that gives `(class, fields, metadata)`: the name of
            the class in `nir`, its fields as numbers, and a dict of what it has no field for.
        compact: Whether grouped convolutions and kernels that are not square stay as they are.

    Returns:
        `(nodes, edges, obstacles)`: a dict of objects of `nir`, a list of pairs of names, and a list of
        `(name, what, reason, way_out)` for all nodes that NIR cannot express.
    """
    writer = _Writer(graph, sums, neuron_fields, compact)
    for node in graph.nodes.values():
        writer.add(node)
    names = graph.output_names
    for i, name in enumerate(names):
        writer.finish(name, "output" if len(names) == 1 else f"output_{i}")
    return writer.nodes, writer.edges, writer.obstacles


class _Writer:
    """The nodes and edges written so far, and the `Value` of each node of the graph."""

    def __init__(self, graph, sums, neuron_fields, compact):
        import nir

        self.nir = nir
        self.graph, self.sums, self.neuron_fields, self.compact = graph, sums, neuron_fields, compact
        self.nodes, self.edges, self.obstacles, self.values = {}, [], [], {}
        kernels = [n.kernel.dtype for n in graph.nodes.values() if isinstance(n, kinds.Affine)]
        self.dtype = np.result_type("float32", *kernels)
        self.users = graph.users()

    def add(self, node):
        """Write a node, or note why NIR cannot express it."""
        inputs = [self.values[name] for name in node.inputs]
        if None in inputs:
            # Something before it is an obstacle already; it may be one itself.
            inputs = [value or self._stand_in(name) for value, name in zip(inputs, node.inputs, strict=True)]
        before = dict(self.nodes), list(self.edges)
        try:
            self.values[node.name] = _write(node, self, *inputs)
        except NotInNIRError as error:
            self.nodes, self.edges = before
            self.values[node.name] = None
            name = (node.origins or (node.name,))[0]
            self.obstacles.append((name, type(node).__name__, error.reason, error.way_out))

    def finish(self, name, output):
        """Let the value of a node be an output."""
        value = self.values[name]
        if value is None:
            return
        (piece, *others), shape = value.pieces, value.shape
        if others or any(map(any, value.pads)) or not np.array_equal(piece.order, channels_first(shape)):
            way_out = "end the network with a Dense layer or neurons"
            self.obstacles.append((name, "output", "values that were moved and then not used", way_out))
            return
        if len(piece.sources) > 1 or piece.sources[0] in self.graph.inputs:
            # Readers sum what goes into a node, but not all of them what goes into an output.
            piece = self.scaled(f"{name}_sum", piece, np.ones(piece.order.shape))
        self.put(output, self.nir.Output(np.array(piece.order.shape)), piece.sources)

    def _stand_in(self, name):
        shape = self.graph.nodes[name].shape
        return Value(shape, (Piece((), channels_first(shape)),))

    def put(self, name, node, sources=()):
        """Add a NIR node after others; return its name, of letters, digits and underscores only."""
        name = free_name(_NAME.sub("_", name), self.nodes)
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def scaled(self, name, piece, scale):
        node = self.nir.Scale(np.asarray(scale, self.dtype))
        return Piece((self.put(name, node, piece.sources),), piece.order)


@functools.singledispatch
def _write(_node, _writer, *_inputs):
    """Add the NIR nodes for a node; return its `Value`."""
    raise NotInNIRError("NIR has no node for it", "leave it out")


@_write.register
def _write_input(node: kinds.Input, writer):
    count = sum(isinstance(other, kinds.Input) for other in writer.graph.nodes.values())
    order = channels_first(node.shape)
    name = writer.put("input" if count == 1 else node.name, writer.nir.Input(np.array(order.shape)))
    return Value(node.shape, (Piece((name,), order),))


@_write.register
def _write_affine(node: kinds.Affine, writer, x):
    if node.transposed:
        raise NotInNIRError("no transposed convolution", "use convolutions that do not enlarge")
    if len(node.window) > 2:
        raise NotInNIRError("no convolution of three dimensions", "use Conv1D or Conv2D")
    if len(x.shape) > 3:
        raise NotInNIRError(f"a dense layer on {len(x.shape)} axes", "flatten in front of it")
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
    return Value(node.shape, (Piece(sources, np.arange(node.shape[-1])),))


def _convolution(node, writer, x):
    *spatial, _ = x.shape
    pads = x.pads[:-1] or ((0, 0),) * len(spatial)
    if x.pads and any(x.pads[-1]):
        raise NotInNIRError("zeros as channels", "pad the axes of space only")
    keeps_groups = writer.compact and len(x.pieces) == 1
    groups = node.groups if keeps_groups else 1
    if not keeps_groups:
        node = dataclasses.replace(node, kernel=dense_kernel(node.kernel, node.groups), groups=1)
    embedded = embedded_kernel(node, spatial, pads, square=len(spatial) == 2 and not writer.compact)
    if embedded is None:
        raise NotInNIRError(
            f"nir.read rejects a kernel of {' × '.join(map(str, node.window))} values, which fits no square",
            "use square kernels, or compact=True and nir.read(path, type_check=False)",
        )
    kernel, padding, dilation = embedded
    sources, bias = (), node.bias
    for piece in x.pieces:
        channels = channels_of(piece, x.shape)
        rows = kernel
        if groups == 1:
            rows = np.where((channels >= 0)[:, None], kernel[..., channels, :], 0)
        elif not np.array_equal(channels, np.arange(len(channels))):
            raise NotInNIRError("groups of channels that were moved", "use groups=1, or compact=False")
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
    return Value(node.shape, (Piece(sources, channels_first(node.shape)),))


def _nir_convolution(writer, *, weight, bias, groups, **per_axis):
    arrays = {"weight": _cast(weight, writer.dtype), "bias": _cast(bias, writer.dtype)}
    numbers = {name: tuple(map(int, values)) for name, values in per_axis.items()}
    if weight.ndim == 4:
        return writer.nir.Conv2d(**arrays, **numbers, groups=groups)
    return writer.nir.Conv1d(**arrays, **{name: value for name, (value,) in numbers.items()}, groups=groups)


@_write.register
def _write_channel_affine(node: kinds.ChannelAffine, writer, x):
    refuse_pads(x)
    if node.only_adds and node.shift.ndim > 1:
        return _added_by_place(node, writer, x)
    scale, shift = (np.broadcast_to(v, x.shape).reshape(-1) for v in (node.scale, node.shift))
    pieces = []
    for piece in x.pieces:
        of_piece = [np.where(piece.order >= 0, v[piece.order], 0) for v in (scale, shift)]
        if not np.any(of_piece[1]):
            pieces.append(writer.scaled(node.name, piece, of_piece[0]))
            continue
        axes = tuple(range(1, piece.order.ndim))
        if any(np.any(np.ptp(v, axis=axes)) for v in of_piece if axes):
            raise NotInNIRError("a constant that differs from place to place", "use biases")
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
        pieces.append(Piece((writer.put(node.name, layer, piece.sources),), piece.order))
    return Value(x.shape, tuple(pieces))


def _added_by_place(node, writer, x):
    """Return the sum of what a convolution gives and a constant: of a convolution of ones beside it."""
    layer = writer.graph.nodes[node.inputs[0]]
    given = writer.values[layer.inputs[0]] if isinstance(layer, kinds.Affine) and layer.window else None
    kernel = None
    if given is not None:
        *spatial, channels = given.shape
        pads = given.pads[:-1] or ((0, 0),) * len(spatial)
        kernel = kernel_on_ones(layer, spatial, pads, np.broadcast_to(node.shift, x.shape))
    if kernel is None:
        raise NotInNIRError("a constant that differs from place to place", "use biases")
    once, shape = (1,) * len(spatial), (*spatial, 1)
    ones = dataclasses.replace(
        layer, name=f"{node.name}_ones", shape=shape, strides=once, dilation=once, groups=1
    )
    ones = dataclasses.replace(ones, kernel=np.zeros((*once, channels, 1)), bias=np.ones(1), padding="valid")
    ones = _convolution(ones, writer, dataclasses.replace(given, pads=()))
    of_ones = dataclasses.replace(
        layer, name=node.name, kernel=kernel, bias=np.zeros_like(layer.bias), groups=1
    )
    added = _convolution(of_ones, writer, dataclasses.replace(ones, pads=given.pads))
    (first,), (second,) = x.pieces, added.pieces
    return Value(x.shape, (Piece(first.sources + second.sources, first.order),))


@_write.register
def _write_spike(node: kinds.Spike, writer, x):
    refuse_pads(x)
    kind, fields, metadata = writer.neuron_fields(node.neuron, writer.dtype)
    pieces = []
    fields = {name: np.broadcast_to(value, x.shape).reshape(-1) for name, value in fields.items()}
    for piece in x.pieces:
        arrays = {name: _cast(value[piece.order], writer.dtype) for name, value in fields.items()}
        neuron = getattr(writer.nir, kind)(**arrays, metadata=metadata)
        # Its neurons go by the layer they belong to, as in Keras, which is that of the weights.
        name = f"{node.name.removesuffix('/spike')}_{kind.lower()}"
        pieces.append(Piece((writer.put(name, neuron, piece.sources),), piece.order))
    return Value(x.shape, tuple(pieces))


@_write.register
def _write_pool(node: kinds.Pool, writer, x):
    if node.function == "max":
        raise NotInNIRError("no maximum", "train with average pooling, or with strides instead of pooling")
    if len(node.window) > 2:
        raise NotInNIRError("no pooling of three dimensions", "pool in two")
    refuse_pads(x)
    kind = writer.nir.SumPool2d if node.name in writer.sums else writer.nir.AvgPool2d
    pieces = []
    for piece in x.pieces:
        channels = channels_of(piece, x.shape)
        pool = kind(
            kernel_size=np.array(node.window), stride=np.array(node.strides), padding=np.zeros(2, int)
        )
        name = writer.put(node.name, pool, piece.sources)
        order = channels_first(node.shape)[channels]
        order[channels < 0] = -1
        pieces.append(Piece((name,), order))
    return Value(node.shape, tuple(pieces))


@_write.register
def _write_rearrange(node: kinds.Rearrange, writer, x):
    if node.repeats:
        raise NotInNIRError("NIR has no node that repeats values", "leave up-sampling out")
    if node.function == "pad":
        before = x.pads or ((0, 0),) * len(x.shape)
        pads = tuple((a + c, b + d) for (a, b), (c, d) in zip(before, node.argument, strict=True))
        return Value(x.shape, x.pieces, pads)
    refuse_pads(x)
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
            piece = Piece((writer.put(node.name, flatten, piece.sources),), piece.order)
            order = order.reshape(-1)
        pieces.append(Piece(piece.sources, order))
    return Value(node.shape, tuple(pieces))


@_write.register
def _write_add(node: kinds.Add, writer, *inputs):
    for value in inputs:
        refuse_pads(value)
    pieces = []
    for parts in zip(*(value.pieces for value in inputs), strict=False):
        same = all(np.array_equal(parts[0].order, part.order) for part in parts)
        if not same or len({len(value.pieces) for value in inputs}) > 1:
            raise NotInNIRError("a sum of values that were moved differently", "move the sum instead")
        sources = ()
        for part in parts:
            if set(part.sources) & set(sources):
                # NIR has no two edges between the same nodes.
                part = writer.scaled(f"{node.name}_again", part, np.ones(part.order.shape))
            sources += part.sources
        pieces.append(Piece(sources, parts[0].order))
    return Value(node.shape, tuple(pieces))


@_write.register
def _write_concatenate(node: kinds.Concatenate, _writer, *inputs):
    pieces, start = [], 0
    indices = np.arange(int(np.prod(node.shape))).reshape(node.shape)
    for value in inputs:
        refuse_pads(value)
        stop = start + value.shape[node.axis]
        places = np.append(np.take(indices, range(start, stop), node.axis).reshape(-1), -1)
        pieces += [Piece(piece.sources, places[piece.order]) for piece in value.pieces]
        start = stop
    return Value(node.shape, tuple(pieces))


@_write.register
def _write_encode(_node: kinds.Encode, *_):
    raise NotInNIRError("no random numbers", "convert with input_encoding='events', and encode outside")


@_write.register
def _write_activation(node: kinds.Activation, writer, x):
    # Of integers, which the metadata asks for, a rounding makes what they are.
    is_grid = node.levels == node.max_value and node.inputs[0] in writer.graph.inputs
    if is_grid or not writer.users[node.name]:
        return x
    if node.levels:
        way_out = "convert with input_encoding='events', and give integers at every step"
        raise NotInNIRError("no rounding of numbers", way_out)
    raise NotInNIRError(f"no {node.function}", "train with activation='relu'")


@_write.register
def _write_opaque(node: kinds.Opaque, *_):
    raise NotInNIRError(f"NIR has no node for {node.layer_class}", node.way_out)


def _cast(array, dtype):
    return np.ascontiguousarray(array, dtype)


def write_neuron(neuron, dtype, *, dt):
    """Return `(class, fields, metadata)` of a neuron, for `nir_graph`.

    Args:
        neuron: Object of `keras_snn.neurons`.
        dtype: Dtype of the arrays.
        dt: Length of a time step.

    Returns:
        With a reset to zero the threshold is the next smaller number, so that v > threshold is what
        v ≥ v_threshold is here.

    Raises:
        NotInNIRError: If NIR has no such neuron.
    """
    form = neuron.nir_form(dt)
    if form is None:
        raise NotInNIRError(
            f"no {type(neuron).__name__} neurons, only those with one potential and spikes of 1",
            "convert with neuron='if', without delays and corrections",
        )
    threshold = np.asarray(neuron.v_threshold, dtype)
    threshold = np.nextafter(threshold, np.zeros((), dtype)) if neuron.reset == "zero" else threshold
    metadata = {"reset": neuron.reset, "initial_potential": float(neuron.initial_potential)}
    return form[0], {**form[1], "v_threshold": threshold}, metadata
