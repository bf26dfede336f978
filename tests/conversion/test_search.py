"""The cheapest network that loses at most so much: what is chosen, and how sure the loss is."""

import itertools

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn
from keras_snn.conversion import trials
from keras_snn.conversion.losses import loss_of_decisions
from keras_snn.neurons import DigitCode, IntegrateAndFire, SignedIntegrateAndFire, TimeToFirstSpike

SAMPLES = 400
STEPS = (8, 16, 24, 28, 32)


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


# Scales and corrections that a search tries, by what it calls them.
VARIANTS = {
    "": {"normalization": "mse", "per_channel": True, "bias_correction": False},
    ", corrected": {"normalization": "mse", "per_channel": True, "bias_correction": "either"},
    ", scales of layers, corrected": {
        "normalization": "mse",
        "per_channel": False,
        "bias_correction": "either",
    },
    ", maxima of channels, corrected": {
        "normalization": "max",
        "per_channel": True,
        "bias_correction": "either",
    },
}


def converted(model, x, variant="", **options):
    """Return what a search makes of options: every second sample calibrates."""
    return keras_snn.convert(model, x[::2], verbose=0, **VARIANTS[variant], **options)


def upper_of(model, snn, x, y):
    """Return the limit of the loss of a spiking network, on the samples that judge."""
    logits, others = (np.log(m.predict(x[1::2], verbose=0)) for m in (model, snn))
    return loss_by_pairs(logits, others, y[1::2])[1]


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
    upper = lost.mean() + 1.96 * np.sqrt(variance)
    upper *= (mistakes + 3.7) / (mistakes + 1) if upper > 0 else 1
    return 100 * lost.mean(), 100 * max(upper, 3.7 / lost.size)


def test_the_cheapest_of_those_that_lose_little_is_chosen(problem):
    """Each candidate is converted, judged and counted on its own; the search agrees with all of them."""
    model, x, y = problem
    candidates = [DigitCode(7, 2), DigitCode(15, 8), DigitCode(63, 2), DigitCode(127, 8)]
    candidates.append(TimeToFirstSpike(127))
    logits, judged = np.log(model.predict(x[1::2], verbose=0)), {}
    for neuron, variant in itertools.product(candidates, list(VARIANTS)[:3]):
        snn = converted(model, x, variant, neuron=neuron)
        counts = keras_snn.count_operations(snn, x[1::2][:32])
        loss = loss_by_pairs(logits, np.log(snn.predict(x[1::2], verbose=0)), y[1::2])
        judged[neuron, variant] = (*loss, counts.operations_with_updates, snn)
    uppers = sorted(judged[neuron, ""][1] for neuron in candidates)
    allowed = (uppers[1] + uppers[-1]) / 2
    snn = keras_snn.convert(model, x, y, max_loss=allowed, neurons=candidates, verbose=0)
    found = snn.conversion_report.search
    assert found.met
    assert found.judged == found.calibrated == SAMPLES // 2
    assert len(found.trials) > len(candidates)
    keys = list(itertools.product(candidates, [""]))
    keys += [
        (neuron, variant)
        for trial in found.trials[len(candidates) :]
        for neuron, variant in judged
        if variant and trial.candidate == f"{neuron.alias}, {neuron.levels} levels{variant}"
    ]
    tried = {key: judged[key] for key in keys}
    for trial, key in zip(found.trials, keys, strict=True):
        mean, upper, cost, _ = judged[key]
        if trial.loss is not None:
            np.testing.assert_allclose((trial.loss, trial.upper), (mean, upper), atol=1e-9)
        assert trial.cost is None or trial.cost == cost
    cheap = {key: of for key, of in tried.items() if of[1] <= allowed}
    assert 1 <= len(cheap) < len(tried)
    best = min(cheap, key=lambda key: cheap[key][2])
    np.testing.assert_array_equal(snn.predict(x, verbose=0), judged[best][3].predict(x, verbose=0))
    assert [trial.outcome for trial in found.trials].count("chosen") == 1


def test_of_one_kind_of_neuron_the_coarsest_is_found(problem, monkeypatch):
    """Without variants that is the one before whose limits are too high."""
    model, x, y = problem
    uppers = {}
    monkeypatch.setattr(SignedIntegrateAndFire, "searched_timesteps", (2, 4, 8, 16))
    monkeypatch.setattr(trials, "_VARIANTS", ())
    for steps in SignedIntegrateAndFire.searched_timesteps:
        uppers[steps] = upper_of(model, converted(model, x, neuron="signed", timesteps=steps), x, y)
    allowed = (uppers[4] + uppers[8]) / 2
    snn = keras_snn.convert(model, x, y, max_loss=allowed, neurons=["signed"], verbose=0)
    assert snn.timesteps == min(steps for steps, upper in uppers.items() if upper <= allowed)


@pytest.fixture(scope="module")
def empty(problem):
    """Return neurons that start empty and fire half a spike too little, and limits of the losses with them.

    These are by time steps and by the name of scales and corrections; a corrected potential mends it.
    """
    model, x, y = problem
    neuron, uppers = IntegrateAndFire(initial_potential=0.0), {}
    for steps, variant in itertools.product(STEPS, ("", ", corrected")):
        snn = converted(model, x, variant, neuron=neuron, timesteps=steps)
        uppers[steps, variant] = upper_of(model, snn, x, y)
    return neuron, uppers


def test_corrected_neurons_need_fewer_steps(problem, empty, monkeypatch):
    """Where no number of steps is enough, fewer than the most are, corrected."""
    model, x, y = problem
    neuron, uppers = empty
    monkeypatch.setattr(IntegrateAndFire, "searched_timesteps", STEPS)
    corrected = {steps for steps in STEPS if uppers[steps, ", corrected"] < uppers[STEPS[-1], ""]}
    steps = min(corrected)
    assert len(corrected) >= 2
    allowed = (uppers[steps, ", corrected"] + uppers[STEPS[-1], ""]) / 2
    snn = keras_snn.convert(model, x, y, max_loss=allowed, neurons=[neuron], verbose=0)
    found = snn.conversion_report.search
    assert found.met
    assert (snn.timesteps, snn.conversion_report.options["bias_correction"]) == (steps, "either")
    of_trials = {trial.candidate: trial.upper for trial in found.trials}
    name = f"if, {steps} steps, corrected"
    np.testing.assert_allclose(of_trials[name], uppers[steps, ", corrected"], atol=1e-9)


def test_after_a_variant_is_good_the_next_one_must_cost_less(problem, empty, monkeypatch):
    """So it is where nothing was good before, and no cost was known."""
    model, x, y = problem
    neuron, uppers = empty
    steps = STEPS[2]
    monkeypatch.setattr(IntegrateAndFire, "searched_timesteps", (steps,))
    allowed = 0.9 * uppers[steps, ""]
    assert uppers[steps, ", corrected"] < allowed
    snn = keras_snn.convert(model, x, y, max_loss=allowed, neurons=[neuron], verbose=0)
    trials = snn.conversion_report.search.trials
    costs = {}
    for variant in VARIANTS:
        other = converted(model, x, variant, neuron=neuron, timesteps=steps)
        counts = keras_snn.count_operations(other, x[1::2][:32])
        costs[f"if, {steps} steps{variant}"] = counts.operations_with_updates
    assert [trial.candidate for trial in trials] == list(costs)
    good = {trial.candidate for trial in trials if trial.outcome in ("chosen", "")}
    assert _chosen(snn.conversion_report.search).candidate == min(good, key=costs.get)
    assert all(
        t.outcome == "costs more" for t in trials[1:] if costs[t.candidate] > min(costs[n] for n in good)
    )


def _chosen(found):
    return next(trial for trial in found.trials if trial.outcome == "chosen")


@pytest.mark.parametrize("minimize", ["timesteps", "energy", "spikes"])
def test_what_is_minimized_is_what_is_least(problem, minimize):
    """Of networks that all lose little enough, the chosen one has the least of it."""
    model, x, _ = problem
    candidates = [TimeToFirstSpike(63), DigitCode(63, 2), DigitCode(63, 8)]
    costs = {}
    for neuron in candidates:
        snn = converted(model, x, neuron=neuron)
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
    np.testing.assert_allclose([trial.cost for trial in found.trials[:3]], list(costs.values()))
    assert _chosen(found).cost == min(trial.cost for trial in found.trials)
    # Larger scales may save spikes, but no time steps.
    assert any("scales of layers" in trial.candidate for trial in found.trials) == (minimize != "timesteps")
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


def test_the_limit_of_the_best_of_several_holds_as_often_as_it_promises(rng):
    """Of six networks that lose about as much, few draws have one that seems to lose less than it does."""
    classes, samples, networks_tried, exceeded = 5, 150, 6, 0
    everything = rng.normal(0, 2, (40_000, classes))
    labels = (everything + rng.gumbel(size=everything.shape)).argmax(axis=-1)
    together = rng.normal(0, 0.05, everything.shape)
    errors = [together + rng.normal(0, 0.25, everything.shape) for _ in range(networks_tried)]
    right = (everything.argmax(axis=-1) == labels).astype(float)
    truths = [100 * np.mean(right - ((everything + e).argmax(axis=-1) == labels)) for e in errors]
    for _ in range(200):
        chosen = rng.choice(len(everything), samples, replace=False)
        losses = (
            loss_of_decisions(everything[chosen], e[chosen], None, "largest", labels[chosen]) for e in errors
        )
        exceeded += any(truth > loss.upper for truth, loss in zip(truths, losses, strict=True))
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
    trial = snn.conversion_report.search.trials[0]
    np.testing.assert_allclose(trial.loss, max(errors), rtol=1e-4)
    assert trial.upper > trial.loss


def test_what_cannot_be_met_is_stated_and_the_closest_is_returned(problem):
    model, x, y = problem
    candidates = [TimeToFirstSpike(2), TimeToFirstSpike(7)]
    with pytest.warns(UserWarning, match="No candidate loses at most 0.001"):
        snn = keras_snn.convert(model, x, y, max_loss=0.001, neurons=candidates, verbose=0)
    found = snn.conversion_report.search
    assert not found.met
    # Neither is near, so that no scales or corrections are tried.
    assert len(found.trials) == len(candidates)
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
