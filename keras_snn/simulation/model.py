"""The converted network as a Keras model."""

from collections.abc import Iterable
from typing import Literal

import keras

from keras_snn._types import Data
from keras_snn._validation import check_choice, check_integer, check_timesteps
from keras_snn.engines.chunks import longest_chunk
from keras_snn.graph.integer_bounds import check_exact
from keras_snn.layers.base import neuron_of
from keras_snn.layers.owning import refuse_quantizing
from keras_snn.simulation.checked_model import CheckedModel
from keras_snn.simulation.compiled_functions import forget_compiled
from keras_snn.simulation.engine import ENGINES
from keras_snn.simulation.internals import Internals, output_shapes, run_model
from keras_snn.simulation.model_files import StoredModel, config_of, from_own_config
from keras_snn.simulation.result import Record, SimulationResult

__all__ = ["SpikingModel"]


@keras.saving.register_keras_serializable(package="keras_snn")
class SpikingModel(CheckedModel, StoredModel):
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
            `chunk_for` chooses. May be set later. The results do not depend on it.
        engine: What `predict`, `evaluate` and `simulate` run on: `"compiled"`, the backend of Keras;
            `"events"`, on the processor, where only spikes cost; or `"auto"`, the faster one. May be set
            later. Results are the same up to rounding.
        conversion_report: The `ConversionReport`, or `None`.
        output_names: Names that losses and metrics go by, as those of the source model.
        dtypes: Dict of the dtype of every input; that which the network computes in if `None`.
        weight_bits: Bits of a weight of a network of integers, else `None`.
        exact_steps: For how many time steps sums of integers are proved to be exact; `None` for any.

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
        engine="auto",
        conversion_report=None,
        output_names=None,
        dtypes=None,
        weight_bits=None,
        exact_steps=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._ordered_layers = list(layers)
        for i, layer in enumerate(self._ordered_layers):
            refuse_quantizing(layer)
            # TensorFlow's checkpoints hold what is an attribute, and look into no list of Keras.
            setattr(self, f"_layer_{i}", layer)
        dtype = self.compute_dtype
        self._internals = Internals(layers, calls, inputs, outputs, shapes, dtypes, dtype, events=events)
        self._timesteps, self._integers = 1, (weight_bits, exact_steps)
        self.timesteps = timesteps
        self.unroll, self.engine = unroll, engine
        self.conversion_report = conversion_report
        if output_names is not None:
            self.output_names = list(output_names)
        given = self._internals.inputs.given_shapes
        self.build(keras.tree.map_structure(lambda name: (None, *given[name]), inputs))

    @property
    def weight_bits(self) -> int | None:
        """Bits of a weight, where weights, thresholds and potentials are integers; else `None`."""
        return self._integers[0]

    @property
    def exact_steps(self) -> int | None:
        """For how many time steps sums of integers are proved to be exact; `None` for any number."""
        return self._integers[1]

    @property
    def calls(self):
        """The calls of the layers in order: dicts of `name`, `layer` and a list of names, `inputs`."""
        return [dict(call) for call in self._internals.calls]

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
        check_exact(value, self.exact_steps)
        with self._internals.lock:
            self._timesteps = 1 if self.is_time_coded else value
            forget_compiled(self)

    @property
    def unroll(self) -> int | Literal["auto"]:
        """Time steps that one pass through the loop handles, or `"auto"`."""
        return self._unroll

    @unroll.setter
    def unroll(self, value: int | Literal["auto"]) -> None:
        hint = "Use a number of time steps or 'auto'."
        value = value if value == "auto" else check_integer("unroll", value, minimum=1, hint=hint)
        with self._internals.lock:
            self._unroll = value
            forget_compiled(self)

    @property
    def engine(self) -> Literal["auto", "compiled", "events"]:
        """What runs the network: `"compiled"`, `"events"` or `"auto"`; see docs/performance.md."""
        return self._engine

    @engine.setter
    def engine(self, value: Literal["auto", "compiled", "events"]) -> None:
        with self._internals.lock:
            self._engine = check_choice("engine", value, ENGINES)

    def chunk_for(self, batch_size):
        """Return the time steps per pass through the loop over time, for so many samples per batch.

        It is `unroll`. If that is `"auto"`, it is the largest number, up to 32, at which the largest
        layer has at most half a million values in a chunk: the largest that divides `timesteps`, if that is
        over half of it, else a power of two. It is 1 if `batch_size` is `None`, not known.
        On TensorFlow it is less for networks of many layers, 4 at least, which would compile for long.
        On JAX it is at most 8; on PyTorch chunks may have 4 million values, and on graphics cards 67 million
        (JAX and PyTorch).

        On TensorFlow the last layers take 4 steps at once, if they have many weights, where this is less.
        """
        if self._unroll != "auto":
            return min(self._unroll, self._timesteps)
        return longest_chunk(self._internals.network, self._timesteps, batch_size)

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
        """Run the network step by step and keep what happens, in a `SimulationResult`.

        See `keras_snn.simulation.recording.simulate`, whose arguments these are, with shapes and errors.
        """
        from keras_snn.simulation.recording import simulate

        options = {"timesteps": timesteps, "record": record, "settle": settle, "exit": exit, "level": level}
        with self._internals.lock:
            return simulate(self, x, y, **options, batch_size=batch_size, verbose=verbose)

    def as_functional(self):
        """Return a copy as a Functional model, whose layers have inputs and outputs, `(batch, time, …)`.

        See `keras_snn.simulation.from_layers.as_functional`.
        """
        from keras_snn.simulation.from_layers import as_functional

        return as_functional(self)

    def build(self, input_shape):
        """Do nothing: the layers are built. Keras keeps the shape, for a SavedModel."""
        self.built = True

    def call(self, inputs, training=None):
        return run_model(self, inputs)

    def compute_output_shape(self, input_shape):
        """Return the shapes of the outputs, with the batch size of the inputs.

        Args:
            input_shape: Shapes `(batch, …)`, or `(batch, time, …)` of events, nested as the inputs.

        Raises:
            ValueError: If the inputs do not fit.
        """
        given = keras.tree.map_shape_structure(keras.KerasTensor, input_shape)
        self._internals.inputs.shaped(given, self.passes)
        shapes, batch = output_shapes(self), keras.tree.flatten(input_shape)[0]
        return keras.tree.map_structure(lambda name: (batch, *shapes[name]), self._internals.network.outputs)

    @property
    def variables(self):
        # The counter is state, which JAX has to know, but no weight: files do not have it.
        return [*super().variables, self._internals.counter.totals]

    @property
    def input_dtype(self):
        # To which Keras casts floats before the call.
        return self._internals.inputs.widest_float

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

    def quantize(self, mode=None, config=None, **kwargs):
        """Refused with a `NotImplementedError`: weights of spiking layers are in floating point."""
        raise NotImplementedError(
            f"Model '{self.name}' is a spiking network, which must have weights in floating point. Received: "
            f"quantize(mode={mode!r}). Use keras_snn.convert(…, dtype='bfloat16') for smaller weights."
        )

    def get_config(self):
        return config_of(self, self._ordered_layers)

    @classmethod
    def from_config(cls, config):
        return cls(**from_own_config(config))
