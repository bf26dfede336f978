import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn.graph import nodes as kinds
from keras_snn.graph.evaluation import evaluate
from keras_snn.graph.lowering import lower
from keras_snn.graph.passes import fold, insert_scale, pool_by_axes


def kinds_in(graph):
    return [type(node).__name__ for node in graph.nodes.values()]


def folded(rng, *steps, shape=(6, 6, 3)):
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    model = networks.randomize(keras.Model(inputs, x), rng)
    graph = lower(model)
    after = fold(graph)
    data = rng.normal(0, 1, (3, *shape))
    np.testing.assert_allclose(evaluate(after, data), evaluate(graph, data), rtol=1e-4, atol=1e-5)
    return after


def test_fold_moves_batch_norm_into_the_layer_before_it(rng):
    graph = folded(rng, layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    assert kinds_in(graph) == ["Input", "Affine", "Activation"]


def test_fold_moves_several_batch_norms_forward_through_relu_pooling_and_flatten(rng):
    steps = [layers.ReLU(), layers.BatchNormalization(), layers.BatchNormalization()]
    steps += [layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3)]
    graph = folded(rng, *steps)
    assert kinds_in(graph) == ["Input", "Activation", "Pool", "Rearrange", "Affine"]


def test_fold_keeps_a_shift_before_zero_padding(rng):
    graph = folded(rng, layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(4, 3, padding="same"))
    assert kinds_in(graph) == ["Input", "Activation", "ChannelAffine", "Affine"]
    graph = folded(rng, layers.BatchNormalization(), layers.ZeroPadding2D(), layers.Conv2D(4, 3))
    assert kinds_in(graph) == ["Input", "ChannelAffine", "Rearrange", "Affine"]


def test_fold_passes_same_padding_that_pads_nothing(rng):
    graph = folded(rng, layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(4, 1, padding="same"))
    assert kinds_in(graph) == ["Input", "Activation", "Affine"]


def test_fold_passes_a_maximum_only_when_no_scale_is_negative(rng):
    for sign, expected in (
        (1, ["Input", "Pool", "Affine"]),
        (-1, ["Input", "ChannelAffine", "Pool", "Affine"]),
    ):
        inputs = keras.Input((6, 6, 3))
        norm = layers.BatchNormalization()
        x = layers.Conv2D(2, 2)(layers.MaxPooling2D(2)(norm(inputs)))
        model = networks.randomize(keras.Model(inputs, x), rng)
        norm.gamma.assign([0.5, 1.0, sign * 2.0])
        graph = lower(model)
        after = fold(graph)
        assert kinds_in(after) == expected
        data = rng.normal(0, 1, (3, 6, 6, 3))
        np.testing.assert_allclose(evaluate(after, data), evaluate(graph, data), rtol=1e-4, atol=1e-5)


def test_fold_keeps_batch_norm_behind_a_value_with_another_user(rng):
    graph = fold(lower(networks.build(networks.preactivation, rng)))
    kept = [node for node in graph.nodes.values() if isinstance(node, kinds.ChannelAffine)]
    # One behind the first convolution, which the sum needs too, and one behind the first sum.
    assert len(kept) == 2


def test_fold_moves_batch_norm_behind_a_sum_into_its_branches(rng):
    inputs = keras.Input((5, 5, 2))
    branches = [layers.Conv2D(3, k, padding="same")(inputs) for k in (1, 3, 3)]
    x = layers.BatchNormalization()(layers.Add()([layers.Add()(branches[:2]), branches[2]]))
    graph = lower(networks.randomize(keras.Model(inputs, x), rng))
    after = fold(graph)
    assert "ChannelAffine" not in kinds_in(after)
    data = rng.normal(0, 1, (3, 5, 5, 2))
    np.testing.assert_allclose(evaluate(after, data), evaluate(graph, data), rtol=1e-4, atol=1e-5)


def test_fold_goes_into_grouped_convolutions(rng):
    graph = folded(
        rng, layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(6, 3, groups=2), shape=(6, 6, 4)
    )
    assert kinds_in(graph) == ["Input", "Activation", "Affine"]


def test_fold_does_not_change_the_graph_it_was_given(rng):
    graph = lower(networks.build(networks.plain, rng))
    names = list(graph.nodes)
    kernels = {n.name: n.kernel.copy() for n in graph.nodes.values() if isinstance(n, kinds.Affine)}
    fold(graph)
    assert list(graph.nodes) == names
    for name, kernel in kernels.items():
        np.testing.assert_array_equal(graph.nodes[name].kernel, kernel)


@pytest.mark.parametrize("where", ["before", "after"])
def test_insert_scale_multiplies_one_value(where, rng):
    model = networks.randomize(keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")]), rng)
    graph = lower(model)
    x = rng.normal(0, 1, (5, 4))
    kernel, bias = (w.astype("float64") for w in model.get_weights())
    expected = (2.5 * x) @ kernel + bias if where == "before" else 2.5 * (x @ kernel + bias)
    scaled = insert_scale(graph, 2.5, **{where: "d"})
    np.testing.assert_allclose(evaluate(scaled, x), expected, rtol=1e-12)


def test_a_batch_norm_that_moves_keeps_its_name(rng):
    inputs = keras.Input((8, 8, 3))
    norm = layers.BatchNormalization(name="norm")
    x = norm(layers.ReLU()(inputs))
    x = layers.Conv2D(2, 2)(layers.MaxPooling2D(2)(layers.AveragePooling2D(2)(x)))
    model = networks.randomize(keras.Model(inputs, x), rng)
    norm.gamma.assign([0.5, 1.0, -2.0])
    after = fold(lower(model))
    assert [node.name for node in after.nodes.values() if isinstance(node, kinds.ChannelAffine)] == ["norm"]
    assert kinds_in(after) == ["Input", "Activation", "Pool", "ChannelAffine", "Pool", "Affine"]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("shape", [(5, 4, 7, 2), (3, 6, 3, 1)])
def test_pool_by_axes_keeps_the_function_without_maxima_over_three_axes(shape, padding, rng):
    window, strides = (tuple(int(n) for n in rng.integers(1, 4, 3)) for _ in range(2))
    inputs = keras.Input(shape)
    pool = layers.MaxPooling3D(window, strides=strides, padding=padding)
    graph = lower(keras.Model(inputs, layers.Conv3D(3, 1, activation="relu")(pool(inputs))))
    parts = pool_by_axes(graph)
    assert max(len(node.window) for node in parts.nodes.values() if isinstance(node, kinds.Pool)) == 2
    data = rng.normal(0, 1, (3, *shape))
    np.testing.assert_array_equal(evaluate(parts, data), evaluate(graph, data))
