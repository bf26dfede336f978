"""The converted network as a Keras model."""

import contextlib
import inspect
import math
import numbers
import os
import pathlib
import threading
import types
from collections.abc import Iterable
from typing import Literal

import keras
from keras import ops

from keras_snn._data import KINDS, as_arrays, check_numeric, finite, fit_shape, in_order, untuned
from keras_snn._devices import divisible, is_alone, mended, replicas
from keras_snn._files import check_file, output_path, replacing
from keras_snn._gradients import without_gradients
from keras_snn._types import Data
from keras_snn._validation import check_integer, check_timesteps
from keras_snn.engines.chunks import longest_chunk, plan_chunks
from keras_snn.engines.compiled import Requests, run_chunks
from keras_snn.engines.network import StepNetwork
from keras_snn.layers.base import neuron_of
from keras_snn.layers.owning import refuse_quantizing
from keras_snn.simulation import hdf5
from keras_snn.simulation.result import Record, SimulationResult
from keras_snn.simulation.spike_counter import FiringCounter
from keras_snn.simulation.units import check_units, with_scales, write_units

__all__ = ["SpikingModel"]

# From the coarsest on.
_FLOATS = ("bfloat16", "float16", "float32", "float64")

_NOT_AS_HDF5 = (
    "`filepath` must end in .keras. Received: {}, a format that would not load again. Change the name."
)
_NO_TENSORS = (
    "Model '{}' has no attribute '{}': its layers run step by step. Use snn.simulate(x, record=…) for what "
    "they give, or snn.as_functional(), a Functional model of them."
)

_COMPILED = ("predict_function", "test_function", "train_function")


@keras.saving.register_keras_serializable(package="keras_snn")
class SpikingModel(keras.Model):
    """A spiking neural network that takes and returns what its source network does.

    `convert` makes it. Every call runs `timesteps` steps from the initial state: the input
    is a constant current, and the output the read-out after the last step.

    Args:
        layers: The layers.
        calls: Their calls in order, each a dict of its `name`, the name of the `layer` and those
            of its `inputs`. A shared layer has several, and its neurons a state for each.
        inputs, outputs: Names of the inputs and of the calls whose values are the outputs,
            nested as the model takes and returns them.
        shapes: Dict of the shape of every input, without batch.
        timesteps: Length of the simulation; may be set later.
        events: Whether inputs are given for every step, `(batch, time, …)`, for at least `timesteps` of
            them, instead of as constants.
        unroll: Steps that one pass through the loop over time handles at once, or `"auto"`: as
            `chunk_for` says. May be set later. The results do not depend on it.
        conversion_report: The `ConversionReport`, or `None`.
        output_names: Names that losses and metrics go by, as those of the source model.
        dtypes: Dict of the dtype of every input; that which the network computes in if `None`.

    Raises:
        TypeError, ValueError: If `timesteps` or `unroll` is not an integer of at least 1.
    """

    def __init__(
        self,
        layers,
        calls,
        *,
        inputs,
        outputs,
        shapes,
        timesteps=64,
        events=False,
        unroll="auto",
        conversion_report=None,
        output_names=None,
        dtypes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._ordered_layers = list(layers)
        for i, layer in enumerate(self._ordered_layers):
            refuse_quantizing(layer)
            # TensorFlow's checkpoints hold what is an attribute, and look into no list of Keras.
            setattr(self, f"_layer_{i}", layer)
        self._calls = [{**call, "inputs": list(call["inputs"])} for call in calls]
        self.input_shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._input_dtypes = dict(dtypes or {})
        self.network = StepNetwork(layers, self._calls, inputs, outputs, events=events)
        # Samples per batch, where `predict` or `evaluate` was told.
        self._expected_batch = None
        # Whether the data of the run in progress is arrays.
        self._reads_arrays = False
        # How many runs are in progress: those in callbacks of others count.
        self._reads = 0
        self._watch = False
        # Keras keeps in a model what it compiles for a run and, on JAX, the state of the run.
        self._running = threading.RLock()
        # Both in objects that Keras does not search for layers and variables.
        self.counter = FiringCounter(self.network)
        self._compiled_by = types.SimpleNamespace(watch={})
        # The losses and metrics that `compile` was given.
        self.compiled_with = types.SimpleNamespace(losses=None, metrics=None)
        self._timesteps = 1
        self.timesteps = timesteps
        self.unroll = unroll
        self.conversion_report = conversion_report
        # In an object of its own, which Keras does not search for layers.
        self.runners = types.SimpleNamespace(by_record={}, lock=self._running)
        if output_names is not None:
            self.output_names = list(output_names)
        self.build(keras.tree.map_structure(lambda name: (None, *self.given_shapes[name]), inputs))

    def build(self, input_shape):
        """Do nothing: the layers are built. Keras keeps the shape, for a SavedModel."""
        self.built = True

    @property
    def calls(self):
        """The calls of the layers in order: dicts of `name`, `layer` and `inputs`."""
        return [dict(call) for call in self._calls]

    @property
    def timesteps(self) -> int:
        """Number of time steps of a call; of time codes, the longest window of a layer."""
        return max(self._windows, default=self._timesteps)

    @property
    def passes(self):
        """Number of steps of the loop over time: 1 of time codes, whose layers run one after the other."""
        return self._timesteps

    @property
    def is_time_coded(self):
        """Whether neurons send numbers in windows of time, so that layers run one after the other."""
        return bool(self._windows)

    @property
    def _windows(self):
        neurons = [neuron_of(layer) for layer in self._ordered_layers]
        return [neuron.window for neuron in neurons if neuron is not None and neuron.is_time_code]

    @timesteps.setter
    def timesteps(self, value: int) -> None:
        value = check_timesteps(value)
        if self.is_time_coded and value not in (1, self.timesteps):
            raise ValueError(
                "`timesteps` of a time code is its window, which follows from its levels and cannot be set. "
                f"Received: timesteps={value}. Convert again, with timesteps={value}."
            )
        with self._running:
            self._timesteps = 1 if self.is_time_coded else value
            self._forget_compiled()

    @property
    def unroll(self) -> int | Literal["auto"]:
        """Time steps that one pass through the loop handles, or `"auto"`."""
        return self._unroll

    @unroll.setter
    def unroll(self, value: int | Literal["auto"]) -> None:
        hint = "Use a number of time steps or 'auto'."
        value = value if value == "auto" else check_integer("unroll", value, minimum=1, hint=hint)
        with self._running:
            self._unroll = value
            self._forget_compiled()

    @property
    def watch(self):
        """Whether calls add to `counter` how often neurons fire.

        A callback sets it in `set_model`, before Keras compiles; it is back as it was behind the run.
        """
        return self._watch

    @watch.setter
    def watch(self, value):
        with self._running:
            value, compiled = bool(value), self._compiled_by.watch
            compiled[self._watch] = [getattr(self, name) for name in _COMPILED]
            self._watch = value
            self._take_functions(compiled.get(value, [None] * 3))

    def _forget_compiled(self, names=_COMPILED):
        """Let Keras compile anew: for a run in progress, whose callback changes the model, at once."""
        self._compiled_by.watch.clear()
        self._take_functions([None if name in names else getattr(self, name) for name in _COMPILED])

    def _take_functions(self, functions):
        for name, function in zip(_COMPILED, functions, strict=True):
            needed = self._reads and getattr(self, name, None) is not None
            setattr(self, name, function)
            if needed and function is None:
                getattr(self, f"make_{name}")()

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`."""
        with self._running:
            # Keras forgets these too.
            made = [getattr(self, name, None) for name in _COMPILED]
            super().compile(*args, **kwargs)
            for name, function in zip(_COMPILED, made, strict=True):
                setattr(self, name, function)
            self._forget_compiled()
        given = inspect.signature(super().compile).bind(*args, **kwargs).arguments
        self.compiled_with.losses = given.get("loss")
        self.compiled_with.metrics = given.get("metrics"), given.get("weighted_metrics")

    @property
    def variables(self):
        # The counter is state, which JAX has to know, but no weight: files do not have it.
        return [*super().variables, self.counter.totals]

    def chunk_for(self, batch_size):
        """Return the time steps per pass through the loop over time.

        It is `unroll`. If that is `"auto"`, it is the largest number, up to 32, at which the largest
        layer has at most half a million values in a chunk: the largest that divides `timesteps`, if that is
        over half of it, else a power of two. It is 1 if `batch_size` is `None`, not known.
        On TensorFlow it is less for networks of many layers, 4 at least, which would compile for long.
        On JAX it is at most 8; on PyTorch chunks may have 4 million values, and on graphics cards 67 million
        (JAX and PyTorch).

        On TensorFlow the last layers take 4 steps at once where this says fewer, if they have many weights.
        """
        if self._unroll != "auto":
            return min(self._unroll, self._timesteps)
        return longest_chunk(self.network, self._timesteps, batch_size)

    def plan_for(self, batch_size, timesteps=None):
        """Return the `ChunkPlan` of a number of steps, `timesteps` of the model if `None`."""
        timesteps = self._timesteps if timesteps is None else timesteps
        chunk, may_split = self.chunk_for(batch_size), self._unroll == "auto"
        return plan_chunks(self.network, timesteps, batch_size, chunk, may_split=may_split)

    def _expect(self, x, batch_size):
        """Prepare for batches of arrays."""
        samples = _samples(x)
        expected = None if samples is None else min(batch_size or 32, samples)
        if self.plan_for(expected) != self.plan_for(self._expected_batch):
            # Not that of fit, which may be in the middle of an epoch's validation.
            self._forget_compiled(_COMPILED[:2])
        self._expected_batch = expected

    def call(self, inputs, training=None):
        inputs = self.cast(self.shaped(inputs, self.passes))
        if replicas(self) == 1:
            outputs = self._run_steps(inputs)
        else:
            # Of no samples a convolution of TensorFlow 2.21 has the shape of its input.
            outputs = ops.cond(
                ops.shape(inputs[0])[0] > 0, lambda: self._run_steps(inputs), lambda: self._zero_outputs(0)
            )
        return keras.tree.map_structure(outputs.__getitem__, self.network.outputs)

    def _zero_outputs(self, samples):
        """Return outputs as of `_run_steps`, all 0."""
        shapes = self._output_shapes()
        return {name: ops.zeros((samples, *shape), self.compute_dtype) for name, shape in shapes.items()}

    def _run_steps(self, inputs):
        """Return the outputs by name of their call, `(batch, …)`, of a list of inputs."""
        network, counter = self.network, self.counter
        samples = inputs[0].shape[0]
        # Not known, or a symbol, where a model is traced for batches of any size.
        plan = self.plan_for(samples if isinstance(samples, int) else self._expected_batch)
        drive = network.drive(inputs)
        names = self.output_calls
        # Those that the state in the end does not tell.
        last = tuple(name for name in names if not network.stateful[name].tells_output)
        requests = Requests(last=last, fired=counter.looped if self.watch else ())
        run = run_chunks(network, drive, network.start(inputs), plan, requests)
        if self.watch:
            counter.finish(run["fired"], drive, run["states"], plan.timesteps)
        told = {
            name: network.stateful[name].read(run["states"][name])
            for name in names
            if name not in requests.last
        }
        return {name: ops.cast(x, self.compute_dtype) for name, x in (run["last"] | told).items()}

    @property
    def input_dtypes(self):
        """Dtype of every input by name: that of the source network. Layers that compute cast it."""
        return {name: self._input_dtypes.get(name, self.compute_dtype) for name in self.input_shapes}

    @property
    def input_dtype(self):
        # To which Keras casts floats before the call.
        floats = [dtype for dtype in self._input_dtypes.values() if "float" in dtype]
        return max([self.compute_dtype, *floats], key=_FLOATS.index)

    def cast(self, inputs):
        """Return a list of the inputs in their dtypes; events that are fractions stay fractions."""
        names = keras.tree.flatten(self.network.inputs)
        dtypes = [self.input_dtypes[name] for name in names]
        return [
            x
            if self.network.events and "float" not in dtype and keras.backend.is_float_dtype(x.dtype)
            else ops.cast(x, dtype)
            for x, dtype in zip(map(ops.convert_to_tensor, keras.tree.flatten(inputs)), dtypes, strict=True)
        ]

    def shaped(self, inputs, timesteps):
        """Return inputs, arrays or tensors, in the shape that the network wants for so many steps.

        Raises:
            ValueError: If they do not fit.
        """
        structure = self.network.inputs
        names = keras.tree.flatten(structure)
        values = zip(names, in_order(structure, inputs, "x"), strict=True)
        shaped = [fit_shape(name, x, self.given_shapes[name], "x") for name, x in values]
        if self.network.events:
            shaped = [_first_steps(name, x, timesteps) for name, x in zip(names, shaped, strict=True)]
        return keras.tree.pack_sequence_as(structure, shaped)

    @property
    def given_shapes(self):
        """Shape of every input as it is given, without batch: with a time axis of any length for events."""
        time = (None,) if self.network.events else ()
        return {name: (*time, *shape) for name, shape in self.input_shapes.items()}

    @contextlib.contextmanager
    def _reading(self, x):
        """In this context, which one thread enters at a time, run on `x`.

        `watch`, where a callback sets it, lasts until its end.

        Raises:
            ValueError: If `x` is no data.
        """
        are_arrays = _are_arrays(x)
        with self._running:
            before = self.watch, self._reads_arrays
            self._reads_arrays, self._reads = are_arrays, self._reads + 1
            try:
                yield
            finally:
                self._reads -= 1
                self.watch, self._reads_arrays = before

    @contextlib.contextmanager
    def _run(self, x, batch_size, steps, check_finite):
        """In this context, which one thread enters at a time, run on what it gives: `(x, steps)`."""
        x = as_arrays(x)
        with self._running, self._reading(x):
            # Before Keras compiles for it: TensorFlow forgets the rank of inputs of two ranks. What comes in
            # batches is checked batch by batch.
            x = self.shaped(x, self.passes) if self._reads_arrays else x
            as_given = contextlib.nullcontext((x, steps))
            reading = finite(x, self.network.inputs, "x", steps) if check_finite else as_given
            with reading as (x, steps):
                self._expect(x, batch_size)
                with divisible(_samples(x), batch_size):
                    yield x, steps

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, *, check_finite=False):
        """As `keras.Model.predict`; raises a `ValueError` if `x` does not fit.

        With `check_finite=True` also if a value of `x` is NaN or infinite: of arrays before anything runs,
        of data that comes in batches at the first such batch. Neurons that get NaN are silent, so that
        the outputs would not tell. Of several threads that predict at once, one runs at a time.
        """
        batch_size = _checked_batch_size(batch_size)
        with self._run(x, batch_size, steps, check_finite) as (x, steps):
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
        batch_size = _checked_batch_size(batch_size)
        y, sample_weight = as_arrays((y, sample_weight))
        with self._run(x, batch_size, steps, check_finite) as (x, steps):
            # Within `fit` Keras has its own data.
            if is_alone(self) and not kwargs.get("_use_cached_eval_dataset"):
                x, y, sample_weight = untuned(x, y, sample_weight, batch_size=batch_size, steps=steps)
            return super().evaluate(x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs)

    def predict_step(self, *args, **kwargs):
        """As `keras.Model.predict_step`."""
        with without_gradients():
            return super().predict_step(*args, **kwargs)

    def test_step(self, *args, **kwargs):
        """As `keras.Model.test_step`."""
        with without_gradients():
            return super().test_step(*args, **kwargs)

    @property
    def distribute_strategy(self):
        """The strategy of `tf.distribute` that the model belongs to; on TensorFlow only."""
        return mended(super().distribute_strategy)

    @property
    def output_calls(self):
        """Names of the calls whose values are the outputs."""
        return keras.tree.flatten(self.network.outputs)

    def _output_shapes(self):
        return {name: self.network.stateful[name].value_shape for name in self.output_calls}

    def compute_output_shape(self, input_shape):
        """Return the shapes of the outputs, with the batch size of the inputs.

        Raises:
            ValueError: If the inputs do not fit.
        """
        self.shaped(keras.tree.map_shape_structure(keras.KerasTensor, input_shape), self.passes)
        shapes, batch = self._output_shapes(), keras.tree.flatten(input_shape)[0]
        return keras.tree.map_structure(lambda name: (batch, *shapes[name]), self.network.outputs)

    @property
    def inputs(self):
        """Not there: the layers run step by step, so that no tensor of them has a place in a graph."""
        raise AttributeError(_NO_TENSORS.format(self.name, "inputs"))

    @property
    def outputs(self):
        """Not there, as `inputs`."""
        raise AttributeError(_NO_TENSORS.format(self.name, "outputs"))

    @property
    def dtype_policy(self):
        """The dtype policy; that of the layers is `convert`'s to choose."""
        return super().dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value):
        raise AttributeError(
            f"`dtype_policy` of '{self.name}' must stay what it was made with, since the layers have theirs. "
            f"Received: {value!r}. Convert again with keras_snn.convert(…, dtype=…)."
        )

    def as_functional(self):
        """Return a copy as a Functional model, whose layers have inputs and outputs, `(batch, time, …)`.

        See `keras_snn.simulation.from_layers.as_functional`.
        """
        from keras_snn.simulation.from_layers import as_functional

        return as_functional(self)

    def quantize(self, mode=None, config=None, **kwargs):
        """Refused with a `NotImplementedError`: weights of spiking layers are in floating point."""
        raise NotImplementedError(
            f"Model '{self.name}' is a spiking network, which must have weights in floating point. Received: "
            f"quantize(mode={mode!r}). Use keras_snn.convert(…, dtype='bfloat16') for smaller weights."
        )

    def simulate(
        self,
        x: Data,
        y: Data | None = None,
        *,
        timesteps: int | None = None,
        record: Record | Iterable[Record] = (),
        settle: bool = False,
        exit: Literal["confidence"] | None = None,  # noqa: A002 - what the field calls it
        level: float | None = None,
        batch_size: int = 32,
        verbose: int = 0,
    ) -> SimulationResult:
        """Run the network step by step and keep what happens.

        See `keras_snn.simulation.recording.simulate`, whose arguments these are.
        """
        from keras_snn.simulation.recording import simulate

        options = {"timesteps": timesteps, "record": record, "settle": settle, "exit": exit, "level": level}
        with self._running:
            return simulate(self, x, y, **options, batch_size=batch_size, verbose=verbose)

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """As `keras.Model.fit`; needs an optimizer, which a converted model is compiled without."""
        self._check_optimizer("fit")
        batch_size = _checked_batch_size(batch_size)
        x, y = as_arrays((x, y))
        # Keras checks shapes in training.
        with self._reading(x):
            samples = _samples(x)
            if samples is not None:
                samples = math.floor(samples * (1 - kwargs.get("validation_split", 0.0)))
            with divisible(samples, batch_size):
                return super().fit(x, y, batch_size, *args, **kwargs)

    def _check_optimizer(self, method):
        if self.compiled and self.optimizer is None:
            raise ValueError(
                f"Model '{self.name}' must have an optimizer for {method}. Received: a model compiled by "
                "keras_snn.convert, without one. Call snn.compile(optimizer=…, loss=…)."
            )

    def train_on_batch(self, x, *args, **kwargs):
        """As `keras.Model.train_on_batch`; needs an optimizer, as `fit`."""
        self._check_optimizer("train_on_batch")
        with self._running:
            return super().train_on_batch(self._batch(x), *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        """As `keras.Model.test_on_batch`; raises a `ValueError` if `x` does not fit."""
        with self._running:
            return super().test_on_batch(self._batch(x), *args, **kwargs)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`; raises a `ValueError` if `x` does not fit."""
        with self._running:
            return super().predict_on_batch(self._batch(x))

    def _batch(self, x):
        """Return one batch of arrays in the shape that the network wants."""
        return self.shaped(x, self.passes) if _are_arrays(x) else x

    def get_state_tree(self, *args, **kwargs):
        """As `keras.Model.get_state_tree`; needs an optimizer, whose state is part of it."""
        self._check_optimizer("get_state_tree")
        return super().get_state_tree(*args, **kwargs)

    def save(self, filepath, overwrite=True, *args, **kwargs):
        """As `keras.Model.save`; a .keras file of this name is replaced once the new one is whole."""
        name = os.fspath(filepath) if isinstance(filepath, (str, os.PathLike)) else ""
        if name.endswith((".h5", ".hdf5")):
            raise ValueError(_NOT_AS_HDF5.format(f"filepath='{name}'"))
        if name.endswith(".keras") and "://" not in name:
            check_file(name)
        # Else Keras refuses it, writes elsewhere, or asks first.
        if name.endswith(".keras") and "://" not in name and (overwrite or not pathlib.Path(name).exists()):
            with replacing(output_path("filepath", name)) as (temporary,):
                super().save(temporary, overwrite, *args, **kwargs)
        else:
            super().save(filepath, overwrite, *args, **kwargs)

    def save_own_variables(self, store):
        """As of a layer of Keras; beside the weights of its layers go the units that they are in."""
        super().save_own_variables(store)
        store["units"] = write_units(self)

    def load_own_variables(self, store):
        """As of a layer of Keras.

        Raises:
            ValueError: If the weights are of a conversion with other units, such as the rate at which
                neurons saturate. Files of earlier versions do not have them.
        """
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118 - no dict
        written = values.pop("units", None)
        super().load_own_variables(values)
        if written is not None:
            scales = check_units(self, written)
            self.conversion_report = with_scales(self.conversion_report, scales)

    def load_weights(self, filepath, *args, **kwargs):
        """As `keras.Model.load_weights`; raises a `ValueError` and changes nothing if it cannot."""
        before, report = self.get_weights(), self.conversion_report
        try:
            super().load_weights(filepath, *args, **kwargs)
        except Exception:
            # Keras goes on after an error, with the weights that do fit.
            self.set_weights(before)
            self.conversion_report = report
            raise

    def export(self, filepath, *args, input_signature=None, **kwargs):
        """As `keras.Model.export`; the network takes batches of any size and runs `timesteps` steps."""

        def spec(name):
            steps = (self.passes,) if self.network.events else ()
            shape = (None, *steps, *self.input_shapes[name])
            return keras.InputSpec(dtype=self.input_dtypes[name], shape=shape, name=name)

        # A model that was never called, Keras refuses without.
        if input_signature is None:
            input_signature = [keras.tree.map_structure(spec, self.network.inputs)]
        return super().export(filepath, *args, input_signature=input_signature, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        # A converted model is compiled without an optimizer, which Keras does not expect here.
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def get_config(self):
        if hdf5.is_wanted():
            hdf5.remove_begun()
            raise ValueError(_NOT_AS_HDF5.format("an HDF5 file"))
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize(self.dtype_policy),
            "layers": [serialize(layer) for layer in self._ordered_layers],
            "calls": self._calls,
            "inputs": self.network.inputs,
            "outputs": self.network.outputs,
            "shapes": {name: list(shape) for name, shape in self.input_shapes.items()},
            "timesteps": self.passes,
            "unroll": self.unroll,
            "events": self.network.events,
            "conversion_report": serialize(self.conversion_report),
            "output_names": getattr(self, "output_names", None),
            "dtypes": self._input_dtypes,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["layers"] = [deserialize(layer) for layer in config["layers"]]
        config["dtype"] = deserialize(config["dtype"])
        config["conversion_report"] = deserialize(config["conversion_report"])
        return cls(**config)


def _samples(x):
    """Return the number of samples in arrays; `None` of data that comes in batches."""
    arrays = keras.tree.flatten(x)
    return arrays[0].shape[0] if arrays and getattr(arrays[0], "shape", None) else None


def _are_arrays(x):
    """Return whether data is arrays, and not what comes in batches.

    Raises:
        ValueError: If it is neither, or arrays of no numbers, or of no samples.
    """
    arrays = keras.tree.flatten(x)
    if not arrays or any(array is None or isinstance(array, (str, numbers.Number)) for array in arrays):
        raise ValueError(
            f"`x` must be {KINDS}. Received: {type(x).__name__} {str(x)[:60]}. "
            "Stack the samples with numpy.stack."
        )
    if not all(hasattr(array, "shape") for array in arrays):
        return False
    for array in arrays:
        check_numeric(array, "x")
    if _samples(x) == 0:
        raise ValueError("`x` must hold at least one sample. Received: no samples. Give one or more.")
    return True


def _checked_batch_size(value):
    return None if value is None else check_integer("batch_size", value, minimum=1)


def _first_steps(name, x, timesteps):
    """Return the first steps of events; the length of a tensor may be unknown yet."""
    if x.shape[1] is not None and x.shape[1] < timesteps:
        raise ValueError(
            f"`x` must have at least {timesteps} time steps for input '{name}'. "
            f"Received: {x.shape[1]} steps. Set snn.timesteps to the length of the events."
        )
    return x[:, :timesteps]
