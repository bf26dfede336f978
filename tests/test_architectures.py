"""The laws on random architectures, composed of all that converts, with random options, and hand-written.

An architecture is plain data: a dict that `build` makes a model of. A step that does not fit
the value it meets is left out, so any list of steps will do and a failing one shrinks to few.
`KERAS_SNN_EXAMPLES` is how many to try, `KERAS_SNN_SEED` which ones.
"""

import itertools
import math
import os
import tempfile
import warnings
from unittest import mock

import contracts
import keras
import networks
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_snn
from keras_snn import neurons
from keras_snn.conversion.calibration import calibrate
from keras_snn.conversion.normalization import relus
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.simulation.compiled_functions import set_watch
from keras_snn.simulation.from_layers import as_spiking_model
from keras_snn.simulation.internals import internals

EXAMPLES = int(os.environ.get("KERAS_SNN_EXAMPLES", "16"))
SEED = int(os.environ.get("KERAS_SNN_SEED", "0"))
SHARDS = 2
LARGEST = 256

# What cases have that does not matter, and those that once failed.
PLAIN = {
    "shapes": [(4, 5, 2)], "shape": (5,), "outputs": [], "named": False, "seed": 0, "compiled": False,
    "saved": False, "long": False, "calibrated": True, "options": {}, "dtype": "float32",
}  # fmt: skip
_BLOCK = ("block", {"units": 2, "stride": 1, "norm": "no"})
_HOW = {
    "neuron": neurons.IntegrateAndFire(), "pooling": "exact", "softmax": "potential", "averages": False,
    "back": 0,
}  # fmt: skip
FOUND = {
    "a gate for each": (
        "architectures",
        {
            "steps": [
                ("for_each", {"steps": [("merge", {"name": "gate", "back": 1, "swap": False})]}),
                ("operation", {"name": "relu"}),
            ]
        },
    ),
    "a delay where nothing changes": (
        "conversions",
        {"steps": [("operation", {"name": "softmax"})], "options": {"readout_delay": "auto"}},
    ),
    "an input that nothing takes": (
        "conversions",
        {"steps": [_BLOCK], "shapes": [(5,), (5,)], "options": {"input_encoding": "poisson"}},
    ),
    "maxima of volumes in float64": (
        "conversions",
        {
            "steps": [
                _BLOCK,
                ("pool", {"function": "Max", "window": (2, 1, 3), "strides": (1, 2, 2), "same": True}),
            ],
            "shapes": [(3, 2, 4, 2)],
            "options": {"dtype": "float64", "neuron": neurons.SignedIntegrateAndFire()},
        },
    ),
    "a state in half precision": (
        "hand-written",
        {"steps": [{"step": "activation", **_HOW}], "dtype": "mixed_bfloat16"},
    ),
    "averages of volumes in float64": (
        "conversions",
        {
            "steps": [
                _BLOCK,
                ("pool", {"function": "Average", "window": (2, 1, 3), "strides": (1, 2, 2), "same": True}),
            ],
            "shapes": [(3, 2, 4, 2)],
            "options": {"dtype": "float64"},
        },
    ),
    "a rule chosen for events": (
        "conversions",
        {"steps": [_BLOCK], "options": {"input_encoding": "events", "normalization": "auto"}},
    ),
    "corrected neurons, watched": (
        "conversions",
        {"steps": [_BLOCK], "options": {"bias_correction": "potential"}},
    ),
    "a product of values, corrected": (
        "conversions",
        {
            "steps": [_BLOCK, ("merge", {"name": "gate", "back": 1, "swap": False})],
            "options": {"bias_correction": True},
        },
    ),
    "a layer after others in one step": (
        "hand-written",
        {
            "steps": [
                {
                    "step": (
                        "residual",
                        {"steps": [("concatenate", {"axis": 0, "back": 0, "stack": True}), _BLOCK]},
                    ),
                    **_HOW,
                },
                {"step": "activation", **_HOW},
            ]
        },
    ),
    "a batch norm after a resizing": (
        "hand-written",
        {
            "steps": [
                {"step": "activation", **_HOW},
                {"step": ("operation", {"name": "Resizing"}), **_HOW},
                {
                    "step": ("batch_norm", {"axis": 1, "scale": False, "center": False, "epsilon": 0.001}),
                    **_HOW,
                },
            ],
            "shape": (5, 4, 3),
        },
    ),
    "a value returned twice": (
        "hand-written",
        {
            "steps": [{"step": step, **_HOW} for step in ("activation", ("permute", {"order": 1}))],
            "shape": (7, 3),
            "outputs": [0],
        },
    ),
}

STEPS, DRAWN = {}, {}

flags = st.booleans()
backs = st.integers(0, 5)
few = st.integers(1, 4)
per_axis = st.tuples(*[st.integers(1, 3)] * 3)
RELUS = ["relu", "relu6", "leaky_relu", "hard_sigmoid"]
OTHERS = ["gelu", "silu", "tanh"]
activations = st.sampled_from([None, None, "relu", *RELUS, *OTHERS])
# Every third step or so is one with neurons.
steps = st.sampled_from(["block", "any", "any"]).flatmap(
    lambda kind: DRAWN["block"] if kind == "block" else st.one_of(*DRAWN.values())
)
step_lists = st.lists(steps, min_size=1, max_size=4)


class _MisfitError(Exception):
    """A step does not fit the value it meets."""


def _step(**drawn):
    """Register a step `function(network, x, *, …)`, which returns a value, or None if it does not fit."""

    def register(function):
        STEPS[function.__name__] = function
        DRAWN[function.__name__] = st.tuples(st.just(function.__name__), st.fixed_dictionaries(drawn))
        return function

    return register


class _Network:
    """The values so far, the last of which is the current one, and the layers that made them."""

    def __init__(self, inputs):
        self.values, self.calls = list(inputs), []

    def __call__(self, layer, x):
        self.calls.append((layer, x.shape))
        return layer(x)

    def run(self, steps):
        for name, options in steps:
            try:
                y = STEPS[name](self, self.values[-1], **options)
            except _MisfitError:
                continue
            if y is not None and 0 < math.prod(y.shape[1:]) <= LARGEST and len(y.shape) <= 5:
                self.values.append(y)
        return self.values[-1]

    def earlier(self, back, shape):
        """Return an earlier value in `shape`, through a dense layer if it has another."""
        x = self.values[-1 - back % len(self.values)]
        if x.shape[1:-1] != shape[:-1]:
            x = layers.Flatten()(x)
            return layers.Reshape(shape)(layers.Dense(math.prod(shape))(x))
        return x if x.shape[1:] == shape else layers.Dense(shape[-1])(x)


def build(architecture):
    """Return the model of an architecture, with random weights, and data for it."""
    inputs = [keras.Input(shape, name=f"in_{i}") for i, shape in enumerate(architecture["shapes"])]
    network = _Network(inputs)
    network.run(architecture["steps"])
    values = network.values
    outputs = [values[-1], *(values[-1 - back % len(values)] for back in architecture["outputs"])]
    if architecture["named"]:
        inputs = {x.name: x for x in inputs}
        outputs = {f"out_{i}": y for i, y in enumerate(outputs)}
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(architecture["seed"])
    networks.randomize(model, rng)
    # A batch norm that reverses some channels meets few maxima by itself.
    for variable in model.weights:
        if variable.path.endswith("gamma"):
            variable.assign(variable * rng.choice([-1, 1], variable.shape))
    return model, networks.data_for(model, rng, samples=3), rng


# --- Layers --------------------------------------------------------------------


def _spatial(name, x):
    """Return the class of a layer for as many spatial axes as `x` has, and their sizes."""
    sizes = x.shape[1:-1]
    if not hasattr(layers, f"{name}{len(sizes)}D"):
        raise _MisfitError
    return getattr(layers, f"{name}{len(sizes)}D"), sizes


def _windows(sizes, kernel, strides, dilation, padding):
    """Return options of a convolution that fit an axis of every size."""
    kernel = tuple(map(min, kernel, sizes))
    # With strides (1, 2) to an output one wide, TensorFlow on oneDNN leaves values unwritten.
    strides = tuple(min(s, max(n - k, 1)) for s, n, k in zip(strides, sizes, kernel, strict=False))
    fits = all((k - 1) * dilation < n for k, n in zip(kernel, sizes, strict=True))
    dilation = dilation if fits and set(strides) == {1} else 1
    return {"kernel_size": kernel, "strides": strides, "dilation_rate": dilation, "padding": padding}


@_step(units=few, use_bias=flags, activation=activations)
def dense(network, x, **options):
    return network(layers.Dense(**options), x)


@_step(axis=backs, units=few)
def einsum_dense(network, x, axis, units):
    letters = "bcdefg"[: len(x.shape) - 1]
    summed = letters[axis % len(letters)]
    left = letters.replace(summed, "")
    shape = [x.shape[1 + letters.index(a)] for a in left]
    layer = layers.EinsumDense(f"a{letters},{summed}z->a{left}z", [*shape, units], bias_axes="z")
    return network(layer, x)


@_step(
    kind=st.sampled_from(["Conv", "grouped", "DepthwiseConv", "SeparableConv", "transposed"]),
    units=few, kernel=per_axis, strides=per_axis, dilation=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same", "causal"]), use_bias=flags, activation=activations,
)  # fmt: skip
def conv(network, x, kind, units, kernel, strides, dilation, padding, **options):
    name = {"grouped": "Conv", "transposed": "Conv"}.get(kind, kind)
    layer, sizes = _spatial(name, x)
    if padding == "causal" and (len(sizes) > 1 or kind not in ("Conv", "grouped")):
        padding = "same"
    if kind == "transposed":
        # TensorFlow has no other dilation in float64.
        sizes, dilation = (5,) * len(sizes), 1
    options.update(_windows(sizes, kernel, strides, dilation, padding))
    if name != "Conv":
        options["strides"] = min(options["strides"])
    if kind == "DepthwiseConv":
        return network(layer(depth_multiplier=1 + units % 2, **options), x)
    if kind == "grouped" and len(sizes) < 3:
        options["groups"] = math.gcd(units, x.shape[-1])
    layer = getattr(layers, f"{layer.__name__}Transpose") if kind == "transposed" else layer
    return network(layer(units, **options), x)


@_step(axis=backs, scale=flags, center=flags, epsilon=st.sampled_from([1e-3, 0.1]))
def batch_norm(network, x, axis, **options):
    # The last axis is the usual one.
    axis = -1 if axis < 3 else 1 + axis % (len(x.shape) - 1)
    return network(layers.BatchNormalization(axis=axis, **options), x)


@_step(units=few, stride=st.integers(1, 2), norm=st.sampled_from(["no", "before", "after"]))
def block(network, x, units, stride, norm):
    layer = layers.Dense(units)
    if len(x.shape) > 2:
        kind, sizes = _spatial("Conv", x)
        layer = kind(units, **_windows(sizes, (3,) * 3, (stride,) * 3, 1, "same"))
    network.values.append(network(layer, x))
    network.run([("batch_norm", {"axis": 0})] * (norm == "before"))
    return network.run([("operation", {"name": "ReLU"})] + [("batch_norm", {"axis": 0})] * (norm == "after"))


@_step(function=st.sampled_from(["Max", "Average"]), window=per_axis, strides=per_axis, same=flags)
def pool(network, x, function, window, strides, same):
    kind, sizes = _spatial(f"{function}Pooling", x)
    if len(sizes) == 3 and keras.config.dtype_policy().compute_dtype == "float64":
        # TensorFlow has no such pools.
        raise _MisfitError
    window, strides = (tuple(map(min, v, sizes)) for v in (window, strides))
    return network(kind(window, strides=strides, padding="same" if same else "valid"), x)


@_step(size=per_axis, interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]))
def up_sampling(network, x, size, interpolation):
    kind, sizes = _spatial("UpSampling", x)
    options = {"interpolation": interpolation} if len(sizes) == 2 else {}
    return network(kind(size[: len(sizes)] if len(sizes) > 1 else size[0], **options), x)


@_step(crop=flags, widths=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 1))] * 3))
def border(network, x, crop, widths):
    kind, sizes = _spatial("Cropping" if crop else "ZeroPadding", x)
    if crop and any(sum(w) >= n for w, n in zip(widths, sizes, strict=False)):
        raise _MisfitError
    return network(kind(widths[: len(sizes)] if len(sizes) > 1 else widths[0]), x)


@_step(order=st.integers(0, 23))
def permute(network, x, order):
    orders = list(itertools.permutations(range(1, len(x.shape))))
    return network(layers.Permute(orders[order % len(orders)]), x)


@_step(rank=st.integers(1, 4), turn=flags)
def reshape(network, x, rank, turn):
    size, shape = math.prod(x.shape[1:]), []
    for _ in range(rank - 1):
        shape.append(next(n for n in (3, 2, 1) if size % n == 0))
        size //= shape[-1]
    shape = [size, *shape] if turn else [*shape, -1]
    return network(layers.Flatten() if rank == 1 else layers.Reshape(shape), x)


# --- Layers and operations of few options --------------------------------------


def _along(x, axis=-1):
    """Return a number for every place along an axis, as an array that broadcasts against `x`."""
    if axis == 1 and x.shape[1] == x.shape[-1]:
        # Keras on TensorFlow then takes it for a bias of the last axis.
        raise _MisfitError
    shape = [-1 if i == axis % len(x.shape) else 1 for i in range(len(x.shape))]
    return np.linspace(-0.5, 1.5, x.shape[axis], dtype="float32").reshape(shape)


OPERATIONS = {
    **{name: lambda x, name=name: layers.Activation(name)(x) for name in (*RELUS, *OTHERS)},
    "ReLU": lambda x: layers.ReLU()(x),
    "limited": lambda x: layers.ReLU(max_value=0.7)(x),
    "limited and leaky": lambda x: layers.ReLU(max_value=0.7, negative_slope=0.3)(x),
    "LeakyReLU": lambda x: layers.LeakyReLU(0.25)(x),
    "PReLU": lambda x: layers.PReLU()(x),
    "LayerNormalization": lambda x: layers.LayerNormalization()(x),
    "Rescaling": lambda x: layers.Rescaling(-0.5, offset=0.25)(x),
    "Dropout": lambda x: layers.Dropout(0.5)(x),
    "RepeatVector": lambda x: layers.RepeatVector(2)(x) if len(x.shape) == 2 else None,
    "Resizing": lambda x: layers.Resizing(3, 2)(x) if len(x.shape) == 4 else None,
    "GlobalMaxPooling": lambda x: _spatial("GlobalMaxPooling", x)[0]()(x),
    "GlobalAveragePooling": lambda x: _spatial("GlobalAveragePooling", x)[0](keepdims=True)(x),
    "Multiply": lambda x: layers.Multiply()([x, ops.convert_to_tensor(_along(x))]),
    "softmax": lambda x: layers.Softmax()(x) if x.shape[-1] > 1 else None,
    "negative": lambda x: -x,
    "times": lambda x: x * -0.5,
    "divided by": lambda x: x / (1 + _along(x)),
    "from one": lambda x: 1.0 - x,
    "plus vector": lambda x: x + _along(x)[0],
    "plus column": lambda x: x + _along(x, 1),
    "times column": lambda x: x * _along(x, 1)[0],
    "abs": ops.abs,
    "relu of ops": ops.relu,
    "leaky_relu of ops": ops.leaky_relu,
    "tanh of ops": ops.tanh,
    "at least": lambda x: ops.maximum(x, 0.25),
    "at most": lambda x: ops.minimum(0.25, x),
    "clip": lambda x: ops.clip(x, -0.25, 0.75),
    "exp": lambda x: ops.exp(ops.minimum(x, 1.0)),
    "mean": lambda x: ops.mean(x, axis=1, keepdims=True),
    "mean of last": lambda x: ops.mean(x, axis=-1) if len(x.shape) > 2 else None,
    "sum": lambda x: ops.sum(x, axis=1) / 4 if len(x.shape) > 2 else None,
    "max": lambda x: ops.max(x, axis=-1, keepdims=True),
    "matmul": lambda x: ops.matmul(x, _along(x).reshape(-1, 1) * np.array([1.0, -0.5], "float32")),
    "swapaxes": lambda x: ops.swapaxes(x, 1, -1),
    "moveaxis": lambda x: ops.moveaxis(x, -1, 1),
    "expand": lambda x: ops.expand_dims(x, 1),
    "squeeze": lambda x: ops.squeeze(x, 1) if x.shape[1] == 1 and len(x.shape) > 2 else None,
    "rest": lambda x: x[:, 1:],
    "every second": lambda x: x[..., ::2],
    "last": lambda x: x[:, -1] if len(x.shape) > 2 else None,
    "pad": lambda x: ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(1, 0)]),
    "repeat": lambda x: ops.repeat(x, 2, axis=1),
    "split": lambda x: ops.add(*ops.split(x, 2, axis=-1)) if x.shape[-1] % 2 == 0 else None,
}


@_step(name=st.sampled_from(list(OPERATIONS)))
def operation(network, x, name):
    return OPERATIONS[name](x)


# --- Several values ------------------------------------------------------------

_MERGING = ("Add", "Subtract", "Average", "Maximum", "Minimum")
MERGES = {
    **{name: lambda pair, name=name: getattr(layers, name)()(pair) for name in _MERGING},
    "product": lambda pair: layers.Multiply()([pair[0], ops.tanh(pair[1])]),
    "gate": lambda pair: pair[0] * ops.sigmoid(pair[1]),
    "+": lambda pair: pair[0] + pair[1],
    "-": lambda pair: pair[0] - pair[1],
    "maximum": lambda pair: ops.maximum(*pair),
}


@_step(name=st.sampled_from(list(MERGES)), back=backs, swap=flags)
def merge(network, x, name, back, swap):
    pair = [x, network.earlier(back, x.shape[1:])]
    return MERGES[name](pair[::-1] if swap else pair)


@_step(axis=backs, back=backs, stack=flags)
def concatenate(network, x, axis, back, stack):
    axis = 1 + axis % (len(x.shape) - 1)
    pair = [x, network.earlier(back, x.shape[1:])]
    return ops.stack(pair, axis) if stack else layers.Concatenate(axis)(pair)


@_step(back=backs)
def call_again(network, x, back):
    known = [layer for layer, shape in network.calls if shape == x.shape]
    return network(known[back % len(known)], x) if known else None


@_step(steps=step_lists, sequential=flags)
def nested(network, x, steps, sequential):
    model = keras.Model(start := keras.Input(x.shape[1:]), _Network([start]).run(steps))
    return network(keras.Sequential([keras.Input(x.shape[1:]), model]) if sequential else model, x)


@_step(steps=step_lists)
def for_each(network, x, steps):
    if len(x.shape) < 3:
        raise _MisfitError
    inner = _Network([start := keras.Input(x.shape[2:])])
    model = keras.Model(start, inner.run(steps))
    is_layer = len(inner.values) == 2 and inner.calls
    return network(layers.TimeDistributed(inner.calls[0][0] if is_layer else model), x)


@_step(steps=step_lists)
def residual(network, x, steps):
    network.run(steps)
    return layers.Add()([x, network.earlier(0, x.shape[1:])])


# --- The laws ------------------------------------------------------------------

shapes = st.sampled_from([(4, 5, 2), (5, 4, 3), (7, 3), (6, 1), (5,), (3, 2, 4, 2)])
architectures = st.fixed_dictionaries(
    {
        "shapes": st.lists(shapes, min_size=1, max_size=2),
        # Lists of free length are short most of the time.
        "steps": st.integers(1, 12).flatmap(lambda n: st.lists(steps, min_size=n, max_size=n)),
        "outputs": st.lists(backs, max_size=2),
        "named": flags,
        "seed": st.integers(0, 999),
        # What takes long is for some.
        "compiled": st.sampled_from([False] * 14 + [True]),
        "saved": st.sampled_from([False] * 3 + [True]),
        "long": st.sampled_from([False] * 5 + [True]),
    }
)


def check(architecture):
    """Every law holds on an architecture."""
    keras.utils.clear_session(free_memory=False)
    model, x, rng = build(architecture)
    contracts.law_1_lowering_keeps_the_function(model, x)
    graph = contracts.law_2_folding_keeps_the_function(model, x)
    contracts.law_3_normalizing_keeps_the_function_up_to_the_scale(graph, x, rng)
    # Tracing takes longer than all else.
    with mock.patch.object(keras.Model, "run_eagerly", not architecture["compiled"]):
        if relus(graph):
            _check_calibration(graph, x)
        snn = contracts.convert(model, x, timesteps=3)
        _check_simulation(snn, model, x, long=architecture["long"])
        if architecture["saved"]:
            with tempfile.TemporaryDirectory() as folder:
                loaded = contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, f"{folder}/snn.keras")
            contracts.law_10_a_file_holds_the_same(snn, loaded)


def _check_calibration(graph, x):
    """The largest activations are those that the reference computes."""
    values = evaluate(graph, x, everything=True)
    for name, histogram in calibrate(graph, x, batch_size=8, verbose=0).items():
        contracts.assert_same(histogram.maximum[0], values[name].max(), tolerance=1e-5)


def _check_simulation(snn, model, x, *, long):
    """The outputs are finite and shaped like those of the source; in the long run they are those."""
    expected = keras.tree.map_structure(ops.convert_to_numpy, model(x, training=False))
    outputs = snn.simulate(x).outputs
    keras.tree.assert_same_structure(outputs, expected)
    pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True)
    assert all(a.shape == b.shape and np.isfinite(a).all() for a, b in pairs)
    # The error falls as 1/T, from a constant that grows with depth.
    if long and not _is_near(snn, x, expected, 256):
        assert _is_near(snn, x, expected, 2048)


def _is_near(snn, x, expected, timesteps):
    before, snn.timesteps, snn.unroll = snn.timesteps, timesteps, 256
    outputs = snn.predict(x, verbose=0)
    snn.timesteps, snn.unroll = before, "auto"
    pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True)
    return all(np.abs(a - b).mean() <= 0.02 * max(np.abs(b).mean(), 0.1) for a, b in pairs)


# --- With options --------------------------------------------------------------

TIMESTEPS = 4
RECORDS = ["spike_trains", "membrane_potentials"]
# What divides, or is no polynomial, leaves the multiples of powers of two.
INEXACT = [
    "up_sampling", *OTHERS, "hard_sigmoid", "relu6", "leaky_relu", "LayerNormalization",
    "Resizing", "GlobalAveragePooling", "softmax", "divided by", "leaky_relu of ops", "tanh of ops", "exp",
    "mean", "mean of last", "Average", "product", "gate",
]  # fmt: skip

thresholds = st.sampled_from([1.0, 1.0, 0.5, 2.0])
starts = st.sampled_from([0.5, 0.5, 0.0, 0.25, 1.25, -0.5])
resets = st.sampled_from(["subtract", "zero"])
integrating = st.builds(
    neurons.IntegrateAndFire, v_threshold=thresholds, reset=resets, initial_potential=starts
)
signed = st.builds(
    neurons.SignedIntegrateAndFire,
    levels=st.sampled_from([None, None, 2, 5]), v_threshold=thresholds, initial_potential=starts,
)  # fmt: skip
graded = st.one_of(
    st.builds(neurons.MultiThreshold, levels=few, v_threshold=thresholds, initial_potential=starts),
    st.builds(neurons.Burst, gamma=few, v_threshold=thresholds, initial_potential=starts),
)
DEFAULTS = {
    "neuron": neurons.IntegrateAndFire(), "normalization": "percentile", "percentile": 99.9,
    "per_channel": False, "input_encoding": "current", "input_rate": 1.0, "max_pool": "exact",
    "softmax": "potential", "delay": 0, "readout_delay": 0, "readout_weighting": "uniform",
    "bias_correction": False, "dtype": None, "unroll": "auto", "seed": 0,
}  # fmt: skip
CHOICES = {
    "normalization": ["percentile", "max", "mse", "gaussian", "ltb", "none"],
    "percentile": [90.0, 100.0],
    "per_channel": [True],
    "input_encoding": ["poisson", "events"],
    "input_rate": [0.5],
    "max_pool": ["fir", "avg", "exp"],
    "softmax": ["poisson", "clock"],
    "delay": [1, 2],
    "readout_delay": [1, 3],
    "readout_weighting": ["linear"],
    "dtype": ["float32", "float64", "mixed_bfloat16"],
    "unroll": [1, 3],
    "seed": [1, 2],
}
# These run the network several times.
SLOW = [
    {"normalization": "auto"}, {"readout_delay": "auto"}, {"readout_weighting": "auto"},
    {"bias_correction": "bias"}, {"bias_correction": "potential"},
]  # fmt: skip
# With these it matters when a spike comes.
TIMED = ["max_pool", "softmax", "delay", "readout_delay", "readout_weighting", "bias_correction"]
options = st.builds(
    lambda options, slow: {**options, **slow},
    st.fixed_dictionaries(
        {
            "neuron": st.one_of(integrating, signed, graded),
            **{name: st.sampled_from([DEFAULTS[name]] * 2 + values) for name, values in CHOICES.items()},
        }
    ),
    st.sampled_from([{}] * 50 + SLOW),
)


def _of_readout(options):
    return options["readout_delay"], options["readout_weighting"]


def check_options(case):
    """The laws hold for an architecture with options of `convert`."""
    keras.utils.clear_session(free_memory=False)
    model, x, rng = build(case)
    x = keras.tree.map_structure(lambda a: np.round(a * 4) / 4, x)
    given, seen = {**DEFAULTS, **case["options"]}, x
    if given["input_encoding"] == "events":
        x = keras.tree.map_structure(lambda a: rng.permuted([a] * TIMESTEPS, axis=2).swapaxes(0, 1), x)
        seen = _averaged(x)
    given["dtype"] = _dtype(given["dtype"], case["steps"])
    # Chosen on data.
    calibrated = case["calibrated"] or given["bias_correction"] or "auto" in _of_readout(given)
    with mock.patch.object(keras.Model, "run_eagerly", not case["compiled"]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*estimated the scales")
        snn = contracts.convert(model, seen if calibrated else None, timesteps=TIMESTEPS, **given)
        _make_exact(snn)
        run = _check_run(snn, x)
        _check_independence(snn, x, run)
        if case["saved"]:
            with tempfile.TemporaryDirectory() as folder:
                contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, f"{folder}/snn.keras")
        in_any_order = all(given[name] == DEFAULTS[name] for name in TIMED)
        is_signed = isinstance(given["neuron"], neurons.SignedIntegrateAndFire)
        if is_signed and in_any_order and given["input_encoding"] != "poisson":
            _check_settled(snn, x)


def _dtype(dtype, steps):
    """Return a dtype in which no rounding tips a potential over its threshold."""
    return "float64" if any(repr(name) in repr(steps) for name in INEXACT) else dtype


def _averaged(events):
    return keras.tree.map_structure(lambda a: a.mean(axis=1), events)


def _make_exact(model):
    """Round all weights, so that no order of additions matters."""
    for layer in model.layers:
        layer.set_weights([np.round(w * 8) / 8 for w in layer.get_weights()])


def _check_run(snn, x):
    """Spikes are what neurons may give, a call gives the last step, and the counter counts the spikes."""
    run = snn.simulate(x, record=RECORDS)
    assert all(np.isfinite(a).all() for a in keras.tree.flatten([run.outputs, run.membrane_potentials]))
    for name, train in run.spike_trains.items():
        neuron, spikes = internals(snn).network.stateful[name].neuron, np.asarray(train, "float64")
        np.testing.assert_array_equal(spikes % neuron.unit, 0)
        # No more is taken back than was fired.
        assert spikes.max() <= neuron.largest_spike
        assert spikes.cumsum(axis=1).min() >= 0
    set_watch(snn, True)
    outputs = snn.predict_on_batch(x)
    set_watch(snn, False)
    contracts.assert_same(outputs, run.outputs, tolerance=_rounding(snn))
    for name, firing in internals(snn).counter.read(TIMESTEPS).items():
        fired = (run.spike_trains[name] != 0).sum(axis=1)
        assert (firing.neurons, firing.spikes) == (fired.size, fired.sum())
        assert (firing.silent, firing.saturated) == ((fired == 0).sum(), (fired == TIMESTEPS).sum())
    assert len(internals(snn).counter.read(TIMESTEPS)) == len(run.spike_trains)
    return run


def _rounding(snn):
    """Return what divisions and softmax may round in another order of vectors."""
    return 2.0**-7 if snn.compute_dtype == "bfloat16" else 1e-6


def _check_independence(snn, x, run):
    """Other batches, chunks and fewer steps give the same spikes."""
    snn.unroll = 1 if snn.unroll == TIMESTEPS - 1 else TIMESTEPS - 1
    # With fewer events it is another sample, with other random numbers.
    timesteps = TIMESTEPS - (not internals(snn).network.events)
    again = snn.simulate(x, record="spike_trains", batch_size=2, timesteps=timesteps)
    first = keras.tree.map_structure(lambda a: a[:, :timesteps], [run.spike_trains, run.outputs_over_time])
    contracts.assert_same(again.spike_trains, first[0])
    contracts.assert_same(again.outputs_over_time, first[1], tolerance=_rounding(snn))


def _check_settled(snn, x):
    """Settled, signed neurons add up to the activations of the quantized network."""
    settled = snn.simulate(x, settle=True).outputs
    reference = keras_snn.quantized_reference(snn)
    seen = keras.tree.flatten(_averaged(x) if internals(snn).network.events else x)
    expected = reference(keras.tree.pack_sequence_as(reference.input, seen))
    contracts.assert_same(settled, expected, tolerance=_rounding(snn))


# --- By hand -------------------------------------------------------------------


def _twin(x, step, neuron, pooling, softmax, averages):
    """Return a layer for every time step: the spiking twin of what a step makes, if it has one; or `None`."""
    network = _Network([start := keras.Input(x.shape[2:])])
    y = network.run([step])
    if y is start:
        return None
    # Of one layer, on the start itself.
    is_twin = [shape for _, shape in network.calls] == [start.shape]
    layer = network.calls[0][0] if is_twin else None
    if step == SOFTMAX:
        return keras_snn.layers.SpikingSoftmax(method=softmax)
    twin = getattr(keras_snn.layers, f"Spiking{type(layer).__name__}", None)
    if twin is None:
        inner = keras.Model(start, y)
        return (keras_snn.layers.NonSpiking if averages else keras_snn.layers.PerTimestep)(inner)
    config = layer.get_config()
    if "activation" in config:
        return twin.from_config({**config, "activation": "relu", "neuron": neuron})
    return twin.from_config({**config, "method": pooling})


def build_handwritten(case):
    """Return the model, its calls `(layer, inputs, value)`, and data."""
    x = inputs = keras.Input((TIMESTEPS, *case["shape"]))
    calls, rng = [], np.random.default_rng(case["seed"])
    for how in case["steps"]:
        how = dict(how)
        step, back = how["step"], how.pop("back")
        earlier = [call for call in calls if getattr(call[1], "shape", None) == x.shape]
        if step == "again" and earlier:
            layer = earlier[back % len(earlier)][0]
        elif step == "add" and calls:
            same = [call[2] for call in calls if call[2].shape == x.shape]
            x = [x, same[back % len(same)]]
            layer = keras_snn.layers.PerTimestep(layers.Add())
        elif step == "activation":
            layer = keras_snn.layers.SpikingActivation("relu", neuron=how["neuron"])
        elif step == "encoder":
            layer = keras_snn.layers.PoissonEncoder(rate=0.5, seed=back)
        else:
            layer = None if isinstance(step, str) else _twin(x, **how)
        if layer is not None:
            calls.append((layer, x, layer(x)))
            x = calls[-1][2]
    outputs = [x] + [calls[-1 - back % len(calls)][2] for back in case["outputs"] if calls]
    model = networks.randomize(keras.Model(inputs, outputs), rng)
    _make_exact(model)
    return model, calls, rng.integers(0, 5, (3, *inputs.shape[1:])) / 4


def check_handwritten(case):
    """The laws hold for a model of spiking layers."""
    keras.utils.clear_session(free_memory=False)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_dtype(case["dtype"], [how["step"] for how in case["steps"]]))
    try:
        with mock.patch.object(keras.Model, "run_eagerly", True):
            _check_handwritten(case)
    finally:
        keras.config.set_dtype_policy(before)


def _check_handwritten(case):
    model, calls, x = build_handwritten(case)
    if not any(isinstance(layer, keras_snn.layers.SpikingLayer) for layer, *_ in calls):
        return
    tensors = {id(model.inputs[0]): ops.convert_to_tensor(x, model.compute_dtype)}
    for layer, inputs, output in calls:
        given = keras.tree.map_structure(lambda v: tensors[id(v)], inputs)
        tensors[id(output)] = layer(given)
        _check_steps(layer, given, ops.convert_to_numpy(tensors[id(output)]))
    values = {id(output): ops.convert_to_numpy(tensors[id(output)]) for *_, output in calls}
    expected = [values[id(output)] for output in model.outputs]
    # Else Keras would train batch norms after a Resizing, whose default it takes for all (3.15).
    _assert_equal(keras.tree.flatten(model(x, training=False)), expected)
    snn = as_spiking_model(model)
    run = _check_run(snn, x)
    # The random numbers of a sample are by its place here, by its content there.
    if not any(getattr(layer, "draws", False) for layer, *_ in calls):
        outputs = {call["name"]: output for call, (*_, output) in zip(snn.calls, calls, strict=False)}
        for name, train in run.spike_trains.items():
            _assert_equal(train, values[id(outputs[name])])
    _check_independence(snn, x, run)
    if case["saved"]:
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/handwritten.keras")
            loaded = keras.models.load_model(f"{folder}/handwritten.keras")
            _assert_equal(keras.tree.flatten(loaded(x, training=False)), expected)
            contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, f"{folder}/snn.keras")


def _assert_equal(first, second):
    """Spikes are the same; what an activation gives may be rounded in another order of vectors."""
    half = keras.config.dtype_policy().compute_dtype == "bfloat16"
    contracts.assert_same(first, second, tolerance=2.0**-7 if half else 1e-6)


def _check_steps(layer, inputs, outputs):
    """Step by step, with the state handed on, a layer gives the same; neurons by their equations."""
    steps = [keras.tree.map_structure(lambda v, t=t: v[:, t : t + 1], inputs) for t in range(TIMESTEPS)]
    if not isinstance(layer, keras_snn.layers.SpikingLayer):
        _assert_equal(np.concatenate([ops.convert_to_numpy(layer(x)) for x in steps], axis=1), outputs)
        return
    if hasattr(layer, "neuron"):
        currents = [ops.convert_to_numpy(layer.analog(x[:, 0])) for x in steps]
        contracts.assert_same(_by_equations(layer.neuron, currents).astype(outputs.dtype), outputs)
    layer.return_state, state, values = True, None, []
    for x in steps:
        value, *state = layer(x, initial_state=state)
        values.append(ops.convert_to_numpy(value))
    layer.return_state = False
    _assert_equal(np.concatenate(values, axis=1), outputs)


def _by_equations(neuron, currents):
    """Return the spikes of a neuron, `(batch, time, …)`, by its equations, in NumPy."""
    theta, unit = neuron.v_threshold, neuron.unit
    v, n, spikes = neuron.initial_potential * unit * theta, 0.0, []
    for current in currents:
        v = getattr(neuron, "leak", 1.0) * v + current.astype("float64")
        if isinstance(neuron, neurons.MultiThreshold):
            s = unit * np.clip(np.floor(v / (theta * unit)), -n / unit, (2 - unit) / unit)
        elif isinstance(neuron, neurons.Burst):
            s = np.clip(np.floor(v / theta), 0, neuron.gamma)
        elif isinstance(neuron, neurons.SignedIntegrateAndFire):
            s = ((v >= theta) & (n < (neuron.levels or np.inf))) - 1.0 * ((v < 0) & (n > 0))
        else:
            s = 1.0 * (v >= theta)
        v = np.where(s > 0, 0.0, v) if getattr(neuron, "reset", "") == "zero" else v - theta * s
        n = n + s
        spikes.append(s)
    return np.stack(spikes, axis=1)


SOFTMAX = ("operation", {"name": "softmax"})
leaky = st.builds(
    neurons.LeakyIntegrateAndFire,
    leak=st.sampled_from([0.5, 0.75, 1.0]), v_threshold=thresholds, reset=resets, initial_potential=starts,
)  # fmt: skip
linear = st.one_of(DRAWN["dense"], DRAWN["conv"], DRAWN["pool"])
# `PerTimestep` is faster than what is for each of several axes.
others = st.one_of(*(drawn for name, drawn in DRAWN.items() if name != "for_each"))
plain_steps = st.sampled_from(["activation", "again", "add", "encoder", SOFTMAX])
hand_steps = st.fixed_dictionaries(
    {
        "step": st.one_of(linear, linear, others, plain_steps),
        "back": backs,
        "neuron": st.one_of(integrating, leaky, signed, graded),
        "pooling": st.sampled_from(["exact", "fir", "avg", "exp"]),
        "softmax": st.sampled_from(["potential", "poisson", "clock"]),
        "averages": flags,
    }
)
handwritten_models = st.fixed_dictionaries(
    {
        "shape": shapes,
        "steps": st.integers(1, 5).flatmap(lambda n: st.lists(hand_steps, min_size=n, max_size=n)),
        "outputs": st.lists(backs, max_size=1),
        "seed": st.integers(0, 999),
        "dtype": st.sampled_from(["float32", "float64", "mixed_bfloat16"]),
        "saved": st.sampled_from([False] * 5 + [True]),
    }
)
conversions = st.fixed_dictionaries(
    {
        "shapes": st.lists(shapes, min_size=1, max_size=2),
        "steps": st.builds(
            lambda steps, end: steps + end,
            st.integers(1, 5).flatmap(lambda n: st.lists(steps, min_size=n, max_size=n)),
            st.sampled_from([[], [], [("reshape", {"rank": 1, "turn": False}), SOFTMAX]]),
        ),
        "outputs": st.lists(backs, max_size=1),
        "named": flags,
        "seed": st.integers(0, 999),
        "compiled": st.sampled_from([False] * 59 + [True]),
        "saved": st.sampled_from([False] * 5 + [True]),
        "calibrated": st.sampled_from([False] + [True] * 3),
        "options": options,
    }
)


# --- The tests -----------------------------------------------------------------

CHECKS = {
    "architectures": (check, architectures),
    "conversions": (check_options, conversions),
    "hand-written": (check_handwritten, handwritten_models),
}


def _hold(name, number, shard=0):
    """Check laws on so many random cases."""
    law, cases = CHECKS[name]

    @seed(SEED * SHARDS + shard)
    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(cases)
    def holds(case):
        law(case)

    holds()


@pytest.mark.parametrize("shard", range(SHARDS))
def test_laws_hold_on_random_architectures(shard):
    _hold("architectures", EXAMPLES // SHARDS, shard)


@pytest.mark.parametrize("name", ["conversions", "hand-written"])
def test_laws_hold_with_random_options_and_hand_written(name):
    _hold(name, EXAMPLES // 2)


@pytest.mark.parametrize(("name", "case"), FOUND.values(), ids=FOUND)
def test_laws_hold_in_cases_that_once_failed(name, case):
    CHECKS[name][0]({**PLAIN, **case})
