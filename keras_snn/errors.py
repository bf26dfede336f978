"""The errors of keras_snn. Each is a `ValueError`."""

__all__ = ["CalibrationError", "ExportError", "UnsupportedLayerError"]


class UnsupportedLayerError(ValueError):
    """The model has parts that cannot become spiking; the message lists all of them."""


class CalibrationError(ValueError):
    """The calibration data cannot be used."""


class ExportError(ValueError):
    """The model cannot be expressed in the requested file format."""


def list_parts(name, what, parts):
    """Return the message that lists the parts of a model that something cannot be done with.

    Args:
        name: Name of the model.
        what: What cannot be done, after the number of parts.
        parts: Tuples `(path, kind, reason, way_out)`.
    """
    count = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    lines = [f"  - '{path}' ({kind}): {reason}. Instead: {way_out}." for path, kind, reason, way_out in parts]
    return "\n".join([f"Model '{name}' has {count} {what}:", *lines])
