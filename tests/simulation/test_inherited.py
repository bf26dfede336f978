"""What a spiking model inherits of `keras.Model`: each method is right, or refused by name."""

import copy
import pickle

import contracts
import keras
import networks
import numpy as np
import pytest
import running
from contracts import assert_same
from keras import layers, ops

import keras_snn

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow")

# Other tests have what is not here: fit, predict, evaluate, simulate, save, load, summary, compile, export.
REFUSED = {
    "quantize": (lambda s, x: s.quantize("int8"), NotImplementedError, "must have weights in floating point"),
    "fit": (lambda s, x: s.fit(x, x), ValueError, "must have an optimizer for fit"),
    "train_on_batch": (lambda s, x: s.train_on_batch(x, x), ValueError, "optimizer for train_on_batch"),
    "train_step": (lambda s, x: s.train_step((x, x)), ValueError, "optimizer for train_step"),
    "get_state_tree": (lambda s, x: s.get_state_tree(), ValueError, "optimizer for get_state_tree"),
    "dtype_policy": (lambda s, x: setattr(s, "dtype_policy", "float64"), AttributeError, "must stay what it"),
    "layers": (lambda s, x: setattr(s, "layers", []), AttributeError, "`Model.layers` attribute is reserved"),
    "add_weight": (lambda s, x: s.add_weight(shape=(2,)), ValueError, "already built"),
    "add_metric": (lambda s, x: s.add_metric(1), NotImplementedError, "deprecated"),
    "get_layer": (lambda s, x: s.get_layer("none"), ValueError, "No such layer: none"),
    "layer.quantize": (lambda s, x: s.layers[0].quantize("int8"), NotImplementedError, "in floating point"),
    "predict_on_batch": (lambda s, x: s.predict_on_batch(x[:, :3]), ValueError, "`x` must have the shape"),
    "test_on_batch": (lambda s, x: s.test_on_batch(x[:, :3], x), ValueError, "`x` must have the shape"),
    "compute_output_shape": (lambda s, x: s.compute_output_shape((4, 3)), ValueError, "must have the shape"),
    "clone_model": (
        lambda s, x: keras.models.clone_model(s, clone_function=lambda layer: layer),
        ValueError,
        "only supported for Sequential models or Functional",
    ),
}
if keras.backend.backend() != "torch":
    # PyTorch's modules name the attribute themselves.
    REFUSED["inputs"] = (lambda s, x: s.inputs, AttributeError, r"Use snn.simulate\(x, record=…\)")
    REFUSED["outputs"] = (lambda s, x: s.outputs, AttributeError, r"or snn.as_functional\(\)")
    REFUSED["input"] = (lambda s, x: s.input, AttributeError, r"no attribute 'input': .*snn.as_functional")
    REFUSED["output"] = (lambda s, x: s.output, AttributeError, r"no attribute 'output': .*as_functional")

COPIES = {
    "clone_model": keras.models.clone_model,
    "from_config": lambda s: type(s).from_config(s.get_config()),
    "to_json": lambda s: keras.models.model_from_json(s.to_json()),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
}
SAME_CALL = {
    "predict_on_batch": lambda s, x: s.predict_on_batch(x),
    "stateless_call": lambda s, x: s.stateless_call(s.trainable_variables, s.non_trainable_variables, x)[0],
    "rematerialized_call": lambda s, x: s.rematerialized_call(s.call, x)(x),
}


@pytest.fixture
def case(rng):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="relu", name="base"),
            layers.Activation("gelu"),
            layers.Dense(3, name="head"),
        ]
    )
    networks.randomize(model, rng)
    model.compile("sgd", "mse")
    x = networks.data_for(model, rng)
    return contracts.convert(model, x, timesteps=4), x


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_meant_is_refused_and_nothing_changes(name, case):
    snn, x = case
    before, config = snn.predict(x, verbose=0), snn.get_config()
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call(snn, x)
    assert_same(snn.predict(x, verbose=0), before)
    assert snn.get_config()["layers"] == config["layers"]


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_the_same_network(name, case):
    snn, x = case
    other = COPIES[name](snn)
    assert type(other) is keras_snn.SpikingModel
    assert [v.trainable for v in other.weights] == [v.trainable for v in snn.weights]
    other.set_weights(snn.get_weights())
    assert_same(other.predict(x, verbose=0), snn.predict(x, verbose=0))


def test_in_another_model_it_has_the_tensors_of_that_call(case):
    snn, x, *_ = case
    given = keras.Input(x.shape[1:])
    outputs = snn(given)
    assert snn.input is given
    assert snn.output is outputs


@pytest.mark.parametrize("name", SAME_CALL)
def test_other_ways_to_call_give_the_same(name, case):
    snn, x = case
    assert_same(SAME_CALL[name](snn, x), snn.predict(x, verbose=0), tolerance=1e-6)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}], ids=str)
@pytest.mark.compiled
def test_every_way_to_compile_trains_the_same(options, case):
    if "steps_per_execution" in options and keras.backend.backend() == "torch":
        pytest.skip("Keras has none on PyTorch")
    snn, x = case
    other, y = COPIES["deepcopy"](snn), np.zeros((len(x), 3))
    for model, given in ((snn, {}), (other, options)):
        model.compile(keras.optimizers.SGD(0.1), "mse", **given)
        model.fit(x, y, batch_size=6, shuffle=False, verbose=0)
    assert_same(other.get_weights(), snn.get_weights(), tolerance=1e-5)
    state = snn.get_state_tree(value_format="numpy_array")
    for layer in snn.layers:
        layer.set_weights([0 * w for w in layer.get_weights()])
    snn.set_state_tree(state)
    assert_same(other.get_weights(), snn.get_weights(), tolerance=1e-5)


@pytest.mark.filterwarnings("ignore:Layer ")
def test_quantizing_a_bigger_model_leaves_the_network_inside_as_it_is(case):
    snn, x = case
    inputs = keras.Input((8,))
    outer = keras.Model(inputs, layers.Dense(2)(snn(inputs)))
    before, config = snn.predict(x, verbose=0), snn.get_config()["layers"]
    outer.quantize("int8")
    assert_same(snn.predict(x, verbose=0), before)
    assert snn.get_config()["layers"] == config
    keras_snn.count_operations(snn, x)


@pytest.mark.parametrize("network", networks.NETWORKS, ids=lambda f: f.__name__)
def test_as_functional_gives_outputs_trains_and_shapes(network, rng):
    model = networks.build(network, rng)
    x = networks.data_for(model, rng)
    snn = contracts.convert(model, x, timesteps=4)
    functional = snn.as_functional()
    assert_same(functional.predict(x, verbose=0), snn.predict(x, verbose=0), tolerance=1e-5)
    trains = snn.simulate(x, record=["spike_trains"]).spike_trains
    layers_called = [call["layer"] for call in snn.calls]
    names = [name for name in trains if layers_called.count(name) == 1]
    assert names
    parts = keras.Model(functional.inputs, {name: functional.get_layer(name).output for name in names})
    for name, found in parts.predict(x, verbose=0).items():
        # A potential within rounding of the threshold may fire a step later.
        assert np.mean(found != trains[name]) < 1e-3
    shapes = keras.tree.map_structure(lambda array: array.shape, x)
    outputs = keras.tree.map_structure(lambda array: array.shape, snn.predict(x, verbose=0))
    assert snn.compute_output_shape(shapes) == outputs


# Of one input and several, with a layer called twice, and of separable layers.
CHECKPOINTS = [networks.plain, networks.shared, networks.several, networks.depthwise]


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "network",
    running.thorough(networks.NETWORKS, quick=[networks.NETWORKS.index(one) for one in CHECKPOINTS]),
    ids=running.named,
)
def test_a_checkpoint_of_tensorflow_restores_the_weights(network, rng, tmp_path):
    import tensorflow as tf

    model = networks.build(network, rng)
    snn = contracts.convert(model, networks.data_for(model, rng), timesteps=2)
    weights = snn.get_weights()
    checkpoint = tf.train.Checkpoint(model=snn)
    path = checkpoint.save(tmp_path / "checkpoint")
    snn.set_weights([w * 0 for w in weights])
    checkpoint.restore(path).assert_existing_objects_matched()
    assert_same(snn.get_weights(), weights)
    other = type(snn).from_config(snn.get_config())
    tf.train.Checkpoint(model=other).restore(path).assert_existing_objects_matched()
    assert_same(other.get_weights(), weights)


@ON_TENSORFLOW
def test_a_saved_model_of_tensorflow_gives_the_same(case, tmp_path):
    import tensorflow as tf

    snn, x = case
    tf.saved_model.save(snn, tmp_path / "saved")
    (outputs,) = (
        tf.saved_model.load(tmp_path / "saved").signatures["serving_default"](tf.constant(x)).values()
    )
    assert_same(outputs, snn.predict(x, verbose=0), tolerance=1e-6)


def test_callbacks_of_keras_keep_and_restore_the_weights(case, tmp_path):
    snn, x = case
    y = np.zeros((len(x), 3))
    snn.compile(keras.optimizers.SGD(0.1), "mse")
    kept = keras.callbacks.ModelCheckpoint(tmp_path / "kept.weights.h5", save_weights_only=True)
    whole = keras.callbacks.ModelCheckpoint(tmp_path / "whole.keras")
    snn.fit(x, y, epochs=2, verbose=0, callbacks=[kept, whole])
    after = snn.get_weights()
    assert_same(keras.models.load_model(tmp_path / "whole.keras").get_weights(), after)
    snn.set_weights([w * 0 for w in after])
    snn.load_weights(tmp_path / "kept.weights.h5")
    assert_same(snn.get_weights(), after)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise InterruptedError

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    with pytest.raises(InterruptedError):
        snn.fit(x, y, epochs=3, verbose=0, callbacks=[backup, Stop()])
    first = snn.get_weights()
    snn.set_weights([w * 0 for w in after])
    epochs = []
    begin = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epochs.append((epoch, snn.get_weights()))
    )
    snn.fit(x, y, epochs=2, verbose=0, callbacks=[backup, begin])
    assert epochs[0][0] == 1
    assert_same(epochs[0][1], first)


def test_a_loss_that_is_added_counts(case):
    snn, _ = case
    snn.add_loss(ops.ones(()))
    assert [float(loss) for loss in snn.losses] == [1.0]
