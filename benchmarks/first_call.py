"""What the first call of `predict` costs by the steps per pass of the loop, and what later calls cost.

    python benchmarks/first_call.py [networks] [--timesteps 64] [--repeats 5] [--unroll 1 auto]
        [--batch-sizes 1 32]

CPU seconds of a first call, which traces and compiles, of a model made anew in the same process, and the
medians of the CPU seconds of later ones, in turns. The ratios are those to `unroll=1`.
"""

import argparse

import keras
import numpy as np
from keras import layers
from machine import describe
from speed import as_trained, cifar10_cnn, lenet
from timing import seconds, take_turns

import keras_snn


def _unet(attention):
    """Return a U-Net for images of 32×32, with gates of attention on its skips or without."""

    def twice(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    def gated(skip, x, filters):
        x = layers.ReLU()(layers.Add()([layers.Conv2D(filters, 1)(skip), layers.Conv2D(filters, 1)(x)]))
        return layers.Multiply()([skip, layers.Conv2D(1, 1, activation="sigmoid")(x)])

    x = image = keras.Input((32, 32, 3))
    skips = []
    for filters in (8, 16, 32, 64):
        x = twice(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = twice(x, 128)
    for skip, filters in zip(reversed(skips), (64, 32, 16, 8), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        skip = gated(skip, x, filters) if attention else skip
        x = twice(layers.Concatenate()([skip, x]), filters)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


NETWORKS = {
    "attention_unet": lambda: _unet(attention=True),
    "unet": lambda: _unet(attention=False),
    "lenet": lenet,
    "cifar10_cnn": cifar10_cnn,
}


def converted(name, timesteps):
    rng = np.random.default_rng(0)
    model = as_trained(NETWORKS[name](), rng)
    x = rng.random((32, *model.input_shape[1:]), dtype="float32")
    options = {"timesteps": timesteps, "nonspiking": "allow", "verbose": 0}
    return keras_snn.convert(model, x, **options), x


def measure(name, unrolls, batch_size, options):
    """Yield `(unroll, steps per pass, first call, later calls)` of each."""
    snn, images = converted(name, options.timesteps)
    images = np.resize(images, (batch_size, *images.shape[1:]))
    ways, first, chunks = {}, {}, {}
    for unroll in unrolls:
        copy = keras_snn.SpikingModel.from_config(snn.get_config())
        copy.set_weights(snn.get_weights())
        copy.unroll = unroll
        ways[unroll] = lambda copy=copy: copy.predict(images, batch_size=batch_size, verbose=0)
        first[unroll], _ = seconds(ways[unroll])
        chunks[unroll] = copy.chunk_for(batch_size)
    later = take_turns(ways, options.repeats)
    for unroll in unrolls:
        yield unroll, chunks[unroll], first[unroll], float(np.median(later[unroll][:, 0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--timesteps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--unroll", nargs="+", default=["1", "auto"])
    options = parser.parse_args()
    unrolls = [value if value == "auto" else int(value) for value in options.unroll]
    print(f"{describe()}; T = {options.timesteps}, medians of {options.repeats}\n")
    print("| network | batch | unroll | steps per pass | first call, CPU s | ratio | later, CPU s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    # What the first model of a process pays for all.
    keras.Sequential([keras.Input((1,)), layers.Dense(1)]).predict(np.zeros((1, 1)), verbose=0)
    for name in options.networks:
        for batch_size in options.batch_sizes:
            rows = list(measure(name, unrolls, batch_size, options))
            of_first, of_later = rows[0][2:]
            for unroll, chunk, first, later in rows:
                ratios = f"{first:.2f} | {first / of_first:.2f} | {later:.3f} | {later / of_later:.2f}"
                print(f"| {name} | {batch_size} | {unroll} | {chunk} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
