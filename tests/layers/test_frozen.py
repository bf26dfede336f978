"""What is frozen stays frozen: in files, copies and bigger models, whole layers and parts of them."""

import copy
import pickle

import keras
import numpy as np
import pytest
import running
from contracts import assert_same

import keras_snn
from keras_snn.layers import NonSpiking, PerTimestep, ScaleShift, SpikingDense, SpikingSeparableConv1D
from keras_snn.layers.base import SpikingTwin

STEPS, SAMPLES = 3, 4


def parts():
    """Return a layer of each kind that owns others, and layers that own none."""
    return [
        SpikingSeparableConv1D(4, 2, name="separable"),
        PerTimestep(keras.layers.BatchNormalization(name="norm"), name="normalized"),
        PerTimestep(
            keras.Sequential(
                [
                    keras.Input((5, 4)),
                    keras.layers.Dense(4, name="inner"),
                    keras.layers.BatchNormalization(name="inner_norm"),
                ],
                name="both",
            ),
            name="sequence",
        ),
        NonSpiking(keras.layers.Dense(4, activation="tanh", name="tanh"), name="average"),
        ScaleShift((4,), name="scale"),
        SpikingDense(3, name="dense"),
    ]


def handwritten():
    x = inputs = keras.Input((STEPS, 6, 2))
    for layer in parts():
        x = layer(x)
    return keras.Model(inputs, x)


def converted():
    relu = {"activation": "relu"}
    layers = [keras.layers.Dense(4, **relu, name="separable"), keras.layers.Dense(4, **relu, name="dense")]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(3, name="average")])
    data = np.random.default_rng(3).uniform(0, 1, (20, 2))
    model.set_weights([np.random.default_rng(4).normal(0.2, 0.5, w.shape) for w in model.weights])
    return keras_snn.convert(model, data, timesteps=STEPS, verbose=0)


def owned(layer):
    return layer.analog if isinstance(layer, SpikingTwin) else layer.layer


def freeze_one(model):
    model.get_layer("separable").trainable = False


def freeze_all(model):
    model.trainable = False


def freeze_all_but_one(model):
    model.trainable = False
    model.get_layer("dense").trainable = True


def freeze_what_is_owned(model):
    owned(model.get_layer("dense")).trainable = False
    owned(model.get_layer("average")).trainable = False


def train_only_what_is_owned(model):
    for layer in model.layers[1:]:
        layer.trainable = False
    owned(model.get_layer("dense")).trainable = True


def freeze_a_part_of_a_part(model):
    if any(layer.name == "sequence" for layer in model.layers):
        model.get_layer("normalized").layer.trainable = False
        model.get_layer("sequence").trainable = False
        model.get_layer("sequence").layer.get_layer("inner").trainable = True
        model.get_layer("sequence").layer.get_layer("inner_norm").trainable = False
    model.get_layer("dense").trainable = False


FREEZING = [
    freeze_one,
    freeze_all,
    freeze_all_but_one,
    freeze_what_is_owned,
    train_only_what_is_owned,
    freeze_a_part_of_a_part,
]


def saved(model, path):
    model.save(path / "model.keras")
    return keras.models.load_model(path / "model.keras")


def in_a_bigger_model(model, path):
    inputs = keras.Input(model.input_shape[1:] if hasattr(model, "input_shape") else (2,))
    outer = keras.Model(inputs, keras.layers.Rescaling(2.0)(model(inputs)))
    return saved(outer, path).layers[1]


def from_config(model, path):
    return type(model).from_config(model.get_config())


COPYING = [
    saved,
    in_a_bigger_model,
    from_config,
    lambda model, path: pickle.loads(pickle.dumps(model)),
    lambda model, path: copy.deepcopy(model),
    lambda model, path: keras.models.clone_model(model),
]


def flags(model):
    return [(tuple(v.shape), v.trainable) for v in model.weights]


@pytest.mark.parametrize(
    ("make", "freeze"), running.pairs([handwritten, converted], FREEZING), ids=lambda f: f.__name__
)
def test_a_copy_trains_what_the_model_trains(make, freeze, tmp_path):
    model = make()
    freeze(model)
    for how in COPYING:
        other = how(model, tmp_path)
        assert flags(other) == flags(model), how
        # A clone of a Functional model has its layers, but not its own flag (Keras 3.15).
        if make is converted:
            assert [w.shape for w in other.trainable_weights] == [w.shape for w in model.trainable_weights]


@pytest.mark.parametrize(
    ("make", "freeze"), running.pairs([handwritten, converted], FREEZING[:-1]), ids=lambda f: f.__name__
)
def test_loaded_it_goes_on_training_with_the_state_of_its_optimizer(make, freeze, rng, tmp_path):
    """Weights that train have a momentum each, in the order of the weights."""
    model = make()
    freeze(model)
    x = rng.uniform(0, 1, (SAMPLES, *((STEPS, 6, 2) if make is handwritten else (2,)))).astype("float32")
    y = rng.uniform(0, 1, model(x).shape)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    train = {"batch_size": SAMPLES, "verbose": 0, "shuffle": False}
    if model.trainable_weights:
        model.fit(x, y, **train)
    loaded = saved(model, tmp_path)
    for one in (model, loaded):
        before = [(v.trainable, w) for v, w in zip(one.weights, one.get_weights(), strict=True)]
        if one.trainable_weights:
            one.fit(x, y, **train)
        moving = {id(v) for v in one.non_trainable_weights if "moving" in v.path}
        for variable, (trains, old) in zip(one.weights, before, strict=True):
            moved = not np.array_equal(old, keras.ops.convert_to_numpy(variable))
            assert trains or not moved or id(variable) in moving
    if model.trainable_weights:
        assert_same(loaded.optimizer.variables[2].numpy(), model.optimizer.variables[2].numpy())
    assert_same(loaded.get_weights(), model.get_weights(), tolerance=1e-6)


def test_a_layer_that_is_created_frozen_has_nothing_to_train(tmp_path):
    layers = [
        SpikingDense(3, trainable=False),
        PerTimestep(keras.layers.Dense(3), trainable=False),
        NonSpiking(keras.layers.Dense(3), trainable=False),
    ]
    for layer in layers:
        model = keras.Sequential([keras.Input((STEPS, 4)), layer])
        assert model.trainable_variables == []
        assert saved(model, tmp_path).trainable_variables == []
        assert len(model.weights) == 2
        layer.trainable = True
        assert len(layer.trainable_variables) == 2


def test_freezing_moves_no_weight_in_the_order(tmp_path, rng):
    """A file of weights loads whatever was frozen, before or after."""
    model, other = handwritten(), handwritten()
    model.set_weights([rng.uniform(0, 1, w.shape) for w in model.weights])
    model.save_weights(tmp_path / "all.weights.h5")
    for freeze in FREEZING:
        other.trainable = True
        freeze(other)
        other.load_weights(tmp_path / "all.weights.h5")
        assert_same(other.get_weights(), model.get_weights())
        other.save_weights(tmp_path / "frozen.weights.h5")
        again = handwritten()
        again.load_weights(tmp_path / "frozen.weights.h5")
        assert_same(again.get_weights(), model.get_weights())
