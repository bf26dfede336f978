"""Callbacks for `predict`, `evaluate` and `fit` of a spiking model."""

from keras_snn.simulation.callbacks import SpikeRateTensorBoard

__all__ = ["SpikeRateTensorBoard"]
