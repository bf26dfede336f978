"""What a NIR graph computes, in NumPy and one step after the other: the reference for what is exported."""

import graphlib

import numpy as np


def windows(x, size, stride, dilation=(1, 1)):
    """Return all windows `(batch, channels, *positions, *size)` of `(batch, channels, *space)`."""
    reach = [d * (n - 1) + 1 for n, d in zip(size, dilation, strict=False)]
    axes = tuple(range(2, x.ndim))
    found = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
    rank = len(reach)
    positions = tuple(slice(None, None, int(s)) for s in stride[:rank])
    taps = tuple(slice(None, None, int(d)) for d in dilation[:rank])
    return found[(slice(None), slice(None), *positions, *taps)]


def padded(x, padding):
    return np.pad(x, ((0, 0), (0, 0), *((int(p), int(p)) for p in padding)))


def linear(node, x):
    kind = type(node).__name__
    if kind in ("Affine", "Linear"):
        return x @ node.weight.T + getattr(node, "bias", 0)
    if kind in ("Conv1d", "Conv2d"):
        rank = node.weight.ndim - 2
        stride, padding, dilation = (
            np.broadcast_to(v, rank) for v in (node.stride, node.padding, node.dilation)
        )
        seen = windows(padded(x, padding), node.weight.shape[2:], stride, dilation)
        groups = int(node.groups)
        parts = np.split(seen, groups, axis=1), np.split(node.weight, groups, axis=0)
        letters = "yz"[:rank]
        where = "ab"[:rank]
        y = np.concatenate(
            [
                np.einsum(f"nc{where}{letters},uc{letters}->nu{where}", s, w)
                for s, w in zip(*parts, strict=True)
            ],
            axis=1,
        )
        return y + node.bias.reshape(-1, *(1,) * rank)
    if kind in ("SumPool2d", "AvgPool2d"):
        seen = windows(padded(x, np.broadcast_to(node.padding, 2)), node.kernel_size, node.stride)
        return seen.sum((-1, -2)) if kind == "SumPool2d" else seen.mean((-1, -2))
    if kind == "Flatten":
        start, end = int(node.start_dim) + 1, int(node.end_dim) % (x.ndim - 1) + 1
        return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])
    if kind == "Scale":
        return x * node.scale
    assert kind in ("Input", "Output"), kind
    return x


def run(graph, x, timesteps, *, reset, start=0.0, at_threshold, dt=1.0):
    """Return `(counts, sums)`: what each layer of neurons fired, and what each output gave, over all steps.

    Args:
        x: Constant input `(batch, channels, …)`, or a dict by name of the input.
        reset: "zero", to v_reset; or "subtract".
        start: Potential before the first step.
        at_threshold: Whether a neuron fires at its threshold, or only above.
    """
    sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    order = list(graphlib.TopologicalSorter(sources).static_order())
    potentials, counts, sums = {}, {}, {}
    for _ in range(timesteps):
        values = {}
        for name in order:
            node = graph.nodes[name]
            given = [values[source] for source in sources[name]] or [x[name] if isinstance(x, dict) else x]
            value = sum(given[1:], given[0])
            if type(node).__name__ in ("IF", "LIF"):
                v = potentials.get(name, np.full(value.shape, start))
                if type(node).__name__ == "IF":
                    v = v + dt * node.r * value
                else:
                    v = v + dt / node.tau * (node.v_leak - v + node.r * value)
                fires = v >= node.v_threshold if at_threshold else v > node.v_threshold
                after = (
                    v - node.v_threshold if reset == "subtract" else np.broadcast_to(node.v_reset, v.shape)
                )
                potentials[name] = np.where(fires, after, v)
                values[name] = fires.astype(float)
                counts[name] = counts.get(name, 0) + values[name]
            else:
                values[name] = linear(node, value)
            if type(node).__name__ == "Output":
                sums[name] = sums.get(name, 0) + value
    return counts, sums
