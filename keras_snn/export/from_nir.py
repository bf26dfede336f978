"""From the nodes and edges of NIR to a graph with neurons."""

import dataclasses
import graphlib
import math

import numpy as np

from keras_snn import neurons
from keras_snn._validation import check_choice, check_number
from keras_snn.errors import UnsupportedLayerError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.passes import fold

__all__ = ["graph_of", "settings_of"]

_TEXT = {
    "reset": "reset='zero'",
    "threshold": "spikes above the threshold, not at it",
    "initial_potential": "initial_potential=0.0",
}


class _UnknownError(Exception):
    """A node of NIR that there is no word for here; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What NIR does not say of neurons; `None` where nobody said it.

    Attributes:
        reset, initial_potential, dt: As the arguments of `import_nir`.
        given: Names of those that were given as arguments, which metadata of a node does not change.
        threshold: `">"` or `">="`.
    """

    reset: str | None
    initial_potential: float | None
    dt: float | None
    given: tuple[str, ...]
    threshold: str | None

    def of_node(self, metadata):
        """Return the settings of one layer of neurons, of which its metadata may say more."""
        names = ("reset", "initial_potential", "dt")
        said = {name: metadata[name] for name in names if name in metadata and name not in self.given}
        return dataclasses.replace(self, **_checked(said))


def settings_of(metadata, given):
    """Return what the metadata of a graph, or else the arguments, say of neurons.

    Args:
        metadata: Dict.
        given: Dict of `reset`, `initial_potential` and `dt`, each `None` if it was not given.

    Raises:
        TypeError, ValueError: If the metadata is not what it may be.
    """
    given = {name: value for name, value in given.items() if value is not None}
    names = ("reset", "initial_potential", "dt", "threshold")
    found = _checked({name: metadata[name] for name in names if name in metadata})
    return _Settings(**{**dict.fromkeys(names), **found, **given}, given=tuple(given))


def _checked(said):
    """Return a dict of what metadata says of neurons, if that is what it may be."""
    for name, value in said.items():
        field = f"metadata['{name}']"
        if name == "reset":
            check_choice(field, value, ("zero", "subtract"))
        elif name == "threshold":
            check_choice(field, value, (">", ">="))
        else:
            check_number(field, value, above=0 if name == "dt" else -math.inf)
    return said


def graph_of(source, settings):
    """Say a graph of NIR in our words, channels last.

    Args:
        source: A `nir.NIRGraph`.
        settings: What `settings_of` returned.

    Returns:
        `(graph, assumed)`: a `Graph`, and a dict of what nobody said and what was assumed instead.

    Raises:
        UnsupportedLayerError: If there are nodes that cannot be said; lists all of them.
    """
    reader = _Reader(settings, source.metadata)
    nodes, edges = _flat(source)
    sources = {name: [a for a, b in edges if b == name] for name in nodes}
    try:
        order = list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as error:
        cycle = " → ".join(error.args[1])
        raise UnsupportedLayerError(
            f"The NIR graph must have no recurrent edges, which have no words here. Received: {cycle}."
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
    return fold(kinds.Graph(reader.nodes, inputs, outputs)), reader.assumed


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
    """The nodes said so far, by name, and by NIR node the name of the one that has its value."""

    def __init__(self, settings, metadata):
        self.settings, self.metadata = settings, metadata
        self.nodes, self.known_as, self.obstacles, self.assumed = {}, {}, [], {}
        self.inputs, self.outputs = [], []

    def add(self, name, node, sources, *, is_top):
        """Say a node behind others, whose values are summed; or note why it cannot be said."""
        try:
            x = self._summed(name, sources)
            if x is None and (sources or type(node).__name__ != "Input"):
                if not sources:
                    raise _UnknownError("nothing goes into it")
                return
            self.known_as[name] = self._say(name, node, x, is_top).name
        except _UnknownError as error:
            self.obstacles.append(f"  - '{name}' ({type(node).__name__}): {error}.")

    def emit(self, kind, name, *inputs, **fields):
        """Add a node and return it."""
        name = kinds.free_name(name, self.nodes)
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
            raise _UnknownError(f"a sum of values of shapes {sorted({value.shape for value in values})}")
        return values[0] if len(values) == 1 else self.emit(kinds.Add, f"{name}_sum", *values)

    def _say(self, name, node, x, is_top):
        kind = type(node).__name__
        if kind == "Input":
            if x is not None:
                return x
            value = self.emit(kinds.Input, name, shape=_channels_last(node.input_type["input"]))
            self.inputs.append(value.name)
            return value
        if kind == "Output":
            if is_top:
                self.outputs.append(self._behind(name, x).name)
            return x
        if kind not in _WORDS:
            raise _UnknownError("no word for it here")
        return _WORDS[kind](self, name, node, x)

    def _behind(self, name, x):
        function = self.metadata.get(f"{name}_activation")
        if function is None:
            return x
        axis = int(self.metadata.get(f"{name}_axis", -1))
        return self.emit(kinds.Activation, name, x, function=str(function), axis=axis)


_WORDS = {}


def _word(*names):
    def decorate(say):
        _WORDS.update(dict.fromkeys(names, say))
        return say

    return decorate


def _channels_last(shape):
    channels, *spatial = (int(n) for n in shape)
    return (*spatial, channels)


def _per_axis(value, rank, what):
    """Return a number, or one for each axis, as a tuple of integers."""
    values = np.asarray(value).reshape(-1)
    if len(values) not in (1, rank):
        raise _UnknownError(f"{what} must have 1 or {rank} numbers, has {len(values)}")
    return tuple(int(v) for v in np.broadcast_to(values, rank))


def _padded(reader, name, x, padding):
    if not any(padding):
        return x
    widths = (*((n, n) for n in padding), (0, 0))
    return reader.emit(kinds.Rearrange, f"{name}_pad", x, function="pad", argument=widths)


@_word("Affine", "Linear")
def _dense(reader, name, node, x):
    weight = np.asarray(node.weight)
    if weight.ndim != 2 or len(x.shape) != 1:
        raise _UnknownError(f"weights of shape {weight.shape} for values of shape {x.shape}")
    if weight.shape[1] != x.shape[0]:
        raise _UnknownError(f"weights for {weight.shape[1]} values, of which there are {x.shape[0]}")
    bias = getattr(node, "bias", None)
    bias = np.zeros(len(weight), weight.dtype) if bias is None else np.asarray(bias)
    return reader.emit(kinds.Affine, name, x, kernel=weight.T, bias=bias)


@_word("Conv1d", "Conv2d")
def _convolution(reader, name, node, x):
    weight = np.asarray(node.weight)
    rank, groups = weight.ndim - 2, int(np.asarray(node.groups).reshape(-1)[0])
    if len(x.shape) != rank + 1 or x.shape[-1] != weight.shape[1] * groups:
        raise _UnknownError(f"weights of shape {weight.shape} for values of shape {x.shape}, channels last")
    strides, dilation = (
        _per_axis(value, rank, what) for value, what in ((node.stride, "stride"), (node.dilation, "dilation"))
    )
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        widths = _per_axis(padding, rank, "padding")
        axes = zip(x.shape, weight.shape[2:], strides, dilation, strict=False)
        is_same = any(widths) and all(
            kinds.pad_widths(*axis, "same") == (n, n) for axis, n in zip(axes, widths, strict=True)
        )
        padding = "same" if is_same else "valid"
        x = x if is_same else _padded(reader, name, x, widths)
    elif padding == "same" and any(n > 1 for n in strides):
        raise _UnknownError("padding='same' with strides, which readers understand differently")
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


@_word("SumPool2d", "AvgPool2d")
def _pool(reader, name, node, x):
    if len(x.shape) != 3:
        raise _UnknownError(f"values of shape {x.shape}")
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


@_word("Flatten")
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


def _to_last(array):
    array = np.asarray(array, "float64")
    return np.moveaxis(array, 0, -1) if array.ndim else array


@_word("Scale")
def _(reader, name, node, x):
    scale = _to_last(node.scale)
    if scale.shape and scale.shape != x.shape:
        raise _UnknownError(f"a scale of shape {scale.shape} for values of shape {x.shape}, channels last")
    return _scaled(reader, name, x, scale, np.zeros(()))


def _scaled(reader, name, x, scale, shift):
    if np.all(scale == 1) and np.all(shift == 0):
        return x
    scale, shift = (v.reshape(-1)[0] if np.all(v == v.flat[0]) else v for v in (scale, shift))
    return reader.emit(
        kinds.ChannelAffine, name, x, scale=np.asarray(scale, "float64"), shift=np.asarray(shift, "float64")
    )


@_word("IF", "LIF")
def _neurons(reader, name, node, x):
    settings = reader.settings.of_node(node.metadata or {})
    arrays = {
        field: _to_last(value)
        for field in ("r", "v_threshold", "v_reset", "v_leak", "tau")
        if (value := getattr(node, field, None)) is not None
    }
    for field, array in arrays.items():
        if array.size > 1 and array.shape != x.shape:
            raise _UnknownError(
                f"{field} of shape {array.shape} for values of shape {x.shape}, channels last"
            )
    assumed = {what: text for what, text in _TEXT.items() if getattr(settings, what) is None}
    reset = settings.reset or "zero"
    leak, scale, shift = _integration(arrays, settings, assumed)
    # A potential counted from v_reset is one that is reset to zero.
    base = _uniform("v_reset", arrays["v_reset"]) if reset == "zero" and "v_reset" in arrays else 0.0
    shift = shift - (1 - leak) * base
    threshold = arrays["v_threshold"] - base
    if np.any(threshold <= 0):
        raise _UnknownError("v_threshold must be above v_reset")
    if reset == "subtract":
        assumed.pop("threshold", None)
    if np.ptp(threshold):
        scale, shift, threshold = scale / threshold, shift / threshold, np.ones(())
        if base and settings.initial_potential is None:
            raise _UnknownError("v_threshold differs between neurons, and v_reset is not 0")
    threshold = float(threshold.flat[0])
    start = settings.initial_potential
    start = -base / threshold if start is None else float(start)
    if reset == "zero" and settings.threshold != ">=":
        dtype = getattr(node.v_threshold, "dtype", np.dtype("float32"))
        threshold = float(np.nextafter(np.asarray(threshold, dtype), np.asarray(np.inf, dtype)))
    reader.assumed |= assumed
    x = _scaled(reader, f"{name}_scale", x, scale, shift)
    if leak == 1:
        neuron = neurons.IntegrateAndFire(threshold, reset, start)
    else:
        neuron = neurons.LeakyIntegrateAndFire(leak, threshold, start, reset)
    return reader.emit(kinds.Spike, name, x, neuron=neuron)


def _integration(arrays, settings, assumed):
    """Return `(leak, scale, shift)`: a step of the neuron is v ← leak·v + scale·current + shift."""
    r, dt = arrays["r"], settings.dt
    if "tau" not in arrays:
        if dt is None:
            dt = 1 / _uniform("r", r)
            assumed["dt"] = f"dt={dt:g}"
        return 1.0, r * dt, np.zeros(())
    tau = _uniform("tau", arrays["tau"])
    if dt is None:
        if np.all(r == 1):
            raise _UnknownError("r = 1 does not tell the length of a step; give import_nir(…, dt=…)")
        dt = tau / _uniform("r", r)
        assumed["dt"] = f"dt={dt:g}"
    if not 0 < dt <= tau:
        raise _UnknownError(f"tau = {tau:g} is shorter than a step, dt = {dt:g}")
    return 1 - dt / tau, r * (dt / tau), arrays.get("v_leak", np.zeros(())) * (dt / tau)


def _uniform(what, array):
    if np.ptp(array):
        raise _UnknownError(f"{what} differs between neurons")
    return float(array.flat[0])
