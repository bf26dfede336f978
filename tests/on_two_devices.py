"""Run docs/scaling.md on two devices, then awkward batches; one device must give the same numbers.

    python on_two_devices.py mirrored|workers|jax

In a folder with `cnn.keras`, whose sums are exact in binary, and `data.npz`.
With `workers` it is one of two processes.
"""

import contextlib
import re
import sys
import warnings

import keras
import numpy as np
import pytest
import running
import tensorflow as tf
from documents import run_blocks

import keras_snn
from keras_snn import _devices
from keras_snn.conversion import options
from keras_snn.engines import chunks
from keras_snn.simulation.compiled_functions import set_watch
from keras_snn.simulation.internals import internals

BLOCKS = ("program", "mirrored", "workers", "jax")


def run_block(name, names):
    place = BLOCKS.index(name)
    assert run_blocks("docs/scaling.md", names, slice(place, place + 1)) == 1


def assert_close(first, second, tolerance=1e-6):
    """Nested values are equal, up to how a softmax, a mean or a gradient rounds."""
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), first, second
    )


def assert_program_returns_the_same(returned, expected):
    snn, outputs, scores, run = returned
    expected_snn, expected_outputs, expected_scores, expected_run = expected
    assert snn.conversion_report.layers == expected_snn.conversion_report.layers
    assert_close([outputs, scores], [expected_outputs, expected_scores])
    assert_close(run.outputs_over_time, expected_run.outputs_over_time)
    np.testing.assert_array_equal(run.accuracy_over_time, expected_run.accuracy_over_time)
    keras.tree.map_structure(np.testing.assert_array_equal, run.records, expected_run.records)
    assert_close(snn.get_weights(), expected_snn.get_weights())
    untrained = keras.models.load_model("cnn.keras").get_weights()[-1]
    assert np.abs(snn.get_weights()[-1] - untrained).max() > 0.01


def on_uneven_batches(snn, data):
    """Yield what comes of batches that two devices cannot share equally: all of them, and only the last."""
    for samples, batch_size in ((6, 3), (17, 8)):
        x, y = data["x_test"][:samples], data["y_test"][:samples]
        yield snn.predict(x, batch_size=batch_size, verbose=0)
        yield snn.evaluate(x, y, batch_size=batch_size, verbose=0)
    run = snn.simulate(x[:7], timesteps=4, batch_size=3, record=["spike_trains"])
    yield [run.outputs_over_time, run.records]
    source = keras.models.load_model("cnn.keras")
    report = keras_snn.convert(source, x, batch_size=5, verbose=0).conversion_report
    yield [layer.scale or 0.0 for layer in report.layers]


def on_datasets(snn, data):
    """Yield what comes of datasets; on TensorFlow the last batch of that to predict is of one sample."""
    arrays = data["x_test"], data["y_test"]
    uneven, even = (
        tf.data.Dataset.from_tensor_slices(tuple(array[:samples] for array in arrays)).batch(8)
        for samples in (17, 16)
    )
    uneven = even if keras.backend.backend() == "jax" else uneven
    yield snn.predict(uneven, verbose=0)
    yield snn.fit(even, validation_data=uneven, verbose=0).history
    yield snn.get_weights()


def on_watched(snn, data):
    """Yield how often neurons fire, as callbacks see it."""
    set_watch(snn, True)
    snn.predict(data["x_test"][:17], batch_size=8, verbose=0)
    firing = internals(snn).counter.read(snn.timesteps)
    yield {name: [layer.neurons, layer.spikes] for name, layer in firing.items()}
    internals(snn).counter.reset()
    yield internals(snn).counter.read(snn.timesteps)


def on_uneven_batches_to_fit(snn, data):
    """Yield what comes of training on batches that JAX cannot share equally."""
    x, y = data["x_test"][:17], data["y_test"][:17]
    yield snn.fit(x, y, batch_size=8, shuffle=False, verbose=0, validation_split=0.4).history
    yield snn.get_weights()


def plain_model(strategy=None):
    """Return a compiled Keras model, of a class that hands Keras a strategy if one is given."""

    class Handing(keras.Sequential):
        distribute_strategy = strategy

    model = (keras.Sequential if strategy is None else Handing)([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    return model


def check_that_workers_need_the_workarounds(strategy):
    """Keras fails on several workers if one of the two things that `_devices.mended` does is left out.

    If this fails Keras is mended: see `test_workarounds.py`.
    """
    data, mended = (np.zeros((8, 2)), np.zeros((8, 3))), _devices.mended(strategy)

    def partly(*, for_batches):
        """Return a strategy that is mended for batches, or for all but them."""

        def reduce(reduce_op, value, axis=None):
            chosen = mended if keras.tree.is_nested(value) == for_batches else strategy
            return chosen.reduce(reduce_op, value, axis)

        # Strategies cannot be copied otherwise.
        view = type(mended).__new__(type(mended))
        vars(view).update(vars(mended), reduce=reduce)
        return view

    with strategy.scope():
        assert plain_model(mended).evaluate(*data, verbose=0) == 0
        for model in (plain_model(), plain_model(partly(for_batches=False))):
            with pytest.raises(ValueError, match="unsupported type .*PerReplica"):
                model.evaluate(*data, verbose=0)
        with pytest.raises(ValueError, match="reduction dimension"):
            plain_model(partly(for_batches=True)).evaluate(*data, verbose=0)


def check_that_jax_needs_the_workaround():
    """Keras fails on batches that devices cannot share equally; `_devices.divisible` gives all to each."""
    with pytest.raises(ValueError, match="partitioned 2 times"):
        plain_model().predict(np.zeros((3, 2)), verbose=0)


def main(engine):
    # Long chunks take long to compile, and results do not depend on them.
    chunks._LONGEST_CHUNK = chunks._HEAVY_CHUNK = 1 if engine == "workers" else 2
    if engine != "mirrored":
        # What a default conversion runs besides is shared among two devices in the same way.
        options._PRESETS["default"] = options._PRESETS["rueckauer2017"]
    with np.load("data.npz") as arrays:
        data = dict(arrays)
    names = dict(data)
    run_block("program", names)
    run_block(engine, names)
    snn, distribution = names["snn"], keras.distribution.distribution()
    cases = [on_uneven_batches, on_datasets, on_watched]
    if engine == "jax":
        scope = distribution.scope
        check_that_jax_needs_the_workaround()
        cases.append(on_uneven_batches_to_fit)
        keras.distribution.set_distribution(None)
    else:
        scope = names["strategy"].scope
        if engine == "workers":
            check_that_workers_need_the_workarounds(names["strategy"])
        assert snn.distribute_strategy.num_replicas_in_sync == 2
    # What one device gives, as compiled, in less time.
    one_device = running.eagerly if engine != "jax" else contextlib.nullcontext
    with one_device():
        expected = names["program"]()
    assert_program_returns_the_same((snn, *names["results"]), expected)
    for case in cases:
        with scope(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = list(case(snn, data))
        with one_device():
            assert_close(found, list(case(expected[0], data)), tolerance=1e-5)
        if engine == "jax" and case not in (on_datasets, on_watched):
            advice = r"multiples of the 2 devices .* Received: samples=\d+, batch_size=\d\. Every device"
            assert any(re.search(advice, str(warning.message)) for warning in caught)


if __name__ == "__main__":
    main(sys.argv[1])
