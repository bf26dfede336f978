"""Layers of users: called as in `predict`, held where they cannot be copied, named where they are unknown."""

import types

import keras

__all__ = ["Held", "WithMask", "as_in_predict", "unregistered"]


def as_in_predict(layer, inputs):
    """Return what a layer makes of its inputs outside of training; its seeds stay where they are.

    Some layers draw numbers that they use in training only. A loop over time may not write their seeds.
    """
    kwargs = {"training": False} if isinstance(layer, keras.Model) else {}
    if len(layer.variables) == len(layer.weights):
        return layer(inputs, **kwargs)
    with keras.StatelessScope(state_mapping=[(v, v.value) for v in layer.variables]):
        return layer(inputs, **kwargs)


def unregistered(config):
    """Return the names of the classes and functions in a config that Keras does not find, sorted.

    Args:
        config: What `keras.saving.serialize_keras_object` returns.
    """
    if isinstance(config, (list, tuple)):
        return sorted({name for part in config for name in unregistered(part)})
    if not isinstance(config, dict):
        return []
    found = set(unregistered(list(config.values())))
    is_of_keras = (config.get("module") or "").partition(".")[0] == "keras"
    if "class_name" in config and "registered_name" in config and not is_of_keras:
        is_function = config["class_name"] == "function"
        name = config["config"] if is_function else config["registered_name"] or config["class_name"]
        if isinstance(name, str) and keras.saving.get_registered_object(name) is None:
            found.add(name.rpartition(">")[2])
    return sorted(found)


@keras.saving.register_keras_serializable(package="keras_snn")
class WithMask(keras.layers.Layer):
    """Hangs a mask on a tensor, as `keras.layers.Masking` does, for the layers after it.

    Call arguments:
        inputs: A list of the tensor, `(batch, …)`, and of its mask, which is true where it counts.
    """

    def __init__(self, **kwargs):
        # Integers and floats of any precision stay as they are.
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs):
        # What is returned gets the mask, and what came has none.
        return keras.ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[1]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)


class Held(keras.layers.Layer):
    """Calls a layer that no config makes again, with weights of its own in the place of the layer's.

    The layer is neither changed nor part of this one: training this one, or that one, leaves the other
    as it is. There is no config, so that a model with this layer runs but cannot be saved.

    Args:
        layer: A built Keras layer, or an operation.
        cause: Why there is no copy of it.
    """

    def __init__(self, layer, cause=""):
        dtype = getattr(layer, "variable_dtype", None)
        super().__init__(name=layer.name, dtype=dtype, autocast=False)
        self.supports_masking = True
        # Where Keras does not search for layers and variables.
        self._held = types.SimpleNamespace(layer=layer, own=[], fixed=[])
        self.cause = cause
        weights = getattr(layer, "weights", [])
        for variable in weights:
            own = self.add_weight(
                shape=variable.shape,
                dtype=variable.dtype,
                initializer="zeros",
                trainable=variable.trainable,
                name=variable.name,
            )
            own.assign(variable.value)
            self._held.own.append((variable, own))
        known = {id(variable) for variable in weights}
        for variable in getattr(layer, "variables", []):
            if id(variable) not in known:
                value = keras.ops.convert_to_numpy(variable.value)
                self._held.fixed.append((variable, value))
        self.built = True

    @property
    def layer(self):
        """The layer that is called."""
        return self._held.layer

    def call(self, *args, **kwargs):
        mapping = [(variable, own.value) for variable, own in self._held.own]
        with keras.StatelessScope(state_mapping=[*mapping, *self._held.fixed]):
            return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)

    def get_config(self):
        raise ValueError(
            f"Layer '{self.layer.name}' ({type(self.layer).__name__}) must have a config that makes it "
            f"again, to be saved or copied. Received: {self.cause}. Give its class a get_config, and an "
            "__init__ that takes **kwargs and hands them to super().__init__; or only run the model."
        )
