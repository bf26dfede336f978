import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_snn import neurons
from keras_snn.layers import (
    NonSpiking,
    PoissonEncoder,
    Readout,
    SpikingActivation,
    SpikingMaxPooling1D,
    SpikingSoftmax,
)

MAKE = {
    "readout": Readout,
    "readout, weighted": lambda: Readout(weighting="linear", delay=1),
    "readout, delayed": lambda: Readout("sigmoid", delay=3),
    "softmax": lambda: SpikingSoftmax(delay=3),
    "poisson softmax": lambda: SpikingSoftmax(method="poisson", delay=2),
    "clocked softmax": lambda: SpikingSoftmax(method="clock", delay=2),
    "poisson encoder": lambda: PoissonEncoder(rate=0.5),
    "nonspiking": lambda: NonSpiking(layers.Activation("softplus")),
    # Not finite where nothing has come in.
    "nonspiking, divisor": lambda: NonSpiking(layers.Lambda(lambda x: 1 / ops.relu(x))),
    **{
        f"max pooling, {method}": lambda method=method: SpikingMaxPooling1D(2, method=method)
        for method in ("exact", "fir", "avg", "exp")
    },
    **{
        f"neuron {name}": lambda name=name: SpikingActivation("relu", neuron=name) for name in neurons.names()
    },
    "neuron, delayed": lambda: SpikingActivation("relu", neuron=neurons.Delayed("if", 3)),
    "neuron, corrected": lambda: SpikingActivation("relu", neuron=neurons.Corrected("if", (0.25, -0.5, 0.0))),
    "neuron with a threshold": lambda: SpikingActivation(
        "relu", neuron=neurons.get("if").with_threshold(0.75)
    ),
}


@pytest.mark.parametrize("steps", [5, 11])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_several_steps_at_once_are_the_steps_one_by_one(name, constant, steps, rng):
    layer, samples = MAKE[name](), 3
    x = rng.normal(size=(samples, steps, 4, 3)).astype("float32")
    layer.build(x.shape)
    current = ops.convert_to_tensor(x[:, 0] if constant else x.reshape(-1, 4, 3))
    current = layer.current(current)
    states = [layer.get_initial_state(samples)]
    # Behind some steps, so that the state is not the first.
    _, states[0] = layer.advance(current[:samples], states[0], 1)
    expected = []
    for step in range(steps):
        now = current if constant else ops.reshape(current, (samples, steps, *current.shape[1:]))[:, step]
        output, state = layer.advance(now, states[-1], 1, constant=constant)
        expected.append(ops.convert_to_numpy(output))
        states.append(state)
    outputs, state = layer.advance(current, states[0], steps, constant=constant)
    outputs = ops.convert_to_numpy(outputs).reshape(samples, steps, *outputs.shape[1:])
    assert outputs.dtype == expected[0].dtype
    assert np.isfinite(outputs).all()
    # Sums are those of the steps one by one, so that no neuron decides otherwise; a function of them may be
    # rounded in another order of vectors.
    is_rounded = isinstance(layer, (NonSpiking, Readout, SpikingSoftmax))
    # JAX compiles a long loop, and rounds a product and a sum in it together.
    is_compiled = keras.backend.backend() == "jax" and steps > 8
    tolerance = 1e-5 if is_rounded or is_compiled else 0.0
    np.testing.assert_allclose(outputs, np.stack(expected, axis=1), rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(state, states[-1], strict=True):
        assert keras.backend.standardize_dtype(ours.dtype) == keras.backend.standardize_dtype(theirs.dtype)
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=tolerance, atol=tolerance
        )
