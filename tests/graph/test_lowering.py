import functools

import keras
import networks
import numpy as np
import pytest
from keras import layers

from keras_snn.errors import UnsupportedLayerError
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import lower
from keras_snn.graph.numpy_reference import evaluate
from keras_snn.graph.rules import registry
from keras_snn.graph.rules.registry import register_rule, supported_layers


def test_lower_gives_a_shared_layer_a_node_for_every_call(rng):
    model = networks.build(networks.shared, rng)
    graph = lower(model)
    first, second = (n for n in graph.nodes.values() if n.name.startswith("shared"))
    assert (first.name, second.name) == ("shared", "shared/call_2")
    np.testing.assert_array_equal(first.kernel, second.kernel)
    assert any(name.startswith("inner/conv2d") for name in graph.nodes)


def test_lower_keeps_the_structure_of_inputs_and_outputs(rng):
    graph = lower(networks.build(networks.several, rng))
    assert set(graph.inputs) == {"sequence", "vector"}
    assert set(graph.outputs) == {"label", "size"}


def test_lower_lists_every_obstacle_with_its_way_out():
    inputs = keras.Input((8, 8, 3))
    inner = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(2, 1, activation="gelu", name="b")], name="inner"
    )
    x = layers.Conv2D(2, 3, activation="tanh", name="a")(inputs)
    x = inner(x)
    x = layers.Dense(4, activation="softmax", name="early")(x)
    x = layers.LeakyReLU(name="leaky")(x)
    x = layers.ReLU(negative_slope=0.25, threshold=1.5, name="sloped")(x)
    x = layers.LSTM(3, name="lstm")(layers.Reshape((-1, 4))(x))
    model = keras.Model(inputs, keras.ops.sin(x), name="odd")
    with pytest.raises(UnsupportedLayerError) as error:
        lower(model)
    no_rule = (
        "no conversion rule. Instead: replace it by one of keras_snn.supported_layers(), "
        "teach it with keras_snn.register_rule, or run it as it is with nonspiking='allow'."
    )
    inside = (
        "in front of other layers. Instead: train with activation='relu', "
        "or run it as it is with nonspiking='allow'."
    )
    jumps = (
        "threshold=1.5, where it jumps. Instead: train with threshold=0, "
        "or run it as it is with nonspiking='allow'."
    )
    assert str(error.value).splitlines() == [
        "Model 'odd' has 5 parts that cannot become spiking:",
        f"  - 'a' (keras.layers.Conv2D): activation='tanh' {inside}",
        f"  - 'inner/b' (keras.layers.Conv2D): activation='gelu' {inside}",
        f"  - 'early' (keras.layers.Dense): activation='softmax' {inside}",
        f"  - 'sloped' (keras.layers.ReLU): {jumps}",
        f"  - 'lstm' (keras.layers.LSTM): {no_rule}",
    ]


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            lambda: layers.Conv2D(2, 3, data_format="channels_first"),
            (3, 8, 8),
            "data_format='channels_first'",
        ),
        (
            lambda: layers.Dense(2, activation=layers.UnitNormalization()),
            (3,),
            "(keras.layers.Dense): no conversion rule",
        ),
        (
            lambda: layers.TimeDistributed(layers.Conv1D(2, 3, padding="causal")),
            (40, 90, 3),
            "a causal convolution for each step. Instead: apply the layer without TimeDistributed",
        ),
        (lambda: layers.Softmax(axis=(1, 2)), (3, 4), "axis=(1, 2). Instead: use one axis"),
    ],
)
def test_lower_names_the_option_in_the_way(layer, shape, message):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer()(inputs))
    with pytest.raises(UnsupportedLayerError) as error:
        lower(model)
    assert message in str(error.value)


@keras.saving.register_keras_serializable(package="tests")
class Noise(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seeds)


@keras.saving.register_keras_serializable(package="tests")
class CountsCalls(layers.Layer):
    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs * self.calls


class NoConfig(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)

    def get_config(self):
        raise NotImplementedError("\nfunctions have no config\n")


REPLACE = "replace it by one of keras_snn.supported_layers(), teach it with keras_snn.register_rule"
CHANGES = "its value changes from call to call (it is random or keeps a state)"


AS_IT_IS = "or run it as it is with nonspiking='allow'"
CODE = (
    "Python code that is not made of keras.ops. Instead: write it with keras.ops or as a layer, and teach "
    f"that with keras_snn.register_rule, {AS_IT_IS}."
)
BATCH = "an operation along the batch axis. Instead: use the other axes."


def sine_of_values(x):
    if isinstance(x, keras.KerasTensor):
        raise TypeError("a tensor without values")
    return keras.ops.sin(x)


@pytest.mark.parametrize(
    ("layer", "shape", "kind", "by_default", "when_allowed"),
    [
        (
            lambda: layers.LSTM(3, name="mix"),
            (4, 3),
            "keras.layers.LSTM",
            f"no conversion rule. Instead: {REPLACE}, {AS_IT_IS}.",
            None,
        ),
        (lambda: layers.Lambda(sine_of_values, name="mix"), (3,), "keras.layers.Lambda", CODE, None),
        (
            lambda: layers.Lambda(lambda x: x + keras.random.normal((3,)), name="mix"),
            (3,),
            "keras.layers.Lambda",
            f"{CHANGES}. Instead: leave out what is random, and what mixes samples.",
            f"{CHANGES}. Instead: leave out what is random, and what mixes samples.",
        ),
        (
            lambda: Noise(name="mix"),
            (3,),
            "Noise",
            f"no conversion rule. Instead: {REPLACE}.",
            f"no conversion rule, and {CHANGES}. Instead: {REPLACE}.",
        ),
        (
            lambda: CountsCalls(name="mix"),
            (3,),
            "CountsCalls",
            f"no conversion rule. Instead: {REPLACE}.",
            f"no conversion rule, and {CHANGES}. Instead: {REPLACE}.",
        ),
        (
            lambda: lambda x: keras.ops.mean(x, axis=0, keepdims=True) + x,
            (3,),
            "keras.ops operation Mean",
            BATCH,
            BATCH,
        ),
    ],
    ids=["rnn", "code", "random code", "random", "stateful", "batch"],
)
def test_lower_names_exactly_what_is_in_the_way(layer, shape, kind, by_default, when_allowed):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer()(inputs), name="odd")
    path = "mean" if "Mean" in kind else "mix"
    for mode, line in (("error", by_default), ("allow", when_allowed)):
        if line is None:
            continue
        with pytest.raises(UnsupportedLayerError) as error:
            lower(model, nonspiking=mode)
        assert str(error.value) == (
            f"Model 'odd' has 1 part that cannot become spiking:\n  - '{path}' ({kind}): {line}"
        )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="ragged tensors are TensorFlow's")
def test_lower_refuses_ragged_input():
    inputs = keras.Input((4,), ragged=True, name="text")
    with pytest.raises(UnsupportedLayerError) as error:
        lower(keras.Model(inputs, layers.Dense(2)(inputs)))
    assert "'text' (keras.Input): ragged=True. Instead: pad the samples to one length." in str(error.value)


@pytest.mark.parametrize(("activation", "kind"), [(None, kinds.Activation), ("relu", kinds.Pool)])
def test_a_maximum_is_a_pool_of_spikes_and_a_relu_of_sums(activation, kind, rng):
    inputs = keras.Input((4,))
    sides = [layers.Dense(3, activation=activation, name=name)(inputs) for name in "ab"]
    model = networks.randomize(keras.Model(inputs, layers.Maximum(name="max")(sides)), rng)
    graph, x = lower(model), rng.normal(size=(5, 4))
    np.testing.assert_allclose(evaluate(graph, x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert any(type(node) is kind for name, node in graph.nodes.items() if name.startswith("max"))


def test_lower_refuses_a_mask_given_by_name():
    inputs, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    outputs = layers.GlobalAveragePooling1D(name="pool")(inputs, mask=mask)
    with pytest.raises(UnsupportedLayerError, match=r"'pool' .*: reads the mask of its input"):
        lower(keras.Model([inputs, mask], outputs))


def relu(x):
    """A function that has the name of another."""
    return keras.ops.square(x)


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (relu, "test_lowering.relu"),
        (functools.partial(keras.activations.relu, threshold=1), "functools.partial"),
        (lambda x: keras.ops.sin(x) + 1, "<lambda>"),
    ],
)
def test_lower_knows_an_activation_by_more_than_its_name(activation, name, rng):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, activation=activation, name="d")(inputs))
    with pytest.raises(UnsupportedLayerError) as error:
        lower(model)
    assert f"'d' (keras.layers.Dense): activation='{name}'. Instead: train with" in str(error.value)
    x = rng.normal(size=(5, 3)).astype("float32")
    graph = lower(model, nonspiking="allow")
    np.testing.assert_allclose(evaluate(graph, x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_lower_raises_when_weights_are_not_finite(rng):
    model = networks.build(networks.plain, rng)
    model.get_layer("conv").bias.assign([0, 0, np.nan, 0, 0])
    with pytest.raises(
        UnsupportedLayerError, match="'conv' .keras.layers.Conv2D.: weights that are NaN or inf"
    ):
        lower(model)


def test_lower_raises_when_flatten_transposes():
    inputs = keras.Input((3, 4, 2))
    model = keras.Model(inputs, layers.Flatten(data_format="channels_first")(inputs))
    with pytest.raises(UnsupportedLayerError, match="data_format='channels_first'"):
        lower(model)


def test_lower_goes_into_a_model_called_with_a_dict(rng):
    z, a = keras.Input((3,), name="z"), keras.Input((3,), name="a")
    inner = keras.Model([z, a], layers.Concatenate()([layers.Dense(2)(z), layers.Dense(3)(a)]))
    p, q = keras.Input((3,), name="p"), keras.Input((3,), name="q")
    model = networks.randomize(keras.Model([p, q], inner({"a": p, "z": q})), rng)
    x = networks.data_for(model, rng)
    np.testing.assert_allclose(evaluate(lower(model), x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)


def test_lower_raises_when_a_spatial_size_is_unknown():
    inputs = keras.Input((None, 8, 3), name="image")
    model = keras.Model(inputs, layers.Conv2D(2, 3)(layers.Conv2D(2, 3, activation="tanh")(inputs)))
    with pytest.raises(UnsupportedLayerError) as error:
        lower(model)
    assert "'image' (keras.Input): shape=(None, 8, 3). Instead: give keras.Input" in str(error.value)
    assert "activation='tanh'" in str(error.value)


def test_lower_raises_when_a_subclassed_model_cannot_be_traced():
    class Custom(keras.Model):
        def call(self, inputs):
            return sine_of_values(inputs)

    model = Custom(name="mine")
    model(np.zeros((1, 2)))
    cause = r"whose call cannot be traced \(TypeError: a tensor without values\)"
    with pytest.raises(ValueError, match=rf"Received: subclassed model 'mine' \(Custom\), {cause}"):
        lower(model)


def test_lower_raises_when_a_model_is_not_built():
    with pytest.raises(ValueError, match=r"`model` must be built. Received: Sequential 'raw' without"):
        lower(keras.Sequential([layers.Dense(3)], name="raw"))


def test_lower_raises_when_it_is_no_model():
    with pytest.raises(TypeError, match=r"`model` must be a Keras model. Received: model='cnn.keras'"):
        lower("cnn.keras")


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))


def test_registered_rule_teaches_a_layer(rng, own_registry):
    class Positive(layers.Layer):
        def call(self, inputs):
            return sine_of_values(inputs) + keras.ops.relu(inputs)

    def lower_positive(layer, x, *, emit):
        return emit(kinds.Activation, x, function="relu")

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Positive()(inputs))
    with pytest.raises(UnsupportedLayerError, match="Positive"):
        lower(model)
    register_rule(Positive, lower_positive)
    x = rng.normal(0, 1, (4, 3))
    np.testing.assert_allclose(evaluate(lower(model), x), np.maximum(x, 0))
    assert "Positive" in supported_layers()
    assert supported_layers() == tuple(sorted(set(supported_layers())))


def test_a_rule_with_a_wrong_shape_is_found_out(own_registry):
    class Halved(layers.Layer):
        def call(self, inputs):
            return inputs[:, ::2]

    register_rule(Halved, lambda layer, x, *, emit: x)
    inputs = keras.Input((6,))
    with pytest.raises(
        RuntimeError, match=r"gave shape \(6,\) for layer 'halved', whose output has shape \(3,\)"
    ):
        lower(keras.Model(inputs, Halved()(inputs)))


def test_a_constant_argument_of_a_layer_is_not_lost(rng):
    inputs = keras.Input((3,))
    x = layers.Softmax(name="part")(inputs, mask=np.array([[True, True, False]]))
    model = keras.Model(inputs, x)
    with pytest.raises(UnsupportedLayerError, match=r"'part' .*: reads the mask"):
        lower(model)
    x = rng.normal(0, 1, (5, 3)).astype("float32")
    np.testing.assert_allclose(evaluate(lower(model, nonspiking="allow"), x), model(x), atol=1e-6)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_model_inside_gets_its_dict_by_name(by_name, rng):
    b, a = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    inner = keras.Model({"b": b, "a": a}, layers.Dense(2)(b) - layers.Dense(2)(a))
    p, q = keras.Input((3,), name="p"), keras.Input((3,), name="q")
    given = {"a": q, "b": p}
    model = networks.randomize(keras.Model([p, q], inner(inputs=given) if by_name else inner(given)), rng)
    x = networks.data_for(model, rng)
    np.testing.assert_allclose(evaluate(lower(model), x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)


def test_a_model_inside_may_get_one_value_twice(rng):
    model = networks.build(networks.siamese, rng)
    x = keras.Input((6, 6, 1))
    twice = keras.Model(x, model([x, x]))
    images = networks.data_for(twice, rng)
    np.testing.assert_allclose(
        evaluate(lower(twice), images), twice.predict(images, verbose=0), rtol=1e-5, atol=1e-5
    )


def test_inputs_without_names_do_not_take_those_of_others(rng):
    a, b = keras.Input((4,)), keras.Input((4,), name="input_1")
    model = networks.randomize(keras.Model([a, b], layers.Dense(3)(a) - layers.Dense(3)(b)), rng)
    x = networks.data_for(model, rng)
    assert lower(model).inputs == ["input_1_2", "input_1"]
    np.testing.assert_allclose(evaluate(lower(model), x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)


class Wavy(keras.Model):
    def call(self, inputs, training=None):
        return keras.ops.sin(super().call(inputs, training=training))


def test_a_model_that_overrides_call_is_what_that_does(rng):
    inputs = keras.Input((3,))
    model = Wavy(inputs, layers.Dense(2)(inputs), name="mine")
    outer = keras.Model(inputs, model(inputs))
    x = rng.normal(size=(5, 3)).astype("float32")
    for of_call, name in ((model, "sin"), (outer, "mine/sin")):
        found = evaluate(lower(of_call, nonspiking="allow"), x)
        np.testing.assert_allclose(found, of_call.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
        with pytest.raises(UnsupportedLayerError, match=rf"'{name}' \(keras.ops operation Sin\)"):
            lower(of_call)


class SharesItsLayer(layers.Layer):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return sine_of_values(self.inner(inputs))

    def get_config(self):
        return {**super().get_config(), "inner": self.inner}


def test_a_layer_whose_copy_shares_variables_stays_with_weights_of_its_own(rng):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, SharesItsLayer(layers.Dense(2), name="mix")(inputs))
    x = rng.normal(size=(5, 3)).astype("float32")
    expected = model.predict(x, verbose=0)
    graph = lower(model, nonspiking="allow")
    model.set_weights([0 * w for w in model.get_weights()])
    np.testing.assert_allclose(evaluate(graph, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: keras.ops.clip(x, np.zeros(3), np.ones(3)), "limits that are no two rising numbers"),
        (lambda x: keras.ops.tile(x, (2, 1)), "repeats samples, or adds axes"),
    ],
)
def test_unusual_operations_are_refused_by_name(function, reason):
    inputs = keras.Input((3,))
    with pytest.raises(UnsupportedLayerError, match=f"keras.ops operation .*: {reason}"):
        lower(keras.Model(inputs, function(inputs)))


def test_a_rule_that_returns_nothing_is_found_out(own_registry):
    class Forgets(layers.Layer):
        def call(self, inputs):
            return inputs

    register_rule(Forgets, lambda layer, x, *, emit: None)
    inputs = keras.Input((6,))
    with pytest.raises(TypeError, match="The rule for Forgets must return a node. Received: None."):
        lower(keras.Model(inputs, Forgets()(inputs)))


def test_an_operation_that_moves_the_batch_axis_is_refused_by_name():
    inputs = keras.Input((3, 4), batch_size=3)
    model = keras.Model(inputs, keras.ops.transpose(inputs, (1, 0, 2)))
    with pytest.raises(UnsupportedLayerError, match=r"'transpose' .*: moves the batch axis"):
        lower(model, nonspiking="allow")
