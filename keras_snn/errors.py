"""The errors of keras_snn. Each is a `ValueError`."""

__all__ = ["CalibrationError", "ExportError", "UnsupportedLayerError"]


class UnsupportedLayerError(ValueError):
    """The model has parts that cannot become spiking; the message lists all of them."""


class CalibrationError(ValueError):
    """The calibration data cannot be used."""


class ExportError(ValueError):
    """The model cannot be said in the requested file format."""
