"""How often the accumulators of a network of time codes are updated."""

import math

from keras_snn.analysis.contents import CURRENT, Contents
from keras_snn.graph import nodes as kinds
from keras_snn.graph.program import Program

__all__ = ["latency_of", "updates_of"]


def updates_of(program: Program, contents: Contents) -> tuple[dict[str, int], int]:
    """Return how often each neuron of a network of time codes adds to its potential, and what others do.

    An accumulator does so at every step of the windows in which spikes arrive, those of one base together. A
    neuron that receives numbers only, as those of the first layer, does so once.

    Args:
        program: A `Program` of time codes.
        contents: What its values are.

    Returns:
        `(updates, others)`: updates of each neuron by name of its call; and those of all other accumulators,
        which are read-outs and sums that are handed on as numbers.
    """
    arriving, found, others = {}, {}, 0
    for node in program.graph.nodes.values():
        taken = [arriving[name] for name in node.inputs]
        steps = {base: max(t.get(base, 0) for t in taken) for t in taken for base in t}
        needed = sum(steps.values())
        if isinstance(node, kinds.Spike):
            found[node.origins[0]] = max(needed, 1)
            code = node.neuron.code
            steps = {2: 1} if code is None else {code.base: code.window}
        elif isinstance(node, (kinds.Affine, kinds.ChannelAffine, kinds.Add, kinds.Readout)):
            if contents.codes[node.name] != CURRENT:
                others += needed * math.prod(node.shape)
                steps = {}
        elif not _hands_on_spikes(contents.codes[node.name]):
            steps = {}
        arriving[node.name] = steps
    return found, others


def _hands_on_spikes(code):
    return bool((code >= CURRENT).any())


def latency_of(program: Program) -> int:
    """Return after how many time steps the outputs of a program are there.

    Of time codes, that is the longest chain of windows, one after the other; else all steps count.
    """
    after = {}
    for node in program.graph.nodes.values():
        is_time_code = isinstance(node, kinds.Spike) and node.neuron.is_time_code
        before = max((after[name] for name in node.inputs), default=0)
        after[node.name] = before + (node.neuron.window if is_time_code else 0)
    return max(after.values()) or program.timesteps
