"""The conversion, step by step."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import keras
import numpy as np

from keras_snn import neurons
from keras_snn._types import AnyModel, Data
from keras_snn._version import __version__
from keras_snn.analysis.input_shares import input_shares
from keras_snn.conversion.compiling import compile_like
from keras_snn.conversion.conversion_report import report_on
from keras_snn.conversion.freezing import freeze_like
from keras_snn.conversion.loss_warning import warn_of_loss
from keras_snn.conversion.options import (
    BiasCorrection,
    InputEncoding,
    NonSpikingParts,
    Normalization,
    Options,
    Preset,
    ReadoutWeighting,
    Relays,
)
from keras_snn.conversion.rate_relays import silent_sides
from keras_snn.conversion.refining import refined
from keras_snn.conversion.scales import options_by_layer
from keras_snn.conversion.search import Minimize, Wish, check_chosen, check_unused, search
from keras_snn.conversion.sizes import functional, shapes_of_data
from keras_snn.conversion.to_program import layers_of, measured_graph, policy_of, spiking_program
from keras_snn.conversion.tuning import closest
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.layers import SpikingLayer
from keras_snn.layers.pooling import MaxPoolMethod
from keras_snn.layers.readout import SoftmaxMethod
from keras_snn.simulation.building import build_with_nodes
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel

__all__ = ["convert"]


def convert(
    model: AnyModel,
    calibration_data: Data | None = None,
    y: Data | None = None,
    *,
    max_loss: float | None = None,
    minimize: Minimize = "operations",
    neurons: Sequence[str | neurons.Neuron] | None = None,
    preset: Preset = "default",
    timesteps: int | None = None,
    neuron: str | neurons.Neuron | None = None,
    normalization: Normalization | None = None,
    percentile: float | None = None,
    per_channel: bool | None = None,
    input_encoding: InputEncoding = "current",
    input_rate: float = 1.0,
    max_pool: MaxPoolMethod = "exact",
    softmax: SoftmaxMethod = "potential",
    delay: int = 0,
    readout_delay: int | Literal["auto"] = 0,
    readout_weighting: ReadoutWeighting | None = None,
    bias_correction: BiasCorrection | None = None,
    relays: Relays = "auto",
    nonspiking: NonSpikingParts = "error",
    layer_options: Mapping[str, Mapping[str, object]] | None = None,
    unroll: int | Literal["auto"] = "auto",
    dtype: str | keras.DTypePolicy | None = None,
    weight_bits: int | None = None,
    batch_size: int = 32,
    seed: int | None = None,
    verbose: int | Literal["auto"] = "auto",
) -> SpikingModel:
    """Turn a trained network into a spiking one that is still a Keras model.

    Nothing is retrained: batch normalization is folded into the weights, which are rescaled so that
    the activations of the source network become firing rates.

    Args:
        model: A built Sequential, Functional or subclassed model with relu activations. Not changed, but that
            a subclassed one that is not built is built for the data.
        calibration_data: Some hundred samples of the training data, as for `predict`: array,
            list or dict of arrays, `tf.data.Dataset` or `keras.utils.PyDataset`, of `x` or `(x, y)`.
            Without it the scales are estimated from batch norm statistics and weights.
        y: Labels of the samples, if these are arrays; for `max_loss` alone.
        max_loss: What may be lost, in percent: points of accuracy, or without labels of agreement with
            `model`; of a model that does not classify, the relative RMS error of its outputs. Neurons,
            levels or time steps, scales and corrections are then chosen: of all networks that lose at most so
            much, with a confidence of 95 %, the one that costs least. Every second sample calibrates, the
            others judge, so give some thousand that the model was not trained on. What was tried is in
            `snn.conversion_report.search`.
        minimize: With `max_loss`, what costs: `"operations"`, updates of neurons among them; `"timesteps"`
            until the output is there; `"energy"`, by `OperationCounts.energy`; or `"spikes"`.
        neurons: With `max_loss`, names of neurons, or neurons, to choose among, as those that a target has;
            `None` for those that may cost least.
        preset: What the options have that are `None`. `"default"`: neurons `"if"`, scales of channels by
            least squares and corrected potentials, where there is data, scales of layers without; it was
            chosen on a panel of networks, see `docs/choosing_options.md`. `"rueckauer2017"`: neurons
            `"if"`, and the 99.9th percentile of each layer. `"rueckauer2016"`: the maximum of each layer,
            and neurons `"if"` that start empty.
        timesteps: Number of time steps of a simulation, 64 if `None`; `snn.timesteps` may be set later.
            Of time codes, the window of a layer, which decides the levels.
        neuron: `"if"`, `"signed"`, `"multi_threshold"`, `"burst"`, the time codes `"ttfs"` and `"digits"`, or
            an object of `keras_snn.neurons`.
            Binary activations become `keras_snn.neurons.Binary`, reset to zero if this neuron is.
        normalization: What the scale of a layer is: `"percentile"` of its non-zero activations on the
            calibration data, or their `"max"`; `"mse"`, which loses least in `timesteps` steps; `"gaussian"`,
            the same from mean and variance alone; `"ltb"`, local threshold balancing; `"auto"`, whichever of
            percentile, mse and ltb comes closest to the source network on the data; or `"none"`, where it
            is 1. See `docs/choosing_options.md`.
        percentile: In percent, in (0, 100]. Given alone it sets `normalization` too.
        per_channel: Whether every channel has a scale of its own, instead of every layer. Depthwise
            convolutions always have.
        input_encoding: `"current"`: inputs are constant currents. `"poisson"`: inputs are random
            spikes, see `keras_snn.layers.PoissonEncoder`; integers that an Embedding or the like looks up
            stay as they are. `"events"`: the user gives spikes, or other values, for every step,
            `(batch, time, …)`; the source network sees their average over time. `"times"`: neurons of a time
            code send the inputs, from 0 or −λ to λ, the largest on the calibration data; needs a time code.
        input_rate: Spikes per step of the largest input, in (0, 1]; for `"poisson"`.
        max_pool: `"exact"`, `"fir"`, `"avg"` or `"exp"`; see `keras_snn.layers.SpikingMaxPool`.
        softmax: `"potential"`, `"poisson"` or `"clock"`; see `keras_snn.layers.SpikingSoftmax`.
            With the last two the outputs are spike rates.
        delay: Steps that a layer of neurons waits for each one before it, with its potential held.
        readout_delay: Number of first steps that the read-out leaves out; `"auto"` chooses it on the data.
        readout_weighting: How much each step counts in the output: all the same, `"uniform"`, or step s
            s times, `"linear"`, so that what the first spikes of a deep network lack is soon forgotten.
            `"auto"`, the default, takes what is closer to the source network on the data, and without data
            `"linear"` after more than four layers of neurons. It is `"uniform"` with neurons whose spikes add
            up to the right number, and where inputs are spikes.
        bias_correction: `"auto"` is `"either"` with data, unless inputs are spikes of every step.
            `True` or `"bias"` adds to the current of every step, layer by layer, what the
            rates of a channel lack on the average of the calibration data, where that helps on other samples;
            `"potential"` adds the same to the potential before the first step, and `"either"` what of both
            helps a layer more.
        relays: Whether a sum that no relu rectifies and that goes into weights, as after a linear bottleneck
            or an average, is sent in spikes; otherwise it is handed on as a number, which takes a
            multiplication at every synapse and step. Neurons `"if"` send it as relu(x) − relu(−x), time codes
            by spikes with a sign, others not at all. `"auto"` sends it where that takes fewer operations on
            the calibration data; by time codes if it loses no more than neurons elsewhere. Needs data.
            Other presets than the default hand rates on as numbers.
        nonspiking: `"error"` lists all operations that are neither linear nor relu; `"allow"` runs
            them on the average of their inputs, see `keras_snn.layers.NonSpiking`.
        layer_options: Options of single layers: a dict of dicts of `"percentile"`, `"neuron"`,
            `"per_channel"`, `"normalization"` and `"relays"`, by the name of a source layer or a
            regular expression for all of it. Where several match, later ones win.
        unroll: Time steps per pass through the loop over time, or `"auto"`. Changes speed only.
        dtype: Dtype or policy of the spiking model; that of `model` if `None`. With `"bfloat16"` spikes
            stay exact and potentials are in float32; weights and currents are rounded. So are those of
            `"mixed_bfloat16"`, which keeps weights in float32, to train on, and rounds them at every step.
        weight_bits: 2 to 16: weights become integers of so many bits, with a scale of each channel, and
            biases, thresholds and potentials integers to match, so that every engine, backend and order of
            additions gives the same spikes. Needs data; see "Integers" in `docs/choosing_options.md`.
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
        Rueckauer et al. (2016), arXiv:1612.04052. Scales:
        `keras_snn.conversion.normalization.ScaleRule`. Bias correction:
        Li et al. (2021), ICML, "A free lunch from ANN".
    """
    given = dict(locals())
    model, data = given.pop("model"), given.pop("calibration_data")
    wish = {name: given.pop(name) for name in ("y", "max_loss", "minimize", "neurons")}
    options = Options(**given, calibrated=data is not None)
    options.check_data()
    _check_is_analog(model)
    source = functional(model, data)
    if max_loss is not None:
        check_chosen(data, given)
        snn = _cheapest(source, data, options, **wish)
    else:
        check_unused(wish)
        snn = _converted(source, data, options)
    compile_like(snn, model)
    return snn


def _cheapest(model, data, options, *, y, **wish):
    """Return the spiking model of `convert` with `max_loss`."""
    wish = Wish(**wish)
    measured = {}

    def with_options(samples, **changed):
        of_one = dataclasses.replace(options, **changed, verbose=0)
        # Scales of all candidates follow from the same measurements, of graphs with the relays that such
        # neurons can have, of channels or of layers.
        key = of_one.neuron.is_time_code, of_one.neuron.has_unit_spikes, of_one.per_channel
        if key not in measured:
            measured[key] = _measured(model, samples, of_one)
        graph, found = measured[key]
        return _with_neurons(model, samples, of_one, list(graph), found)

    on_data = {"batch_size": options.batch_size, "verbose": options.verbose}
    return search(model, data, y, wish, with_options, **on_data)


def _converted(model, data, options):
    """Return the spiking model of `convert`, whose steps these are."""
    snn = _with_neurons(model, data, options, *_measured(model, data, options))
    if data is not None:

        def convert_otherwise(**changed):
            other = dataclasses.replace(options, **changed, verbose=0)
            return _with_neurons(model, data, other, *_measured(model, data, other))

        warn_of_loss(model, snn, data, options, convert_otherwise)
    return snn


def _measured(model, data, options):
    """Return the folded graph of a network, alone in a list, and what is measured of it."""
    shapes = shapes_of_data(model, data)
    source = lower(
        model,
        input_shapes=shapes,
        nonspiking=options.nonspiking,
        constant_inputs=options.has_constant_inputs,
    )
    _check_becomes_spiking(model, source, options.nonspiking)
    return measured_graph(source, data, options, policy_of(model))


def _with_neurons(model, data, options, held, measured):
    """Return the spiking model of a graph and its measurements, as `_measured` returns them."""
    options_of = options_by_layer(held[0], options)
    build = _Build(model, data, options, options_of, measured)
    if options.normalization == "auto":
        candidates = (build.model_of(list(held), method) for method in ("percentile", "mse", "ltb"))
        on_data = {"batch_size": options.batch_size, "verbose": options.verbose}
        snn = closest(candidates, data, **on_data)
    else:
        # The graph is gone when the layers of the one after it are made.
        snn = build.model_of(held, options.normalization)
    snn = refined(snn, data, options, options_of)
    _warn_of_silence(snn.conversion_report)
    return snn


class _Build:
    """Makes the spiking model of a folded graph, for a normalization."""

    def __init__(self, model, data, options, options_of, measured):
        self.model, self.data = model, data
        self.options, self.options_of, self.measured = options, options_of, measured
        self.policy = options.dtype or policy_of(model)

    def model_of(self, held, method):
        """Return the model; a normalization `method` takes the place of `"auto"`."""
        options, policy = self.options, self.policy
        of_graph = held, self.data, self.measured
        program, chosen = spiking_program(*of_graph, options, self.options_of, method=method, policy=policy)
        shares = input_shares(program)
        snn, nodes = build_with_nodes(program, unroll=options.unroll, name=self.model.name)
        # A Sequential has no names of outputs.
        if hasattr(self.model, "output_names"):
            snn.output_names = list(self.model.output_names)
        freeze_like(snn, nodes, self.model)
        listed = options.with_normalization(method).described() | chosen
        if any(layer.draws for layer in internals(snn).network.stateful.values()):
            listed["seed"] = options.seed
        versions = {"keras_snn": __version__, "keras": keras.__version__, "numpy": np.__version__}
        silent = silent_sides(self.measured)
        histograms = {name: h for name, h in self.measured.histograms.items() if name not in silent}
        snn.conversion_report = report_on(snn, nodes, histograms, shares, listed, versions)
        return snn


def _check_is_analog(model):
    if isinstance(model, SpikingModel) or any(isinstance(layer, SpikingLayer) for layer in layers_of(model)):
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
        stacklevel=5,
    )


def _warn_of_silence(report):
    if report.silent_layers:
        names = ", ".join(repr(name) for name in report.silent_layers)
        warnings.warn(
            f"Silent on all calibration data, scale 1 assumed: {names}. Check that the data is scaled as "
            "for training, or give more of it.",
            stacklevel=5,
        )
