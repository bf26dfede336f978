"""Masks of padded samples: Keras hands them on beside values, and some layers read them."""

import contextlib
import warnings

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_snn
from keras_snn.errors import UnsupportedLayerError

WORDS, LENGTH = 9, 6


@keras.saving.register_keras_serializable(package="tests")
class Tokens(layers.Layer):
    """Hands on a mask that it computes, as the embedding of tokens and places of keras.io does."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.token, self.place = layers.Embedding(WORDS, 4), layers.Embedding(LENGTH, 4)

    def call(self, x):
        return self.token(x) + self.place(ops.arange(0, LENGTH))

    def compute_mask(self, x, mask=None):
        return ops.not_equal(x, 0)


@keras.saving.register_keras_serializable(package="tests")
class Encoder(layers.Layer):
    """Gets a mask by name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention, self.dense = layers.MultiHeadAttention(2, 2), layers.Dense(5, activation="relu")
        self.supports_masking = True

    def call(self, x, mask=None):
        return self.dense(x + self.attention(x, x, attention_mask=None if mask is None else mask[:, None, :]))


def _dense(x):
    return layers.Dense(5, activation="relu")(x)


def _average(x):
    return layers.GlobalAveragePooling1D()(x)


def _embedded(x):
    return layers.Embedding(WORDS, 4, mask_zero=True)(x)


def _inside(x):
    y = _embedded(x)
    return keras.Sequential([keras.Input(y.shape[1:]), layers.Dense(5, activation="relu"), _Average()])(y)


class _Average(layers.GlobalAveragePooling1D):
    """A pool of a user, so that the mask reaches a call inside a call."""


# Networks that convert with the defaults: what reads the mask is linear, or sees the input alone.
OF_MASKS = {
    "average of constants": lambda x: _average(_embedded(x)),
    "average": lambda x: _average(_dense(_embedded(x))),
    "sum": lambda x: (lambda y: _average(layers.Add()([_dense(y), _dense(y)])))(_embedded(x)),
    "recurrent": lambda x: layers.Bidirectional(layers.LSTM(3))(_embedded(x)),
    "not read": lambda x: layers.Flatten()(layers.Conv1D(5, 3, activation="relu")(_embedded(x))),
    "model inside": _inside,
    "own code": lambda x: _average(Encoder()(Tokens()(x))),
    "of numbers": lambda x: _average(_dense(layers.Masking()(ops.cast(x, "float32")[..., None]))),
}


@contextlib.contextmanager
def _quiet():
    """Drop the warnings of Keras about layers that do not hand masks on, of the source network alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _padded(rng, samples=24):
    """Return tokens of samples of random length with zeros after them."""
    x = rng.integers(1, WORDS, (samples, LENGTH))
    x[np.arange(LENGTH) >= rng.integers(1, LENGTH + 1, (samples, 1))] = 0
    return x.astype("int32")


def _model(rng, body):
    inputs = keras.Input((LENGTH,), dtype="int32")
    with _quiet():
        model = keras.Model(inputs, layers.Dense(3)(layers.Dense(8, activation="relu")(body(inputs))))
    networks.randomize(model, rng)
    return model


def _check(model, x, timesteps=1024, **options):
    snn = keras_snn.convert(model, x, timesteps=timesteps, normalization="max", verbose=0, **options)
    found = snn.predict_on_batch(x)
    with _quiet():
        expected = model.predict_on_batch(x)
    np.testing.assert_allclose(found, expected, atol=10 / timesteps * np.abs(expected).max())
    return snn


@pytest.mark.parametrize("body", OF_MASKS.values(), ids=OF_MASKS)
def test_convert_keeps_masks_of_padded_samples(body, rng):
    _check(_model(rng, body), _padded(rng))


@pytest.mark.parametrize("second", [_embedded, lambda x: ops.cast(x, "float32")[..., None]])
def test_convert_keeps_masks_of_neurons_side_by_side(second, rng):
    """Keras makes the mask with `zeros_like` and `ones_like` of them, which are constants."""

    def body(x):
        return _average(layers.Concatenate()([_dense(_embedded(x)), _dense(second(x))]))

    model, x = _model(rng, body), _padded(rng)
    try:
        model.predict(x, verbose=0)
    except ValueError:
        pytest.skip("This version of Keras cannot run masks of Concatenate on batches of any size.")
    _check(model, x)


def test_convert_keeps_a_mask_that_a_layer_after_neurons_reads_when_it_may_stay(rng, tmp_path):
    model, x = _model(rng, lambda x: layers.SimpleRNN(3)(_dense(_embedded(x)))), _padded(rng)
    with pytest.raises(UnsupportedLayerError, match=r"1 part .*\n.*'simple_rnn.*no conversion rule"):
        keras_snn.convert(model, x, verbose=0)
    snn = _check(model, x, timesteps=128, nonspiking="allow")
    snn.save(tmp_path / "snn.keras")
    again = keras.models.load_model(tmp_path / "snn.keras")
    np.testing.assert_array_equal(again.predict_on_batch(x), snn.predict_on_batch(x))


def test_a_part_that_is_linear_beside_constants_acts_on_every_step(rng):
    # Neurons after it get what spikes add, so nothing of the averages of the first steps stays in them.
    snn = keras_snn.convert(_model(rng, OF_MASKS["average"]), _padded(rng), timesteps=4, verbose=0)
    became = {row.name: row for row in snn.conversion_report.layers}
    (row,) = (row for name, row in became.items() if "average" in name)
    assert (row.became, row.nonspiking) == ("PerTimestep(GlobalAveragePooling1D)", False)


def test_check_names_what_masks_leave_linear(rng):
    verdicts = keras_snn.check(_model(rng, OF_MASKS["average"])).verdicts
    becomes = {v.layer_class.rpartition(".")[2]: v.becomes for v in verdicts}
    assert becomes["Embedding"] == "computed once"
    assert becomes["GlobalAveragePooling1D"] == "linear"
