"""Spiking neural networks from trained Keras models."""

from keras_snn import _start
from keras_snn._version import __version__

# The command imports the rest once its arguments are read: `--help` takes no seconds.
if not _start.is_to_wait():
    import keras as _keras

    _start.check_backend(_keras.backend.backend())

    from keras_snn import callbacks, distributed, errors, layers, neurons, rules, summaries
    from keras_snn.analysis.counting import count_operations
    from keras_snn.analysis.diagnosis import Diagnosis, diagnose
    from keras_snn.analysis.energy import ENERGY_FIGURES
    from keras_snn.analysis.exit_calibration import ExitCalibration, calibrate_exit
    from keras_snn.analysis.operation_counts import OperationCounts
    from keras_snn.conversion.check import check
    from keras_snn.conversion.convert import convert
    from keras_snn.conversion.quantized_reference import quantized_reference
    from keras_snn.export.nir import export_nir, import_nir
    from keras_snn.graph.rules.registry import register_rule, supported_layers
    from keras_snn.reporting import plots
    from keras_snn.reporting.report import Report, report
    from keras_snn.simulation.model import SpikingModel
    from keras_snn.simulation.result import SimulationResult

__all__ = [
    "ENERGY_FIGURES",
    "Diagnosis",
    "ExitCalibration",
    "OperationCounts",
    "Report",
    "SimulationResult",
    "SpikingModel",
    "__version__",
    "calibrate_exit",
    "callbacks",
    "check",
    "convert",
    "count_operations",
    "diagnose",
    "distributed",
    "errors",
    "export_nir",
    "import_nir",
    "layers",
    "neurons",
    "plots",
    "quantized_reference",
    "register_rule",
    "report",
    "rules",
    "summaries",
    "supported_layers",
]
