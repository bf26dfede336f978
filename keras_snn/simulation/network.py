"""One chunk of time of a network of layers, as a function of explicit states.

A network is a list of layers and their wiring. Layers that depend on nothing but the
inputs see the same values at every step: they run once, and so does the part without
memory of a spiking layer behind them. What they compute is the drive of the network.
"""

import keras
from keras import ops

from keras_snn.layers import SpikingLayer

__all__ = ["StepNetwork"]


class StepNetwork:
    """Runs layers in the order of their wiring.

    Args:
        layers: Keras layers, each after those whose values it takes.
        wiring: For every layer the names of its inputs, in the same order.
        inputs: Names of the inputs, nested as the model takes them.
        outputs: Names of the output layers, nested as the model returns them.
    """

    def __init__(self, layers, wiring, inputs, outputs):
        self.inputs, self.outputs = inputs, outputs
        self.steps = [(layer, tuple(names)) for layer, names in zip(layers, wiring, strict=True)]
        constant = set(keras.tree.flatten(inputs))
        self._driving, self._driven, self._varying = [], [], []
        for layer, names in self.steps:
            is_driven = constant.issuperset(names)
            if isinstance(layer, SpikingLayer):
                (self._driven if is_driven else self._varying).append((layer, names))
            elif is_driven:
                constant.add(layer.name)
                self._driving.append((layer, names))
            else:
                self._varying.append((layer, names))
        self._constant = constant

    @property
    def stateful_layers(self):
        """The layers that carry a state, by name."""
        return {layer.name: layer for layer, _ in self.steps if isinstance(layer, SpikingLayer)}

    def drive(self, inputs):
        """Return all that is the same at every step, by layer name.

        Args:
            inputs: Tensors `(batch, …)`, nested like `self.inputs`.

        Returns:
            Dict of tensors `(batch, 1, …)`: values that other layers take, and currents of
            spiking layers.
        """
        names = keras.tree.flatten(self.inputs)
        values = {
            name: ops.expand_dims(x, 1) for name, x in zip(names, keras.tree.flatten(inputs), strict=True)
        }
        for layer, sources in self._driving:
            values[layer.name] = layer(_gather(values, sources))
        currents = {layer.name: layer.current(_gather(values, sources)) for layer, sources in self._driven}
        taken = {name for _, sources in self._varying for name in sources}
        return {**{name: values[name] for name in sorted(taken & self._constant)}, **currents}

    def start(self, drive):
        """Return the state of every spiking layer before the first step, by layer name."""
        batch_size = ops.shape(next(iter(drive.values())))[0]
        return {name: layer.get_initial_state(batch_size) for name, layer in self.stateful_layers.items()}

    def run(self, drive, states, timesteps):
        """Run a chunk of `timesteps` steps.

        Returns:
            `(values, states)`: the value of every layer over the chunk,
            `(batch, timesteps, …)`, by name; and the new states.
        """
        values, states = dict(drive), dict(states)
        for layer, _ in self._driven:
            name = layer.name
            values[name], states[name] = layer.advance(drive[name], states[name], timesteps)
        for layer, sources in self._varying:
            name, inputs = layer.name, _gather(values, sources)
            if isinstance(layer, SpikingLayer):
                values[name], states[name] = layer.advance(layer.current(inputs), states[name], timesteps)
            else:
                values[name] = layer(inputs)
        return values, states


def _gather(values, names):
    return values[names[0]] if len(names) == 1 else [values[name] for name in names]
