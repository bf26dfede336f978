"""What single options of a conversion may be, beside others."""

import keras

from keras_snn._validation import check_integer

__all__ = [
    "check_integers",
    "check_no_time_code",
    "check_readout_delay",
    "check_time_code",
    "float_policy",
    "of_window",
    "rate_coding",
]


def check_readout_delay(readout_delay, timesteps):
    """Raise a `ValueError` if a delay of the read-out is no number below `timesteps`, nor `"auto"`."""
    if readout_delay != "auto" and check_integer("readout_delay", readout_delay, minimum=0) >= timesteps:
        raise ValueError(
            f"`readout_delay` must be less than timesteps={timesteps}. "
            f"Received: readout_delay={readout_delay}."
        )


def check_integers(weight_bits, readout_weighting):
    """Raise an error if there are no integers of so many bits, or their sums are to weigh the steps."""
    check_integer("weight_bits", weight_bits, minimum=2, maximum=16)
    if readout_weighting == "linear":
        raise ValueError(
            "`readout_weighting` must be 'uniform' with weight_bits, as sums of integers must stay small "
            "to be exact. Received: readout_weighting='linear'. Leave one of them out."
        )


def of_window(neuron, options):
    """Return a time code with the window that `timesteps` is, if it is given."""
    timesteps = options.timesteps
    if timesteps is None or timesteps == neuron.window:
        return neuron
    if isinstance(options.neuron, str):
        return neuron.of_window(timesteps)
    raise ValueError(
        "`timesteps` of a time code is its window, which follows from its levels. Received: timesteps="
        f"{timesteps} and neuron={neuron!r}, whose window has {neuron.window} steps. Leave timesteps out."
    )


def check_time_code(options):
    """Raise a `ValueError` if an option has no meaning where all layers run once, one after the other."""
    possible = {
        "input_encoding": ("current", "times"),
        "max_pool": ("exact",),
        "softmax": ("potential",),
        "delay": (0,),
        "readout_delay": (0,),
        "readout_weighting": ("auto", "uniform"),
        "weight_bits": (None,),
    }
    for name, values in possible.items():
        if getattr(options, name) not in values:
            wanted = " or ".join(map(repr, values))
            raise ValueError(
                f"`{name}` must be {wanted} with a time code, whose layers run once, one after the other. "
                f"Received: {name}={getattr(options, name)!r}. Leave it out."
            )


def check_no_time_code(options, neuron):
    """Raise a `ValueError` if an option needs a time code."""
    hint = f"and neuron={neuron!r}. Leave it out, or convert with neuron='ttfs' or 'digits'."
    if options.relays is True and not (neuron.has_unit_spikes and neuron.conserves_charge):
        raise ValueError(
            "`relays` needs neurons 'if' that are reset by subtraction, or a time code. "
            f"Received: relays=True and neuron={neuron!r}. Leave it out, or convert with neuron='if'."
        )
    if options.input_encoding == "times":
        raise ValueError(
            f"`input_encoding` 'times' needs a time code. Received: input_encoding='times' {hint}"
        )


def rate_coding(neuron):
    """Return a neuron if its rate can stand for an activation."""
    if not neuron.is_rate_coding:
        raise ValueError(
            "`neuron` must have a firing rate proportional to its current, which one with a leak has not. "
            f"Received: neuron={neuron!r}. Use it in hand-written models, or convert with 'if'."
        )
    return neuron


def float_policy(dtype):
    """Return the policy that a `dtype` argument names, if it computes in floats."""
    try:
        policy = keras.dtype_policies.get(dtype)
    except (TypeError, ValueError):
        policy = None
    if policy is None or policy.compute_dtype not in ("bfloat16", "float16", "float32", "float64"):
        raise ValueError(
            "`dtype` must be a float dtype or policy of Keras, such as 'float32' or 'mixed_bfloat16'. "
            f"Received: dtype={dtype!r}."
        )
    return policy
