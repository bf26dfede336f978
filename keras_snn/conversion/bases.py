"""Choosing the base of the digits of every layer, so that a network needs few operations."""

import dataclasses
import math

import numpy as np
from keras import ops

from keras_snn.analysis.contents import ACCUMULATING, contents_of
from keras_snn.analysis.fan_out import fan_out
from keras_snn.analysis.observers import Observer, Reduction
from keras_snn.analysis.updates import updates_of
from keras_snn.conversion.tuning import watch
from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import value_of
from keras_snn.simulation.source import program_of, source_graph

__all__ = ["choose_bases"]


def choose_bases(model, data, *, batch_size, verbose):
    """Return the program in which every neuron with alternatives is the one that needs fewest operations.

    Operations are additions at synapses and updates of accumulators. Both depend on the layers before and
    after: a potential to which spikes of two bases come is updated in the windows of both. So layers are
    chosen in turns, each given the others, from the best of one number of digits for all on, until nothing
    changes.

    Args:
        model: A converted `SpikingModel` of time codes.
        data: Calibration data, of which the first some hundred samples are used.
        batch_size: Samples that run together.
        verbose: 1 shows a progress bar.
    """
    program = program_of(model)
    additions = _Additions(model, program)
    watch(model, data, additions, batch_size=batch_size, verbose=verbose)
    choices = {
        name: node.neuron.alternatives
        for name, node in program.graph.nodes.items()
        if isinstance(node, kinds.Spike) and len(node.neuron.alternatives) > 1
    }

    contents, nodes = contents_of(program), program.graph.nodes.values()
    sizes = {node.origins[0]: math.prod(node.shape) for node in nodes if isinstance(node, kinds.Spike)}

    def cost(chosen):
        updates, others = updates_of(_with_neurons(program, chosen), contents)
        of_neurons = sum(sizes[call] * count for call, count in updates.items())
        return additions.of(chosen) + of_neurons + others

    longest = max(map(len, choices.values()))
    uniform = [{name: of[min(i, len(of) - 1)] for name, of in choices.items()} for i in range(longest)]
    best = min(uniform, key=cost)
    before = None
    while before != best:
        before = best
        for name, candidates in choices.items():
            best = min(({**best, name: neuron} for neuron in candidates), key=cost)
    return _with_neurons(program, best)


def _with_neurons(program, chosen):
    """Return the program with other neurons, by name of the node."""
    nodes = {
        name: dataclasses.replace(node, neuron=chosen[name]) if name in chosen else node
        for name, node in program.graph.nodes.items()
    }
    return program.with_nodes(nodes)


class _Additions(Observer):
    """Adds up the additions at synapses that the spikes of each layer would cause, for each of its codes."""

    def __init__(self, model, program):
        self.graph, _ = source_graph(model)
        nodes = program.graph.nodes
        self.neurons = {name: node.neuron for name, node in nodes.items() if isinstance(node, kinds.Spike)}
        senders = _senders(nodes, list(self.neurons))
        # The call whose value is taken, how far each place of it reaches, and who sends it.
        self.taken = [
            (nodes[name].origins[0], _reach(node, nodes[name].shape), senders[name])
            for node in nodes.values()
            if isinstance(node, (kinds.Affine, kinds.ChannelAffine, *ACCUMULATING))
            for name in node.inputs
            if senders[name].any()
        ]
        self.sums, self.samples = {}, 0

    @property
    def of_steps(self):
        found = {name: [] for name in self.neurons}
        for call, fan, senders in self.taken:
            for i, (name, neuron) in enumerate(self.neurons.items(), 1):
                reach = (fan * (senders == i)).astype("float32")
                if reach.any():
                    found[name].append(_AdditionsOfCodes(call, reach, neuron.alternatives))
        return found

    def take(self, observation):
        self.samples += observation.samples
        for name, of_calls in observation.steps.items():
            for added in of_calls:
                self.sums[name] = self.sums.get(name, 0.0) + added.sum(axis=(0, 1), dtype="float64")

    def of(self, chosen):
        """Return the additions for one sample, of neurons by name of the node."""
        found = 0.0
        for name, neuron in chosen.items():
            if name in self.sums:
                found += self.sums[name][self.neurons[name].alternatives.index(neuron)]
        return found / self.samples


@dataclasses.dataclass(frozen=True, eq=False)
class _AdditionsOfCodes(Reduction):
    """Counts the additions that values of a time code would cause in each of several codes.

    Attributes:
        reach: How many accumulators each value reaches, an array.
        codes: The codes.
    """

    reach: np.ndarray
    codes: tuple

    def of(self, values):
        """Return the additions, `(batch, time, codes)`."""
        numbers = ops.abs(ops.cast(values, "float32"))
        axes = tuple(range(2, 2 + self.reach.ndim))
        of_codes = [ops.sum(code.events_of(numbers) * self.reach, axis=axes) for code in self.codes]
        return ops.stack(of_codes, axis=-1)


def _reach(node, shape):
    """Return how many accumulators each place of an input reaches: without weights its own."""
    return np.ones(shape, int) if isinstance(node, ACCUMULATING) else fan_out(node, shape)


def _senders(nodes, names):
    """Return, by name of the node, which layer of neurons sends each of its values.

    Numbers from 1, in the order of `names`; 0 for what is no spike.
    """
    senders = {}
    for node in nodes.values():
        moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate))
        if isinstance(node, kinds.Spike):
            senders[node.name] = np.full(node.shape, names.index(node.name) + 1)
        elif moves or (isinstance(node, kinds.Pool) and node.method):
            given = (senders[name][None].astype("float64") for name in node.inputs)
            senders[node.name] = value_of(node, *given)[0].astype("int64")
        else:
            senders[node.name] = np.zeros(node.shape, "int64")
    return senders
