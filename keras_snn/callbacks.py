"""Callbacks for `predict`, `evaluate` and `fit` of a spiking model."""

from keras_snn.reporting.tensorboard import SpikeRateTensorBoard

__all__ = ["SpikeRateTensorBoard"]
