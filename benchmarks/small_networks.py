"""Small networks after keras.io's examples and popular repositories, from a table: see `architectures.py`."""

import functools

import keras
import numpy as np
from keras import layers as L  # noqa: N812
from keras import ops

IMAGE, SERIES, VOLUME, TOKENS = (16, 16, 3), (24, 4), (8, 8, 8, 1), (12,)


# --- Pieces: functions that return a function of a tensor -----------------------


def conv(filters, size=3, act="relu", norm=False, **options):
    kind = {3: L.Conv1D, 4: L.Conv2D, 5: L.Conv3D}
    options = {"padding": "same", **options}

    def apply(x):
        x = kind[len(x.shape)](filters, size, use_bias=not norm, **options)(x)
        return activated(L.BatchNormalization()(x) if norm else x, act)

    return apply


def activated(x, act):
    if isinstance(act, str):
        return L.Activation(act)(x)
    return x if act is None else act()(x)


def depthwise(x, act="relu", strides=1):
    return activated(L.BatchNormalization()(L.DepthwiseConv2D(3, strides, padding="same")(x)), act)


def head(units=5, act=None, pool=L.GlobalAveragePooling2D):
    return lambda x: L.Dense(units, activation=act)(pool()(x))


def chain(*steps):
    return lambda x: functools.reduce(lambda value, step: step(value), steps, x)


def repeated(step, times):
    return chain(*[step] * times)


def residual(*steps, act="relu"):
    def apply(x):
        y = chain(*steps)(x)
        skip = x if x.shape[-1] == y.shape[-1] else conv(y.shape[-1], 1, None)(x)
        return activated(L.Add()([y, skip]), act)

    return apply


def beside(*branches):
    return lambda x: L.Concatenate()([branch(x) for branch in branches])


def net(shape, *steps, dtype=None):
    def make():
        inputs = keras.Input(shape, dtype=dtype)
        return keras.Model(inputs, chain(*steps)(inputs))

    return make


flat = L.Flatten
POOL = L.MaxPooling2D(2)


def pool(x, rank=2):
    return {1: L.MaxPooling1D, 2: L.MaxPooling2D, 3: L.MaxPooling3D}[rank](2)(x)


def dense(*units, act="relu"):
    return chain(*[L.Dense(n, activation=act) for n in units])


# --- Own layers and subclassed models -------------------------------------------


class Block(L.Layer):
    def __init__(self, filters):
        super().__init__()
        self.convs = [L.Conv2D(filters, 3, padding="same") for _ in range(2)]
        self.norms = [L.BatchNormalization() for _ in range(2)]
        self.skip = L.Conv2D(filters, 1)

    def call(self, x, training=None):
        y = ops.relu(self.norms[0](self.convs[0](x), training=training))
        return ops.relu(self.norms[1](self.convs[1](y), training=training) + self.skip(x))


class Standardized(L.Conv2D):
    def call(self, x):
        mean, deviation = (f(self.kernel, axis=(0, 1, 2), keepdims=True) for f in (ops.mean, ops.std))
        return ops.relu(ops.conv(x, (self.kernel - mean) / (deviation + 1e-5), padding="same"))


class Tokenizer(L.Layer):
    """Of the compact convolutional transformer."""

    def __init__(self):
        super().__init__()
        self.model = keras.Sequential([L.Conv2D(8, 3, padding="same", activation="relu"), L.MaxPooling2D(2)])

    def call(self, x):
        y = self.model(x)
        return ops.reshape(y, (-1, y.shape[1] * y.shape[2], y.shape[3]))


class Patches(L.Layer):
    def call(self, x):
        patches = ops.image.extract_patches(x, size=4)
        return ops.reshape(patches, (-1, 16, 48))


class Scale(L.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return self.gamma * x


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks, self.classify = [Block(6), Block(8)], L.Dense(5)

    def call(self, x):
        for block in self.blocks:
            x = ops.max_pool(block(x), 2)
        return self.classify(ops.mean(x, axis=(1, 2)))


def subclassed():
    model = Subclassed()
    model.build((None, *IMAGE))
    return model


# --- Networks of several branches -----------------------------------------------


def unet(up, act="relu"):
    def apply(x):
        a = conv(6, act=act, norm=True)(x)
        b = conv(8, act=act, norm=True)(pool(a))
        c = conv(8, act=act, norm=True)(pool(b))
        y = conv(8, act=act)(L.Concatenate()([up(8)(c), b]))
        y = conv(6, act=act)(L.Concatenate()([up(6)(y), a]))
        return L.Conv2D(2, 1, activation="softmax")(y)

    return apply


def transposed(act):
    return lambda n: L.Conv2DTranspose(n, 3, strides=2, padding="same", activation=act)


def nearest(n):
    return chain(L.UpSampling2D(2), conv(n, 2))


def bilinear(n):
    return L.UpSampling2D(2, interpolation="bilinear")


def densenet(x):
    for _ in range(2):
        for _ in range(2):
            y = L.ReLU()(L.BatchNormalization()(x))
            x = L.Concatenate()([x, conv(4)(conv(8, 1, norm=True)(y))])
        x = L.AveragePooling2D(2)(L.Conv2D(6, 1)(L.ReLU()(L.BatchNormalization()(x))))
    return head()(L.ReLU()(x))


def preactivated(x):
    x = L.Conv2D(8, 3, padding="same")(x)
    for _ in range(2):
        y = L.ReLU()(L.BatchNormalization()(x))
        x = L.Add()([x, L.Conv2D(8, 3, padding="same")(conv(8, norm=True)(y))])
    return head()(L.ReLU()(L.BatchNormalization()(x)))


def xception(x):
    x = conv(8, strides=2, norm=True)(x)
    for n in (8, 12):
        y = L.BatchNormalization()(L.SeparableConv2D(n, 3, padding="same")(x))
        y = L.BatchNormalization()(L.SeparableConv2D(n, 3, padding="same")(L.ReLU()(y)))
        y = L.MaxPooling2D(3, strides=2, padding="same")(y)
        x = L.ReLU()(L.Add()([y, L.Conv2D(n, 1, strides=2)(x)]))
    return head()(x)


def bottleneck(x, act="relu6"):
    for _ in range(2):
        y = depthwise(conv(16, 1, act, norm=True)(x), act)
        y = L.BatchNormalization()(L.Conv2D(8, 1)(y))
        x = L.Add()([x, y]) if x.shape[-1] == 8 else y
    return head()(conv(16, 1, act, norm=True)(x))


def shuffle(x):
    for _ in range(2):
        x = conv(8, 1, groups=2 if x.shape[-1] % 2 == 0 else 1)(x)
        x = ops.reshape(ops.transpose(ops.reshape(x, (-1, 16, 16, 2, 4)), (0, 1, 2, 4, 3)), (-1, 16, 16, 8))
        x = L.ReLU()(L.DepthwiseConv2D(3, padding="same")(x))
    return head()(x)


def squeeze_excite(x):
    x = conv(8, norm=True)(x)
    gate = L.Dense(8, activation="sigmoid")(L.Dense(4, activation="relu")(L.GlobalAveragePooling2D()(x)))
    return head()(conv(8)(x * L.Reshape((1, 1, 8))(gate)))


def maxout(x):
    for n in (16, 8):
        x = L.Maximum()([L.Dense(n)(x), L.Dense(n)(x)])
    return L.Dense(5)(x)


def siamese(distance):
    def make():
        tower = keras.Sequential(
            [keras.Input(IMAGE), conv_layer(8), L.MaxPooling2D(2), L.Flatten(), L.Dense(8)]
        )
        sides = [keras.Input(IMAGE) for _ in range(2)]
        return keras.Model(sides, distance(*[tower(side) for side in sides]))

    return make


def conv_layer(filters):
    return L.Conv2D(filters, 3, activation="relu")


def transformer(x):
    for _ in range(2):
        x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4)(x, x))
        x = L.LayerNormalization()(x + L.Dense(8)(L.Dense(16, activation="relu")(x)))
    return L.Dense(5)(L.GlobalAveragePooling1D()(x))


def dueling(x):
    x = chain(lambda t: ops.transpose(t, (0, 2, 3, 1)) / 255, conv(8, 4, strides=2), flat(), dense(16))(x)
    advantage = L.Dense(4)(dense(8)(x))
    return L.Dense(1)(dense(8)(x)) + advantage - ops.mean(advantage, axis=1, keepdims=True)


def temporal(x):
    for rate in (1, 2, 4):
        x = residual(*[conv(8, 3, padding="causal", dilation_rate=rate)] * 2)(x)
    return L.Dense(5)(L.Lambda(lambda t: t[:, -1, :])(x))


def yolo(x):
    def leaky():
        return L.LeakyReLU(0.1)

    for n in (6, 8):
        x = pool(conv(n, act=leaky, norm=True)(x))
    y = conv(8, act=leaky, norm=True)(conv(6, 1, leaky, norm=True)(x))
    up = L.UpSampling2D(2)(pool(conv(6, 1, leaky)(y)))
    return L.Conv2D(6, 1)(conv(8, act=leaky, norm=True)(L.Concatenate()([up, y])))


def pyramid(x):
    levels = [conv(8)(x)]
    for _ in range(2):
        levels.append(conv(8, strides=2)(levels[-1]))
    top = conv(8, 1)(levels[-1])
    for level in levels[-2::-1]:
        top = L.ReLU()(L.Add()([L.UpSampling2D(2)(top), L.Conv2D(8, 1)(level)]))
    return L.Conv2D(3, 1)(top)


def deeplab(x):
    x = conv(8, strides=2, norm=True)(x)
    y = beside(conv(6, 1), conv(6, dilation_rate=2), conv(6, dilation_rate=4))(x)
    return L.UpSampling2D(2, interpolation="bilinear")(L.Conv2D(2, 1)(conv(8, 1)(y)))


INCEPTION = beside(conv(4, 1), chain(conv(4, 1), conv(4)), chain(L.MaxPooling2D(3, 1, "same"), conv(4, 1)))
PRELU = functools.partial(L.PReLU, shared_axes=[1, 2])
ELU = functools.partial(L.ELU)

# Name: whether it is made of linear maps, relus and maxima; and a function that returns it.
NETWORKS = {
    "mnist convnet": (1, net(IMAGE, conv(8), pool, conv(8), pool, flat(), L.Dropout(0.5),
        L.Dense(5, activation="softmax"))),
    "lenet, max": (1, net(IMAGE, conv(6, 5), pool, conv(8, 5), pool, flat(), dense(16, 12), L.Dense(5))),
    "mlp": (1, net(IMAGE, flat(), dense(32, 16), L.Dense(5, activation="softmax"))),
    "vgg": (1, net(IMAGE, conv(6), conv(6), pool, conv(8), conv(8), pool, flat(), dense(16), L.Dense(5))),
        "vgg, cifar with batch norm after relu": (1, net(IMAGE, conv(6), L.BatchNormalization(),
        conv(6), L.BatchNormalization(), pool, conv(8), L.BatchNormalization(), head())),
        "alexnet": (1, net(IMAGE, conv(8, 5, strides=2), L.BatchNormalization(), L.MaxPooling2D(3,
        2), conv(8), L.BatchNormalization(), flat(), dense(16), L.Dense(5))),
        "all convolutional": (1, net(IMAGE, conv(6), conv(6, strides=2), conv(8), conv(5, 1),
        L.GlobalAveragePooling2D())),
        "network in network": (1, net(IMAGE, conv(8, 5), conv(6, 1), pool, conv(8), conv(6, 1),
        L.GlobalMaxPooling2D(), L.Dense(5))),
        "resnet": (1, net(IMAGE, conv(8, norm=True), residual(conv(8, norm=True), conv(8, act=None,
        norm=True)), residual(conv(12, norm=True), conv(12, act=None, norm=True)), head())),
        "resnet, bottlenecks": (1, net(IMAGE, conv(8, norm=True), residual(conv(4, 1, norm=True),
        conv(4, norm=True), conv(8, 1, None, norm=True)), head())),
    "resnet v2": (1, net(IMAGE, preactivated)),
        "wide resnet": (1, net(IMAGE, conv(12, norm=True), residual(conv(16, norm=True),
        L.Dropout(0.3), conv(16, act=None, norm=True)), head())),
        "resnext": (1, net(IMAGE, conv(8, norm=True), residual(conv(8, 1), conv(8, groups=4),
        conv(8, 1, None)), head())),
    "densenet": (1, net(IMAGE, conv(8), densenet)),
    "inception": (1, net(IMAGE, conv(8), INCEPTION, pool, INCEPTION, head())),
        "squeezenet": (1, net(IMAGE, conv(8), conv(4, 1), beside(conv(6, 1), conv(6)), pool, conv(4,
        1), beside(conv(6, 1), conv(6)), head())),
    "xception": (1, net(IMAGE, xception)),
        "mobilenet": (1, net(IMAGE, conv(8, norm=True), depthwise, conv(12, 1, "relu6", norm=True),
        depthwise, conv(12, 1, "relu6", norm=True), head())),
    "mobilenet v2": (1, net(IMAGE, conv(8, norm=True), bottleneck)),
    "shufflenet": (1, net(IMAGE, shuffle)),
        "repvgg": (1, net(IMAGE, *[lambda x: L.ReLU()(L.Add()([conv(6, act=None, norm=True)(x),
        conv(6, 1, None, norm=True)(x)]))] * 2, head())),
    "u-net, transposed": (1, net(IMAGE, unet(transposed("relu")))),
    "u-net, nearest": (1, net(IMAGE, unet(nearest))),
    "u-net, transposed without relu": (1, net(IMAGE, unet(transposed(None)))),
    "u-net, bilinear": (1, net(IMAGE, unet(bilinear))),
        "v-net": (1, net(VOLUME, conv(4, act=functools.partial(L.PReLU, shared_axes=[1, 2, 3])),
        conv(4, 2, strides=2), L.Conv3D(1, 1))),
        "3-d ct": (1, net(VOLUME, conv(6), lambda x: pool(x, 3), L.BatchNormalization(), conv(6),
        L.GlobalAveragePooling3D(), dense(8), L.Dense(1, activation="sigmoid"))),
        "segnet": (1, net(IMAGE, conv(6, norm=True), pool, conv(8, norm=True), L.UpSampling2D(2),
        conv(6, norm=True), L.Conv2D(2, 1))),
        "fcn": (1, net(IMAGE, conv(6), pool, conv(8), L.Conv2DTranspose(2, 4, strides=2,
        padding="same", activation="softmax"))),
    "deeplab": (1, net(IMAGE, deeplab)),
    "feature pyramid": (1, net(IMAGE, pyramid)),
    "yolo": (1, net(IMAGE, yolo)),
        "darknet residual": (1, net(IMAGE, conv(8, act=L.LeakyReLU, norm=True), conv(4, 1,
        L.LeakyReLU, norm=True), conv(8, act=L.LeakyReLU, norm=True), head())),
        "ssd heads": (1, net(IMAGE, conv(8), pool, lambda x: L.Concatenate(1)([L.Reshape((-1,
        4))(L.Conv2D(8, 3, padding="same")(y)) for y in (x, conv(8, strides=2)(x))]))),
        "centernet": (1, net(IMAGE, conv(8), pool, conv(8), lambda x: [L.Conv2D(2, 1,
        activation="sigmoid")(conv(6)(x)), L.Conv2D(2, 1)(conv(6)(x))])),
        "espcn": (1, net(IMAGE, conv(8, 5), conv(8), conv(4), L.Conv2D(12, 3, padding="same"),
        lambda x: ops.depth_to_space(x, 2))),
    "srcnn": (1, net(IMAGE, conv(8, 9), conv(6, 1), L.Conv2D(3, 5, padding="same"))),
        "edsr": (1, net(IMAGE, conv(6), residual(conv(6), conv(6, act=None), act=None), L.ReLU(),
        L.Conv2D(3, 3, padding="same"))),
        "dncnn": (1, net(IMAGE, lambda x: x - L.Conv2D(3, 3, padding="same")(conv(6,
        norm=True)(conv(6)(x))))),
        "autoencoder": (1, net(IMAGE, conv(6), pool, conv(6), pool, transposed("relu")(6),
        transposed("relu")(6), L.Conv2D(3, 3, activation="sigmoid", padding="same"))),
    "dense autoencoder": (1, net((32,), dense(16, 8, 16), L.Dense(32, activation="sigmoid"))),
        "gan discriminator": (1, net(IMAGE, conv(8, 4, L.LeakyReLU, strides=2), conv(8, 4,
        L.LeakyReLU, strides=2), flat(), L.Dropout(0.2), L.Dense(1, activation="sigmoid"))),
        "gan generator": (1, net((8,), L.Dense(4 * 4 * 8), L.LeakyReLU(), L.Reshape((4, 4, 8)),
        chain(L.Conv2DTranspose(8, 4, strides=2, padding="same"), L.LeakyReLU()), L.Conv2D(3, 5,
        padding="same", activation="sigmoid"))),
        "pilotnet": (1, net(IMAGE, lambda x: L.Lambda(lambda t: t / 127.5 - 1)(255 * x), conv(8, 5,
        strides=2), conv(8), flat(), dense(16, 8), L.Dense(1))),
        "dqn": (1, net(IMAGE, lambda x: ops.transpose(x, (0, 2, 1, 3)), conv(8, 4, strides=2),
        conv(8), flat(), dense(16), L.Dense(4))),
    "dueling dqn": (1, net((3, 16, 16), lambda x: 255 * x, dueling)),
        "policy and value": (1, net((8,), dense(16, 16), lambda x: [L.Dense(3,
        activation="softmax")(x), L.Dense(1)(x)])),
    "maxout": (1, net((16,), maxout)),
        "captcha without recurrence": (1, net(IMAGE, conv(8), pool, conv(8), pool, L.Reshape((4,
        -1)), dense(16), L.Dense(6, activation="softmax"))),
        "text cnn": (1, net(TOKENS, L.Embedding(20, 8), beside(*[chain(conv(6, n, padding="valid"),
        L.GlobalMaxPooling1D()) for n in (2, 3)]), L.Dense(2), dtype="int32")),
        "fasttext": (1, net(TOKENS, L.Embedding(20, 8), L.GlobalAveragePooling1D(), dense(8),
        L.Dense(2), dtype="int32")),
    "timeseries fcn": (1, net(SERIES, *[conv(8, norm=True)] * 3, head(pool=L.GlobalAveragePooling1D))),
    "temporal convolutions": (1, net(SERIES, temporal)),
        "wavenet-like, relus": (1, net(SERIES, conv(8, 2, padding="causal"), conv(8, 2,
        padding="causal", dilation_rate=2), L.Conv1D(4, 1))),
        "keyword spotting": (1, net(IMAGE, L.Resizing(8, 8), conv(8), conv(8), L.MaxPooling2D(2),
        flat(), dense(16), L.Dense(5))),
        "spectrum": (1, net((96,), lambda x: ops.stack([ops.log(ops.square(v) + 1) for v in
        ops.stft(x, 16, 8, 16)], axis=-1), conv(6), head())),
        "pointnet": (1, net((12, 3), conv(8, 1, norm=True), conv(12, 1, norm=True),
        L.GlobalMaxPooling1D(), dense(8), L.Dense(5))),
        "deep sets": (1, net((12, 3), dense(8, 8), lambda x: ops.sum(x, axis=1), L.ReLU(), dense(8),
        L.Dense(2))),
    "siamese, absolute": (1, siamese(lambda a, b: L.Dense(1, activation="sigmoid")(ops.abs(a - b)))),
        "siamese, euclidean": (1, siamese(lambda a, b: ops.sqrt(ops.sum(ops.square(a - b), axis=1,
        keepdims=True)))),
    "metric learning": (1, net(IMAGE, conv(8), pool, conv(8), head(8), L.UnitNormalization())),
        "age by expectation": (1, net(IMAGE, conv(8), head(10, "softmax"), lambda x: ops.matmul(x,
        np.arange(10.0, dtype="float32")[:, None]))),
    "super pixels of patches": (1, net(IMAGE, Patches(), dense(16), flat(), L.Dense(5))),
    "tokenizer": (1, net(IMAGE, Tokenizer(), dense(8), L.GlobalAveragePooling1D(), L.Dense(5))),
    "own blocks": (1, net(IMAGE, Block(6), POOL, Block(8), head())),
        "standardized weights": (1, net(IMAGE, Standardized(6, 3, padding="same"), Standardized(6,
        3, padding="same"), head())),
    "own scale": (1, net(IMAGE, conv(6, act=None), Scale(), L.ReLU(), conv(6), head())),
    "subclassed": (1, subclassed),
        "time distributed": (1, net((4, *IMAGE),
        L.TimeDistributed(keras.Sequential([keras.Input(IMAGE), conv_layer(4),
        L.GlobalMaxPooling2D()])), flat(), L.Dense(5))),
    "wide and deep": (1, net((16,), lambda x: L.Dense(1)(L.Concatenate()([x, dense(16, 8)(x)])))),
        "tabular, categories": (1, net((1,), L.CategoryEncoding(9, output_mode="one_hot"), dense(16,
        8), L.Dense(2), dtype="int32")),
    "squeeze and excite": (0, net(IMAGE, squeeze_excite)),
        "convnext-like": (0, net(IMAGE, conv(8, 4, None, strides=2), lambda x: x +
        L.Dense(8)(L.Dense(16, activation="gelu")(L.LayerNormalization()(L.DepthwiseConv2D(5,
        padding="same")(x)))), L.ReLU(), head())),
    "elu": (0, net(IMAGE, conv(8, act=ELU), conv(8), head())),
        "lstm on features": (0, net(IMAGE, conv(8), pool, L.Reshape((8, -1)), L.LSTM(8), dense(8),
        L.Dense(5))),
    "transformer": (0, net(TOKENS, L.Embedding(20, 8), transformer, dtype="int32")),
        "local response normalization": (0, net(IMAGE, conv(8), lambda x: x / ops.sqrt(1 +
        ops.mean(ops.square(x), axis=-1, keepdims=True)), conv(8), head())),
}  # fmt: skip
