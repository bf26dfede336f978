"""Networks that the laws are tested on, with random weights, and data for them."""

import keras
import numpy as np
from keras import layers


def randomize(model, rng):
    """Give every weight a random value: batch norms with all four, of either sign of gamma."""
    values = []
    for variable in model.weights:
        shape, kind = tuple(variable.shape), variable.path.split("/")[-1]
        if kind == "moving_variance" or "quantized_clip" in variable.path:
            values.append(rng.uniform(0.3, 2.0, shape))
        elif kind == "gamma":
            values.append(rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape, p=[0.2, 0.8]))
        elif kind in ("kernel", "depthwise_kernel") and len(shape) > 1:
            fan_in = np.prod(shape[:-1]) / (shape[-2] if "depthwise" in variable.path else 1)
            values.append(rng.normal(0, np.sqrt(2 / fan_in), shape))
        else:
            values.append(rng.normal(0, 0.3, shape))
    model.set_weights(values)
    return model


def make_dyadic(model, rng):
    """Give every weight a small multiple of 1/8, so that no order of additions matters."""
    model.set_weights([rng.integers(-8, 9, v.shape) / 8 for v in model.weights])
    return model


def data_for(model, rng, samples=12, dyadic=False):
    """Return random input in [0, 1], nested as the model takes it; multiples of 1/4 if dyadic."""

    def draw(tensor):
        shape = (samples, *tensor.shape[1:])
        values = rng.integers(0, 5, shape) / 4 if dyadic else rng.uniform(0, 1, shape)
        return values.astype("float32")

    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(draw, inputs)


def plain(relu, norm):
    return keras.Sequential(
        [
            keras.Input((9, 8, 2)),
            layers.Conv2D(5, 3, padding="same", strides=(2, 1), name="conv"),
            *norm(),
            relu(),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.Dropout(0.3),
            layers.Conv2D(4, (2, 3), use_bias=False),
            relu(),
            *norm(),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(7),
            relu(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def residual(relu, norm):
    x = inputs = keras.Input((6, 6, 3))
    x = _chain(x, layers.Conv2D(4, 3, padding="same"), *norm(), relu())
    for _ in range(2):
        y = _chain(x, layers.Conv2D(4, 3, padding="same"), *norm(), relu())
        y = _chain(y, layers.Conv2D(4, 3, padding="same"), *norm())
        x = relu()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def preactivation(relu, norm):
    """The sum has two users, so its batch norm cannot be folded back."""
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(2):
        y = _chain(x, *norm(), relu(), layers.Conv2D(4, 3, padding="same"))
        x = layers.Add()([x, y])
    return keras.Model(inputs, _chain(x, relu(), layers.Flatten(), layers.Dense(3)))


def branches(relu, norm):
    """Branches of different scale side by side, then a batch norm that meets zero padding."""
    inputs = keras.Input((6, 6, 3))
    x = _chain(inputs, layers.Conv2D(4, 1), relu())
    a = _chain(x, layers.DepthwiseConv2D(3, padding="same"), relu())
    b = _chain(x, layers.MaxPooling2D(3, strides=1, padding="same"), layers.Conv2D(2, 1), relu())
    x = layers.Concatenate()([a, b, x])
    x = _chain(
        x, *norm(), layers.ZeroPadding2D(((1, 0), (0, 2))), layers.Conv2D(5, 3, padding="same"), relu()
    )
    return keras.Model(inputs, _chain(x, layers.Reshape((-1, 5)), layers.Dense(3), relu()))


def shared(relu, norm):
    """One convolution used twice, one of its values used three times, a model in the model."""
    inputs = keras.Input((6, 6, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="shared")
    first = _chain(inputs, conv, relu())
    second = _chain(first, conv, relu())
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(2, 2), relu()], name="inner")
    x = _chain(layers.Add()([first, second, first]), *norm(), relu())
    return keras.Model(inputs, _chain(x, inner, layers.Flatten(), layers.Dense(3, activation="softmax")))


def several(relu, norm):
    """Two inputs, two outputs, one of them spikes; sequences and vectors."""
    sequence, vector = keras.Input((10, 2), name="sequence"), keras.Input((5,), name="vector")
    x = _chain(sequence, layers.Conv1D(4, 3, padding="causal", dilation_rate=2), *norm(), relu())
    x = _chain(x, layers.MaxPooling1D(2), layers.Flatten())
    y = _chain(vector, layers.Rescaling(0.5, offset=0.25), layers.Dense(6), relu())
    z = layers.Concatenate()([x, y])
    outputs = {"label": layers.Dense(3, activation="softmax")(z), "size": _chain(z, layers.Dense(2), relu())}
    return keras.Model({"sequence": sequence, "vector": vector}, outputs)


def volume(relu, norm):
    return keras.Sequential(
        [
            keras.Input((4, 5, 6, 1)),
            layers.Rescaling(2.0, offset=-0.5),
            layers.ZeroPadding3D((1, 0, 1)),
            layers.Conv3D(3, 2, strides=(1, 2, 1)),
            relu(),
            layers.MaxPooling3D((1, 1, 2)),
            layers.Conv3D(2, 2),
            *norm(),
            relu(),
            layers.AveragePooling3D((2, 1, 1)),
            layers.GlobalAveragePooling3D(),
            layers.Dense(2),
        ]
    )


def inception(relu, norm):
    """Four branches side by side, as in GoogLeNet, one of them averaged, one factorised."""
    x = inputs = keras.Input((8, 8, 3))
    for _ in range(2):
        a = _chain(x, layers.Conv2D(2, 1, use_bias=False), *norm(), relu())
        b = _chain(
            x, layers.Conv2D(2, (1, 3), padding="same"), layers.Conv2D(3, (3, 1), padding="same"), relu()
        )
        c = _chain(
            x, layers.AveragePooling2D(2, strides=1, padding="same"), layers.Conv2D(2, 1), *norm(), relu()
        )
        d = _chain(x, layers.MaxPooling2D(3, strides=1, padding="same"), layers.Conv2D(1, 1), relu())
        x = layers.Concatenate()([a, b, c, d])
    return keras.Model(inputs, _chain(x, layers.GlobalMaxPooling2D(), layers.Dense(3, activation="softmax")))


def dense_block(relu, norm):
    """Every layer sees all earlier ones; batch norm and relu come before the convolution."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    for _ in range(3):
        y = _chain(x, *norm(), relu(), layers.Conv2D(4, 1), *norm(), relu())
        x = layers.Concatenate()([x, layers.Conv2D(2, 3, padding="same")(y)])
    x = _chain(x, *norm(), relu(), layers.AveragePooling2D(2), layers.Flatten())
    return keras.Model(inputs, layers.Dense(3)(x))


def depthwise(relu, norm):
    """Inverted residuals, as in MobileNetV2: no relu after the last convolution of a block."""
    inputs = keras.Input((8, 8, 3))
    x = _chain(
        inputs, layers.ZeroPadding2D(((0, 1), (0, 1))), layers.Conv2D(4, 3, strides=2), *norm(), relu()
    )
    for _ in range(2):
        y = _chain(x, layers.Conv2D(6, 1), *norm(), relu())
        y = _chain(y, layers.DepthwiseConv2D(3, padding="same"), *norm(), relu())
        x = layers.Add()([x, _chain(y, layers.Conv2D(4, 1), *norm())])
    x = _chain(x, layers.SeparableConv2D(4, 3), relu(), layers.Flatten())
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def decoder(relu, norm):
    """Down and up again with a skip, as in U-Net; two outputs in a list, one of them an image of logits."""
    inputs = keras.Input((8, 8, 2))
    skip = _chain(inputs, layers.Conv2D(3, 3, padding="same"), *norm(), relu())
    x = _chain(skip, layers.MaxPooling2D(2), layers.Conv2D(4, 3, padding="same"), relu())
    up = _chain(x, layers.Conv2DTranspose(3, 2, strides=2), *norm(), relu())
    wide = _chain(x, layers.UpSampling2D(2), layers.Conv2D(2, 1), *norm(), relu())
    y = layers.Concatenate()([skip, up, layers.Cropping2D(1)(layers.ZeroPadding2D(1)(wide))])
    image = _chain(y, layers.Conv2D(2, 3, padding="same"), relu(), layers.Conv2D(1, 1, activation="sigmoid"))
    return keras.Model(inputs, [image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))])


def siamese(relu, norm):
    """One tower on two inputs, compared; signed activations in between."""
    tower = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, name="conv"),
            *norm(),
            relu(),
            layers.Flatten(),
            layers.Dense(4, name="dense"),
            relu(),
        ],
        name="tower",
    )
    a, b = keras.Input((6, 6, 1), name="a"), keras.Input((6, 6, 1), name="b")
    difference = layers.Subtract()([tower(a), tower(b)])
    x = _chain(difference * 0.5, layers.LeakyReLU(0.25), layers.Dense(3), relu())
    return keras.Model([a, b], layers.Dense(1, activation="sigmoid")(layers.Maximum()([x, 0.5 - x])))


def rows(relu, norm):
    """Relus on relus: in a row, after pools, sums, concatenation and reshaping, some of which saturate."""
    inputs = keras.Input((4, 4, 3))
    first = _chain(inputs, layers.Conv2D(4, 3, padding="same"), *norm(), relu())
    other = _chain(inputs, layers.Conv2D(4, 1), relu())
    cut = layers.ReLU(0.7)(first)
    ends = [
        relu()(relu()(first)),
        layers.ReLU(0.4)(cut),
        _chain(first, layers.MaxPooling2D(2), relu()),
        _chain(cut, layers.AveragePooling2D(2), layers.ReLU(0.3), relu()),
        relu()(layers.Add()([first, other, cut])),
        layers.ReLU(1.1)(layers.Concatenate()([first, cut, other])),
        _chain(first, layers.Flatten(), relu(), layers.Reshape((8, 8)), layers.ReLU(0.5)),
        _chain(other, layers.Rescaling(0.5, 0.1), relu(), layers.Permute((2, 1, 3)), relu()),
    ]
    return keras.Model(inputs, [_chain(x, layers.Flatten(), layers.Dense(2)) for x in ends])


NETWORKS = [
    plain,
    residual,
    preactivation,
    branches,
    shared,
    several,
    volume,
    inception,
    dense_block,
    depthwise,
    decoder,
    siamese,
    rows,
]


def build(network, rng):
    """Return the network with batch norms and random weights."""
    return randomize(network(layers.ReLU, lambda: [layers.BatchNormalization()]), rng)


def build_dyadic(network, rng):
    """Return the network with weights, and relus that make scales, that are exact in binary."""
    return make_dyadic(network(lambda: layers.ReLU(max_value=0.5), list), rng)


def _chain(x, *steps):
    for step in steps:
        x = step(x)
    return x
