"""What Keras documents of layers, for every public one: config, build, calls, precision, training, files."""

import dataclasses
import inspect
import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
from contracts import assert_same

import keras_snn.layers
from keras_snn.layers import (
    BinaryActivation,
    NonSpiking,
    PerTimestep,
    PoissonEncoder,
    QuantizedClip,
    Readout,
    Rearrange,
    ScaleShift,
    SpikingActivation,
    SpikingConv1D,
    SpikingConv1DTranspose,
    SpikingConv2D,
    SpikingConv2DTranspose,
    SpikingConv3D,
    SpikingConv3DTranspose,
    SpikingDense,
    SpikingDepthwiseConv1D,
    SpikingDepthwiseConv2D,
    SpikingLayer,
    SpikingMaxPooling1D,
    SpikingMaxPooling2D,
    SpikingMaxPooling3D,
    SpikingSeparableConv1D,
    SpikingSeparableConv2D,
    SpikingSoftmax,
)
from keras_snn.neurons import Delayed, IntegrateAndFire, MultiThreshold

to_numpy = keras.ops.convert_to_numpy
dtype_of = keras.backend.standardize_dtype

SAMPLES = 2


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, the shape of its inputs and of its output without batch, and those of its weights."""

    make: Callable
    inputs: tuple
    output: tuple
    weights: tuple = ()
    # Spikes drawn at random have no derivative.
    has_gradient: bool = True

    def shapes(self, batch):
        shapes = [(batch, *shape) for shape in self.inputs]
        return shapes if len(shapes) > 1 else shapes[0]

    def draw(self, rng):
        x = [rng.uniform(-1, 1, (SAMPLES, *shape)).astype("float32") for shape in self.inputs]
        return x if len(x) > 1 else x[0]


CASES = {
    "dense": Case(lambda: SpikingDense(4), [(3, 5)], (3, 4), [(5, 4), (4,)]),
    "dense on images": Case(lambda: SpikingDense(4, use_bias=False), [(3, 2, 5)], (3, 2, 4), [(5, 4)]),
    "signed": Case(lambda: SpikingDense(4, neuron="signed"), [(3, 5)], (3, 4), [(5, 4), (4,)]),
    "leaky": Case(lambda: SpikingDense(4, neuron="lif"), [(3, 5)], (3, 4), [(5, 4), (4,)]),
    "delayed": Case(
        lambda: SpikingDense(4, neuron=Delayed(MultiThreshold(3), 1)), [(3, 5)], (3, 4), [(5, 4), (4,)]
    ),
    "conv1d": Case(lambda: SpikingConv1D(4, 3, padding="causal"), [(3, 6, 2)], (3, 6, 4), [(3, 2, 4), (4,)]),
    "conv2d": Case(
        lambda: SpikingConv2D(3, 3, strides=2, padding="same", neuron=IntegrateAndFire(reset="zero")),
        [(3, 5, 4, 2)],
        (3, 3, 2, 3),
        [(3, 3, 2, 3), (3,)],
    ),
    "conv3d": Case(lambda: SpikingConv3D(2, 2), [(3, 3, 4, 2, 2)], (3, 2, 3, 1, 2), [(2, 2, 2, 2, 2), (2,)]),
    "depthwise1d": Case(
        lambda: SpikingDepthwiseConv1D(3, depth_multiplier=2), [(3, 6, 2)], (3, 4, 4), [(3, 2, 2), (4,)]
    ),
    "depthwise2d": Case(
        lambda: SpikingDepthwiseConv2D(2), [(3, 4, 3, 2)], (3, 3, 2, 2), [(2, 2, 2, 1), (2,)]
    ),
    "separable1d": Case(
        lambda: SpikingSeparableConv1D(3, 2), [(3, 5, 2)], (3, 4, 3), [(2, 2, 1), (1, 2, 3), (3,)]
    ),
    "separable2d": Case(
        lambda: SpikingSeparableConv2D(3, 2),
        [(3, 3, 4, 2)],
        (3, 2, 3, 3),
        [(2, 2, 2, 1), (1, 1, 2, 3), (3,)],
    ),
    "transposed1d": Case(
        lambda: SpikingConv1DTranspose(3, 3, strides=2), [(3, 3, 2)], (3, 7, 3), [(3, 3, 2), (3,)]
    ),
    "transposed2d": Case(
        lambda: SpikingConv2DTranspose(3, 2, strides=2), [(3, 2, 3, 2)], (3, 4, 6, 3), [(2, 2, 3, 2), (3,)]
    ),
    "transposed3d": Case(
        lambda: SpikingConv3DTranspose(2, 2), [(3, 2, 2, 1, 2)], (3, 3, 3, 2, 2), [(2, 2, 2, 2, 2), (2,)]
    ),
    "activation": Case(lambda: SpikingActivation("relu"), [(3, 4)], (3, 4)),
    "max pooling 1d": Case(lambda: SpikingMaxPooling1D(2), [(3, 5, 2)], (3, 2, 2)),
    "max pooling 2d": Case(
        lambda: SpikingMaxPooling2D(2, strides=1, padding="same"), [(3, 3, 4, 2)], (3, 3, 4, 2)
    ),
    "max pooling 3d": Case(lambda: SpikingMaxPooling3D((1, 2, 2)), [(3, 2, 4, 3, 1)], (3, 2, 2, 1, 1)),
    "gate": Case(lambda: SpikingMaxPooling2D(2, method="avg"), [(3, 4, 5, 2)], (3, 2, 2, 2)),
    "softmax": Case(lambda: SpikingSoftmax(), [(3, 4)], (3, 4)),
    "poisson softmax": Case(
        lambda: SpikingSoftmax(method="poisson", seed=3), [(3, 2, 4)], (3, 2, 4), has_gradient=False
    ),
    "clocked softmax": Case(
        lambda: SpikingSoftmax(axis=1, method="clock", delay=1), [(3, 4, 2)], (3, 4, 2), has_gradient=False
    ),
    "readout": Case(lambda: Readout("sigmoid", delay=1), [(3, 4)], (3, 4)),
    "poisson": Case(
        lambda: PoissonEncoder(rate=0.5, scale=2.0, seed=4), [(3, 4, 2)], (3, 4, 2), has_gradient=False
    ),
    "nonspiking": Case(
        lambda: NonSpiking(keras.layers.Dense(3, activation="tanh")),
        [(3, 4)],
        (3, 3),
        [(4, 3), (3,)],
    ),
    "nonspiking of two": Case(lambda: NonSpiking(keras.layers.Multiply()), [(3, 4), (1, 4)], (3, 4)),
    "per time step": Case(
        lambda: PerTimestep(keras.layers.Conv2D(2, 2)), [(3, 3, 3, 1)], (3, 2, 2, 2), [(2, 2, 1, 2), (2,)]
    ),
    "per time step of two": Case(lambda: PerTimestep(keras.layers.Concatenate()), [(3, 2), (1, 4)], (3, 6)),
    "scale and shift": Case(lambda: ScaleShift((4,)), [(3, 2, 4)], (3, 2, 4), [(4,), (4,)]),
    "reshape": Case(lambda: Rearrange("reshape", (3, 2, 6)), [(3, 4, 3)], (3, 2, 6)),
    "transpose": Case(lambda: Rearrange("transpose", (0, 2, 1)), [(3, 4, 2)], (3, 2, 4)),
    "pad": Case(lambda: Rearrange("pad", ((0, 0), (1, 2))), [(3, 4)], (3, 7)),
    "slice": Case(lambda: Rearrange("slice", ((0, 3, 1), (1, 4, 2))), [(3, 4)], (3, 2)),
    "repeat": Case(lambda: Rearrange("repeat", (1, 2)), [(3, 4)], (3, 8)),
    "sign": Case(lambda: BinaryActivation(), [(3, 4)], (3, 4)),
    "heaviside": Case(lambda: BinaryActivation("heaviside", 0), [(3, 4)], (3, 4)),
    "quantized": Case(lambda: QuantizedClip(4, scale=0.75), [(3, 4)], (3, 4), [()]),
}


def test_every_public_layer_is_here():
    public = {getattr(keras_snn.layers, name) for name in keras_snn.layers.__all__}
    assert {type(case.make()) for case in CASES.values()} == public - {SpikingLayer}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=["float32", "float64", "mixed_bfloat16", "mixed_float16"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def with_state(layer):
    """Return the same layer, returning its state, if it has one."""
    if not isinstance(layer, SpikingLayer):
        return layer
    return type(layer).from_config({**layer.get_config(), "return_state": True})


def kinds(values):
    """Return `(shape without batch, dtype)` of nested tensors."""
    return [(tuple(x.shape[1:]), dtype_of(x.dtype)) for x in keras.tree.flatten(values)]


def test_configuration_is_plain_and_makes_the_same_layer(case, rng):
    layer, x = case.make(), case.draw(rng)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    clone = keras.saving.deserialize_keras_object(config)
    assert type(clone) is type(layer)
    assert clone.get_config() == layer.get_config()
    # Those of the Keras layer are its own affair.
    ours = getattr(layer, "options", inspect.signature(type(layer)).parameters)
    assert set(ours) - {"kwargs"} <= layer.get_config().keys()
    for one in (layer, clone):
        one.build(case.shapes(None))
    layer.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in layer.get_weights()])
    clone.set_weights(layer.get_weights())
    assert_same(clone(x), layer(x))


def test_build_makes_all_weights(case, rng):
    layer = case.make()
    layer.build(case.shapes(None))
    assert layer.built
    assert [tuple(w.shape) for w in layer.weights] == [tuple(shape) for shape in case.weights]
    assert [tuple(w.shape) for w in layer.trainable_weights] == [tuple(shape) for shape in case.weights]
    variables = [id(v) for v in layer.variables]
    for _ in range(2):
        layer(case.draw(rng))
    assert [id(v) for v in layer.variables] == variables
    layer.trainable = False
    assert layer.trainable_weights == []


def test_symbolic_and_eager_calls_and_shapes_agree(case, rng):
    x = case.draw(rng)
    for batch in (None, SAMPLES):
        layer = with_state(case.make())
        inputs = [keras.Input(shape, batch_size=batch) for shape in case.inputs]
        symbolic = layer(inputs if len(inputs) > 1 else inputs[0])
        eager = layer(x)
        assert kinds(symbolic) == kinds(eager)
        outputs = keras.tree.flatten(symbolic)
        assert all(value.shape[0] == batch for value in outputs)
        assert tuple(outputs[0].shape) == (batch, *case.output)
        assert tuple(layer.compute_output_shape(case.shapes(batch))) == (batch, *case.output)


def test_a_new_layer_knows_its_output_shape(case):
    """Before it is built."""
    assert tuple(case.make().compute_output_shape(case.shapes(None))) == (None, *case.output)


def test_precision_is_that_of_the_policy(case, policy, rng, request):
    layer = with_state(case.make())
    if isinstance(layer, SpikingMaxPooling3D) and (keras.backend.backend(), policy) == (
        "tensorflow",
        "float64",
    ):
        # TensorFlow has no such operation.
        request.applymarker(pytest.mark.xfail(raises=Exception, strict=False))
    x = case.draw(rng)
    outputs, *state = keras.tree.flatten(layer(x))
    assert dtype_of(outputs.dtype) == layer.compute_dtype == keras.DTypePolicy(policy).compute_dtype
    assert {dtype_of(w.dtype) for w in layer.weights} <= {keras.DTypePolicy(policy).variable_dtype}
    # Potentials, counts and sums; keys and steps of random numbers are integers.
    wanted = {"float64"} if policy == "float64" else {"float32"}
    assert {dtype_of(value.dtype) for value in state} <= wanted | {"int32"}
    assert np.isfinite(to_numpy(outputs).astype("float64")).all()
    keras.config.set_dtype_policy("float32")
    clone = type(layer).from_config(layer.get_config())
    assert clone.dtype_policy.name == policy
    assert kinds(clone(x)) == kinds([outputs, *state])


# Keras 3.10 loads a model of one input as one of a list of inputs.
@pytest.mark.filterwarnings(r"ignore:(.|\n)*structure of `inputs` doesn't match:UserWarning")
def test_a_training_step_moves_every_weight_and_the_layer_loads_again(case, rng, tmp_path):
    inputs = [keras.Input(shape) for shape in case.inputs]
    # What comes before the layer learns through it.
    before = [ScaleShift()(x) if case.has_gradient else x for x in inputs]
    layer = case.make()
    inputs, before = (values if len(values) > 1 else values[0] for values in (inputs, before))
    model = keras.Model(inputs, layer(before))
    x, y = case.draw(rng), rng.uniform(0, 1, (SAMPLES, *case.output))
    start = model.get_weights()
    if model.trainable_weights:
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model.fit(x, y, batch_size=SAMPLES, verbose=0)
    for old, new in zip(start, model.get_weights(), strict=True):
        assert np.isfinite(new).all()
        assert np.any(new != old)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded.get_weights(), model.get_weights())
    assert_same(loaded(x), model(x))
