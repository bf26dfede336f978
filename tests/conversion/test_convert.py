import tracemalloc
import warnings

import contracts
import keras
import networks
import numpy as np
import pytest
import running
import tensorflow as tf
from keras import layers

import keras_snn
from keras_snn.layers import PerTimestep, Readout, SpikingConv2D, SpikingDense, SpikingMaxPool, SpikingSoftmax
from keras_snn.neurons import IntegrateAndFire
from keras_snn.simulation.internals import internals


def convert(model, data, **options):
    return keras_snn.convert(model, data, **{"verbose": 0, "timesteps": 8, **options})


def test_layers_keep_the_names_of_those_they_replace(rng):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, name="conv")(inputs)
    x = layers.ReLU(name="act")(layers.BatchNormalization(name="norm")(x))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten(name="flat")(x))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="label")(x), name="digits")
    networks.randomize(model, rng)
    snn = convert(model, networks.data_for(model, rng))
    assert [(layer.name, type(layer)) for layer in snn.layers] == [
        ("conv", SpikingConv2D),
        ("pool", SpikingMaxPool),
        ("flat", PerTimestep),
        ("hidden", SpikingDense),
        ("label", PerTimestep),
        ("label_softmax", SpikingSoftmax),
    ]
    assert snn.name == "digits"
    assert snn.get_layer("conv").name == "conv"
    report = {layer.name: layer for layer in snn.conversion_report.layers}
    assert report["conv"].origins == ("conv", "norm", "act")
    assert report["conv"].scale > 0
    assert report["pool"].scale is None


def test_loaded_under_another_policy_it_keeps_that_of_its_layers(rng, tmp_path):
    keras.config.set_dtype_policy("float64")
    try:
        networks.build(networks.plain, rng).save(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    model = keras.models.load_model(tmp_path / "model.keras")
    x = networks.data_for(model, rng)
    assert convert(model, x).predict(x, verbose=0).dtype == model.predict(x, verbose=0).dtype == "float64"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.compiled
def test_mixed_precision_approaches_the_source(policy, rng):
    keras.config.set_dtype_policy(policy)
    try:
        model = networks.build(networks.residual, rng)
    finally:
        keras.config.set_dtype_policy("float32")
    x = networks.data_for(model, rng)
    outputs = convert(model, x, normalization="max", timesteps=256).predict(x, verbose=0).astype("float32")
    expected = model.predict(x, verbose=0).astype("float32")
    assert np.abs(outputs - expected).mean() < 0.06 * np.abs(expected).mean()


@pytest.mark.compiled
def test_another_precision_changes_the_spiking_model_alone(rng):
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng)
    snn, other = convert(model, x, timesteps=256), convert(model, x, timesteps=256, dtype="mixed_bfloat16")
    for ours, theirs in zip(snn.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert other.conversion_report.layers == snn.conversion_report.layers
    assert {layer.compute_dtype for layer in other.layers} == {"bfloat16"}
    outputs, expected = other.predict(x, verbose=0), snn.predict(x, verbose=0)
    assert outputs.dtype.name == "bfloat16"
    assert 0 < np.abs(outputs - expected).mean() < 0.02 * np.abs(expected).mean()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_kept_in_half_precision_give_the_spikes_of_mixed_precision(dtype, rng):
    """Rounded once, or at every step: the same numbers."""
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng)
    kept, mixed = (convert(model, x, timesteps=24, dtype=policy) for policy in (dtype, f"mixed_{dtype}"))
    sizes = [sum(w.nbytes for w in snn.get_weights()) for snn in (kept, mixed)]
    assert 2 * sizes[0] == sizes[1]
    np.testing.assert_array_equal(kept.predict(x, verbose=0), mixed.predict(x, verbose=0))
    ours, theirs = (snn.simulate(x, record="spike_trains").spike_trains for snn in (kept, mixed))
    assert ours.keys() == theirs.keys()
    for name, spikes in ours.items():
        assert spikes.any()
        np.testing.assert_array_equal(spikes, theirs[name])


@pytest.mark.compiled
def test_images_of_integers_convert_as_they_are(rng):
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(layers.Rescaling(1 / 255)(inputs))
    model = networks.randomize(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), rng)
    images = rng.integers(0, 256, (20, 8, 8, 1)).astype("uint8")
    snn = convert(model, images, normalization="max", timesteps=1000)
    np.testing.assert_allclose(snn.predict(images, verbose=0), model.predict(images, verbose=0), atol=0.02)
    with pytest.warns(UserWarning, match="estimated the scales"):
        estimated = keras_snn.convert(model)
    scales = [s.conversion_report.layers[0].scale for s in (estimated, snn)]
    assert 0.4 < scales[0] / scales[1] < 2.5


@pytest.mark.compiled
def test_causal_depthwise_convolutions_convert(rng):
    inputs = keras.Input((9, 4))
    x = layers.Conv1D(4, 3, groups=4, padding="causal", activation="relu")(inputs)
    model = networks.randomize(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, normalization="max", timesteps=1000)
    np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), atol=0.02)


def test_a_model_with_an_unknown_loss_converts_uncompiled_with_a_warning(rng):
    def own_loss(y, p):
        return keras.ops.mean((y - p) ** 2)

    model = networks.build(networks.plain, rng)
    model.compile("sgd", own_loss)
    with pytest.warns(UserWarning, match="The spiking model is not compiled, because a loss"):
        snn = convert(model, networks.data_for(model, rng))
    assert not snn.compiled


@pytest.mark.compiled
def test_layers_get_the_policy_of_the_model(rng):
    keras.config.set_dtype_policy("float64")
    try:
        model = networks.build(networks.plain, rng)
    finally:
        keras.config.set_dtype_policy("float32")
    x = networks.data_for(model, rng)
    snn = convert(model, x, normalization="max", timesteps=2000)
    assert snn.predict(x, verbose=0).dtype == "float64"
    assert {v.dtype for v in snn.trainable_variables} == {"float64"}
    np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0, atol=5e-3)


@pytest.mark.compiled
def test_max_pooling_of_the_input_stays_analog(rng):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, activation="relu")(layers.MaxPooling2D(2, name="pool")(inputs))
    model = networks.randomize(keras.Model(inputs, layers.Flatten()(x)), rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, normalization="max", timesteps=500)
    assert isinstance(snn.get_layer("pool"), PerTimestep)
    assert isinstance(snn.layers[-1], Readout)
    np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0, atol=2e-2)


def test_evaluate_uses_the_losses_and_metrics_of_the_source(rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=40)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    assert not convert(model, x).compiled
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    snn = convert(model, x, timesteps=16)
    loss, accuracy = snn.evaluate(x, y, verbose=0)
    outputs = snn.predict(x, verbose=0)
    assert accuracy == pytest.approx(np.mean(outputs.argmax(axis=-1) == y))
    assert loss == pytest.approx(-np.mean(np.log(outputs[np.arange(40), y])), rel=1e-4)


@pytest.mark.parametrize("percentile", [50, 99])
def test_percentile_sets_the_scale_and_what_is_clipped(percentile, rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng, samples=40)
    report = convert(model, x, percentile=percentile, relays=False).conversion_report
    clipped = [layer.clipped for layer in report.layers if layer.clipped is not None]
    assert len(clipped) == 3
    assert clipped == pytest.approx([1 - percentile / 100] * 3, abs=0.011)


def test_max_clips_nothing(rng):
    model = networks.build(networks.plain, rng)
    report = convert(model, networks.data_for(model, rng), normalization="max").conversion_report
    assert [layer.clipped for layer in report.layers if layer.clipped is not None] == [0.0] * 3
    assert "normalization=max" in str(report)


def test_report_prints_a_row_for_every_layer(rng):
    model = networks.build(networks.residual, rng)
    snn = convert(model, networks.data_for(model, rng))
    lines = str(snn.conversion_report).splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(snn.layers)]] == [
        layer.name for layer in snn.layers
    ]


@pytest.mark.compiled
def test_convert_without_data_warns_once_and_converts(rng):
    model = networks.randomize(networks.plain(layers.ReLU, list), rng)
    with pytest.warns(UserWarning, match="estimated the scales") as caught:
        snn = keras_snn.convert(model, timesteps=2000)
    assert [str(w.message)[:17] for w in caught if w.category is UserWarning] == ["keras_snn.convert"]
    x = networks.data_for(model, rng)
    expected = model.predict(x, verbose=0)
    # The scales of the 99.9th percentile clip a little.
    assert np.abs(snn.predict(x, verbose=0) - expected).mean() < 0.1 * np.abs(expected).mean()


def test_a_silent_layer_is_named_in_the_report_and_one_warning(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="relu", name="dead")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    model.set_weights([-np.ones((4, 5)), np.zeros(5), np.ones((5, 3)), np.arange(3)])
    with pytest.warns(UserWarning, match="Silent on all .*: 'dead'") as caught:
        snn = convert(model, rng.uniform(0.1, 1, (20, 4)).astype("float32"))
    assert [w.category for w in caught].count(UserWarning) == 1
    assert snn.conversion_report.silent_layers == ["dead"]
    assert "silent" in str(snn.conversion_report)
    np.testing.assert_array_equal(snn.predict(np.ones((2, 4)), verbose=0), [[0, 1, 2]] * 2)


def test_neuron_object_goes_into_every_spiking_layer(rng):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng)
    neuron = IntegrateAndFire(v_threshold=0.5, reset="zero", initial_potential=0.0)
    snn = convert(model, x, neuron=neuron)
    assert [layer.neuron for layer in snn.layers if hasattr(layer, "neuron")] == [neuron] * 3


def test_threshold_and_scale_are_one_thing(rng):
    """Thresholds of any power of two give the same spikes as 1, bit for bit."""
    model = networks.build(networks.residual, rng)
    x = networks.data_for(model, rng)
    trains = [
        convert(model, x, neuron=IntegrateAndFire(v_threshold=v))
        .simulate(x, record="spike_trains")
        .spike_trains
        for v in (1.0, 4.0)
    ]
    for name in trains[0]:
        np.testing.assert_array_equal(trains[0][name], trains[1][name])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timesteps": 0}, ValueError, "`timesteps` must be at least 1. Received: timesteps=0."),
        ({"timesteps": 3.5}, TypeError, "`timesteps` must be an integer. Received: timesteps=3.5."),
        ({"timesteps": True}, TypeError, "Received: timesteps=True."),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1. Received: batch_size=0."),
        ({"percentile": 0}, ValueError, "`percentile` must be in (0, 100]. Received: percentile=0."),
        ({"percentile": 101}, ValueError, "Received: percentile=101. Use 99.9 to ignore"),
        ({"neuron": "rf"}, ValueError, "`neuron` must be one of 'burst', 'digits', "),
        (
            {"normalization": "l2"},
            ValueError,
            "`normalization` must be one of 'percentile', 'max', 'mse', 'g",
        ),
        (
            {"nonspiking": True},
            ValueError,
            "`nonspiking` must be one of 'error', 'allow'. Received: nonspiking=True.",
        ),
        ({"unroll": "all"}, TypeError, "`unroll` must be an integer. Received: unroll='all'. Use a number"),
        ({"unroll": 0}, ValueError, "`unroll` must be at least 1. Received: unroll=0."),
        ({"dtype": "int32"}, ValueError, "`dtype` must be a float dtype or policy of Keras"),
        ({"dtype": "mixed"}, ValueError, "'float32' or 'mixed_bfloat16'. Received: dtype='mixed'."),
    ],
)
def test_convert_raises_when_an_option_is_wrong(options, error, message, rng):
    model = networks.build(networks.plain, rng)
    with pytest.raises(error) as raised:
        convert(model, networks.data_for(model, rng), **options)
    assert message in str(raised.value)


def test_convert_raises_when_nothing_would_spike():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="linear")
    with pytest.raises(
        ValueError, match="`model` must have relu activations.*Received: model 'linear' without"
    ):
        convert(model, np.ones((2, 4)))


def test_convert_warns_when_nothing_spikes_and_that_is_allowed(rng):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="silu")(inputs)
    x = layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(x)])
    model = networks.randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)), name="smooth"), rng)
    x = networks.data_for(model, rng)
    with pytest.warns(UserWarning, match="Nothing in 'smooth' spikes, because it has no relu activations"):
        snn = convert(model, x, nonspiking="allow", timesteps=3)
    np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert len(snn.conversion_report.nonspiking_layers) == 3
    assert snn.simulate(x, record="spike_counts").spike_counts == {}


def test_convert_raises_when_the_model_is_spiking_already(rng):
    model = networks.build(networks.plain, rng)
    snn = convert(model, networks.data_for(model, rng))
    with pytest.raises(ValueError, match="must be an analog network. Received: the spiking model"):
        convert(snn, None)


def test_convert_warns_of_nothing_when_all_is_well(rng):
    model = networks.build(networks.plain, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Keras reads TensorFlow variables in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", message="__array__ implementation")
        convert(model, networks.data_for(model, rng))


def test_calls_of_a_shared_layer_share_weights_but_not_neurons(rng):
    model = networks.build(networks.siamese, rng)
    x = networks.data_for(model, rng, samples=16)
    snn = convert(model, x, normalization="max")
    calls = {call["name"]: call["layer"] for call in snn.calls}
    assert calls["tower_call_2_conv"] == calls["tower_conv"] == "tower_conv"
    assert calls["tower_call_2_dense"] == calls["tower_dense"] == "tower_dense"
    assert len({layer.name for layer in snn.layers}) == len(snn.layers)
    counts = snn.simulate(x, record="spike_counts").spike_counts
    assert np.any(counts["tower_conv"] != counts["tower_call_2_conv"])
    swapped = snn.simulate([x[1], x[0]], record="spike_counts").spike_counts
    np.testing.assert_array_equal(swapped["tower_call_2_conv"], counts["tower_conv"])
    scales = {row.name: row.scale for row in snn.conversion_report.layers}
    assert scales["tower_conv"] == scales["tower_call_2_conv"] > 0


@pytest.mark.compiled
def test_a_shared_layer_on_inputs_of_two_scales_becomes_two(rng):
    model = networks.build(networks.shared, rng)
    x = networks.data_for(model, rng, samples=16)
    snn = convert(model, x, normalization="max", timesteps=1024)
    first, second = snn.get_layer("shared"), snn.get_layer("shared_call_2")
    scale = next(row.scale for row in snn.conversion_report.layers if row.name == "shared")
    # The second sees spikes that stand for λ, the first the input as it is.
    np.testing.assert_allclose(second.get_weights()[0], scale * first.get_weights()[0], rtol=1e-5)


def gated(rng):
    """Squeeze and excite, a normalization over channels, and attention: all that does not spike."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    s = layers.GlobalAveragePooling2D(keepdims=True)(layers.Activation("silu", name="silu")(x))
    s = layers.Conv2D(4, 1, activation="sigmoid", name="excite")(s)
    x = layers.LayerNormalization(name="norm")(layers.Multiply(name="gate")([x, s]))
    x = layers.Reshape((36, 4))(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten()(x))
    return networks.randomize(keras.Model(inputs, layers.Dense(3, activation="tanh")(x)), rng)


def test_what_does_not_spike_runs_on_request_and_is_named(rng, tmp_path):
    model = gated(rng)
    x = networks.data_for(model, rng, samples=16)
    with pytest.raises(keras_snn.errors.UnsupportedLayerError, match="has 5 parts that cannot"):
        convert(model, x)
    snn = convert(model, x, normalization="max", nonspiking="allow")
    report = snn.conversion_report
    assert report.nonspiking_layers == ["silu", "excite_sigmoid", "gate", "norm", "attention"]
    became = {row.name: row.became for row in report.layers}
    assert became["gate"] == "NonSpiking(Multiply)"
    assert became["silu"] == "NonSpiking(silu)"
    assert "Not spiking, run on the average of their inputs: silu, excite_sigmoid, gate" in str(report)
    contracts.law_12_it_converges_to_the_source(snn, model, x)
    snn.timesteps = 7
    contracts.law_8_saved_and_loaded_it_spikes_the_same(snn, x, tmp_path / "snn.keras")


def test_nonspiking_layers_without_data_get_scales_from_samples(rng):
    model = gated(rng)
    x = networks.data_for(model, rng, samples=50)
    with pytest.warns(UserWarning, match="estimated the scales"):
        estimated = keras_snn.convert(model, nonspiking="allow").conversion_report
    measured = convert(model, x, normalization="max", nonspiking="allow").conversion_report
    pairs = [
        (a.scale, b.scale)
        for a, b in zip(estimated.layers, measured.layers, strict=True)
        if a.scale is not None
    ]
    assert len(pairs) == 2
    assert all(0.2 < a / b < 5 for a, b in pairs)


@pytest.mark.compiled
def test_sizes_left_open_are_those_of_the_calibration_data(rng):
    inputs = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", padding="same")(inputs)
    x = layers.UpSampling2D(2)(layers.MaxPooling2D(2)(x))
    model = networks.randomize(keras.Model(inputs, layers.Conv2D(2, 1)(x)), rng)
    x = rng.uniform(0, 1, (12, 6, 8, 3)).astype("float32")
    for data in (x, tf.data.Dataset.from_tensor_slices(x).batch(5)):
        snn = convert(model, data, normalization="max", timesteps=1000)
        assert internals(snn).inputs.shapes == {"image": (6, 8, 3)}
        np.testing.assert_allclose(snn.predict(x, verbose=0), model.predict(x, verbose=0), atol=5e-3)
    with pytest.raises(ValueError, match=r"must have the shape \(batch, 6, 8, 3\) for input 'image'"):
        snn.predict(x[:, :4], verbose=0)


@pytest.mark.compiled
def test_layers_are_channels_last_whatever_the_global_default(rng, tmp_path):
    model = networks.build(networks.decoder, rng)
    x = networks.data_for(model, rng)
    expected = convert(model, x).predict(x, verbose=0)
    keras.config.set_image_data_format("channels_first")
    try:
        contracts.assert_same(convert(model, x).predict(x, verbose=0), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


def converges(model, x, **options):
    """Whether the SNN computes what the source does after many steps."""
    snn = contracts.convert(model, x, timesteps=512, **options)
    with running.compiled():
        outputs, expected = snn.predict(x, verbose=0), model.predict(x, verbose=0)
    return np.abs(outputs - expected).max() < 0.02 * max(np.abs(expected).max(), 1)


def test_a_shared_activation_or_pool_is_reused_in_the_same_role_only(rng):
    inputs = keras.Input((8, 2))
    pool = layers.MaxPooling1D(3, strides=1, padding="same")
    gate = layers.Activation("sigmoid")
    x = pool(layers.Conv1D(3, 1, activation="relu")(pool(inputs)))
    x = layers.Dense(4, activation="relu")(gate(layers.Dense(4)(gate(x))))
    model = networks.randomize(keras.Model(inputs, gate(layers.Dense(3)(x))), rng)
    assert converges(model, networks.data_for(model, rng))


def test_relus_share_a_scale_only_if_they_share_weights(rng):
    inputs = keras.Input((4, 6))
    small, large = layers.BatchNormalization(), layers.BatchNormalization()
    conv = layers.Dense(5, use_bias=False)
    a, b = layers.ReLU(name="a")(small(conv(inputs))), layers.ReLU(name="b")(large(conv(inputs)))
    model = networks.randomize(keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([a, b]))), rng)
    small.gamma.assign(0.01 * np.ones(5))
    small.beta.assign(np.zeros(5))
    report = contracts.convert(model, networks.data_for(model, rng)).conversion_report
    scales = [row.scale for row in report.layers if row.scale is not None]
    assert min(scales) < 0.1 * max(scales)


def test_a_shared_batch_norm_that_stays_is_one_layer(rng):
    a, b = keras.Input((6, 6, 2)), keras.Input((6, 6, 2))
    norm, conv = layers.BatchNormalization(), layers.Conv2D(3, 3, padding="same", activation="relu")
    x = layers.Flatten()(layers.Add()([conv(norm(a)), conv(norm(b))]))
    model = networks.randomize(keras.Model([a, b], layers.Dense(2)(x)), rng)
    assert converges(model, networks.data_for(model, rng))


def test_a_function_that_is_not_finite_without_spikes_recovers(rng):
    inputs = keras.Input((6,))
    x = layers.Dense(4, activation="relu")(inputs)
    x = layers.Dense(2)(x / keras.ops.sum(x, axis=-1, keepdims=True))
    model = networks.randomize(keras.Model(inputs, x), rng)
    model.layers[1].bias.assign(np.full(4, 0.2))
    assert converges(model, networks.data_for(model, rng))


def test_a_sequential_model_with_open_sizes_converts(rng):
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    networks.randomize(model, rng)
    assert converges(model, rng.uniform(0, 1, (16, 6, 7, 1)).astype("float32"))


def test_values_without_axes_convert_with_and_without_data(rng):
    inputs = keras.Input((5,))
    x = layers.Dense(4, activation="relu")(inputs)
    model = keras.Model(inputs, keras.ops.maximum(keras.ops.mean(x, axis=1), keras.ops.max(x, axis=1) - 0.3))
    networks.randomize(model, rng)
    assert converges(model, networks.data_for(model, rng))
    with pytest.warns(UserWarning, match="estimated the scales"):
        assert keras_snn.convert(model).conversion_report.layers[0].scale > 0


class Steps(layers.Layer):
    """Has a counter and draws, in training only; its value is a function of its input."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs, training=False):
        noise = keras.random.uniform((), seed=self.seeds)
        return keras.ops.sin(inputs) + (noise if training else 0.0)


def test_looking_at_a_layer_leaves_no_trace(rng):
    inputs = keras.Input((4,))
    x = Steps(name="steps")(layers.Dense(3, activation="relu")(inputs))
    model = networks.randomize(keras.Model(inputs, layers.Dense(2)(x)), rng)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
    assert not keras_snn.check(model).converts
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_conversion_holds_the_weights_twice_beside_the_source(rng):
    """One graph and the spiking model, or two graphs: what NumPy allocates stays below that."""
    inputs = keras.Input((4096,))
    x = keras.layers.Dense(2048, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.ReLU()(x)))
    weights = 4 * model.count_params()
    tracemalloc.start()
    with pytest.warns(UserWarning, match="without data"):
        keras_snn.convert(model, timesteps=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert weights < peak < 2.7 * weights


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is not registered."""

    def __call__(self, step):
        return 1e-3

    def get_config(self):
        return {}


class Silent(keras.optimizers.schedules.LearningRateSchedule):
    """One that has no config at all, as they are written in a hurry."""

    def __call__(self, step):
        return 1e-3


class Momentum(keras.optimizers.SGD):
    """An optimizer that is not registered."""


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(Warmup()),
        lambda: keras.optimizers.Adam(Silent()),
        lambda: Momentum(0.1),
        lambda: Momentum(Silent()),
    ],
    ids=["schedule", "schedule without a config", "optimizer", "both"],
)
def test_an_optimizer_of_the_user_is_left_out_like_any(optimizer, rng):
    hidden = keras.layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(3, activation="softmax")])
    networks.randomize(model, rng)
    x, y = rng.uniform(size=(20, 5)).astype("float32"), rng.integers(0, 3, 20)
    given = optimizer()
    model.compile(given, "sparse_categorical_crossentropy", metrics=["accuracy"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        snn = keras_snn.convert(model, x, timesteps=4, verbose=0)
    assert snn.optimizer is None
    loss, accuracy = snn.evaluate(x, y, verbose=0)
    outputs = snn.predict(x, verbose=0)
    np.testing.assert_allclose(accuracy, np.mean(outputs.argmax(axis=-1) == y), rtol=1e-6)
    np.testing.assert_allclose(loss, -np.log(outputs[np.arange(20), y] + 1e-7).mean(), rtol=1e-4)
    # The source model is as it was.
    assert model.optimizer is given
    assert "get_config" not in vars(given)


def test_a_loss_that_is_not_registered_is_blamed_whatever_the_optimizer(rng):
    def own_loss(y_true, y_pred):
        return keras.ops.mean((y_true - y_pred) ** 2)

    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, activation="relu")])
    model.compile(keras.optimizers.Adam(Silent()), own_loss)
    with pytest.warns(UserWarning, match="not compiled, because a loss or metric .*own_loss"):
        snn = keras_snn.convert(model, rng.uniform(size=(20, 5)), timesteps=4, verbose=0)
    assert not snn.compiled
