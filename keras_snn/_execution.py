"""Running one batch on whatever devices Keras runs on."""

import keras

__all__ = ["predict_batch"]


def predict_batch(model, x):
    """Return what a model gives for one batch, as NumPy arrays `(batch, …)`.

    Args:
        model: A `keras.Model`, all of whose outputs have a batch axis.
        x: Nested arrays `(batch, …)`.
    """
    # There under a strategy of tf.distribute, on TensorFlow.
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return model.predict_on_batch(x)
    # predict_on_batch gives every device the whole batch, predict a part of it.
    return model.predict(x, batch_size=len(keras.tree.flatten(x)[0]), verbose=0)
