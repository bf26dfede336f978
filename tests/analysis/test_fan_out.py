import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from keras_snn.analysis.fan_out import fan_out
from keras_snn.graph.lowering import lower
from keras_snn.graph.nodes import Affine, ChannelAffine

CONVOLUTIONS = [
    (lambda: layers.Conv2D(4, 3, strides=2, padding="same"), (7, 6, 3)),
    (lambda: layers.Conv2D(4, (3, 2), dilation_rate=2), (8, 7, 2)),
    (lambda: layers.Conv2D(6, 3, groups=2, strides=(2, 1)), (6, 6, 4)),
    (lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (5, 5, 3)),
    (lambda: layers.Conv1D(3, 4, dilation_rate=2, padding="causal"), (9, 2)),
    (lambda: layers.Conv3D(2, 2, strides=(1, 2, 1), padding="same"), (3, 4, 3, 2)),
    (lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same"), (4, 5, 2)),
    (lambda: layers.Conv2DTranspose(3, (4, 3), strides=(2, 3), output_padding=(1, 2)), (4, 3, 2)),
    (lambda: layers.Dense(5), (4, 3)),
]


@pytest.mark.parametrize(("make", "shape"), CONVOLUTIONS)
def test_fan_out_is_what_an_input_reaches(make, shape, rng):
    """Compared with the sum of the outputs for one input that is 1, where every weight is 0 or 1."""
    model = keras.Sequential([keras.Input(shape), make()])
    model.set_weights([rng.integers(0, 2, w.shape) * (w.ndim > 1) for w in model.get_weights()])
    node = next(n for n in lower(model).nodes.values() if isinstance(n, Affine))
    size = int(np.prod(shape))
    outputs = keras.ops.convert_to_numpy(model(np.eye(size).reshape(size, *shape)))
    reached = outputs.reshape(size, -1).sum(axis=1)
    np.testing.assert_array_equal(fan_out(node, shape), reached.reshape(shape))
    whole = dataclasses.replace(node, kernel=np.ones_like(node.kernel))
    np.testing.assert_array_equal(fan_out(node, shape, zeros=True), fan_out(whole, shape))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_fan_out_of_a_dilated_window_is_that_of_one_with_zeros_inside(padding, rng):
    """Which TensorFlow does not compute for transposed convolutions on a CPU."""
    inputs, nodes = keras.Input((5, 4, 2)), []
    for options in ({"kernel_size": 3, "dilation_rate": 2}, {"kernel_size": 5}):
        model = keras.Model(inputs, layers.Conv2DTranspose(3, padding=padding, **options)(inputs))
        nodes += [n for n in lower(model).nodes.values() if isinstance(n, Affine)]
    dilated, whole = nodes
    kernel = np.zeros_like(whole.kernel)
    kernel[::2, ::2] = dilated.kernel
    expected = fan_out(dataclasses.replace(whole, kernel=kernel), (5, 4, 2))
    np.testing.assert_array_equal(fan_out(dilated, (5, 4, 2)), expected)


def test_fan_out_of_a_factor_is_one_where_it_is_not_zero(rng):
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.BatchNormalization()(inputs))
    for gamma in ([0.5, 0.0, -2.0], [0.0, 0.0, 0.0]):
        model.set_weights([np.array(gamma), *rng.uniform(0.5, 1, (3, 3))])
        node = next(n for n in lower(model).nodes.values() if isinstance(n, ChannelAffine))
        np.testing.assert_array_equal(fan_out(node, (4, 3)), [[value != 0 for value in gamma]] * 4)
        np.testing.assert_array_equal(fan_out(node, (4, 3), zeros=True), np.ones((4, 3)))
