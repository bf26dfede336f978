"""Layers that no node describes, with what a user can do instead."""

from keras import layers

from keras_snn.graph.rules.registry import Refusal, register_named


def _refuse(layer_class, reason, way_out):
    def lower(layer, *inputs, emit):
        raise Refusal(reason, way_out)

    register_named(layer_class, lower, group=None)


_refuse(layers.Masking, "compares its input with a value", "put it in front of all layers of weights")
_refuse(layers.Embedding, "looks numbers up in a table", "feed the vectors instead")
