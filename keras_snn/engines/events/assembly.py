"""From a program to the tables that the kernels read."""

import dataclasses

import keras
import numpy as np

from keras_snn.engines.events import maps, values
from keras_snn.engines.events.operations import LANES, OF_STEP
from keras_snn.engines.events.sums import Sums
from keras_snn.engines.events.tables import UnsupportedError, called, padded
from keras_snn.engines.events.values import Signal, Value
from keras_snn.graph import nodes as kinds
from keras_snn.graph.program import constant_nodes
from keras_snn.neurons.step_form import form_of

__all__ = ["assemble"]


def assemble(program):
    """Return the `Assembled` program.

    Raises:
        UnsupportedError: If there is something in it that this engine does not run.
    """
    if program.dtype.name != "float32":
        raise UnsupportedError(f"dtype '{program.dtype.name}' instead of float32")
    try:
        assembler = _Assembler(program, takes_inputs=True)
        assembler.add_constants()
    except _ConstantError:
        assembler = _Assembler(program, takes_inputs=False)
    for node in program.graph.nodes.values():
        if node.name not in assembler.constant:
            assembler.add(node)
    return assembler.result(
        takes_inputs=assembler.takes_inputs,
        readouts=assembler.readouts,
        initial=np.concatenate(assembler.initial),
        drives=assembler.drives,
        drive_size=assembler.drive_size,
        arriving=assembler.arriving,
        arriving_size=assembler.arriving_size,
        potentials=assembler.potentials,
        sent=assembler.sent,
        groups=assembler.groups,
    )


class _ConstantError(UnsupportedError):
    """Something before the first neurons is to be computed by the layers themselves."""


class _Assembler(Sums):
    """The tables of a program, node by node.

    Args:
        program: A `Program`.
        takes_inputs: Whether what is constant in time is computed here, once for every sample, instead of
            being given.
    """

    def __init__(self, program, *, takes_inputs):
        super().__init__()
        self.takes_inputs, self.of_integers = takes_inputs, program.weight_bits is not None
        self.graph = program.graph
        self.constant = constant_nodes(program.graph, program.events)
        self.users = program.graph.users()
        self.found, self.constants = {}, {}
        self.potentials, self.sent, self.readouts, self.groups = {}, {}, {}, {}
        # Potentials and sums are first in memory, then what is given of each sample.
        self.drives, self.arriving = {}, {}
        self.initial, self.states = [np.zeros(0, "float32")], {}
        for node in self.graph.nodes.values():
            self._reserve_state(node)
        self.state_size = self.memory
        for node in self.graph.nodes.values():
            self._reserve_drive(node)
        self.drive_size = self.memory - self.state_size
        for node in self.graph.nodes.values():
            self._reserve_arriving(node, program.events)
        self.arriving_size = self.step_memory

    # --- Memory ------------------------------------------------------------------

    def _reserve_state(self, node):
        if node.name in self.constant:
            return
        if isinstance(node, kinds.Spike):
            form = form_of(node.neuron)
            if form is None:
                raise UnsupportedError(f"layer '{called(node)}': neuron {node.neuron!r}")
            first = node.neuron.initial_state((1, *node.shape), "float32")[0]
            sent = [padded(np.zeros(node.shape))] if form.takes_back else []
            self._state(node.name, [padded(keras.ops.convert_to_numpy(first)[0]), *sent])
        elif isinstance(node, kinds.Readout):
            if node.draws:
                raise UnsupportedError(f"layer '{called(node)}': spikes drawn at random")
            sums = 2 if node.weighting == "linear" else 1
            self._state(node.name, [padded(np.zeros(node.shape))] * sums)
        elif isinstance(node, kinds.Pool) and node.function == "max":
            if node.method != "exact":
                raise UnsupportedError(f"layer '{called(node)}': a max pool of method '{node.method}'")
            counted = self.graph.nodes[node.inputs[0]].shape
            self._state(node.name, [padded(np.zeros(counted)), padded(np.zeros(node.shape))])

    def _state(self, name, arrays):
        self.states[name] = []
        for array in arrays:
            self.states[name].append(self.memory)
            self.initial.append(array)
            self.memory += array.size

    def _reserve_drive(self, node):
        """Reserve memory for the constant that a node takes, or that others take of it."""
        if self.takes_inputs:
            if not isinstance(node, kinds.Input) or node.name not in self.constant:
                return
            if node.dtype not in (None, "float32"):
                raise _ConstantError(node.dtype)
        elif node.name in self.constant:
            users = [self.graph.nodes[name] for name in self.users[node.name]]
            driven = (kinds.Spike, kinds.Readout, kinds.Encode)
            if all(user.name in self.constant or isinstance(user, driven) for user in users):
                return
        elif not (isinstance(node, (kinds.Spike, kinds.Readout)) and node.inputs[0] in self.constant):
            return
        shape = node.shape
        if self.takes_inputs and len(shape) > 1 and shape[-1] < LANES:
            # Not padded to whole words: pixels would take many times as much memory.
            shape = (int(np.prod(shape, dtype="int64")),)
        self.drives[called(node)] = (self.memory - self.state_size, shape)
        self.memory += padded(np.zeros(shape)).size

    def _reserve_arriving(self, node, events):
        """Reserve memory for what comes anew at every step."""
        if isinstance(node, kinds.Encode) or (events and isinstance(node, kinds.Input)):
            self.arriving[called(node)] = (self.step_memory, node.shape)
            self.step_memory += padded(np.zeros(node.shape)).size

    # --- What is constant --------------------------------------------------------

    def add_constants(self):
        """Add what is computed once for every sample."""
        with self.once():
            for node in self.graph.nodes.values():
                if node.name in self.drives:
                    offset, shape = self.drives[node.name]
                    signal = self._given(self.state_size + offset, shape)
                    self.found[node.name] = _as_value(signal, node.shape)
                elif node.name in self.constant:
                    if isinstance(node, kinds.Pool) and node.function == "max":
                        raise _ConstantError("a maximum")
                    self.found[node.name] = self._linear(node)

    def _given(self, place, shape):
        """Return the signal of what is given, at a place in memory."""
        signal = self.signal(shape, place)
        self.operation("mark", signal.value, signal.places * signal.width // LANES, signal.word)
        return signal

    def _constant(self, name):
        """Return the signal of a constant node, which others take at every step."""
        if name not in self.constants:
            with self.once():
                if self.takes_inputs:
                    self.constants[name] = self._as_signal(self.found[name])
                else:
                    node = self.graph.nodes[name]
                    place = self.state_size + self.drives[called(node)][0]
                    self.constants[name] = self._given(place, node.shape)
        return self.constants[name]

    def _drive_of(self, node):
        """Return where the constant current of neurons or of a read-out is."""
        if self.takes_inputs:
            return self._constant(node.inputs[0]).value
        return self.state_size + self.drives[called(node)][0]

    # --- Nodes -------------------------------------------------------------------

    def add(self, node):
        """Add what a node does at every step."""
        self.group += 1
        self.groups[called(node)] = self.group
        if isinstance(node, (kinds.Spike, kinds.Readout)):
            value = self._neurons(node) if isinstance(node, kinds.Spike) else self._readout(node)
        elif isinstance(node, kinds.Pool) and node.function == "max":
            value = self._max_pool(node)
        elif called(node) in self.arriving and isinstance(node, (kinds.Input, kinds.Encode)):
            value = _as_value(self._given(OF_STEP + self.arriving[called(node)][0], node.shape))
        else:
            value = self._linear(node)
        self.found[node.name] = value

    def _linear(self, node):
        taken = [self._value(name) for name in node.inputs]
        if isinstance(node, kinds.Add):
            return values.summed(node.shape, taken)
        taken = [self._without_products(value) for value in taken]
        if isinstance(node, kinds.Concatenate):
            return values.concatenated(node, taken)
        makers = {
            kinds.Affine: values.weighted,
            kinds.ChannelAffine: values.scaled,
            kinds.Rearrange: values.moved,
            kinds.Pool: values.averaged,
        }
        if isinstance(node, kinds.Activation) and self.of_integers:
            return self._rounded(node, taken[0])
        maker = makers.get(type(node))
        if maker is None:
            error = _ConstantError if node.name in self.constant else UnsupportedError
            raise error(f"layer '{called(node)}': {type(node).__name__} at every step")
        return maker(node, taken[0])

    def _rounded(self, node, value):
        """Return what comes in, or what layers make of it, rounded to integers."""
        signal = self._sum(value)
        bounds = self.add_weights([0 if node.function == "relu" else -node.levels, node.levels])
        self.operation("round", signal.value, signal.places * signal.width // LANES, signal.word, bounds)
        return _as_value(signal)

    def _value(self, name):
        """Return the value of a node, which may be constant."""
        if name in self.constant and not self.is_once:
            return _as_value(self._constant(name))
        return self.found[name]

    def _without_products(self, value):
        """Return a value that has no products: their sum is a signal of its own."""
        return _as_value(self._as_signal(value)) if value.products else value

    def _neurons(self, node):
        form, (target, *sent) = form_of(node.neuron), self.states[node.name]
        signal = self.signal(node.shape) if form.is_binary else self.sum_of_step(node.shape)
        size = signal.places * signal.width
        if form.leak != 1:
            self.operation("scale", target, size, self.add_weights([form.leak]), after=form.delay)
        value, drive = Value(node.shape), -1
        if node.inputs[0] in self.constant:
            drive = self._drive_of(node)
        else:
            value = self._value(node.inputs[0])
        if form.current:
            shift = np.broadcast_to(np.asarray(form.current), node.shape)
            value = values.summed(node.shape, [value, Value(node.shape, shift=shift)])
        if form.is_binary and form.leak == 1 and self.adds_whole_places(value):
            self.fire_sums(value, form, signal, target, drive)
            return self._of_neurons(node, signal, target)
        self.accumulate(value, target, after=form.delay)
        thresholds = self.add_thresholds(form, signal, signal.width)
        if form.is_binary:
            fields = (target, size // LANES, signal.word, thresholds, form.reset == "zero", drive)
            self.operation("fire", *fields, signal.width, after=form.delay)
        else:
            self._fire_values(form, signal, target, sent[0] if sent else -1, drive, thresholds)
        return self._of_neurons(node, signal, target)

    def _of_neurons(self, node, signal, target):
        """Note where the potentials and spikes of neurons are; return their spikes as a value."""
        self.potentials[called(node)] = dataclasses.replace(signal, value=target)
        self.sent[called(node)] = signal
        return _as_value(signal)

    def _fire_values(self, form, signal, target, sent, drive, thresholds):
        """Add the operations of neurons whose spikes have several sizes or signs."""
        size = signal.places * signal.width
        numbers = (form.unit, form.lowest, form.levels)
        bounds = padded(np.broadcast_to(np.asarray(form.largest), (signal.channels,)))
        fields = (
            signal.value,
            sent,
            drive,
            self.add_weights(numbers),
            signal.width,
            self.add_weights(bounds),
            thresholds,
        )
        if form.delay:
            # Else what the last sample left would be there.
            self.operation("scale", signal.value, size, self.nothing)
        self.operation("fire_values", target, size, *fields, after=form.delay)
        self.operation("mark", signal.value, size // LANES, signal.word, after=form.delay)

    def _readout(self, node):
        target, *of_sums = self.states[node.name]
        signal = Signal(node.shape, -1, target)
        if node.inputs[0] in self.constant:
            drive = self._drive_of(node)
            fields = (target, signal.places, signal.width, drive, signal.width, True)
            self.operation("add_vector", *fields, after=node.delay)
        elif self.of_integers:
            self.accumulate(self._value(node.inputs[0]), target, after=node.delay)
        else:
            # Summed up by itself first: a sum of thousands of steps rounds what single spikes add to it.
            step = self._sum(self._value(node.inputs[0]))
            fields = (target, signal.places, signal.width, step.value, signal.width, True)
            self.operation("add_vector", *fields, after=node.delay)
        if of_sums:
            # With the sum of the sums after every step, n of them, Σ s·z is (n + 1)·Σ z less that.
            fields = (of_sums[0], signal.places, signal.width, target, signal.width, True)
            self.operation("add_vector", *fields, after=node.delay)
            signal = Signal((2, *node.shape), -1, target)
        self.potentials[called(node)], self.readouts[called(node)] = signal, node

    def _max_pool(self, node):
        value, (sums, largest) = self._value(node.inputs[0]), self.states[node.name]
        taken = self._as_signal(value)
        is_binary = taken.value < 0
        words = taken.width // LANES
        windows = maps.windows_of(node, taken.shape)
        places = int(np.prod(node.shape[:-1], dtype="int64"))
        signal = self.signal(node.shape) if is_binary else self.sum_of_step(node.shape)
        self.sent[called(node)] = signal
        if is_binary and maps.are_apart(windows, places, 4):
            table = self.add_table(windows[np.argsort(windows[:, 0], kind="stable"), 1])
            fields = (places, table, sums, largest, signal.word, taken.word, words)
            self.operation("take_maximum_of_four", *fields)
            return _as_value(signal)
        first = self.add_table(maps.by_place(windows, places)[0])
        fields = (places, first, largest, signal.word, words)
        if is_binary:
            self.operation("take_maximum_of_spikes", taken.places * words, sums, taken.word, *fields)
        else:
            fields = (taken.value, *fields, signal.value)
            self.operation("take_maximum", taken.places * words, sums, *fields)
        return _as_value(signal)

    def _as_signal(self, value):
        """Return the signal that a value is, or a new one of its sum."""
        if len(value.parts) == 1 and not value.products and value.shift is None:
            (part,) = value.parts
            if part.signal.shape == value.shape and np.ndim(part.factors) == 0 and part.factors == 1:
                places = part.places
                if len(places) == 1 and np.array_equal(places.ravel(), np.arange(places.size)):
                    return part.signal
        signal = self._sum(value)
        self.operation("mark", signal.value, signal.places * signal.width // LANES, signal.word)
        return signal

    def _sum(self, value):
        """Return a new signal with the numbers of a value, whose bits are still to be set."""
        signal = self.sum_of_step(value.shape)
        self.operation("scale", signal.value, signal.places * signal.width, self.nothing)
        self.accumulate(value, signal.value)
        return signal


def _as_value(signal, shape=None):
    """Return the value that a signal is, which may be kept in another shape."""
    shape = signal.shape if shape is None else shape
    places = np.arange(int(np.prod(shape, dtype="int64")), dtype="int32").reshape(1, *shape)
    return Value(shape, (values.Part(signal, places),))
