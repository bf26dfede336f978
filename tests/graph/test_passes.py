import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn.conversion.normalization import normalize, relus
from keras_snn.graph import nodes as kinds
from keras_snn.graph import passes
from keras_snn.graph.graph import Graph
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.passes import fold, insert_scale, pool_by_axes


def kinds_in(graph):
    return [type(node).__name__ for node in graph.nodes.values()]


def assert_same_function(graph, other, data):
    values = (keras.tree.flatten(evaluate(one, data)) for one in (graph, other))
    for one, another in zip(*values, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-5)


def folded(rng, *steps, shape=(6, 6, 3), norm=None):
    """Fold a chain of layers with random weights; batch norms multiply and add `norm`, if it is given."""
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    model = networks.randomize(keras.Model(inputs, x), rng)
    for step in steps if norm else ():
        if isinstance(step, layers.BatchNormalization):
            step.set_weights([*map(np.array, norm), np.zeros(len(norm[0])), np.ones(len(norm[0]))])
    graph = lower(model)
    after = fold(graph)
    assert_same_function(after, graph, rng.normal(0, 1, (3, *shape)))
    return after


def test_fold_moves_batch_norm_into_the_layer_before_it(rng):
    for norms in (1, 2):
        norm = (layers.BatchNormalization() for _ in range(norms))
        graph = folded(rng, layers.Conv2D(4, 3), *norm, layers.ReLU())
        assert kinds_in(graph) == ["Input", "Affine", "Activation"]


def test_fold_moves_several_batch_norms_forward_through_relu_pooling_and_flatten(rng):
    steps = [layers.ReLU(), layers.BatchNormalization(), layers.BatchNormalization()]
    steps += [layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3)]
    graph = folded(rng, *steps)
    assert kinds_in(graph) == ["Input", "Activation", "Pool", "Rearrange", "Affine"]


@pytest.mark.parametrize(
    "padded",
    [
        lambda: [layers.Conv2D(4, 3, padding="same")],
        lambda: [layers.Conv2D(4, (2, 1), padding="same")],
        lambda: [layers.Conv2D(4, (1, 3), strides=(1, 2), padding="same")],
        lambda: [layers.Conv2D(4, 2, dilation_rate=(2, 3), padding="same", use_bias=False)],
        lambda: [layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)],
        lambda: [layers.Conv2D(6, 3, padding="same", groups=3)],
        lambda: [layers.Conv2DTranspose(4, 2, strides=2)],
        lambda: [layers.Conv2DTranspose(4, (3, 4), strides=(3, 2), padding="same")],
        lambda: [layers.Reshape((6, 18)), layers.Conv1D(4, 3, padding="causal", dilation_rate=2)],
        lambda: [layers.ZeroPadding2D(((0, 0), (1, 0))), layers.Conv2D(4, 3, strides=2)],
        lambda: [layers.ZeroPadding2D(((0, 2), (1, 0))), layers.Conv2D(4, 3, padding="same")],
        lambda: [layers.MaxPooling2D(2), layers.Conv2D(4, 3, padding="same")],
    ],
)
def test_fold_adds_a_shift_at_every_place_after_a_map_that_pads_spikes_with_zeros(padded, rng):
    for beta in (np.zeros(3), np.array([0, 0.5, 0]), rng.normal(0, 1, 3)):
        norm = (rng.uniform(0.5, 2, 3), beta)
        graph = folded(rng, layers.ReLU(), layers.BatchNormalization(), *padded(), norm=norm)
        *before, last = graph.nodes.values()
        if beta.any():
            assert isinstance(last, kinds.ChannelAffine)
            assert last.only_adds
            (*before, last) = before
        # The map is of the spikes, or of what moves them.
        assert isinstance(last, kinds.Affine)
        assert not any(isinstance(n, kinds.ChannelAffine) for n in before)
        # Of numbers a shift is as well added before the map.
        graph = folded(rng, layers.BatchNormalization(), *padded(), norm=norm)
        assert isinstance(list(graph.nodes.values())[-1], kinds.Affine)


def test_fold_passes_same_padding_that_pads_nothing(rng):
    graph = folded(rng, layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(4, 1, padding="same"))
    assert kinds_in(graph) == ["Input", "Activation", "Affine"]


def test_fold_passes_a_maximum_only_when_no_scale_is_negative(rng):
    for gamma, expected in (
        ([0.5, 0.0, 2.0], ["Input", "Pool", "Affine"]),
        ([0.5, 1.0, -2.0], ["Input", "ChannelAffine", "Pool", "Affine"]),
    ):
        norm = (gamma, rng.normal(0, 1, 3))
        steps = [layers.BatchNormalization(), layers.MaxPooling2D(2), layers.Conv2D(2, 2)]
        assert kinds_in(folded(rng, *steps, norm=norm)) == expected
    steps = [layers.BatchNormalization(), layers.AveragePooling2D(2), layers.Conv2D(2, 2)]
    assert kinds_in(folded(rng, *steps, norm=norm)) == ["Input", "Pool", "Affine"]


def test_fold_leaves_alone_what_changes_no_value(rng):
    inputs = keras.Input((4,))
    x = layers.ReLU(name="r")(inputs)
    for scale, offset in ((1, 0), (1, 0.5), (2, 0)):
        graph = lower(keras.Model(inputs, layers.Rescaling(scale, offset)(x)))
        after = fold(graph)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 4)))
        assert ("ChannelAffine" in kinds_in(after)) == ((scale, offset) != (1, 0))
    # Of some channels is not of all.
    for norm in (([1, 1], [0, 0.5]), ([1, 0.5], [0, 0])):
        steps = [layers.ReLU(), layers.BatchNormalization(epsilon=0.0)]
        assert kinds_in(folded(rng, *steps, shape=(2,), norm=norm)) == [
            "Input",
            "Activation",
            "ChannelAffine",
        ]
    assert kinds_in(folded(rng, *steps, shape=(2,), norm=([1, 1], [0, 0]))) == ["Input", "Activation"]


def test_fold_keeps_the_values_of_all_outputs(rng):
    inputs = keras.Input((6, 6, 3))
    conv = layers.Conv2D(3, 2, name="conv")(inputs)
    norm = layers.BatchNormalization(name="norm")(conv)
    pool = layers.AveragePooling2D(2, name="pool")(norm)
    sums = layers.Add(name="add")([layers.Conv2D(3, 3, padding="same", name="other")(norm), conv])
    again = layers.BatchNormalization(name="again")(sums)
    model = networks.randomize(keras.Model(inputs, [conv, norm, pool, again]), rng)
    graph = lower(model)
    after = fold(graph)
    assert_same_function(after, graph, rng.normal(0, 1, (3, 6, 6, 3)))
    # A copy goes on after the pool; nothing goes into a layer whose own value is needed.
    kept = [node.name for node in after.nodes.values() if isinstance(node, kinds.ChannelAffine)]
    assert sorted(kept) == ["again", "norm", "norm_2"]
    assert after.nodes["norm_2"].inputs == ("pool",)


def test_fold_keeps_a_value_that_is_an_output_itself(rng):
    inputs = keras.Input((4,))
    first, second = (layers.Dense(3)(inputs) for _ in range(2))
    for x in (first, layers.Add()([first, second])):
        outputs = [x, layers.ReLU()(layers.BatchNormalization()(x))]
        graph = lower(networks.randomize(keras.Model(inputs, outputs), rng))
        after = fold(graph)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 4)))
        assert kinds_in(after)[-2:] == ["ChannelAffine", "Activation"]


@pytest.mark.parametrize("shift", [-1, 0, 1, 0.5])
@pytest.mark.parametrize("scale", [-1, 0, 1, 2])
def test_fold_moves_any_number_into_the_layer_after_it(scale, shift, rng):
    for last in (layers.Dense(3), layers.Dense(3, use_bias=False)):
        graph = folded(rng, layers.ReLU(), layers.Rescaling(scale, shift), last, shape=(4,))
        assert kinds_in(graph) == ["Input", "Activation", "Affine"]


def test_fold_merges_batch_norms_in_a_row_for_each_user(rng):
    inputs = keras.Input((5,))
    first = layers.BatchNormalization(name="first")(layers.ReLU()(inputs))
    outputs = [layers.ReLU()(layers.BatchNormalization(name=name)(first)) for name in "ab"]
    graph = lower(networks.randomize(keras.Model(inputs, outputs), rng))
    after = fold(graph)
    assert_same_function(after, graph, rng.normal(0, 1, (3, 5)))
    merged = {n.name: n.origins for n in after.nodes.values() if isinstance(n, kinds.ChannelAffine)}
    assert merged == {"a": ("first", "a"), "b": ("first", "b")}


def test_fold_leaves_a_batch_norm_after_a_sum_that_cannot_take_it(rng):
    inputs = keras.Input((5, 5, 3))
    for other in (layers.ReLU(), layers.MaxPooling2D(3, strides=1, padding="same")):
        x = layers.Add()([layers.Conv2D(3, 1)(inputs), other(inputs)])
        graph = lower(networks.randomize(keras.Model(inputs, layers.BatchNormalization()(x)), rng))
        after = fold(graph)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 5, 5, 3)))
        assert kinds_in(after)[-2:] == ["Add", "ChannelAffine"]


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("twice", [False, True])
def test_fold_moves_through_a_concatenation(twice, axis, rng):
    """Of places side by side each keeps its own scale, which only a dense layer on all of them can take."""
    inputs = keras.Input((4, 4, 2))
    norm = layers.BatchNormalization()(layers.ReLU()(inputs))
    joined = layers.Concatenate(axis)([norm, norm if twice else inputs])
    for steps in ([layers.Flatten(), layers.Dense(3)], [layers.Conv2D(3, 2)]):
        x = joined
        for step in steps:
            x = step(x)
        graph = lower(networks.randomize(keras.Model(inputs, x), rng))
        after = fold(graph)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 4, 4, 2)))
        goes_in = twice or axis == 3 or len(steps) == 2
        assert ("ChannelAffine" in kinds_in(after)) != goes_in


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.5), (2.0, 0.0)])
def test_fold_keeps_what_varies_in_space_when_the_rest_does_not(scale, offset, rng):
    inputs = keras.Input((4, 2))
    # What a linear layer gives is no spike.
    other = layers.Dense(2)(layers.ReLU()(inputs))
    x = layers.Concatenate(1)([layers.Rescaling(scale, offset)(layers.Add()([other, inputs])), inputs])
    for last in (layers.Conv1D(4, 2), layers.Conv1D(4, 2, groups=2)):
        graph = lower(networks.randomize(keras.Model(inputs, last(x)), rng))
        after = fold(graph)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 4, 2)))
        assert kinds_in(after)[-3:] == ["Concatenate", "ChannelAffine", "Affine"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("other", [layers.Identity, layers.ReLU])
def test_a_batch_norm_that_stays_keeps_its_name_and_a_copy_goes_on(other, order, rng):
    """It is needed as an output, or by another user."""
    inputs = keras.Input((4, 4, 2))
    norm = layers.BatchNormalization(name="norm")(layers.ReLU()(inputs))
    pool = layers.AveragePooling2D(2, name="pool")(norm)
    outputs = [pool, other()(norm)][::order]
    graph = lower(networks.randomize(keras.Model(inputs, outputs), rng))
    after = fold(graph)
    assert_same_function(after, graph, rng.normal(0, 1, (3, 4, 4, 2)))
    assert after.nodes["norm"].shape == (4, 4, 2)
    assert after.nodes["norm_2"].inputs == ("pool",)


def test_fold_moves_batch_norm_after_a_sum_into_a_branch_that_ends_in_one(rng):
    inputs = keras.Input((5, 5, 3))
    norm = layers.BatchNormalization(name="norm")(layers.ReLU()(inputs))
    x = layers.BatchNormalization()(layers.Add(name="add")([norm, layers.Conv2D(3, 1)(inputs)]))
    for outputs, kept in ((x, 1), ([x, norm], 2)):
        graph = lower(networks.randomize(keras.Model(inputs, outputs), rng))
        after = fold(graph)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 5, 5, 3)))
        assert after.output_names[0] == "add"
        assert kinds_in(after).count("ChannelAffine") == kept


@pytest.mark.parametrize("padding", [0, 1])
def test_fold_keeps_a_scale_that_varies_in_space_where_it_is(padding, rng):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    x = layers.AveragePooling2D(2, name="pool")(layers.ZeroPadding2D(padding)(x))
    model = networks.randomize(keras.Model(inputs, layers.Conv2D(2, 2, name="last")(x)), rng)
    graph, data = lower(model), rng.normal(0, 1, (3, 6, 6, 3))
    by_place, by_channel = rng.uniform(0.5, 2, (6, 6, 1)), rng.uniform(0.5, 2, (1, 1, 3))
    values = evaluate(graph, data, everything=True)["conv"]
    for scale, kept, shape in (
        (by_place * by_channel, True, (6, 6, 3)),
        (by_place, True, (6, 6, 3)),
        (np.ones((6, 6, 1)) * by_channel, False, (3,)),
        (np.full((6, 6, 3), 2.5), False, ()),
    ):
        scaled = insert_scale(graph, scale, after="conv")
        assert scaled.nodes["conv/scale"].scale.shape == shape
        after = fold(scaled)
        assert_same_function(after, scaled, data)
        assert ("ChannelAffine" in kinds_in(after)) == kept
        of_conv = evaluate(scaled, data, everything=True)["conv/scale"]
        np.testing.assert_allclose(of_conv, values * scale, rtol=1e-12)


def test_fold_records_what_each_layer_stands_for(rng):
    graph = folded(rng, layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"))
    assert graph.nodes["conv"].origins == ("conv", "norm")
    graph = folded(rng, layers.BatchNormalization(name="norm"), layers.Conv2D(4, 3, name="conv"))
    assert graph.nodes["conv"].origins == ("conv", "norm")
    assert graph.nodes["conv"].kernel.dtype == graph.nodes["conv"].bias.dtype == "float32"
    graph = folded(rng, layers.BatchNormalization(name="norm"), layers.AveragePooling2D(2, name="pool"))
    assert (graph.nodes["norm"].inputs, graph.nodes["norm"].origins) == (("pool",), ("norm",))
    inputs = keras.Input((5,))
    parts = [layers.Dense(3, name=name)(inputs) for name in "ab"]
    x = layers.BatchNormalization(name="norm")(layers.Add(name="add")(parts))
    graph = fold(lower(networks.randomize(keras.Model(inputs, x), rng)))
    origins = {name: node.origins for name, node in graph.nodes.items() if name in ("a", "b", "add")}
    assert origins == {name: (name, "norm") for name in ("a", "b", "add")}


def test_fold_keeps_batch_norm_after_a_value_with_another_user(rng):
    graph = fold(lower(networks.build(networks.preactivation, rng)))
    kept = [node for node in graph.nodes.values() if isinstance(node, kinds.ChannelAffine)]
    # One after the first convolution, which the sum needs too, and one after the first sum.
    assert len(kept) == 2


def test_fold_moves_batch_norm_after_a_sum_into_its_branches(rng):
    inputs = keras.Input((5, 5, 2))
    branches = [layers.Conv2D(3, k, padding="same")(inputs) for k in (1, 3, 3)]
    for x in (layers.Add()(branches), layers.Add()([layers.Add()(branches[:2]), branches[2]])):
        model = keras.Model(inputs, layers.BatchNormalization()(x))
        graph = lower(networks.randomize(model, rng))
        after = fold(graph)
        assert "ChannelAffine" not in kinds_in(after)
        assert_same_function(after, graph, rng.normal(0, 1, (3, 5, 5, 2)))


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
    assert scaled.nodes["d/scale"].origins == ()
    again = insert_scale(scaled, 0.4, **{where: "d"})
    np.testing.assert_allclose(evaluate(again, x), evaluate(graph, x), rtol=1e-12)


@pytest.mark.parametrize(("conv", "axes"), [(layers.Conv1D, 1), (layers.Conv2D, 2)])
def test_scales_of_a_single_place_are_scales_of_channels(conv, axes, rng):
    inputs = keras.Input((*[3] * axes, 2))
    model = networks.randomize(keras.Model(inputs, conv(4, 3, name="conv")(inputs)), rng)
    graph, scale = lower(model), rng.uniform(0.5, 2, (*[1] * axes, 4))
    scaled = insert_scale(graph, scale, after="conv")
    np.testing.assert_array_equal(scaled.nodes["conv/scale"].scale, scale.ravel())
    assert kinds_in(fold(scaled)) == ["Input", "Affine"]


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


@pytest.mark.parametrize("kind", [layers.MaxPooling3D, layers.AveragePooling3D])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("shape", [(5, 4, 7, 2), (3, 6, 3, 1)])
def test_pool_by_axes_keeps_the_function_without_pools_over_three_axes(kind, shape, padding, rng):
    window, strides = (tuple(int(n) for n in rng.integers(1, 4, 3)) for _ in range(2))
    inputs = keras.Input(shape)
    pool = kind(window, strides=strides, padding=padding)
    graph = lower(keras.Model(inputs, layers.Conv3D(3, 1, activation="relu")(pool(inputs))))
    parts = pool_by_axes(graph)
    assert max(len(node.window) for node in parts.nodes.values() if isinstance(node, kinds.Pool)) == 2
    data = rng.normal(0, 1, (3, *shape))
    tolerance = 1e-12 if kind is layers.AveragePooling3D else 0
    np.testing.assert_allclose(evaluate(parts, data), evaluate(graph, data), rtol=0, atol=tolerance)
    for name, value in evaluate(parts, data, everything=True).items():
        assert parts.nodes[name].shape == value.shape[1:]


def test_pool_by_axes_changes_nothing_else():
    for axes, pool in ((1, layers.MaxPooling1D), (2, layers.MaxPooling2D), (2, layers.AveragePooling2D)):
        inputs = keras.Input((*[4] * axes, 2))
        graph = lower(keras.Model(inputs, layers.ReLU()(pool(2)(inputs))))
        assert pool_by_axes(graph).nodes == graph.nodes


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_fold_leaves_nothing_to_fold(network, rng):
    """Whoever waits for a neighbour to move is tried again."""
    after = fold(lower(networks.build(network, rng)))
    assert fold(after) is after


def test_the_work_of_folding_and_normalizing_grows_with_the_nodes(rng, monkeypatch):
    """Twice the blocks need twice the tries, and one new graph for each pass."""
    work = []
    for function in (passes._Folding, "fold_next"), (Graph, "with_nodes"):
        original = getattr(*function)
        monkeypatch.setattr(
            *function,
            lambda *args, original=original, name=function[1]: work.append(name) or original(*args),
        )

    def of(blocks):
        x = inputs = keras.Input((4, 4, 2))
        for _ in range(blocks):
            y = layers.BatchNormalization()(layers.Conv2D(2, 3, padding="same")(x))
            x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(layers.ReLU()(y))]))
        graph = lower(networks.randomize(keras.Model(inputs, layers.Flatten()(x)), rng))
        work.clear()
        graph = normalize(fold(graph), {node.name: 1.5 for node in relus(graph)})
        assert work.count("with_nodes") == 3
        return work.count("fold_next")

    assert of(16) <= 2.1 * of(8)
