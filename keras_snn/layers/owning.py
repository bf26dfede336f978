"""Layers inside of others: what is frozen in them, and that they are not quantized."""

import functools
from typing import Any

import keras

from keras_snn._types import Config

__all__ = ["OwnsLayer", "refuse_quantizing"]


def refuse_quantizing(layer):
    """Let `quantize` of a layer, and of all that is known to be inside it, raise `NotImplementedError`.

    `quantize` of a Keras model that contains them warns of that and leaves them as they are.
    """
    for part in _parts(layer):
        part.quantize = functools.partial(_refuse_to_quantize, part.name)


def _refuse_to_quantize(name, mode=None, **kwargs):
    raise NotImplementedError(
        f"Layer '{name}' is part of a spiking network, which must have weights in floating point. Received: "
        f"quantize(mode={mode!r}). Use keras_snn.convert(…, dtype='bfloat16') for smaller weights."
    )


def _parts(layer):
    """Yield a layer, and then all that is known to be inside it."""
    yield layer
    for part in (
        getattr(layer, "analog", None),
        getattr(layer, "layer", None),
        *getattr(layer, "layers", ()),
    ):
        if isinstance(part, keras.layers.Layer):
            yield from _parts(part)


class OwnsLayer:
    """Mixin of layers that own another one: what is frozen stays so in files and copies.

    Attributes:
        owned: Name of the attribute that holds the other layer.
    """

    owned = "layer"

    def freeze_owned(self) -> None:
        """Freeze the layer that this one owns if this one is created frozen."""
        if not self.trainable:
            getattr(self, self.owned).trainable = False

    @classmethod
    def from_config(cls, config: Config) -> Any:
        config = dict(config)
        trainable = config.pop("trainable", True)
        of_analog = config.pop("analog_trainable", trainable)
        layer = super().from_config(config)
        inner = getattr(layer, cls.owned)
        # A layer has a config, with what is frozen in it; that of an analog one is part of the twin's.
        frozen = [(p, p.trainable) for p in _parts(inner)] if cls.owned == "layer" else [(inner, of_analog)]
        if not trainable:
            layer.trainable = False
        # From the outside in, since the inside follows.
        for part, flag in frozen:
            if part.trainable != flag:
                part.trainable = flag
        return layer
