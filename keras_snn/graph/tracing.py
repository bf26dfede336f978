"""Walk a Keras model without running it.

The model is walked by `keras.models.clone_model`, which runs a function for every
call of every layer, in order. The clone is made of stand-ins that only know output
shapes, so the model itself is neither called nor changed.
"""

import functools
import reprlib

import keras

from keras_snn.graph.graph import free_name

__all__ = [
    "any_shapes",
    "check_model",
    "class_name",
    "is_graph",
    "names_of_inputs",
    "open_inputs",
    "record_calls",
    "unwrapped",
]

# Large enough for any stack of convolutions, and a multiple of any usual stride.
_ANY_SIZE = 256


def names_of_inputs(model):
    """Return for each input the name that the user gave it, or one by its place."""
    names = [None if x.name.startswith("keras_tensor") else x.name for x in model.inputs]
    for i, name in enumerate(names):
        names[i] = name or free_name(f"input_{i + 1}", set(names))
    return names


def open_inputs(model):
    """Return the shape, without batch, of every input of a model that leaves sizes open, by its name."""
    inputs = getattr(model, "inputs", None) or ()
    named = zip(names_of_inputs(model) if inputs else (), inputs, strict=True)
    return {name: tuple(x.shape[1:]) for name, x in named if None in x.shape[1:]}


def any_shapes(model):
    """Return a shape, without batch, for every input of a model: open sizes are large."""
    return [tuple(_ANY_SIZE if n is None else n for n in x.shape[1:]) for x in model.inputs]


def check_model(model):
    """Raise a `TypeError` or `ValueError` if a model is none of Keras, is not built or has no graph."""
    if any(kind.__module__.partition(".")[0] == "tf_keras" for kind in type(model).__mro__):
        raise TypeError(
            f"`model` must be a model of Keras 3. Received: {type(model).__name__} of tf_keras, which "
            "is Keras 2. Save it with model.save('model.h5') and load that file with "
            "keras.models.load_model of Keras 3."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model. Received: model={reprlib.repr(model)} of type "
            f"{type(model).__name__}. Load a saved one with keras.models.load_model."
        )
    inputs = getattr(model, "inputs", None)
    if isinstance(model, keras.Sequential) and not inputs:
        raise ValueError(
            f"`model` must be built. Received: Sequential '{model.name}' without an input shape. "
            "Call model.build((None, …)) or start it with keras.Input."
        )
    if not is_graph(model):
        raise ValueError(
            f"`model` must be a Sequential or Functional model. Received: subclassed model '{model.name}' "
            f"({type(model).__name__}), which has no graph of layers. Rebuild it as "
            "keras.Model(inputs, outputs), with inputs = keras.Input(…)."
        )


def is_graph(layer):
    """Whether a layer is a model that its graph of layers describes completely."""
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    plain = keras.Sequential if isinstance(layer, keras.Sequential) else type(_plain_functional())
    return type(layer).call is plain.call


@functools.cache
def _plain_functional():
    # Named, so that the automatic names of the user's models do not change.
    x = keras.Input((), name="plain_input")
    return keras.Model(x, keras.layers.Identity(name="plain_identity")(x), name="plain")


def unwrapped(tensors):
    """Return the tensor of a list of one: Keras takes and returns that as the tensor itself."""
    is_list = isinstance(tensors, (list, tuple))
    return tensors[0] if is_list and len(tensors) == 1 else tensors


class _StandIn(keras.Operation):
    """Takes the place of a layer in the clone: the same output shape, no computation."""

    def __init__(self, source):
        super().__init__(name=source.name)
        self.source = source

    def call(self, *args, **kwargs):
        raise NotImplementedError("A stand-in has no values.")

    def compute_output_spec(self, *args, **kwargs):
        return self.source.compute_output_spec(*args, **kwargs)


def record_calls(model, shapes):
    """Return a clone of stand-ins for inputs of `shapes`, and its calls `(layer, arguments, outputs)`."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0])
    calls = []

    def call(stand_in, *args, **kwargs):
        outputs = stand_in(*args, **kwargs)
        calls.append((stand_in.source, (args, kwargs), outputs))
        return outputs

    inputs = None
    if [tuple(x.shape[1:]) for x in model.inputs] != list(shapes):
        fixed = [
            keras.Input(shape, dtype=x.dtype, name=x.name)
            for shape, x in zip(shapes, model.inputs, strict=True)
        ]
        inputs = keras.tree.pack_sequence_as(model.input, fixed)
    clone = keras.models.clone_model(model, input_tensors=inputs, clone_function=_StandIn, call_function=call)
    return clone, calls


def class_name(layer):
    """Return how messages name the class of a layer, or of an operation."""
    name = type(layer).__name__
    if not type(layer).__module__.startswith("keras."):
        return name
    return f"keras.layers.{name}" if isinstance(layer, keras.layers.Layer) else f"keras.ops operation {name}"
