"""The event-driven engine gives what the compiled one does, spike by spike, where sums are exact."""

import dataclasses
import math

import keras
import networks
import numpy as np
import pytest
from keras import layers
from running import few, named, thorough

import keras_snn
from keras_snn import neurons
from keras_snn.engines.events import network
from keras_snn.engines.events.assembly import assemble
from keras_snn.graph import nodes as kinds
from keras_snn.graph.program import with_shifts
from keras_snn.simulation import engine, event_runner
from keras_snn.simulation.building import build
from keras_snn.simulation.internals import internals
from keras_snn.simulation.source import program_of

pytest.importorskip("numba")
pytestmark = pytest.mark.filterwarnings("ignore:Silent on all calibration data")
# Before the fixture that lets tests run on the compiled engine.
_AS_FOR_USERS = engine._is_faster
RECORDS = ["spike_counts", "spike_trains", "membrane_potentials"]
# Functions other than sums: relus on averages, which are not spikes. Averages of others are not exact.
REFUSED, NOT_EXACT = ["branches", "several"], ["inception", "decoder", "rows"]


def on(snn, name, x, **options):
    """What `simulate` gives on an engine."""
    snn.engine = name
    return snn.simulate(x, **options)


def assert_same(one, other, *, tolerance=3e-6, potentials=0.0):
    """The same spikes, bit for bit, and outputs up to rounding."""
    for what in one.records:
        assert one.records[what].keys() == other.records[what].keys()
        for name, found in one.records[what].items():
            allowed = potentials if what == "membrane_potentials" else 0.0
            np.testing.assert_allclose(other.records[what][name], found, rtol=0, atol=allowed, err_msg=name)
    for a, b in zip(*map(keras.tree.flatten, (one.outputs_over_time, other.outputs_over_time)), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance)


def corrected(program):
    """The program with more current and potential for all neurons, another one for every channel."""
    nodes = dict(program.graph.nodes)
    for name, node in nodes.items():
        if isinstance(node, kinds.Spike):
            more = tuple(i % 5 / 8 for i in range(node.shape[-1]))
            nodes[name] = dataclasses.replace(node, neuron=neurons.Corrected(node.neuron, more, more[::-1]))
    return program.with_nodes(nodes)


def check_law_14(architecture, rng, kind=None):
    """Spikes, potentials and outputs on both engines, and `predict`."""
    model = networks.build_dyadic(architecture, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    way = networks.NETWORKS.index(architecture) % 3
    options = ({"neuron": neurons.IntegrateAndFire(reset="zero")}, {"delay": 1, "readout_delay": 2}, {})[way]
    if kind is not None:
        options |= {"neuron": kind}
    snn = keras_snn.convert(model, x, timesteps=6, verbose=0, **options)
    snn = build(corrected(program_of(snn))) if way == 2 else snn
    runs = [on(snn, name, x, record=RECORDS, batch_size=3) for name in ("compiled", "events")]
    rounding = 1e-4 if architecture.__name__ in NOT_EXACT else 0.0
    assert_same(*runs, potentials=rounding)
    assert any(train.any() for train in runs[1].spike_trains.values())
    for a, b in zip(*map(keras.tree.flatten, (runs[0].outputs, snn.predict(x, verbose=0))), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=3e-6)


def test_outputs_of_long_runs_lose_nothing_of_single_spikes(rng):
    """An output is the sum of the weights of all spikes, to the precision of adding up time steps."""
    inputs = keras.Input((20,))
    hidden = layers.Dense(500, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(7, use_bias=False, name="last")(hidden))
    x = rng.random((6, 20), dtype="float32")
    snn = keras_snn.convert(model, x, timesteps=4000, verbose=0)
    result = on(snn, "events", x, record=["spike_counts"])
    counts = np.asarray(result.spike_counts["hidden"], "float64")
    wanted = counts @ np.asarray(snn.get_layer("last").get_weights()[0], "float64") / 4000
    assert counts.sum() > 4000 * 6 * 50
    assert np.abs(result.outputs - wanted).max() < 5e-6 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "architecture", few([n for n in networks.NETWORKS if n.__name__ not in REFUSED]), ids=named
)
def test_law_14_every_neuron_fires_at_the_same_steps(architecture, rng):
    """Layers of all kinds, and neurons that reset in both ways, wait or are corrected."""
    check_law_14(architecture, rng)


@pytest.mark.parametrize(
    "kind",
    [
        neurons.SignedIntegrateAndFire(),
        neurons.SignedIntegrateAndFire(levels=3),
        neurons.MultiThreshold(),
        neurons.Burst(gamma=3),
    ],
    ids=named,
)
@pytest.mark.parametrize("architecture", [networks.plain, networks.residual], ids=named)
def test_law_14_holds_for_spikes_of_several_sizes_and_signs(architecture, kind, rng):
    check_law_14(architecture, rng, kind)


@pytest.mark.parametrize("delay", [0, 2])
def test_law_14_holds_for_readouts_that_weigh_the_steps(delay, rng):
    """To the bit, as sums are exact; of spikes, and of a current that is the same at every step."""
    inputs = keras.Input((8,))
    x = layers.Dense(24, activation="relu")(layers.Dense(24, activation="relu")(inputs))
    model = keras.Model(inputs, [layers.Dense(20)(x), layers.Dense(3)(inputs)])
    networks.make_dyadic(model, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    options = {"readout_weighting": "linear", "readout_delay": delay, "timesteps": 9, "verbose": 0}
    snn = keras_snn.convert(model, x, normalization="none", **options)
    program = with_shifts(program_of(snn), {1: (0.5, -0.25, 2.0)})
    snn = build(program)
    assert program_of(snn) == program
    runs = [on(snn, name, x, batch_size=size) for name, size in (("compiled", 5), ("events", 2))]
    assert_same(*runs, tolerance=0.0)
    for over_time, last in zip(runs[1].outputs_over_time, snn.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(over_time[:, -1], last)
    assert np.ptp(runs[0].outputs_over_time[0][:, delay:], axis=1).all()


@pytest.mark.parametrize("kind", [neurons.IntegrateAndFire(), neurons.MultiThreshold(3)], ids=named)
def test_law_14_holds_for_integers_to_the_bit(kind, rng):
    """Of any weights, with a threshold of every channel; outputs too, in any batches."""
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, 7)
    snn = keras_snn.convert(model, x, timesteps=7, neuron=kind, weight_bits=8, verbose=0)
    runs = [
        on(snn, name, x, record=RECORDS, batch_size=size) for name, size in (("compiled", 7), ("events", 3))
    ]
    assert_same(*runs, tolerance=0.0)
    np.testing.assert_array_equal(snn.predict(x, verbose=0), runs[0].outputs)


@pytest.mark.parametrize("kind", [neurons.IntegrateAndFire(), neurons.SignedIntegrateAndFire()], ids=named)
def test_law_14_holds_for_layers_of_many_channels_without_a_bias(kind, rng):
    """Relus of spikes, and sums of layers, of which one bias at most is added."""
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(140, 1, activation="relu")(image)
    x = layers.ReLU()(x)
    x = layers.Add()([layers.Conv2D(150, 2)(x), layers.Conv2D(150, 2)(x)])
    x = layers.Flatten()(layers.ReLU()(x))
    model = keras.Model(image, layers.Dense(3)(x))
    model = networks.make_dyadic(model, rng)
    x = networks.data_for(model, rng, 3, dyadic=True)
    snn = keras_snn.convert(model, x, timesteps=6, neuron=kind, normalization="none", verbose=0)
    assert_same(*(on(snn, name, x, record=RECORDS) for name in ("compiled", "events")), tolerance=1e-4)


@pytest.mark.parametrize("encoding", ["poisson", "events"])
def test_law_14_holds_for_what_arrives_at_every_step(encoding, rng):
    model = networks.build_dyadic(networks.residual, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    snn = keras_snn.convert(model, x, timesteps=6, input_encoding=encoding, verbose=0)
    if encoding == "events":
        x = rng.integers(-1, 2, (5, 7, *x.shape[1:])).astype("float32")
    runs = [on(snn, name, x, record=RECORDS, batch_size=3) for name in ("compiled", "events")]
    assert_same(*runs)
    np.testing.assert_allclose(snn.predict(x, verbose=0), runs[0].outputs, rtol=0, atol=3e-6)


@pytest.mark.parametrize("architecture", [networks.residual, networks.dense_block], ids=named)
def test_law_14_it_adds_as_often_as_operations_are_counted(architecture, rng):
    """Layers that take spikes: with averages, it adds up the spikes that they are of."""
    model = networks.build(architecture, rng)
    x = networks.data_for(model, rng, 5)
    snn = keras_snn.convert(model, x, timesteps=6, verbose=0)
    snn.engine = "events"
    events = engine.event_network(snn)
    own = events.run(*engine.start_of(snn, events, [x], 6), 0, 6, additions=True)["additions"]
    counts = keras_snn.count_operations(snn, x).layers
    of_spikes = {
        layer.name: layer.additions.sum()
        for layer in counts
        if layer.weights and not layer.is_factor and not layer.is_analog and not layer.multiply_adds.any()
    }
    assert len(of_spikes) >= 4
    found = [own[name].mean() for name in of_spikes]
    np.testing.assert_allclose(found, list(of_spikes.values()), rtol=1e-9)


@pytest.fixture
def classifier(rng):
    """A converted network with max and average pools, samples and labels."""
    model = networks.randomize(
        keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                layers.Conv2D(20, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(100, 2, padding="same", activation="relu"),
                layers.AveragePooling2D(3),
                layers.Flatten(),
                layers.Dense(3, activation="softmax"),
            ]
        ),
        rng,
    )
    x = networks.data_for(model, rng, 9)
    snn = keras_snn.convert(model, x, timesteps=12, verbose=0)
    snn.compile(None, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return snn, x, rng.integers(0, 3, 9)


def test_results_depend_on_neither_threads_nor_batches_nor_calls(classifier, monkeypatch):
    snn, x, _ = classifier
    whole = on(snn, "events", x, record=RECORDS)
    for threads, batch_size in ((1, 9), (3, 4), (2, 1)):
        monkeypatch.setattr(network, "threads", lambda n=threads: n)
        assert_same(whole, on(snn, "events", x, record=RECORDS, batch_size=batch_size), tolerance=0)
    ending = [on(snn, name, x, exit="confidence", level=0.6, batch_size=4) for name in ("compiled", "events")]
    np.testing.assert_array_equal(*(run.steps_used for run in ending))
    assert 1 < ending[1].steps_used.mean() < 12
    np.testing.assert_allclose(*(run.outputs for run in ending), atol=1e-6)


def test_inputs_of_few_channels_are_not_padded_place_by_place(classifier):
    snn, x, _ = classifier
    assert assemble(program_of(snn)).drive_size == x[0].size


@pytest.mark.parametrize("name", ["compiled", "events"])
def test_one_batch_is_checked_whatever_it_is_given_as(classifier, name):
    snn, x, _ = classifier
    snn.engine = name
    expected = snn.predict(x, verbose=0)
    for given in (
        x,
        x.astype("float64"),
        np.asfortranarray(x),
        x[::-1][::-1],
        [x],
        keras.ops.convert_to_tensor(x),
    ):
        np.testing.assert_allclose(snn.predict_on_batch(given), expected, atol=1e-6)
    for wrong in (x[:0], x[:, :4], x[..., :1], x[0], x.astype(str), np.float32(1)):
        with pytest.raises(ValueError, match="`x` must"):
            snn.predict_on_batch(wrong)


@pytest.mark.parametrize(
    ("given", "wanted"), [("1", 1), ("2,4", 2), ("64", 3), ("0", 3), ("", 3), ("many", 3), (None, 3)]
)
def test_threads_are_limited_by_the_environment(monkeypatch, given, wanted):
    monkeypatch.setattr(network.os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert network.threads() == wanted


def test_keras_runs_it_with_metrics_data_callbacks_and_new_weights(classifier, tmp_path):
    snn, x, y = classifier
    found = {}
    for name in ("compiled", "events"):
        snn.engine = name
        callback = keras_snn.callbacks.SpikeRateTensorBoard(tmp_path / name)
        found[name] = [
            snn.predict(x, batch_size=4, callbacks=[callback], verbose=0),
            snn.predict_on_batch(x),
            snn.evaluate(x, y, batch_size=4, verbose=0),
            snn.test_on_batch(x, y),
            [firing.spikes for firing in internals(snn).counter.read(12).values()],
        ]
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    before = found["events"][0]
    snn.set_weights([w / 2 for w in snn.get_weights()])
    after = snn.predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    snn.engine = "compiled"
    np.testing.assert_allclose(after, snn.predict(x, verbose=0), atol=1e-6)


def test_weights_that_change_in_any_way_are_noticed_and_others_cost_nothing(classifier):
    """Against tables that are made anew; a weight that is written again stays the same."""
    snn, *_ = classifier
    snn.engine = "events"
    weight = snn.trainable_weights[0]
    ones = np.ones(weight.shape, "float32")
    ways = [
        lambda: weight.assign_add(ones),
        lambda: keras.optimizers.SGD(0.5).apply([keras.ops.convert_to_tensor(ones)], [weight]),
        lambda: snn.set_weights([w / 2 for w in snn.get_weights()]),
        lambda: weight.assign(weight + ones),
    ]
    if keras.backend.backend() == "tensorflow":
        # Of one number, in place.
        ways.insert(2, lambda: weight.value.scatter_nd_add([[0] * weight.ndim], [1.0]))
    for change in (*ways, *ways):
        known = engine.event_network(snn)
        weight.assign(weight)
        assert engine.event_network(snn) is known
        change()
        new = engine.event_network(snn).assembled.weights
        np.testing.assert_array_equal(new, assemble(program_of(snn)).weights)
        assert not np.array_equal(new, known.assembled.weights)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "architecture",
    thorough([networks.plain, networks.inception, networks.siamese], quick=[0, 2]),
    ids=named,
)
def test_observers_see_the_same_and_operations_are_as_many(architecture, rng, monkeypatch):
    """In parts of all lengths: four steps and two, or all six, and batches of three and of two."""
    model = networks.build_dyadic(architecture, rng)
    x = networks.data_for(model, rng, 5, dyadic=True)
    snn = keras_snn.convert(model, x, timesteps=6, verbose=0)
    size = sum(math.prod(layer.value_shape) for layer in internals(snn).network.stateful.values())
    monkeypatch.setattr(event_runner, "_VALUES_AT_ONCE", 4 * 3 * size)
    counts, diagnoses = [], []
    for name in ("compiled", "events"):
        snn.engine = name
        counts.append(keras_snn.count_operations(snn, x, batch_size=3).to_dict())
        diagnoses.append(keras_snn.diagnose(snn, x, batch_size=3).to_dict())
    assert counts[0] == counts[1]
    flat = [[float(n) for n in keras.tree.flatten(d) if isinstance(n, (int, float))] for d in diagnoses]
    np.testing.assert_allclose(flat[0], flat[1], rtol=1e-4, atol=1e-5)


def test_the_engine_is_chosen_by_what_there_is_and_stays_in_a_file(classifier, monkeypatch, tmp_path):
    snn, x, _ = classifier
    snn.engine = "auto"
    monkeypatch.setattr(engine, "_is_faster", _AS_FOR_USERS)
    is_chosen = engine.event_network(snn) is not None
    assert is_chosen == (keras.backend.backend() != "torch" or not engine.computes_on_card())
    monkeypatch.setattr(engine, "_has_numba", lambda: False)
    assert engine.event_network(snn) is None
    snn.engine = "events"
    with pytest.raises(ImportError, match=r"needs Numba .* pip install 'keras-snn\[events\]'"):
        snn.predict(x, verbose=0)
    snn.save(tmp_path / "snn.keras")
    assert keras.saving.load_model(tmp_path / "snn.keras").engine == "events"
    with pytest.raises(ValueError, match="`engine` must be one of 'auto', 'compiled', 'events'"):
        snn.engine = "fast"


@keras.saving.register_keras_serializable(package="test")
@dataclasses.dataclass(frozen=True)
class _OfAUser(neurons.IntegrateAndFire):
    """A neuron that takes the form of another, and steps in its own way."""

    def step(self, current, state):
        return super().step(current / 2, state)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"neuron": _OfAUser()}, "layer 'hidden': neuron _OfAUser"),
        ({"max_pool": "fir"}, "a max pool of method 'fir'"),
        ({"dtype": "float64"}, "dtype 'float64' instead of float32"),
        ({"softmax": "poisson"}, "spikes drawn at random"),
    ],
)
def test_what_cannot_be_run_is_named(options, reason, rng, monkeypatch):
    model = keras.Sequential(
        [
            keras.Input((4, 2)),
            layers.Dense(3, activation="relu", name="hidden"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    x = rng.random((3, 4, 2), dtype="float32")
    snn = keras_snn.convert(model, x, timesteps=4, verbose=0, **options)
    monkeypatch.setattr(engine, "_is_faster", _AS_FOR_USERS)
    assert engine.event_network(snn) is None
    snn.engine = "events"
    with pytest.raises(ValueError, match=reason):
        snn.predict(x, verbose=0)
