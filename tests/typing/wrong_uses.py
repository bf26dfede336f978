"""Wrong uses of the public names, each of which a type checker must find; never run.

The comment names the rule of pyright that finds it.
"""

import keras
import numpy as np
from typing_extensions import assert_type

import keras_snn
from keras_snn import layers, neurons, plots


def converting(model: keras.Model, x: np.ndarray):
    keras_snn.convert(model, x, timestep=8)  # wrong: reportCallIssue
    keras_snn.convert(model, x, 8)  # wrong: reportArgumentType
    keras_snn.convert(model, x, timesteps="8")  # wrong: reportArgumentType
    keras_snn.convert(model, x, normalization="percentiles")  # wrong: reportArgumentType
    keras_snn.convert(model, x, input_encoding="rate")  # wrong: reportArgumentType
    keras_snn.convert(model, x, max_pool="max")  # wrong: reportArgumentType
    keras_snn.convert(model, x, softmax="spiking")  # wrong: reportArgumentType
    keras_snn.convert(model, x, bias_correction="all")  # wrong: reportArgumentType
    keras_snn.convert(model, x, readout_delay="automatic")  # wrong: reportArgumentType
    keras_snn.convert(model, x, nonspiking=True)  # wrong: reportArgumentType
    keras_snn.convert(model, x, neuron=4)  # wrong: reportArgumentType
    keras_snn.convert(model, 500)  # wrong: reportArgumentType
    assert_type(keras_snn.convert(model), keras_snn.SpikingModel | None)  # wrong: reportAssertTypeFailure
    keras_snn.check(model, nonspiking="allowed")  # wrong: reportArgumentType
    assert keras_snn.check(model).verdict  # wrong: reportAttributeAccessIssue


def simulating(snn: keras_snn.SpikingModel, x: np.ndarray):
    snn.simulate(x, record=["spikes"])  # wrong: reportArgumentType
    snn.simulate(x, recorded=["spike_counts"])  # wrong: reportCallIssue
    snn.simulate(x, exit="confident", level=0.9)  # wrong: reportArgumentType
    assert snn.simulate(x).accuracy  # wrong: reportAttributeAccessIssue
    snn.predict(x, finite=True)  # wrong: reportCallIssue
    snn.timesteps = "8"  # wrong: reportAttributeAccessIssue
    snn.unroll = "never"  # wrong: reportAttributeAccessIssue


def looking(snn: keras_snn.SpikingModel, x: np.ndarray):
    keras_snn.report(snn, x, energy="7nm")  # wrong: reportArgumentType
    keras_snn.count_operations(snn, x).energy("45nm_float64")  # wrong: reportArgumentType
    keras_snn.calibrate_exit(snn, x)  # wrong: reportCallIssue
    keras_snn.export_nir(snn, "net.nir", accept=["resets"])  # wrong: reportArgumentType
    keras_snn.export_nir(snn, "net.nir", pooling="max")  # wrong: reportArgumentType
    keras_snn.import_nir("net.nir", reset="none")  # wrong: reportArgumentType
    plots.accuracy_over_time([0.5], color="red")  # wrong: reportCallIssue
    plots.error_per_layer(x)  # wrong: reportArgumentType
    keras_snn.callbacks.SpikeRateTensorBoard(logdir="logs")  # wrong: reportCallIssue


def making_layers():
    layers.SpikingDense("32")  # wrong: reportArgumentType
    layers.SpikingDense(32, nueron="if")  # wrong: reportCallIssue
    layers.SpikingDense(32, activation="tanh")  # wrong: reportArgumentType
    layers.SpikingConv2D(16)  # wrong: reportCallIssue
    layers.SpikingConv2D(16, 3, stateful="yes")  # wrong: reportArgumentType
    layers.SpikingMaxPool(2, method="mean")  # wrong: reportArgumentType
    layers.SpikingSoftmax(method="exact")  # wrong: reportArgumentType
    layers.PoissonEncoder(rates=0.5)  # wrong: reportCallIssue
    layers.BinaryActivation("step")  # wrong: reportArgumentType
    neurons.IntegrateAndFire(reset="none")  # wrong: reportArgumentType
    neurons.IntegrateAndFire(threshold=2.0)  # wrong: reportCallIssue
    neurons.Binary("step")  # wrong: reportArgumentType
    neurons.Burst(gamma="5")  # wrong: reportArgumentType
