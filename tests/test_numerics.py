"""What rounding does in the long run, and weights and scales far from 1."""

from unittest import mock

import contracts
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.layers import PoissonEncoder, Readout, SpikingActivation, SpikingMaxPooling1D, SpikingSoftmax
from keras_snn.neurons import (
    Burst,
    Corrected,
    Delayed,
    IntegrateAndFire,
    LeakyIntegrateAndFire,
    MultiThreshold,
    SignedIntegrateAndFire,
)

POLICIES = ["float32", "float64", "mixed_bfloat16", "mixed_float16"]
# 1e6 and nearly 1e20, as powers of two, which round nothing.
SIX_ORDERS, TWENTY_ORDERS = 20, 66
SCALES = [
    ("percentile", False),
    ("percentile", True),
    ("max", True),
    ("mse", True),
    ("gaussian", False),
    ("gaussian", True),
    ("ltb", False),
]

to_numpy = keras.ops.convert_to_numpy


# What runs eagerly runs fastest in them.
pytestmark = pytest.mark.long_chunks


@pytest.fixture
def _eager():
    # Tracing takes longer than all else. `monkeypatch` would put back what others have undone by then.
    with mock.patch.object(keras.Model, "run_eagerly", True):
        yield


def seen(x, policy):
    """Return what a layer sees of numbers, in float64, and how far its next number is from 1."""
    dtype = keras.DTypePolicy(policy).compute_dtype
    epsilon = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
    return to_numpy(keras.ops.cast(x, dtype)).astype("float64"), epsilon[dtype]


def handwritten(chains, shape, timesteps):
    """Return a spiking model of chains of layers from one input, with one output each, of one dtype."""
    calls, outputs, ordered = [], {}, []
    for chain, steps in chains.items():
        source, tensor = "x", keras.KerasTensor((None, 1, *shape))
        for i, layer in enumerate(steps):
            tensor = layer(tensor)
            calls.append({"name": f"{chain}_{i}", "layer": layer.name, "inputs": [source]})
            source = f"{chain}_{i}"
            ordered.append(layer)
        outputs[chain] = source
    given = {"inputs": "x", "outputs": outputs, "shapes": {"x": shape}, "dtype": ordered[-1].dtype_policy}
    # Short chunks compile soonest.
    return keras_snn.SpikingModel(ordered, calls, timesteps=timesteps, unroll=4, **given)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.compiled
def test_rates_stay_within_one_spike_over_ten_thousand_steps(policy, rng):
    """|r − clip(z/θ, 0, 1)| ≤ 1/t, as in the theory: each step rounds a potential by half a unit, no more."""
    timesteps, theta = 10_000, rng.uniform(0.3, 3.0)
    neurons = {
        "if": IntegrateAndFire(theta),
        "floor": IntegrateAndFire(theta, initial_potential=0.0),
        "signed": SignedIntegrateAndFire(v_threshold=theta),
        "multi": MultiThreshold(4, v_threshold=theta),
        "burst": Burst(3, v_threshold=theta),
        "corrected": Corrected(IntegrateAndFire(theta), current=(theta / 8,)),
    }

    def spiking(neuron):
        return SpikingActivation("relu", neuron=neuron, dtype=policy)

    chains = {name: [spiking(neuron), Readout(dtype="float64")] for name, neuron in neurons.items()}
    chains["pool"] = [spiking(neurons["if"]), SpikingMaxPooling1D(2, dtype=policy), Readout(dtype="float64")]
    few = np.array([0.0, -1e-6, 1e-6, 1e-3, 0.999, 1.0, 1.5, -2.0, 0.5, 0.25])
    a = np.concatenate([few, rng.uniform(-0.2, 1.2, 60), rng.uniform(0, 4, 30)])
    snn = handwritten(chains, (len(a), 1), timesteps)
    rates = snn.predict((theta * a)[None, :, None], verbose=0)
    z = seen(theta * a, policy)[0] / theta
    # Of potentials.
    epsilon = 2.0**-52 if policy == "float64" else 2.0**-23
    for name, neuron in neurons.items():
        largest = neuron.largest_spike
        expected = np.clip(z + 0.125 if name == "corrected" else z, 0, largest)
        error = np.abs(rates[name][0, :, 0] - expected)
        assert error.max() <= 1 / timesteps + (1 + largest) * epsilon, name
    expected = np.clip(z, 0, 1)
    assert (
        np.abs(rates["pool"][0, :, 0] - expected.reshape(-1, 2).max(axis=1)).max() <= 1 / timesteps + epsilon
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.compiled
def test_readouts_of_half_precision_count_ten_thousand_spikes(policy, rng):
    """In half precision a sum would stop at 256, or at 2048."""
    a = rng.uniform(0, 1, 40)
    snn = handwritten({"y": [SpikingActivation("relu", dtype=policy), Readout(dtype=policy)]}, (40,), 10_000)
    rates = snn.predict(a[None], verbose=0)["y"][0].astype("float64")
    expected, epsilon = seen(a, policy)
    assert np.abs(rates - expected).max() <= 1e-4 + epsilon


@pytest.mark.parametrize("policy", POLICIES)
def test_states_are_never_less_than_float32(policy, rng):
    neurons = [
        IntegrateAndFire(),
        LeakyIntegrateAndFire(),
        SignedIntegrateAndFire(4),
        MultiThreshold(),
        Burst(),
        Delayed(Corrected(IntegrateAndFire(), potential=(0.25, 0.5)), 1),
    ]
    spiking = [SpikingActivation("relu", neuron=neuron, dtype=policy) for neuron in neurons]
    others = [
        Readout(dtype=policy),
        SpikingSoftmax(method="poisson", dtype=policy),
        SpikingMaxPooling1D(2, dtype=policy),
        SpikingMaxPooling1D(2, method="exp", dtype=policy),
        PoissonEncoder(dtype=policy),
        keras_snn.layers.NonSpiking(layers.Activation("tanh", dtype=policy), dtype=policy),
    ]
    x = rng.uniform(0, 1, (2, 3, 4, 2)).astype("float32")
    wanted = "float64" if policy == "float64" else "float32"
    for layer in spiking + others:
        layer = type(layer).from_config({**layer.get_config(), "return_state": True})
        _, *state = layer(x)
        kinds = [keras.backend.standardize_dtype(value.dtype) for value in state]
        # Keys and steps of random numbers are integers.
        assert set(kinds) <= {wanted, "int32"}, layer.get_config()
        assert wanted in kinds or isinstance(layer, PoissonEncoder)


def network(rng):
    """A CNN of two layers of neurons without batch norms, whose scales are apart, and data for it."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.MaxPooling2D(2),
            layers.Conv2D(5, 2, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(3, name="last"),
        ]
    )
    networks.randomize(model, rng)
    # So that every channel is often active.
    model.get_layer("first").bias.assign(rng.uniform(0.8, 1.2, 4))
    model.get_layer("second").bias.assign(rng.uniform(2.5, 3.5, 5))
    return model, networks.data_for(model, rng, samples=128)


def rescaled(model, first, second, *, compensated=True):
    """Return a copy whose relus give 2^first and 2^second as much, number or array over channels.

    If `compensated`, what follows takes them for as much less, so that the outputs are the same.
    """
    first, second = (2.0 ** np.broadcast_to(k, n).astype("float64") for k, n in ((first, 4), (second, 5)))
    undo_first, undo_second = (1 / first, 1 / second) if compensated else (np.ones(4), np.ones(5))
    w1, b1, w2, b2, w3, b3 = model.get_weights()
    rows = np.tile(undo_second, len(w3) // 5)
    other = keras.models.clone_model(model)
    other.set_weights(
        [w1 * first, b1 * first, w2 * undo_first[:, None] * second, b2 * second, w3 * rows[:, None], b3]
    )
    return other


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (TWENTY_ORDERS, 0),
        (-TWENTY_ORDERS, 0),
        (0, TWENTY_ORDERS),
        (TWENTY_ORDERS, TWENTY_ORDERS),
        (-TWENTY_ORDERS, -TWENTY_ORDERS),
        (-SIX_ORDERS, SIX_ORDERS),
    ],
)
def test_scales_of_layers_change_no_spike(first, second, rng):
    """What relu is: 2ᵏ·a before, W/2ᵏ after, the same network; bit for bit, however large k."""
    model, x = network(rng)
    snn = contracts.convert(model, x, timesteps=12)
    other = contracts.convert(rescaled(model, first, second), x, timesteps=12)
    run, again = (s.simulate(x[:8], record="spike_trains") for s in (snn, other))
    contracts.assert_same(again.spike_trains, run.spike_trains)
    contracts.assert_same(again.outputs, run.outputs)
    assert all(trains.any() for trains in run.spike_trains.values())


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize("normalization", ["percentile", "max"])
def test_scales_of_channels_six_orders_apart_change_no_spike_if_each_has_its_own(normalization, rng):
    model, x = network(rng)
    options = {"per_channel": True, "normalization": normalization, "timesteps": 12}
    first, second = np.array([-10, 10, 3, 0]), np.array([10, -4, 0, -10, 7])
    snn = contracts.convert(model, x, **options)
    other = contracts.convert(rescaled(model, first, second), x, **options)
    run, again = (s.simulate(x[:8], record="spike_trains") for s in (snn, other))
    contracts.assert_same(again.spike_trains, run.spike_trains)
    contracts.assert_same(again.outputs, run.outputs)


def assert_follows(snn, model, x, *, normalization="max"):
    """The outputs are finite and near those of the source: 256 steps round to less than 1 %."""
    outputs, expected = snn.predict_on_batch(x), model.predict_on_batch(x)
    assert np.isfinite(outputs).all()
    error = np.abs(outputs.astype("float64") - expected).mean() / np.abs(expected.astype("float64")).mean()
    # "ltb" clips on purpose.
    assert error < (0.1 if normalization == "ltb" else 0.03)


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize("per_channel", [False, True])
def test_channels_six_orders_apart_follow_the_source(per_channel, rng):
    """One λ for all silences the smallest, which hardly count."""
    model, x = network(rng)
    model = rescaled(model, [-20, 0, -7, -13], [0, -20, 0, -14, -1], compensated=False)
    snn = contracts.convert(model, x, per_channel=per_channel, timesteps=256)
    assert_follows(snn, model, x[:32])


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize(("normalization", "per_channel"), SCALES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_very_small_and_large_weights_follow_the_source(sign, normalization, per_channel, rng):
    model, x = network(rng)
    # A histogram of normal values has no bins for the very small ones.
    exponent = sign * (SIX_ORDERS if (sign, normalization) == (-1, "gaussian") else TWENTY_ORDERS)
    model = rescaled(model, exponent, 0)
    snn = contracts.convert(
        model, x, normalization=normalization, percentile=100, per_channel=per_channel, timesteps=256
    )
    assert_follows(snn, model, x[:32], normalization=normalization)


@pytest.mark.usefixtures("_eager")
def test_outputs_may_be_very_small_or_large(rng):
    model, x = network(rng)
    for exponent in (-TWENTY_ORDERS, TWENTY_ORDERS):
        other = rescaled(model, exponent, 0, compensated=False)
        other.get_layer("second").bias.assign(np.zeros(5))
        other.get_layer("last").bias.assign(np.zeros(3))
        assert_follows(contracts.convert(other, x, timesteps=256), other, x[:32])


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_large_weights_fit_into_half_precision(policy, rng):
    """Where activations of the source would not: 2¹⁷ is more than float16 has."""
    model, x = network(rng)
    snn = contracts.convert(rescaled(model, 17, 17), x, timesteps=256, dtype=policy)
    assert_follows(snn, model, x[:32])


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize(("normalization", "per_channel"), SCALES)
def test_dead_channels_change_nothing(normalization, per_channel, rng):
    """Channels of zeros, and those that are never active, beside live ones."""
    model, x = network(rng)
    w1, b1, w2, b2, w3, b3 = model.get_weights()
    w1[..., 1], b1[1], b1[3] = 0, 0, -100
    w2[..., 2], b2[2], b2[4] = 0, 0, -1e20
    model.set_weights([w1, b1, w2, b2, w3, b3])
    snn = contracts.convert(
        model, x, normalization=normalization, percentile=100, per_channel=per_channel, timesteps=256
    )
    assert_follows(snn, model, x[:32], normalization=normalization)
    counts = snn.simulate(x[:8], record="spike_counts").spike_counts
    for name, dead in (("first", [1, 3]), ("second", [2, 4])):
        assert not counts[name][..., dead].any()
        assert counts[name].any()


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize(("normalization", "per_channel"), SCALES)
def test_a_network_that_is_dead_on_all_data_stays_finite(normalization, per_channel, rng):
    model, x = network(rng)
    w1, _, w2, _, w3, b3 = model.get_weights()
    model.set_weights([w1, np.full(4, -100.0), w2, np.zeros(5), w3, b3])
    snn = contracts.convert(model, x, normalization=normalization, per_channel=per_channel, timesteps=16)
    np.testing.assert_allclose(snn.predict(x[:4], verbose=0), np.tile(b3, (4, 1)), rtol=1e-6)
    # And wakes up on what is a thousand times as large.
    assert np.isfinite(snn.predict(1000 * x[:4], verbose=0)).all()
