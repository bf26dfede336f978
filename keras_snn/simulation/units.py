"""What weights mean besides their numbers: the units that they are in, kept in files of weights.

A conversion writes scales into weights, and what belongs to them into neurons and encoders, which are
configuration. Weights of another conversion would be wrong there, without an error.
"""

import dataclasses
import json

import numpy as np

from keras_snn.layers import PoissonEncoder
from keras_snn.layers.base import neuron_of

__all__ = ["check_units", "with_scales", "write_units"]

_HINTS = {
    "v_threshold": "the threshold of its neurons",
    "rate": "the spikes per step that its scale stands for",
    "limit": "the rate at which its activation saturates",
    "current": "the correction of its current",
    "potential": "the correction of its potential",
    "scale": "the scale of its input",
    "input_rate": "the spikes per step of its input",
}


def write_units(model):
    """Return the units of a `SpikingModel` as an array of bytes, to be kept beside its weights."""
    text = json.dumps({"layers": _units(model), "scales": _scales(model)})
    return np.frombuffer(text.encode(), "uint8")


def check_units(model, written):
    """Return the scales that weights are in, if the units of a `SpikingModel` are theirs.

    Args:
        model: The `SpikingModel`.
        written: What `write_units` returned of the model that the weights are of.

    Returns:
        Dict of `(scale, max_value)` by name of the row of the report, for `with_scales`.

    Raises:
        ValueError: If a layer has other units.
    """
    theirs = json.loads(np.asarray(written, "uint8").tobytes().decode())
    for name, ours in _units(model).items():
        of_file = dict(theirs["layers"].get(name, {}))
        of_file.pop("limit", None)
        saturates = of_file.pop("saturates", None)
        if ours.get("limit") is not None and of_file:
            # Neurons without a limit need not know where their activation saturates.
            of_file["limit"] = saturates
        for what in _HINTS:
            if what in of_file and what in ours and not _equal(ours[what], of_file[what]):
                raise ValueError(
                    f"Weights must be of a model in the same units. Received: weights for layer '{name}' "
                    f"where {_HINTS[what]} is {_show(of_file[what])}; here it is {_show(ours[what])}. It is "
                    "configuration, not a weight: convert with the options and data that the weights were "
                    "made with, or save the whole model (.keras) and load that."
                )
    return theirs["scales"]


def with_scales(report, scales):
    """Return a `ConversionReport` with the scales of `check_units`; `None` if there is none."""
    if report is None:
        return None
    rows = []
    for row in report.layers:
        scale, most = scales.get(row.name, (row.scale, row.max_value))
        scale = tuple(scale) if isinstance(scale, list) else scale
        rows.append(dataclasses.replace(row, scale=scale, max_value=most))
    return dataclasses.replace(report, layers=tuple(rows))


def _units(model):
    """Return a dict of units by name of the layer."""
    report = model.conversion_report
    steps = report.options.get("timesteps") if report is not None else None
    saturating = {
        row.name: np.divide(row.max_value, row.scale).tolist()
        for row in getattr(report, "layers", ())
        if row.scale is not None and row.max_value is not None
    }
    units = {}
    for layer in model.layers:
        neuron = neuron_of(layer)
        if neuron is not None and neuron.is_rate_coding:
            units[layer.name] = _of_neuron(neuron, steps, saturating.get(layer.name))
        elif isinstance(layer, PoissonEncoder):
            units[layer.name] = {"scale": layer.scale, "input_rate": layer.rate}
    return units


def _of_neuron(neuron, steps, saturating):
    found = {"v_threshold": np.asarray(neuron.v_threshold, float).tolist(), "saturates": saturating}
    # Others cannot exceed λ, and need not know where their activation saturates.
    found["limit"] = saturating if np.max(neuron.largest_spike) > 1 else None
    if steps is not None:
        found["rate"] = float(neuron.rate_of_scale(steps))
    for what in ("current", "potential"):
        found[what] = list(neuron.correction(what)) or None
    return found


def _scales(model):
    rows = getattr(model.conversion_report, "layers", ())
    return {row.name: (row.scale, row.max_value) for row in rows if row.scale is not None}


def _equal(first, second):
    if first is None or second is None:
        return first is second
    shapes = {np.shape(value) for value in (first, second)} - {()}
    # One number stands for that of every channel. Up to the rounding of dividing and multiplying again.
    return len(shapes) < 2 and np.allclose(first, second, rtol=1e-9, atol=0)


def _show(value):
    """Return a unit as text.

    >>> _show([0.5, 2.0]), _show(None)
    ('0.5 to 2', 'none')
    """
    if value is None:
        return "none"
    ends = f"{np.min(value):.6g}", f"{np.max(value):.6g}"
    return ends[0] if np.ndim(value) == 0 else " to ".join(ends)
