"""The loop over time, as one function of tensors: chunk by chunk, with what is asked for kept or added up."""

import dataclasses
import operator

import keras
from keras import ops

from keras_snn._gradients import without_gradients

__all__ = ["Compiled", "Reduction", "Requests", "run_chunks"]


@dataclasses.dataclass(frozen=True, eq=False)
class Reduction:
    """What is kept of the values of one call at every step: all of them, or what a subclass takes.

    Attributes:
        call: Its name.
    """

    call: str

    def of(self, values):
        """Return what is kept of values `(batch, time, …)`, with the same first axes."""
        return values


@dataclasses.dataclass(frozen=True)
class Requests:
    """What to keep of a run beside the states after its last step; names are those of calls with a state.

    Attributes:
        last: Whose value of the last step.
        every: Whose values of every step, `(batch, time, …)`.
        potentials: Whose first tensor of the state, after every step; for chunks of one step.
        sums: Whose values summed over time, in float32.
        fired: Of which calls at how many steps each value was not 0, in float32.
        observed: Nested `Reduction`s, of any calls.
        added: Nested names of any calls, whose values are summed over time, in float32.
    """

    last: tuple[str, ...] = ()
    every: tuple[str, ...] = ()
    potentials: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    fired: tuple[str, ...] = ()
    observed: tuple = ()
    added: tuple = ()

    def of_steps(self, network, values, states):
        """Return what of a chunk is kept for every step, nested `(batch, time, …)`."""
        return {
            "every": {name: values[name] for name in self.every},
            "potentials": {name: states[name][0][:, None] for name in self.potentials},
            "observed": keras.tree.map_structure(lambda taken: taken.of(values[taken.call]), self.observed),
        }

    def of_sums(self, network, values):
        """Return what of a chunk is added up, nested `(batch, …)`."""
        return {
            "sums": {name: _over_time(ops.cast(values[name], "float32")) for name in self.sums},
            "fired": {name: _over_time(_fires(network, name, values[name])) for name in self.fired},
            "added": keras.tree.map_structure(
                lambda name: _over_time(ops.cast(values[name], "float32")), self.added
            ),
        }

    def start(self, network, states, batch_size, timesteps):
        """Return `(last, kept, sums)` before the first step, all 0; nothing may be observed."""

        def zeros(name, *time, dtype=None):
            layer = network.stateful[name]
            return ops.zeros((batch_size, *time, *layer.value_shape), dtype or layer.compute_dtype)

        def of_state(v):
            return ops.zeros((batch_size, timesteps, *v.shape[1:]), v.dtype)

        kept = {
            "every": {name: zeros(name, timesteps) for name in self.every},
            "potentials": {name: of_state(states[name][0]) for name in self.potentials},
            "observed": (),
        }
        sums = {
            "sums": {name: zeros(name, dtype="float32") for name in self.sums},
            "fired": {name: zeros(name, dtype="float32") for name in self.fired},
            "added": (),
        }
        return {name: zeros(name) for name in self.last}, kept, sums


def run_chunks(network, drive, states, plan, requests):
    """Run a network over time.

    Args:
        network: A `StepNetwork`.
        drive: Its drive of these steps.
        states: The states before.
        plan: A `ChunkPlan`.
        requests: `Requests`.

    Returns:
        Dict of `"states"` after the last step, of `"last"`, `"every"`, `"potentials"`, `"sums"` and
        `"fired"` by name of the call, and of `"observed"` and `"added"`, nested as in the requests.
    """
    batch_size = ops.shape(keras.tree.flatten([drive, states])[0])[0]
    whole, rest = divmod(plan.timesteps, plan.chunk)

    def run(states, start, steps):
        of_chunk = network.at(drive, start, steps)
        values, states = network.run(of_chunk, states, steps, light=plan.light, part=plan.part)
        last = {name: values[name][:, -1] for name in requests.last}
        return states, last, requests.of_steps(network, values, states), requests.of_sums(network, values)

    def go_on(carry, start, steps):
        states, last, of_steps, of_sums = run(carry[0], start, steps)
        kept = keras.tree.map_structure(lambda x, y: _put(x, start, y), carry[2], of_steps)
        # Not `ops.add`, which takes the terms of an empty batch for a bias (since keras-team/keras#20386).
        return [states, last, kept, keras.tree.map_structure(operator.add, carry[3], of_sums)]

    done = 0
    if requests.observed or requests.added:
        # The first pass shows the shapes of the others.
        states, last, kept, sums = run(states, 0, plan.chunk)
        kept = keras.tree.map_structure(lambda x: _pad_time(x, plan.timesteps - plan.chunk), kept)
        carry, done = [states, last, kept, sums], 1
    else:
        carry = [states, *requests.start(network, states, batch_size, plan.timesteps)]
    if whole - done > 1:
        carry = ops.fori_loop(done, whole, lambda i, carry: go_on(carry, i * plan.chunk, plan.chunk), carry)
    elif whole > done:
        carry = go_on(carry, done * plan.chunk, plan.chunk)
    if rest:
        carry = go_on(carry, whole * plan.chunk, rest)
    states, last, kept, sums = carry
    return {"states": states, "last": last, **kept, **sums}


def _over_time(x):
    return ops.squeeze(x, 1) if x.shape[1] == 1 else ops.sum(x, axis=1)


def _fires(network, name, spikes):
    """Return 1 where a neuron fired, else 0."""
    are_ones = network.stateful[name].neuron.has_unit_spikes
    return ops.cast(ops.stop_gradient(spikes if are_ones else spikes != 0), "float32")


def _pad_time(x, timesteps):
    """Return `(batch, time, …)` with zeros for more time steps."""
    return ops.pad(x, [(0, 0), (0, timesteps), *[(0, 0)] * (len(x.shape) - 2)]) if timesteps else x


def _put(x, start, part):
    """Return `(batch, time, …)` with a part replaced from a time step on."""
    if x.shape[1] == part.shape[1]:
        return part
    return ops.slice_update(x, (0, start, *[0] * (len(x.shape) - 2)), part)


class Compiled(keras.Model):
    """A function of tensors, run the way Keras runs `predict` on the backend in use."""

    def __init__(self, function, layers):
        # Without autocast, which would round states to the default dtype.
        super().__init__(name="steps", autocast=False)
        self._function = function
        # Held so that a backend that tracks variables sees them.
        self._used_layers = layers
        self.built = True

    def call(self, inputs, training=None):
        # With `training`, which Keras then takes for False, for layers below too.
        with without_gradients():
            return self._function(inputs)
