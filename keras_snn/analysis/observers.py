"""Running a spiking model and its source network over data once, for all who want to look at them."""

import dataclasses

import keras
import numpy as np

from keras_snn._devices import predict_batch
from keras_snn._summary import Summary, Totals
from keras_snn.engines.compiled import Reduction, Requests
from keras_snn.graph.to_keras import analog_tensors
from keras_snn.simulation.engine import event_network
from keras_snn.simulation.event_runner import ObservedEvents
from keras_snn.simulation.internals import internals
from keras_snn.simulation.parts import collect
from keras_snn.simulation.recording import Runner, lengths, open_data
from keras_snn.simulation.source import digest_of

__all__ = ["Observation", "Observer", "Reduction", "observe", "summarize"]


@dataclasses.dataclass(frozen=True)
class Observation:
    """What happened to one batch; what a observer asked for is nested as it did.

    Attributes:
        timesteps: Number of steps.
        inputs: Arrays `(batch, …)`, nested as the model takes them.
        targets: Labels, or `None`.
        outputs: Read-out after every step, `(batch, timesteps, …)`.
        source: Values of the source network, `(batch, …)`.
        steps: Values at every step, `(batch, timesteps, …)`.
        sums: Values summed over time, `(batch, …)`.
        first_row: Number of its first sample among all of the data.
    """

    timesteps: int
    inputs: object
    targets: object
    outputs: object
    source: object
    steps: object
    sums: object
    first_row: int = 0

    @property
    def rows(self):
        """Numbers of the samples among all of the data."""
        return np.arange(self.first_row, self.first_row + self.samples)

    @property
    def samples(self):
        """Number of samples."""
        return len(keras.tree.flatten(self.inputs)[0])


class Observer:
    """Asks for what it wants to see, takes it batch by batch, and keeps what does not grow with the data.

    What adds up it keeps in `totals`, from which a `Summary` is made.
    """

    def __init__(self):
        self.totals = Totals()

    def of_source(self, values):
        """Return what to see of the source network: nested Keras tensors `(batch, …)`.

        Args:
            values: Dict of the Keras tensor of every node of its graph.
        """
        return {}

    @property
    def of_steps(self):
        """What to see of every step: nested `Reduction`s to something small."""
        return {}

    @property
    def of_sums(self):
        """What to see summed over time: nested names of calls."""
        return {}

    def take(self, observation):
        """Take in the `Observation` of one batch."""
        raise NotImplementedError


def summarize(model, kind, observers, x, y=None, *, graph, first_row=0, identify=True, **options):
    """Return the `Summary` of what observers keep of data.

    Args:
        model: A `SpikingModel`.
        kind: Kind of the summary.
        observers: Dict of `Observer`s; the name of each is before those of its totals.
        x: Samples, as for `simulate`.
        y: Labels of arrays, or `None`.
        graph: `Graph` of the source network.
        first_row: Number of the first sample, if this is a part of the data.
        identify: Whether it has the digest of the model, which takes time; a summary that merges needs it.
        options: As of `observe`.
    """
    steps, samples = observe(model, x, y, [*observers.values()], graph=graph, first_row=first_row, **options)
    totals = Totals()
    for name, observer in observers.items():
        totals.include(observer.totals, name + ":")
    model_of = digest_of(model) if identify else ""
    return Summary.of(kind, model_of, {"timesteps": steps}, samples, totals)


def observe(
    model, x, y, observers, *, graph, timesteps=None, batch_size=32, verbose=0, averages=False, first_row=0
):
    """Run a spiking model and its source network over data, and let observers look.

    Args:
        model: A `SpikingModel`.
        x: Samples, as for `simulate`.
        y: Labels of arrays, or `None`.
        observers: List of `Observer`s.
        graph: `Graph` of the source network.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.
        averages: Whether samples are what the source network sees. A network of events gets them at
            every step.
        first_row: Number of the first sample, if these are a part of the data.

    Returns:
        `(timesteps, samples)`: how many there were.

    Raises:
        TypeError, ValueError: If an argument is not what it may be.
    """
    options = {"timesteps": timesteps, "batch_size": batch_size, "averages": averages}
    timesteps, batches = open_data(model, x, y, **options)
    source = _source_model(graph, observers, model.dtype_policy)
    requests = Requests(
        observed=tuple(observer.of_steps for observer in observers),
        added=tuple(observer.of_sums for observer in observers),
    )
    network = event_network(model)
    runner = Runner(model, requests) if network is None else ObservedEvents(model, network, requests)
    per_call, plan = lengths(model, (), timesteps, batch_size)
    progress = keras.utils.Progbar(batches.count, unit_name="batch") if verbose else None
    samples = 0
    for inputs, targets in batches:
        inputs, average = _with_average(model, inputs, timesteps, averages)
        of_source = predict_batch(source, average) if source else None
        run = collect(runner.run(inputs, timesteps, plan, per_call=per_call))
        outputs = runner.outputs(run)
        for i, observer in enumerate(observers):
            values = of_source[str(i)] if source else {}
            observer.take(
                Observation(
                    timesteps,
                    inputs,
                    targets,
                    outputs,
                    values,
                    run["observed"][i],
                    run["added"][i],
                    first_row + samples,
                )
            )
        samples += len(keras.tree.flatten(inputs)[0])
        if progress:
            progress.add(1)
    return timesteps, samples


def _source_model(graph, observers, dtype):
    """Return the model of what the observers see of the source network, or `None` if that is nothing."""
    values = analog_tensors(graph, dtype=dtype)
    # A dict: Keras takes a list of one output for that output.
    wanted = {str(i): observer.of_source(values) for i, observer in enumerate(observers)}
    if not keras.tree.flatten(wanted):
        return None
    return keras.Model(keras.tree.map_structure(values.__getitem__, graph.inputs), wanted)


def _with_average(model, inputs, timesteps, averages):
    """Return what the spiking network sees, and what the source network does: events on average."""
    if not internals(model).network.events:
        return inputs, inputs
    if averages:
        return keras.tree.map_structure(lambda x: np.repeat(x[:, None], timesteps, axis=1), inputs), inputs
    return inputs, keras.tree.map_structure(
        lambda x: x.mean(axis=1), internals(model).inputs.shaped(inputs, timesteps)
    )
