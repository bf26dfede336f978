"""Trains the networks of the paper and keeps their weights.

    TFDS_DATA_DIR=… python benchmarks/paper/train.py [names]

An interrupted run goes on at its last epoch. The test set is looked at once, at the end.
"""

import argparse
import pathlib

import keras
import networks
import tensorflow as tf

BACKUPS = pathlib.Path(__file__).parent / "backups"


def batches(x, y, size, moved):
    """Return shuffled training batches; `moved` images are shifted by up to 2 pixels and mirrored."""

    def move(image, label):
        padded = tf.pad(image, ((2, 2), (2, 2), (0, 0)))
        return tf.image.random_flip_left_right(tf.image.random_crop(padded, image.shape)), label

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=1)
    if moved:
        dataset = dataset.map(move, num_parallel_calls=2)
    return dataset.batch(size, drop_remainder=True).prefetch(2)


def train(name):
    make, dataset, epochs, weight_decay, moved = networks.NETWORKS[name]
    keras.utils.set_random_seed(1)
    x, y = networks.data(dataset, "train")
    model = make()
    size = 64
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * (len(x) // size), 0.01, warmup_target=0.003, warmup_steps=len(x) // size
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    backup = keras.callbacks.BackupAndRestore(str(BACKUPS / name))
    model.fit(batches(x, y, size, moved), epochs=epochs, callbacks=[backup], verbose=2)
    networks.store(name, model)
    x_test, y_test = networks.data(dataset, "test")
    accuracy = networks.trained(name).evaluate(x_test, y_test, batch_size=200, verbose=0)[1]
    print(f"{name}: error {1 - accuracy:.2%} on {len(x_test)} test images")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help=", ".join(networks.NETWORKS))
    options = parser.parse_args()
    for name in options.names or networks.NETWORKS:
        train(name)


if __name__ == "__main__":
    main()
