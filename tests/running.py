"""Whether models compile for a run, or run eagerly; and which tests are left to `make test-all`."""

import itertools
from unittest import mock

import keras
import pytest

# What Keras does, before a test changes it.
_AS_KERAS = keras.Model.run_eagerly
# Whatever Keras sets it to, as it does in `compile`.
_EAGERLY = property(lambda model: True, lambda model, value: None)


def compiled():
    """In this context models compile, as those of a user."""
    return mock.patch.object(keras.Model, "run_eagerly", _AS_KERAS)


def eagerly():
    """In this context models run eagerly: for a few steps that takes less time than to compile them."""
    return mock.patch.object(keras.Model, "run_eagerly", _EAGERLY)


def thorough(values, *, quick):
    """Return values as parameters, all but those at the places `quick` marked as for `make test-all`."""
    return [
        pytest.param(*p.values, id=p.id, marks=[*p.marks, *(() if i in quick else [pytest.mark.thorough])])
        for i, p in enumerate(map(_parameter, values))
    ]


def pairs(first, second):
    """Return all pairs as parameters: some have every value, the others are marked as for `make test-all`."""
    first, second = list(first), list(second)
    both = list(itertools.product(range(len(first)), range(len(second))))
    # Down a diagonal, which begins again where the shorter list ends.
    longer = max(len(first), len(second))
    kept = {(i % len(first), i % len(second)) for i in range(longer)}
    quick = [i for i, pair in enumerate(both) if pair in kept]
    parameters = [(_parameter(first[i]), _parameter(second[j])) for i, j in both]
    return thorough(
        [pytest.param(*a.values, *b.values, marks=[*a.marks, *b.marks]) for a, b in parameters], quick=quick
    )


def named(value):
    """Return what a value goes by in the name of a test."""
    return getattr(value, "__name__", str(value))


def few(values, number=1):
    """Return values as parameters, the first ones marked as for `make quick`, too."""
    return [
        pytest.param(*p.values, id=p.id, marks=[*p.marks, *([pytest.mark.quick] if i < number else [])])
        for i, p in enumerate(map(_parameter, values))
    ]


def _parameter(value):
    if hasattr(value, "marks"):
        return value
    return pytest.param(*value) if isinstance(value, tuple) else pytest.param(value)
