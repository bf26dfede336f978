"""How Keras runs a spiking model: on checked data, and one thread at a time."""

import inspect

import keras

from keras_snn._arrays import as_arrays
from keras_snn._data import untuned
from keras_snn._devices import is_alone, mended
from keras_snn._gradients import without_gradients
from keras_snn.simulation.compiled_functions import keeping_compiled, making
from keras_snn.simulation.engine import choose_engine, predicted, running_events
from keras_snn.simulation.internals import internals
from keras_snn.simulation.reading import (
    as_batch,
    as_targets,
    as_tensors,
    checked_batch_size,
    fitting,
    running,
)

__all__ = ["CheckedModel"]


_NO_TENSORS = (
    "Model '{}' has no attribute '{}': its layers run step by step. Use snn.simulate(x, record=…) for what "
    "they give, or snn.as_functional(), a Functional model of them."
)


class CheckedModel(keras.Model):
    """Base of `SpikingModel`: what of `keras.Model` reads data or compiles."""

    def __call__(self, inputs, *args, **kwargs):
        """As `keras.Model.__call__`, on whatever `predict` reads as arrays."""
        return super().__call__(as_tensors(inputs), *args, **kwargs)

    @property
    def distribute_strategy(self):
        """The strategy of `tf.distribute` that the model belongs to; on TensorFlow only."""
        return mended(super().distribute_strategy)

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`."""
        with keeping_compiled(self):
            super().compile(*args, **kwargs)
        given = inspect.signature(super().compile).bind(*args, **kwargs).arguments
        internals(self).losses = given.get("loss")
        internals(self).metrics = given.get("metrics"), given.get("weighted_metrics")

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, *, check_finite=False):
        """As `keras.Model.predict`; raises a `ValueError` if `x` does not fit.

        With `check_finite=True` also if a value of `x` is NaN or infinite: of arrays before anything runs,
        of data that comes in batches at the first such batch. Neurons that get NaN are silent, so that
        the outputs would not show it. Of several threads that predict at once, one runs at a time.
        """
        batch_size = checked_batch_size(batch_size)
        with running(self, x, batch_size, steps, check_finite=check_finite) as (x, steps):
            if is_alone(self):
                x, *_ = untuned(x, batch_size=batch_size, steps=steps)
            return super().predict(x, batch_size, verbose, steps, callbacks)

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        *args,
        check_finite=False,
        **kwargs,
    ):
        """As `keras.Model.evaluate`; raises a `ValueError` if `x` does not fit.

        `check_finite` is as of `predict`, and so are threads.
        """
        batch_size = checked_batch_size(batch_size)
        y, sample_weight = as_targets(y, sample_weight)
        with running(self, x, batch_size, steps, check_finite=check_finite) as (x, steps):
            # Within `fit` Keras has its own data.
            if is_alone(self) and not kwargs.get("_use_cached_eval_dataset"):
                x, y, sample_weight = untuned(x, y, sample_weight, batch_size=batch_size, steps=steps)
            return super().evaluate(x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs)

    @property
    def run_eagerly(self):
        """As `keras.Model.run_eagerly`; where events are run, which happens outside of the backend, True."""
        return internals(self).makes_eagerly or super().run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value):
        keras.Model.run_eagerly.__set__(self, value)

    def make_predict_function(self, force=False):
        """As `keras.Model.make_predict_function`."""
        with making(self):
            return super().make_predict_function(force)

    def make_test_function(self, force=False):
        """As `keras.Model.make_test_function`."""
        with making(self):
            return super().make_test_function(force)

    def predict_step(self, *args, **kwargs):
        """As `keras.Model.predict_step`."""
        with without_gradients(), running_events(self):
            return super().predict_step(*args, **kwargs)

    def train_step(self, *args, **kwargs):
        """As `keras.Model.train_step`; needs an optimizer, as `fit`."""
        self._check_optimizer("train_step")
        return super().train_step(*args, **kwargs)

    def test_step(self, *args, **kwargs):
        """As `keras.Model.test_step`."""
        with without_gradients(), running_events(self):
            return super().test_step(*args, **kwargs)

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """As `keras.Model.fit`; needs an optimizer, which a converted model is compiled without."""
        self._check_optimizer("fit")
        given = inspect.signature(super().fit).bind(x, y, batch_size, *args, **kwargs)
        given.apply_defaults()
        arguments = given.arguments
        arguments["batch_size"] = batch_size = checked_batch_size(batch_size)
        y, weights = as_targets(arguments["y"], arguments["sample_weight"])
        x, validation = as_arrays(x), as_arrays(arguments["validation_data"])
        arguments |= {"x": x, "y": y, "sample_weight": weights, "validation_data": validation}
        with fitting(self, x, batch_size, arguments["validation_split"], validation):
            return super().fit(**arguments)

    def _check_optimizer(self, method):
        if self.compiled and self.optimizer is None:
            raise ValueError(
                f"Model '{self.name}' must have an optimizer for {method}. Received: a model compiled by "
                "keras_snn.convert, without one. Call snn.compile(optimizer=…, loss=…)."
            )

    def train_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        """As `keras.Model.train_on_batch`; needs an optimizer, as `fit`."""
        self._check_optimizer("train_on_batch")
        y, sample_weight = as_targets(y, sample_weight)
        with internals(self).lock:
            return super().train_on_batch(as_batch(self, x), y, sample_weight, *args, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        """As `keras.Model.test_on_batch`; raises a `ValueError` if `x` does not fit."""
        y, sample_weight = as_targets(y, sample_weight)
        with internals(self).lock:
            choose_engine(self)
            return super().test_on_batch(as_batch(self, x), y, sample_weight, *args, **kwargs)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`; raises a `ValueError` if `x` does not fit."""
        with internals(self).lock:
            choose_engine(self)
            batch = as_batch(self, x)
            return (
                super().predict_on_batch(batch) if internals(self).events is None else predicted(self, batch)
            )

    def get_state_tree(self, *args, **kwargs):
        """As `keras.Model.get_state_tree`; needs an optimizer, whose state is part of it."""
        self._check_optimizer("get_state_tree")
        return super().get_state_tree(*args, **kwargs)

    @property
    def inputs(self):
        """Not there: the layers run step by step, so that no tensor of them has a place in a graph."""
        raise AttributeError(_NO_TENSORS.format(self.name, "inputs"))

    @property
    def outputs(self):
        """Not there, as `inputs`."""
        raise AttributeError(_NO_TENSORS.format(self.name, "outputs"))

    @property
    def input(self):
        """Tensors that another model calls this one on; else not there, as `inputs`."""
        return self._tensors_of_call("input")

    @property
    def output(self):
        """What this model gives for `input` in another model; else not there, as `inputs`."""
        return self._tensors_of_call("output")

    def _tensors_of_call(self, name):
        try:
            return getattr(super(), name)
        except AttributeError:
            raise AttributeError(_NO_TENSORS.format(self.name, name)) from None
