"""Neurons of NIR, with the settings that NIR has no fields for."""

import dataclasses
import math

import numpy as np

from keras_snn import neurons
from keras_snn._validation import check_choice, check_number
from keras_snn.neurons.thresholds import plain

__all__ = ["UnknownNodeError", "read_neuron", "settings_of", "to_last"]

_TEXT = {
    "reset": "reset='zero'",
    "threshold": "spikes above the threshold, not at it",
    "initial_potential": "initial_potential=0.0",
}


class UnknownNodeError(Exception):
    """A node of NIR that has no counterpart here; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What NIR has no fields for; `None` where it is not known.

    Attributes:
        reset, initial_potential, dt: As the arguments of `import_nir`.
        given: Names of those that were given as arguments, which metadata of a node does not change.
        threshold: `">"` or `">="`.
    """

    reset: str | None
    initial_potential: float | None
    dt: float | None
    given: tuple[str, ...]
    threshold: str | None

    def of_node(self, metadata):
        """Return the settings of one layer of neurons, whose metadata may have some of its own."""
        names = ("reset", "initial_potential", "dt")
        found = {name: metadata[name] for name in names if name in metadata and name not in self.given}
        return dataclasses.replace(self, **_checked(found))


def settings_of(metadata, given):
    """Return the settings of neurons: the arguments, or else the metadata of a graph.

    Args:
        metadata: Dict.
        given: Dict of `reset`, `initial_potential` and `dt`, each `None` if it was not given.

    Raises:
        TypeError, ValueError: If the metadata is not what it may be.
    """
    given = {name: value for name, value in given.items() if value is not None}
    names = ("reset", "initial_potential", "dt", "threshold")
    found = _checked({name: metadata[name] for name in names if name in metadata})
    return _Settings(**{**dict.fromkeys(names), **found, **given}, given=tuple(given))


def _checked(found):
    """Return a dict of metadata of neurons, if its values are valid."""
    for name, value in found.items():
        field = f"metadata['{name}']"
        if name == "reset":
            check_choice(field, value, ("zero", "subtract"))
        elif name == "threshold":
            check_choice(field, value, (">", ">="))
        else:
            check_number(field, value, above=0 if name == "dt" else -math.inf)
    return found


def to_last(array):
    """Return an array of NIR, channels first, as float64 with channels last."""
    array = np.asarray(array, "float64")
    return np.moveaxis(array, 0, -1) if array.ndim else array


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer of neurons that NIR describes.

    Attributes:
        neuron: Object of `keras_snn.neurons`.
        scale, shift: Arrays; the neurons get scale·x + shift of the input x of the NIR node.
        assumed: Dict of what neither file nor arguments have, and what was assumed instead.
    """

    neuron: neurons.Neuron
    scale: np.ndarray
    shift: np.ndarray
    assumed: dict


def read_neuron(node, settings, shape):
    """Return the `_Layer` that an `IF` or `LIF` node of NIR describes.

    Args:
        node: The node.
        settings: What `settings_of` returned.
        shape: Shape of the value that goes into the node, channels last.

    Raises:
        UnknownNodeError: If its parameters have no counterpart here.
    """
    settings = settings.of_node(node.metadata or {})
    arrays = _arrays(node, shape)
    assumed = {what: text for what, text in _TEXT.items() if getattr(settings, what) is None}
    reset = settings.reset or "zero"
    if reset == "subtract":
        assumed.pop("threshold", None)
    leak, scale, shift = _integration(arrays, settings, assumed)
    # A potential counted from v_reset is one that is reset to zero.
    base = _uniform("v_reset", arrays["v_reset"]) if reset == "zero" and "v_reset" in arrays else 0.0
    shift = shift - (1 - leak) * base
    threshold = arrays["v_threshold"] - base
    if np.any(threshold <= 0):
        raise UnknownNodeError("v_threshold must be above v_reset")
    if np.ptp(threshold) and not _is_of_channels(threshold):
        scale, shift, threshold = scale / threshold, shift / threshold, np.ones(())
    if np.ptp(threshold) and base and settings.initial_potential is None:
        raise UnknownNodeError("v_threshold differs between neurons, and v_reset is not 0")
    threshold = threshold.reshape(-1, threshold.shape[-1])[0] if np.ptp(threshold) else threshold.flat[0]
    start = settings.initial_potential
    start = -base / threshold if start is None else float(start)
    if reset == "zero" and settings.threshold != ">=":
        dtype = getattr(node.v_threshold, "dtype", np.dtype("float32"))
        threshold = np.nextafter(np.asarray(threshold, dtype), np.asarray(np.inf, dtype)).astype("float64")
    threshold, start = plain(threshold), float(np.max(start))
    if leak == 1:
        neuron = neurons.IntegrateAndFire(threshold, reset, start)
    else:
        neuron = neurons.LeakyIntegrateAndFire(leak, threshold, start, reset)
    return _Layer(neuron, scale, shift, assumed)


def _arrays(node, shape):
    """Return the parameters of a node by name, channels last."""
    arrays = {
        field: to_last(value)
        for field in ("r", "v_threshold", "v_reset", "v_leak", "tau")
        if (value := getattr(node, field, None)) is not None
    }
    for field, array in arrays.items():
        if array.size > 1 and array.shape != shape:
            raise UnknownNodeError(
                f"{field} of shape {array.shape} for values of shape {shape}, channels last"
            )
    return arrays


def _integration(arrays, settings, assumed):
    """Return `(leak, scale, shift)`: a step of the neuron is v ← leak·v + scale·current + shift."""
    r, dt = arrays["r"], settings.dt
    if "tau" not in arrays:
        if dt is None:
            dt = 1 / _uniform("r", r)
            assumed["dt"] = f"dt={dt:g}"
        return 1.0, r * dt, np.zeros(())
    tau = _uniform("tau", arrays["tau"])
    if dt is None:
        if np.all(r == 1):
            raise UnknownNodeError(
                "the length of a step does not follow from r = 1; give import_nir(…, dt=…)"
            )
        dt = tau / _uniform("r", r)
        assumed["dt"] = f"dt={dt:g}"
    if not 0 < dt <= tau:
        raise UnknownNodeError(f"tau = {tau:g} is shorter than a step, dt = {dt:g}")
    return 1 - dt / tau, r * (dt / tau), arrays.get("v_leak", np.zeros(())) * (dt / tau)


def _is_of_channels(array):
    """Whether an array, channels last, has one number for each channel."""
    return np.array_equal(array, np.broadcast_to(array.reshape(-1, array.shape[-1])[0], array.shape))


def _uniform(what, array):
    if np.ptp(array):
        raise UnknownNodeError(f"{what} differs between neurons")
    return float(array.flat[0])
