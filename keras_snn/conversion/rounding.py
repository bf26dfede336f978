"""An analog network whose activations can be rounded one by one, to see what that does to the outputs."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_snn._data import rows
from keras_snn._devices import predict_batch
from keras_snn._gradients import round_half_up
from keras_snn.graph import nodes as kinds
from keras_snn.graph.to_keras import analog_layer, analog_tensors

__all__ = ["RoundedNetwork"]


class RoundedNetwork:
    """The network of a graph, on parts of some data, with activations rounded to multiples of a unit.

    Args:
        graph: A folded `Graph` before neurons are put in.
        parts: Arrays of samples, nested as the inputs of the graph, one for each part.
        dtype: Dtype or policy to compute in.
        batch_size: Samples that run together.
    """

    def __init__(self, graph, parts, *, dtype, batch_size):
        nodes = {
            name: _Rounded(**vars(node)) if isinstance(node, kinds.Activation) and node.has_scale else node
            for name, node in graph.nodes.items()
        }
        values = analog_tensors(dataclasses.replace(graph, nodes=nodes), dtype=dtype)
        # What goes into a function at the output is as wide as what neurons before it may lose.
        ends = [nodes[name] for name in graph.output_names]
        is_function = [isinstance(n, kinds.Activation) and not isinstance(n, _Rounded) for n in ends]
        names = [n.inputs[0] if of else n.name for n, of in zip(ends, is_function, strict=True)]
        inputs = keras.tree.map_structure(values.__getitem__, graph.inputs)
        self.model = keras.Model(inputs, {str(i): values[name] for i, name in enumerate(names)})
        self.layers = {layer.node: layer for layer in self.model.layers if isinstance(layer, _Rounding)}
        self.parts, self.batch_size = parts, batch_size
        self.exact = [self.outputs(part, {}) for part in range(len(parts))]

    def outputs(self, part, roundings):
        """Return the outputs, by place.

        Args:
            part: Place of the part of the data.
            roundings: Tuples of the number of levels and the unit, a number or one for each channel, by name
                of the activation; others are not rounded.
        """
        for name, layer in self.layers.items():
            levels, unit = roundings.get(name, (0, 1.0))
            layer.levels.assign(levels)
            layer.unit.assign(np.broadcast_to(unit, layer.unit.shape))
        x, found = self.parts[part], []
        for start in range(0, len(keras.tree.flatten(x)[0]), self.batch_size):
            found.append(predict_batch(self.model, rows(x, start, start + self.batch_size)))
        return {key: np.concatenate([one[key] for one in found]).astype("float64") for key in found[0]}

    def error(self, part, roundings):
        """Return the mean square of what rounding changes of the outputs, relative to how these vary.

        Arguments as of `outputs`.
        """
        found = 0.0
        for key, rounded in self.outputs(part, roundings).items():
            exact = self.exact[part][key]
            varies = exact - exact.mean(axis=0 if exact[0].size == 1 else -1, keepdims=True)
            found += np.mean((rounded - exact) ** 2) / max(np.mean(varies**2), 1e-30)
        return found


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Rounded(kinds.Activation):
    """An activation that is rounded."""


class _Rounding(keras.layers.Layer):
    """A relu, or nothing, and then rounding to multiples of a unit, up to so many."""

    def __init__(self, node, **options):
        super().__init__(trainable=False, **options)
        self.node, self.is_signed, self.limit = node.name, node.is_relay, node.max_value

    def build(self, input_shape):
        self.levels = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.unit = self.add_weight(shape=tuple(input_shape[1:][-1:]), initializer="ones", trainable=False)
        self.built = True

    def call(self, inputs):
        values = inputs if self.is_signed else ops.clip(inputs, 0.0, self.limit)
        unit, levels = (ops.cast(v, values.dtype) for v in (self.unit, self.levels))
        lowest = -levels if self.is_signed else 0.0
        rounded = unit * ops.clip(round_half_up(values / unit), lowest, levels)
        return ops.where(levels > 0, rounded, values)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@analog_layer.register
def _layer_of_rounded(node: _Rounded, **options):
    # The weights that it begins with.
    return _Rounding(node, **options), [np.zeros(()), np.ones(node.shape[-1:])]
