"""Faults of Keras and TensorFlow that the package works around.

If a test fails, the fault is mended. The workaround, which the docstring names, can go once the oldest
version that is allowed is mended too. Where a docstring names no issue, none is filed as far as is known.
The faults on several devices are in `on_two_devices.py`.
"""

import keras
import numpy as np
import pytest
from keras import ops

BACKEND = keras.backend.backend()


def on(*backends):
    return pytest.mark.skipif(BACKEND not in backends, reason=f"a fault on {' and '.join(backends)}")


@on("tensorflow")
def test_a_sum_of_empty_batches_fails():
    """`engines.compiled.run_chunks` adds with an operator. Since keras-team/keras#20386."""
    with pytest.raises(Exception, match="Biases must be 1D"):
        ops.add(ops.zeros((0, 3)), ops.zeros((0, 3)))


@on("tensorflow")
@pytest.mark.compiled
def test_a_convolution_of_no_samples_has_the_shape_of_its_input():
    """A `SpikingModel` on several devices returns outputs of no samples without running its layers."""
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(5, 3)])
    assert model.predict_on_batch(np.zeros((0, 6, 6, 2), "float32")).shape == (0, 6, 6, 2)


@on("tensorflow")
def test_arrays_are_read_with_tuning(monkeypatch):
    """`_data.untuned` gives Keras a dataset that is not tuned, because a run waits for the tuning."""
    import tensorflow as tf

    found = []
    strategy = tf.distribute.get_strategy()
    distribute = type(strategy).experimental_distribute_dataset
    monkeypatch.setattr(
        type(strategy),
        "experimental_distribute_dataset",
        lambda self, dataset: found.append(dataset.options().autotune.enabled) or distribute(self, dataset),
    )
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.predict(np.zeros((4, 2), "float32"), verbose=0)
    assert found == [None]


@on("tensorflow")
def test_a_recorded_transposed_convolution_fails():
    """`own_operations.ConvTranspose` is recorded in its place."""
    inputs = keras.Input((5, 4))
    output = ops.conv_transpose(inputs, np.ones((3, 2, 4), "float32"), strides=2)
    with pytest.raises(AttributeError, match="has no attribute 'lower'"):
        keras.Model(inputs, output)(np.ones((1, 5, 4), "float32"))


@on("jax", "torch")
def test_result_type_does_not_know_float64():
    """`SpikingLayer.state_dtype` chooses it itself. keras-team/keras#23704."""
    assert keras.backend.result_type("float32", "float64") == "float32"


@on("torch")
@pytest.mark.parametrize("operation", [lambda x: ops.maximum(x, 0.0), ops.floor])
def test_operations_round_float64(operation):
    """`BinaryActivation` takes relu for a maximum; `_gradients.floor` casts. keras-team/keras#23223."""
    assert keras.backend.standardize_dtype(operation(ops.zeros(2, "float64")).dtype) == "float32"


@on("tensorflow")
def test_constant_initializers_round_to_float32():
    """`QuantizedClip` fills its scale itself."""
    value = keras.initializers.Constant(0.1)((), dtype="float64")
    assert float(ops.convert_to_numpy(value)) != 0.1
