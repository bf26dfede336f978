import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn import count_operations


def paper_cnn():
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters, padding in ((32, "same"), (32, "same"), (64, "valid"), (64, "valid")):
        model.add(layers.Conv2D(filters, 3, padding=padding, use_bias=False, activation="relu"))
        if len(model.layers) in (2, 5):
            model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dense(512, use_bias=False, activation="relu"))
    model.add(layers.Dense(10, use_bias=False, activation="softmax"))
    return model


def test_operations_of_the_network_of_the_paper():
    counts = count_operations(paper_cnn())
    assert counts.ann_operations == 40_855_552
    assert counts.ann_operations == 2 * counts.macs
    assert counts.snn_operations is None
    assert counts.metrics["ann_operations"] == sum(
        part.metrics["ann_operations"] for part in counts.by_layer.values()
    )
    assert "40,855,552" in str(counts)


def test_biases_count_once_per_output(rng):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(4)])
    networks.randomize(model, rng)
    counts = count_operations(model)
    assert [layer.biases for layer in counts.layers] == [4 * 4 * 3, 4]
    assert [layer.macs for layer in counts.layers] == [4 * 4 * 3 * 18, 48 * 4]
    assert counts.ann_operations == 2 * (48 * 18 + 192) + 48 + 4


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_footprint_is_that_of_the_dtype_of_the_weights(dtype, size, rng, request):
    policy = keras.config.dtype_policy()
    request.addfinalizer(lambda: keras.config.set_dtype_policy(policy))
    keras.config.set_dtype_policy(dtype)
    inputs = keras.Input((5,))
    shared = layers.Dense(5, name="shared")
    x = layers.Dense(5, use_bias=False, name="other")(shared(shared(inputs)))
    counts = count_operations(networks.randomize(keras.Model(inputs, x), rng))
    # A call of a layer that was called before has no weights of its own.
    assert [layer.footprint for layer in counts.layers] == [30 * size, 0, 25 * size]


def test_a_factor_counts_as_a_layer_with_one_weight_for_each_channel():
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.BatchNormalization(epsilon=0.0, name="norm")(inputs))
    model.set_weights([np.array(v) for v in ([0.5, 0.0, -2.0], [0.0, 0.3, 0.0], [0.0] * 3, [1.0] * 3)])
    (found,) = count_operations(model).layers
    counts = {"macs": 12, "biases": 12, "dense": 12, "weights": 3, "zeros": 1, "footprint": 4 * 6}
    counts |= {"reads": 0, "is_analog": False}
    assert {name: getattr(found, name) for name in counts} == counts


def test_a_factor_that_varies_in_space_multiplies_every_value_once(rng):
    inputs = keras.Input((4, 3))
    joined = layers.Concatenate(1)([layers.BatchNormalization()(layers.ReLU()(inputs)), inputs])
    model = networks.randomize(keras.Model(inputs, layers.ReLU()(joined)), rng)
    (found,) = count_operations(model).layers
    assert (found.macs, found.biases, found.dense, found.weights) == (24, 24, 24, 24)


def test_factors_that_were_moved_have_weights_of_their_own(rng):
    x = inputs = keras.Input((4, 4, 3))
    for _ in range(2):
        x = layers.AveragePooling2D(2)(layers.BatchNormalization()(layers.ReLU()(x)))
    model = networks.randomize(keras.Model(inputs, layers.ReLU()(x)), rng)
    assert [layer.footprint for layer in count_operations(model).layers] == [4 * 6, 4 * 6]
