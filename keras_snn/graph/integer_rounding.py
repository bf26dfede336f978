"""Rounding weights to integers so that what they add up changes least."""

import numpy as np

from keras_snn.graph.numpy_reference import affine_windows

__all__ = ["inputs_of_units", "rounded_weights"]

# Of more inputs per unit, to invert their second moments takes long; and what part of their mean is added to
# them, for inputs that few samples show.
_MOST_INPUTS, _DAMPING = 4096, 0.01


def inputs_of_units(node, x, number, rng):
    """Return what units of a linear layer get, `(number, inputs)`, at random places; all if there are fewer.

    Args:
        node: An `Affine` node without groups.
        x: Array `(batch, …)`.
        number: How many units.
        rng: NumPy random generator.
    """
    if node.window:
        windows = affine_windows(node, x)
        rank = len(node.window)
        # Positions first, then the window, then the channels, as kernels have them.
        windows = np.moveaxis(windows, rank + 1, -1)
        sizes = windows.shape[: rank + 1]
        chosen = np.arange(np.prod(sizes))
        chosen = rng.choice(chosen, number, replace=False) if len(chosen) > number else chosen
        return windows[np.unravel_index(chosen, sizes)].reshape(len(chosen), -1)
    flat = x.reshape(-1, x.shape[-1])
    return flat[rng.integers(0, len(flat), number)] if len(flat) > number else flat


def rounded_weights(weights, inputs, largest):
    """Return weights rounded to integers, row by row; later rows make up for what earlier ones change.

    With H the second moments of the inputs, each row that is rounded by e changes those after it so that
    eᵀ·H·e stays least.

    Args:
        weights: Array `(inputs, units)`, in units of the integers.
        inputs: Array `(samples, inputs)`, or `None` for rounding each on its own.
        largest: The largest integer.

    Source:
        Frantar et al. (2023), "GPTQ: Accurate post-training quantization for generative pre-trained
        transformers", ICLR.
    """
    if inputs is None or len(weights) > _MOST_INPUTS or not inputs.any():
        return np.clip(np.round(weights), -largest, largest)
    moments = inputs.T.astype("float64") @ inputs / len(inputs)
    moments[np.diag_indices_from(moments)] += _DAMPING * np.mean(np.diag(moments))
    # The largest inputs first, whose weights others can still make up for.
    order = np.argsort(-np.diag(moments), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(moments[order][:, order])).T
    left, found = weights[order].astype("float64"), np.empty(weights.shape)
    for i, row in enumerate(factor):
        found[order[i]] = np.clip(np.round(left[i]), -largest, largest)
        change = (left[i] - found[order[i]]) / row[i]
        left[i + 1 :] -= np.outer(row[i + 1 :], change)
    return found
