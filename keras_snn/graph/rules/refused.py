"""Layers that cannot even stay as they are."""

from keras import layers

from keras_snn.graph.rules.registry import Refusal, register_named


def _refuse(layer_class, reason, way_out):
    def lower(layer, *inputs, emit):
        raise Refusal(reason, way_out, may_stay=False)

    register_named(layer_class, lower, group=None)


_refuse(layers.Masking, "masks do not travel with spikes", "give it samples without a mask")


def lower_embedding(layer, x, *, emit):
    if layer.mask_zero:
        raise Refusal("mask_zero=True", "give it samples without a mask", may_stay=False)
    raise Refusal("looks numbers up in a table", "feed the vectors instead")


register_named(layers.Embedding, lower_embedding, group=None)
