"""Ending the simulation of a sample once the network is sure of it."""

import keras
import numpy as np

from keras_snn._validation import check_choice, check_number
from keras_snn.layers import Readout, SpikingSoftmax
from keras_snn.simulation.classes import deciding
from keras_snn.simulation.internals import internals

__all__ = ["check_exit", "confidence", "run_until_confident"]


def check_exit(model, rule, level, record, settle):
    """Raise a `ValueError` if a simulation cannot end early as asked."""
    if rule is None:
        if level is not None:
            raise ValueError(f"`level` is for exit='confidence'. Received: level={level!r} and no exit.")
        return
    check_choice("exit", rule, ("confidence",))
    if model.is_time_coded:
        raise ValueError(
            "`exit` must be None with time codes, whose layers run once, one after the other. Received: "
            f"exit={rule!r}."
        )
    hint = "See keras_snn.calibrate_exit."
    check_number("level", level, above=0, at_most=1, hint=hint)
    if record or settle:
        raise ValueError(
            "`record` and `settle` must be off if samples end early. "
            f"Received: record={list(record)}, settle={settle}. Simulate without exit."
        )
    outputs = internals(model).output_calls
    layer = internals(model).network.stateful[outputs[0]]
    if layer.draws or deciding(model) is None:
        raise ValueError(
            "`exit` needs one output of at least two classes, or of sigmoids, without random spikes. "
            f"Received: {len(outputs)} output(s), the first of shape {layer.value_shape}. "
            "Simulate without exit."
        )


def run_until_confident(runner, inputs, timesteps, plan, *, level):
    """Run one batch until every sample is done.

    Args:
        runner: A `Runner` or `EventRunner` that observes nothing.
        inputs: Nested arrays `(batch, …)`.
        timesteps: The most steps.
        plan: A `ChunkPlan`.
        level: Confidence at which a sample is done.

    Returns:
        `(outputs, steps)`: `(batch, timesteps, classes)`, which stay as they are once a sample is done, and
        how many steps each took, `(batch,)`.
    """
    model, outputs = runner.model, None
    rows, start = np.arange(len(keras.tree.flatten(inputs)[0])), 0
    steps = np.full(len(rows), timesteps)
    carry = runner.started(inputs, timesteps)
    while start < timesteps and len(rows):
        length = min(runner.until_look(start, plan), timesteps - start)
        carry, run = runner.advance(carry, start, plan.of(length))
        seen = keras.tree.flatten(runner.outputs(run))[0]
        if outputs is None:
            outputs = np.zeros((len(rows), timesteps, seen.shape[-1]), seen.dtype)
        # Rows after those that run only fill the batch.
        outputs[rows, start : start + length] = seen[: len(rows)]
        confident = confidence(model, seen[: len(rows)], start) >= level
        done = confident.any(axis=1)
        steps[rows[done]] = start + confident[done].argmax(axis=1) + 1
        start += length
        carry, rows = _without(carry, rows, done, any_size=runner.runs_any_size)
    for row, step in enumerate(steps):
        outputs[row, step:] = outputs[row, step - 1]
    return outputs, steps


def _without(carry, rows, done, *, any_size):
    """Return the carry of the samples that go on, and their rows.

    Batches shrink by halves unless `any_size`, since a backend may compile for every size.
    """
    places = np.flatnonzero(~done)
    size = held = len(keras.tree.flatten(carry["states"])[0])
    while size > 1 and len(places) <= size // 2:
        size //= 2
    size = len(places) if any_size else size
    if not done.any():
        return carry, rows
    filled = np.concatenate([places, np.setdiff1d(np.arange(held), places)])[:size]
    return keras.tree.map_structure(lambda x: x[filled], carry), rows[places]


def confidence(model, outputs, start=0):
    """Return how sure the outputs of every step are, in [0, 1].

    With m(t) the lead of the largest logit over the next, or what the value nearest to its threshold is away
    from it where each is a yes or no, summed over t steps, it is m/(1 + m). A lead on the
    average of few steps, and so a class probability, may be large by rounding to spikes; summed, rounding
    stays what it is, while a true lead grows with t.

    Args:
        model: A `SpikingModel` that classifies.
        outputs: Its outputs of the steps after the first `start`, `(batch, timesteps, classes)`.
        start: Number of steps before them.

    Source:
        Wu et al. (2025), "Optimizing event-driven spiking neural network with regularization and cutoff",
        doi:10.3389/fnins.2025.1522788: the gap between the two largest outputs.
    """
    layer = internals(model).network.stateful[internals(model).output_calls[0]]
    is_softmax = isinstance(layer, SpikingSoftmax) or (
        isinstance(layer, Readout) and layer.activation is keras.activations.softmax
    )
    outputs = outputs.astype("float64")
    if is_softmax:
        # What became 0 had the least logit that can be represented.
        outputs = np.log(np.maximum(outputs, np.finfo("float32").tiny))
    steps = start + np.arange(1, outputs.shape[1] + 1)
    lead = deciding(model).lead(outputs) * steps
    return lead / (1 + lead)
