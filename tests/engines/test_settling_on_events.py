"""Steps after the input has ended are on events what they are on the compiled engine."""

import dataclasses

import keras
import networks
import numpy as np
import pytest
from keras import layers
from running import named
from test_events import RECORDS, assert_same, corrected, on

import keras_snn
from keras_snn import neurons
from keras_snn.simulation import engine
from keras_snn.simulation.building import build
from keras_snn.simulation.source import program_of

pytest.importorskip("numba")
pytestmark = pytest.mark.filterwarnings("ignore:Silent on all calibration data")


def check(snn, x, **options):
    """Records, outputs and the number of steps without input; in batches too. Return the run on events."""
    compiled, events = (
        on(snn, name, x, record=RECORDS, settle=True, batch_size=3, **options)
        for name in ("compiled", "events")
    )
    assert events.settling == compiled.settling
    # Outputs are sums over hundreds of steps, where one spike makes the next layer fire for long.
    assert_same(compiled, events, tolerance=1e-6 * max(1, np.abs(compiled.outputs_over_time).max()))
    return events


@pytest.mark.parametrize(
    "kind",
    [
        neurons.IntegrateAndFire(),
        neurons.IntegrateAndFire(reset="zero"),
        neurons.SignedIntegrateAndFire(),
        neurons.SignedIntegrateAndFire(levels=3),
        neurons.MultiThreshold(),
        neurons.Burst(gamma=3),
    ],
    ids=named,
)
def test_every_neuron_settles_alike(kind, rng):
    model = networks.build_dyadic(networks.residual, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    run = check(keras_snn.convert(model, x, timesteps=6, neuron=kind, verbose=0), x)
    # A reset to zero leaves nothing to fire with.
    assert (run.settling == 1) == (kind == neurons.IntegrateAndFire(reset="zero"))


@pytest.mark.parametrize("delay", [2, 6, 9], ids=lambda delay: f"{delay} steps")
def test_delays_go_on_and_readouts_count_no_more_steps(delay, rng):
    """Delays that end with the input, before and after it; the clock of read-outs stands still."""
    model = networks.build_dyadic(networks.plain, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    program = program_of(keras_snn.convert(model, x, timesteps=12, delay=1, readout_delay=delay, verbose=0))
    snn = build(corrected(program))
    check(snn, x, timesteps=2)
    run = check(snn, x, timesteps=6)
    assert np.ptp(run.outputs, axis=1).any() == (delay < 6)


@pytest.mark.parametrize("options", [{"weight_bits": 8}, {"readout_weighting": "linear"}], ids=str)
def test_integers_and_weighted_readouts_settle_alike(options, rng):
    model = networks.build_dyadic(networks.plain, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    check(keras_snn.convert(model, x, timesteps=6, neuron="signed", verbose=0, **options), x)


def test_events_settle_alike_and_fewer_steps_of_them_too(rng):
    model = networks.build_dyadic(networks.plain, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    snn = keras_snn.convert(model, x, timesteps=6, input_encoding="events", verbose=0)
    events = rng.integers(0, 2, (5, 6, *x.shape[1:])).astype("float32")
    check(snn, events)
    check(snn, events, timesteps=4)


def test_it_uses_the_weights_of_now_and_assembles_once(rng, monkeypatch):
    model = networks.build_dyadic(networks.plain, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    snn = keras_snn.convert(model, x, timesteps=6, neuron="signed", verbose=0)
    check(snn, x)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "assemble", None)
        on(snn, "events", x, settle=True)
    snn.set_weights([w / 2 for w in snn.get_weights()])
    check(snn, x)


@keras.saving.register_keras_serializable(package="tests")
@dataclasses.dataclass(frozen=True)
class EndsAlone(neurons.IntegrateAndFire):
    """Neurons that no engine knows once the input has ended."""

    def settled(self, timesteps):
        return Unknown(self.v_threshold)


@keras.saving.register_keras_serializable(package="tests")
@dataclasses.dataclass(frozen=True)
class Unknown(neurons.IntegrateAndFire):
    """Neurons without a form for engines."""

    def step_form(self):
        return None


def test_what_settles_in_another_way_is_left_to_the_compiled_engine(rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    networks.randomize(model, rng)
    x = networks.data_for(model, rng)
    snn = keras_snn.convert(model, x, timesteps=6, neuron=EndsAlone(), verbose=0)
    compiled, either = (on(snn, name, x, record=RECORDS, settle=True) for name in ("compiled", "auto"))
    assert_same(compiled, either, tolerance=0.0)
    with pytest.raises(ValueError, match="cannot run every part of .* neuron Unknown"):
        on(snn, "events", x, settle=True)
