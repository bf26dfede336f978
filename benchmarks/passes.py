"""How the time to fold and to normalize a graph grows with its nodes.

    python benchmarks/passes.py [--repeats 3]

Least CPU seconds, without making a Keras model: graphs of residual blocks with batch norms, of 8 channels.
"""

import argparse
import time

import numpy as np
from machine import describe

from keras_snn.conversion.normalization import normalize, relus
from keras_snn.conversion.place_neurons import to_spiking
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import Graph
from keras_snn.graph.passes import fold
from keras_snn.neurons import SignedIntegrateAndFire

NODES = (283, 563, 1123, 5000)
CHANNELS, SHAPE = 8, (4, 4, 8)


class _Blocks:
    """Nodes that were made so far."""

    def __init__(self):
        self.rng, self.nodes = np.random.default_rng(0), {}

    def add(self, kind, *inputs, **fields):
        name = f"{kind.__name__.lower()}_{len(self.nodes)}"
        node = kind(name=name, inputs=inputs, shape=SHAPE, origins=(name,), **fields)
        self.nodes[name] = node
        return name

    def convolution(self, x):
        kernel = self.rng.normal(0, 0.1, (3, 3, CHANNELS, CHANNELS)).astype("float32")
        bias = np.zeros(CHANNELS, "float32")
        where = {"strides": (1, 1), "dilation": (1, 1), "padding": "same"}
        x = self.add(kinds.Affine, x, kernel=kernel, bias=bias, **where)
        scale, shift = self.rng.uniform(0.5, 2, CHANNELS), self.rng.normal(0, 1, CHANNELS)
        return self.add(kinds.ChannelAffine, x, scale=scale, shift=shift)

    def relu(self, x):
        return self.add(kinds.Activation, x, function="relu")


def residual_blocks(size):
    """Return a graph of about so many nodes: seven for each block."""
    blocks = _Blocks()
    given = x = blocks.add(kinds.Input)
    while len(blocks.nodes) < size:
        y = blocks.convolution(blocks.relu(blocks.convolution(x)))
        x = blocks.relu(blocks.add(kinds.Add, x, y))
    return Graph(blocks.nodes, given, x)


def least(function, repeats):
    """Return the least CPU seconds of a function, and what it returned."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(f"{describe()}; least of {repeats}, CPU seconds\n")
    print("| nodes | fold | normalize | neurons in their places |")
    print("| --- | --- | --- | --- |", flush=True)
    for size in NODES:
        graph = residual_blocks(size)
        of_fold, folded = least(lambda graph=graph: fold(graph), repeats)
        scales = {node.name: 1.5 + i % 7 / 8 for i, node in enumerate(relus(folded))}
        of_normalize, normal = least(lambda: normalize(folded, scales), repeats)  # noqa: B023 - runs at once
        neuron = SignedIntegrateAndFire(levels=4)
        of_neurons, _ = least(lambda: to_spiking(normal, lambda _: neuron, scales, timesteps=8), repeats)  # noqa: B023
        print(f"| {len(graph.nodes)} | {of_fold:.2f} | {of_normalize:.2f} | {of_neurons:.2f} |", flush=True)


if __name__ == "__main__":
    main()
