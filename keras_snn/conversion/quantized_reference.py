"""The analog network that a network of signed neurons computes, exactly."""

import keras

from keras_snn.graph.levels import in_the_way, with_levels
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
        time. The activations after layer `conv` are those of its layer `conv_spike`.

    Raises:
        TypeError: If `model` is not a `SpikingModel`.
        ValueError: If something in it depends on when spikes come, or on chance.

    Source:
        Hu et al. (2023), "Fast-SNN", IEEE TPAMI; You et al. (2024), "SpikeZIP-TF", ICML.
    """
    program = program_of(model)
    for node in program.graph.nodes.values():
        obstacle = in_the_way(node, program.timesteps)
        if obstacle:
            raise ValueError(
                f"`model` must compute the same in whatever order its spikes come. Received: layer "
                f"'{node.origins[0]}' with {obstacle}. Convert with neuron='signed' or a time code, "
                "without delays."
            )
    reference = build_model(with_levels(program), dtype=model.dtype_policy, name=model.name)
    if hasattr(model, "output_names"):
        reference.output_names = list(model.output_names)
    return reference
