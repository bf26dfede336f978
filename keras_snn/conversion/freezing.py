"""What was frozen in the source network is frozen in the spiking one."""

import re

import keras

__all__ = ["freeze_like"]


def freeze_like(snn, stands_for, model):
    """Freeze the layers of a spiking network that stand for nothing that trains in its source.

    A convolution and the batch normalization folded into it are one layer, which trains if either does.

    Args:
        snn: The `SpikingModel`. Its layers are changed.
        stands_for: Tuple of the nodes by name of the call.
        model: The source model.
    """
    trained = set(_trained(model))
    origins = {}
    for call in snn.calls:
        paths = (path for node in stands_for[call["name"]] for path in node.origins)
        origins.setdefault(call["layer"], set()).update(
            re.sub(r"/call_\d+(?=/|$)", "", path) for path in paths
        )
    for layer in snn.layers:
        # Scales of normalization come from no layer, so that nothing in the source trains them.
        if layer.weights and not origins[layer.name] & trained:
            layer.trainable = False


def _trained(model, prefix=""):
    """Yield the paths of all layers, also of models inside the model, that have a weight that trains."""
    for layer in model.layers:
        if any(variable.trainable for variable in layer.variables):
            yield prefix + layer.name
        if isinstance(layer, keras.Model):
            yield from _trained(layer, f"{prefix}{layer.name}/")
