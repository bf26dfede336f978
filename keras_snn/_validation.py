"""Checks of arguments, and their error messages."""

import collections.abc
import difflib
import math
import numbers

__all__ = ["check_choice", "check_integer", "check_number", "check_timesteps"]

# Spikes are counted in float32, which has every integer up to here.
_MOST_TIMESTEPS = 2**24


def check_choice(name, value, choices):
    """Return `value` if it is one of `choices`, else raise a `ValueError` that lists them."""
    # An array is equal to a choice in every place on its own.
    if not isinstance(value, collections.abc.Hashable) or value not in choices:
        options = ", ".join(repr(choice) for choice in choices)
        known = [choice for choice in choices if isinstance(choice, str)]
        near = difflib.get_close_matches(value, known, n=1, cutoff=0.7) if isinstance(value, str) else []
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"`{name}` must be one of {options}. Received: {name}={value!r}.{meant}")
    return value


def check_integer(name, value, *, minimum, maximum=math.inf, hint=""):
    """Return `value` as an `int` of at least `minimum` and at most `maximum`.

    Raises:
        TypeError: If it is not an integer (a `bool` or a `float` is not one).
        ValueError: If it is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.{_sentence(hint)}")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value!r}.{_sentence(hint)}")
    if value > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}. Received: {name}={value!r}.{_sentence(hint)}")
    return int(value)


def check_timesteps(value):
    """Return a number of time steps as an `int`; raises as `check_integer`."""
    return check_integer("timesteps", value, minimum=1, maximum=_MOST_TIMESTEPS)


def check_number(name, value, *, above=-math.inf, at_most=math.inf, hint=""):
    """Return `value` as a finite `float` in (`above`, `at_most`].

    Raises:
        TypeError: If it is not a real number.
        ValueError: If it is outside the interval, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}.{_sentence(hint)}")
    value = float(value)
    if not math.isfinite(value) or not above < value <= at_most:
        raise ValueError(
            f"`{name}` must be {_interval(above, at_most)}. Received: {name}={value:.12g}.{_sentence(hint)}"
        )
    return value


def _interval(above, at_most):
    if math.isinf(above) and math.isinf(at_most):
        return "finite"
    if math.isinf(at_most):
        return f"finite and above {above:g}"
    return f"in ({above:g}, {at_most:g}]"


def _sentence(hint):
    return f" {hint}" if hint else ""
