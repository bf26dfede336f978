"""Rounding a converted network to integers, and its inputs to a grid that calibration data shows."""

import dataclasses
import math

import keras
import numpy as np

from keras_snn._devices import predict_batch
from keras_snn.conversion.conversion_report import LayerReport, class_shown
from keras_snn.conversion.tuning import first_samples
from keras_snn.graph import nodes as kinds
from keras_snn.graph.integer_rounding import inputs_of_units
from keras_snn.graph.integers import InputGrid, to_integers
from keras_snn.graph.program import source_of
from keras_snn.graph.to_keras import analog_tensors
from keras_snn.simulation.building import rebuilt
from keras_snn.simulation.internals import internals
from keras_snn.simulation.source import program_of

__all__ = ["input_grid", "with_integers"]

# Levels of an input on either side of 0: those of pixels.
_LEVELS = 255
# Of how many units of a layer the inputs are looked at.
_UNITS = 2**14
# Spikes and counts of them.
_EVENTS = InputGrid(1.0, 15, signed=True)


def with_integers(model, weight_bits, data, *, batch_size):
    """Return the spiking model with integers in the place of its numbers.

    Args:
        model: A converted `SpikingModel`.
        weight_bits: Bits of a weight.
        data: Calibration data, whose first some hundred samples decide what inputs are rounded to.
        batch_size: Samples that are read together.

    Raises:
        ValueError: If something in it cannot compute with integers, or they become too large; names the
            layer.
    """
    samples, names = first_samples(model, data, batch_size), internals(model).inputs.names
    flat = keras.tree.flatten(samples)
    grids = {name: input_grid(x) for name, x in zip(names, flat, strict=True)}
    if internals(model).network.events:
        # Of which calibration data are averages.
        grids = dict.fromkeys(names, _EVENTS)
    program = program_of(model)
    inputs = _inputs_of_layers(program, samples, batch_size)
    new = rebuilt(model, to_integers(program, weight_bits, grids, inputs))
    new.conversion_report = dataclasses.replace(
        model.conversion_report, layers=_rows(model.conversion_report.layers, program, new)
    )
    return new


def _inputs_of_layers(program, samples, batch_size):
    """Return what units of the linear layers of a program get on the average, by name of the node."""
    graph, rng = source_of(program), np.random.default_rng(0)
    layers = {
        node.name: node
        for node in program.graph.nodes.values()
        if isinstance(node, kinds.Affine) and node.groups == 1 and not node.transposed
    }
    if not layers:
        return {}
    values = analog_tensors(graph, dtype=program.dtype)
    inputs = keras.tree.map_structure(values.__getitem__, graph.inputs)
    model = keras.Model(inputs, {name: values[node.inputs[0]] for name, node in layers.items()})
    number, found = len(keras.tree.flatten(samples)[0]), {name: [] for name in layers}
    for start in range(0, number, batch_size):
        of_batch = keras.tree.map_structure(lambda x, at=start: x[at : at + batch_size], samples)
        for name, x in predict_batch(model, of_batch).items():
            units = _UNITS * batch_size // number
            found[name].append(inputs_of_units(layers[name], np.asarray(x, "float32"), units, rng))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _rows(rows, before, model):
    """Return the rows of a report for the layers of integers that a program became."""
    known = {row.name: row for row in rows}
    # Neurons stay in their order, though some are in a layer of another name.
    neurons = [
        [node.origins[0] for node in program.graph.nodes.values() if isinstance(node, kinds.Spike)]
        for program in (before, program_of(model))
    ]
    old_names = dict(zip(*reversed(neurons), strict=True))
    layers, found = {layer.name: layer for layer in model.layers}, []
    for call in model.calls:
        name, became = call["name"], class_shown(layers[call["layer"]])
        row = known.get(old_names.get(name, name)) or LayerReport(name, became, origins=())
        found.append(dataclasses.replace(row, name=name, became=became))
    return tuple(found)


def input_grid(values):
    """Return what an input is rounded to, from values of it.

    Integers up to 255 stay what they are, and 255ths up to 1 become such. Others are rounded to multiples of
    a power of 2, the smallest of which the largest value is at most 255. Larger values are cut off: at the
    next 2ⁿ − 1 above the largest one that is known.

    >>> input_grid(np.array([0.0, 0.2, 1.0]))
    InputGrid(unit=0.00392156862745098, levels=255, signed=False)
    >>> input_grid(np.array([-1.7, 2.3]))
    InputGrid(unit=0.015625, levels=255, signed=True)
    """
    values = np.asarray(values, "float64")
    largest, signed = float(np.max(np.abs(values), initial=0.0)), bool(np.any(values < 0))
    for unit in (1.0, 1 / _LEVELS):
        found = values / unit
        if largest / unit < _LEVELS + 0.5 and np.all(np.abs(found - np.round(found)) < 1e-3):
            break
    else:
        unit = 2.0 ** math.ceil(math.log2(largest / _LEVELS))
    levels = 2 ** math.ceil(math.log2(max(round(largest / unit), 1) + 1)) - 1
    return InputGrid(unit, levels, signed)
