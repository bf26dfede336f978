"""`check_finite=True`: NaN and infinity in the input are errors, however the data comes."""

import keras
import networks
import numpy as np
import pytest
import tensorflow as tf
from contracts import assert_same, convert
from keras import layers

SAMPLES, BATCH = 12, 4


class Batched(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __getitem__(self, i):
        return self.batches[i % len(self.batches)]


def rows(data, start, stop):
    return keras.tree.map_structure(lambda a: a[start:stop], data)


def batches_of(data):
    return [rows(data, start, start + BATCH) for start in range(0, SAMPLES, BATCH)]


IN_BATCHES = {
    "tf.data": lambda data: tf.data.Dataset.from_tensor_slices(data).batch(BATCH),
    "tf.data of unknown length": lambda data: IN_BATCHES["tf.data"](data).filter(lambda *_: True),
    "PyDataset": lambda data: Batched(batches_of(data)),
    "generator": lambda data: (batch for batch in batches_of(data)),
}
# Of data of unknown length Keras 3.15 warns on JAX and PyTorch, checked or not.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(7)
    inputs = {"image": keras.Input((3, 4), name="image"), "vector": keras.Input((5,), name="vector")}
    hidden = [
        layers.Dense(4, activation="relu")(x) for x in (layers.Flatten()(inputs["image"]), inputs["vector"])
    ]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(hidden)))
    networks.make_dyadic(model, rng)
    x = networks.data_for(model, rng, samples=SAMPLES, dyadic=True)
    snn = convert(model, x, timesteps=3)
    snn.compile(loss="mse")
    return snn, x, rng.uniform(0, 1, (SAMPLES, 2))


def spoilt(x, places, value=np.nan):
    return {**x, "vector": _with(x["vector"], places, value)}


def _with(array, places, value):
    array = array.copy()
    for place in places:
        array[place] = value
    return array


def message(count):
    return (
        f"`x` must be finite. Received: {count} values that are NaN or infinite in input 'vector'. "
        "Clean the data."
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predict_and_evaluate_raise_when_an_array_is_not_finite(value, case):
    snn, x, y = case
    bad = spoilt(x, [(3, 1), (3, 2), (11, 4)], value)
    for data in (bad, list(bad.values())):
        with pytest.raises(ValueError) as error:
            snn.predict(data, verbose=0, check_finite=True)
        assert str(error.value) == message(3)
        with pytest.raises(ValueError) as error:
            snn.evaluate(data, y, verbose=0, check_finite=True)
        assert str(error.value) == message(3)


@pytest.mark.parametrize("kind", IN_BATCHES)
@pytest.mark.parametrize("sample", [0, 6, 11])
def test_predict_and_evaluate_raise_at_the_batch_that_is_not_finite(kind, sample, case):
    snn, x, y = case
    weights, bad = snn.get_weights(), spoilt(x, [(sample, 1)])
    for run, data in ((snn.predict, (bad,)), (snn.evaluate, (bad, y))):
        with pytest.raises(ValueError) as error:
            run(IN_BATCHES[kind](data), verbose=0, check_finite=True)
        assert str(error.value) == message(1)
    # Keras on JAX takes them away during a run.
    assert_same(snn.get_weights(), weights)


@pytest.mark.parametrize("kind", IN_BATCHES)
def test_finite_data_gives_the_same_when_it_is_checked(kind, case):
    snn, x, y = case
    expected = snn.predict(x, batch_size=BATCH, verbose=0)
    of_batches = IN_BATCHES[kind]
    for data in ((x,), (x, y)):
        assert_same(snn.predict(of_batches(data), verbose=0, check_finite=True), expected, tolerance=1e-6)
    losses = snn.evaluate(of_batches((x, y)), verbose=0)
    assert snn.evaluate(of_batches((x, y)), verbose=0, check_finite=True) == pytest.approx(losses, rel=1e-5)


def test_arrays_and_batches_without_targets_are_checked_as_they_come(case):
    snn, x, _ = case
    expected = snn.predict(x, verbose=0)
    assert_same(snn.predict(x, verbose=0, check_finite=True), expected)
    for data in (x, list(x.values())):
        outputs = snn.predict(Batched(batches_of(data)), verbose=0, check_finite=True)
        assert_same(outputs, expected, tolerance=1e-6)


def test_as_many_steps_of_endless_data_are_checked_as_are_asked_for(case):
    snn, x, _ = case
    expected = snn.predict(x, verbose=0)
    for steps in (1, 2):
        data = Endless([(batch,) for batch in batches_of(spoilt(x, [(11, 0)]))])
        outputs = snn.predict(data, steps=steps, verbose=0, check_finite=True)
        assert_same(outputs, rows(expected, 0, steps * BATCH), tolerance=1e-6)
    with pytest.raises(ValueError, match="`x` must be finite. Received: 1 values"):
        snn.predict(data, steps=3, verbose=0, check_finite=True)


def test_values_of_bfloat16_are_checked(case):
    """In what NumPy has no kind for, as in all others; `simulate` always checks."""
    snn, x, _ = case
    x = keras.tree.map_structure(lambda a: tf.cast(a, "bfloat16").numpy(), spoilt(x, [(3, 1)]))
    with pytest.raises(ValueError) as error:
        snn.predict(x, verbose=0, check_finite=True)
    assert str(error.value) == message(1)
    with pytest.raises(ValueError) as error:
        snn.simulate(x)
    assert str(error.value) == message(1)


def test_unchecked_nan_silences_neurons(rng):
    """Why there is such a check."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu", name="hidden")])
    model.set_weights([np.ones((3, 4)), np.zeros(4)])
    snn = convert(model, np.ones((2, 3)), timesteps=4)
    x = np.array([[1.0, 1.0, 1.0], [1.0, np.nan, 1.0]], "float32")
    outputs = snn.predict(x, verbose=0)
    assert outputs[0].all()
    assert not outputs[1].any()
