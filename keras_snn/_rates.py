"""What rate a neuron fires at if its current comes evenly: rounded to spikes, and clipped.

This is what an activation becomes at best; scales are chosen by it, and errors measured against it.
"""

import fractions

import numpy as np

from keras_snn.neurons import Around, SignedIntegrateAndFire

__all__ = ["ideal_rate", "largest_rate", "rate_of_scale", "rates_in_words", "unwrapped"]


def ideal_rate(neuron, current, timesteps):
    """Return the firing rate after some steps if the current comes evenly: rounded and clipped.

    With z the current in units of the threshold, ε the smallest spike and r the largest rate:

        ε/T·floor(clip(z, 0, r)·T/ε + V(0)), at most r

    Args:
        neuron: An object of `keras_snn.neurons` whose rate stands for an activation. If it is delayed, the
            rate is that of the steps behind the delay.
        current: Average current, NumPy array or number.
        timesteps: Number of steps T.

    >>> from keras_snn.neurons import IntegrateAndFire
    >>> ideal_rate(IntegrateAndFire(), [0.3, 0.7, 1.2], timesteps=2)
    array([0.5, 0.5, 1. ])
    """
    neuron, timesteps = unwrapped(neuron, timesteps)
    largest, per_rate = largest_rate(neuron, timesteps), timesteps / getattr(neuron, "unit", 1.0)
    start = getattr(neuron, "initial_potential", 0.0)
    return np.clip(np.floor(np.clip(current, 0.0, largest) * per_rate + start) / per_rate, 0.0, largest)


def largest_rate(neuron, timesteps):
    """Return the rate at which a neuron saturates, in spikes per step."""
    neuron, timesteps = unwrapped(neuron, timesteps)
    if isinstance(neuron, SignedIntegrateAndFire) and neuron.levels:
        return neuron.levels / timesteps
    return getattr(neuron, "largest_spike", 1.0)


def rates_in_words(neuron, timesteps):
    """Return which rates a neuron can have after some steps, as text.

    >>> from keras_snn.neurons import MultiThreshold
    >>> rates_in_words(MultiThreshold(levels=3), timesteps=8)
    'multiples of 1/32 up to 1.75'
    """
    largest = largest_rate(neuron, timesteps)
    neuron, timesteps = unwrapped(neuron, timesteps)
    unit = fractions.Fraction(getattr(neuron, "unit", 1.0)).limit_denominator(2**20)
    return f"multiples of {unit / timesteps} up to {largest:.4g}"


def unwrapped(neuron, timesteps):
    """Return a neuron without delay and correction, and the number of steps that it runs."""
    while isinstance(neuron, Around):
        timesteps = max(timesteps - getattr(neuron, "timesteps", 0), 1)
        neuron = neuron.neuron
    return neuron, timesteps


def rate_of_scale(neuron, timesteps):
    """Return the spikes per step that λ becomes: one, but L of a signed neuron in all steps together."""
    levels = neuron.levels if isinstance(neuron, SignedIntegrateAndFire) else None
    return 1.0 if levels is None else levels / timesteps
