import dataclasses
import itertools
import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_snn import neurons
from keras_snn.neurons import (
    Binary,
    Burst,
    Corrected,
    Delayed,
    IntegrateAndFire,
    LeakyIntegrateAndFire,
    MultiThreshold,
    SignedIntegrateAndFire,
)


def simulate(neuron, currents):
    """Spikes and potentials of a neuron, `(time, neurons)`, for currents of that shape."""
    state = neuron.initial_state(currents.shape[1:], "float64")
    spikes, potentials = [], []
    for current in currents:
        fired, state = neuron.step(ops.convert_to_tensor(current, "float64"), state)
        spikes.append(ops.convert_to_numpy(fired))
        potentials.append(ops.convert_to_numpy(state[0]))
    return np.array(spikes), np.array(potentials)


def handwritten(currents, v_threshold, reset, initial_potential):
    """One neuron after the other, in plain Python, as the equations define."""
    spikes, potentials = np.zeros_like(currents), np.zeros_like(currents)
    for i in range(currents.shape[1]):
        v = initial_potential * v_threshold
        for t in range(len(currents)):
            v = v + currents[t, i]
            if v >= v_threshold:
                spikes[t, i] = 1
                v = v - v_threshold if reset == "subtract" else 0.0
            potentials[t, i] = v
    return spikes, potentials


@pytest.mark.parametrize(
    ("reset", "v_threshold"), list(itertools.product(("subtract", "zero"), (1.0, 0.7, 3.5)))
)
def test_integrate_and_fire_is_its_equations(reset, v_threshold, rng):
    currents = rng.normal(0.3, 0.8, (50, 40)) * v_threshold
    start = float(rng.uniform(0, 0.9))
    neuron = IntegrateAndFire(v_threshold=v_threshold, reset=reset, initial_potential=start)
    spikes, potentials = simulate(neuron, currents)
    expected_spikes, expected_potentials = handwritten(currents, v_threshold, reset, start)
    np.testing.assert_array_equal(spikes, expected_spikes)
    np.testing.assert_allclose(potentials, expected_potentials, rtol=0, atol=1e-12)


def test_reset_by_subtraction_conserves_charge(rng):
    neuron = IntegrateAndFire(v_threshold=1.3, initial_potential=0.2)
    currents = rng.normal(0.2, 1.0, (200, 30))
    spikes, potentials = simulate(neuron, currents)
    expected = 0.2 * 1.3 + currents.sum(axis=0) - 1.3 * spikes.sum(axis=0)
    np.testing.assert_allclose(potentials[-1], expected, rtol=0, atol=1e-11)


def test_rate_of_reset_by_subtraction_is_current_minus_rest_over_time(rng):
    """Equation of the first layer: r = a − (V(t) − V(0)) / (t·θ)."""
    current = rng.uniform(0, 1, 50)
    spikes, potentials = simulate(IntegrateAndFire(), np.tile(current, (77, 1)))
    expected = current - (potentials[-1] - 0.5) / 77
    np.testing.assert_allclose(spikes.mean(axis=0), expected, rtol=0, atol=1e-13)


def test_spike_count_rounds_when_the_initial_potential_is_a_half(rng):
    current = rng.uniform(-0.2, 1.2, 200)
    spikes, _ = simulate(IntegrateAndFire(), np.tile(current, (16, 1)))
    np.testing.assert_array_equal(spikes.sum(axis=0), np.clip(np.floor(16 * current + 0.5), 0, 16))


def test_reset_to_zero_never_fires_more_than_reset_by_subtraction(rng):
    currents = np.abs(rng.normal(0.3, 0.3, (60, 50)))
    zero, _ = simulate(IntegrateAndFire(reset="zero"), currents)
    subtract, _ = simulate(IntegrateAndFire(reset="subtract"), currents)
    assert np.all(zero.cumsum(axis=0) <= subtract.cumsum(axis=0))
    assert zero.sum() < subtract.sum()


def test_current_of_threshold_fires_every_step():
    spikes, _ = simulate(IntegrateAndFire(initial_potential=0.0), np.ones((9, 1)))
    assert spikes.sum() == 9


def test_neuron_survives_serialization():
    neuron = IntegrateAndFire(v_threshold=0.3, reset="zero", initial_potential=0.1)
    config = keras.saving.serialize_keras_object(neuron)
    assert neurons.get(config) == neuron
    assert neurons.get("if") == IntegrateAndFire()


ALL = [
    IntegrateAndFire,
    LeakyIntegrateAndFire,
    SignedIntegrateAndFire,
    MultiThreshold,
    Burst,
    Binary,
    Corrected,
    Delayed,
]


@pytest.mark.parametrize("kind", ALL)
def test_files_know_a_neuron_by_package_and_name(kind):
    assert keras.saving.get_registered_name(kind) == f"keras_snn>{kind.__name__}"


@pytest.mark.parametrize("kind", ALL)
def test_neuron_never_changes(kind):
    arguments = {"neuron": IntegrateAndFire(), "timesteps": 2}
    names = {field.name for field in dataclasses.fields(kind)}
    neuron, other = (kind(**{k: v for k, v in arguments.items() if k in names}) for _ in range(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(neuron, min(names), 3)
    assert hash(neuron) == hash(other)
    assert neuron == other


def test_names_stand_for_the_documented_defaults():
    half = {"v_threshold": 1.0, "initial_potential": 0.5}
    expected = {
        "if": {**half, "reset": "subtract"},
        "signed": {**half, "levels": None},
        "multi_threshold": {**half, "levels": 4, "max_rate": None},
        "burst": {**half, "gamma": 5},
        "lif": {"v_threshold": 1.0, "initial_potential": 0.0, "reset": "subtract", "leak": 0.9},
    }
    assert {name: neurons.get(name).get_config() for name in expected} == expected
    assert Binary().get_config() == {"function": "sign", "at_zero": 1.0, "reset": "none"}
    assert Binary().v_threshold == 1.0


_POTENTIAL = "`initial_potential` must be finite. Received: initial_potential=inf."


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        *(
            (
                kind,
                {"v_threshold": value},
                f"`v_threshold` must be finite and above 0. Received: v_threshold={value}.",
            )
            for kind in ALL[:5]
            for value in (0, float("nan"))
        ),
        *((kind, {"initial_potential": float("inf")}, _POTENTIAL) for kind in ALL[:5]),
        *(
            (kind, {"reset": "soft"}, "`reset` must be one of 'subtract', 'zero'. Received: reset='soft'.")
            for kind in ALL[:2]
        ),
        (LeakyIntegrateAndFire, {"leak": 0}, "`leak` must be in (0, 1]. Received: leak=0."),
        (LeakyIntegrateAndFire, {"leak": 1.25}, "`leak` must be in (0, 1]. Received: leak=1.25."),
        (SignedIntegrateAndFire, {"levels": 0}, "`levels` must be at least 1. Received: levels=0."),
        (MultiThreshold, {"levels": 0}, "`levels` must be at least 1. Received: levels=0."),
        (MultiThreshold, {"max_rate": 0}, "`max_rate` must be finite and above 0. Received: max_rate=0."),
        (Burst, {"gamma": 0}, "`gamma` must be at least 1. Received: gamma=0."),
        (
            Binary,
            {"function": "step"},
            "`function` must be one of 'sign', 'heaviside'. Received: function='step'.",
        ),
        (Binary, {"at_zero": 2}, "`at_zero` must be one of -1, 0, 1. Received: at_zero=2."),
        (
            Binary,
            {"function": "heaviside", "at_zero": -1},
            "`at_zero` must be one of 0, 1. Received: at_zero=-1.",
        ),
        (Binary, {"reset": "subtract"}, "`reset` must be one of 'none', 'zero'. Received: reset='subtract'."),
        (
            Delayed,
            {"neuron": Burst(), "timesteps": -1},
            "`timesteps` must be at least 0. Received: timesteps=-1.",
        ),
    ],
)
def test_neuron_raises_when_an_argument_is_wrong(kind, arguments, message):
    with pytest.raises(ValueError) as error:
        kind(**arguments)
    assert message == str(error.value)


def test_get_raises_when_there_is_no_such_neuron():
    names = "`neuron` must be one of 'burst', 'digits', 'if', 'lif', 'multi_threshold', 'signed', 'ttfs'"
    with pytest.raises(ValueError, match=f"{names}. Received: neuron='rf'."):
        neurons.get("rf")
    needed = f"{names} or an object with `v_threshold`, `initial_state` and `step`. Received: neuron="
    complete = {"v_threshold": 1.0, "initial_state": None, "step": None}
    for missing in complete:
        some = types.SimpleNamespace(**{name: v for name, v in complete.items() if name != missing})
        with pytest.raises(TypeError, match=f"{needed}namespace"):
            neurons.get(some)
    with pytest.raises(TypeError, match=f"{needed}3. See `keras_snn.neurons`."):
        neurons.get(3)
    with pytest.raises(TypeError, match=f"{needed}<class .*IntegrateAndFire'>"):
        neurons.get(IntegrateAndFire)
    own = types.SimpleNamespace(**complete)
    wrapped = neurons.get(own)
    assert isinstance(wrapped, neurons.Neuron)
    assert wrapped.v_threshold == 1.0
    assert neurons.get(wrapped) is wrapped


@pytest.mark.parametrize(("levels", "v_threshold"), [(None, 1.0), (3, 0.75), (1, 2.5)])
def test_signed_neuron_is_its_equations(levels, v_threshold, rng):
    # Multiples of 1/8: potentials are often at a threshold, exactly.
    currents = rng.integers(-13, 15, (60, 40)) / 8 * v_threshold
    start = float(rng.integers(0, 8) / 8)
    spikes, potentials = simulate(SignedIntegrateAndFire(levels, v_threshold, start), currents)
    for i in range(currents.shape[1]):
        v, n = start * v_threshold, 0
        for t in range(len(currents)):
            v += currents[t, i]
            s = 1 if v >= v_threshold and n < (levels or 1000) else -1 if v < 0 and n > 0 else 0
            v, n = v - s * v_threshold, n + s
            assert spikes[t, i] == s
            assert potentials[t, i] == v
    assert set(np.unique(spikes)) == {-1, 0, 1}


@pytest.mark.parametrize("levels", [1, 5, None])
def test_signed_spikes_add_up_to_the_rounded_charge_in_whatever_order(levels, rng):
    """Once no neuron fires: n = clip(floor(V(0)/θ + Σ z/θ), 0, L)."""
    currents = rng.normal(0.1, 1.0, (12, 300))
    silence = np.zeros((60, 300))
    expected = np.clip(np.floor(0.5 + currents.sum(axis=0) / 1.3), 0, levels)
    for order in (rng.permutation(12), rng.permutation(12)):
        spikes, _ = simulate(SignedIntegrateAndFire(levels, 1.3), np.concatenate([currents[order], silence]))
        assert not spikes[-1].any()
        np.testing.assert_array_equal(spikes.sum(axis=0), expected)
    assert {0, levels or 4} <= set(expected)


def thresholds_that_fit(v, thresholds):
    """The largest first, each at most once."""
    found = 0.0
    for threshold in thresholds:
        if v - found >= threshold:
            found += threshold
    return found


@pytest.mark.parametrize(("levels", "v_threshold"), [(1, 1.0), (3, 1.0), (4, 0.5)])
def test_multi_threshold_neuron_is_its_equations(levels, v_threshold, rng):
    # Multiples of 1/64: no threshold is missed by rounding.
    currents = rng.integers(-100, 130, (50, 60)) / 64 * v_threshold
    spikes, potentials = simulate(MultiThreshold(levels, v_threshold), currents)
    thresholds = [v_threshold / 2**k for k in range(levels)]
    for i in range(currents.shape[1]):
        v, fired = thresholds[-1] / 2, 0.0
        for t in range(len(currents)):
            v += currents[t, i]
            s = thresholds_that_fit(v, thresholds)
            while v - s < 0 and fired + s > 0:
                s -= thresholds[-1]
            v, fired = v - s, fired + s
            assert spikes[t, i] == s / v_threshold
            assert potentials[t, i] == v
    assert spikes.min() < 0


def test_multi_threshold_spikes_add_up_to_the_rounded_charge(rng):
    currents = np.concatenate([rng.normal(0.1, 1.0, (12, 300)), np.zeros((40, 300))])
    spikes, _ = simulate(MultiThreshold(3, 1.3), currents)
    expected = np.maximum(0, np.floor(0.5 + currents.sum(axis=0) / (1.3 / 4))) / 4
    np.testing.assert_array_equal(spikes.sum(axis=0), expected)


@pytest.mark.parametrize(("gamma", "v_threshold"), [(1, 1.0), (2, 0.7), (5, 1.5)])
def test_burst_neuron_is_its_equations(gamma, v_threshold, rng):
    currents = rng.normal(0.8, 1.5, (50, 60)) * v_threshold
    spikes, potentials = simulate(Burst(gamma, v_threshold, 0.25), currents)
    for i in range(currents.shape[1]):
        v = 0.25 * v_threshold
        for t in range(len(currents)):
            v += currents[t, i]
            s = 0
            while s < gamma and v >= v_threshold * (s + 1):
                s += 1
            v -= s * v_threshold
            assert spikes[t, i] == s
            assert potentials[t, i] == pytest.approx(v, abs=1e-12)
    assert spikes.max() == gamma


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_leaky_neuron_is_its_equations(reset, rng):
    currents = rng.normal(0.3, 0.5, (50, 60))
    spikes, potentials = simulate(LeakyIntegrateAndFire(0.8, 1.1, 0.2, reset), currents)
    for i in range(currents.shape[1]):
        v = 0.2 * 1.1
        for t in range(len(currents)):
            v = 0.8 * v + currents[t, i]
            fires = v >= 1.1
            if fires:
                v = v - 1.1 if reset == "subtract" else 0.0
            assert spikes[t, i] == fires
            assert potentials[t, i] == pytest.approx(v, abs=1e-12)


def test_neurons_of_one_level_and_one_spike_are_those_that_they_extend(rng):
    currents = rng.normal(0.3, 1.0, (60, 50))
    for one, other in (
        (Burst(1), IntegrateAndFire()),
        (MultiThreshold(1), SignedIntegrateAndFire()),
        (LeakyIntegrateAndFire(1.0), IntegrateAndFire(initial_potential=0.0)),
    ):
        for first, second in zip(simulate(one, currents), simulate(other, currents), strict=True):
            moderate = np.abs(first).max(axis=0) <= 1 if one == MultiThreshold(1) else slice(None)
            np.testing.assert_array_equal(first[..., moderate], second[..., moderate])


RATE_CODING = [
    IntegrateAndFire(0.5),
    SignedIntegrateAndFire(v_threshold=2.0),
    MultiThreshold(3, 0.5),
    MultiThreshold(4, max_rate=1.25),
    Burst(3, 2.0),
]


@pytest.mark.parametrize("neuron", RATE_CODING)
def test_neuron_conserves_charge(neuron, rng):
    """V(T) = V(0) + Σ z − θ·Σ s: exactly, since these sums are exact."""
    currents = rng.integers(-12, 17, (40, 50)) / 16 * neuron.v_threshold
    spikes, potentials = simulate(neuron, currents)
    start = ops.convert_to_numpy(neuron.initial_state((1,), "float64")[0])
    expected = start + currents.sum(axis=0) - neuron.v_threshold * spikes.sum(axis=0)
    np.testing.assert_array_equal(potentials[-1], expected)
    assert np.all(spikes % neuron.unit == 0)
    assert np.abs(spikes).max() <= neuron.largest_spike


@pytest.mark.parametrize("neuron", RATE_CODING)
def test_rate_of_constant_current_is_it(neuron, rng):
    current = rng.uniform(-0.5, 1, 200) * neuron.v_threshold
    spikes, _ = simulate(neuron, np.tile(current, (23, 1)))
    bound = neuron.unit / 23 + 1e-12
    assert np.all(np.abs(spikes.mean(axis=0) - np.maximum(current, 0) / neuron.v_threshold) <= bound)


@pytest.mark.parametrize(
    ("neuron", "largest"),
    [
        (MultiThreshold(4), 1.875),
        (MultiThreshold(3).limited(1.4), 1.25),
        (MultiThreshold(3).limited(8.0), 1.75),
        (Burst(5).limited(2.7), 2.0),
        (Burst(5).limited(0.4), 1.0),
        (Burst(3).limited(8.0), 3.0),
    ],
)
def test_neuron_that_can_exceed_rate_1_is_limited(neuron, largest):
    spikes, _ = simulate(neuron, np.full((5, 1), 90.0))
    np.testing.assert_array_equal(spikes, largest)
    assert neuron.largest_spike == largest


class Bare:
    """A neuron of a user, who defines no more than is needed."""

    v_threshold = 0.75

    def initial_state(self, shape, dtype):
        return [ops.zeros(shape, dtype)]

    def step(self, current, state):
        return current, state


@pytest.mark.parametrize(
    ("neuron", "unit", "largest", "words"),
    [
        (IntegrateAndFire(), 1.0, 1.0, "0 or 1"),
        (SignedIntegrateAndFire(), 1.0, 1.0, "−1, 0 or 1"),
        (MultiThreshold(3), 0.25, 1.75, "multiples of 0.25 up to 1.75, negative ones too"),
        (Burst(3), 1.0, 3.0, "whole numbers from 0 to 3"),
        (Binary(), 1.0, 1.0, "−1, 0 or 1"),
        (Binary("heaviside"), 1.0, 1.0, "0 or 1"),
        (Bare(), 1.0, 1.0, "0 or 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_neuron_describes_the_values_of_its_spikes_delayed_and_corrected_as_well(
    neuron, unit, largest, words
):
    around = [Delayed(neuron, 2), Corrected(neuron, (0.5,))]
    for one in around if isinstance(neuron, Bare) else [neuron, *around]:
        assert (one.unit, one.largest_spike, one.spike_values) == (unit, largest, words)
        assert one.v_threshold == neuron.v_threshold


@pytest.mark.parametrize("reset", ["none", "zero"])
@pytest.mark.parametrize("at_zero", [-1, 0, 1])
def test_binary_neuron_is_its_equations(at_zero, reset, rng):
    currents = rng.integers(-2, 3, (50, 40)) / 2
    for function, at in (("sign", at_zero), ("heaviside", max(at_zero, 0))):
        spikes, potentials = simulate(Binary(function, at, reset), currents)
        for i in range(currents.shape[1]):
            v = 0.0
            for t in range(len(currents)):
                v += currents[t, i]
                side = at if v == 0 else 1 if v > 0 else -1
                expected = side if function == "sign" else max(side, 0)
                v = v if expected == 0 or reset == "none" else 0.0
                assert spikes[t, i] == expected
                assert potentials[t, i] == v


@pytest.mark.parametrize("neuron", [IntegrateAndFire(0.75, "subtract", 0.25), SignedIntegrateAndFire(2)])
def test_delayed_neuron_is_the_neuron_some_steps_later(neuron, rng):
    currents = rng.integers(-4, 9, (30, 5, 4)) / 8
    start = neuron.initial_potential * neuron.v_threshold
    for steps in (12, 0):
        spikes, potentials = simulate(Delayed(neuron, steps), currents)
        assert not spikes[:steps].any()
        assert np.all(potentials[:steps] == start)
        kinds = {value.dtype for value in Delayed(neuron, steps).initial_state((5, 4), "float64")}
        assert {keras.backend.standardize_dtype(kind) for kind in kinds} == {"float64"}
        later_spikes, later_potentials = simulate(neuron, currents[steps:])
        np.testing.assert_array_equal(spikes[steps:], later_spikes)
        np.testing.assert_array_equal(potentials[steps:], later_potentials)


def test_corrected_neuron_is_the_neuron_under_more_current_and_charge(rng):
    currents = rng.normal(0.3, 0.6, (30, 6, 5))
    neuron = IntegrateAndFire(0.75, initial_potential=0.25)
    current, charge = (tuple(rng.normal(0, 0.5, 5).tolist()) for _ in range(2))
    for added, before in ((current, charge), (current, ()), ((), charge), ((), ())):
        spikes, potentials = simulate(Corrected(neuron, added, before), currents)
        more = currents + (added or 0.0)
        more[0] += before or 0.0
        expected_spikes, expected_potentials = handwritten(more.reshape(30, -1), 0.75, "subtract", 0.25)
        np.testing.assert_array_equal(spikes.reshape(30, -1), expected_spikes)
        np.testing.assert_allclose(potentials.reshape(30, -1), expected_potentials, rtol=0, atol=1e-12)


def test_corrected_neuron_shows_what_is_corrected():
    words = {"current and potential": ((0.5,), (1.0,)), "current": ((0.5,),), "potential": ((), (1.0,))}
    for shown, corrections in {**words, "nothing": ()}.items():
        neuron = Corrected(Burst(), *corrections)
        assert repr(neuron) == f"Corrected(Burst(gamma=5, v_threshold=1.0, initial_potential=0.5), {shown})"
    # Files have lists.
    assert Corrected(Burst(), [0.5], [1.0]) == Corrected(Burst(), (0.5,), (1.0,))


@pytest.mark.parametrize(
    "neuron", [*RATE_CODING, Binary("heaviside", 0, "zero"), Delayed(Burst(), 3), Corrected(Burst(), (0.5,))]
)
def test_every_neuron_comes_back_from_its_config(neuron):
    assert neurons.get(keras.saving.serialize_keras_object(neuron)) == neuron


@pytest.mark.parametrize("timesteps", [1, 7, 1000])
def test_if_charge_gives_the_spike_count(timesteps, rng):
    """Beside a loop that counts; currents vary, and in float64 nothing is lost."""
    z = rng.normal(rng.normal(0.3, 0.5, 500), 1.0, (timesteps, 500))
    for v_threshold, initial_potential in ((1.0, 0.0), (0.7, 0.5), (1.9, 0.875)):
        neuron = IntegrateAndFire(v_threshold, initial_potential=initial_potential)
        v, count = np.full(500, initial_potential * v_threshold), np.zeros(500)
        for current in z:
            v = v + current
            count += v >= v_threshold
            v = v - v_threshold * (v >= v_threshold)
        charge, state = (ops.convert_to_tensor(x, "float64") for x in (z.sum(axis=0), v))
        counted = ops.convert_to_numpy(neuron.count_spikes(charge, [state]))
        np.testing.assert_allclose(counted, count, rtol=0, atol=1e-9)


def test_charge_gives_a_spike_count_only_if_all_of_it_is_kept():
    kept = {0.0: True, 0.5: True, 0.999: True, 1.0: False, -0.001: False}
    for initial_potential, expected in kept.items():
        assert IntegrateAndFire(0.3, "subtract", initial_potential).conserves_charge is expected
        assert not IntegrateAndFire(0.3, "zero", initial_potential).conserves_charge


def _thresholds_that_fire(units, levels):
    """Fire thresholds of 2ⁿ⁻¹, …, 1 units one by one, the largest first, until nothing is left."""
    events = 0
    for threshold in (2**level for level in reversed(range(levels))):
        while units >= threshold:
            units, events = units - threshold, events + 1
    return events


@pytest.mark.parametrize("levels", [1, 3, 4])
def test_events_of_a_multi_threshold_spike_are_the_thresholds_that_fire(levels):
    units = np.arange(40.0, dtype="float32")
    expected = [_thresholds_that_fire(k, levels) for k in units]
    for neuron in (MultiThreshold(levels), Delayed(Corrected(MultiThreshold(levels), (0.5,)), 2)):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(neuron.events_of(units)), expected)
    # What a step can give are sums of different powers of two.
    most = 2**levels
    assert expected[:most] == [bin(k).count("1") for k in range(most)]


def test_events_of_other_neurons_are_their_spikes():
    units = np.array([0.0, 1.0, 0.0, 3.0], "float32")
    expected = {
        Burst(5): [0, 1, 0, 3],
        IntegrateAndFire(): [0, 1, 0, 1],
        SignedIntegrateAndFire(): [0, 1, 0, 1],
    }
    for neuron, events in expected.items():
        found = neuron.events_of(keras.ops.convert_to_tensor(units))
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), events)
