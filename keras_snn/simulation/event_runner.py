"""Simulation with records on the event-driven engine."""

import math

import keras
import numpy as np

from keras_snn._devices import predict_batch
from keras_snn.engines.compiled import Compiled, Requests
from keras_snn.layers.base import neuron_of
from keras_snn.simulation.engine import start_of
from keras_snn.simulation.internals import internals
from keras_snn.simulation.parts import collect
from keras_snn.simulation.settling import until_silent

__all__ = ["EventRunner", "ObservedEvents"]

# Steps before the first look at who is done, and between others.
_FIRST_LOOK, _BETWEEN_LOOKS = 2, 4
# Values of all calls that are looked at at once.
_VALUES_AT_ONCE = 2**25


class EventRunner:
    """Runs batches of a spiking model on events, and keeps what is asked for.

    It has the methods of `keras_snn.simulation.recording.Runner`.

    Args:
        model: A `SpikingModel`.
        network: Its `EventNetwork`.
        requests: `Requests` of neurons; the values of the outputs at every step are kept too.
        quiet: The `EventNetwork` of the steps after the input has ended, if there are to be any.

    Attributes:
        runs_any_size: As of `Runner`: nothing is compiled for a size.
    """

    runs_any_size = True

    def __init__(self, model, network, requests, quiet=None):
        self.model, self._network, self._quiet, self._requests = model, network, quiet, requests
        self._outputs = internals(model).output_calls
        fields = ("every", "sums", "fired", "potentials")
        self._wanted = {name: getattr(requests, name) for name in fields}
        self._wanted["every"] = tuple(dict.fromkeys([*self._outputs, *requests.every]))

    def outputs(self, run):
        """Return the values of the outputs at every step of a run, nested as the model returns them."""
        return keras.tree.map_structure(run["every"].__getitem__, internals(self.model).network.outputs)

    def whole(self, inputs, timesteps, plan, *, per_call, settle=False):
        """Return the run of all steps of one batch; arguments as of `Runner.run`."""
        carry, run = self.advance(self.started(inputs, timesteps), 0, plan.of(timesteps))
        return collect([run, *self._settle(carry, timesteps)]) if settle else run

    def until_look(self, start, plan):
        """Return how many steps to run before it is looked who is done; `start` went before.

        Most samples that end early do so in the first steps. Not after each one: every call computes the
        constant currents anew.
        """
        return _FIRST_LOOK if start == 0 else _BETWEEN_LOOKS

    def started(self, inputs, timesteps):
        """Return what goes from call to call: the drive and the states of one batch, arrays `(batch, …)`."""
        inner = internals(self.model).inputs
        shaped = keras.tree.flatten(inner.shaped(inputs, timesteps))
        states, drives, arriving = start_of(self.model, self._network, shaped, timesteps)
        return {"states": states, "drive": drives, "arriving": arriving}

    def advance(self, carry, start, plan):
        """Run the steps of a plan after the first `start`; return the carry after them, and the run.

        The states of the carry that is given become those after these steps.
        """
        states = carry["states"]
        arriving = carry["arriving"][:, start : start + plan.timesteps]
        run = self._network.run(states, carry["drive"], arriving, start, plan.timesteps, **self._wanted)
        return carry, self._with_outputs(run, start)

    def _settle(self, carry, timesteps):
        """Return an iterator of what `advance` returns, step by step, up to one in which nothing fires."""
        network, states, start = self._quiet, carry["states"], timesteps
        samples, plan = len(states), network.assembled
        drives = np.zeros((samples, plan.drive_size), "float32")
        arriving = np.zeros((samples, 1 if plan.arriving else 0, plan.arriving_size), "float32")
        neurons = tuple(
            name for name, layer in internals(self.model).network.stateful.items() if neuron_of(layer)
        )

        def advance():
            nonlocal start
            run = network.run(states, drives, arriving, start, 1, **{**self._wanted, "fired": neurons})
            start += 1
            # The clock of read-outs stands still.
            return self._with_outputs(run, timesteps - 1)

        return until_silent(advance)

    def _with_outputs(self, run, start):
        """Return a run with the values of the outputs, where it has their sums."""
        every = run["every"]
        every |= {name: self._network.read(name, every[name], start) for name in self._outputs}
        return {**run, "observed": (), "added": ()}


class ObservedEvents(EventRunner):
    """Runs batches on events, and keeps what is asked for of any calls.

    Args:
        model: A `SpikingModel`.
        network: Its `EventNetwork`.
        requests: `Requests` of what is observed and added.
    """

    def __init__(self, model, network, requests):
        layers = internals(model).network.stateful
        super().__init__(model, network, Requests(every=tuple(layers)))
        self._seen = requests
        self._size = sum(math.prod(layer.value_shape) for layer in layers.values())
        self._drive = Compiled(self._drive_of, model.layers)
        # By number of time steps: one that saw several would take the number for unknown.
        self._see = {}

    def run(self, inputs, timesteps, plan, *, per_call):
        """Yield what `Runner.run` does of one batch, some steps at a time."""
        network, carry = internals(self.model).network, self.started(inputs, timesteps)
        drive = predict_batch(self._drive, internals(self.model).inputs.shaped(inputs, timesteps))
        at_once = max(_VALUES_AT_ONCE // (self._size * len(carry["states"])), 1)
        for start in range(0, timesteps, at_once):
            steps = min(at_once, timesteps - start)
            carry, run = self.advance(carry, start, plan.of(steps))
            given = {"drive": network.at(drive, start, steps), "values": run["every"]}
            kept = {name: run["every"][name] for name in self._outputs}
            if steps not in self._see:
                self._see[steps] = Compiled(self._see_values, self.model.layers)
            yield {**run, "every": kept, **predict_batch(self._see[steps], given)}

    def _drive_of(self, x):
        return internals(self.model).network.drive(internals(self.model).inputs.cast(x))

    def _see_values(self, given):
        network = internals(self.model).network
        values = network.completed(given["drive"], given["values"])
        return {
            "observed": self._seen.of_steps(network, values, {})["observed"],
            "added": self._seen.of_sums(network, values)["added"],
        }
