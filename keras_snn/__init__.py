"""Spiking neural networks from trained Keras models."""

from keras_snn import errors, layers, neurons
from keras_snn._version import __version__
from keras_snn.conversion.check import check
from keras_snn.conversion.convert import convert
from keras_snn.conversion.reference import quantized_reference
from keras_snn.graph.registry import register_rule, supported_layers
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.op_counts import OperationCounts, count_operations
from keras_snn.simulation.result import SimulationResult

__all__ = [
    "OperationCounts",
    "SimulationResult",
    "SpikingModel",
    "__version__",
    "check",
    "convert",
    "count_operations",
    "errors",
    "layers",
    "neurons",
    "quantized_reference",
    "register_rule",
    "supported_layers",
]
