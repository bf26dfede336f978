"""Networks of time codes, step by step: each layer receives and sends in windows of its own.

The closed form, in which a layer is computed once on the numbers that its inputs send, is what `predict`
runs. Here every spike is an event at a time step. This is for records and for proof; it runs in NumPy, in
float64.
"""

import dataclasses

import keras
import numpy as np

from keras_snn.graph import nodes as kinds
from keras_snn.graph.numpy_reference import pool_windows, value_of

__all__ = ["LayerRecord", "run_layered"]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerRecord:
    """What the neurons of a layer did.

    Attributes:
        trains: Spikes, 0 or 1, in the window in which the layer sends, `(batch, steps, …)`.
        potentials: Membrane potential after every step of the windows in which the layer receives,
            `(batch, steps, …)`; one step if it receives numbers only.
    """

    trains: np.ndarray
    potentials: np.ndarray

    @property
    def counts(self):
        """Number of spikes of every neuron, `(batch, …)`."""
        return np.abs(self.trains).sum(axis=1, dtype="int64")

    @property
    def times(self):
        """Step of the first spike of every neuron, counted from 1, `(batch, …)`; 0 if it sends none."""
        return np.where(self.trains.any(axis=1), (self.trains != 0).argmax(axis=1) + 1, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Signal:
    """What a node hands on.

    Attributes:
        numbers: What is there before any window, `(batch, …)`.
        trains: By base of the digits, what arrives at every step of the window, `(steps, batch, …)`.
        are_spikes: Whether trains are spikes as neurons send them, and numbers are 0.
    """

    numbers: np.ndarray
    trains: dict
    are_spikes: bool = False


def run_layered(program, inputs):
    """Run a program of time codes step by step.

    Args:
        program: A `Program` whose neurons are time codes.
        inputs: Arrays `(batch, …)`, nested like `program.graph.inputs`.

    Returns:
        `(outputs, records)`: outputs nested as those of the graph, and a `LayerRecord` by name of the node
        of each layer of neurons.
    """
    graph = program.graph
    given = zip(keras.tree.flatten(graph.inputs), keras.tree.flatten(inputs), strict=True)
    signals = {name: _Signal(np.asarray(x, "float64"), {}) for name, x in given}
    records = {}
    for name, node in graph.nodes.items():
        if isinstance(node, kinds.Input):
            continue
        taken = [signals[source] for source in node.inputs]
        if isinstance(node, kinds.Spike):
            signals[name], records[name] = _fire(node.neuron, taken[0])
        elif isinstance(node, kinds.Pool) and node.function == "max" and taken[0].are_spikes:
            signals[name] = _first_of_windows(node, taken[0])
        elif _is_linear(node):
            signals[name] = _mapped(node, taken)
        else:
            signals[name] = _Signal(value_of(node, *(_received(x)[-1] for x in taken)), {})
    outputs = keras.tree.map_structure(lambda name: _received(signals[name])[-1], graph.outputs)
    return outputs, records


def _is_linear(node):
    if isinstance(node, kinds.Pool):
        return node.function == "average"
    return isinstance(
        node, (kinds.Affine, kinds.ChannelAffine, kinds.Rearrange, kinds.Add, kinds.Concatenate)
    )


def _mapped(node, taken):
    """Return what a linear node makes of signals, step by step."""
    moves = isinstance(node, (kinds.Rearrange, kinds.Concatenate))
    trains = {}
    for base in dict.fromkeys(base for signal in taken for base in signal.trains):
        steps = max(len(signal.trains.get(base, ())) for signal in taken)
        # A number is written from its last digit on: shorter ones begin later.
        aligned = [_with_steps(signal, base, steps) for signal in taken]
        batch = aligned[0].shape[1]
        y = value_of(_without_bias(node), *(x.reshape(-1, *x.shape[2:]) for x in aligned))
        trains[base] = y.reshape(steps, batch, *y.shape[1:])
    numbers = value_of(node, *(signal.numbers for signal in taken))
    return _Signal(numbers, trains, moves and all(signal.are_spikes for signal in taken))


def _with_steps(signal, base, steps):
    """Return the trains of a base with so many steps, of which the first may be silent."""
    silent = np.zeros((steps, *signal.numbers.shape))
    trains = signal.trains.get(base)
    if trains is not None:
        silent[steps - len(trains) :] = trains
    return silent


def _without_bias(node):
    if isinstance(node, kinds.Affine):
        return dataclasses.replace(node, bias=np.zeros_like(node.bias))
    if isinstance(node, kinds.ChannelAffine):
        return dataclasses.replace(node, shift=np.zeros_like(node.shift))
    return node


def _received(signal, potential=0.0):
    """Return the potential after every step in which a signal arrives, from one before it."""
    v = potential + signal.numbers
    path = [v]
    for base, trains in signal.trains.items():
        before, charge = v, np.zeros_like(v)
        for step, arriving in enumerate(trains):
            if step % (base - 1) == 0:
                # Added at each step of the digit, it multiplies by the base what the digits before gave.
                slope = charge
            slope = slope + arriving
            charge = charge + slope
            v = before + charge
            path.append(v)
    return np.stack(path[1:] or path)


def _fire(neuron, signal):
    """Return what neurons send after they have received a signal, and their record."""
    corrections = [np.asarray(neuron.correction(what) or 0.0) for what in ("potential", "current")]
    potentials = _received(signal, neuron.initial_potential + sum(corrections))
    code = neuron.code
    if code is None:
        # A binary neuron sends one spike, or none.
        spikes = neuron.asymptotic_rate(potentials[-1])
        record = LayerRecord(spikes[:, None].astype("int8"), np.moveaxis(potentials, 0, 1))
        return _Signal(np.zeros(spikes.shape), {2: spikes[None]}, are_spikes=not neuron.is_signed), record
    numbers = np.clip(np.floor(potentials[-1]), code.lowest, code.levels)
    sign, rest = np.sign(numbers), np.abs(numbers)
    trains = np.zeros((code.window, *rest.shape), "int8")
    step = 0
    for place in reversed(range(code.digits)):
        silent = np.ones(rest.shape, bool)
        for digit in range(code.base - 1, 0, -1):
            fires = silent & (rest >= digit * code.base**place)
            trains[step] = fires
            rest = rest - fires * (digit * code.base**place)
            silent &= ~fires
            step += 1
    trains = (trains * sign).astype("int8")
    record = LayerRecord(np.moveaxis(trains, 0, 1), np.moveaxis(potentials, 0, 1))
    sent = {code.base: trains.astype("float64")}
    # In a max pool the first spike wins only if no number is negative.
    return _Signal(np.zeros(rest.shape), sent, are_spikes=not neuron.is_signed), record


def _first_of_windows(node, signal):
    """Return the spikes of the largest number of every window of a max pool, in time.

    Every input starts in the race. In the window of a digit the first spike of those in the race is sent on,
    and who did not spike then leaves it.
    """
    ((base, trains),) = signal.trains.items()
    sent, race = [], None
    for start in range(0, len(trains), base - 1):
        steps = [pool_windows(node, x, fill=0.0) for x in trains[start : start + base - 1]]
        race = np.ones(steps[0].shape, bool) if race is None else race
        places = tuple(range(signal.numbers.ndim, race.ndim))
        open_ = np.ones(race.shape[: signal.numbers.ndim], bool)
        for x in steps:
            spikes = race & (x > 0)
            first = open_ & spikes.any(axis=places)
            sent.append(first.astype("float64"))
            won = np.expand_dims(first, places)
            race = np.where(won, spikes, race)
            open_ &= ~first
    return _Signal(np.zeros(sent[0].shape), {base: np.stack(sent)}, are_spikes=True)
