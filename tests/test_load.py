"""Many calls, many threads, many layers; how memory grows over thousands, `benchmarks/load.py` measures."""

import gc
import threading
import time
import weakref
from unittest import mock

import contracts
import keras
import networks
import pytest
from keras import layers

import keras_snn
from keras_snn import SpikingModel
from keras_snn.simulation.internals import internals

# As for a user.
pytestmark = pytest.mark.compiled

THREADS = 4


def network(rng, width=6):
    hidden = [layers.Conv2D(width, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 2)), *hidden, layers.Dense(3, activation="softmax")])
    return networks.randomize(model, rng)


def in_threads(functions):
    """Return what functions return that start at the same moment, each in a thread of its own."""
    results, start = [None] * len(functions), threading.Barrier(len(functions))

    def run(i):
        start.wait()
        try:
            results[i] = functions[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_that_predict_at_once_get_what_one_gets(rng):
    """Other data in each, from the first call on, which compiles."""
    model = network(rng)
    x = [networks.data_for(model, rng, samples=4) for _ in range(THREADS)]
    snn, other = (contracts.convert(model, x[0], timesteps=4) for _ in range(2))
    expected = [other.predict(part, verbose=0) for part in x]
    for _ in range(3):
        found = in_threads([lambda part=part: snn.predict(part, verbose=0) for part in x])
        contracts.assert_same(found, expected)
    assert len({value.tobytes() for value in expected}) == THREADS


class Running(keras.callbacks.Callback):
    """Counts the runs that are under way, for long enough to meet others."""

    now = most = 0

    def _begin(self, logs=None):
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.05)

    def _end(self, logs=None):
        self.now -= 1

    on_predict_begin = on_test_begin = _begin
    on_predict_end = on_test_end = _end


def test_threads_run_a_model_one_at_a_time(rng, monkeypatch):
    """Batches of their own give chunks of their own, and for these Keras compiles anew."""
    monkeypatch.setattr(SpikingModel, "chunk_for", lambda self, size: {None: 1, 2: 2}.get(size, 4))
    model = network(rng)
    x = networks.data_for(model, rng, samples=4)
    y = rng.integers(0, 3, len(x))
    snn = contracts.convert(model, x, timesteps=4)
    snn.compile(loss="sparse_categorical_crossentropy")
    running = Running()
    options = {"verbose": 0, "callbacks": [running]}
    runs = [lambda size=size: snn.predict(x, batch_size=size, **options) for size in (1, 2, 4)]
    runs += [lambda size=size: snn.evaluate(x, y, batch_size=size, **options) for size in (2, 4)]
    expected = [run() for run in runs]
    contracts.assert_same(in_threads(runs), expected)
    assert running.most == 1


@pytest.mark.parametrize("change", ["timesteps", "unroll", "watch", "compile"])
def test_a_change_in_another_thread_waits_for_the_run(change, rng):
    """And one of a callback in the run itself goes for the batches after it."""
    model = network(rng)
    x = networks.data_for(model, rng, samples=4)
    snn = contracts.convert(model, x, timesteps=4)
    expected = snn.predict(x, batch_size=1, verbose=0)

    def alter():
        if change == "compile":
            snn.compile(loss="sparse_categorical_crossentropy")
        else:
            setattr(snn, change, {"timesteps": 4, "unroll": 2, "watch": True}[change])

    class Between(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            alter()
            if not self.threads:
                self.threads.append(threading.Thread(target=alter))
                self.threads[0].start()
                time.sleep(0.05)

    between = Between()
    between.threads = []
    found = snn.predict(x, batch_size=1, verbose=0, callbacks=[between])
    between.threads[0].join(timeout=60)
    assert not between.threads[0].is_alive()
    contracts.assert_same(found, expected, tolerance=1e-6)
    contracts.assert_same(snn.predict(x, batch_size=1, verbose=0), expected, tolerance=1e-6)


class Interrupted(keras.utils.PyDataset):
    """Batches of `x`; with the second, another thread begins to change the model."""

    def __init__(self, x, change):
        super().__init__()
        self.x, self.thread = x, threading.Thread(target=change)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        if i == 1:
            self.thread.start()
            self.thread.join(timeout=0.1)
            assert self.thread.is_alive()
        return self.x[i : i + 1]


ANALYSES = {
    "diagnose": keras_snn.diagnose,
    "count_operations": keras_snn.count_operations,
    "report": lambda snn, x: keras_snn.report(snn, x, path=None),
}


@pytest.mark.parametrize("analysis", ANALYSES)
def test_what_changes_a_model_waits_for_an_analysis(analysis, rng):
    model = network(rng)
    x = networks.data_for(model, rng, samples=4)
    # As many levels as steps, in the reference that it is compared with, too.
    snn, other = (contracts.convert(model, x, timesteps=4, neuron="signed") for _ in range(2))
    data = Interrupted(x, lambda: setattr(snn, "timesteps", 7))
    assert str(ANALYSES[analysis](snn, data)) == str(ANALYSES[analysis](other, x))
    data.thread.join(timeout=60)
    assert snn.timesteps == 7


def test_threads_that_analyse_at_once_get_what_one_gets(rng):
    """Beside others that predict; from the first call on."""
    model = network(rng)
    x = networks.data_for(model, rng, samples=4)
    snn, other = (contracts.convert(model, x, timesteps=4) for _ in range(2))
    runs = [lambda m, run=run: str(run(m, x)) for run in ANALYSES.values()]
    runs.append(lambda m: m.predict(x, batch_size=2, verbose=0).tolist())
    expected = [run(other) for run in runs]
    for _ in range(3):
        assert in_threads([lambda run=run: run(snn) for run in runs * 2]) == expected * 2


def test_models_in_threads_of_their_own_give_what_they_give_alone(rng):
    """They are converted there, too."""
    models = [network(rng, width) for width in (4, 7)]
    x = networks.data_for(models[0], rng, samples=4)

    def run(model):
        snn = contracts.convert(model, x, timesteps=4)
        return snn.predict(x, verbose=0), snn.simulate(x, record="spike_counts").spike_counts

    alone = [run(model) for model in models]
    contracts.assert_same(in_threads([lambda model=model: run(model) for model in models]), alone)


def test_converted_models_that_nobody_holds_are_gone(rng):
    """With the functions that ran them; as many objects are left as after the conversion before."""
    model = network(rng)
    x = networks.data_for(model, rng, samples=4)

    def use():
        snn = contracts.convert(model, x, timesteps=2)
        snn.predict(x, verbose=0)
        snn.simulate(x)
        return [
            weakref.ref(part) for part in (snn, internals(snn).network, snn.predict_function, *snn.layers)
        ]

    def objects():
        gc.collect()
        return len(gc.get_objects())

    use()
    before = objects()
    references = [reference for _ in range(3) for reference in use()]
    after = objects()
    assert not any(reference() for reference in references)
    # The weak references, and less than 20 for each model that Keras keeps of a plain one, too.
    assert after - before < len(references) + 3 * 20


def test_a_network_of_more_than_a_hundred_layers_works(rng, tmp_path):
    x = inputs = keras.Input((6,))
    for i in range(70):
        y = layers.Dense(6, activation="relu")(x)
        x = layers.Add()([x, y]) if i % 2 else y
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert len(model.layers) > 100
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    data = networks.data_for(model, rng, samples=4)
    # Which takes seconds; compiled, minutes.
    with mock.patch.object(keras.Model, "run_eagerly", True):
        snn = contracts.convert(model, data, timesteps=2, neuron="signed")
        contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, data, tmp_path / "snn.keras")
