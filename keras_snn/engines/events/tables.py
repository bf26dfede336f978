"""The tables that the kernels read, as they are filled."""

import contextlib
import dataclasses

import numpy as np

from keras_snn.engines.events.operations import FIELDS, LANES, OF_STEP, OPERATIONS
from keras_snn.engines.events.values import Signal

__all__ = [
    "SLACK",
    "Assembled",
    "Sizes",
    "Tables",
    "UnsupportedError",
    "aligned",
    "are_small_integers",
    "called",
    "padded",
]

_LARGEST, _SMALL = np.iinfo("int32").max, np.iinfo("int8").max
# What is loaded beyond the end of what is there.
SLACK = 4 * LANES


class UnsupportedError(ValueError):
    """A program has what this engine does not run; the text is the reason."""


@dataclasses.dataclass(frozen=True, eq=False)
class Assembled:
    """A program as tables for the kernels.

    Attributes:
        before, operations, weights, table: What `run_samples` takes.
        initial: The state of a sample before the first step, `(numbers,)`.
        takes_inputs: Whether inputs are given of each sample, instead of the drive of the network.
        drives: By name of an input, or of a call whose constant values these are, `(offset, shape)` of where
            they go, and in which shape.
        drive_size: How many numbers all of them are.
        arriving, arriving_size: The same of what is given for every step: events, and what encoders send.
        potentials: By name of a call the `Signal` of its membrane potential, or of the sum of a read-out.
        sent: By name of a call the `Signal` of what it hands on.
        readouts: By name of a call, the node of a read-out.
        adds: For operations that add up rows of weights, `(operation, name of the call, length of a row)`.
        groups: By name of a call, the group of operations that its values are from.
        sizes: The `Sizes` of what the kernels work on.
    """

    before: np.ndarray
    operations: np.ndarray
    weights: np.ndarray
    table: np.ndarray
    initial: np.ndarray
    takes_inputs: bool
    drives: dict
    drive_size: int
    arriving: dict
    arriving_size: int
    potentials: dict
    sent: dict
    readouts: dict
    adds: tuple
    groups: dict
    sizes: "Sizes"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much the kernels work on at once.

    Attributes:
        memory, words: How many numbers, and words of bits, a sample has.
        step_memory, step_words: How many of them every step has besides.
        places, events: How many places are listed of a step, and how many spikes, at most.
    """

    memory: int
    words: int
    step_memory: int
    step_words: int
    places: int
    events: int


def called(node):
    """Return the name of the call that a node comes from."""
    return node.origins[0] if node.origins else node.name


def padded(array, leading=0):
    """Return an array with channels padded with zeros to whole words, flat after `leading` axes."""
    array = np.asarray(array, "float32")
    if array.ndim == leading:
        array = array[..., None]
    widths = [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % LANES)]
    return np.pad(array, widths).reshape(*array.shape[:leading], -1)


def are_small_integers(array):
    """Whether numbers are integers from −127 to 127, which int8 holds."""
    return bool(np.abs(array).max(initial=0) <= _SMALL and np.array_equal(array, np.round(array)))


def aligned(size, kind):
    """Return zeros that begin with a line of the cache: vectors across two lines take twice as long."""
    line, kind = 64, np.dtype(kind)
    room = np.zeros(size * kind.itemsize + line, "uint8")
    first = -room.ctypes.data % line
    return room[first : first + size * kind.itemsize].view(kind)


class Tables:
    """Operations, weights, maps and memory so far."""

    def __init__(self):
        self.before, self.operations, self.weights, self.table = [], [], [], []
        self.is_once, self.adds = False, []
        self.sizes = {"weights": 0, "table": 0, "words": 0, "step_words": 0}
        self.memory = self.step_memory = self.places = self.events = self.group = 0
        self.nothing, self._zeros = self.add_weights(np.zeros(SLACK)), SLACK

    def zeros(self, width):
        """Return where so many zeros are in the weights."""
        if width > self._zeros:
            self.nothing, self._zeros = self.add_weights(np.zeros(width)), width
        return self.nothing

    def add_weights(self, array):
        """Add numbers to the weights; return where they are."""
        array = np.asarray(array, "float32").ravel()
        # Rows begin where lines of the cache do.
        array = np.pad(array, (0, -array.size % LANES))
        self.weights.append(array)
        self.sizes["weights"] += array.size
        return self.sizes["weights"] - array.size

    def add_small_integers(self, array):
        """Add integers to the weights, as int8; return where they are, counted in those."""
        numbers = np.asarray(array, "int8").ravel()
        each = np.dtype("float32").itemsize
        return each * self.add_weights(np.pad(numbers, (0, -numbers.size % each)).view("float32"))

    def add_table(self, numbers):
        """Add integers to the maps; return where they are."""
        numbers = np.asarray(numbers).ravel()
        if numbers.size and (numbers.max() > _LARGEST or numbers.min() < -_LARGEST):
            raise UnsupportedError("a layer with more than 2³¹ weights in a row of its window")
        self.table.append(numbers.astype("int32"))
        self.sizes["table"] += numbers.size
        return self.sizes["table"] - numbers.size

    def signal(self, shape, value=-1):
        """Reserve words for a value that operations hand on; return its `Signal`."""
        kind, first = ("words", 0) if self.is_once else ("step_words", OF_STEP)
        signal = Signal(tuple(shape), first + self.sizes[kind], value)
        self.sizes[kind] += signal.places * signal.width // LANES
        return signal

    def operation(self, what, *fields, after=0):
        """Add an operation, one of `OPERATIONS`, that runs from the step `after` on."""
        row = [OPERATIONS.index(what), *fields]
        rows = self.before if self.is_once else self.operations
        rows.append([*row, *[0] * (FIELDS - 2 - len(row)), after, self.group])

    def adds_rows(self, node, length):
        """Note that the last operation adds up rows of the weights of a node, of so many numbers."""
        if not self.is_once:
            self.adds.append((len(self.operations) - 1, called(node), length))

    @contextlib.contextmanager
    def once(self):
        """In this context operations are added that run once for every sample, before its first step."""
        was, self.is_once = self.is_once, True
        yield
        self.is_once = was

    def sum_of_step(self, shape):
        """Reserve memory for numbers of every step, or of what runs once; return their signal."""
        if self.is_once:
            signal = self.signal(shape, self.memory)
            self.memory += signal.places * signal.width
        else:
            signal = self.signal(shape, OF_STEP + self.step_memory)
            self.step_memory += signal.places * signal.width
        return signal

    def result(self, **places):
        """Return the `Assembled` program; `places` are its fields that are offsets."""
        if max(self.memory, self.step_memory, self.sizes["step_words"], self.events) >= OF_STEP:
            raise UnsupportedError("more than 2³⁰ values")
        memory = (self.memory, self.sizes["words"], self.step_memory, self.sizes["step_words"])
        return Assembled(
            before=np.array(self.before, "int64").reshape(-1, FIELDS),
            operations=np.array(self.operations, "int64").reshape(-1, FIELDS),
            weights=np.concatenate(
                self.weights, out=aligned(self.sizes["weights"] + SLACK, "float32")[:-SLACK]
            ),
            table=np.concatenate([np.zeros(0, "int32"), *self.table]),
            adds=tuple(self.adds),
            sizes=Sizes(*memory, self.places + 1, self.events + SLACK),
            **places,
        )
