"""Simulation with records: the same chunks as in `predict`, driven from Python."""

import dataclasses
import functools
import math

import keras
import numpy as np
from keras import ops

from keras_snn._arrays import as_labels
from keras_snn._data import Batches
from keras_snn._devices import predict_batch
from keras_snn._validation import check_choice, check_integer, check_timesteps
from keras_snn.engines.chunks import ChunkPlan
from keras_snn.engines.compiled import Compiled, Requests, run_chunks
from keras_snn.graph.integer_bounds import check_exact
from keras_snn.layers.base import neuron_of
from keras_snn.simulation.building import build
from keras_snn.simulation.classes import check_labels, labels_for
from keras_snn.simulation.early_exit import check_exit, run_until_confident
from keras_snn.simulation.engine import event_network, quiet_events
from keras_snn.simulation.event_runner import EventRunner
from keras_snn.simulation.internals import internals, plan_for
from keras_snn.simulation.parts import Part, check_records, collect, result_of
from keras_snn.simulation.settling import quiet_program, until_silent, with_plain_averages
from keras_snn.simulation.windows import TIME_CODE_RECORDS, WindowRunner

__all__ = ["Runner", "lengths", "open_data", "open_run", "simulate"]

# The most values per sample that one call of a compiled function returns.
_WIDEST = 2**14
# Steps between two looks at who is done: each look costs a call, each step after the end its time.
_BETWEEN_LOOKS = 4
# Where a run has each record of the neurons.
_FIELDS = {"spike_counts": "sums", "spike_trains": "every", "membrane_potentials": "potentials"}


def simulate(
    model,
    x,
    y,
    *,
    timesteps,
    record,
    settle,
    exit,  # noqa: A002 - what the field calls it
    level,
    batch_size,
    verbose,
):
    """Run a spiking model step by step and keep what happens; `SpikingModel.simulate` has the defaults.

    Args:
        model: A `SpikingModel`.
        x: Input data: array, list or dict of arrays, `tf.data.Dataset` or `keras.utils.PyDataset`
            of `x` or `(x, y)`.
        y: Labels of arrays: class numbers `(batch,)` or one-hot `(batch, classes)`; 0 or 1 for one sigmoid,
            `(batch,)`, and for each of several that are labels of their own, `(batch, labels)`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        record: Names of `"spike_counts"`, `"spike_trains"`, `"membrane_potentials"`, and of time codes
            `"spike_times"`, each kept for every layer of neurons. Trains and potentials need memory for every
            neuron and step. To record time codes every window is run step by step, in float64.
        settle: Whether to run on, with input and biases off, until no neuron fires. These steps are
            recorded after the others, but the read-out still divides by `timesteps`. With signed
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
    timesteps, run = open_run(
        model,
        x,
        y,
        timesteps=timesteps,
        record=record,
        settle=settle,
        exit=exit,
        level=level,
        batch_size=batch_size,
        verbose=verbose,
    )
    return result_of(model, [*run], timesteps)


def open_run(model, x, y=None, *, timesteps, batch_size, record=(), verbose=0, whole=True, **ending):
    """Return the number of steps, and an iterator of a `Part` for every batch.

    Arguments are as of `simulate`, among them in `ending` those of how it ends; `whole` is whether all
    batches are held in memory together, which is checked.
    """
    ending = {"settle": False, "exit": None, "level": None, **ending}
    record = tuple(record) if isinstance(record, (list, tuple, set, frozenset)) else (record,)
    for name in record:
        check_choice("record", name, TIME_CODE_RECORDS if model.is_time_coded else tuple(_FIELDS))
    check_exit(model, ending["exit"], ending["level"], record, ending["settle"])
    timesteps, batches = open_data(model, x, y, timesteps=timesteps, batch_size=batch_size)
    per_call, plan = lengths(model, record, timesteps, batch_size)
    # Windows of time codes end when all spikes have come.
    settle = ending["settle"] and not model.is_time_coded
    if settle:
        model = with_plain_averages(model)
    if model.is_time_coded and record:
        runner = WindowRunner(model, record)
    else:
        runner = _runner(model, record, timesteps if settle else None)

    def part_of(inputs, labels):
        if ending["exit"] is None:
            run = runner.whole(inputs, timesteps, plan, per_call=per_call, settle=settle)
            values, steps = runner.outputs(run), None
        else:
            values, steps = run_until_confident(runner, inputs, timesteps, plan, level=ending["level"])
            run = {"every": {}, "potentials": {}, "sums": {}}
        network = internals(model).network
        over_time = _records(network, record, run, ("spike_trains", "membrane_potentials"))
        counts = _records(network, record, run, ("spike_counts", "spike_times"))
        return Part(values, over_time, counts, labels, steps)

    def check(inputs):
        samples = len(keras.tree.flatten(inputs)[0])
        if whole:
            samples = batches.samples or samples * (batches.count or 1)
        check_records(model, record, samples, timesteps, verbose)

    return timesteps, _each(batches, part_of, check, verbose)


def _each(batches, part_of, check, verbose):
    """Yield what a function makes of every batch; another one looks at the first before."""
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    is_first = True
    for inputs, labels in batches:
        if is_first:
            check(inputs)
        is_first = False
        yield part_of(inputs, labels)
        if progress:
            progress.add(1)


def open_data(model, x, y, *, timesteps, batch_size, averages=False):
    """Return the number of steps, and `Batches` of data for a spiking model; arguments as of `simulate`.

    With `averages` the samples of a network of events have no time axis.

    Raises:
        TypeError, ValueError: If an argument is not what it may be. Inputs are checked batch by batch.
    """
    timesteps = _checked_timesteps(model, timesteps)
    if y is not None:
        y = as_labels(y)
        # Before the long run.
        keras.tree.map_structure(check_labels, y)
    batches = Batches(
        x if y is None else (x, y),
        internals(model).network.inputs,
        internals(model).inputs.shapes if averages else internals(model).inputs.given_shapes,
        batch_size=check_integer("batch_size", batch_size, minimum=1),
        argument="x",
    )
    if y is not None:
        labels_for(model, y)
    return timesteps, batches


def _checked_timesteps(model, timesteps):
    """Return the number of steps of the loop over time."""
    if timesteps is None:
        return model.passes
    timesteps = check_timesteps(timesteps)
    check_exact(timesteps, model.exact_steps)
    if not model.is_time_coded:
        return timesteps
    if timesteps != model.timesteps:
        raise ValueError(
            f"`timesteps` of a time code is its window, {model.timesteps} steps here. Received: "
            f"timesteps={timesteps}. Convert again, with timesteps={timesteps}."
        )
    return model.passes


class Runner:
    """Runs batches of a spiking model in calls of a compiled function, and keeps what is asked for.

    Args:
        model: A `SpikingModel`.
        requests: `Requests`; the values of the outputs at every step are kept too.

    Attributes:
        runs_any_size: Whether batches of other sizes cost nothing to begin with.
    """

    runs_any_size = False

    def __init__(self, model, requests):
        self.model, self.network = model, internals(model).network
        every = tuple(dict.fromkeys([*internals(model).output_calls, *requests.every]))
        self.requests = dataclasses.replace(requests, every=every)
        self.begin = Compiled(self._begun, model.layers)
        self.divides = any(layer.divides_by_steps for layer in self.network.stateful.values())
        # By plan and by whether they begin.
        self.functions = {}
        # By time steps: the program without input, its network, and a compiled step of it.
        self.settling = {}

    def _begun(self, x):
        inputs = internals(self.model).inputs.cast(x)
        return {"drive": self.network.drive(inputs), "states": self.network.start(inputs)}

    def _function(self, plan, *, begins):
        """Return the compiled function of some steps: of a batch if it begins with it, else of a carry."""
        if (plan, begins) not in self.functions:

            def function(given):
                carry = self._begun(given) if begins else given
                run = run_chunks(self.network, carry["drive"], carry["states"], plan, self.requests)
                return {name: kept for name, kept in run.items() if not begins or name != "states"}

            self.functions[plan, begins] = Compiled(function, self.model.layers)
        return self.functions[plan, begins]

    def outputs(self, run):
        """Return the values of the outputs at every step of a run, nested as the model returns them."""
        return keras.tree.map_structure(run["every"].__getitem__, self.network.outputs)

    def until_look(self, start, plan):
        """Return how many steps to run before it is looked who is done; `start` went before."""
        return max(plan.chunk, _BETWEEN_LOOKS)

    def run(self, inputs, timesteps, plan, *, per_call, settle=False):
        """Yield what `run_chunks` returns of one batch, call by call.

        Args:
            inputs: Nested arrays `(batch, …)`.
            timesteps: Number of steps.
            plan: A `ChunkPlan`.
            per_call: How many steps one call runs at most; memory grows with it.
            settle: Whether to go on without input, one step per call, until no neuron fires; only after
                `prepare_settling`.
        """
        if timesteps <= per_call and not settle and not self.divides:
            # States need not leave the function. Where it begins TensorFlow knows the number of every step,
            # and multiplies instead of dividing by it, which rounds otherwise.
            function = self._function(plan.of(timesteps), begins=True)
            yield predict_batch(function, internals(self.model).inputs.shaped(inputs, timesteps))
            return
        carry = self.started(inputs, timesteps)
        for start in range(0, timesteps, per_call):
            carry, run = self.advance(carry, start, plan.of(min(per_call, timesteps - start)))
            yield run
        if settle:
            yield from self._settle(carry, timesteps)

    def whole(self, inputs, timesteps, plan, *, per_call, settle=False):
        """Return the run of all steps of one batch; arguments as of `run`."""
        return collect(self.run(inputs, timesteps, plan, per_call=per_call, settle=settle))

    def started(self, inputs, timesteps):
        """Return what goes from call to call: the drive and the states of one batch, arrays `(batch, …)`."""
        return predict_batch(self.begin, internals(self.model).inputs.shaped(inputs, timesteps))

    def advance(self, carry, start, plan):
        """Run the steps of a plan after the first `start`; return the carry after them, and the run."""
        now = {**carry, "drive": self.network.at(carry["drive"], start, plan.timesteps)}
        run = predict_batch(self._function(plan, begins=False), now)
        return {**carry, "states": run.pop("states")}, run

    def prepare_settling(self, timesteps):
        """Compile a step without input, for after `timesteps` steps, unless weights are as they were.

        Raises:
            ValueError: If an output draws random spikes.
        """
        program = quiet_program(self.model, timesteps)
        if timesteps not in self.settling or self.settling[timesteps][0] != program:
            quiet = build(program)
            function = functools.partial(self._settling_step, internals(quiet).network)
            self.settling[timesteps] = program, Compiled(function, quiet.layers)

    def _settle(self, carry, timesteps):
        """Return an iterator of what `run` yields, step by step, up to one in which nothing fires."""
        _, step = self.settling[timesteps]
        drive = {
            name: np.zeros_like(x[:, :1] if self.network.events else x) for name, x in carry["drive"].items()
        }
        states = carry["states"]

        def advance():
            nonlocal states
            run = predict_batch(step, {"drive": drive, "states": states})
            states = run.pop("states")
            return run

        return until_silent(advance)

    def _settling_step(self, network, carry):
        states = {name: network.stateful[name].rewind(state) for name, state in carry["states"].items()}
        requests = dataclasses.replace(self.requests, fired=tuple(_of_neurons(network)))
        run = run_chunks(network, carry["drive"], states, ChunkPlan(1), requests)
        fired = {
            name: ops.any(x != 0, axis=tuple(range(1, len(x.shape)))) for name, x in run["fired"].items()
        }
        return {**run, "fired": fired}


def _runner(model, record, settles):
    """Return the runner of an earlier call, which is compiled, or a new one.

    Args:
        model: A `SpikingModel`.
        record: Names of records, as of `simulate`.
        settles: Number of steps with input, after which it is to settle, or `None`.
    """
    neurons = tuple(_of_neurons(internals(model).network))
    requests = Requests(**{field: neurons for what, field in _FIELDS.items() if what in record})
    network = event_network(model)
    quiet = None if network is None or settles is None else quiet_events(model, settles)
    if network is not None and (settles is None or quiet is not None):
        return EventRunner(model, network, requests, quiet)
    if record not in internals(model).runners:
        internals(model).runners[record] = Runner(model, requests)
    runner = internals(model).runners[record]
    if settles is not None:
        runner.prepare_settling(settles)
    return runner


def _of_neurons(network):
    """Return the names of the calls of layers of neurons."""
    return [name for name, layer in network.stateful.items() if neuron_of(layer) is not None]


def _records(network, record, run, names):
    """Return what of a run was to be recorded under these names, by name of the call."""
    wanted = [what for what in names if what in record]
    fields = {**_FIELDS, "spike_times": "times"}
    return {what: {name: run[fields[what]][name] for name in _of_neurons(network)} for what in wanted}


def lengths(model, record, timesteps, batch_size):
    """Return how many steps one call of a `Runner` runs, and the `ChunkPlan` of all.

    Args:
        model: A `SpikingModel`.
        record: Names of records, as of `simulate`.
        timesteps: Number of time steps.
        batch_size: Samples that run together.
    """
    plan = plan_for(model, batch_size, timesteps)
    plan = plan.step_by_step() if "membrane_potentials" in record else plan
    if set(record) - {"spike_counts"}:
        # Long records are copied in every pass.
        return plan.chunk, plan
    width = sum(
        math.prod(internals(model).network.stateful[name].value_shape)
        for name in internals(model).output_calls
    )
    return max(plan.chunk, _WIDEST // max(width, 1) // plan.chunk * plan.chunk), plan
