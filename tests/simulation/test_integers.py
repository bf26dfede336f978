import keras
import numpy as np
import pytest
import running
from keras import layers, ops

import keras_snn

USES = {
    "as they are": lambda x: x,
    "some of them": lambda x: x[:, :3],
    "side by side": lambda x: ops.concatenate([x[:, 2:], x[:, :2]], axis=1),
    "shifted": lambda x: x + np.array([1, 2, 1000, 1500], "int32"),
}


@pytest.mark.parametrize(("use", "dtype"), running.pairs(USES, ["mixed_bfloat16", "float16"]))
def test_integers_that_name_things_are_not_rounded(use, dtype, rng):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7000, 8, embeddings_initializer="normal")(USES[use](inputs))
    x = layers.Conv1D(8, 1, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    ids = rng.integers(300, 4999, size=(16, 4)).astype("int32")
    options = {"nonspiking": "allow", "timesteps": 256, "normalization": "max", "verbose": 0}
    snn = keras_snn.convert(model, ids, dtype=dtype, **options)
    expected = model.predict(ids, verbose=0)
    atol = 0.03 * np.abs(expected).max()
    as_floats = ids.astype("float32")
    for found in (snn.predict(ids, verbose=0), snn.simulate(ids).outputs, snn.predict(as_floats, verbose=0)):
        np.testing.assert_allclose(np.asarray(found, "float32"), expected, atol=atol)


def test_integers_beyond_float32_are_kept(rng):
    inputs = keras.Input((2,), dtype="int32")
    last = ops.cast(ops.mod(inputs, 10), "float32")
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(6, activation="relu")(last)))
    x = (2**24 + rng.integers(0, 1000, size=(16, 2))).astype("int32")
    options = {"nonspiking": "allow", "timesteps": 512, "normalization": "max", "verbose": 0}
    snn = keras_snn.convert(model, x, **options)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(snn.predict(x, verbose=0), expected, atol=0.02 * np.abs(expected).max())
