"""Which activation a function is: by what it computes, since any function may have any name."""

import dataclasses
import functools
import math

import keras
import numpy as np

__all__ = ["Ramp", "keras_function", "keras_name", "name_of", "ramp_of", "shown"]

_ELEMENTWISE = {
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_silu", "log_sigmoid", "mish", "selu",
    "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus", "squareplus", "tanh",
    "tanh_shrink",
}  # fmt: skip

# The first that computes the same gives its name.
_NAMES = ("linear", "elu", *sorted(_ELEMENTWISE), "softmax")
# Beyond every limit that an activation may have.
_FAR = 1e9


def keras_function(name):
    """Return the activation function of Keras of this name, whatever else is registered under it.

    >>> keras_function("relu") is keras.activations.relu
    True
    """
    return getattr(keras.activations, name)


def keras_name(function):
    """Return the name of a function that is an activation of Keras itself, or `None`.

    >>> keras_name(keras.activations.silu), keras_name(lambda x: x)
    ('silu', None)
    """
    names = sorted(name for name in dir(keras.activations) if not name.startswith("_"))
    return next((name for name in names if function is keras_function(name)), None)


def name_of(function):
    """Return the name of the activation of Keras that a function is or computes, or `None`.

    `"sign"` is that of `keras.ops.sign`. What `ramp_of` knows has no name here.

    >>> name_of(lambda x: x * keras.ops.sigmoid(x))
    'silu'
    """
    name = keras_name(function)
    if name is not None:
        return name if name in _NAMES else None
    if function is keras.ops.sign:
        return "sign"
    values = _values(function)
    if values is None:
        return None
    candidates = (*(name for name in _NAMES if hasattr(keras.activations, name)), "sign")
    return next((name for name in candidates if _agree(values, _values_of(name))), None)


@dataclasses.dataclass(frozen=True)
class Ramp:
    """min(max(slope·x + shift, low), high); or a relu with a slope of its own below 0.

    Attributes:
        low, high: Limits of the value.
        slope, shift: Of the line between them.
        negative_slope: Slope of a relu below 0, in the place of `low`.
    """

    low: float = 0.0
    high: float = math.inf
    slope: float = 1.0
    shift: float = 0.0
    negative_slope: float = 0.0

    @property
    def is_relu(self):
        """Whether it is a relu, perhaps leaky, perhaps with a limit."""
        return (self.low, self.slope, self.shift) == (0, 1, 0)

    def __call__(self, x):
        """Return the values for an array."""
        if self.negative_slope:
            return np.clip(x, 0.0, self.high) + self.negative_slope * np.minimum(x, 0.0)
        return np.clip(self.slope * x + self.shift, self.low, self.high)


_RAMPS = {
    "relu": Ramp(),
    "relu6": Ramp(high=6.0),
    "leaky_relu": Ramp(negative_slope=0.2),
    "hard_sigmoid": Ramp(high=1.0, slope=1 / 6, shift=0.5),
    "hard_tanh": Ramp(low=-1.0, high=1.0),
}


def ramp_of(function):
    """Return the `Ramp` that a function computes: a relu or a line between two limits; or `None`.

    >>> ramp_of(lambda x: keras.ops.clip(x, 0.0, 4.0))
    Ramp(low=0.0, high=4.0, slope=1.0, shift=0.0, negative_slope=0.0)
    """
    name = keras_name(function)
    if name is not None:
        return _RAMPS.get(name)
    values = None if name_of(function) == "linear" else _values(function)
    at = None if values is None else _at(function, -_FAR, -1.0, -1 / 16, 0.0, 1 / 16, _FAR)
    if at is None:
        return None
    low, below, left, middle, right, high = at
    # The first that fits: those of Keras have exact numbers.
    candidates = list(_RAMPS.values())
    if middle == 0 and high > 0:
        limit = math.inf if high == np.float32(_FAR) else high
        candidates.append(Ramp(high=limit, negative_slope=_rounded(-below)))
    if -_FAR / 1e3 < low < middle < high < _FAR / 1e3 and left < right:
        # Once more, of points far from each other, for more digits.
        ends = [0.9 * (y - middle) / (8 * (right - left)) for y in (low, high)]
        first, last = _at(function, *ends) or (math.nan, math.nan)
        slope = (last - first) / (ends[1] - ends[0])
        candidates.append(Ramp(low, high, _rounded(slope), middle))
    return next((r for r in candidates if _agree(values, [r(x) for x in _probes()])), None)


def _rounded(number):
    """Return a number of float32 as it was written, if that was in six digits at most."""
    short = float(f"{number:.6g}") + 0.0
    return short if abs(short - number) <= 1e-6 * abs(number) else number


def _at(function, *points):
    """Return the finite values of a function at some points, or `None`."""
    values = _value(function, np.array([points], "float32"))
    is_finite = values is not None and values.shape == (1, len(points)) and np.isfinite(values).all()
    return [float(y) for y in values[0]] if is_finite else None


def shown(function):
    """Return how messages name a function: as Keras or a user registered it, or by its module."""
    name = getattr(function, "__name__", type(function).__name__)
    module = getattr(function, "__module__", None) or type(function).__module__
    if name == "<lambda>" or keras_name(function):
        return keras_name(function) or name
    # It fails for what has no name.
    registered = hasattr(function, "__name__") and keras.saving.get_registered_name(function)
    if registered and ">" in registered:
        return registered
    return f"{module}.{name}"


@functools.cache
def _probes():
    """Return inputs on which two functions hardly agree by accident: of any size, alone and side by side."""
    rng = np.random.default_rng(0)
    near = np.linspace(-16.0, 16.0, 2049)
    far = np.geomspace(1e-6, _FAR, 400)
    grid = rng.permutation(np.concatenate([near, far, -far, rng.normal(size=31) * 4]))
    arrays = (
        grid.reshape(1, -1),
        grid.reshape(-1, 4, 4),
        rng.normal(size=(3, 5, 4)),
        rng.normal(size=(4, 6)),
    )
    return tuple(array.astype("float32") for array in arrays)


def _value(function, x):
    """Return what a function makes of an array, or `None` if it cannot."""
    try:
        return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x, dtype="float32")))
    except Exception:
        return None


def _values(function):
    """Return what a function makes of every probe, or `None` if it cannot or has another shape."""
    values = [_value(function, x) for x in _probes()]
    pairs = zip(values, _probes(), strict=True)
    return None if any(y is None or y.shape != x.shape for y, x in pairs) else values


@functools.cache
def _values_of(name):
    return _values(keras.ops.sign if name == "sign" else keras_function(name))


def _agree(first, second):
    pairs = zip(first, second, strict=True)
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True) for a, b in pairs)
