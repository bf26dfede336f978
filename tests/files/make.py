"""Writes the `.keras` files of this folder and what they give; ran once, on the commit that README.md names.

    python tests/files/make.py FOLDER

Weights, inputs and corrections are small multiples of powers of two, and so are all scales. Sums are
exact then, in whatever order a backend adds.
"""

import pathlib
import sys
import warnings
import zipfile

import keras
import numpy as np
from keras import layers

import keras_snn
from keras_snn import layers as spiking
from keras_snn import neurons
from keras_snn.neurons import IntegrateAndFire

TIMESTEPS, SAMPLES = 8, 4


def dyadic(model, rng, parts=8):
    """Give every weight a random multiple of 1/parts, and every batch norm a variance that has a root."""
    values = []
    for variable in model.weights:
        kind, shape = variable.path.split("/")[-1], variable.shape
        if kind == "moving_variance":
            values.append(rng.choice([0.25, 1.0, 4.0], shape) - 0.25)
        elif kind == "gamma":
            values.append(rng.choice([0.5, 1.0, 2.0], shape))
        else:
            values.append(rng.integers(-parts, parts + 1, shape) / parts)
    model.set_weights(values)
    return model


def inputs_of(model, rng):
    """Return random multiples of 1/4 in [0, 1], nested as the model takes them."""
    given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(
        lambda tensor: (rng.integers(0, 5, (SAMPLES, *tensor.shape[1:])) / 4).astype("float32"), given
    )


def converted(model, rng, parts=8, **options):
    """Return the spiking model of a network with random weights, and inputs for it."""
    x = inputs_of(dyadic(model, rng, parts), rng)
    averages = x
    if options.get("input_encoding") == "events":
        events = rng.integers(0, 2, (SAMPLES, TIMESTEPS, *x.shape[1:])).astype("float32")
        x, averages = events, events.mean(axis=1)
    # The scales of "none" are 1; seeds are fixed where something draws.
    defaults = {"timesteps": TIMESTEPS, "normalization": "none", "seed": 7, "verbose": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Silent on all calibration data")
        return keras_snn.convert(model, averages, **(defaults | options)), x


def cnn(relu=layers.ReLU, last="linear", pool=layers.MaxPooling2D):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, padding="same", name="conv"),
            relu(name="first"),
            pool(2, name="pool"),
            layers.Conv2D(2, 2, name="second_conv"),
            relu(name="second"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, activation=last, name="dense"),
        ],
        name="cnn",
    )


def small(relu=layers.ReLU):
    """Sums have so few values that bfloat16 holds them."""
    hidden = [layers.Dense(6, name="hidden"), relu(name="relu")]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3, name="dense")], name="small")


def saturating(name):
    return layers.ReLU(max_value=0.5, name=name)


def nested():
    inner = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(2, 2), layers.ReLU()], name="inner")
    inputs = keras.Input((6, 6, 2))
    x = layers.ReLU()(layers.BatchNormalization(epsilon=0.25)(inner(inputs)))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)), name="outer")


def shared_twice():
    first, second = keras.Input((4, 4, 1), name="first"), keras.Input((4, 4, 1), name="second")
    conv = layers.Conv2D(2, 3, activation="relu", name="conv")
    x = layers.Subtract()([conv(first), conv(second)])
    return keras.Model([first, second], layers.Dense(2)(layers.Flatten()(x)), name="siamese")


def on_its_own_output():
    inputs = keras.Input((4, 4, 2))
    conv = layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")
    x = conv(conv(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)), name="twice")


def several():
    sequence, vector = keras.Input((8, 2), name="sequence"), keras.Input((4,), name="vector")
    x = layers.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="relu", name="conv")(sequence)
    x = layers.Flatten()(layers.MaxPooling1D(2)(x))
    z = layers.Concatenate()([x, layers.Dense(4, activation="relu", name="dense")(vector)])
    outputs = {
        "label": layers.Dense(3, activation="softmax", name="label")(z),
        "size": layers.Dense(2, activation="relu", name="size")(z),
    }
    return keras.Model({"sequence": sequence, "vector": vector}, outputs, name="several")


def residual():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    y = layers.Conv2D(2, 3, padding="same", activation="relu")(x)
    x = layers.Add()([x, layers.Conv2D(2, 1)(y)])
    # The sum has two users: its batch norm becomes a layer of its own.
    y = layers.ReLU()(layers.BatchNormalization(epsilon=0.25)(x))
    x = layers.Add()([x, layers.Conv2D(2, 1)(y)])
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)), name="residual")


def transposed():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2DTranspose(2, 2, strides=2, activation="relu")(inputs)
    x = layers.Cropping2D(1)(layers.UpSampling2D(2)(x))
    x = layers.AveragePooling2D(2)(layers.LeakyReLU(0.25)(layers.Conv2D(2, 1)(x)))
    return keras.Model(inputs, layers.Conv2D(1, 1)(x), name="transposed")


def separable():
    hidden = [
        layers.DepthwiseConv2D(3, padding="same", activation="relu", depth_multiplier=2),
        layers.SeparableConv2D(3, 2, activation="relu"),
        layers.ZeroPadding2D(1),
        layers.Conv2D(4, 2, strides=2, groups=1, activation="relu"),
    ]
    return keras.Sequential([keras.Input((5, 5, 2)), *hidden, layers.GlobalMaxPooling2D(), layers.Dense(2)])


def volume():
    hidden = [layers.Conv3D(2, 2, activation="relu"), layers.MaxPooling3D(2, strides=1), layers.Flatten()]
    return keras.Sequential([keras.Input((4, 4, 4, 1)), *hidden, layers.Dense(2)], name="volume")


def nonspiking():
    """A product and a square, which are exact, between neurons."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 3, activation="relu")(inputs)
    x = layers.Dense(3, activation="relu")(layers.Flatten()(layers.Multiply()([x, keras.ops.square(x)])))
    return keras.Model(inputs, layers.Dense(2)(x), name="product")


def compiled():
    model = small()
    model.compile("adam", "mse", metrics=["mae"])
    return model


def handwritten(rng, batch_size=None, **options):
    """Return layers that someone wrote into a Sequential, on events, and events."""
    inputs = keras.Input((TIMESTEPS, 4), batch_size=batch_size)
    hidden = spiking.SpikingDense(6, name="hidden", **options)
    out = spiking.SpikingDense(3, neuron=IntegrateAndFire(v_threshold=0.5), name="out")
    model = dyadic_weights(keras.Sequential([inputs, hidden, out], name="by_hand"), rng)
    return model, rng.integers(0, 2, (SAMPLES, TIMESTEPS, 4)).astype("float32")


def dyadic_weights(model, rng):
    """Give kernels and biases random multiples of 1/8; a kept state stays."""
    for layer in model.layers:
        for variable in layer.trainable_variables:
            variable.assign(rng.integers(-8, 9, variable.shape) / 8)
    return model


def handwritten_convolution(rng):
    """Return a Functional model of twins, other layers per step, and a read-out."""
    inputs = keras.Input((TIMESTEPS, 5, 5, 1))
    x = spiking.SpikingConv2D(2, 3, neuron="signed", name="conv")(inputs)
    x = spiking.SpikingMaxPooling2D(2, strides=1, name="pool")(x)
    x = spiking.PerTimestep(layers.Flatten(), name="flatten")(x)
    x = spiking.PerTimestep(layers.Dense(2), name="dense")(x)
    model = dyadic_weights(keras.Model(inputs, spiking.Readout(delay=2, name="readout")(x)), rng)
    return model, rng.integers(0, 2, (SAMPLES, TIMESTEPS, 5, 5, 1)).astype("float32")


def reference(rng):
    """Return the quantised reference of a network, an analog model with a layer of the package."""
    snn, x = converted(cnn(), rng, neuron=neurons.SignedIntegrateAndFire(levels=4))
    return keras_snn.quantized_reference(snn), x


def conversions():
    """Yield names, and functions of a random generator that return a model and inputs for it."""
    of_neurons = {
        "if": IntegrateAndFire(),
        "if_floor": IntegrateAndFire(initial_potential=0.0),
        "if_zero": IntegrateAndFire(reset="zero"),
        "if_zero_floor": IntegrateAndFire(v_threshold=2.0, reset="zero", initial_potential=0.0),
        "signed": neurons.SignedIntegrateAndFire(),
        "signed_levels": neurons.SignedIntegrateAndFire(levels=4),
        "multi_threshold": neurons.MultiThreshold(levels=3),
        "burst": neurons.Burst(gamma=3),
    }
    for name, neuron in of_neurons.items():
        yield f"neuron_{name}", lambda rng, neuron=neuron: converted(cnn(), rng, neuron=neuron)
    for name in ("multi_threshold", "burst"):
        yield (
            f"neuron_{name}_limited",
            lambda rng, name=name: converted(
                cnn(lambda name: layers.ReLU(max_value=1.5, name=name)), rng, neuron=name
            ),
        )
    for method in ("fir", "avg", "exp"):
        yield f"max_pool_{method}", lambda rng, m=method: converted(cnn(), rng, max_pool=m)
    for method in ("potential", "poisson", "clock"):
        yield f"softmax_{method}", lambda rng, m=method: converted(cnn(last="softmax"), rng, softmax=m)
    options = {
        "poisson": {"input_encoding": "poisson", "input_rate": 0.5},
        "events": {"input_encoding": "events"},
        "delay": {"delay": 2},
        "readout_delay": {"readout_delay": 3},
        "bias_correction": {"bias_correction": True},
        "potential_correction": {"bias_correction": "potential"},
        "unroll": {"unroll": 3},
    }
    for name, values in options.items():
        yield f"option_{name}", lambda rng, values=values: converted(small(), rng, **values)
    yield "option_scales", lambda rng: converted(cnn(saturating), rng, normalization="max")
    yield (
        "option_per_channel",
        lambda rng: converted(cnn(saturating), rng, per_channel=True, normalization="max"),
    )
    for policy in ("bfloat16", "mixed_bfloat16", "float64"):
        yield f"dtype_{policy}", lambda rng, p=policy: converted(small(), rng, parts=4, dtype=p)


def binary(function):
    """Return a binary network: its activation is a layer of the package, or a comparison."""
    hidden = [layers.Dense(6), spiking.BinaryActivation(function), layers.Dense(4), layers.ReLU()]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(2)], name="binary")


def architectures():
    """Yield as `conversions`, each of a network of another form."""
    for network in (
        nested,
        shared_twice,
        on_its_own_output,
        several,
        residual,
        transposed,
        separable,
        volume,
        compiled,
    ):
        yield f"network_{network.__name__}", lambda rng, network=network: converted(network(), rng)
    yield "network_nonspiking", lambda rng: converted(nonspiking(), rng, nonspiking="allow")
    for function in ("sign", "heaviside"):
        yield f"network_{function}", lambda rng, f=function: converted(binary(f), rng)
    leaky = neurons.LeakyIntegrateAndFire(leak=0.5)
    yield "by_hand_lif", lambda rng: handwritten(rng, neuron=leaky)
    yield "by_hand_delayed", lambda rng: handwritten(rng, neuron=neurons.Delayed(IntegrateAndFire(), 3))
    yield "by_hand_stateful", lambda rng: handwritten(rng, batch_size=SAMPLES, stateful=True)
    yield "by_hand_convolution", handwritten_convolution
    yield "quantized_reference", reference


def results(model, x):
    """Return all that a model gives, by name: what a run starts from is kept by a stateful layer."""
    found = {"predict": model.predict(x, batch_size=SAMPLES, verbose=0)}
    if isinstance(model, keras_snn.SpikingModel):
        run = model.simulate(x, record="spike_counts")
        found |= {"over_time": run.outputs_over_time, "spike_counts": run.spike_counts}
    else:
        found["again"] = model.predict(x, batch_size=SAMPLES, verbose=0)
    return found


def flat(name, values):
    """Yield names and arrays of nested dicts."""
    if not isinstance(values, dict):
        values = np.asarray(values)
        # NumPy writes no bfloat16, of which float32 holds every value.
        yield name, values.astype("float32") if values.dtype.name == "bfloat16" else values
        return
    for key, value in values.items():
        yield from flat(f"{name}:{key}", value)


def listed(values):
    """Return nested lists and dicts as dicts."""
    if isinstance(values, (list, tuple)):
        values = dict(enumerate(values))
    return {key: listed(value) for key, value in values.items()} if isinstance(values, dict) else values


def write(name, make, folder):
    """Write the file of a model in which every layer fires, and return what it gives, by name."""
    for seed in range(20):
        keras.utils.clear_session()
        model, x = make(np.random.default_rng([seed, *name.encode()]))
        path = folder / f"{name}.keras"
        model.save(path)
        found = dict(flat(name, listed({"x": x, **results(model, x)})))
        lively = [values for key, values in found.items() if "spike_counts" in key or "predict" in key]
        if all(np.mean(values != 0) > 0.05 and np.std(values) > 0 for values in lively):
            compress(path)
            return found
    raise RuntimeError(f"'{name}' is silent.")


def compress(path):
    """Write the members of an archive again, as they are, compressed: half of a small file is zeros."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def main():
    folder = pathlib.Path(sys.argv[1])
    arrays = {}
    for name, make in (*conversions(), *architectures()):
        arrays |= write(name, make, folder)
    np.savez_compressed(folder / "results.npz", **arrays)


if __name__ == "__main__":
    main()
