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


def batches(x, y, size, changes):
    """Return shuffled training batches.

    Args:
        x, y: Images and labels.
        size: Images per batch.
        changes: Any of `"move"`: images are shifted by up to 4 pixels and mirrored; `"colour"`: they
            are brighter or darker, of more or less contrast and saturation; `"hole"`: 8 × 8 pixels are grey;
            `"mix"`: each image and its label are averaged with another's, by a share drawn for the batch
            (Zhang et al. 2018, arXiv:1710.09412, α = 0.2).
    """
    draw = tf.random.uniform

    def change(image, label):
        if "move" in changes:
            padded = tf.pad(image, ((4, 4), (4, 4), (0, 0)))
            image = tf.image.random_flip_left_right(tf.image.random_crop(padded, image.shape))
        if "colour" in changes:
            grey = tf.reduce_mean(image, axis=-1, keepdims=True)
            image = grey + draw((), 0.6, 1.4) * (image - grey)
            mean = tf.reduce_mean(image)
            image = tf.clip_by_value(mean + draw((), 0.7, 1.3) * (image - mean) + draw((), -0.15, 0.15), 0, 1)
        if "hole" in changes:
            rows, columns = (tf.abs(tf.range(n) - draw((), 0, n, tf.int32)) < 4 for n in image.shape[:2])
            image = tf.where((rows[:, None] & columns)[..., None], 0.5, image)
        return image, label

    def mix(images, labels):
        gammas = tf.random.gamma((2,), 0.2)
        share = gammas[0] / tf.reduce_sum(gammas)
        return tuple(share * a + (1 - share) * tf.roll(a, 1, axis=0) for a in (images, labels))

    dataset = tf.data.Dataset.from_tensor_slices((x, tf.one_hot(y, 10)))
    dataset = dataset.shuffle(len(x), seed=1)
    if changes:
        dataset = dataset.map(change, num_parallel_calls=2)
    dataset = dataset.batch(size, drop_remainder=True)
    if "mix" in changes:
        dataset = dataset.map(mix, num_parallel_calls=2)
    return dataset.prefetch(2)


def optimizer_of(kind, highest, epochs, steps):
    """Return the optimizer; its rate rises to the highest for an epoch and then falls as a cosine."""
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * steps, 0.01, warmup_target=highest, warmup_steps=steps
    )
    if kind == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return keras.optimizers.AdamW(rate, weight_decay=0.02)


def train(name):
    """Train a network stage by stage: each is `(optimizer, highest rate, epochs, changes of images)`."""
    make, dataset, stages = networks.NETWORKS[name]
    keras.utils.set_random_seed(1)
    x, y = networks.data(dataset, "train")
    model = make()
    for number, (kind, highest, epochs, changes) in enumerate(stages, start=1):
        kept = BACKUPS / f"{name} stage {number}.weights.h5"
        if kept.exists():
            model.load_weights(kept)
            continue
        size = 128 if kind == "sgd" else 64
        optimizer = optimizer_of(kind, highest, epochs, len(x) // size)
        model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
        backup = keras.callbacks.BackupAndRestore(str(BACKUPS / f"{name} {number}"))
        model.fit(batches(x, y, size, changes), epochs=epochs, callbacks=[backup], verbose=2)
        model.save_weights(kept)
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
