"""Simulation with records on the event-driven engine."""

import keras
import numpy as np

from keras_snn.simulation.engine import start_of
from keras_snn.simulation.internals import internals

__all__ = ["EventRunner"]


class EventRunner:
    """Runs batches of a spiking model on events, and keeps what is asked for.

    It has the methods of `keras_snn.simulation.recording.Runner` but those that settle.

    Args:
        model: A `SpikingModel`.
        network: Its `EventNetwork`.
        requests: `Requests` of neurons; the values of the outputs at every step are kept too.
    """

    def __init__(self, model, network, requests):
        self.model, self._network, self._requests = model, network, requests
        self._outputs = internals(model).output_calls
        fields = ("every", "sums", "fired", "potentials")
        self._wanted = {name: getattr(requests, name) for name in fields}
        self._wanted["every"] = tuple(dict.fromkeys([*self._outputs, *requests.every]))

    def outputs(self, run):
        """Return the values of the outputs at every step of a run, nested as the model returns them."""
        return keras.tree.map_structure(run["every"].__getitem__, internals(self.model).network.outputs)

    def whole(self, inputs, timesteps, plan, *, per_call, settle=False):
        """Return the run of all steps of one batch; arguments as of `Runner.run`."""
        return self.advance(self.started(inputs, timesteps), 0, plan.of(timesteps))[1]

    def started(self, inputs, timesteps):
        """Return what goes from call to call: the drive and the states of one batch, arrays `(batch, …)`."""
        inner = internals(self.model).inputs
        shaped = keras.tree.flatten(inner.shaped(inputs, timesteps))
        states, drives, arriving = start_of(self.model, self._network, shaped, timesteps)
        return {"states": states, "drive": drives, "arriving": arriving}

    def advance(self, carry, start, plan):
        """Run the steps of a plan after the first `start`; return the carry after them, and the run."""
        states = np.array(carry["states"])
        arriving = carry["arriving"][:, start : start + plan.timesteps]
        run = self._network.run(states, carry["drive"], arriving, start, plan.timesteps, **self._wanted)
        every = run["every"]
        every |= {name: self._network.read(name, every[name], start) for name in self._outputs}
        return {**carry, "states": states}, {**run, "observed": [], "added": []}
