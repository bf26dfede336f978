"""What is measured of a network, and the scale of every layer that follows from it."""

import dataclasses
import warnings

import numpy as np

from keras_snn.conversion.calibration import Histogram, calibrate, moments_on
from keras_snn.conversion.normalization import ScaleRule, channels_apart, choose_scales, relus, trained_scales
from keras_snn.conversion.options import LayerNames
from keras_snn.conversion.relays import is_of_input
from keras_snn.conversion.without_data import assumed_maxima, moments_without_data
from keras_snn.graph import nodes as kinds

__all__ = ["Measured", "measure", "options_by_layer", "scales_of"]


def options_by_layer(graph, options):
    """Return the `Options` of every activation that becomes neurons, by name of the node.

    Raises:
        ValueError: If `layer_options` names a layer that has no neurons.
    """
    spiking = [n for n in graph.nodes.values() if isinstance(n, kinds.Activation) and n.becomes_spiking]
    names = LayerNames({node.name: _layer_names(graph, node) for node in spiking})
    names.check(options.layer_options)
    sent = {node.name for node in spiking if is_of_input(graph, node)}
    return {
        node: (options.of_inputs() if node in sent else options).of_layer(of_node)
        for node, of_node in names.by_node.items()
    }


def _layer_names(graph, node):
    """Return the names of the source layers that an activation and the linear layer before it come from."""
    before = graph.weighted_before(node)
    origins = node.origins + (before.origins if isinstance(before, kinds.Affine) else ())
    # Later calls of a shared layer have the options of the first.
    return tuple(dict.fromkeys(origin.split("/call_")[0] for origin in origins))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of the activations of a network.

    Attributes:
        histograms: `Histogram` of every relu on data, by name; empty without data.
        normal: `Histogram` of normal distributions, for those relus whose scale follows from moments.
        maxima: The largest value of every input, by name.
        relays: `Relay` of the values that weights take as numbers without it, by name, where neurons live in
            steps.
    """

    histograms: dict
    normal: dict
    maxima: dict
    relays: dict = dataclasses.field(default_factory=dict)


def measure(source, graph, data, options_of, *, needs_maxima, batch_size, verbose, dtype):
    """Return what is `Measured` of the relus of a folded graph, on data or without it.

    Args:
        source: The `Graph` before folding, which has the moments of batch norms.
        graph: The folded `Graph`.
        data: Calibration data, or `None`.
        options_of: `Options` by name of the relu.
        needs_maxima: Whether to measure the inputs too.
        batch_size: Samples per batch.
        verbose: 0 shows no progress bar.
        dtype: Dtype or policy of the source network.
    """
    on_data = {"batch_size": batch_size, "verbose": verbose, "dtype": dtype}
    channels = channels_apart(graph, lambda name: options_of[name].per_channel)
    trained = trained_scales(graph)
    methods = {n.name: options_of[n.name].normalization for n in relus(graph) if n.name not in trained}
    needs_scales = any(method != "none" for method in methods.values())
    histograms, moments, maxima = {}, {}, assumed_maxima(source)
    if data is not None and (relus(graph) or needs_maxima):
        histograms = calibrate(graph, data, channels=channels, inputs_too=needs_maxima, **on_data)
        if needs_maxima:
            maxima = {name: float(histograms[name].maximum[0]) or 1.0 for name in maxima}
        if "gaussian" in methods.values():
            found = moments_on(graph, data, **on_data)
            moments = {name: found[name] for name, method in methods.items() if method == "gaussian"}
    elif needs_scales:
        moments = moments_without_data(source)
        _warn_without_data()
    normal = {
        name: Histogram.of_normal(*of_one, per_channel=name in channels) for name, of_one in moments.items()
    }
    for name, (mean, variance) in moments.items():
        if graph.nodes[name].is_relay:
            # What is negative is sent too.
            normal[name] += Histogram.of_normal(-mean, variance, per_channel=name in channels)
    return Measured(histograms, normal, maxima)


def scales_of(graph, measured, options_of, method=None):
    """Return λ of every relu by name.

    Args:
        graph: The folded `Graph`.
        measured: `Measured` of it.
        options_of: `Options` by name of the relu.
        method: Normalization in the place of `"auto"`.
    """
    scales = {node.name: 1.0 for node in relus(graph)}
    distributions = {**measured.histograms, **measured.normal}
    if distributions:
        scales = choose_scales(graph, distributions, lambda name: _rule(options_of[name], method))
    scales |= trained_scales(graph)
    for node in relus(graph):
        if np.isfinite(node.max_value):
            fitted = options_of[node.name].neuron.fitted_scale(scales[node.name], node.max_value)
            scales[node.name] = float(fitted) if np.ndim(fitted) == 0 else fitted
    return scales


def _rule(options, method):
    chosen = method if options.normalization == "auto" else options.normalization
    return ScaleRule(chosen, options.percentile, options.neuron, options.passes)


def _warn_without_data():
    warnings.warn(
        "keras_snn.convert estimated the scales from batch normalization and weights, without data. "
        "Give some hundred training samples as `calibration_data` for fewer time steps at the same accuracy.",
        stacklevel=7,
    )
