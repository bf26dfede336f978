"""Simulation with records: the same chunks as in `predict`, driven from Python."""

import dataclasses
import functools
import math
import operator

import keras
import numpy as np
from keras import ops

from keras_snn._data import Batches, as_labels
from keras_snn._execution import predict_batch
from keras_snn._gradients import without_gradients
from keras_snn._validation import check_choice, check_integer, check_timesteps
from keras_snn.graph.program import without_input
from keras_snn.layers.base import neuron_of
from keras_snn.simulation.building import build
from keras_snn.simulation.classes import check_labels, deciding, labels_for, share_of_equal
from keras_snn.simulation.exiting import check_exit, run_until_confident
from keras_snn.simulation.memory import check_memory, show_bytes
from keras_snn.simulation.result import SimulationResult
from keras_snn.simulation.source import program_of

__all__ = ["Runner", "collect", "lengths", "open_data", "simulate"]

# Steps of one call of a compiled function, and the most values that it returns per sample.
_PER_CALL = 32
_WIDEST = 2**14
# Steps without input after which neurons that still fire will not stop.
_LONGEST_SETTLING = 10_000
_RECORDS = ("spike_counts", "spike_trains", "membrane_potentials")


def simulate(
    model,
    x,
    y=None,
    *,
    timesteps=None,
    record=(),
    settle=False,
    exit=None,  # noqa: A002 - what the field calls it
    level=None,
    batch_size=32,
    verbose=0,
):
    """Run a spiking model step by step and keep what happens.

    Args:
        model: A `SpikingModel`.
        x: Input data: array, list or dict of arrays, `tf.data.Dataset` or `keras.utils.PyDataset`
            of `x` or `(x, y)`.
        y: Labels of arrays: class numbers `(batch,)` or one-hot `(batch, classes)`; 0 or 1 for one sigmoid,
            `(batch,)`, and for each of several that are labels of their own, `(batch, labels)`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        record: Names of `"spike_counts"`, `"spike_trains"`, `"membrane_potentials"`, each kept for
            every layer of neurons. Trains and potentials need memory for every neuron and step.
        settle: Whether to run on, with input and biases off, until no neuron fires. These steps are
            recorded behind the others, but the read-out still divides by `timesteps`. With signed
            neurons it is then that of `keras_snn.quantized_reference(model)`.
        exit: `"confidence"` ends the simulation of a sample at the first step at which its confidence
            reaches `level`: m/(1 + m), with m the lead of its largest logit over the next, or the distance of
            a sigmoid's logit to its threshold, summed over the steps so far. Its outputs stay what they are
            then. Time is saved as samples end. Nothing can be recorded.
        level: In (0, 1]; see `keras_snn.calibrate_exit`.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar, and the memory that trains and potentials take.

    Returns:
        A `SimulationResult`.

    Raises:
        ValueError, TypeError: If an argument is not what it may be, or trains or potentials would
            not fit into memory.
        RuntimeError: If neurons do not become silent, as binary ones.
    """
    record = tuple(record) if isinstance(record, (list, tuple, set, frozenset)) else (record,)
    for name in record:
        check_choice("record", name, _RECORDS)
    check_exit(model, exit, level, record, settle)
    timesteps, batches = open_data(model, x, y, timesteps=timesteps, batch_size=batch_size)
    per_call, chunk = lengths(model, record, timesteps, batch_size)
    runner = _runner(model, record)
    if settle:
        runner.prepare_settling(timesteps)
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    outputs, records, counted, labels, steps_used = [], [], [], [], []
    for inputs, targets in batches:
        if not outputs:
            samples = len(keras.tree.flatten(inputs)[0]) * (batches.count or 1)
            memory = check_memory(model, record, batches.samples or samples, timesteps)
            if verbose and memory:
                print(f"Recording takes {show_bytes(memory)}")  # noqa: T201 - beside the progress bar
        if exit is None:
            options = {"per_call": per_call, "chunk": chunk, "settle": settle}
            values, seen, counts = collect(runner.run(inputs, timesteps, **options))
        else:
            values, steps = run_until_confident(runner, inputs, timesteps, chunk=chunk, level=level)
            seen = counts = {}
            steps_used.append(steps)
        outputs.append(values)
        records.append(seen)
        counted.append({"spike_counts": counts} if "spike_counts" in record else {})
        labels.append(targets)
        if progress:
            progress.add(1)
    outputs, records = _as_long(outputs), _as_long(records)
    over_time = _join(outputs)
    return SimulationResult(
        outputs=keras.tree.map_structure(lambda a: a[:, -1], over_time),
        outputs_over_time=over_time,
        accuracy_over_time=_accuracy_over_time(model, over_time, labels),
        timesteps=timesteps,
        settling=keras.tree.flatten(over_time)[0].shape[1] - timesteps,
        records={**_join(records), **_join(counted)},
        steps_used=np.concatenate(steps_used) if steps_used else None,
    )


def open_data(model, x, y, *, timesteps, batch_size, averages=False):
    """Return the number of steps, and `Batches` of data for a spiking model; arguments as of `simulate`.

    With `averages` the samples of a network of events have no time axis.

    Raises:
        TypeError, ValueError: If an argument is not what it may be. Inputs are checked batch by batch.
    """
    timesteps = model.timesteps if timesteps is None else check_timesteps(timesteps)
    if y is not None:
        y = as_labels(y)
        # Before the long run.
        keras.tree.map_structure(check_labels, y)
    batches = Batches(
        x if y is None else (x, y),
        model.network.inputs,
        model.input_shapes if averages else model.given_shapes,
        batch_size=check_integer("batch_size", batch_size, minimum=1),
        argument="x",
    )
    if y is not None:
        labels_for(model, y)
    return timesteps, batches


class _Compiled(keras.Model):
    """A function of tensors, run the way Keras runs `predict` on the backend in use."""

    def __init__(self, function, layers):
        # Without autocast, which would round states to the default dtype.
        super().__init__(name="steps", autocast=False)
        self._function = function
        # Held so that a backend that tracks variables sees them.
        self._used_layers = layers
        self.built = True

    def call(self, inputs, training=None):
        # With `training`, which Keras then says is False, for layers below too.
        with without_gradients():
            return self._function(inputs)


class Runner:
    """Runs batches of a spiking model, several steps per call of a compiled function.

    Args:
        model: A `SpikingModel`.
        observe: Function of the values of all calls over a chunk of steps, and of the states behind
            it; returns nested tensors `(batch, time, …)`, or `{}`. They make calls short.
        add_up: Function of the values over a chunk; returns nested tensors to be summed over time.
    """

    def __init__(self, model, observe, add_up=lambda values: {}):
        self.model, self.observe, self.add_up = model, observe, add_up
        self.network = model.network

        def begin(x):
            inputs = model.cast(x)
            return {"drive": self.network.drive(inputs), "states": self.network.start(inputs)}

        self.begin = _Compiled(begin, model.layers)
        self.functions = {}
        # By time steps: the program without input, its network, and a compiled step of it.
        self.settling = {}

    def _steps(self, carry, start, timesteps):
        drive = self.network.at(carry["drive"], start, timesteps)
        values, states = self.network.run(drive, carry["states"], timesteps)
        outputs = keras.tree.map_structure(values.__getitem__, self.network.outputs)
        return states, outputs, self.observe(values, states), self.add_up(values)

    def _function(self, timesteps, chunk):
        """Return the compiled function of so many steps, chunk by chunk."""
        if (timesteps, chunk) not in self.functions:
            chunk = chunk if timesteps % chunk == 0 else 1

            def function(carry):
                # The first pass tells the shapes of the others.
                states, *kept, sums = self._steps(carry, 0, chunk)
                rest = timesteps - chunk
                kept = keras.tree.map_structure(lambda x: _pad_time(x, rest), kept)

                def body(i, loop):
                    states, kept, sums = loop
                    states, *more, terms = self._steps({**carry, "states": states}, i * chunk, chunk)
                    kept = keras.tree.map_structure(lambda x, y: _put(x, i * chunk, y), kept, more)
                    # Not `ops.add`, which takes the terms of an empty batch for a bias (Keras 3.15).
                    return [states, kept, keras.tree.map_structure(operator.add, sums, terms)]

                if rest:
                    loop = [states, kept, sums]
                    states, kept, sums = ops.fori_loop(1, timesteps // chunk, body, loop)
                outputs, seen = kept
                return {"states": states, "outputs": outputs, "seen": seen, "sums": sums}

            self.functions[timesteps, chunk] = _Compiled(function, self.model.layers)
        return self.functions[timesteps, chunk]

    def run(self, inputs, timesteps, *, per_call=1, chunk=1, settle=False):
        """Yield `(outputs, observed, sums)` of one batch, call by call.

        Args:
            inputs: Nested arrays `(batch, …)`.
            timesteps: Number of steps.
            per_call: How many of them one call runs; memory grows with it.
            chunk: How many one pass through the loop over time handles.
            settle: Whether to go on without input, one step per call, until no neuron fires; only after
                `prepare_settling`.
        """
        carry = self.started(inputs, timesteps)
        for start in range(0, timesteps, per_call):
            carry, result = self.advance(carry, start, min(per_call, timesteps - start), chunk)
            yield result["outputs"], result["seen"], result["sums"]
        if settle:
            yield from self._settle(carry, timesteps)

    def started(self, inputs, timesteps):
        """Return what goes from call to call: the drive and the states of one batch, arrays `(batch, …)`."""
        return predict_batch(self.begin, self.model.shaped(inputs, timesteps))

    def advance(self, carry, start, timesteps, chunk):
        """Run steps behind the first `start`; return the carry behind them, and a dict of what was seen."""
        now = {**carry, "drive": self.network.at(carry["drive"], start, timesteps)}
        result = predict_batch(self._function(timesteps, min(chunk, timesteps)), now)
        return {**carry, "states": result["states"]}, result

    def prepare_settling(self, timesteps):
        """Compile a step without input, for after `timesteps` steps, unless weights are as they were.

        Raises:
            ValueError: If an output draws random spikes.
        """
        program = without_input(dataclasses.replace(program_of(self.model), timesteps=timesteps))
        if timesteps not in self.settling or self.settling[timesteps][0] != program:
            quiet = build(program)
            function = functools.partial(self._settling_step, quiet.network)
            self.settling[timesteps] = program, _Compiled(function, quiet.layers)

    def _settle(self, carry, timesteps):
        """Yield what `run` yields, step by step, up to one in which nothing fires."""
        _, step = self.settling[timesteps]
        drive = {
            name: np.zeros_like(x[:, :1] if self.network.events else x) for name, x in carry["drive"].items()
        }
        states = carry["states"]
        for _ in range(_LONGEST_SETTLING):
            result = predict_batch(step, {"drive": drive, "states": states})
            states = result["states"]
            yield result["outputs"], result["seen"], result["sums"]
            firing = [name for name, fires in result["fires"].items() if fires.any()]
            if not firing:
                return
        raise RuntimeError(
            f"Neurons must become silent without input. Received: {', '.join(map(repr, firing))} still fire "
            f"after {_LONGEST_SETTLING} steps. Simulate with settle=False."
        )

    def _settling_step(self, network, carry):
        states = {name: network.stateful[name].rewind(state) for name, state in carry["states"].items()}
        values, states = network.run(carry["drive"], states, 1)
        fires = {
            name: ops.any(values[name] != 0, axis=tuple(range(1, len(values[name].shape))))
            for name in _of_neurons(network)
        }
        outputs = keras.tree.map_structure(values.__getitem__, network.outputs)
        seen, sums = self.observe(values, states), self.add_up(values)
        return {"states": states, "outputs": outputs, "seen": seen, "sums": sums, "fires": fires}


def _pad_time(x, timesteps):
    """Return `(batch, time, …)` with zeros for more time steps."""
    return ops.pad(x, [(0, 0), (0, timesteps), *[(0, 0)] * (len(x.shape) - 2)]) if timesteps else x


def _put(x, start, part):
    """Return `(batch, time, …)` with a part replaced from a time step on."""
    return ops.slice_update(x, (0, start, *[0] * (len(x.shape) - 2)), part)


def _runner(model, record):
    """Return the runner of an earlier call, which is compiled, or a new one."""
    if record not in model.runners.by_record:
        model.runners.by_record[record] = Runner(model, *_recorders(model.network, record))
    return model.runners.by_record[record]


def _of_neurons(network):
    """Return the names of the calls of layers of neurons."""
    return [name for name, layer in network.stateful.items() if neuron_of(layer) is not None]


def _recorders(network, record):
    """Return what a runner observes and adds up of every layer of neurons, for the names in `record`."""
    observed = {
        "spike_trains": lambda name, values, states: values[name],
        "membrane_potentials": lambda name, values, states: states[name][0][:, None],
    }
    neurons = _of_neurons(network)

    def observe(values, states):
        return {
            what: {name: observed[what](name, values, states) for name in neurons}
            for what in record
            if what in observed
        }

    def add_up(values):
        if "spike_counts" not in record:
            return {}
        return {name: ops.sum(ops.cast(values[name], "float32"), axis=1) for name in neurons}

    return observe, add_up


def lengths(model, record, timesteps, batch_size):
    """Return how many steps one call of a `Runner` runs, and how many one pass through its loop.

    Args:
        model: A `SpikingModel`.
        record: Names of records, as of `simulate`.
        timesteps: Number of time steps.
        batch_size: Samples that run together.
    """
    chunk = 1 if "membrane_potentials" in record else min(model.chunk_for(batch_size), timesteps)
    if set(record) - {"spike_counts"}:
        # Long records are copied in every pass.
        return chunk, chunk
    width = sum(math.prod(model.network.stateful[name].value_shape) for name in model.output_calls)
    return max(chunk, min(_PER_CALL, _WIDEST // max(width, 1)) // chunk * chunk), chunk


def collect(parts):
    """Return `(outputs, observed, sums)` of all steps, from what a `Runner` yields call by call."""
    outputs, observed, sums = [], [], None
    for values, seen, more in parts:
        outputs.append(values)
        observed.append(seen)
        # Summed right away: memory does not grow with time.
        sums = more if sums is None else keras.tree.map_structure(np.add, sums, more)
    return _join(outputs, axis=1), _join(observed, axis=1), sums


def _join(parts, axis=0):
    """Concatenate nested arrays leaf by leaf."""
    return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves, axis=axis), *parts)


def _as_long(parts):
    """Return nested arrays `(batch, time, …)` that go on as they end, up to the length of the longest."""
    longest = max((leaf.shape[1] for leaf in keras.tree.flatten(parts)), default=0)

    def extended(x):
        widths = [(0, 0), (0, longest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
        return np.pad(x, widths, mode="edge") if x.shape[1] < longest else x

    return keras.tree.map_structure(extended, parts)


def _accuracy_over_time(model, outputs, labels):
    """Return the share of right decisions after every step, or `None` if there are no labels of classes."""
    if any(y is None for y in labels) or not isinstance(outputs, np.ndarray):
        return None
    rule = deciding(model)
    readings = {} if rule is None else rule.readings(np.concatenate(labels), len(outputs))
    for way, right in readings.items():
        return share_of_equal(rule.decide(outputs, way), right, way).mean(axis=0)
    return None
