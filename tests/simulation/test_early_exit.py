import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_snn

TIMESTEPS = 12


@pytest.fixture
def classifier(rng):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(5, 3, activation="relu")(inputs)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    model = networks.randomize(keras.Model(inputs, layers.Dense(4, activation="softmax")(x)), rng)
    x = rng.uniform(0, 1, (37, 6, 6, 2)).astype("float32")
    snn = keras_snn.convert(model, x, timesteps=TIMESTEPS, verbose=0)
    return snn, x, snn.simulate(x).outputs_over_time


def confidence(outputs):
    """The lead of the best class over the next, as many times as there were steps, in [0, 1]."""
    sorted_outputs = np.sort(np.log(outputs.astype("float64")), axis=-1)
    lead = (sorted_outputs[..., -1] - sorted_outputs[..., -2]) * np.arange(1, TIMESTEPS + 1)
    return lead / (1 + lead)


def steps_at(outputs, level):
    reached = confidence(outputs) >= level
    return np.array([row.argmax() + 1 if row.any() else TIMESTEPS for row in reached])


@pytest.mark.parametrize(("quantile", "batch_size"), [(0.1, 37), (0.6, 10), (0.99, 37)])
def test_samples_end_at_the_first_confident_step_of_the_whole_simulation(
    classifier, quantile, batch_size, rng
):
    snn, x, outputs = classifier
    level = float(np.quantile(confidence(outputs), quantile))
    labels = rng.integers(0, 4, len(x))
    run = snn.simulate(x, labels, exit="confidence", level=level, batch_size=batch_size)
    steps = steps_at(outputs, level)
    np.testing.assert_array_equal(run.steps_used, steps)
    held = outputs[np.arange(len(x)), steps - 1]
    np.testing.assert_allclose(run.outputs, held, rtol=1e-5, atol=1e-6)
    for sample, step in enumerate(steps):
        np.testing.assert_allclose(run.outputs_over_time[sample, :step], outputs[sample, :step], atol=1e-6)
        assert (run.outputs_over_time[sample, step:] == run.outputs[sample]).all()
    assert run.accuracy_over_time[-1] == np.mean(run.outputs.argmax(axis=-1) == labels)


def test_confidence_of_logits_is_that_of_their_softmax(rng):
    """A network without a softmax at its end, beside the same network with one."""
    steps = []
    for activation in (None, "softmax"):
        inputs = keras.Input((5,))
        hidden = layers.Dense(8, activation="relu")(inputs)
        model = keras.Model(inputs, layers.Dense(4, activation=activation)(hidden))
        networks.randomize(model, np.random.default_rng(3))
        x = np.random.default_rng(4).uniform(0, 1, (20, 5)).astype("float32")
        snn = keras_snn.convert(model, x, timesteps=TIMESTEPS, verbose=0)
        steps.append(snn.simulate(x, exit="confidence", level=0.9).steps_used)
    assert len(np.unique(steps[0])) > 3
    np.testing.assert_array_equal(*steps)


def test_batches_shrink_as_samples_end(classifier, monkeypatch):
    """No more rows run than the smallest half that holds who is not done."""
    snn, x, outputs = classifier
    level = float(np.quantile(confidence(outputs)[:, 3], 0.3))
    from keras_snn.simulation.recording import Runner

    rows, advance = [], Runner.advance

    def counted(self, carry, start, *arguments):
        rows.append((start, len(keras.tree.flatten(carry["states"])[0])))
        return advance(self, carry, start, *arguments)

    monkeypatch.setattr(Runner, "advance", counted)
    steps = snn.simulate(x, exit="confidence", level=level, batch_size=len(x)).steps_used
    for start, size in rows:
        alive = np.sum(steps > start)
        assert alive <= size
        assert start == 0 or size <= max(2 * alive, 1) or size == len(x)
    assert rows[-1][1] < len(x)


def test_on_events_nobody_runs_after_the_look_that_finds_it_done(classifier, monkeypatch):
    """Batches shrink to who is left, and it is looked after 2 steps and after every 4 from there."""
    pytest.importorskip("numba")
    from keras_snn.engines.events.network import EventNetwork

    snn, x, outputs = classifier
    level = float(np.quantile(confidence(outputs)[:, 3], 0.3))
    ran, run = [], EventNetwork.run

    def counted(self, states, drives, arriving, start, timesteps, **wanted):
        ran.append(len(states) * timesteps)
        return run(self, states, drives, arriving, start, timesteps, **wanted)

    monkeypatch.setattr(EventNetwork, "run", counted)
    snn.engine = "events"
    steps = snn.simulate(x, exit="confidence", level=level, batch_size=len(x)).steps_used
    np.testing.assert_array_equal(steps, steps_at(outputs, level))
    looks = np.array([2, 6, 10, TIMESTEPS])
    assert len(np.unique(steps)) > 3
    assert sum(ran) == looks[np.searchsorted(looks, steps)].sum()


def test_calibrated_level_loses_no_more_than_allowed(classifier, rng):
    snn, x, outputs = classifier
    classes = outputs[:, -1].argmax(axis=-1)
    labels = np.where(rng.uniform(size=len(x)) < 0.8, classes, (classes + 1) % 4)
    for max_loss in (0.0, 0.1):
        found = keras_snn.calibrate_exit(snn, x, labels, max_loss=max_loss)
        run = snn.simulate(x, labels, exit="confidence", level=found.level)
        assert run.steps_used.mean() == pytest.approx(found.mean_timesteps, rel=0.01)
        assert run.accuracy_over_time[-1] == pytest.approx(found.accuracy)
        full = np.mean(classes == labels)
        assert found.full_accuracy == pytest.approx(full)
        assert found.accuracy >= full - max_loss
        # No level of the curve that may be taken needs fewer steps.
        allowed = found.curve[found.curve[:, 2] >= full - max_loss - 1e-9]
        assert found.mean_timesteps == allowed[:, 1].min()
    assert "accuracy" in str(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exit": "entropy", "level": 0.5}, "`exit` must be one of 'confidence'. Received: exit='entropy'."),
        ({"exit": "confidence", "level": 1.5}, "`level` must be in (0, 1]. Received: level=1.5."),
        ({"exit": "confidence", "level": 0.5, "settle": True}, "`record` and `settle` must be off"),
        ({"exit": "confidence", "level": 0.5, "record": "spike_counts"}, "Received: record=['spike_counts']"),
        ({"level": 0.5}, "`level` is for exit='confidence'. Received: level=0.5 and no exit."),
    ],
)
def test_simulate_raises_when_it_cannot_end_early(classifier, options, message):
    snn, x, _ = classifier
    with pytest.raises(ValueError) as raised:
        snn.simulate(x, **options)
    assert message in str(raised.value)


def test_exit_needs_classes(rng):
    inputs = keras.Input((3,))
    x = layers.Dense(1)(layers.Dense(4, activation="relu")(inputs))
    model = networks.randomize(keras.Model(inputs, x), rng)
    x = rng.uniform(0, 1, (5, 3)).astype("float32")
    snn = keras_snn.convert(model, x, verbose=0)
    with pytest.raises(ValueError, match="`exit` needs one output of at least two classes"):
        keras_snn.calibrate_exit(snn, x, np.zeros(5))


def test_calibrate_exit_refuses_labels_before_it_runs(classifier, monkeypatch):
    snn, x, _ = classifier
    monkeypatch.setattr(keras_snn.SpikingModel, "simulate", None)
    with pytest.raises(ValueError, match="`y` must hold class numbers from 0 to 3.*Received: 4."):
        keras_snn.calibrate_exit(snn, x, np.full(len(x), 4))
