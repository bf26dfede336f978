"""From a network and what is measured of it to the program that runs: for `convert` and for `check`."""

import dataclasses

import keras

from keras_snn.conversion import rate_relays
from keras_snn.conversion.composing import with_composed_maps
from keras_snn.conversion.densities import rates_of
from keras_snn.conversion.mixed_levels import with_mixed_levels
from keras_snn.conversion.normalization import normalize
from keras_snn.conversion.place_neurons import depth_of, encode, place_readouts, to_spiking
from keras_snn.conversion.relays import with_relays, without_costly_relays
from keras_snn.conversion.scales import Measured, measure, options_by_layer, scales_of
from keras_snn.graph.branches import with_branches
from keras_snn.graph.passes import fold, free_output_relus, pool_by_axes
from keras_snn.graph.program import make_program

__all__ = ["layers_of", "measured_graph", "policy_of", "spiking_program"]


def measured_graph(source, data, options, policy, *, with_scales=True):
    """Return the folded graph of a network, alone in a list, and what is `Measured` of it.

    Args:
        source: The `Graph` of the network, as it was lowered.
        data: Calibration data, or `None`.
        options: `Options`.
        policy: Dtype policy of the network.
        with_scales: Whether anything is measured at all.
    """
    source = with_branches(free_output_relus(source), pools=options.max_pool == "exact")
    graph = _folded(source, (options.dtype, policy))
    if options.neuron.is_time_code and data is not None:
        graph = with_relays(graph, of_inputs=options.input_encoding == "times")
    relays = {}
    if rate_relays.can_relay(graph, options):
        graph, relays = rate_relays.with_all_relays(graph)
    if not with_scales:
        return [graph], Measured({}, {}, {}, relays)
    options_of = options_by_layer(graph, options)
    on_data = {"batch_size": options.batch_size, "verbose": options.verbose}
    needs_maxima = options.input_encoding == "poisson"
    of_model = {"needs_maxima": needs_maxima, "dtype": policy, **on_data}
    # Only one graph holds weights beside those of the two models: that of the source goes.
    measured = measure(source, graph, data, options_of, **of_model)
    return [graph], dataclasses.replace(measured, relays=relays)


def spiking_program(held, data, measured, options, options_of, *, method, policy, rates=None):
    """Return the `Program` of a folded graph, and a dict of what was chosen for it, for the report.

    Args:
        held: The graph, alone in a list that it is taken out of.
        measured: What is `Measured` of it.
        data: Calibration data, or `None`.
        options: `Options`.
        options_of: Those of each relu, by name.
        method: Normalization that takes the place of `"auto"`.
        policy: Dtype policy of the spiking network.
        rates: Spikes in a step by name of the relu, in the place of what is measured.
    """
    graph, of_user = held.pop(), options_of
    if data is not None:
        options_of = with_mixed_levels(graph, data, measured, options_of, method, policy)
    scales = scales_of(graph, measured, options_of, method)
    graph, as_numbers = without_costly_relays(graph, measured.histograms, scales, options_of, of_user)
    weighting = options.weighting(depth_of(graph))
    if rates is None:
        rates = rates_of(options.neuron, measured.histograms, scales)
    graph = rate_relays.without_relays(graph, measured.relays)
    graph = with_composed_maps(graph, rates, constant_inputs=options.has_constant_inputs)
    if measured.relays:
        graph, left = rate_relays.with_paying_relays(graph, rates, measured.relays, of_user)
        as_numbers |= left
        scales = scales_of(graph, rate_relays.pooled_as(graph, measured, options_of), options_of, method)
        # A side that is 0 on these data may not be on others: it has the scale of the other side.
        silent = rate_relays.silent_sides(measured)
        scales |= {side: scales[other] for side, other in silent.items() if side in scales}
    graph = to_spiking(
        normalize(graph, scales),
        lambda name: options_of[name].neuron,
        scales,
        timesteps=options.passes,
        delay=options.delay,
    )
    chosen = {"readout_weighting": weighting} | ({"sums_as_numbers": as_numbers} if as_numbers else {})
    return _program(graph, measured, options, weighting, policy), chosen


def _program(graph, measured, options, weighting, policy):
    if options.input_encoding == "poisson":
        graph = encode(graph, measured.maxima, options.input_rate, options.seed)
    delay = 0 if options.readout_delay == "auto" else options.readout_delay
    average = {"delay": delay, "weighting": weighting}
    return make_program(
        place_readouts(graph, softmax=options.softmax, seed=options.seed, **average),
        timesteps=options.passes,
        events=options.input_encoding == "events",
        dtype=policy,
        max_pool=options.max_pool,
    )


def _folded(source, policies):
    """Return the folded graph, with the pools that a backend has for the dtypes of these policies."""
    graph = fold(source)
    dtypes = {policy.compute_dtype for policy in policies if policy is not None}
    if keras.backend.backend() == "tensorflow" and "float64" in dtypes:
        return pool_by_axes(graph)
    return graph


def policy_of(model):
    """Return the dtype policy of the layers with weights, if they have one, else that of the model."""
    layers = [layer for layer in layers_of(model) if layer.weights]
    policies = {layer.dtype_policy.name for layer in layers}
    return layers[0].dtype_policy if len(policies) == 1 else model.dtype_policy


def layers_of(model):
    """Yield the layers of a model and of those inside it."""
    for layer in model.layers if isinstance(model, keras.Model) else ():
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)
        else:
            yield layer
