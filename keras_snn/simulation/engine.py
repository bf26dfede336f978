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
from keras_snn.errors import UnsupportedLayerError
from keras_snn.layers.time_axis import unfold_time
from keras_snn.simulation.compiled_functions import forget_compiled
from keras_snn.simulation.internals import internals
from keras_snn.simulation.snapshot import Snapshot

__all__ = [
    "ENGINES",
    "choose_engine",
    "event_network",
    "predicted",
    "run_events",
    "running_events",
    "start_of",
]

ENGINES = ("auto", "compiled", "events")
# Of networks that `"auto"` runs on events, where VGG16 is faster too, though weights are kept twice.
_MOST_WEIGHTS = 2**28
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
    inner = internals(model)
    if inner.cannot is None and (inner.assembled is None or not inner.assembled[0].is_of(model)):
        # Which itself needs the model.
        from keras_snn.simulation.source import program_of

        weights = Snapshot(model)
        # What cannot be run cannot whatever the weights are.
        network, inner.cannot = _assembled(lambda: program_of(model))
        inner.assembled, inner.quiet = None if network is None else (weights, network), {}
    if inner.cannot is None:
        return inner.assembled[1]
    _check_others_may_run(model, inner.cannot)
    return None


def quiet_events(model, timesteps):
    """Return the `EventNetwork` of the steps after the input of so many has ended.

    Args:
        model: A `SpikingModel` of which `event_network` has returned one, with the same weights.
        timesteps: Number of steps with input.

    Returns:
        As of `event_network`.

    Raises:
        ValueError: Likewise, or if an output draws random spikes.
    """
    from keras_snn.simulation.settling import quiet_program

    quiet = internals(model).quiet
    if timesteps not in quiet:
        quiet[timesteps] = _assembled(lambda: quiet_program(model, timesteps))
    network, reason = quiet[timesteps]
    if reason is not None:
        _check_others_may_run(model, reason)
    return network


def _assembled(program):
    """Return the `EventNetwork` of the program that a function returns, and why there is none, or `None`."""
    try:
        return EventNetwork(assemble(program())), None
    except (UnsupportedError, UnsupportedLayerError) as reason:
        return None, str(reason)


def _check_others_may_run(model, reason):
    if model.engine != "auto":
        raise ValueError(_CANNOT.format(model.name, reason))


def _is_faster(model):
    """Whether events are quicker than the compiled engine, as docs/performance.md has it measured."""
    is_alone = replicas(model) == 1 and keras.distribution.distribution() is None
    is_possible = is_alone and _has_numba() and not computes_on_card()
    inner = internals(model)
    if inner.size is None:
        inner.size = model.count_params()
    return is_possible and inner.size <= _MOST_WEIGHTS


@functools.cache
def _has_numba():
    return importlib.util.find_spec("numba") is not None


@contextlib.contextmanager
def running_events(model):
    """In this context, a call of the model runs on events, if that engine is chosen."""
    inner = internals(model)
    before, inner.on_events = inner.on_events, inner.events is not None
    try:
        yield
    finally:
        inner.on_events = before


def start_of(model, network, inputs, timesteps):
    """Return `(states, drives, arriving)` of a batch before the first step.

    Args:
        model: A `SpikingModel`.
        network: Its `EventNetwork`.
        inputs: List of arrays or tensors.
        timesteps: Number of steps.
    """
    inner, layers = internals(model), internals(model).network.stateful
    given = dict(zip(inner.inputs.names, inputs, strict=True))
    encoders = [name for name in network.assembled.arriving if name in layers]
    if encoders or not network.assembled.takes_inputs:
        tensors = inner.inputs.cast(inputs)
        drive = inner.network.drive(tensors)
        given |= drive
        if encoders:
            states = inner.network.start(tensors)
        for name in encoders:
            # Random numbers are those of the layer.
            spikes, _ = layers[name].advance(drive[name], states[name], timesteps, constant=True)
            given[name] = unfold_time(spikes, timesteps)
    arrays = {name: x if isinstance(x, np.ndarray) else ops.convert_to_numpy(x) for name, x in given.items()}
    return network.begin(arrays, inputs[0].shape[0], timesteps)


def run_events(model, inputs):
    """Return the outputs after the last step by name of their call, `(batch, …)`, of a list of inputs."""
    inner = internals(model)
    network, timesteps = inner.events, model.passes
    states, *given = start_of(model, network, inputs, timesteps)
    fired = tuple(inner.counter.layers) if inner.watched else ()
    run = network.run(states, *given, 0, timesteps, fired=fired)
    if inner.watched:
        counts = {name: ops.convert_to_tensor(x) for name, x in run["fired"].items()}
        inner.counter.finish(counts, None, None, timesteps)
    return {
        name: network.read(name, network.potential(name, states)[:, None], timesteps - 1)[:, 0]
        for name in inner.output_calls
    }


def predicted(model, batch):
    """Return what `predict_on_batch` does on events, without what Keras costs beside them."""
    inputs = [x if isinstance(x, np.ndarray) else ops.convert_to_numpy(x) for x in keras.tree.flatten(batch)]
    outputs = run_events(model, inputs)
    return keras.tree.map_structure(outputs.__getitem__, internals(model).network.outputs)
