import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn import quantized_reference
from keras_snn.layers import BinaryActivation

RECORDS = ["spike_trains", "spike_counts", "membrane_potentials"]


@pytest.fixture
def snn_and_data(rng):
    model = networks.build(networks.branches, rng)
    x = networks.data_for(model, rng, samples=10)
    return contracts.convert(model, x, timesteps=6, neuron="signed"), x


def test_settling_goes_on_after_the_steps_with_input(snn_and_data):
    snn, x = snn_and_data
    run, plain = (snn.simulate(x, record=RECORDS, settle=settle) for settle in (True, False))
    assert (run.timesteps, plain.timesteps, plain.settling) == (6, 6, 0)
    assert run.settling > 1
    for name, train in run.spike_trains.items():
        assert train.shape[1] == 6 + run.settling
        np.testing.assert_array_equal(train[:, :6], plain.spike_trains[name])
        np.testing.assert_array_equal(train.sum(axis=1), run.spike_counts[name])
        np.testing.assert_array_equal(run.firing_rates[name], run.spike_counts[name].mean(axis=0) / 6)
    assert not any(train[:, -1].any() for train in run.spike_trains.values())
    assert any(train[:, -2].any() for train in run.spike_trains.values())
    contracts.assert_same(run.outputs_over_time[:, :6], plain.outputs_over_time)
    contracts.assert_same(run.outputs_over_time[:, -1], run.outputs)


def test_settling_does_not_depend_on_batches(snn_and_data):
    """A batch that is silent earlier stays as it is until the others are."""
    snn, x = snn_and_data
    whole, parts = (snn.simulate(x, record=RECORDS, settle=True, batch_size=n) for n in (10, 1))
    assert whole.settling == parts.settling
    contracts.assert_same(parts.spike_trains, whole.spike_trains)
    for name, potential in whole.membrane_potentials.items():
        np.testing.assert_allclose(parts.membrane_potentials[name], potential, rtol=0, atol=1e-5)


def test_settling_uses_the_weights_of_now(snn_and_data):
    snn, x = snn_and_data
    snn.simulate(x, settle=True)
    snn.set_weights([0.8 * w for w in snn.get_weights()])
    expected = quantized_reference(snn).predict(x, verbose=0)
    contracts.assert_same(snn.simulate(x, settle=True).outputs, expected, tolerance=1e-5)


def test_settling_raises_when_neurons_never_stop(rng, monkeypatch):
    monkeypatch.setattr("keras_snn.simulation.settling._LONGEST", 20)
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, name="hidden"), BinaryActivation(name="sign")]
    )
    model.add(layers.Dense(2))
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=3)
    with pytest.raises(RuntimeError, match="Received: 'hidden' still fire after 20 steps."):
        snn.simulate(x, settle=True)


def test_settling_raises_when_the_output_is_random(rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=3, softmax="clock")
    with pytest.raises(ValueError, match="`settle` must be False for an output that draws spikes"):
        snn.simulate(x, settle=True)
