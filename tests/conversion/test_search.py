"""The cheapest network that loses at most so much: what is chosen, and how sure the loss is."""

import itertools

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion.losses import loss_of_decisions
from keras_snn.neurons import DigitCode, SignedIntegrateAndFire, TimeToFirstSpike

SAMPLES = 400


@pytest.fixture(scope="module")
def problem():
    """Return a network, samples, and labels of which it gets most right."""
    rng = np.random.default_rng(7)
    inputs = keras.Input((8,))
    x = layers.Dense(20, activation="relu", name="first")(inputs)
    x = layers.Dense(16, activation="relu", name="second")(x)
    model = networks.randomize(keras.Model(inputs, layers.Dense(4, activation="softmax")(x)), rng)
    x = rng.uniform(0, 1, (SAMPLES, 8)).astype("float32")
    y = model.predict(x, verbose=0).argmax(axis=-1)
    return model, x, np.where(rng.uniform(size=SAMPLES) < 0.2, rng.integers(0, 4, SAMPLES), y)


def converted(model, x, **options):
    """Return what a search makes of options: every second sample calibrates."""
    return keras_snn.convert(model, x[::2], normalization="mse", per_channel=True, verbose=0, **options)


def loss_by_pairs(logits, others, labels):
    """Return the loss in points and its upper limit, as a table of every sample with every error."""
    errors, samples = others - logits, len(logits)
    lost = np.array(
        [
            [float(a.argmax() == y) - float((a + errors[(i + j) % samples]).argmax() == y) for j in range(64)]
            for i, (a, y) in enumerate(zip(logits, labels, strict=True))
        ]
    )
    of_errors = [
        np.mean([lost[i, j] for j in range(64) for i in [(k - j) % samples]]) for k in range(samples)
    ]
    variance = (lost.mean(axis=1).var() + np.var(of_errors)) / samples
    mistakes = np.sum(logits.argmax(axis=-1) != labels)
    upper = lost.mean() + 1.6449 * np.sqrt(variance)
    upper *= (mistakes + 3) / (mistakes + 1) if upper > 0 else 1
    return 100 * lost.mean(), 100 * max(upper, 3 / lost.size)


def test_the_cheapest_of_those_that_lose_little_is_chosen(problem):
    """Each candidate is converted, judged and counted on its own; the search agrees with all of them."""
    model, x, y = problem
    candidates = [DigitCode(levels, base) for levels, base in itertools.product((7, 63), (2, 8))]
    candidates.append(TimeToFirstSpike(127))
    logits, judged = np.log(model.predict(x[1::2], verbose=0)), {}
    for neuron in candidates:
        snn = keras_snn.convert(
            model, x[::2], neuron=neuron, normalization="mse", per_channel=True, verbose=0
        )
        counts = keras_snn.count_operations(snn, x[1::2][:32])
        loss = loss_by_pairs(logits, np.log(snn.predict(x[1::2], verbose=0)), y[1::2])
        judged[neuron] = (*loss, counts.operations_with_updates, snn)
    uppers = sorted(upper for _, upper, *_ in judged.values())
    allowed = (uppers[1] + uppers[-1]) / 2
    snn = keras_snn.convert(model, x, y, max_loss=allowed, neurons=candidates, verbose=0)
    cheap = {n: of for n, of in judged.items() if of[1] <= allowed}
    assert 1 <= len(cheap) < len(candidates)
    best = min(cheap, key=lambda n: cheap[n][2])
    assert snn.get_layer("first").neuron == best
    np.testing.assert_array_equal(snn.predict(x, verbose=0), judged[best][3].predict(x, verbose=0))
    found = snn.conversion_report.search
    assert found.met
    assert found.judged == found.calibrated == SAMPLES // 2
    for trial, (mean, upper, cost, _) in zip(found.trials, judged.values(), strict=True):
        if trial.loss is not None:
            np.testing.assert_allclose((trial.loss, trial.upper), (mean, upper), atol=1e-9)
        assert trial.cost is None or trial.cost == cost
    assert [trial.outcome for trial in found.trials].count("chosen") == 1


def test_of_one_kind_of_neuron_the_coarsest_is_found(problem, monkeypatch):
    model, x, y = problem
    uppers = {}
    monkeypatch.setattr(SignedIntegrateAndFire, "searched_timesteps", (2, 4, 8, 16))
    for steps in SignedIntegrateAndFire.searched_timesteps:
        snn = converted(model, x, neuron="signed", timesteps=steps)
        logits, others = (np.log(m.predict(x[1::2], verbose=0)) for m in (model, snn))
        uppers[steps] = loss_by_pairs(logits, others, y[1::2])[1]
    allowed = (uppers[4] + uppers[8]) / 2
    snn = keras_snn.convert(model, x, y, max_loss=allowed, neurons=["signed"], verbose=0)
    assert snn.timesteps == min(steps for steps, upper in uppers.items() if upper <= allowed)


@pytest.mark.parametrize("minimize", ["timesteps", "energy", "spikes"])
def test_what_is_minimized_is_what_is_least(problem, minimize):
    """Of networks that all lose little enough, the chosen one has the least of it."""
    model, x, _ = problem
    candidates = [TimeToFirstSpike(63), DigitCode(63, 2), DigitCode(63, 8)]
    costs = {}
    for neuron in candidates:
        snn = keras_snn.convert(
            model, x[::2], neuron=neuron, normalization="mse", per_channel=True, verbose=0
        )
        counts = keras_snn.count_operations(snn, x[1::2][:32])
        run = snn.simulate(x[1::2][:32], record=["spike_trains"])
        costs[neuron] = {
            # Each of the two layers sends in its window.
            "timesteps": 2 * neuron.window,
            "energy": counts.energy().snn,
            "spikes": sum(np.count_nonzero(train) for train in run.spike_trains.values()) / 32,
        }[minimize]
    snn = keras_snn.convert(model, x, max_loss=50, minimize=minimize, neurons=candidates, verbose=0)
    assert snn.get_layer("first").neuron == min(costs, key=costs.get)
    found = snn.conversion_report.search
    np.testing.assert_allclose([trial.cost for trial in found.trials], list(costs.values()))
    assert found.measure == "agreement, points"


def test_the_upper_limit_holds_as_often_as_it_promises(rng):
    """Of 200 draws of samples and errors, the loss on all others exceeds it in at most one in twenty.

    With 16 exceptions or less: the binomial distribution of 200 draws with 5 % has more with 2 %.
    """
    classes, samples, exceeded = 5, 150, 0
    everything = rng.normal(0, 2, (60_000, classes))
    labels = (everything + rng.gumbel(size=everything.shape)).argmax(axis=-1)
    noisy = everything + rng.normal(0, 0.25, everything.shape)
    truth = 100 * np.mean(
        (everything.argmax(axis=-1) == labels).astype(float) - (noisy.argmax(axis=-1) == labels)
    )
    for _ in range(200):
        chosen = rng.choice(len(everything), samples, replace=False)
        errors = (noisy - everything)[chosen]
        loss = loss_of_decisions(everything[chosen], errors, None, "largest", labels[chosen])
        exceeded += truth > loss.upper
    assert exceeded <= 16


def test_without_classes_the_loss_is_a_relative_error(rng):
    inputs = keras.Input((6,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    outputs = {"a": layers.Dense(3, name="a")(hidden), "b": layers.Dense(2, name="b")(hidden)}
    model = networks.randomize(keras.Model(inputs, outputs), rng)
    x = rng.uniform(0, 1, (SAMPLES, 6)).astype("float32")
    snn = keras_snn.convert(model, x, max_loss=20, neurons=[TimeToFirstSpike(31)], verbose=0)
    errors = []
    for name, wanted in model.predict(x[1::2], verbose=0).items():
        wanted, got = wanted.astype("float64"), snn.predict(x[1::2], verbose=0)[name]
        power = np.square(wanted - wanted.mean(axis=0)).sum()
        errors.append(100 * np.sqrt(np.square(got - wanted).sum() / power))
    (trial,) = snn.conversion_report.search.trials
    np.testing.assert_allclose(trial.loss, max(errors), rtol=1e-4)
    assert trial.upper > trial.loss


def test_what_cannot_be_met_is_stated_and_the_closest_is_returned(problem):
    model, x, y = problem
    candidates = [TimeToFirstSpike(2), TimeToFirstSpike(7)]
    with pytest.warns(UserWarning, match="No candidate loses at most 0.001"):
        snn = keras_snn.convert(model, x, y, max_loss=0.001, neurons=candidates, verbose=0)
    found = snn.conversion_report.search
    assert not found.met
    assert snn.get_layer("first").neuron == candidates[np.argmin([trial.upper for trial in found.trials])]


def test_of_free_neurons_none_is_tried_that_costs_more_than_the_source(problem):
    """Where no level is fine enough, more and more time steps are not tried either."""
    model, x, _ = problem
    with pytest.warns(UserWarning, match="No candidate loses at most 1e-09"):
        snn = keras_snn.convert(model, x, max_loss=1e-9, verbose=0)
    trials = snn.conversion_report.search.trials
    others = [trial for trial in trials if "digits" not in trial.candidate]
    source = keras_snn.count_operations(model).ann_operations
    assert others
    assert all(trial.cost < source or trial.outcome == "costs more" for trial in others)
    assert len(others) < 6
    assert "levels" in next(trial.candidate for trial in trials if trial.outcome == "chosen")


def test_a_file_keeps_what_was_tried(problem, tmp_path):
    model, x, y = problem
    snn = keras_snn.convert(model, x, y, max_loss=50, neurons=[TimeToFirstSpike(7)], verbose=0)
    snn.save(tmp_path / "snn.keras")
    again = keras.models.load_model(tmp_path / "snn.keras")
    assert again.conversion_report.search == snn.conversion_report.search
    assert "ttfs, 7 levels" in str(again.conversion_report)


def test_datasets_bring_their_labels(problem):
    import tensorflow as tf

    model, x, y = problem
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    options = {"max_loss": 50, "neurons": [TimeToFirstSpike(7)], "verbose": 0}
    of_arrays = keras_snn.convert(model, x, y, **options).conversion_report.search
    of_dataset = keras_snn.convert(model, dataset, **options).conversion_report.search
    assert of_dataset == of_arrays
    assert of_arrays.measure == "accuracy, points"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_loss": -1}, ValueError, "max_loss"),
        ({"max_loss": "much"}, TypeError, "max_loss"),
        ({"max_loss": 1, "neuron": "signed"}, ValueError, "`neuron` is chosen by max_loss"),
        ({"max_loss": 1, "timesteps": 8}, ValueError, "`timesteps` is chosen by max_loss"),
        ({"max_loss": 1, "minimize": "time"}, ValueError, "minimize"),
        ({"max_loss": 1, "neurons": "if"}, ValueError, "neurons=\\('if',\\)"),
        ({"max_loss": 1, "neurons": ["iff"]}, ValueError, "iff"),
        ({"max_loss": 1, "max_pool": "avg", "neurons": ["ttfs"]}, ValueError, "max_pool"),
        ({"y": np.zeros(SAMPLES)}, ValueError, "`y` needs max_loss"),
        ({"minimize": "spikes"}, ValueError, "`minimize` needs max_loss"),
    ],
)
def test_bad_wishes_are_refused(problem, options, error, message):
    model, x, _ = problem
    with pytest.raises(error, match=message):
        keras_snn.convert(model, x, verbose=0, **options)


def test_a_loss_needs_samples(problem):
    model, x, _ = problem
    with pytest.raises(keras_snn.errors.CalibrationError, match="at least 200 samples"):
        keras_snn.convert(model, x[:50], max_loss=1, verbose=0)
    with pytest.raises(ValueError, match="no data"):
        keras_snn.convert(model, max_loss=1)
