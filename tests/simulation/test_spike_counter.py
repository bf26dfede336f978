import keras
import networks
import numpy as np
import pytest
from contracts import assert_same, convert

from keras_snn import neurons
from keras_snn.simulation.compiled_functions import set_watch
from keras_snn.simulation.internals import internals
from keras_snn.simulation.spike_counter import BINS

STEPS = 7


@pytest.fixture
def snn(rng):
    model = networks.build(networks.plain, rng)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return convert(model, networks.data_for(model, rng), timesteps=STEPS)


@pytest.fixture
def x(snn, rng):
    return rng.uniform(0, 1, (12, 9, 8, 2)).astype("float32")


def expected(snn, x):
    """The figures of the trains of spikes: neurons, spikes, silent, saturated, and the histogram."""
    found = {}
    for name, trains in snn.simulate(x, record=["spike_trains"]).spike_trains.items():
        counts = (trains != 0).sum(axis=1)
        edges = np.linspace(0, 1, BINS + 1)
        # A rate in the middle of its part, so that no edge is hit.
        rates = np.floor(counts * BINS / snn.timesteps) / BINS + 0.5 / BINS
        bins = np.histogram(np.minimum(rates, 1), edges)[0]
        silent, saturated = (counts == 0).sum(), (counts == snn.timesteps).sum()
        found[name] = [counts.size, counts.sum(), silent, saturated, *bins]
    return found


def counted(snn):
    """The figures of the counter, in the same order; then it is reset."""
    firing = internals(snn).counter.read(snn.timesteps)
    internals(snn).counter.reset()
    return {
        name: [layer.neurons, layer.spikes, layer.silent, layer.saturated, *layer.histogram]
        for name, layer in firing.items()
    }


def train(snn, x, y, **options):
    """Fit with a rate of 0, so that nothing changes."""
    snn.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    snn.fit(x, y, verbose=0, **options)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_counter_agrees_with_trains_of_spikes(snn, x, rng):
    y = rng.integers(0, 4, len(x))
    wanted = expected(snn, x)
    assert any(saturated for _, _, _, saturated, *_ in wanted.values())
    set_watch(snn, True)
    snn.predict(x, batch_size=5, verbose=0)
    assert counted(snn) == wanted
    snn.evaluate(x, y, batch_size=7, verbose=0)
    assert counted(snn) == wanted
    train(snn, x, y, batch_size=5, epochs=2)
    assert counted(snn) == {name: [2 * n for n in numbers] for name, numbers in wanted.items()}
    assert counted(snn) == {}


@pytest.mark.parametrize("network", [networks.shared, networks.several, networks.siamese])
def test_counter_depends_on_neither_unroll_nor_batches(network, rng):
    """Law 9, for values whose sums are exact; also of shared layers and of several inputs."""
    model = networks.build_dyadic(network, rng)
    x = networks.data_for(model, rng, dyadic=True)
    snn = convert(model, x, timesteps=STEPS)
    wanted = expected(snn, x)
    set_watch(snn, True)
    for unroll, batch_size in ((1, 12), (3, 5), (STEPS, 1)):
        snn.unroll = unroll
        snn.predict(x, batch_size=batch_size, verbose=0)
        assert counted(snn) == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"neuron": neurons.IntegrateAndFire(reset="zero")},
        {"neuron": neurons.IntegrateAndFire(initial_potential=1.25)},
        {"delay": 2},
        {"input_encoding": "poisson"},
        {"input_encoding": "events"},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_counter_agrees_with_trains_of_spikes_when_charge_is_not_enough(options, rng):
    model = networks.build_dyadic(networks.plain, rng)
    x = networks.data_for(model, rng, dyadic=True)
    snn = convert(model, x, timesteps=STEPS, **options)
    if "events" in options.values():
        x = np.repeat(x[:, None], STEPS, axis=1)
    set_watch(snn, True)
    snn.predict(x, verbose=0)
    assert counted(snn) == expected(snn, x)


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_charge_agrees_with_trains_of_spikes(network, rng):
    """Behind all that is linear, max pooling and read-outs of averages, with nothing counted step by step."""
    model = networks.build(network, rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=12)
    assert internals(snn).counter.looped == ()
    set_watch(snn, True)
    snn.predict(x, batch_size=7, verbose=0)
    assert sum(layer.unsure for layer in internals(snn).counter.read(12).values()) == 0
    assert counted(snn) == expected(snn, x)


@pytest.mark.parametrize("timesteps", [1, 7, 1000])
@pytest.mark.compiled
def test_charge_gives_the_spikes_of_a_constant_current(timesteps, rng):
    """Near the threshold, at it, and far away, where potentials grow until rounding hides what comes in."""
    z = np.concatenate([rng.uniform(-1, 3, 500), rng.normal(0, 1e4, 500), [0, 0.5, 1, 1 / 3]])
    hidden = [keras.layers.Dense(len(z), "relu", use_bias=False), keras.layers.Dense(1)]
    model = networks.randomize(keras.Sequential([keras.Input((1,)), *hidden]), rng)
    x = np.ones((1, 1), "float32")
    snn = convert(model, x, timesteps=timesteps)
    snn.layers[0].set_weights([z[None].astype("float32")])
    set_watch(snn, True)
    snn.predict(x, verbose=0)
    assert next(iter(internals(snn).counter.read(timesteps).values())).unsure == 0
    assert counted(snn) == expected(snn, x)


@pytest.mark.parametrize("shift", [-0.6, -0.3, 0.3, 0.6])
def test_charge_that_is_no_whole_number_of_spikes_is_unsure(shift, rng):
    """Of silent and saturated neurons too, which charge cannot have fire less or more."""
    layers = [keras.layers.Dense(200, "relu"), keras.layers.Dense(3)]
    model = networks.randomize(keras.Sequential([keras.Input((4,)), *layers]), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=STEPS)
    drive = internals(snn).network.drive([x])
    _, states = internals(snn).network.run(drive, internals(snn).network.start([x]), STEPS)
    (name,) = internals(snn).counter.layers
    for moved in (0.0, shift):
        internals(snn).counter.finish({}, drive, {**states, name: [states[name][0] + moved]}, STEPS)
        layer = internals(snn).counter.read(STEPS)[name]
        assert layer.unsure == (layer.neurons if moved else 0)
        assert moved or (layer.silent and layer.saturated)
        internals(snn).counter.reset()


@pytest.mark.compiled
def test_counter_names_what_it_is_unsure_of(rng):
    """Weights so large that rounding hides spikes: not of a constant current, of which none is in doubt."""
    hidden = [keras.layers.Dense(50, "relu"), keras.layers.Dense(40, "relu"), keras.layers.Dense(3)]
    model = networks.randomize(keras.Sequential([keras.Input((4,)), *hidden]), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=500)
    set_watch(snn, True)
    for layer in snn.layers[:2]:
        layer.set_weights([1e6 * weights for weights in layer.get_weights()])
    snn.predict(x, verbose=0)
    first, second = internals(snn).counter.read(500).values()
    assert first.unsure == 0 < second.unsure
    name = snn.layers[0].name
    assert counted(snn)[name] == expected(snn, x)[name]


def test_counter_counts_spikes_of_either_sign(rng):
    """A sign is a spike at every step."""
    from keras_snn.layers import BinaryActivation

    hidden = [keras.layers.Dense(6), BinaryActivation(), keras.layers.Dense(3)]
    model = networks.randomize(keras.Sequential([keras.Input((4,)), *hidden]), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=STEPS)
    set_watch(snn, True)
    snn.predict(x, verbose=0)
    (numbers,) = counted(snn).values()
    assert numbers[:4] == [12 * 6, 12 * 6 * STEPS, 0, 12 * 6]


def test_totals_go_beyond_32_bits(snn, x):
    wanted = expected(snn, x)
    set_watch(snn, True)
    snn.predict(x, verbose=0)
    once = keras.ops.convert_to_numpy(internals(snn).counter.totals)
    # As after 2²² calls; one more carries.
    total = once[0].astype("int64") << 22
    internals(snn).counter.totals.assign(np.stack([total % 2**30, total // 2**30]).astype("int32"))
    snn.predict(x, verbose=0)
    assert max(numbers[1] for numbers in wanted.values()) * 2**22 > 2**31
    assert counted(snn) == {name: [n * (2**22 + 1) for n in numbers] for name, numbers in wanted.items()}


def test_nothing_is_counted_when_nobody_watches(snn, x):
    snn.predict(x, verbose=0)
    assert counted(snn) == {}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for watch in (False, True):
            set_watch(snn, watch)
            graph = tf.function(lambda inputs: snn(inputs)).get_concrete_function(tf.constant(x)).graph
            has_writes = any(op.type.startswith("Assign") for op in graph.get_operations())
            assert has_writes == watch


def test_counter_is_in_neither_weights_nor_files(snn, x, tmp_path):
    weights, number = snn.get_weights(), snn.count_params()
    set_watch(snn, True)
    snn.predict(x, verbose=0)
    assert_same(snn.get_weights(), weights)
    assert snn.count_params() == number == sum(array.size for array in weights)
    snn.save(tmp_path / "snn.keras")
    loaded = keras.models.load_model(tmp_path / "snn.keras")
    assert internals(loaded).watched is False
    assert counted(loaded) == {}
    assert_same(loaded.predict(x, verbose=0), snn.predict(x, verbose=0), tolerance=1e-6)


def test_watching_changes_no_output(snn, x):
    plain = snn.predict(x, verbose=0)
    set_watch(snn, True)
    assert_same(snn.predict(x, verbose=0), plain, tolerance=1e-6)


@pytest.mark.compiled
def test_what_a_callback_watches_ends_with_the_run_and_is_compiled_once(snn, x):
    class Watching(keras.callbacks.Callback):
        def set_model(self, model):
            super().set_model(model)
            set_watch(model, True)

        def on_predict_begin(self, logs=None):
            compiled.append(self.model.predict_function)

    class Breaking(Watching):
        def on_predict_batch_end(self, batch, logs=None):
            raise RuntimeError("broken")

    compiled = []
    snn.predict(x, verbose=0)
    unwatched = snn.predict_function
    for _ in range(2):
        snn.predict(x, callbacks=[Watching()], verbose=0)
        assert internals(snn).watched is False
        assert snn.predict_function is unwatched
    assert compiled[0] is compiled[1] is not unwatched
    snn.compile(loss="mse")
    snn.predict(x, callbacks=[Watching()], verbose=0)
    assert compiled[2] is not compiled[0]
    with pytest.raises(RuntimeError, match="broken"):
        snn.predict(x, callbacks=[Breaking()], verbose=0)
    assert internals(snn).watched is False
