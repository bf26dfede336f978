import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn.conversion.calibration import Histogram, calibrate, moments_on
from keras_snn.conversion.normalization import ScaleRule
from keras_snn.errors import CalibrationError
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold

RESOLUTION = 2 ** (1 / 128) - 1


def identity_graph(shape=(50,)):
    """A graph whose one relu sees the data itself."""
    inputs = keras.Input(shape, name="data")
    return lower(keras.Model(inputs, layers.ReLU(name="relu")(inputs)))


def histogram_of(values, **options):
    options = {"batch_size": 32, "verbose": 0, **options}
    return calibrate(identity_graph(values.shape[1:]), values, **options)["relu"]


def test_percentile_is_that_of_the_positive_values_to_the_resolution(rng):
    values = rng.normal(0, 1, (500, 50)).astype("float32") * 10 ** rng.uniform(-3, 3, 50).astype("float32")
    histogram = histogram_of(values)
    positive = np.sort(values[values > 0].astype("float64"))
    assert histogram.maximum == positive[-1]
    assert histogram.counts.sum() == len(positive)
    assert histogram.zeros == np.sum(values <= 0)
    for percentile in (1, 50, 99, 99.9, 99.99, 100):
        exact = positive[int(np.ceil(percentile / 100 * len(positive))) - 1]
        assert exact <= histogram.percentile(percentile) <= exact * (1 + RESOLUTION)
    assert histogram.percentile(100) == positive[-1]


def test_fraction_above_and_relative_error_are_those_of_the_values(rng):
    values = np.abs(rng.normal(0, 1, (400, 50))).astype("float32")
    histogram = histogram_of(values)
    scale = 1.7
    assert histogram.fraction_above(scale) == pytest.approx(np.mean(values > scale), abs=2e-3)
    rounded = np.clip(np.floor(values / scale * 8 + 0.5), 0, 8) * scale / 8
    error = np.sqrt(np.sum((values - rounded) ** 2) / np.sum(values**2))

    def to_counts(values):
        return np.clip(np.floor(values / scale * 8 + 0.5), 0, 8) * scale / 8

    assert histogram.relative_error(to_counts) == pytest.approx(error, rel=0.02)


def test_histogram_sees_the_activations_of_the_network(rng):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, samples=20)
    graph = fold(lower(model))
    values = evaluate(graph, x, everything=True)
    for name, histogram in calibrate(graph, x, batch_size=7, verbose=0).items():
        assert histogram.maximum == pytest.approx(values[name].max(), rel=1e-4)
        assert histogram.counts.sum() + histogram.zeros == values[name].size


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.x[i::4], self.y[i::4]


def test_every_kind_of_data_gives_the_same(rng):
    import tensorflow as tf

    x = rng.uniform(0, 1, (30, 50)).astype("float32")
    y = np.arange(30)
    reference = histogram_of(x)
    kinds = {
        "tuple": (x, y),
        "list": [x],
        "float64": x.astype("float64"),
        "dataset of x": tf.data.Dataset.from_tensor_slices(x).batch(7),
        "dataset of x and y": tf.data.Dataset.from_tensor_slices((x, y)).shuffle(30, seed=1).batch(4),
        "PyDataset": Sequence(x, y),
    }
    for name, data in kinds.items():
        other = calibrate(identity_graph(), data, batch_size=4, verbose=0)["relu"]
        np.testing.assert_array_equal(other.counts, reference.counts, err_msg=name)
        assert other.maximum == reference.maximum


def test_uint8_images_count_as_numbers(rng):
    values = rng.integers(0, 256, (10, 50)).astype("uint8")
    assert histogram_of(values).maximum == values.max()


NAN = np.array([[np.nan, 1.0], [np.inf, 2.0]], "float32")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            np.zeros((3, 4, 3)),
            "must have the shape (batch, 2) for input 'data'. Received: shape (batch, 4, 3).",
        ),
        (np.zeros((0, 2)), "must hold at least one sample. Received: no samples."),
        (NAN, "must be finite. Received: 2 values that are NaN or infinite in input 'data'."),
        (np.array([["a", "b"]]), "must hold numbers. Received: dtype <U1."),
        ("digits.npz", "must be an array, a list or dict of arrays, a tf.data.Dataset"),
        (5, "Received: int 5."),
        ([np.zeros((3, 2)), np.zeros((3, 2))], "must hold 1 inputs (data). Received: 2."),
        (
            (np.zeros((3, 2)), np.zeros(4)),
            "must hold as many samples in every array. Received: 3 in x, 4 in y.",
        ),
    ],
)
def test_calibrate_raises_when_the_data_is_wrong(data, message):
    with pytest.raises(CalibrationError) as error:
        calibrate(identity_graph((2,)), data, batch_size=2, verbose=0)
    assert str(error.value).startswith("`calibration_data` must")
    assert message in str(error.value)


def test_calibrate_raises_when_a_dataset_never_ends():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors(np.zeros((1, 2), "float32")).repeat()
    with pytest.raises(CalibrationError, match="must end. Received: an infinite dataset. Limit it"):
        calibrate(identity_graph((2,)), data, batch_size=2, verbose=0)


def test_calibrate_raises_when_an_activation_overflows(rng):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, activation="relu", name="big")(inputs))
    model.set_weights([np.full((2, 1), 3e38), np.zeros(1)])
    with pytest.raises(CalibrationError, match="must give finite activations. Received: inf in 'big/relu'"):
        calibrate(lower(model), np.ones((4, 2), "float32"), batch_size=2, verbose=0)


def test_calibrate_raises_when_an_activation_is_nan():
    inputs = keras.Input((2,))
    x = layers.Dense(1, activation="relu", name="big")(inputs)
    graph = lower(keras.Model(inputs, layers.Dense(1)(x)))
    nan = np.array([[3e38, -3e38]], "float32")
    graph.nodes["big"].kernel[:] = 10.0
    with pytest.raises(CalibrationError, match="must give finite activations. Received: inf in 'big/relu'"):
        calibrate(graph, nan, batch_size=2, verbose=0)


def test_calibrate_raises_when_a_sequence_has_no_length():
    class Endless(keras.utils.PyDataset):
        def __getitem__(self, i):
            return np.zeros((1, 2))

    with pytest.raises(CalibrationError, match="must end. Received: a PyDataset without a length"):
        calibrate(identity_graph((2,)), Endless(), batch_size=2, verbose=0)


def test_empty_histogram_has_no_error():
    silent = Histogram.empty(3)
    assert silent.relative_error(np.zeros_like) == 0.0
    assert silent.fraction_above(1.0) == 0.0


def test_channels_are_counted_apart(rng):
    """Each channel has the histogram that its values alone have, with coarser bins; together, that of all."""
    values = rng.normal(0, 1, (60, 5, 3)) * [1e-3, 1.0, 30.0]
    values = values.astype("float32")
    graph = identity_graph((5, 3))
    apart = calibrate(graph, values, batch_size=7, verbose=0, channels={"relu": 3})["relu"]
    whole = calibrate(graph, values, batch_size=60, verbose=0)["relu"]
    positive = [np.sort(values[..., c][values[..., c] > 0].astype("float64")) for c in range(3)]
    np.testing.assert_array_equal(apart.maximum, [v[-1] for v in positive])
    np.testing.assert_array_equal(apart.counts.sum(axis=1), [len(v) for v in positive])
    np.testing.assert_array_equal(apart.zeros, [values[..., 0].size - len(v) for v in positive])
    for percentile in (50, 90, 100):
        exact = np.array([v[int(np.ceil(percentile / 100 * len(v))) - 1] for v in positive])
        found = apart.percentile(percentile)
        assert np.all(exact <= found)
        assert np.all(found <= exact * 2 ** (1 / 32))
    pooled = apart.pooled()
    np.testing.assert_array_equal(pooled.maximum, whole.maximum)
    np.testing.assert_array_equal(pooled.zeros, whole.zeros)
    assert pooled.percentile(90) == pytest.approx(whole.percentile(90), rel=0.03)


def test_moments_are_those_of_what_goes_into_the_relus(rng):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng, samples=20)
    graph = fold(lower(model))
    values = evaluate(graph, x, everything=True)
    for name, (mean, variance) in moments_on(graph, x, batch_size=7, verbose=0).items():
        given = values[graph.nodes[name].inputs[0]]
        given = given.reshape(-1, given.shape[-1])
        np.testing.assert_allclose(mean, given.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, given.var(axis=0), rtol=1e-3, atol=1e-6)


def test_histogram_of_normal_is_that_of_drawn_values(rng):
    mean, deviation = rng.uniform(-1, 1, 4), rng.uniform(1, 3, 4)
    drawn = rng.normal(mean, deviation, (200_000, 4))
    histogram = Histogram.of_normal(mean, deviation**2, per_channel=True)
    total = histogram.counts.sum(axis=1) + histogram.zeros
    np.testing.assert_allclose(histogram.zeros / total, (drawn <= 0).mean(axis=0), atol=0.005)
    np.testing.assert_allclose(histogram.maximum, mean + 4 * deviation)
    for percentile in (50, 99):
        exact = [np.percentile(v[v > 0], percentile) for v in drawn.T]
        np.testing.assert_allclose(histogram.percentile(percentile), exact, rtol=0.04)
    together = Histogram.of_normal(mean, deviation**2, per_channel=False)
    assert together.percentile(99) == pytest.approx(np.percentile(drawn[drawn > 0], 99), rel=0.04)


def test_histogram_of_normal_has_no_values_when_they_are_beyond_four_deviations():
    """As the maximum, so that no scale is chosen of what counts as never active."""
    mean = np.array([-5.0, 1.0])
    apart = Histogram.of_normal(mean, np.ones(2), per_channel=True)
    np.testing.assert_array_equal(apart.maximum, [0.0, 5.0])
    assert not apart.counts[0].any()
    assert apart.counts[1].any()
    assert apart.zeros[0] == 2**30
    silent = Histogram.of_normal(mean[:1], np.ones(1), per_channel=False)
    assert ScaleRule("percentile", 99.9, "if", 8).scales(silent) == [1.0]
