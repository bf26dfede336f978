"""Compiling a spiking model as its source model is."""

import warnings

import keras

__all__ = ["compile_like"]


def compile_like(snn, model):
    """Compile the spiking model with the losses and metrics of the source model."""
    if not model.compiled:
        return
    try:
        # Without the optimizer, whose slots would double the memory of the weights, and which need not be one
        # that Keras can make again.
        config = keras.saving.deserialize_keras_object({**_compile_config(model), "optimizer": None})
    except Exception as error:
        cause = str(error).strip().split("\n")[0][:100]
        warnings.warn(
            f"The spiking model is not compiled, because a loss or metric of '{model.name}' is not "
            f"registered with Keras ({cause}). Call snn.compile(loss=…).",
            stacklevel=3,
        )
        return
    snn.compile(**config)


def _compile_config(model):
    """Return what a model was compiled with, as a config; of an optimizer without one, nothing."""
    try:
        return model.get_compile_config()
    except Exception:
        # A schedule or an optimizer of the user may have no `get_config`.
        model.optimizer.get_config = dict
        try:
            return model.get_compile_config()
        finally:
            del model.optimizer.get_config
