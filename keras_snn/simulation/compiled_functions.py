"""The compiled functions of a `SpikingModel`, which Keras keeps in its attributes."""

import contextlib

from keras_snn.simulation.internals import internals

__all__ = ["forget_compiled", "keeping_compiled", "making", "set_watch"]

# In their order, as Keras names them.
_TESTING = ("predict_function", "test_function")
_ALL = (*_TESTING, "train_function")


def set_watch(model, value):
    """Let calls of a `SpikingModel` add to its counter how often neurons fire, or let them not.

    A callback does so in `set_model`, before Keras compiles; after the run it is as it was before.
    """
    inner = internals(model)
    with inner.lock:
        inner.compiled[inner.watched] = [getattr(model, name) for name in _ALL]
        inner.watched = bool(value)
        _take(model, inner.compiled.get(inner.watched, [None] * len(_ALL)))


def forget_compiled(model, *, training=True):
    """Let Keras compile anew: for a run in progress, whose callback changes the model, at once.

    Args:
        model: A `SpikingModel`.
        training: Whether the function that trains is compiled anew too.
    """
    names = _ALL if training else _TESTING
    internals(model).compiled.clear()
    _take(model, [None if name in names else getattr(model, name) for name in _ALL])


def _take(model, functions):
    for name, function in zip(_ALL, functions, strict=True):
        needed = internals(model).runs and getattr(model, name, None) is not None
        setattr(model, name, function)
        if needed and function is None:
            getattr(model, f"make_{name}")()


@contextlib.contextmanager
def making(model):
    """In this context, Keras makes a function of a run, which is eager if events are run."""
    inner = internals(model)
    inner.makes_eagerly = inner.events is not None
    try:
        yield
    finally:
        inner.makes_eagerly = False


@contextlib.contextmanager
def keeping_compiled(model):
    """In this context, call `compile` of Keras, which forgets which functions there were."""
    with internals(model).lock:
        made = [getattr(model, name, None) for name in _ALL]
        yield
        for name, function in zip(_ALL, made, strict=True):
            setattr(model, name, function)
        forget_compiled(model)
