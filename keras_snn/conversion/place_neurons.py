"""Putting neurons where the activations were, encoders where the inputs are, and read-outs at the end."""

import dataclasses

import keras
import numpy as np

from keras_snn import neurons
from keras_snn._devices import predict_batch
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import free_name
from keras_snn.graph.passes import fold, insert_scale, insert_scales

__all__ = ["depth_of", "encode", "place_readouts", "seed_for", "to_spiking"]


def to_spiking(graph, neuron_of, scales, *, timesteps, delay=0):
    """Return the graph with a `Spike` in the place of every relu and binary activation.

    Args:
        graph: A normalized `Graph`: the value of every relu is a rate.
        neuron_of: Function that returns the object of `keras_snn.neurons` for an activation by name; a binary
            one gets neurons that are reset to zero if it is. A threshold other than 1 scales the current.
        timesteps: Number of steps, in which signed neurons reach their levels.
        scales: λ by name of the relu, to keep with the neurons.
        delay: Steps that a layer waits for each layer of neurons before it.
    """
    depths = _depths(graph)
    spikes, before, after = [], {}, {}
    for node in graph.nodes.values():
        if not isinstance(node, kinds.Activation) or not node.becomes_spiking:
            continue
        neuron = neuron_of(node.name).relay() if node.is_relay else neuron_of(node.name)
        of_node = _binary(node, neuron) if node.is_binary else _limited(node, neuron)
        scale = scales.get(node.name, 1.0)
        wait = delay * (depths[node.name] - 1)
        rate = of_node.rate_of_scale(timesteps)
        spike = kinds.Spike(
            name=node.name,
            inputs=node.inputs,
            shape=node.shape,
            origins=node.origins,
            source=node.source,
            neuron=neurons.Delayed(of_node, wait) if wait else of_node,
            scale=scale / rate,
            max_value=float(np.max(node.max_value * scale)),
        )
        spikes.append(spike)
        before[node.name] = of_node.v_threshold * rate
        if rate != 1:
            after[node.name] = 1 / rate
    return fold(insert_scales(graph, before=before, after=after, replaced=spikes))


def _binary(node, neuron):
    return neurons.Binary(node.function, node.at_zero, "zero" if neuron.reset == "zero" else "none")


def _limited(node, neuron):
    """Return the neuron for a relu: if it can give more than λ, it must saturate as the relu does."""
    return neuron.limited(node.max_value) if np.all(np.isfinite(node.max_value)) else neuron


def _depths(graph):
    """Return the largest number of layers of neurons up to each node, with it, by name."""
    depths = {}
    for node in graph.nodes.values():
        fires = isinstance(node, kinds.Activation) and node.becomes_spiking
        depths[node.name] = fires + max((depths[name] for name in node.inputs), default=0)
    return depths


def depth_of(graph):
    """Return the largest number of layers of neurons from an input to an output of a graph without them."""
    return max(_depths(graph).values())


def place_readouts(graph, *, softmax="potential", delay=0, weighting="uniform", seed=0):
    """Return the graph with a `Readout` for every output.

    An activation whose value only the output takes acts on the average; it is the function of the read-out.
    Spikes of a softmax are averaged by a read-out of their own.

    Args:
        graph: A `Graph` with neurons.
        softmax: How a softmax at the output is computed, as of `keras_snn.layers.SpikingSoftmax`.
        delay: Number of first steps that do not count.
        weighting: How much each step counts, as of `keras_snn.layers.Readout`.
        seed: Integer, for a softmax that spikes.
    """
    users, nodes, renamed = graph.users(), dict(graph.nodes), {}
    for i, output in enumerate(dict.fromkeys(graph.output_names)):
        last = graph.nodes[output]
        function = _readout_function(last) if not users[output] else None
        if function is not None:
            spikes = last.function == "softmax" and softmax != "potential"
            last = nodes[output] = kinds.Readout(
                **_shared_fields(last),
                function=function,
                axis=last.axis,
                delay=delay,
                # What draws spikes has no average, but the read-out after it.
                **(
                    {"method": softmax, "seed": seed_for(seed, "softmax", i)}
                    if spikes
                    else {"weighting": weighting}
                ),
            )
        if not (isinstance(last, kinds.Readout) and not last.draws):
            average = kinds.Readout(
                name=free_name(f"{_layer_of(graph, last, users)}/readout", nodes),
                inputs=(output,),
                shape=last.shape,
                delay=delay,
                weighting=weighting,
            )
            nodes[average.name], renamed[output] = average, average.name
    outputs = keras.tree.map_structure(lambda name: renamed.get(name, name), graph.outputs)
    return dataclasses.replace(graph, nodes=nodes, outputs=outputs)


def _readout_function(node):
    """Return the name of the activation of Keras that a node is, or `None`."""
    if not isinstance(node, kinds.Activation) or node.is_binary or node.levels:
        return None
    if node.function != "relu" or np.isinf(node.max_value):
        return node.function
    return "relu6" if node.max_value == 6 else None


def _shared_fields(node):
    return {field.name: getattr(node, field.name) for field in dataclasses.fields(kinds.Node)}


def _layer_of(graph, node, users):
    """Return the name of the first node of the layer that a node becomes part of."""
    if isinstance(node, kinds.Spike):
        source = graph.weighted_before(node)
        between = {source.name, *node.inputs}
        alone = all(len(users[name]) == 1 and name not in graph.output_names for name in between)
        if isinstance(source, kinds.Affine) and alone:
            return source.name
    return node.name


def seed_for(seed, *what):
    """Return the seed of a part of a model: an integer of 32 bits, another one for every part.

    >>> seed_for(0, "input", 0) != seed_for(0, "input", 1)
    True
    """
    entropy = [seed, *(int.from_bytes(str(part).encode(), "little") for part in what)]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def encode(graph, maxima, rate, seed):
    """Return the graph with an `Encode` after every input that holds values, and not numbers of things.

    Args:
        graph: A `Graph`.
        maxima: The largest absolute value of each input by name.
        rate: Spikes per step of it.
        seed: Integer.
    """
    inputs = [node for node in graph.nodes.values() if isinstance(node, kinds.Input)]
    for i, node in enumerate(inputs):
        if _numbers_things(graph, node.name, node.dtype):
            continue
        spikes = kinds.Encode(
            name=free_name(f"{node.name}/spikes", graph.nodes),
            inputs=(node.name,),
            shape=node.shape,
            scale=maxima[node.name],
            rate=rate,
            seed=seed_for(seed, "input", i),
        )
        graph = graph.with_nodes({**graph.nodes, spikes.name: spikes}, {node.name: spikes.name})
        # An input that nothing takes has no spikes either.
        if spikes.name in graph.nodes:
            graph = insert_scale(graph, maxima[node.name] / rate, after=spikes.name)
    return fold(graph)


def _numbers_things(graph, name, dtype):
    """Return whether the values of a node, or parts of them, are the numbers of things, as of an Embedding.

    They are integers that a layer without a rule takes, or floats that it reads as whole numbers.

    Args:
        graph: A `Graph`.
        name: Name of an input, or of what moves its values.
        dtype: Dtype of the input.
    """
    for node in graph.nodes.values():
        if name not in node.inputs:
            continue
        if isinstance(node, kinds.Opaque):
            if "float" not in dtype or _rounds(node, node.inputs.index(name)):
                return True
        elif node.keeps_dtypes and _numbers_things(graph, node.name, dtype):
            return True
    return False


def _rounds(node, place):
    """Return whether an `Opaque` gives the same for numbers below 1 as for 0 at one of its inputs."""
    rng = np.random.default_rng(0)
    zeros = [np.zeros((2, *x.shape[1:]), x.dtype) for x in node.model.inputs]
    below = [rng.uniform(0.1, 0.9, x.shape) if i == place else x for i, x in enumerate(zeros)]
    one, other = (
        keras.tree.flatten(predict_batch(node.model, x if len(x) > 1 else x[0])) for x in (zeros, below)
    )
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
