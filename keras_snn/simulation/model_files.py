"""How a `SpikingModel` goes into files, and what is checked when it comes back."""

import os
import pathlib

import keras

from keras_snn._files import check_file, output_path, replacing
from keras_snn.simulation import hdf5
from keras_snn.simulation.internals import internals
from keras_snn.simulation.units import check_units, with_scales, write_units

__all__ = ["StoredModel", "config_of", "from_own_config"]

_NOT_AS_HDF5 = (
    "`filepath` must end in .keras. Received: {}, a format that would not load again. Change the name."
)

# The formats that Keras exports, by suffix, and what writes files that it does not.
_EXPORTED = {".onnx": "onnx", ".tflite": "litert"}
_NOT_EXPORTED = {".nir": "keras_snn.export_nir(snn, path)", ".keras": "snn.save(path)"}


class StoredModel(keras.Model):
    """Base of `SpikingModel`: what of `keras.Model` writes files and reads them."""

    def save(self, filepath, overwrite=True, *args, **kwargs):
        """As `keras.Model.save`; a .keras file of this name is replaced once the new one is whole."""
        name = os.fspath(filepath) if isinstance(filepath, (str, os.PathLike)) else ""
        if name.endswith((".h5", ".hdf5")):
            raise ValueError(_NOT_AS_HDF5.format(f"filepath='{name}'"))
        if name.endswith(".keras") and "://" not in name:
            check_file(name)
        # Else Keras refuses it, writes elsewhere, or asks first.
        if name.endswith(".keras") and "://" not in name and (overwrite or not pathlib.Path(name).exists()):
            with replacing(output_path("filepath", name)) as (temporary,):
                super().save(temporary, overwrite, *args, **kwargs)
        else:
            super().save(filepath, overwrite, *args, **kwargs)

    def save_own_variables(self, store):
        """As of a layer of Keras; beside the weights of its layers go the units that they are in."""
        super().save_own_variables(store)
        store["units"] = write_units(self)

    def load_own_variables(self, store):
        """As of a layer of Keras.

        Raises:
            ValueError: If the weights are of a conversion with other units, such as the rate at which
                neurons saturate. Files of earlier versions do not have them.
        """
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118 - no dict
        written = values.pop("units", None)
        super().load_own_variables(values)
        if written is not None:
            scales = check_units(self, written)
            self.conversion_report = with_scales(self.conversion_report, scales)

    def load_weights(self, filepath, *args, **kwargs):
        """As `keras.Model.load_weights`; raises a `ValueError` and changes nothing if it cannot."""
        before, report = self.get_weights(), self.conversion_report
        try:
            super().load_weights(filepath, *args, **kwargs)
        except Exception:
            # Keras goes on after an error, with the weights that do fit.
            self.set_weights(before)
            self.conversion_report = report
            raise

    def export(self, filepath, format=None, *args, input_signature=None, **kwargs):  # noqa: A002 - as in Keras
        """As `keras.Model.export`; the network takes batches of any size and runs `timesteps` steps.

        Where `format` is `None`, the suffix decides: `.onnx`, `.tflite`, else a SavedModel. A suffix of what
        Keras does not export raises a `ValueError`.
        """
        suffix = pathlib.Path(filepath).suffix if isinstance(filepath, (str, os.PathLike)) else ""
        if suffix in _NOT_EXPORTED:
            raise ValueError(
                "`filepath` must end in .onnx or .tflite, or name a folder. Received: "
                f"filepath='{filepath}'. Use {_NOT_EXPORTED[suffix]}."
            )
        # A model that was never called, Keras refuses without.
        if input_signature is None:
            input_signature = [internals(self).inputs.signature(self.passes)]
        wanted = format or _EXPORTED.get(suffix, "tf_saved_model")
        return super().export(filepath, wanted, *args, input_signature=input_signature, **kwargs)

    def compile_from_config(self, config):
        """As `keras.Model.compile_from_config`, of a model with or without an optimizer."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        # A converted model is compiled without one, which Keras does not expect here.
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)


def config_of(model, layers):
    """Return the config of a `SpikingModel` of these layers."""
    if hdf5.is_wanted():
        hdf5.remove_begun()
        raise ValueError(_NOT_AS_HDF5.format("an HDF5 file"))
    serialize, inner = keras.saving.serialize_keras_object, internals(model)
    return {
        "name": model.name,
        "trainable": model.trainable,
        "dtype": serialize(model.dtype_policy),
        "layers": [serialize(layer) for layer in layers],
        "calls": inner.calls,
        "inputs": inner.network.inputs,
        "outputs": inner.network.outputs,
        "shapes": {name: list(shape) for name, shape in inner.inputs.shapes.items()},
        "timesteps": model.passes,
        "unroll": model.unroll,
        "engine": model.engine,
        "events": inner.network.events,
        "conversion_report": serialize(model.conversion_report),
        "output_names": getattr(model, "output_names", None),
        "dtypes": inner.inputs.source_dtypes,
        "weight_bits": model.weight_bits,
        "exact_steps": model.exact_steps,
    }


def from_own_config(config):
    """Return the arguments of `SpikingModel` of a config."""
    deserialize = keras.saving.deserialize_keras_object
    return {
        **config,
        "layers": [deserialize(layer) for layer in config["layers"]],
        "dtype": deserialize(config["dtype"]),
        "conversion_report": deserialize(config["conversion_report"]),
    }
