"""The options of a conversion, with their choices and checks. Each is written here once."""

import collections.abc
import dataclasses
import difflib
import re
import secrets
from typing import Literal, get_args

from keras_snn import neurons
from keras_snn._validation import check_choice, check_integer, check_number, check_timesteps
from keras_snn.conversion.option_checks import (
    check_integers,
    check_no_time_code,
    check_readout_delay,
    check_time_code,
    float_policy,
    of_window,
    rate_coding,
)
from keras_snn.layers.pooling import MaxPoolMethod
from keras_snn.layers.readout import SoftmaxMethod, Weighting

__all__ = [
    "DEFAULT_TIMESTEPS",
    "BiasCorrection",
    "InputEncoding",
    "LayerNames",
    "NonSpikingParts",
    "Normalization",
    "Options",
    "Preset",
    "ReadoutWeighting",
    "Relays",
    "choices",
]

Preset = Literal["default", "rueckauer2016", "rueckauer2017"]
Normalization = Literal["percentile", "max", "mse", "gaussian", "ltb", "auto", "none"]
InputEncoding = Literal["current", "poisson", "events", "times"]
Relays = Literal["auto", False, True]
BiasCorrection = Literal["auto", False, True, "bias", "potential", "either"]
ReadoutWeighting = Literal["auto", Weighting]
NonSpikingParts = Literal["error", "allow"]

_CHOICES = {
    "preset": Preset,
    "normalization": Normalization,
    "per_channel": Literal[False, True],
    "input_encoding": InputEncoding,
    "max_pool": MaxPoolMethod,
    "softmax": SoftmaxMethod,
    "readout_weighting": ReadoutWeighting,
    "bias_correction": BiasCorrection,
    "relays": Relays,
    "nonspiking": NonSpikingParts,
}
# What each preset has for options that are not given. `benchmarks/defaults.py` compares choices for the
# default; the others are the settings of the publications.
_PRESETS = {
    "default": {
        "neuron": "if",
        "normalization": "mse",
        "percentile": 99.9,
        "per_channel": True,
        "bias_correction": "auto",
        "readout_weighting": "auto",
    },
    "rueckauer2017": {
        "neuron": "if",
        "normalization": "percentile",
        "percentile": 99.9,
        "per_channel": False,
        "bias_correction": False,
        "readout_weighting": "uniform",
    },
    "rueckauer2016": {
        "neuron": neurons.IntegrateAndFire(initial_potential=0.0),
        "normalization": "max",
        "percentile": 99.9,
        "per_channel": False,
        "bias_correction": False,
        "readout_weighting": "uniform",
    },
}
# What `layer_options` may set.
_OF_LAYERS = ("neuron", "normalization", "per_channel", "percentile", "relays")
# Methods that are a percentile, and its rank where that is fixed.
_RANKS = {"percentile": None, "max": 100.0}
DEFAULT_TIMESTEPS = 64
# Without data, an even average is closer after so many layers of neurons at most.
_SHALLOW = 4
# What a conversion report lists, in this order.
_REPORTED = (
    "timesteps",
    "neuron",
    "normalization",
    "per_channel",
    "input_encoding",
    "max_pool",
    "softmax",
    "delay",
    "readout_delay",
    "readout_weighting",
    "bias_correction",
)


def choices(option):
    """Return the values that an option of `convert` may have, as a tuple.

    >>> choices("nonspiking")
    ('error', 'allow')
    """
    if option == "neuron":
        return tuple(name for name in neurons.names() if neurons.get(name).is_rate_coding)
    return get_args(_CHOICES[option])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `keras_snn.convert`, which documents them.

    What is `None` is as in the preset. Names become objects, and `None` for a seed a number. `calibrated` is
    whether there is calibration data.

    Raises:
        TypeError, ValueError: If one is not what it may be.
    """

    calibrated: bool
    preset: Preset
    timesteps: int | None
    neuron: object
    normalization: Normalization | None
    percentile: float | None
    per_channel: bool | None
    input_encoding: InputEncoding
    input_rate: float
    max_pool: MaxPoolMethod
    softmax: SoftmaxMethod
    delay: int
    readout_delay: object
    readout_weighting: ReadoutWeighting | None
    bias_correction: BiasCorrection | None
    relays: Relays
    nonspiking: NonSpikingParts
    layer_options: object
    unroll: object
    dtype: object
    weight_bits: int | None
    batch_size: int
    seed: int | None
    verbose: object

    def __post_init__(self):
        check_choice("preset", self.preset, choices("preset"))
        if self.normalization is None and self.percentile is not None:
            self._set("normalization", "percentile")
        if not self.calibrated:
            self._leave_out_what_needs_data()
        for name, value in _PRESETS[self.preset].items():
            if getattr(self, name) is None:
                self._set(name, value)
        timesteps = check_timesteps(DEFAULT_TIMESTEPS if self.timesteps is None else self.timesteps)
        self._set("batch_size", check_integer("batch_size", self.batch_size, minimum=1))
        for name in _CHOICES:
            check_choice(name, getattr(self, name), choices(name))
        neuron = rate_coding(neurons.get(self.neuron))
        if neuron.is_time_code:
            neuron = of_window(neuron, self)
            timesteps = neuron.window
            check_time_code(self)
        else:
            self._check_rates(neuron)
        self._set("timesteps", timesteps)
        self._set("neuron", neuron)
        hint = "Use 99.9 to ignore the largest 0.1 % of activations."
        self._set("percentile", check_number("percentile", self.percentile, above=0, at_most=100, hint=hint))
        check_number("input_rate", self.input_rate, above=0, at_most=1)
        check_integer(
            "delay", self.delay, minimum=0, maximum=timesteps - 1, hint="Choose less than timesteps."
        )
        check_readout_delay(self.readout_delay, timesteps)
        self._set("layer_options", _checked_layer_options(self.layer_options))
        if self.weight_bits is not None:
            check_integers(self.weight_bits, self.readout_weighting)
        self._set("dtype", None if self.dtype is None else float_policy(self.dtype))
        seed = secrets.randbits(31) if self.seed is None else check_integer("seed", self.seed, minimum=0)
        self._set("seed", seed)

    def _leave_out_what_needs_data(self):
        """Set what is not given where there is no data: channels apart then lose more than layers."""
        if self.per_channel is None:
            self._set("per_channel", False)
        if self.bias_correction in (None, "auto"):
            self._set("bias_correction", False)
        if self.normalization == "auto":
            self._set("normalization", "gaussian")

    @property
    def correction(self):
        """Variant of the correction, or `False`: where inputs are spikes, only if it is given."""
        if self.bias_correction == "auto":
            return "either" if self.has_constant_inputs else False
        return self.bias_correction

    @property
    def chooses_weighting(self):
        """Whether the weighting of the read-out is chosen: on the data, or by the depth without any.

        Neurons whose spikes add up to the right number take back what was too much, which a plain sum needs;
        chance is least in it, too. Sums of integers stay the smallest numbers.
        """
        return (
            self.readout_weighting == "auto"
            and self.has_constant_inputs
            and self.softmax == "potential"
            and self.weight_bits is None
            and self.passes > 1
            and self.neuron.exact_levels(self.timesteps) is None
        )

    def weighting(self, depth):
        """Return how the read-outs weigh the steps after so many layers of neurons, if not chosen on data."""
        if self.readout_weighting != "auto":
            return self.readout_weighting
        is_late = self.chooses_weighting and not self.calibrated and depth > _SHALLOW
        return "linear" if is_late else "uniform"

    @property
    def has_constant_inputs(self):
        """Whether a layer gets the values of the inputs themselves, or all at once what sends them."""
        return self.input_encoding in ("current", "times")

    @property
    def passes(self):
        """Number of steps of the loop over time: one window of time codes, else all time steps."""
        return 1 if self.neuron.is_time_code else self.timesteps

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def of_inputs(self):
        """Return the options of neurons that send the inputs: they are always there, and clip nothing."""
        method = "none" if self.normalization == "none" else "max"
        return dataclasses.replace(self, normalization=method, relays=True)

    def check_data(self):
        """Raise a `ValueError` if an option needs calibration data and there is none."""
        needs = {
            "readout_delay": self.readout_delay == "auto",
            "bias_correction": bool(self.bias_correction),
            "relays": self.relays is True,
            "weight_bits": self.weight_bits is not None,
            "input_encoding": self.input_encoding == "times",
        }
        for name, needs_data in needs.items():
            if needs_data and not self.calibrated:
                raise ValueError(
                    f"`{name}` is chosen on `calibration_data`. Received: {name}={getattr(self, name)!r} and "
                    "no data. Give some hundred training samples."
                )

    def with_normalization(self, method):
        """Return the options with another normalization."""
        return dataclasses.replace(self, normalization=method)

    def of_layer(self, names):
        """Return the options of neurons that come from source layers of these names; later entries win."""
        found = {}
        for pattern, changed in self.layer_options.items():
            if any(_names(pattern, name) for name in names):
                found |= changed
        if not found:
            return self
        if "percentile" in found:
            found = {"normalization": "percentile"} | found
        if "neuron" in found:
            # The window of a layer is its own.
            found["timesteps"] = self._timesteps_beside(neurons.get(found["neuron"]))
        return dataclasses.replace(self, **found, layer_options=None)

    def _timesteps_beside(self, neuron):
        """Return the option for a layer of another neuron.

        Raises:
            ValueError: If one of them is a time code and the other is not.
        """
        if neuron.is_time_code != self.neuron.is_time_code:
            raise ValueError(
                "In one network all layers must have time codes, or none. Received: neuron="
                f"{self.neuron!r}, and {neuron!r} in layer_options."
            )
        return None if neuron.is_time_code else self.timesteps

    def _check_rates(self, neuron):
        check_no_time_code(self, neuron)
        if self.preset != "default" and self.relays == "auto":
            # The publications hand numbers on.
            self._set("relays", False)

    @property
    def rank(self):
        """Percentile that the scales are, or `None` if they are none."""
        return _RANKS[self.normalization] or self.percentile if self.normalization in _RANKS else None

    def described(self):
        """Return the options that a report on a conversion lists, as plain values by name."""
        listed = {name: getattr(self, name) for name in _REPORTED}
        listed |= {"neuron": repr(self.neuron), "calibrated": self.calibrated}
        listed["bias_correction"] = self.correction
        if self.neuron.is_time_code:
            listed["relays"] = self.relays
        if self.input_encoding == "poisson":
            listed["input_rate"] = self.input_rate
        if self.weight_bits is not None:
            listed["weight_bits"] = self.weight_bits
        if self.layer_options:
            listed["layer_options"] = {
                pattern: {name: repr(value) if name == "neuron" else value for name, value in changed.items()}
                for pattern, changed in self.layer_options.items()
            }
        if self.rank is not None:
            listed["percentile"] = self.rank
        return listed


@dataclasses.dataclass(frozen=True)
class LayerNames:
    """Names of the source layers that each layer of neurons comes from.

    Attributes:
        by_node: Tuple of names by name of the node of the activation.
    """

    by_node: dict

    def check(self, patterns):
        """Raise a `ValueError` for a pattern of `layer_options` that names no layer with neurons."""
        known = sorted({name for names in self.by_node.values() for name in names})
        unknown = [p for p in patterns if not any(_names(p, name) for name in known)]
        if not unknown:
            return
        close = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.4) or known[:3]
        raise ValueError(
            "`layer_options` must name layers whose activations become neurons, or match such names. "
            f"Received: {', '.join(map(repr, unknown))}. Close names: {', '.join(map(repr, close))}."
        )


def _names(pattern, name):
    return pattern == name or re.fullmatch(pattern, name) is not None


def _checked_layer_options(given):
    """Return `layer_options` with neurons for their names."""
    if given is None:
        return {}
    if not isinstance(given, collections.abc.Mapping):
        raise TypeError(
            "`layer_options` must be a dict of dicts, by layer name or regular expression. Received: "
            f"{type(given).__name__}. Write layer_options={{'conv2d': {{'percentile': 99.99}}}}."
        )
    checked = {}
    for pattern, changed in given.items():
        if not isinstance(pattern, str) or not isinstance(changed, collections.abc.Mapping):
            raise TypeError(
                "`layer_options` must be a dict of dicts, by layer name or regular expression. Received: "
                f"{pattern!r}: {changed!r}. Write {{'conv2d': {{'percentile': 99.99}}}}."
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"`layer_options` must have layer names or regular expressions. Received: {pattern!r} "
                f"({error}). Escape special characters with re.escape."
            ) from error
        checked[pattern] = {name: _of_one_layer(pattern, name, value) for name, value in changed.items()}
    return checked


def _of_one_layer(pattern, name, value):
    of = f"layer_options[{pattern!r}][{name!r}]"
    check_choice(f"option in layer_options[{pattern!r}]", name, _OF_LAYERS)
    if name == "neuron":
        return rate_coding(neurons.get(value))
    if name == "percentile":
        return check_number(of, value, above=0, at_most=100)
    # Only the whole network is compared with its source.
    return check_choice(of, value, tuple(c for c in choices(name) if c != "auto"))
