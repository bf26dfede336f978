"""Which engine runs a spiking model, and running it event by event."""

import contextlib
import functools
import importlib.util

import keras
import numpy as np
from keras import ops

from keras_snn._devices import replicas
from keras_snn.engines.chunks import computes_on_card
from keras_snn.engines.events.assembly import assemble
from keras_snn.engines.events.network import EventNetwork
from keras_snn.engines.events.tables import UnsupportedError
from keras_snn.simulation.compiled_functions import forget_compiled
from keras_snn.simulation.internals import internals

__all__ = [
    "ENGINES",
    "choose_engine",
    "event_network",
    "outputs_of",
    "run_events",
    "running_events",
    "start_of",
]

ENGINES = ("auto", "compiled", "events")
_MISSING = (
    "`engine` 'events' needs Numba of at least version 0.62. Received: engine='events', and no Numba. "
    "Install it with pip install 'keras-snn[events]', or use engine='auto'."
)
_CANNOT = (
    "`engine` 'events' cannot run every part of '{}'. Received: {}. Use engine='auto' or engine='compiled'."
)


def choose_engine(model):
    """Let `predict` and `evaluate` use the engine that a model is to run on, before Keras compiles them.

    Raises:
        ImportError, ValueError: If it is to run on events, and cannot.
    """
    inner, network = internals(model), event_network(model)
    if (network is None) != (inner.events is None):
        inner.events = network
        forget_compiled(model, training=False)
    inner.events = network


def event_network(model):
    """Return the `EventNetwork` of a model with the weights that it has, or `None` if another engine runs it.

    Raises:
        ImportError, ValueError: If `model.engine` is `"events"`, and that cannot be.
    """
    if model.engine == "compiled" or (model.engine == "auto" and not _is_faster(model)):
        return None
    if not _has_numba():
        raise ImportError(_MISSING)
    # Which itself needs the model.
    from keras_snn.simulation.source import program_of

    inner, weights = internals(model), model.get_weights()
    if inner.assembled is None or not _are_equal(inner.assembled[0], weights):
        try:
            inner.assembled = weights, EventNetwork(assemble(program_of(model)))
        except UnsupportedError as reason:
            inner.assembled = weights, str(reason)
    found = inner.assembled[1]
    if isinstance(found, EventNetwork):
        return found
    if model.engine == "auto":
        return None
    raise ValueError(_CANNOT.format(model.name, found))


def _is_faster(model):
    """Whether events are quicker than the compiled engine, as docs/performance.md has it measured."""
    is_alone = replicas(model) == 1 and keras.distribution.distribution() is None
    return is_alone and _has_numba() and not computes_on_card()


@functools.cache
def _has_numba():
    return importlib.util.find_spec("numba") is not None


def _are_equal(some, others):
    return len(some) == len(others) and all(map(np.array_equal, some, others))


@contextlib.contextmanager
def running_events(model):
    """In this context, a call of the model runs on events, if that engine is chosen."""
    inner = internals(model)
    before, inner.on_events = inner.on_events, inner.events is not None
    try:
        yield
    finally:
        inner.on_events = before


def start_of(model, network, inputs):
    """Return `(states, drives)` of a batch before the first step.

    Args:
        model: A `SpikingModel`.
        network: Its `EventNetwork`.
        inputs: List of tensors, as of `ModelInputs.cast`.
    """
    drive = internals(model).network.drive(inputs)
    return network.begin({name: ops.convert_to_numpy(x) for name, x in drive.items()}, inputs[0].shape[0])


def outputs_of(model, sums, start):
    """Return the values of read-outs from their sums.

    Args:
        model: A `SpikingModel`.
        sums: By name of the call, arrays `(batch, time, …)`.
        start: How many steps went before the first of them.

    Returns:
        Tensors `(batch, time, …)` by name of the call.
    """
    found = {}
    for name, x in sums.items():
        batch, timesteps, *shape = x.shape
        steps = np.tile(start + np.arange(1, timesteps + 1, dtype="float32"), batch)
        state = [
            ops.convert_to_tensor(np.ascontiguousarray(x.reshape(-1, *shape))),
            ops.convert_to_tensor(steps),
        ]
        layer = internals(model).network.stateful[name]
        found[name] = ops.reshape(layer.read(state), (batch, timesteps, *shape))
    return found


def run_events(model, inputs):
    """Return the outputs after the last step by name of their call, `(batch, …)`, of a list of inputs."""
    inner = internals(model)
    network, timesteps = inner.events, model.passes
    states, drives = start_of(model, network, inputs)
    fired = tuple(inner.counter.layers) if inner.watched else ()
    run = network.run(states, drives, 0, timesteps, fired=fired)
    if inner.watched:
        counts = {name: ops.convert_to_tensor(x) for name, x in run["fired"].items()}
        inner.counter.finish(counts, None, None, timesteps)
    sums = {name: network.potential(name, states)[:, None] for name in inner.output_calls}
    return {name: x[:, 0] for name, x in outputs_of(model, sums, timesteps - 1).items()}
