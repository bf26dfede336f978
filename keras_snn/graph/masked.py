"""Masks, which Keras hands on beside values, as values of the graph.

Keras hangs on a tensor which of its time steps count, and layers read that without an argument. Here a mask
is a node like any other, so that what reads it has one more input.
"""

import contextlib
import dataclasses

import keras

from keras_snn.graph import nodes as kinds
from keras_snn.graph.rules.registry import Refusal
from keras_snn.layers.held import WithMask

__all__ = [
    "Masked",
    "hands_on_masks",
    "inputs_of_model",
    "masks_of_outputs",
    "nodes_in",
    "placed",
    "without_masks",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """A node in the arguments of a call, with a mask.

    Attributes:
        node: The node.
        mask: Function without arguments that returns the node of the mask.
    """

    node: kinds.Node
    mask: object


def nodes_in(arguments):
    """Return the nodes in nested arguments, masks among them, each once."""
    found = []
    for x in keras.tree.flatten(arguments):
        found += [x.node, x.mask()] if isinstance(x, Masked) else [x] if isinstance(x, kinds.Node) else []
    return list({node.name: node for node in found}.values())


def without_masks(arguments):
    """Return nested arguments with nodes alone in the place of those with masks."""
    return keras.tree.map_structure(lambda x: x.node if isinstance(x, Masked) else x, arguments)


def placed(arguments, values):
    """Return nested arguments with values in the place of nodes.

    Args:
        arguments: They, with nodes, or those with masks.
        values: Dict of a tensor for each node, by its name.
    """

    def value(x):
        if isinstance(x, Masked):
            return WithMask()([values[x.node.name], values[x.mask().name]])
        return values[x.name] if isinstance(x, kinds.Node) else x

    return keras.tree.map_structure(value, arguments)


def inputs_of_model(args, kwargs):
    """Return the nodes that a model is called on, in order, those with masks as `Masked`."""
    given = [x for x in keras.tree.flatten(args) if isinstance(x, (kinds.Node, Masked))]
    given += [
        x
        for name, value in kwargs.items()
        if name != "mask"
        for x in keras.tree.flatten(value)
        if isinstance(x, (kinds.Node, Masked))
    ]
    masks = keras.tree.flatten(kwargs.get("mask"))
    if len(masks) != len(given):
        return given
    return [
        Masked(without_masks(x), lambda mask=mask: mask) if isinstance(mask, kinds.Node) else x
        for x, mask in zip(given, masks, strict=True)
    ]


def hands_on_masks(layer, args, kwargs):
    """Whether Keras may hang masks on the outputs of a call; arguments as of `masks_of_outputs`."""
    return _starts_masks(layer) or any(isinstance(x, Masked) for x in keras.tree.flatten((args, kwargs)))


def masks_of_outputs(layer, args, kwargs, count, emit):
    """Return the masks that Keras hangs on the outputs of a call.

    Args:
        layer: The layer, or operation. Not changed.
        args: Arguments of the call, with nodes, or those with masks, in the place of tensors.
        kwargs: Those by name.
        count: Number of outputs.
        emit: Adds a node of the call.

    Returns:
        A list of `count` functions without arguments that return the node of the mask; `None` for none.
    """
    if not isinstance(layer, keras.layers.Layer) or not layer.supports_masking:
        return [None] * count
    first = args[0] if args else next(iter(kwargs.values()), None)
    before = kwargs.get("mask")
    if before is None:
        before = keras.tree.map_structure(lambda x: x.mask if isinstance(x, Masked) else None, first)
    else:
        before = keras.tree.map_structure(lambda x: None if x is None else lambda: x, before)
    known = [mask for mask in keras.tree.flatten(before) if mask is not None]
    if type(layer).compute_mask is keras.layers.Layer.compute_mask:
        found = keras.tree.flatten(before)
    elif known or _starts_masks(layer):
        found = _computed(layer, without_masks(first), before, emit)
    else:
        found = []
    return [*found, *[None] * count][:count]


def _starts_masks(layer):
    """Whether a layer may hang masks on its outputs although its inputs have none."""
    if isinstance(layer, keras.layers.Embedding):
        return layer.mask_zero
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, keras.layers.Masking):
        return isinstance(layer, keras.layers.Masking)
    is_of_keras = type(layer).__module__.startswith("keras.")
    return not is_of_keras and type(layer).compute_mask is not keras.layers.Layer.compute_mask


def _computed(layer, first, before, emit):
    """Return the masks that `compute_mask` of a layer gives, as functions that return nodes."""
    tensors = {node.name: keras.Input(node.shape, dtype=node.dtype) for node in nodes_in(first)}
    masks = {id(mask): mask() for mask in keras.tree.flatten(before) if mask is not None}
    given = {node.name: keras.Input(node.shape, dtype="bool") for node in masks.values()}
    try:
        with keras.StatelessScope():
            outputs = layer.compute_mask(
                placed(first, tensors),
                keras.tree.map_structure(lambda m: None if m is None else given[masks[id(m)].name], before),
            )
    except Exception as error:
        return [_refused(error)]
    inputs = {**tensors, **given}
    by_tensor = {id(given[node.name]): node for node in masks.values()}
    return [
        None if y is None else _known(by_tensor[id(y)]) if id(y) in by_tensor else _Lazy(y, inputs, emit)
        for y in keras.tree.flatten(outputs)
    ]


def _needed(inputs, tensor):
    """Return those of a dict of inputs, by name, that a tensor without values is computed of."""
    needed = dict(inputs)
    for x in inputs.values():
        # Older versions of Keras raise for an input that nothing uses, too.
        keras.ops.copy(x)
    for name in inputs:
        rest = {other: x for other, x in needed.items() if other != name}
        # Keras raises where a part of the computation has no input.
        with contextlib.suppress(ValueError):
            keras.Model(list(rest.values()), tensor, name="mask")
            needed = rest
    return needed


def _known(node):
    return lambda: node


def _refused(error):
    def mask():
        reason = f"its mask cannot be traced ({type(error).__name__})"
        raise Refusal(reason, "compute masks with keras.ops", may_stay=False) from error

    return mask


class _Lazy:
    """The mask of a call, which adds its node when something reads it first.

    Args:
        tensor: The mask, as a tensor without values.
        inputs: Dict of the tensors that it is computed of, by the names of their nodes.
        emit: Adds a node of the call.
    """

    def __init__(self, tensor, inputs, emit):
        self.tensor, self.inputs, self.emit = tensor, _needed(inputs, tensor), emit
        self.node = None

    def __call__(self):
        nodes = self.emit.lowering.nodes
        # What is translated on trial is taken back.
        if self.node is None or self.node.name not in nodes:
            model = keras.Model(list(self.inputs.values()), self.tensor, name="mask")
            self.node = self.emit(
                kinds.Opaque,
                *(nodes[name] for name in self.inputs),
                part="mask",
                model=model,
                layer_class="mask",
                reason="computes a mask",
                way_out="give it samples without a mask",
                source=None,
            )
        return self.node
