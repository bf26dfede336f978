"""Neurons by name, from configs, and of objects without the base class."""

import dataclasses
from typing import Any

import keras

from keras_snn._validation import check_choice
from keras_snn.neurons.base import BY_ALIAS, Neuron

__all__ = ["get", "names"]


@dataclasses.dataclass(frozen=True, repr=False)
class _Adapted(Neuron):
    """A neuron described by an object without this base class, as far as it does.

    What the object defines takes the place of the defaults.
    """

    described: object

    # Nothing is known of the sign of its spikes.
    is_signed = True

    def __post_init__(self):
        for name, default in vars(Neuron).items():
            own = name.startswith("_") or name in ("alias", "serialized", "get_config", "from_config")
            if not own and not isinstance(default, property) and hasattr(self.described, name):
                object.__setattr__(self, name, getattr(self.described, name))

    def __repr__(self):
        return repr(self.described)

    def serialized(self):
        return keras.saving.serialize_keras_object(self.described)


def names() -> tuple[str, ...]:
    """Return the names of neurons, as in `convert(neuron=…)`, sorted.

    >>> names()
    ('burst', 'digits', 'if', 'lif', 'multi_threshold', 'signed', 'ttfs')
    """
    return tuple(sorted(BY_ALIAS))


def get(identifier: Any) -> Neuron:
    """Return a neuron: the object itself, the default one of a name, or one from its config.

    An object that is no `Neuron` but has `v_threshold`, `initial_state` and `step` is wrapped once.

    Args:
        identifier: A neuron, a name such as `"if"`, or a config.

    Raises:
        TypeError: If it is none of these.
        ValueError: If no neuron has that name.

    >>> get("if")
    IntegrateAndFire(v_threshold=1.0, reset='subtract', initial_potential=0.5)
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str):
        return BY_ALIAS[check_choice("neuron", identifier, names())]()
    if isinstance(identifier, Neuron):
        return identifier
    needed = ("v_threshold", "initial_state", "step")
    if isinstance(identifier, type) or not all(hasattr(identifier, name) for name in needed):
        listed = ", ".join(repr(name) for name in names())
        raise TypeError(
            f"`neuron` must be one of {listed} or an object with `v_threshold`, `initial_state` and `step`. "
            f"Received: neuron={identifier!r}. See `keras_snn.neurons`."
        )
    return _Adapted(identifier)
