"""Layers as a diagnosis has them, with errors to choose."""

import numpy as np

from keras_snn import neurons
from keras_snn.analysis.diagnosis import PARTS, Error, LayerDiagnosis


def diagnosed_layer(name, saturated=0.0, silent=0.1, **relative):
    errors = {part: Error(0.1, 0.5, relative.get(part, 0.0)) for part in ("error", "added", *PARTS)}
    none = np.zeros(0)
    shown = (1.0, 0.3, 0.2, saturated, silent, 0.9)
    neuron = neurons.MultiThreshold(levels=3)
    return LayerDiagnosis(name, neuron, 1.75, *shown, **errors, activations=none, rates=none)
