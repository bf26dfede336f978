"""The source network with its activations rounded to the levels that neurons add up to."""

import dataclasses

import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name
from keras_snn.graph.program import without_readouts

__all__ = ["in_the_way", "with_levels"]


def in_the_way(node, timesteps):
    """Return what of a node of a program depends on the order of spikes, or on chance; or `None`."""
    if isinstance(node, kinds.Spike) and node.neuron.exact_levels(1) is None:
        # A binary neuron computes its activation exactly in a single step.
        return None if timesteps == 1 and not node.neuron.is_rate_coding else f"neuron={node.neuron!r}"
    if isinstance(node, kinds.Pool) and node.method not in (None, "exact"):
        return f"method={node.method!r}"
    if isinstance(node, kinds.Readout) and node.delay:
        return f"delay={node.delay}"
    is_random = isinstance(node, kinds.Encode) or (isinstance(node, kinds.Readout) and node.draws)
    return "random spikes" if is_random else None


def with_levels(program):
    """Return the graph of what a program computes exactly: activations with levels instead of neurons.

    Args:
        program: A `Program` with nothing `in_the_way`.
    """
    graph = without_readouts(program.graph)
    for node in graph.nodes.values():
        if isinstance(node, kinds.Spike):
            # Half an integer keeps sums of integers away from multiples of the threshold, where floats err.
            charge = 0.0 if program.weight_bits is None else 0.5
            graph = _with_levels(graph, node, program.timesteps, charge)
    return graph


def _shift(neuron, steps, charge):
    """Return what is added to the mean current, so that the neuron rounds from a half on.

    Args:
        neuron: The neuron.
        steps: Of how many steps of time the current is the mean, in units of the smallest spike.
        charge: What is added to the sum of the current.
    """
    theta = np.asarray(neuron.v_threshold)
    added = {what: np.asarray(neuron.correction(what) or 0.0) / theta for what in ("current", "potential")}
    return added["current"] + (neuron.initial_potential - 0.5 + added["potential"] + charge / theta) / steps


def _with_levels(graph, spike, timesteps, charge):
    """Return the graph with what a layer of neurons adds up to in the place of the neurons."""
    neuron, levels = spike.neuron, spike.neuron.exact_levels(timesteps)
    if levels is None:
        shared = {field.name: getattr(spike, field.name) for field in dataclasses.fields(kinds.Node)}
        binary = kinds.Activation(**shared, **neuron.analog_activation())
        return graph.with_nodes({**graph.nodes, spike.name: binary})
    # The activation rounds to multiples of 1/T, from a half on.
    steps = neuron.grid(timesteps)
    in_rates = kinds.ChannelAffine(
        name=free_name(f"{spike.name}/current", graph.nodes),
        inputs=spike.inputs,
        shape=spike.shape,
        origins=spike.origins,
        scale=1 / np.asarray(neuron.v_threshold),
        shift=_shift(neuron, steps, charge),
    )
    rounded = kinds.Activation(
        name=spike.name,
        inputs=(in_rates.name,),
        shape=spike.shape,
        origins=spike.origins,
        **neuron.analog_activation(),
        max_value=levels / steps,
        levels=levels,
    )
    if np.all(in_rates.scale == 1) and not in_rates.shift.any():
        rounded = dataclasses.replace(rounded, inputs=spike.inputs)
    return graph.with_nodes({**graph.nodes, in_rates.name: in_rates, spike.name: rounded})
