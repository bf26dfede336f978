"""Random numbers that depend on a seed, a sample and a time step, and on nothing else.

A generator that is drawn from batch by batch gives a sample other numbers in another
batch, and other ones again at the next call. Here a number is a hash of what it is for.
"""

import math

from keras import ops

__all__ = ["key_of", "uniform"]


def uniform(seed, key, step, shape):
    """Return uniform random numbers in [0, 1), multiples of 2^−23.

    Args:
        seed: Integer; another one for every layer that draws.
        key: Int32 tensor of shape `(batch,)`: what distinguishes samples.
        step: Int32 tensor of shape `(batch,)`: the time step.
        shape: Shape of the numbers of one sample.

    Returns:
        Float32 tensor of shape `(batch, *shape)`.

    Source:
        The mixing function is lowbias32 by C. Wellons, in the public domain.
    """
    place = _mix(ops.arange(math.prod(shape), dtype="int32") + _signed(seed * 0x9E3779B9))
    stream = _mix(ops.bitwise_xor(key, _mix(ops.cast(step, "int32") + _signed(seed))))
    bits = _mix(ops.bitwise_xor(ops.expand_dims(stream, 1), ops.expand_dims(place, 0)))
    numbers = ops.cast(ops.bitwise_and(bits, 0x7FFFFF), "float32") * 2.0**-23
    return ops.reshape(numbers, (-1, *shape))


def key_of(x):
    """Return an int32 tensor `(batch,)` that distinguishes samples `(batch, …)` by their content.

    Values count to a 65,536th.
    """
    size = math.prod(x.shape[1:])
    flat = ops.cast(ops.reshape(x, (-1, size)), "float32")
    # Remainders are exact, and fit an integer whatever the input.
    flat = ops.cast(ops.mod(ops.round(flat * 65536.0), 2.0**24), "int32")
    places = ops.arange(size, dtype="int32")
    return ops.sum(_mix(ops.bitwise_xor(flat, _mix(places))), axis=1)


def _mix(bits):
    """Return int32 numbers in which every bit depends on every bit of `bits`."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        # A right shift of signed integers repeats the sign; the mask takes it off.
        shifted = ops.bitwise_and(ops.right_shift(bits, shift), (1 << (32 - shift)) - 1)
        bits = ops.bitwise_xor(bits, shifted)
        if factor is not None:
            bits = bits * _signed(factor)
    return bits


def _signed(value):
    """Return the int32 with the lowest 32 bits of an integer."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
