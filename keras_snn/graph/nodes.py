"""The kinds of nodes that a graph consists of.

Every Keras model that can be converted is translated into them. Shapes are
without the batch axis, channels last. Nodes are frozen; a pass returns a new graph.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_snn.graph.geometry import moved, transposed_pad_widths, window_shape

__all__ = [
    "Activation",
    "Add",
    "Affine",
    "ChannelAffine",
    "Concatenate",
    "Encode",
    "Input",
    "Node",
    "Opaque",
    "Pool",
    "Readout",
    "Rearrange",
    "Spike",
]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operation.

    Attributes:
        name: Unique in its graph; starts with the path of the Keras layer that it comes from.
        inputs: Names of the nodes whose values it takes.
        shape: Shape of its value, without the batch axis.
        origins: Paths of the Keras layers that it stands for.
        source: Number of the layer that it comes from; the calls of a shared layer have the same.
        dtype: Dtype of an input, of what is moved only and of integers; `None` of numbers of the network.
    """

    name: str
    inputs: tuple[str, ...] = ()
    shape: tuple[int, ...] = None
    origins: tuple[str, ...] = ()
    source: int | None = None
    dtype: str | None = None

    def output_shape(self, *shapes):
        """Return the shape of the value for inputs of `shapes`."""
        return shapes[0]

    def output_dtype(self, *dtypes):
        """Return the dtype of the value, as `dtype`, for inputs of `dtypes`."""
        return self.dtype

    @property
    def keeps_dtypes(self):
        """Whether it takes its inputs as they are, instead of in the dtype that the network computes in."""
        return isinstance(self, (Rearrange, Concatenate, Opaque))

    def for_each(self, length):
        """Return the fields that change if it is to act on each of `length` slices of a leading axis."""
        return {}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """A value that the user gives."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Node):
    """y = W·x + b: dense on the last axis, or a convolution.

    Attributes:
        kernel: Shape `(inputs, units)`, or `(*window, inputs / groups, units)` for a convolution.
        bias: Shape `(units,)`.
        strides: One integer per axis of the window; empty if dense.
        dilation: Likewise.
        padding: `"valid"`, `"same"` or `"causal"`; zeros, as Keras pads.
        groups: Number of groups of channels; as many as inputs if depthwise.
        transposed: Whether it is a transposed convolution, which spreads instead of gathers.
        output_padding: One integer per axis, for a transposed one; or `None`.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: str = "valid"
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] | None = None

    @property
    def window(self):
        """Size of the window along each spatial axis; empty if dense."""
        return self.kernel.shape[:-2]

    def transposed_padding(self):
        """Return the zeros before and after each axis of a transposed convolution."""
        extra = self.output_padding or (None,) * len(self.window)
        axes = zip(self.window, self.strides, self.dilation, extra, strict=True)
        return [transposed_pad_widths(w, s, d, self.padding, e) for w, s, d, e in axes]

    def output_shape(self, shape):
        units = self.kernel.shape[-1]
        if not self.window:
            return (*shape[:-1], units)
        if self.transposed:
            pads = self.transposed_padding()
            axes = zip(shape, self.window, self.strides, self.dilation, pads, strict=False)
            return (*((n - 1) * s + 1 + sum(pads) - d * (w - 1) for n, w, s, d, pads in axes), units)
        return (*window_shape(shape[:-1], self.window, self.strides, self.dilation, self.padding), units)

    def for_each(self, length):
        if not self.window:
            return {}
        return {
            "kernel": self.kernel[None],
            "strides": (1, *self.strides),
            "dilation": (1, *self.dilation),
            "output_padding": self.output_padding and (0, *self.output_padding),
        }


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChannelAffine(Node):
    """y = scale·x + shift, element by element.

    Attributes:
        scale: Array that broadcasts against the last axes of the value.
        shift: Likewise.
        moments: `(mean, variance)` of the input per channel, where a batch norm knows them.
    """

    scale: np.ndarray
    shift: np.ndarray
    moments: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def only_adds(self):
        """Whether it multiplies by nothing."""
        return bool(np.all(self.scale == 1))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Activation(Node):
    """A nonlinearity of the source network: a relu becomes neurons, or a binary activation.

    Attributes:
        function: Name in `keras.activations`; or `"sign"` or `"heaviside"`. A `"linear"` one stands where a
            sum that no relu rectifies becomes signed neurons, which relay it.
        max_value: Where a relu saturates; infinity if it does not.
        levels: Number of equal steps up to `max_value` that a relu rounds to, or a relay to both sides of 0;
            `None` if it does not round.
        axis: Axis of a softmax, counted from the end.
        at_zero: Value of a binary activation where its input is exactly 0.
        per_step: Whether it acts on the value of every time step, instead of on the average so far.
        spikes: Whether a relu or binary activation becomes neurons.
    """

    function: str
    max_value: float = math.inf
    levels: int | None = None
    axis: int = -1
    at_zero: float = 1.0
    per_step: bool = False
    spikes: bool = True

    @property
    def is_binary(self):
        """Whether it is a sign or Heaviside function."""
        return self.function in ("sign", "heaviside")

    @property
    def has_scale(self):
        """Whether it becomes neurons whose rate stands for its value, with a scale λ."""
        return self.spikes and self.function in ("relu", "linear")

    @property
    def becomes_spiking(self):
        """Whether it becomes neurons."""
        return self.has_scale or (self.spikes and self.is_binary)

    @property
    def is_relay(self):
        """Whether it becomes signed neurons, which send a sum that no relu rectifies."""
        return self.spikes and self.function == "linear"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Spike(Node):
    """A layer of spiking neurons; its value is a firing rate.

    Attributes:
        neuron: Object of `keras_snn.neurons`.
        scale: λ, the activation that rate 1 stands for; in activation units.
        max_value: Where the relu that it replaces saturates; in activation units.
    """

    neuron: object
    scale: float = 1.0
    max_value: float = math.inf


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Encode(Node):
    """Random spikes in the place of an input; their mean is the input divided by `scale`, times `rate`.

    Attributes:
        scale: The largest input; in the unit of the input.
        rate: Spikes per step of that input.
        seed: Which random numbers.
    """

    scale: float
    rate: float
    seed: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Node):
    """Maximum or average over windows; padding does not count.

    Attributes:
        function: `"max"` or `"average"`.
        window: One integer per spatial axis.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        method: Of a maximum, as `keras_snn.layers.SpikingMaxPool` has it; `None` of every step on its own.
    """

    function: str
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str = "valid"
    method: str | None = None

    def output_shape(self, shape):
        positions = window_shape(shape[:-1], self.window, self.strides, (1,) * len(self.window), self.padding)
        return (*positions, shape[-1])

    def for_each(self, length):
        return {"window": (1, *self.window), "strides": (1, *self.strides)}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Rearrange(Node):
    """Moves, repeats, drops values or pads with zeros; computes nothing.

    Attributes:
        function: `"reshape"`, `"transpose"`, `"pad"`, `"slice"`, `"repeat"` or `"take"`.
        argument: The new shape; the order of axes; or for each axis the zeros `(before, after)`,
            `(start, stop, step)`, how often a value comes, or the places of values, `None` for all of them.
    """

    function: str
    argument: tuple

    def output_dtype(self, dtype):
        return dtype

    def output_shape(self, shape):
        if self.function == "reshape":
            return self.argument
        if self.function == "transpose":
            return tuple(shape[axis] for axis in self.argument)
        size = {
            "pad": lambda n, widths: n + sum(widths),
            "slice": lambda n, bounds: len(range(*slice(*bounds).indices(n))),
            "repeat": lambda n, times: n * times,
            "take": lambda n, places: n if places is None else len(places),
        }[self.function]
        return tuple(size(*axis) for axis in zip(shape, self.argument, strict=True))

    @property
    def repeats(self):
        """Whether a value may come more than once."""
        taken = [of_axis for of_axis in self.argument if of_axis] if self.function == "take" else []
        return self.function == "repeat" or any(len(set(places)) < len(places) for places in taken)

    def move(self, array, *, leading=0, mode="constant"):
        """Return an array of the shape of the input, after `leading` axes, as this moves it.

        Args:
            array: The array.
            leading: Number of axes in front that stay.
            mode: What is padded, as in `numpy.pad`.
        """
        return moved(array, self.function, self.argument, leading=leading, mode=mode)

    def for_each(self, length):
        first = {"reshape": length, "transpose": 0, "pad": (0, 0), "slice": (None,) * 3, "repeat": 1}
        first = first.get(self.function)
        rest = tuple(axis + 1 for axis in self.argument) if self.function == "transpose" else self.argument
        return {"argument": (first, *rest)}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Opaque(Node):
    """A Keras layer or operation without memory that no other node describes; it does not spike.

    Attributes:
        model: A model of its own that makes this one call, of a copy of the layer.
        layer_class: Name of the class of the layer.
        reason: Why no other node describes it.
        way_out: What the user can do instead.
        per_step: Whether it acts on the value of every time step, instead of on the average so far.
        is_linear: Whether it is known to be affine in those inputs that change from step to step.
    """

    model: keras.Model
    layer_class: str
    reason: str
    way_out: str
    per_step: bool = False
    is_linear: bool = False

    def output_shape(self, *shapes):
        return tuple(self.model.output_shape[1:])

    def output_dtype(self, *dtypes):
        dtype = self.model.outputs[0].dtype
        return None if "float" in dtype else dtype

    def for_each(self, length):
        # keras.layers.TimeDistributed takes one input only.
        inputs = [keras.Input((length, *x.shape[1:]), dtype=x.dtype) for x in self.model.inputs]
        slices = [keras.ops.reshape(x, (-1, *x.shape[2:])) for x in inputs]
        y = self.model(slices if len(slices) > 1 else slices[0])
        y = keras.ops.reshape(y, (-1, length, *y.shape[1:]))
        given = inputs if len(inputs) > 1 else inputs[0]
        return {"model": keras.Model(given, y, name=self.model.name)}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Readout(Node):
    """What a spiking network returns: a function of the average of its input over the steps so far.

    Attributes:
        function: Name in `keras.activations`.
        axis: Axis of a softmax, counted from the end.
        method: `"potential"`; or how a softmax spikes, as `keras_snn.layers.SpikingSoftmax` has it.
        delay, scale, weighting, shift: Of the average, as of `keras_snn.layers.Readout`.
        seed: Of the random numbers of a softmax that spikes.
    """

    function: str = "linear"
    axis: int = -1
    method: str = "potential"
    delay: int = 0
    seed: int = 0
    scale: float | tuple[float, ...] = 1.0
    weighting: str = "uniform"
    shift: float | tuple[float, ...] = 0.0

    @property
    def draws(self):
        """Whether it draws random spikes."""
        return self.method != "potential"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """Sum of the inputs, all of one shape."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Concatenate(Node):
    """The inputs side by side.

    Attributes:
        axis: Axis of the value without batch, counted from the end; negative.
        again: Places of inputs that the source network adds to those before, with the same weights after it.
        stands_for: What the source network has in the place of the weights after it, if several maps, as
            `keras_snn.analysis.parts.Replaced`.
    """

    axis: int = -1
    again: tuple[int, ...] = ()
    stands_for: tuple[int, ...] = ()

    def output_dtype(self, *dtypes):
        return None if None in dtypes else keras.backend.result_type(*dtypes)

    def output_shape(self, *shapes):
        shape = list(shapes[0])
        shape[self.axis] = sum(s[self.axis] for s in shapes)
        return tuple(shape)
