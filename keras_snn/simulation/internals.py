"""What is inside of a `SpikingModel`, beside what Keras keeps in any model."""

import threading

import keras
from keras import ops

from keras_snn._devices import replicas
from keras_snn.engines.chunks import plan_chunks
from keras_snn.engines.compiled import Requests, run_chunks
from keras_snn.engines.network import StepNetwork
from keras_snn.simulation.inputs import ModelInputs
from keras_snn.simulation.spike_counter import FiringCounter

__all__ = ["Internals", "internals", "output_shapes", "plan_for", "run_model"]


def internals(model):
    """Return the `Internals` of a `SpikingModel`."""
    return model._internals


class Internals:
    """The parts of a `SpikingModel` that are not its interface. Keras finds no layers and variables in it.

    Args:
        layers, calls, inputs, outputs, shapes, dtypes, events: As of `SpikingModel`.
        compute_dtype: The dtype that the network computes in.

    Attributes:
        network: The `StepNetwork`.
        inputs: The `ModelInputs`.
        calls: The calls of the layers, a list of dicts.
        output_calls: Names of the calls whose values are the outputs.
        counter: The `FiringCounter`, to which calls add while the model is watched.
        watched: Whether they do; see `compiled_functions.set_watch`.
        compiled: The compiled functions of watched and of other calls, those that are not in use.
        losses, metrics: Those that `compile` was given.
        runners: The runners of `simulate`, by what they record.
        lock: Held while the model runs: Keras keeps in a model what it compiles for a run and, on JAX, the
            state of the run.
        runs: How many runs are in progress: those in callbacks of others count.
        expected_batch: Samples per batch, where `predict` or `evaluate` knows them.
        assembled: A `Snapshot` of the weights that the `EventNetwork` was made of, and that.
        quiet: By number of steps with input, the `EventNetwork` of those weights for the steps after them,
            or `None`, and why there is none, or `None`.
        size: How many weights there are, once that was needed.
        cannot: Why there can be none, or `None`.
        events: The `EventNetwork` if `predict` and `evaluate` run on events, else `None`.
        on_events: Whether the call in progress does.
        makes_eagerly: Whether Keras is to make a function that runs eagerly.
    """

    def __init__(self, layers, calls, inputs, outputs, shapes, dtypes, compute_dtype, *, events):
        self.calls = [{**call, "inputs": list(call["inputs"])} for call in calls]
        self.network = StepNetwork(layers, self.calls, inputs, outputs, events=events)
        shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.inputs = ModelInputs(inputs, shapes, dict(dtypes or {}), events, compute_dtype)
        self.output_calls = keras.tree.flatten(outputs)
        self.counter = FiringCounter(self.network)
        self.watched = False
        self.compiled = {}
        self.losses = self.metrics = None
        self.runners = {}
        self.lock = threading.RLock()
        self.runs = 0
        self.expected_batch = None
        self.assembled = self.size = self.cannot = self.events = None
        self.quiet = {}
        self.on_events = self.makes_eagerly = False


def plan_for(model, batch_size, timesteps=None):
    """Return the `ChunkPlan` of a number of steps of a `SpikingModel`, `model.passes` if `None`."""
    timesteps = model.passes if timesteps is None else timesteps
    chunk, may_split = model.chunk_for(batch_size), model.unroll == "auto"
    return plan_chunks(internals(model).network, timesteps, batch_size, chunk, may_split=may_split)


def output_shapes(model):
    """Return the shape of every output, without batch, by name of its call."""
    inner = internals(model)
    return {name: inner.network.stateful[name].value_shape for name in inner.output_calls}


def run_model(model, inputs):
    """Return the outputs of all steps of a `SpikingModel`, nested, for nested inputs."""
    inner = internals(model)
    inputs = inner.inputs.cast(inner.inputs.shaped(inputs, model.passes))
    if inner.on_events:
        from keras_snn.simulation.engine import run_events

        outputs = {name: ops.convert_to_tensor(x) for name, x in run_events(model, inputs).items()}
    elif replicas(model) == 1:
        outputs = _run_steps(model, inputs)
    else:
        # Of no samples a convolution of TensorFlow 2.21 has the shape of its input (no issue known).
        some = ops.shape(inputs[0])[0] > 0
        outputs = ops.cond(some, lambda: _run_steps(model, inputs), lambda: _no_outputs(model))
    return keras.tree.map_structure(outputs.__getitem__, inner.network.outputs)


def _run_steps(model, inputs):
    """Return the outputs by name of their call, `(batch, …)`, of a list of inputs."""
    inner = internals(model)
    network, counter = inner.network, inner.counter
    samples = inputs[0].shape[0]
    # Not known, or a symbol, where a model is traced for batches of any size.
    plan = plan_for(model, samples if isinstance(samples, int) else inner.expected_batch)
    drive = network.drive(inputs)
    # Those that cannot be read from the state in the end.
    last = tuple(name for name in inner.output_calls if not network.stateful[name].output_in_state)
    requests = Requests(last=last, fired=counter.looped if inner.watched else ())
    run = run_chunks(network, drive, network.start(inputs), plan, requests)
    if inner.watched:
        counter.finish(run["fired"], drive, run["states"], plan.timesteps)
    read = {
        name: network.stateful[name].read(run["states"][name])
        for name in inner.output_calls
        if name not in requests.last
    }
    return {name: ops.cast(x, model.compute_dtype) for name, x in (run["last"] | read).items()}


def _no_outputs(model):
    """Return outputs of no samples, as of `_run_steps`."""
    return {name: ops.zeros((0, *shape), model.compute_dtype) for name, shape in output_shapes(model).items()}
