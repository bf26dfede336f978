"""The analog network that a network of signed neurons computes, exactly."""

import dataclasses

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name
from keras_snn.graph.program import without_readouts
from keras_snn.graph.to_keras import build_model
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import program_of

__all__ = ["quantized_reference"]


def quantized_reference(model: SpikingModel) -> keras.Model:
    """Return the analog network whose outputs a spiking one with signed neurons reaches, exactly.

    It is the source network with its activations rounded to levels, in the units of the spiking one:
    with x the mean current of a neuron over `model.timesteps` T steps and L its levels,

        firing rate = clip(floor(V(0)/θ + x·T/θ), 0, L)/T

    In exact arithmetic `model.simulate(x, settle=True)` has its outputs, and the spikes of every neuron
    add up to its activations times T; in floats too, but where a current is within rounding of a threshold.

    Args:
        model: A `SpikingModel` with signed neurons only.

    Returns:
        A Functional model with the inputs and outputs of `model`; of events it takes the average over
        time. The activations behind layer `conv` are those of its layer `conv_spike`.

    Raises:
        TypeError: If `model` is not a `SpikingModel`.
        ValueError: If something in it depends on when spikes come, or on chance.

    Source:
        Hu et al. (2023), "Fast-SNN", IEEE TPAMI; You et al. (2024), "SpikeZIP-TF", ICML.
    """
    program = program_of(model)
    for node in program.graph.nodes.values():
        in_the_way = _in_the_way(node, program.timesteps)
        if in_the_way:
            raise ValueError(
                f"`model` must compute the same in whatever order its spikes come. Received: layer "
                f"'{node.origins[0]}' with {in_the_way}. Convert with neuron='signed' or a time code, "
                "without delays."
            )
    graph = without_readouts(program.graph)
    for node in graph.nodes.values():
        if isinstance(node, kinds.Spike):
            graph = _with_levels(graph, node, program.timesteps)
    reference = build_model(graph, dtype=model.dtype_policy, name=model.name)
    if hasattr(model, "output_names"):
        reference.output_names = list(model.output_names)
    return reference


def _in_the_way(node, timesteps):
    """Return what of a node depends on the order of spikes, or on chance; or `None`."""
    if isinstance(node, kinds.Spike) and node.neuron.exact_levels(1) is None:
        # A binary neuron computes its activation exactly in a single step.
        return None if timesteps == 1 and not node.neuron.is_rate_coding else f"neuron={node.neuron!r}"
    if isinstance(node, kinds.Pool) and node.method not in (None, "exact"):
        return f"method={node.method!r}"
    if isinstance(node, kinds.Readout) and node.delay:
        return f"delay={node.delay}"
    is_random = isinstance(node, kinds.Encode) or (isinstance(node, kinds.Readout) and node.draws)
    return "random spikes" if is_random else None


def _shift(neuron, steps):
    """Return what is added to the mean current, so that the neuron rounds from a half on."""
    added = {what: np.asarray(neuron.correction(what) or 0.0) for what in ("current", "potential")}
    return added["current"] + (neuron.initial_potential - 0.5 + added["potential"]) / steps


def _with_levels(graph, spike, timesteps):
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
        scale=np.asarray(1 / neuron.v_threshold),
        shift=_shift(neuron, steps),
    )
    rounded = kinds.Activation(
        name=spike.name,
        inputs=(in_rates.name,),
        shape=spike.shape,
        origins=spike.origins,
        function="relu",
        max_value=levels / steps,
        levels=levels,
    )
    if in_rates.scale == 1 and not in_rates.shift.any():
        rounded = dataclasses.replace(rounded, inputs=spike.inputs)
    return graph.with_nodes({**graph.nodes, in_rates.name: in_rates, spike.name: rounded})
