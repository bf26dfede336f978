"""Numbers of neurons that may differ between channels, and thresholds that are integers."""

import fractions

import numpy as np
from keras import ops

from keras_snn._validation import check_number

__all__ = [
    "check_thresholds",
    "nearest_multiples",
    "nearest_powers",
    "over_channels",
    "plain",
    "smallest_threshold",
    "start_at",
]

# A fraction of a threshold with a larger denominator is rounded instead.
_LARGEST_DENOMINATOR = 16


def check_thresholds(neuron):
    """Check `v_threshold` of a frozen neuron: a number, or a tuple of one for each channel.

    Raises:
        TypeError, ValueError: If one of them is not a positive number.
    """
    given = neuron.v_threshold
    if isinstance(given, (list, tuple)):
        # Files have lists.
        object.__setattr__(neuron, "v_threshold", tuple(given))
    for one in given if isinstance(given, (list, tuple)) else [given]:
        check_number("v_threshold", one, above=0)


def over_channels(limit, like):
    """Return a number as it is, and a tuple of one for each channel as a tensor."""
    return limit if np.ndim(limit) == 0 else ops.convert_to_tensor(limit, dtype=like.dtype)


def start_at(shape, potential, dtype):
    """Return potentials of `shape` before the first step: one number, or one for each channel."""
    if np.ndim(potential) == 0:
        return ops.full(shape, potential, dtype=dtype)
    return ops.zeros(shape, dtype=dtype) + ops.convert_to_tensor(potential, dtype=dtype)


def plain(values):
    """Return an array as a number if its values are equal, else as a tuple of numbers."""
    values = np.asarray(values)
    return values.flat[0].item() if np.ptp(values) == 0 else tuple(values.tolist())


def smallest_threshold(fraction):
    """Return the smallest threshold of which a fraction is an integer; 1 if that is not small.

    >>> smallest_threshold(0.5), smallest_threshold(0.0), smallest_threshold(0.123)
    (2, 1, 1)
    """
    found = fractions.Fraction(fraction).limit_denominator(_LARGEST_DENOMINATOR)
    return found.denominator if found == fraction else 1


def nearest_multiples(wished, smallest):
    """Return the multiples of an integer nearest to positive numbers, at least that one."""
    return np.maximum(np.round(np.asarray(wished, float) / smallest), 1) * smallest


def nearest_powers(wished, smallest):
    """Return the powers of 2 nearest to positive numbers, at least `smallest`, which is one."""
    return np.maximum(2.0 ** np.round(np.log2(np.asarray(wished, float))), smallest)
