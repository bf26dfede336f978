"""What all layers with state over time have in common."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_snn._types import Config, Shape, State, Tensor, Tensors
from keras_snn.layers.owning import OwnsLayer, refuse_quantizing
from keras_snn.layers.time_axis import fold_as_long, run_steps, unfold_time

__all__ = ["SpikingLayer", "SpikingTwin", "neuron_of"]


# Arguments of `keras.layers.Layer`, which are the twin's own and not those of the layer inside it.
_LAYER_ARGUMENTS = (
    "name",
    "dtype",
    "trainable",
    "autocast",
    "activity_regularizer",
    "input_shape",
    "input_dim",
)


def neuron_of(layer):
    """Return the neuron of a layer that spikes, or `None` of any other layer."""
    return getattr(layer, "neuron", None)


class SpikingLayer(keras.layers.Layer):
    """Base of the layers that carry a state from time step to time step.

    The state follows the convention of `keras.layers.RNN`: a list of tensors,
    `initial_state=` in, `return_state=True` out. It is an explicit value, so any
    batch size works; only `stateful=True` keeps it in variables, for a fixed one.

    A subclass has three methods: `current`, the part without memory; `start`, the
    state before the first step; and `step`, one step in time. The time loop of
    `keras_snn.SpikingModel` calls these, so that what is constant is computed once.

    Args:
        return_state: Whether the layer returns `(outputs, *state)`.
        stateful: Whether the state is kept from call to call, until `reset_state()`.
            Needs a fixed batch size.

    Raises:
        ValueError: If `autocast` is `False`, `dtype` is a quantized policy, or there is an
            `activity_regularizer` beside `return_state=True`.

    Attributes:
        value_shape: Shape of the output of one sample and step, once the layer is built.
        divides_by_steps: Whether what the layer hands on is a quotient by the number of steps so far.
        keeps_total: Whether the second tensor of the state is the sum of the outputs so far.
        output_in_state: Whether the output of the last step can be read from the state.
        draws: Whether the layer draws random numbers. Then the last tensor of its state is a key of
            shape `(batch,)`, int32: equal samples with equal keys get equal numbers.
    """

    draws = False
    divides_by_steps = False
    keeps_total = False
    output_in_state = False

    def __init__(
        self, *, return_state: bool = False, stateful: bool = False, autocast: bool = True, **kwargs: Any
    ) -> None:
        # Else Keras rounds a state that is given to the dtype of the inputs.
        super().__init__(autocast=False, **kwargs)
        self._check_options(return_state, autocast)
        self.return_state = return_state
        self.stateful = stateful
        self._kept_state = []
        self._cell_shape = None
        self.value_shape = None

    def _check_options(self, return_state, autocast):
        """Raise a `ValueError` if options of Keras have no meaning here."""
        kind = type(self).__name__
        if not autocast:
            raise ValueError(
                f"`autocast` of {kind} must be True, because the layer casts its inputs itself. Received: "
                f"autocast={autocast!r}. Choose the precision with dtype=…."
            )
        if self.quantization_mode is not None:
            raise ValueError(
                f"`dtype` of {kind} must be a float dtype or policy. Received: dtype="
                f"'{self.dtype_policy.name}'. Use 'bfloat16' for smaller weights."
            )
        if return_state and self.activity_regularizer is not None:
            raise ValueError(
                f"`activity_regularizer` of {kind} needs return_state=False, because Keras would penalise "
                "the state as well. Received: return_state=True. Put keras.layers.ActivityRegularization "
                "after the layer."
            )

    @property
    def state_dtype(self) -> str:
        """Dtype of the state: at least float32, also under a mixed precision policy."""
        # Not result_type, which knows no float64 on JAX and PyTorch (keras-team/keras#23704).
        return "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype

    def current(self, inputs: Tensors) -> Tensor:
        """Return what drives the state, `(batch·time, …)`, for inputs `(batch·time, …)` or a list of them."""
        return inputs

    def current_shape(self, input_shape: Any) -> Any:
        """Return the shape of what drives the state, `(batch, time, …)`, for that of the inputs."""
        return tuple(input_shape)

    def start(self, shape: Shape) -> State:
        """Return the state before the first step, for a current of `shape` `(batch, …)`."""
        raise NotImplementedError

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """Run one time step.

        Args:
            current: Tensor of shape `(batch, …)`, in `state_dtype`.
            state: What `start` or the previous step returned.

        Returns:
            `(output, state)` with an output of shape `(batch, …)`.
        """
        raise NotImplementedError

    def read(self, state: State) -> Tensor:
        """Return the output of the last step, `(batch, …)`, if `output_in_state`.

        Args:
            state: The state after the last step, a list of tensors `(batch, …)`.
        """
        raise NotImplementedError

    def advance(
        self, current: Tensor, state: State, timesteps: int, *, constant: bool = False
    ) -> tuple[Tensor, State]:
        """Run `timesteps` steps.

        Args:
            current: Tensor of shape `(batch·timesteps, …)`, or `(batch, …)` if it is constant.
            state: What `start` or the previous call returned.
            timesteps: Number of steps, a Python integer.
            constant: Whether the current is the same at every step.

        Returns:
            `(outputs, state)` with outputs of shape `(batch·timesteps, …)`.
        """
        current, state = ops.cast(current, self.state_dtype), list(state)
        if timesteps == 1:
            outputs, state = self.step(current, state)
        else:
            outputs, state = self.several_steps(current, state, timesteps, constant)
        return ops.cast(outputs, self.compute_dtype), list(state)

    def several_steps(
        self, current: Tensor, state: State, timesteps: int, constant: bool
    ) -> tuple[Tensor, State]:
        """Return what `advance` does; a subclass may do for all steps at once what needs no state."""

        def step(state, one_step):
            output, state = self.step(one_step, state)
            return list(state), output

        return run_steps(step, current, list(state), timesteps, constant=constant)

    def rewind(self, state: State) -> State:
        """Return `state` with its count of steps, if there is one, less by 1: the next is no step in time."""
        return state

    def build(self, input_shape: Any) -> None:
        batch, _, *cell = self.current_shape(input_shape)
        self._cell_shape = tuple(cell)
        self.value_shape = tuple(self.compute_output_shape(input_shape)[2:])
        if self.stateful:
            if batch is None:
                raise ValueError(
                    f"Layer '{self.name}' is stateful and needs a known batch size. Received: "
                    f"input_shape={input_shape}. Use keras.Input(…, batch_size=n) or stateful=False."
                )
            self._kept_state = [
                self.add_weight(
                    shape=(batch, *value.shape[1:]),
                    dtype=keras.backend.standardize_dtype(value.dtype),
                    initializer="zeros",
                    trainable=False,
                    autocast=False,
                    name=f"state_{i}",
                )
                for i, value in enumerate(self.start((1, *cell)))
            ]
            self.reset_state()
        self.built = True

    def get_initial_state(self, batch_size: Any) -> State:
        """Return the state before the first step for a batch of `batch_size`; the layer must be built."""
        if self._cell_shape is None:
            raise ValueError(
                f"Layer '{self.name}' must be built. Call it on data or with build(input_shape)."
            )
        return self.start((batch_size, *self._cell_shape))

    def reset_state(self) -> None:
        """Set the kept state of a stateful layer back to what it is before the first step."""
        if not self.stateful:
            raise ValueError(f"Layer '{self.name}' keeps no state. Create it with stateful=True.")
        if not self._kept_state:
            return
        for variable, value in zip(
            self._kept_state, self.get_initial_state(self._kept_state[0].shape[0]), strict=True
        ):
            variable.assign(value)

    def call(self, inputs: Tensors, initial_state: State | None = None) -> Any:
        timesteps = self._timesteps(inputs)
        first = keras.tree.flatten(inputs)[0]
        inputs = keras.tree.map_structure(lambda x: fold_as_long(self._cast(x), timesteps), inputs)
        current = self.current(inputs)
        if self.stateful and initial_state is None:
            self._check_batch(first.shape[0])
            state = [ops.convert_to_tensor(variable) for variable in self._kept_state]
        else:
            state = self.start((ops.shape(first)[0], *ops.shape(current)[1:]))
        if initial_state is not None:
            given = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
            state = [ops.cast(new, old.dtype) for new, old in zip(given, state, strict=True)]
        outputs, state = self.advance(current, state, timesteps)
        if self.stateful:
            for variable, value in zip(self._kept_state, state, strict=True):
                variable.assign(value)
        outputs = unfold_time(outputs, timesteps)
        return (outputs, *state) if self.return_state else outputs

    def _cast(self, x):
        """Return floats in the dtype that the layer computes in, as Keras does."""
        is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        return ops.cast(x, self.compute_dtype) if is_float else x

    def _check_batch(self, batch_size):
        kept = self._kept_state[0].shape[0]
        if batch_size not in (None, kept):
            raise ValueError(
                f"Layer '{self.name}' is stateful and keeps the state of {kept} samples. Received: a batch "
                f"of {batch_size}. Use batches of one size, or stateful=False."
            )

    def _timesteps(self, inputs):
        """Return the number of time steps of a tensor or of a list of them."""
        shapes = [tuple(x.shape) for x in keras.tree.flatten(inputs)]
        for shape in shapes:
            self._check_time(shape, known=True)
        return max(shape[1] for shape in shapes)

    def _check_time(self, shape, *, known):
        """Raise a `ValueError` if a shape has no time axis, or one of no steps; or, if `known`, of `None`."""
        if len(shape) < 2 or shape[1] == 0 or (known and shape[1] is None):
            raise ValueError(
                f"Layer '{self.name}' ({type(self).__name__}) needs input of shape (batch, time, …) with "
                f"a known number of time steps. Received: shape {shape}. Give the time axis a length, "
                "for example keras.Input((timesteps, …))."
            )

    def compute_output_shape(self, input_shape: Any, initial_state: State | None = None) -> Any:
        return self.current_shape(input_shape)

    def compute_output_spec(self, inputs: Tensors, initial_state: State | None = None) -> Any:
        self._timesteps(inputs)
        shape = [tuple(x.shape) for x in inputs] if isinstance(inputs, (list, tuple)) else tuple(inputs.shape)
        outputs = keras.KerasTensor(self.compute_output_shape(shape), self.compute_dtype)
        if not self.return_state:
            return outputs
        batch, _, *cell = self.current_shape(shape)
        state = self.start((1, *cell))
        return (outputs, *(keras.KerasTensor((batch, *v.shape[1:]), v.dtype) for v in state))

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "return_state": self.return_state,
            "stateful": self.stateful,
        }


def _enable_lora(self: Any, *args: Any, **kwargs: Any) -> None:
    """As `enable_lora` of the Keras layer: train a product of two small matrices instead of the kernel."""
    self.analog.enable_lora(*args, **kwargs)


class SpikingTwin(OwnsLayer, SpikingLayer):
    """Base of the layers that replace a Keras layer and take its arguments.

    Initializers, regularizers and constraints of weights are those of the Keras layer inside. What
    the layer gives is the twin's own: `activity_regularizer` penalises the spikes of all steps, as
    Keras does the outputs of any layer, where the layer is called; not inside a `SpikingModel`.

    `class SpikingConv2D(SpikingLinear, analog_class=keras.layers.Conv2D)` is a whole
    twin: it takes the arguments of the Keras layer in the same order with the same
    defaults, then those of `options`, keyword-only, and owns such a layer as `analog`.

    Attributes:
        options: Our arguments and their defaults.
        analog_class: The Keras layer that the twin replaces.
        analog: The Keras layer that computes what has no memory.
    """

    options = {"return_state": False, "stateful": False}
    owned = "analog"
    analog_class = None

    def __init_subclass__(cls, analog_class=None, **kwargs):
        super().__init_subclass__(**kwargs)
        if analog_class is None:
            return
        kinds = inspect.Parameter
        _, *theirs = inspect.signature(analog_class.__init__).parameters.values()
        ours = [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in cls.options.items()]
        cls.__signature__ = inspect.Signature(
            [
                *(p for p in theirs if p.kind is not kinds.VAR_KEYWORD),
                *ours,
                kinds("kwargs", kinds.VAR_KEYWORD),
            ]
        )
        # Its own text, or that of a base.
        cls.__doc__ = f"Spiking twin of `keras.layers.{analog_class.__name__}`.\n\n{inspect.getdoc(cls)}"
        cls.analog_class = analog_class
        if hasattr(analog_class, "enable_lora"):
            cls.enable_lora = _enable_lora
        keras.saving.register_keras_serializable(package="keras_snn")(cls)

    def __init__(self, *args: Any, return_state: bool = False, stateful: bool = False, **kwargs: Any) -> None:
        given = self._by_name(args, kwargs)
        own = {name: given.pop(name) for name in _LAYER_ARGUMENTS if name in given}
        if given.get("quantization_config") is not None:
            raise ValueError(
                f"`quantization_config` of {type(self).__name__} must be None: spiking layers are not "
                f"quantized. Received: quantization_config={given['quantization_config']!r}."
            )
        super().__init__(return_state=return_state, stateful=stateful, **own)
        self.analog = self.analog_class(dtype=self.analog_dtype, **given)
        self.freeze_owned()
        refuse_quantizing(self)

    @classmethod
    def _by_name(cls, args, kwargs):
        """Return the arguments of the Keras layer by name, wherever they were given."""
        given = inspect.signature(cls.analog_class.__init__).bind(None, *args, **kwargs).arguments
        _, *named = given.items()
        named = dict(named)
        return named | named.pop("kwargs", {})

    @property
    def analog_dtype(self) -> Any:
        """Dtype or policy of the analog layer."""
        return self.dtype_policy

    def build(self, input_shape: Any) -> None:
        self._check_time(tuple(input_shape), known=False)
        if not self.analog.built:
            self.analog.build((input_shape[0], *input_shape[2:]))
        super().build(input_shape)

    def get_config(self) -> Config:
        ours = ("name", "dtype", "trainable", *self.options)
        analog = {k: v for k, v in self.analog.get_config().items() if k not in ours}
        config = {**analog, **super().get_config()}
        # Only where it has more: what Keras sets in one, it sets in the other.
        differs = self.analog.trainable != self.trainable
        return config | ({"analog_trainable": self.analog.trainable} if differs else {})
