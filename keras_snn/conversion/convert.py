"""The conversion, step by step."""

import dataclasses
import secrets
import warnings

import keras
import numpy as np

from keras_snn import neurons
from keras_snn._data import Batches
from keras_snn._validation import check_choice, check_integer, check_number, check_timesteps
from keras_snn._version import __version__
from keras_snn.conversion.building import Choices, build_spiking
from keras_snn.conversion.calibration import Histogram, calibrate, moments_on
from keras_snn.conversion.choosing import choose_readout_delay, closest
from keras_snn.conversion.correction import correct
from keras_snn.conversion.freezing import freeze_like
from keras_snn.conversion.moments import assumed_maxima, moments_without_data
from keras_snn.conversion.normalization import (
    Rule,
    channels_apart,
    check_normalization,
    choose_scales,
    normalize,
    relus,
    trained_scales,
)
from keras_snn.conversion.report import report_on
from keras_snn.conversion.spiking import encode, to_spiking
from keras_snn.errors import CalibrationError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold, pool_by_axes
from keras_snn.layers import SpikingLayer
from keras_snn.simulation.model import SpikingModel

__all__ = ["convert"]

# The rules that are one, and the rank it has where it is not an option.
_PERCENTILES = {"percentile": None, "max": 100.0}


def convert(
    model,
    calibration_data=None,
    *,
    timesteps=64,
    neuron="if",
    normalization="percentile",
    percentile=99.9,
    per_channel=False,
    input_encoding="current",
    input_rate=1.0,
    max_pool="exact",
    softmax="potential",
    delay=0,
    readout_delay=0,
    bias_correction=False,
    nonspiking="error",
    unroll="auto",
    dtype=None,
    batch_size=32,
    seed=None,
    verbose="auto",
):
    """Turn a trained network into a spiking one that is still a Keras model.

    Nothing is retrained: weights are folded with batch normalization and rescaled so that
    the activations of the source network become firing rates.

    Args:
        model: A built Sequential or Functional model with relu activations. Not changed.
        calibration_data: Some hundred samples of the training data, as for `predict`: array,
            list or dict of arrays, `tf.data.Dataset` or `keras.utils.PyDataset`, of `x` or `(x, y)`.
            Without it the scales are estimated from batch norm statistics and weights.
        timesteps: Number of time steps of a simulation; `snn.timesteps` may be set later.
        neuron: `"if"`, `"signed"`, `"multi_threshold"`, `"burst"`, or an object of `keras_snn.neurons`.
            Binary activations become `keras_snn.neurons.Binary`, reset to zero if this neuron is.
        normalization: What the scale of a layer is: `"percentile"` of its non-zero activations on the
            calibration data, or their `"max"`; `"mse"`, which loses least in `timesteps` steps; `"gaussian"`,
            the same from mean and variance alone; `"ltb"`, local threshold balancing; `"auto"`, whichever of
            percentile, mse and ltb comes closest to the source network on the data; or `"none"`, where it
            is 1. See `docs/choosing_options.md`.
        percentile: In percent, in (0, 100].
        per_channel: Whether every channel has a scale of its own, instead of every layer. Depthwise
            convolutions always have.
        input_encoding: `"current"`: inputs are constant currents. `"poisson"`: inputs are random
            spikes, see `keras_snn.layers.PoissonEncoder`. `"events"`: the user gives spikes, or other
            values, for every step, `(batch, time, …)`; the source network sees their average over time.
        input_rate: Spikes per step of the largest input, in (0, 1]; for `"poisson"`.
        max_pool: `"exact"`, `"fir"`, `"avg"` or `"exp"`; see `keras_snn.layers.SpikingMaxPool`.
        softmax: `"potential"`, `"poisson"` or `"clock"`; see `keras_snn.layers.SpikingSoftmax`.
            With the last two the outputs are spike rates.
        delay: Steps that a layer of neurons waits for each one before it, with its potential held.
        readout_delay: Number of first steps that the read-out leaves out; `"auto"` chooses it on the data.
        bias_correction: `True` or `"bias"` adds to the current of every step, layer by layer, what the
            rates of a channel lack on the average of the calibration data; `"potential"` adds the same to
            the potential before the first step.
        nonspiking: `"error"` lists all operations that are neither linear nor relu; `"allow"` runs
            them on the average of their inputs, see `keras_snn.layers.NonSpiking`.
        unroll: Time steps per pass through the loop over time, or `"auto"`. Changes speed only.
        dtype: Dtype or policy of the spiking model; that of `model` if `None`. With `"bfloat16"` spikes
            stay exact and potentials are in float32; weights and currents are rounded. So are those of
            `"mixed_bfloat16"`, which keeps weights in float32, to train on, and rounds them at every step.
        batch_size: Samples per batch of calibration.
        seed: Integer, for what is random. The same seed gives the same spikes for the same input, in
            any batch. `None` draws one.
        verbose: 0 shows no progress bar.

    Returns:
        A `SpikingModel`, compiled with the losses and metrics of `model` if that is compiled.

    Raises:
        TypeError, ValueError: If an argument is not what it may be, or `model` has no graph.
        UnsupportedLayerError: If parts of it cannot become spiking; lists all of them.
        CalibrationError: If the calibration data is empty, misshapen or not finite.

    Source:
        Rueckauer et al. (2016), arXiv:1612.04052. Scales: `keras_snn.conversion.normalization.Rule`. Bias
        correction: Li et al. (2021), ICML, "A free lunch from ANN".
    """
    timesteps = check_timesteps(timesteps)
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    neuron = _rate_coding(neurons.get(neuron))
    check_normalization(normalization, percentile)
    check_choice("per_channel", per_channel, (False, True))
    check_choice("input_encoding", input_encoding, ("current", "poisson", "events"))
    check_number("input_rate", input_rate, above=0, at_most=1)
    check_choice("max_pool", max_pool, ("exact", "fir", "avg", "exp"))
    check_choice("softmax", softmax, ("potential", "poisson", "clock"))
    check_integer("delay", delay, minimum=0, maximum=timesteps - 1, hint="Choose less than timesteps.")
    _check_uses_of_data(calibration_data, readout_delay, bias_correction, timesteps)
    check_choice("nonspiking", nonspiking, ("error", "allow"))
    policy = None if dtype is None else _float_policy(dtype)
    seed = secrets.randbits(31) if seed is None else check_integer("seed", seed, minimum=0)

    _check_is_analog(model)
    source = lower(model, input_shapes=_input_shapes(model, calibration_data), nonspiking=nonspiking)
    _check_becomes_spiking(model, source, nonspiking)
    own_dtype = _policy_of(model)
    graph = fold(source)
    if keras.backend.backend() == "tensorflow" and "float64" in _compute_dtypes(policy, own_dtype):
        graph = pool_by_axes(graph)
    encodes = input_encoding == "poisson"
    if normalization == "auto" and calibration_data is None:
        normalization = "gaussian"
    rule = Rule(normalization, float(percentile), neuron, timesteps)
    seen = _measure(
        source,
        graph,
        calibration_data,
        rule,
        channels_apart(graph, per_channel),
        needs_maxima=encodes,
        batch_size=batch_size,
        verbose=verbose,
        dtype=own_dtype,
    )
    # Only one graph holds weights beside those of the two models.
    del source

    options = {
        "timesteps": timesteps,
        "neuron": repr(neuron),
        "normalization": normalization,
        "per_channel": per_channel,
        "calibrated": calibration_data is not None,
        "input_encoding": input_encoding,
        "max_pool": max_pool,
        "softmax": softmax,
        "delay": delay,
        "readout_delay": readout_delay,
        "bias_correction": bias_correction,
    }
    options |= {"input_rate": input_rate} if encodes else {}
    choices = Choices(
        max_pool,
        softmax,
        0 if readout_delay == "auto" else readout_delay,
        seed,
        events=input_encoding == "events",
    )

    def build(graph, rule):
        scales = _scales(graph, seen, rule)
        graph = to_spiking(normalize(graph, scales), neuron, scales, timesteps=timesteps, delay=delay)
        if encodes:
            graph = encode(graph, seen.maxima, input_rate, seed)
        snn, stands_for = build_spiking(
            graph, choices, timesteps=timesteps, unroll=unroll, name=model.name, dtype=policy or own_dtype
        )
        # A Sequential has no names of outputs.
        if hasattr(model, "output_names"):
            snn.output_names = list(model.output_names)
        freeze_like(snn, stands_for, model)
        draws = any(layer.draws for layer in snn.network.stateful.values())
        chosen = {"normalization": rule.method} | ({"seed": seed} if draws else {})
        if rule.method in _PERCENTILES:
            chosen["percentile"] = _PERCENTILES[rule.method] or rule.percentile
        snn.conversion_report = report_on(snn, stands_for, seen.histograms, options | chosen, _versions())
        return snn

    on_data = {"batch_size": batch_size, "verbose": verbose}
    if rule.method == "auto":
        rules = (dataclasses.replace(rule, method=method) for method in ("percentile", "mse", "ltb"))
        snn = closest((build(graph, rule) for rule in rules), calibration_data, **on_data)
    else:
        # The graph is gone when the layers of the one after it are made.
        held = [graph]
        del graph
        snn = build(held.pop(), rule)
    if readout_delay == "auto":
        choose_readout_delay(snn, calibration_data, **on_data)
    if bias_correction:
        correct(snn, calibration_data, variant=bias_correction, **on_data)
    _warn_of_silence(snn.conversion_report)
    _compile_like(snn, model)
    return snn


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What is known of a network.

    Attributes:
        histograms: `Histogram` of every relu on data, by name; empty without data.
        distributions: `Histogram` of every relu to choose its scale by; those, or normal ones.
        maxima: The largest value of every input, by name.
    """

    histograms: dict
    distributions: dict
    maxima: dict


def _measure(source, graph, data, rule, channels, *, needs_maxima, **options):
    """Return what is `_Seen` of the relus of `graph`, on data or without it."""
    histograms, moments, maxima = {}, {}, assumed_maxima(source)
    needs_scales = len(relus(graph)) > len(trained_scales(graph)) and rule.method != "none"
    if data is not None and (relus(graph) or needs_maxima):
        histograms = calibrate(graph, data, channels=channels, inputs_too=needs_maxima, **options)
        if needs_maxima:
            maxima = {name: float(histograms[name].maximum[0]) or 1.0 for name in maxima}
        if needs_scales and rule.method == "gaussian":
            moments = moments_on(graph, data, **options)
    elif needs_scales:
        moments = moments_without_data(source)
        _warn_without_data()
    normal = {
        name: Histogram.of_normal(*moments_of_one, per_channel=name in channels)
        for name, moments_of_one in moments.items()
    }
    return _Seen(histograms, normal or histograms, maxima)


def _scales(graph, seen, rule):
    """Return λ of every relu by name."""
    scales = {node.name: 1.0 for node in relus(graph)}
    if rule.method != "none" and seen.distributions:
        scales = choose_scales(graph, seen.distributions, rule)
    return scales | trained_scales(graph)


def _check_uses_of_data(data, readout_delay, bias_correction, timesteps):
    """Raise a `ValueError` if options are not what they may be, or need data that is not there."""
    check_choice("bias_correction", bias_correction, (False, True, "bias", "potential"))
    for name, value, needs in (
        ("readout_delay", readout_delay, readout_delay == "auto"),
        ("bias_correction", bias_correction, bool(bias_correction)),
    ):
        if needs and data is None:
            raise ValueError(
                f"`{name}` is chosen on `calibration_data`. Received: {name}={value!r} and no data. "
                "Give some hundred training samples."
            )
    if readout_delay != "auto" and check_integer("readout_delay", readout_delay, minimum=0) >= timesteps:
        raise ValueError(
            f"`readout_delay` must be less than timesteps={timesteps}. "
            f"Received: readout_delay={readout_delay}."
        )


def _check_is_analog(model):
    if isinstance(model, SpikingModel) or any(isinstance(layer, SpikingLayer) for layer in _layers_of(model)):
        raise ValueError(
            f"`model` must be an analog network. Received: the spiking model '{model.name}'. "
            "Convert the model it was made from."
        )


def _check_becomes_spiking(model, graph, nonspiking):
    """If nothing in a model becomes neurons, warn if that was allowed, else raise."""
    if any(isinstance(node, kinds.Activation) and node.becomes_spiking for node in graph.nodes.values()):
        return
    if nonspiking == "error":
        raise ValueError(
            f"`model` must have relu activations, which become spiking neurons. Received: model "
            f"'{model.name}' without any. Train it with activation='relu'."
        )
    warnings.warn(
        f"Nothing in '{model.name}' spikes, because it has no relu activations: it computes the same at "
        "every time step. Train it with activation='relu' to see spikes.",
        stacklevel=3,
    )


def _rate_coding(neuron):
    """Return a neuron if its rate can stand for an activation."""
    if isinstance(neuron, neurons.LeakyIntegrateAndFire):
        raise ValueError(
            "`neuron` must have a firing rate proportional to its current, which one with a leak has not. "
            f"Received: neuron={neuron!r}. Use it in layers by hand, or convert with 'if'."
        )
    return neuron


def _float_policy(dtype):
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


def _compute_dtypes(*policies):
    return {policy.compute_dtype for policy in policies if policy is not None}


def _policy_of(model):
    """Return the dtype policy of the layers with weights, if they have one, else that of the model."""
    layers = [layer for layer in _layers_of(model) if layer.weights]
    policies = {layer.dtype_policy.name for layer in layers}
    return layers[0].dtype_policy if len(policies) == 1 else model.dtype_policy


def _layers_of(model):
    for layer in model.layers if isinstance(model, keras.Model) else ():
        if isinstance(layer, keras.Model):
            yield from _layers_of(layer)
        else:
            yield layer


def _input_shapes(model, data):
    """Return the shapes of the calibration data, if the model leaves sizes open; else `None`."""
    if data is None or not isinstance(model, keras.Model):
        return None
    open_shapes = [tuple(x.shape[1:]) for x in getattr(model, "inputs", None) or ()]
    if not any(None in shape for shape in open_shapes):
        return None
    # A Sequential has no attribute `input` before it is called.
    given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    structure = keras.tree.map_structure(lambda x: x.name, given)
    shapes = dict(zip(keras.tree.flatten(structure), open_shapes, strict=True))
    batches = Batches(
        data, structure, shapes, batch_size=1, argument="calibration_data", error=CalibrationError
    )
    x, _ = next(iter(batches))
    return [tuple(array.shape[1:]) for array in keras.tree.flatten(x)]


def _warn_without_data():
    warnings.warn(
        "keras_snn.convert estimated the scales from batch normalization and weights, without data. "
        "Give some hundred training samples as `calibration_data` for fewer time steps at the same accuracy.",
        stacklevel=4,
    )


def _warn_of_silence(report):
    if report.silent_layers:
        names = ", ".join(repr(name) for name in report.silent_layers)
        warnings.warn(
            f"Silent on all calibration data, scale 1 assumed: {names}. Check that the data is scaled as "
            "for training, or give more of it.",
            stacklevel=3,
        )


def _compile_like(snn, model):
    """Compile the spiking model with the losses and metrics of the source model."""
    if not model.compiled:
        return
    try:
        config = keras.saving.deserialize_keras_object(model.get_compile_config())
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"The spiking model is not compiled, because a loss or metric of '{model.name}' is not "
            f"registered with Keras ({str(error).splitlines()[0][:100]}). Call snn.compile(loss=…).",
            stacklevel=3,
        )
        return
    # Without the optimizer, whose slots would double the memory of the weights.
    snn.compile(**{**config, "optimizer": None})


def _versions():
    return {"keras_snn": __version__, "keras": keras.__version__, "numpy": np.__version__}
