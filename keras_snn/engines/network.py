"""One chunk of time of a network of layers, as a function of explicit states.

A network is a list of layers and of their calls. Those that depend on nothing but the
inputs see the same values at every step: they run once, and so does the part without
memory of a spiking layer after them. What they compute is the drive of the network.
"""

import collections.abc
import math

import keras
from keras import ops

from keras_snn.layers import NonSpiking, PerTimestep, Rearrange, SpikingLayer
from keras_snn.layers.held import as_in_predict
from keras_snn.layers.random_numbers import key_of
from keras_snn.layers.time_axis import fold_time, repeat_time, unfold_time

__all__ = ["StepNetwork"]

# Values whose copies along time cost what reading a weight at every step costs; from VGG16 and ResNet-18.
_VALUES_PER_WEIGHT = 3


class StepNetwork:
    """Runs calls of layers in their order.

    Args:
        layers: Keras layers.
        calls: For every call a dict of its `name`, the name of the `layer` and those of its
            `inputs`, which are inputs of the network or earlier calls. A layer with a state has
            one for every call.
        inputs: Names of the inputs, nested as the model takes them.
        outputs: Names of the calls whose values the model returns, nested as it returns them.
        events: Whether inputs have a time axis, instead of being the same at every step.
    """

    def __init__(self, layers, calls, inputs, outputs, *, events=False):
        _check_calls(layers, calls, inputs, outputs)
        self.inputs, self.outputs, self.events = inputs, outputs, events
        by_name = {layer.name: layer for layer in layers}
        constant = set() if events else set(keras.tree.flatten(inputs))
        self.stateful = {}
        self._driving, self._driven, self._varying = [], [], []
        for layer in layers:
            if isinstance(layer, PerTimestep) and _keeps_dtypes(layer):
                layer.layer.autocast = False
        for call in calls:
            name, layer, sources = call["name"], by_name[call["layer"]], tuple(call["inputs"])
            is_driven = constant.issuperset(sources)
            if isinstance(layer, SpikingLayer):
                self.stateful[name] = layer
                (self._driven if is_driven else self._varying).append((name, layer, sources))
            elif is_driven:
                constant.add(name)
                self._driving.append((name, layer, sources))
            else:
                self._varying.append((name, layer, sources))
        self._constant = constant

    def is_constant(self, name):
        """Whether an input or a call has the same value at every step."""
        return name in self._constant

    def is_driven(self, name):
        """Whether a call has a state and the same current at every step."""
        return any(name == driven for driven, *_ in self._driven)

    @property
    def running(self):
        """The calls that `run` makes in their order: tuples of name, layer and names of the inputs."""
        return [*self._driven, *self._varying]

    def drive(self, inputs):
        """Return all that does not depend on the state, by name of the call.

        Args:
            inputs: List of tensors `(batch, …)`, or `(batch, time, …)` of events.

        Returns:
            Dict of tensors `(batch, …)`: values that other layers take, and currents of
            spiking layers. Of events the inputs themselves, `(batch, time, …)`.
        """
        values = dict(zip(keras.tree.flatten(self.inputs), inputs, strict=True))
        if self.events:
            return values
        for name, layer, sources in self._driving:
            values[name] = _apply(layer, _gather(values, sources, layer), 1)
        currents = {
            name: ops.cast(layer.current(_gather(values, sources, layer)), layer.state_dtype)
            for name, layer, sources in self._driven
        }
        taken = {name for *_, sources in self._varying for name in sources}
        return {**{name: values[name] for name in sorted(taken & self._constant)}, **currents}

    def start(self, inputs):
        """Return the state of every call before the first step, by its name; `inputs` as of `drive`."""
        batch_size = ops.shape(inputs[0])[0]
        states = {name: layer.get_initial_state(batch_size) for name, layer in self.stateful.items()}
        drawing = [name for name, layer in self.stateful.items() if layer.draws]
        if drawing:
            # A sample gets its random numbers by what it is, not by its place in a batch.
            key = sum(key_of(x) for x in inputs)
            states |= {name: [*states[name][:-1], key] for name in drawing}
        return states

    def at(self, drive, start, timesteps):
        """Return the drive of `timesteps` steps after the first `start`."""
        if not self.events:
            return drive
        places = start + ops.arange(timesteps, dtype="int32")
        return {name: ops.take(x, places, axis=1) for name, x in drive.items()}

    def light(self, batch_size):
        """Return how many of `running`, from the first on, have few weights for what they compute at a step.

        To take more steps at once pays for the rest of them: a step reads all weights, and TensorFlow
        rearranges those of a convolution every time; it costs copies of what the rest gives. None are light
        if the rest has fewer weights than all calls give values.
        """
        gains = []
        for _, layer, _ in self.running:
            values = math.prod(layer.value_shape) if isinstance(layer, SpikingLayer) else 0
            gains.append(layer.count_params() - batch_size * values / _VALUES_PER_WEIGHT)
        of_rest = [sum(gains[first:]) for first in range(len(gains))]
        best = max(range(len(gains)), key=of_rest.__getitem__)
        given = sum(math.prod(layer.value_shape) for layer in self.stateful.values())
        return best if of_rest[best] > batch_size * given else 0

    def run(self, drive, states, timesteps, *, light=0, part=1):
        """Run a chunk of `timesteps` steps, whose drive that is.

        Args:
            drive: Drive of these steps.
            states: The states before.
            timesteps: Number of steps.
            light: How many of `running`, from the first on, take only `part` steps at once.
            part: Number of steps.

        Returns:
            `(values, states)`: a mapping of the value of every call over the chunk,
            `(batch, timesteps, …)`, by name; and the new states.
        """
        parts, values = [], {}
        for start in range(0, timesteps if light else 0, part):
            steps = min(part, timesteps - start)
            of_part = self.at(drive, start, steps)
            found, states = self._run(self.running[:light], of_part, {}, states, steps)
            parts.append({name: unfold_time(x, steps) for name, x in found.items()})
        if parts:
            values = {name: fold_time(ops.concatenate([x[name] for x in parts], axis=1)) for name in parts[0]}
        values, states = self._run(self.running[light:], drive, values, states, timesteps)
        return _Unfolded(values, timesteps), states

    def current_of(self, call, drive, values, timesteps):
        """Return what drives the state of one of `running`, and whether that is the same at every step.

        Args:
            call: Tuple of name, layer and names of the inputs.
            drive: Drive of these steps.
            values: Values of calls before it, `(batch·timesteps, …)`, by name.
            timesteps: Number of steps.

        Returns:
            `(current, constant)`: a tensor `(batch·timesteps, …)`, or `(batch, …)` if it is constant.
        """
        name, layer, sources = call
        if self.is_driven(name):
            return drive[name], True
        return layer.current(_gather(self._taken(sources, drive, values, timesteps), sources, layer)), False

    def value_of(self, call, drive, values, states, timesteps):
        """Return the value of one of `running`, `(batch·timesteps, …)`; arguments as of `current_of`."""
        name, _, sources = call
        of_call = {name: drive[name]} if self.is_driven(name) else {}
        taken = self._taken(sources, drive, values, timesteps)
        return self._run([call], of_call, taken, states, timesteps)[0][name]

    def completed(self, drive, values):
        """Return the values of all calls, as `run` does, from those of calls with a state.

        Args:
            drive: Drive of these steps.
            values: Values `(batch, timesteps, …)` by name of the call.
        """
        timesteps = next(iter(values.values())).shape[1]
        found = {name: fold_time(x) for name, x in values.items()}
        stateless = [call for call in self.running if call[0] not in values]
        constants = self._taken(drive, drive, found, timesteps)
        constants = {name: x for name, x in constants.items() if self.events or self.is_constant(name)}
        found, _ = self._run(stateless, {}, {**found, **constants}, {}, timesteps)
        return _Unfolded(found, timesteps)

    def _taken(self, names, drive, values, timesteps):
        """Return values by name, those that are constant or come from outside at every step."""
        found = {}
        for name in names:
            if name in values:
                found[name] = values[name]
            elif name in drive:
                found[name] = fold_time(drive[name]) if self.events else repeat_time(drive[name], timesteps)
        return found

    def _run(self, calls, drive, values, states, timesteps):
        """Run some calls on what those before gave, values whose steps are folded into the batch.

        Returns:
            `(values, states)` with those of the calls.
        """
        values, states = dict(values), dict(states)
        for name, x in drive.items():
            if self.events:
                values[name] = fold_time(x)
            elif name in self._constant:
                values[name] = repeat_time(x, timesteps)
        for name, layer, sources in calls:
            if self.is_driven(name):
                values[name], states[name] = layer.advance(
                    drive[name], states[name], timesteps, constant=True
                )
            elif isinstance(layer, SpikingLayer):
                current = layer.current(_gather(values, sources, layer))
                values[name], states[name] = layer.advance(current, states[name], timesteps)
            else:
                values[name] = _apply(layer, _gather(values, sources, layer), timesteps)
        return values, states


class _Unfolded(collections.abc.Mapping):
    """Tensors `(batch, time, …)` by name, of folded ones; few are asked for, and each is an operation."""

    def __init__(self, folded, timesteps):
        self._folded, self._timesteps = folded, timesteps

    def __getitem__(self, name):
        return unfold_time(self._folded[name], self._timesteps)

    def __iter__(self):
        return iter(self._folded)

    def __len__(self):
        return len(self._folded)


def _gather(values, names, layer):
    """Return the inputs of a call of a layer, in the dtype that it computes in unless it takes any."""
    found = [values[name] for name in names]
    if not _keeps_dtypes(layer):
        found = [ops.cast(x, layer.compute_dtype) for x in found]
    return found[0] if len(found) == 1 else found


def _keeps_dtypes(layer):
    """Whether a layer takes integers as they are, and floats without rounding them."""
    if isinstance(layer, NonSpiking):
        return True
    kinds = (keras.Model, Rearrange, keras.layers.Concatenate)
    return isinstance(layer, PerTimestep) and isinstance(layer.layer, kinds)


def _apply(layer, inputs, timesteps):
    """Return what a layer without memory makes of inputs whose steps are folded into the batch."""
    if isinstance(layer, PerTimestep):
        return as_in_predict(layer.layer, inputs)
    return fold_time(layer(keras.tree.map_structure(lambda x: unfold_time(x, timesteps), inputs)))


def _check_calls(layers, calls, inputs, outputs):
    """Raise a `ValueError` if there is not what calls or outputs are of."""
    known, names = set(keras.tree.flatten(inputs)), {layer.name for layer in layers}
    for call in calls:
        missing = {call["layer"]} - names | set(call["inputs"]) - known
        if missing:
            raise ValueError(
                "`calls` must be of layers, on inputs and earlier calls. Received: call "
                f"'{call['name']}' with {', '.join(map(repr, sorted(missing)))}. Name what there is."
            )
        known.add(call["name"])
    missing = set(keras.tree.flatten(outputs)) - {call["name"] for call in calls}
    if missing:
        raise ValueError(
            f"`outputs` must be names of calls. Received: {', '.join(map(repr, sorted(missing)))}."
        )
