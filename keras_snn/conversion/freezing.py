"""What was frozen in the source network is frozen in the spiking one."""

import re

import keras

from keras_snn.graph.own_code import is_own_code

__all__ = ["freeze_like"]


def freeze_like(snn, stands_for, model):
    """Freeze the layers of a spiking network that stand for nothing that trains in its source.

    A convolution and the batch normalization folded into it are one layer, which trains if either does.

    Args:
        snn: The `SpikingModel`. Its layers are changed.
        stands_for: Tuple of the nodes by name of the call.
        model: The source model.
    """
    trained = dict(_trained(model))
    origins = {}
    for call in snn.calls:
        paths = (path for node in stands_for[call["name"]] for path in node.origins)
        origins.setdefault(call["layer"], set()).update(
            re.sub(r"/call_\d+(?=/|$)", "", path) for path in paths
        )
    for layer in snn.layers:
        # Scales of normalization come from no layer, so that nothing in the source trains them.
        if layer.weights and not any(_trains(path, trained) for path in origins[layer.name]):
            layer.trainable = False


def _trains(path, trained):
    """Whether a layer trains; an operation does if the layer does whose code it is in."""
    while path and path not in trained:
        path = path.rpartition("/")[0]
    return trained.get(path, False)


def _trained(model, prefix=""):
    """Yield the path of every layer, also of those in models and layers, and whether weights of it train."""
    for layer in _layers_in(model):
        path, is_own, inside = prefix + layer.name, is_own_code(layer), []
        if is_own or isinstance(layer, keras.Model):
            inside = _layers_in(layer)
            yield from _trained(layer, f"{path}/")
        if is_own or not inside:
            of_inner = {id(v) for inner in inside for v in inner.variables}
            yield path, any(v.trainable for v in layer.variables if id(v) not in of_inner)


def _layers_in(layer):
    """Return the layers of a model, or those among the attributes of a layer."""
    if isinstance(layer, keras.Model):
        return layer.layers
    found = (inside for inside in _layers_among(vars(layer).values()) if inside is not layer)
    return list({id(inside): inside for inside in found}.values())


def _layers_among(values):
    """Yield the layers among values, and in their lists and dicts."""
    for value in values:
        if isinstance(value, keras.layers.Layer):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _layers_among(value)
        elif isinstance(value, dict):
            yield from _layers_among(value.values())
