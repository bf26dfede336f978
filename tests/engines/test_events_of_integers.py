"""The event-driven engine gives what integers give, to the bit, and adds up integers of few bits as such."""

import contracts
import keras
import networks
import numpy as np
import pytest
from integer_reference import Reference
from keras import layers
from running import few, named

from keras_snn import neurons
from keras_snn.engines.events import network
from keras_snn.engines.events.operations import OPERATIONS
from keras_snn.graph import nodes as kinds
from keras_snn.simulation import engine
from keras_snn.simulation.source import program_of

pytest.importorskip("numba")
pytestmark = pytest.mark.filterwarnings("ignore:Silent on all calibration data")
RECORDS = ["spike_trains", "membrane_potentials"]
IF = neurons.IntegrateAndFire
LAWS = [
    (networks.residual, 8, IF()),
    (networks.plain, 4, IF(reset="zero", initial_potential=0.3)),
    (networks.residual, 2, neurons.Delayed(IF(), 2)),
    (networks.dense_block, 8, IF()),
    (networks.decoder, 6, IF()),
    (networks.depthwise, 4, IF()),
    (networks.residual, 10, IF()),
    (networks.plain, 8, neurons.SignedIntegrateAndFire(levels=5)),
]


def whole_products(assembled):
    """Of every product of binary neurons, whether its weights are added up as integers."""
    is_product = assembled.operations[:, 0] == OPERATIONS.index("product")
    return assembled.operations[is_product, 11]


def check(snn, x):
    """What all neurons do and what comes out, on events, against integers of 64 bits, which it returns."""
    snn.engine = "events"
    program = program_of(snn)
    expected = Reference(program, x)
    assert any(np.any(spikes) for spikes in expected.spikes.values())
    for records, size in ((RECORDS, 4), ("spike_trains", 6)):
        run = snn.simulate(x, record=records, batch_size=size)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(8 * run.spike_trains[name], np.stack(spikes, axis=1))
            if size == 4:
                potentials = np.stack(expected.potentials[name], axis=1)
                np.testing.assert_array_equal(8 * run.membrane_potentials[name], potentials)
    for node in program.graph.nodes.values():
        if isinstance(node, kinds.Readout) and node.function == "linear":
            sums, steps = expected.sums[node.name] / 8, np.float32(program.timesteps - node.delay)
            outputs = sums.astype("float32") * (np.asarray(node.scale, "float32") * (1 / steps))
            place = program.graph.output_names.index(node.name)
            for found in (run.outputs, snn.predict(x, verbose=0)):
                np.testing.assert_array_equal(keras.tree.flatten(found)[place], outputs)
    return expected


@pytest.mark.parametrize(("architecture", "weight_bits", "neuron"), few(LAWS, 2), ids=named)
def test_it_computes_what_integers_give(architecture, weight_bits, neuron, rng):
    """Of any weights, and of inputs that are beyond those of calibration."""
    model = networks.build(architecture, rng)
    x = networks.data_for(model, rng, 6)
    snn = contracts.convert(model, x, timesteps=6, weight_bits=weight_bits, neuron=neuron)
    check(snn, 3 * x - 1)
    products = whole_products(engine.event_network(snn).assembled)
    assert np.all(products == (weight_bits <= 8))


def wide(hidden, sign, rng):
    """A network in which most inputs of the second layer fire, on weights of one sign in every unit."""
    size = 7 if isinstance(hidden[0], layers.Conv2D) else 1
    parts = [part for layer in hidden for part in (layer, layers.ReLU())]
    model = keras.Sequential([keras.Input((size, size, 1)), *parts, layers.Flatten(), layers.Dense(2)])
    model.set_weights([rng.uniform(0.5, 1, w.shape) / (w.size / w.shape[-1]) for w in model.get_weights()])
    kernel = model.layers[2].kernel
    kernel.assign(np.where(np.arange(kernel.shape[-1]) % 2, 1, sign) * keras.ops.convert_to_numpy(kernel))
    return model


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "hidden",
    [
        lambda: [layers.Dense(700), layers.Dense(110)],
        lambda: [layers.Conv2D(45, 1), layers.Conv2D(40, 5)],
        lambda: [layers.Conv2D(90, 1), layers.Conv2D(20, 3)],
    ],
    ids=["dense", "long list", "three lists"],
)
def test_sums_that_int16_does_not_hold_are_exact(hidden, sign, rng):
    """Weights up to 127, of which hundreds of one sign are added up in a step."""
    model = wide(hidden(), sign, rng)
    x = rng.uniform(0.9, 1, (6, *model.input_shape[1:])).astype("float32")
    snn = contracts.convert(model, x, timesteps=5, weight_bits=8)
    expected = check(snn, x)
    assert np.all(whole_products(engine.event_network(snn).assembled))
    potentials = np.stack(list(expected.potentials.values())[1]) // 8
    assert sign > 0 or np.diff(potentials, axis=0).min() < -(2**15)


def test_results_depend_on_neither_threads_nor_batches_nor_calls(rng, monkeypatch):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, 7)
    snn = contracts.convert(model, x, timesteps=40, weight_bits=8)
    snn.engine = "events"
    expected = snn.simulate(x, record=RECORDS)
    for threads, size in ((1, 7), (3, 3), (2, 1)):
        monkeypatch.setattr(network, "threads", lambda n=threads: n)
        run = snn.simulate(x, record="spike_trains", batch_size=size)
        for name, spikes in run.spike_trains.items():
            np.testing.assert_array_equal(spikes, expected.spike_trains[name])
        np.testing.assert_array_equal(snn.predict(x, batch_size=size, verbose=0), run.outputs)


def test_what_arrives_at_every_step_is_rounded_there(rng):
    model = networks.build(networks.residual, rng)
    x = rng.integers(-1, 3, (4, 6, 6, 6, 3)).astype("float32")
    snn = contracts.convert(model, x.mean(axis=1), timesteps=6, weight_bits=4, input_encoding="events")
    snn.engine = "events"
    # Halves are rounded up.
    run = snn.simulate(x - 0.5, record=RECORDS)
    expected = Reference(program_of(snn), x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(8 * run.spike_trains[name], np.stack(spikes, axis=1))
        np.testing.assert_array_equal(
            8 * run.membrane_potentials[name], np.stack(expected.potentials[name], axis=1)
        )
