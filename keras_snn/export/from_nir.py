"""From the nodes and edges of NIR to a graph with neurons."""

import dataclasses
import graphlib

import numpy as np

from keras_snn.errors import UnsupportedLayerError
from keras_snn.export.nir_neurons import UnknownNodeError, read_neuron, to_last
from keras_snn.graph import nodes as kinds
from keras_snn.graph.geometry import pad_widths
from keras_snn.graph.graph import Graph, free_name
from keras_snn.graph.passes import fold

__all__ = ["graph_of"]


def graph_of(source, settings):
    """Translate a graph of NIR, to channels last.

    Args:
        source: A `nir.NIRGraph`.
        settings: What `settings_of` returned.

    Returns:
        `(graph, assumed)`: a `Graph`, and a dict of the settings that neither file nor arguments give, and
            what was assumed instead.

    Raises:
        UnsupportedLayerError: If there are nodes without a counterpart; lists all of them.
    """
    reader = _Reader(settings, source.metadata)
    nodes, edges = _flat(source)
    sources = {name: [a for a, b in edges if b == name] for name in nodes}
    try:
        order = list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as error:
        cycle = " → ".join(error.args[1])
        raise UnsupportedLayerError(
            f"The NIR graph must have no recurrent edges, which are not supported. Received: {cycle}."
        ) from error
    for name in order:
        reader.add(name, nodes[name], sources[name], is_top=name in source.nodes)
    if reader.obstacles:
        lines = [f"The NIR graph has {len(reader.obstacles)} nodes that cannot be imported:"]
        raise UnsupportedLayerError("\n".join([*lines, *reader.obstacles]))
    if not reader.inputs or not reader.outputs:
        raise ValueError(
            "The NIR graph must have nodes of the types Input and Output. Received: types "
            f"{sorted({type(node).__name__ for node in nodes.values()})}."
        )
    inputs, outputs = (names[0] if len(names) == 1 else names for names in (reader.inputs, reader.outputs))
    return fold(Graph(reader.nodes, inputs, outputs)), reader.assumed


def _flat(graph, prefix=""):
    """Return the nodes by name and the edges of a graph, with those of the graphs in it."""
    nodes, edges = {}, []
    ends = {}
    for name, node in graph.nodes.items():
        path = prefix + name
        if isinstance(node, type(graph)):
            inner, more = _flat(node, f"{path}/")
            nodes |= inner
            edges += more
            ends[name] = tuple(
                [p for p, n in inner.items() if type(n).__name__ == kind and "/" not in p[len(path) + 1 :]]
                for kind in ("Input", "Output")
            )
        else:
            nodes[path] = node
            ends[name] = ([path], [path])
    edges += [(a, b) for first, second in graph.edges for a in ends[first][1] for b in ends[second][0]]
    return nodes, edges


class _Reader:
    """The nodes read so far, by name, and by NIR node the name of the one that has its value."""

    def __init__(self, settings, metadata):
        self.settings, self.metadata = settings, metadata
        self.nodes, self.known_as, self.obstacles, self.assumed = {}, {}, [], {}
        self.inputs, self.outputs = [], []

    def add(self, name, node, sources, *, is_top):
        """Read a node after others, whose values are summed; or note why it has no counterpart."""
        try:
            x = self._summed(name, sources)
            if x is None and (sources or type(node).__name__ != "Input"):
                if not sources:
                    raise UnknownNodeError("nothing goes into it")
                return
            self.known_as[name] = self._read(name, node, x, is_top).name
        except UnknownNodeError as error:
            self.obstacles.append(f"  - '{name}' ({type(node).__name__}): {error}.")

    def emit(self, kind, name, *inputs, **fields):
        """Add a node and return it."""
        name = free_name(name, self.nodes)
        shape = fields.pop("shape", None)
        node = kind(name=name, inputs=tuple(x.name for x in inputs), origins=(name,), **fields)
        shape = shape or node.output_shape(*(x.shape for x in inputs))
        self.nodes[name] = dataclasses.replace(node, shape=tuple(map(int, shape)))
        return self.nodes[name]

    def _summed(self, name, sources):
        if not sources or not all(source in self.known_as for source in sources):
            return None
        values = [self.nodes[self.known_as[source]] for source in sources]
        if len({value.shape for value in values}) > 1:
            raise UnknownNodeError(f"a sum of values of shapes {sorted({value.shape for value in values})}")
        return values[0] if len(values) == 1 else self.emit(kinds.Add, f"{name}_sum", *values)

    def _read(self, name, node, x, is_top):
        kind = type(node).__name__
        if kind == "Input":
            if x is not None:
                return x
            value = self.emit(kinds.Input, name, shape=_channels_last(node.input_type["input"]))
            self.inputs.append(value.name)
            return value
        if kind == "Output":
            if is_top:
                self.outputs.append(self._with_activation(name, x).name)
            return x
        if kind not in _READERS:
            raise UnknownNodeError("not supported")
        return _READERS[kind](self, name, node, x)

    def _with_activation(self, name, x):
        function = self.metadata.get(f"{name}_activation")
        if function is None:
            return x
        axis = int(self.metadata.get(f"{name}_axis", -1))
        return self.emit(kinds.Activation, name, x, function=str(function), axis=axis)


_READERS = {}


def _reads(*names):
    def decorate(read):
        _READERS.update(dict.fromkeys(names, read))
        return read

    return decorate


def _channels_last(shape):
    channels, *spatial = (int(n) for n in shape)
    return (*spatial, channels)


def _per_axis(value, rank, what):
    """Return a number, or one for each axis, as a tuple of integers."""
    values = np.asarray(value).reshape(-1)
    if len(values) not in (1, rank):
        raise UnknownNodeError(f"{what} must have 1 or {rank} numbers, has {len(values)}")
    return tuple(int(v) for v in np.broadcast_to(values, rank))


def _padded(reader, name, x, padding):
    if not any(padding):
        return x
    widths = (*((n, n) for n in padding), (0, 0))
    return reader.emit(kinds.Rearrange, f"{name}_pad", x, function="pad", argument=widths)


@_reads("Affine", "Linear")
def _dense(reader, name, node, x):
    weight = np.asarray(node.weight)
    if weight.ndim != 2 or len(x.shape) != 1:
        raise UnknownNodeError(f"weights of shape {weight.shape} for values of shape {x.shape}")
    if weight.shape[1] != x.shape[0]:
        raise UnknownNodeError(f"weights for {weight.shape[1]} values, of which there are {x.shape[0]}")
    bias = getattr(node, "bias", None)
    bias = np.zeros(len(weight), weight.dtype) if bias is None else np.asarray(bias)
    return reader.emit(kinds.Affine, name, x, kernel=weight.T, bias=bias)


@_reads("Conv1d", "Conv2d")
def _convolution(reader, name, node, x):
    weight = np.asarray(node.weight)
    rank, groups = weight.ndim - 2, int(np.asarray(node.groups).reshape(-1)[0])
    if len(x.shape) != rank + 1 or x.shape[-1] != weight.shape[1] * groups:
        raise UnknownNodeError(
            f"weights of shape {weight.shape} for values of shape {x.shape}, channels last"
        )
    strides, dilation = (
        _per_axis(value, rank, what) for value, what in ((node.stride, "stride"), (node.dilation, "dilation"))
    )
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        widths = _per_axis(padding, rank, "padding")
        axes = zip(x.shape, weight.shape[2:], strides, dilation, strict=False)
        is_same = any(widths) and all(
            pad_widths(*axis, "same") == (n, n) for axis, n in zip(axes, widths, strict=True)
        )
        padding = "same" if is_same else "valid"
        x = x if is_same else _padded(reader, name, x, widths)
    elif padding == "same" and any(n > 1 for n in strides):
        raise UnknownNodeError("padding='same' with strides, which readers understand differently")
    return reader.emit(
        kinds.Affine,
        name,
        x,
        kernel=np.moveaxis(weight, (0, 1), (-1, -2)),
        bias=np.asarray(node.bias),
        strides=strides,
        dilation=dilation,
        padding=padding,
        groups=groups,
    )


@_reads("SumPool2d", "AvgPool2d")
def _pool(reader, name, node, x):
    if len(x.shape) != 3:
        raise UnknownNodeError(f"values of shape {x.shape}")
    window, strides, padding = (
        _per_axis(value, 2, what)
        for value, what in (
            (node.kernel_size, "kernel_size"),
            (node.stride, "stride"),
            (node.padding, "padding"),
        )
    )
    x = _padded(reader, name, x, padding)
    x = reader.emit(kinds.Pool, name, x, function="average", window=window, strides=strides)
    if type(node).__name__ == "AvgPool2d":
        return x
    return _scaled(reader, f"{name}_scale", x, np.array(float(np.prod(window))), np.zeros(()))


@_reads("Flatten")
def _flatten(reader, name, node, x):
    start, end = int(node.start_dim), int(node.end_dim)
    rank = len(x.shape)
    start, end = start % rank, end % rank
    if rank == 1 or start == end:
        return x
    first = _to_first(x.shape)
    shape = (*first[:start], int(np.prod(first[start : end + 1])), *first[end + 1 :])
    x = reader.emit(
        kinds.Rearrange, f"{name}_order", x, function="transpose", argument=(rank - 1, *range(rank - 1))
    )
    if len(shape) == 1:
        return reader.emit(kinds.Rearrange, name, x, function="reshape", argument=shape)
    x = reader.emit(kinds.Rearrange, f"{name}_part", x, function="reshape", argument=shape)
    order = (*range(1, len(shape)), 0)
    return reader.emit(kinds.Rearrange, name, x, function="transpose", argument=order)


def _to_first(shape):
    return (shape[-1], *shape[:-1])


@_reads("Scale")
def _scale(reader, name, node, x):
    scale = to_last(node.scale)
    if scale.shape and scale.shape != x.shape:
        raise UnknownNodeError(f"a scale of shape {scale.shape} for values of shape {x.shape}, channels last")
    return _scaled(reader, name, x, scale, np.zeros(()))


def _scaled(reader, name, x, scale, shift):
    if np.all(scale == 1) and np.all(shift == 0):
        return x
    scale, shift = (v.reshape(-1)[0] if np.all(v == v.flat[0]) else v for v in (scale, shift))
    return reader.emit(
        kinds.ChannelAffine, name, x, scale=np.asarray(scale, "float64"), shift=np.asarray(shift, "float64")
    )


@_reads("IF", "LIF")
def _neurons(reader, name, node, x):
    layer = read_neuron(node, reader.settings, x.shape)
    reader.assumed |= layer.assumed
    x = _scaled(reader, f"{name}_scale", x, layer.scale, layer.shift)
    return reader.emit(kinds.Spike, name, x, neuron=layer.neuron)
