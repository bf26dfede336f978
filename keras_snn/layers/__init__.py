"""Spiking layers for hand-written models: any Keras model, on input `(batch, time, …)`."""

from keras_snn.layers.base import SpikingLayer
from keras_snn.layers.binary import BinaryActivation
from keras_snn.layers.encoding import PoissonEncoder
from keras_snn.layers.linear import (
    SpikingActivation,
    SpikingConv1D,
    SpikingConv1DTranspose,
    SpikingConv2D,
    SpikingConv2DTranspose,
    SpikingConv3D,
    SpikingConv3DTranspose,
    SpikingDense,
    SpikingDepthwiseConv1D,
    SpikingDepthwiseConv2D,
    SpikingSeparableConv1D,
    SpikingSeparableConv2D,
)
from keras_snn.layers.nonspiking import NonSpiking
from keras_snn.layers.pooling import (
    SpikingMaxPool,
    SpikingMaxPooling1D,
    SpikingMaxPooling2D,
    SpikingMaxPooling3D,
)
from keras_snn.layers.quantized import QuantizedClip
from keras_snn.layers.readout import Readout, SpikingSoftmax
from keras_snn.layers.stateless import PerTimestep, Rearrange, ScaleShift

__all__ = [
    "BinaryActivation",
    "NonSpiking",
    "PerTimestep",
    "PoissonEncoder",
    "QuantizedClip",
    "Readout",
    "Rearrange",
    "ScaleShift",
    "SpikingActivation",
    "SpikingConv1D",
    "SpikingConv1DTranspose",
    "SpikingConv2D",
    "SpikingConv2DTranspose",
    "SpikingConv3D",
    "SpikingConv3DTranspose",
    "SpikingDense",
    "SpikingDepthwiseConv1D",
    "SpikingDepthwiseConv2D",
    "SpikingLayer",
    "SpikingMaxPool",
    "SpikingMaxPooling1D",
    "SpikingMaxPooling2D",
    "SpikingMaxPooling3D",
    "SpikingSeparableConv1D",
    "SpikingSeparableConv2D",
    "SpikingSoftmax",
]
