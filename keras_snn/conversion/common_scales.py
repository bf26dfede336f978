"""Which activations need a λ in common, so that scales can be folded into weights.

The scale of a channel goes into the weights that meet it. Where values are moved so that several channels
become one channel of what weights take, as by a pixel shuffle, or where values of several layers become one,
as features side by side in a row of tokens, the weights would have to differ from place to place. What they
got then would be spikes times a number, which is a multiplication at every weight.
"""

import math

import numpy as np

from keras_snn.graph import nodes as kinds

__all__ = ["common_scales", "touching"]


def common_scales(graph):
    """Return which activations need a λ in common.

    Args:
        graph: A folded `Graph`.

    Returns:
        `(groups, whole)`: lists of the names of activations that need the same λ, for each of their channels
        or for all; and the set of the names of those that need one for all channels.
    """
    relus = [node for node in graph.nodes.values() if isinstance(node, kinds.Activation) and node.has_scale]
    sizes = {node.name: (node.shape or (1,))[-1] for node in relus}
    ends = np.cumsum([1, *sizes.values()])
    # The numbers of the channels of all activations, from 1 on.
    numbers = {
        name: np.arange(end - size, end) for (name, size), end in zip(sizes.items(), ends[1:], strict=True)
    }
    joined = _Joined(ends[-1])
    _join_taken(graph, numbers, joined)
    roots = {name: joined.roots(own) for name, own in numbers.items()}
    whole = {name for name, own in roots.items() if len(np.unique(own)) < len(own)}
    by_root = {}
    for name, own in roots.items():
        for root in set(own.tolist()):
            by_root.setdefault(root, []).append(name)
    groups = [group for group in touching(by_root.values()) if len(group) > 1]
    for group in groups:
        if whole.intersection(group) or any(
            not np.array_equal(roots[name], roots[group[0]]) for name in group
        ):
            whole.update(group)
    return groups, whole


class _Joined:
    """Numbers from 0 on, some of which belong together."""

    def __init__(self, count):
        self.parents = list(range(count))

    def root(self, number):
        """Return the number that stands for all that belong together with one."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def roots(self, numbers):
        """Return the roots of an array of numbers."""
        return np.array([self.root(int(number)) for number in numbers])

    def join(self, numbers):
        """Let numbers belong together."""
        first, *others = (self.root(int(number)) for number in numbers)
        for other in others:
            self.parents[other] = first


def touching(sets):
    """Return the sets joined that have a name in common, as lists of names in order.

    >>> touching([["a"], ["b"], ["c", "a"]])
    [['a', 'c'], ['b']]
    """
    sets = [list(names) for names in sets]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(name for names in sets for name in names))}
    joined = _Joined(len(numbers))
    for names in sets:
        joined.join([numbers[name] for name in names])
    groups = {}
    for name, number in numbers.items():
        groups.setdefault(joined.root(number), []).append(name)
    return list(groups.values())


def _join_taken(graph, numbers, joined):
    """Join what weights and pools take in one channel.

    Args:
        graph: The graph.
        numbers: Numbers of the channels of every activation, by its name.
        joined: `_Joined` of all numbers.
    """
    # Of every value, which number each of its channels has, or each of its elements; 0 where it has no scale.
    of_value = {}
    for node in graph.nodes.values():
        given = [of_value[name] for name in node.inputs]
        if isinstance(node, (kinds.Affine, kinds.Pool)) and given[0] is not None and given[0].ndim > 1:
            for column in given[0].reshape(-1, given[0].shape[-1]).T:
                together = np.unique(column[column > 0])
                if together.size > 1:
                    joined.join(together)
            given = [given[0].reshape(-1, given[0].shape[-1]).max(axis=0)]
        shapes = [graph.nodes[name].shape for name in node.inputs]
        of_value[node.name] = numbers.get(node.name, _handed_on(node, given, shapes))


def _handed_on(node, given, shapes):
    """Return the numbers of a value's channels, or of its elements, by those of its inputs, or `None`."""
    if all(one is None for one in given):
        return None
    if isinstance(node, (kinds.ChannelAffine, kinds.Pool)):
        return given[0]
    if isinstance(node, kinds.Concatenate):
        pairs = list(zip(given, shapes, strict=True))
        given = [np.zeros(shape[-1], int) if one is None else one for one, shape in pairs]
        is_by_channel = node.axis == -1 and all(one.ndim == 1 for one in given)
        if not is_by_channel:
            given = [_everywhere(one, shape) for one, (_, shape) in zip(given, pairs, strict=True)]
        return _by_channel(np.concatenate(given, axis=node.axis))
    if isinstance(node, kinds.Rearrange):
        # What lies on padding multiplies zeros: any scale will do, and the edge has that of its channel.
        return _by_channel(node.move(_everywhere(given[0], shapes[0]), mode="edge"))
    return None


def _everywhere(numbers, shape):
    """Return the numbers of channels, or of all elements, as those of all elements."""
    # A value without axes has one channel.
    return np.broadcast_to(numbers, shape) if shape else numbers.reshape(())


def _by_channel(numbers):
    """Return the numbers of channels if they are the same at all places, else all of them."""
    if numbers.ndim < 2 or not math.prod(numbers.shape):
        return numbers.reshape(-1) if numbers.ndim < 2 else None
    first = numbers.reshape(-1, numbers.shape[-1])[0]
    return first if np.all(numbers == first) else numbers
