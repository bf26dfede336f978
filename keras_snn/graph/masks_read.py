"""Which calls read a mask: found out by what they make of random numbers with one and without."""

import inspect

import keras

from keras_snn.graph.fallback import differ, tried, values_of
from keras_snn.graph.masked import Masked, without_masks
from keras_snn.graph.own_code import is_own_code
from keras_snn.graph.rules.registry import Refusal, rule_for

__all__ = ["have_masks", "with_read_masks"]

# Layers that read the masks of their inputs without an argument for them.
_READS_ITSELF = (keras.layers.Maximum, keras.layers.Minimum, keras.layers.Multiply)


def with_read_masks(layer, args, kwargs):
    """Return the arguments of a call without the masks that change nothing in it.

    Args:
        layer: The layer, or operation.
        args: Arguments of the call, with nodes, or those with masks, in the place of tensors.
        kwargs: Those by name.

    Returns:
        `(args, kwargs)`. Own code gets masks by name, as Keras gives them.
    """
    if not have_masks(args, kwargs):
        return args, kwargs
    if not _reads_masks(layer, args, kwargs):
        return without_masks(args), {
            name: without_masks(value) for name, value in kwargs.items() if not _is_mask(name)
        }
    if is_own_code(layer):
        kwargs = {**_by_name(layer, args, kwargs), **{k: v for k, v in kwargs.items() if v is not None}}
    elif any(value is not None for value in _given_by_name(kwargs)):
        args = without_masks(args)
    return args, kwargs


def _given_by_name(kwargs):
    """Return the masks, flat, that a layer of Keras reads instead of those of its arguments."""
    return keras.tree.flatten([value for name, value in kwargs.items() if _is_mask(name)])


def have_masks(args, kwargs):
    """Whether arguments of a call, as of `with_read_masks`, have masks."""
    if any(value is not None for value in _given_by_name(kwargs)):
        return True
    return any(isinstance(x, Masked) for x in keras.tree.flatten((args, kwargs)))


def _is_mask(name):
    return name == "mask" or name.endswith("_mask")


def _reads_masks(layer, args, kwargs):
    """Whether a call makes something else of its arguments with their masks."""
    if not isinstance(layer, keras.layers.Layer):
        return False
    takes = any(map(_is_mask, inspect.signature(layer.call).parameters))
    if not (takes or is_own_code(layer) or isinstance(layer, _READS_ITSELF)):
        return False
    if rule_for(layer) is None and not is_own_code(layer):
        # It stays as it is either way.
        return True
    try:
        _, batch, values = tried(layer, args, kwargs)
        plain = {name: value for name, value in kwargs.items() if not _is_mask(name)}
        without, _, _ = tried(layer, *without_masks((args, plain)))
        return differ(values_of(layer, without, batch), values, 1e-6)
    except Refusal:
        return True


def _by_name(layer, args, kwargs):
    """Return the masks of arguments that Keras gives to a layer by name, as a dict of nodes."""
    parameters = inspect.signature(layer.call).parameters
    try:
        given = inspect.signature(layer.call).bind(*args, **kwargs).arguments
    except TypeError:
        return {}
    found = {name: keras.tree.map_structure(_mask_of, value) for name, value in given.items()}
    found = {name: masks for name, masks in found.items() if any(keras.tree.flatten(masks))}
    names = {name: "mask" if len(given) == 1 else f"{name}_mask" for name in found}
    return {names[name]: masks for name, masks in found.items() if names[name] in parameters}


def _mask_of(x):
    return x.mask() if isinstance(x, Masked) else None
