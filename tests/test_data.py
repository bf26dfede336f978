"""Whatever holds numbers and reads as an array gives what the array gives, everywhere data is taken."""

import array
from collections import UserList

import keras
import networks
import numpy as np
import pytest
import running

import keras_snn
from keras_snn._data import untuned


class Column:
    """An array that allows plain indexing only, as a column of a data frame."""

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, key):
        if isinstance(key, tuple):
            raise ValueError("multi-dimensional indexing is not supported")
        return self.values[key]


class Readable:
    """Nothing but what NumPy needs to read it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


class Interface:
    """An array by NumPy's protocol of memory alone."""

    def __init__(self, values):
        self.values, self.__array_interface__ = values, values.__array_interface__


class Lent:
    """An array by DLPack alone, as libraries for graphics cards have them."""

    def __init__(self, values):
        self.__dlpack__, self.__dlpack_device__ = values.__dlpack__, values.__dlpack_device__


def with_gradient(values):
    """A tensor of PyTorch that NumPy refuses to read, also where PyTorch is not the backend."""
    torch = pytest.importorskip("torch")
    return torch.tensor(values).requires_grad_(values.dtype.kind == "f")


MADE = {
    "column": Column,
    "readable": Readable,
    "memoryview": memoryview,
    "masked": np.ma.array,
    "array.array": lambda values: array.array("f" if values.dtype.kind == "f" else "q", values.tolist()),
    "ctypes": np.ctypeslib.as_ctypes,
    "interface": Interface,
    "DLPack": Lent,
    "gradient": with_gradient,
}
KINDS = [*MADE, "HDF5", "series"]


@pytest.fixture
def kind(request, tmp_path):
    if request.param == "HDF5":
        with pytest.importorskip("h5py").File(tmp_path / "data.h5", "w") as file:
            yield lambda values: file.create_dataset(str(len(file)), data=values)
        return
    if request.param == "series":
        yield pytest.importorskip("pandas").Series
        return
    yield MADE[request.param]


@pytest.fixture
def case(rng):
    inputs = {name: keras.Input((1,), name=name) for name in "ab"}
    x = keras.layers.Concatenate()(list(inputs.values()))
    x = keras.layers.Dense(7, activation="relu")(x)
    model = networks.randomize(keras.Model(inputs, keras.layers.Dense(3)(x)), rng)
    model.compile("sgd", "mse")
    x = {name: rng.uniform(size=18).astype("float32") for name in "ab"}
    snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
    snn.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model, snn, x, rng.integers(0, 3, 18)


def unchanged(model, train):
    """Return what training a model gives, which has its weights from before again."""
    before = model.get_weights()
    try:
        return train()
    finally:
        model.set_weights(before)


def fit(model, x, y):
    """Train and validate on the same data."""
    return unchanged(model, lambda: model.fit(x, y, shuffle=False, verbose=0, validation_data=(x, y)).history)


TAKERS = {
    "convert": lambda m, s, x, y: keras_snn.convert(m, x, timesteps=4, verbose=0).predict(x, verbose=0),
    "predict": lambda m, s, x, y: s.predict(x, verbose=0),
    "predict, finite": lambda m, s, x, y: s.predict(x, verbose=0, check_finite=True),
    "evaluate": lambda m, s, x, y: s.evaluate(x, y, verbose=0),
    "fit": lambda m, s, x, y: list(fit(s, x, y).values()),
    "train_on_batch": lambda m, s, x, y: unchanged(s, lambda: s.train_on_batch(x, y)),
    "test_on_batch": lambda m, s, x, y: s.test_on_batch(x, y),
    "predict_on_batch": lambda m, s, x, y: s.predict_on_batch(x),
    "call": lambda m, s, x, y: keras.ops.convert_to_numpy(s(x)),
    "check": lambda m, s, x, y: str(keras_snn.check(m, x)) == str(keras_snn.check(m)),
    "simulate": lambda m, s, x, y: s.simulate(x, y, record="spike_counts").firing_rates["dense"],
    "accuracy": lambda m, s, x, y: s.simulate(x, y).accuracy_over_time,
    "top k": lambda m, s, x, y: s.simulate(x).top_k_accuracy_over_time(y, 2),
    "count": lambda m, s, x, y: keras_snn.count_operations(s, x).snn_operations,
    "diagnose": lambda m, s, x, y: keras_snn.diagnose(s, x).layers[0].error.relative,
    "report": lambda m, s, x, y: keras_snn.report(s, x, y, path=None).agreement.accuracy_over_time,
    "calibrate_exit": lambda m, s, x, y: keras_snn.calibrate_exit(s, x, y).curve,
}


@pytest.mark.parametrize(("taker", "kind"), running.pairs(TAKERS, KINDS), indirect=["kind"])
def test_what_reads_as_an_array_gives_what_the_array_gives(taker, kind, case):
    model, snn, x, y = case
    expected = TAKERS[taker](model, snn, x, y)
    keras.utils.clear_session(free_memory=False)
    read = {name: kind(values) for name, values in x.items()}
    np.testing.assert_array_equal(TAKERS[taker](model, snn, read, kind(y)), expected)


@pytest.mark.parametrize(
    "kind",
    [np.ndarray.tolist, set, bytes, iter, UserList, lambda values: None, lambda values: values[0]],
    ids=["numbers", "set", "bytes", "iterator", "sequence", "nothing", "one number"],
)
def test_what_is_no_array_is_refused_by_one_error_everywhere(kind, case):
    model, snn, x, y = case
    read = {name: kind(values) for name, values in x.items()}
    for name, taker in TAKERS.items():
        if name == "top k":
            continue
        with pytest.raises(ValueError, match="must (be an array|be a tensor or array|have the shape)"):
            taker(model, snn, read, y)


def test_labels_are_refused_where_they_are_no_numbers_and_may_be_lists(case):
    _, snn, x, y = case
    assert snn.evaluate(x, y.tolist(), verbose=0) == snn.evaluate(x, y, verbose=0)
    for wrong in (y.astype(str), y.astype(object), np.int64(3)):
        for name in ("evaluate", "fit", "train_on_batch", "test_on_batch", "simulate", "calibrate_exit"):
            with pytest.raises(ValueError, match="`y` must hold"):
                TAKERS["accuracy" if name == "simulate" else name](None, snn, x, wrong)


def test_objects_are_still_refused(case):
    _, snn, x, _ = case
    for values in (Column(np.array(["a"] * 18)), Column(np.array([None] * 18)), Readable([{}] * 18)):
        with pytest.raises(ValueError, match="`x` must hold numbers"):
            snn.predict({**x, "a": values}, verbose=0)
        with pytest.raises(ValueError):
            snn.simulate({**x, "a": values})


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data is TensorFlow's")
@pytest.mark.parametrize(
    ("samples", "batch_size", "steps"),
    [(7, 3, None), (6, 3, None), (2, 3, None), (70, None, None), (7, None, 2)],
)
def test_a_dataset_that_is_not_tuned_gives_what_keras_makes_of_arrays(samples, batch_size, steps, rng):
    """Batch by batch: values, dtypes and structure, of floats of another dtype and integers too."""

    class Spy(keras.Model):
        seen = []

        def call(self, inputs):
            return inputs["a"]

        def test_step(self, data):
            self.seen.append(keras.tree.map_structure(lambda tensor: tensor.numpy(), data))
            return {"loss": keras.ops.zeros(())}

    x = {"a": rng.normal(size=(samples, 2)), "b": rng.integers(0, 9, (samples, 3), dtype="uint8")}
    y, weights = rng.integers(0, 2, samples), rng.normal(size=samples).astype("float16")
    for given in ((x, y, weights), (x, y, None)):
        found = []
        for reading in (lambda *data: data, lambda *data: untuned(*data, batch_size=batch_size, steps=steps)):
            model = Spy()
            model.seen = []
            model.compile(loss="mse", run_eagerly=True)
            data = reading(*given)
            model.evaluate(
                data[0], data[1], batch_size=batch_size, sample_weight=data[2], steps=steps, verbose=0
            )
            found.append(model.seen)
        assert data[1] is data[2] is None
        assert len(found[0]) == -(-samples // (batch_size or (-(-samples // steps) if steps else 32)))
        as_keras, as_ours = ([keras.tree.flatten(batch) for batch in batches] for batches in found)
        for first, second in zip(as_keras, as_ours, strict=True):
            for a, b in zip(first, second, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def test_data_that_keras_has_to_judge_stays_as_it_is(rng):
    x = np.zeros((4, 2))
    for data in (([x, x[:3]], None, None), (x, x[:3], None), (x, [x, x], x[:, 0]), (iter([x]), None, None)):
        assert all(a is b for a, b in zip(untuned(*data, batch_size=2, steps=None), data, strict=True))
