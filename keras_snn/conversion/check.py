"""The dry run of a conversion: what would become of every layer."""

import dataclasses
import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

from keras_snn._results import Result, Rows
from keras_snn._table import show_table
from keras_snn._types import AnyModel, Data
from keras_snn._validation import check_choice
from keras_snn.analysis.input_shares import InputShares, input_shares
from keras_snn.conversion.convert import convert
from keras_snn.conversion.normalization import relus
from keras_snn.conversion.options import NonSpikingParts, Options
from keras_snn.conversion.scales import options_by_layer
from keras_snn.conversion.sizes import first_shapes, fitting_shapes, functional
from keras_snn.conversion.to_program import measured_graph, policy_of, spiking_program
from keras_snn.graph import nodes as kinds
from keras_snn.graph.lowering import inspect_model
from keras_snn.graph.nonspiking import in_readout, of_input
from keras_snn.graph.passes import free_output_relus
from keras_snn.graph.tracing import any_shapes, open_inputs

__all__ = ["CheckReport", "Verdict", "check"]

# Spikes of a neuron in a step, from hardly any to many.
_RATES = (0.001, 0.03, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What would become of one call of a layer.

    Attributes:
        path: Name of the layer, after those of the models that it is in.
        layer_class: Its class.
        becomes: `"neurons"`, `"linear"`, `"max pooling"`, `"nothing"` (it acts in training only),
            `"computed once"` (of the input alone, which is the same at every time step), `"read-out"` (it
            acts on the average over time), `"non-spiking"`, or `"?"` if it cannot be converted.
        reason, way_out: Why it cannot be converted or does not spike, and what to do instead, if anything.
        takes: What its weights would take: `InputShares`, or `None` without weights, or if parts of the model
            cannot be converted.
    """

    path: str
    layer_class: str
    becomes: str
    reason: str = ""
    way_out: str = ""
    takes: InputShares | None = None

    @property
    def shown(self) -> str:
        """What its weights would take, in words."""
        return "" if self.takes is None else str(self.takes)


@dataclasses.dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """The verdicts on all layers of a model, in order; `print` it for a table.

    Attributes:
        verdicts: The `Verdict`s.
        nonspiking: As it was given.
        notes: What else there is to know, in sentences: the sizes that it was checked at.
    """

    verdicts: tuple[Verdict, ...]
    nonspiking: str = "error"
    notes: tuple[str, ...] = ()

    @property
    def converts(self) -> bool:
        """Whether `convert` would accept the model, with data of its sizes where it leaves some open."""
        becomes = {v.becomes for v in self.verdicts}
        return "?" not in becomes and ("neurons" in becomes or self.nonspiking == "allow")

    @property
    def share_of_spikes(self) -> float | None:
        """Share of the multiply-adds done at every step that take spikes; `None` if that is not known."""
        taken = [v.takes for v in self.verdicts if v.takes is not None]
        at_steps = sum(shares.spikes + shares.numbers for shares in taken)
        return sum(shares.spikes for shares in taken) / at_steps if at_steps else None

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        refused = sum(v.becomes == "?" for v in self.verdicts)
        why = f", {refused} refused" if refused else "" if self.converts else ", none of them spikes"
        return f"{len(self.verdicts)} layers{why}; {'converts' if self.converts else 'does not convert'}"

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: what becomes of each layer, and why where it does not."""
        names = ("layer", "class", "becomes", "takes", "why", "instead")
        rows = [(v.path, v.layer_class, v.becomes, v.shown, v.reason, v.way_out) for v in self.verdicts]
        # Only the columns that have something in them.
        kept = [i for i in range(len(names)) if i < 3 or any(row[i] for row in rows)]
        return [[tuple(row[i] for i in kept) for row in [names, *rows]]]

    def __str__(self):
        return self.show()

    def show(self, width: int | None = None) -> str:
        """Return the report as text, in lines of at most `width` characters as far as that goes."""
        rows = [row[:4] if self.share_of_spikes is not None else row[:3] for row in self.tables()[0]]
        notes = [
            f"'{v.path}': {v.reason}." + (f" Instead: {v.way_out}." if v.way_out else "")
            for v in self.verdicts
            if v.reason
        ]
        notes += [
            f"'{v.path}' takes numbers: {v.takes.hint}." for v in self.verdicts if v.takes and v.takes.hint
        ]
        if self.share_of_spikes is not None:
            share = f"{self.share_of_spikes:.0%}"
            notes.append(f"Of the multiply-adds that are done at every step {share} take spikes.")
        notes += self.notes
        if not any(v.becomes == "neurons" for v in self.verdicts):
            notes.append("Nothing would spike. Train with activation='relu'.")
        if width is not None:
            notes = [textwrap.fill(note, width) for note in notes]
        return "\n".join([show_table(rows, width=width), *([""] if notes else []), *notes])


def check(
    model: AnyModel,
    calibration_data: Data | None = None,
    *,
    input_shapes: Iterable[Any] | None = None,
    nonspiking: NonSpikingParts = "error",
) -> CheckReport:
    """Report what `convert` would make of every layer of a model, without converting it.

    Args:
        model: A built Sequential, Functional or subclassed model. Not changed.
        calibration_data: As in `convert`, and read as there: its sizes fill in open ones, and how often
            neurons would fire decides where linear layers become one, as by default in `convert`.
        input_shapes: Shape without batch of the input, or a list of one for every input, in order: another
            way to give open sizes. With neither, the model is checked at sizes that fit most models.
        nonspiking: As in `convert`.

    Returns:
        A `CheckReport`.

    Raises:
        TypeError, ValueError: If `model` is no built Sequential or Functional model, or `input_shapes` does
            not fit it.
        CalibrationError: If the data does not fit it.
    """
    check_choice("nonspiking", nonspiking, ("error", "allow"))
    model = functional(model, calibration_data)
    if input_shapes is not None:
        shapes = fitting_shapes(model, input_shapes)
    else:
        shapes = first_shapes(model, calibration_data)
    (graph, callees, obstacles), notes = _inspect(model, shapes, nonspiking)
    refused = {path: rest for path, *rest in obstacles}
    parts = {path: [] for path in callees}
    graph = free_output_relus(graph)
    once, at_end = of_input(graph, callees), in_readout(graph, callees)
    for node in graph.nodes.values():
        for path in node.origins[:1]:
            parts.setdefault(path, []).append(node)
    shares = {} if obstacles else _input_shares(model, graph, calibration_data)
    if calibration_data is None and shares:
        notes = [*notes, *_of_rates(model, graph, shares)]
    verdicts = [
        Verdict(path, layer_class, "?", reason, way_out)
        for path, (layer_class, reason, way_out) in refused.items()
        if path not in callees
    ]
    for path, layer_class in callees.items():
        if not parts[path] and path not in refused and any(other.startswith(f"{path}/") for other in callees):
            # What its code does is listed instead.
            continue
        if path in refused:
            verdicts.append(Verdict(path, layer_class, "?", *refused[path][1:]))
        else:
            becomes = _becomes(parts[path], once, at_end)
            why = _why_nonspiking(parts[path]) if becomes == "non-spiking" else ()
            verdicts.append(Verdict(path, layer_class, becomes, *why, takes=shares.get(path)))
    return CheckReport(tuple(verdicts), nonspiking, tuple(notes))


def _input_shares(model, graph, data, rate=None):
    """Return what the layers of a graph with weights would take with the defaults of `convert`, by path.

    Args:
        model: The model.
        graph: The `Graph` of it.
        data: Calibration data, or `None`.
        rate: Spikes in a step of every neuron, in the place of what is measured.
    """
    defaults = {name: x.default for name, x in inspect.signature(convert).parameters.items()}
    given = {
        field.name: defaults[field.name] for field in dataclasses.fields(Options) if field.name in defaults
    }
    options = Options(**given | {"calibrated": data is not None, "verbose": 0})
    held, measured = measured_graph(graph, data, options, policy_of(model), with_scales=data is not None)
    of_graph = held, data, measured, options, options_by_layer(held[0], options)
    rates = None if rate is None else {node.name: rate for node in relus(held[0])}
    program, _ = spiking_program(
        *of_graph, method=options.normalization, policy=options.dtype or policy_of(model), rates=rates
    )
    return input_shares(program)


def _of_rates(model, graph, shares):
    """Return a note on the layers whose shares firing rates decide; `shares` as they are without data."""
    others = [_input_shares(model, graph, None, rate=rate) for rate in _RATES]
    found = {
        path: " or ".join(dict.fromkeys([str(known), *(str(other[path]) for other in others)]))
        for path, known in shares.items()
        if any(str(other[path]) != str(known) for other in others)
    }
    if not found:
        return []
    listed = "; ".join(f"'{path}' {either}" for path, either in found.items())
    way_out = "Give calibration_data to know which."
    return [f"How often neurons fire decides what some layers take: {listed}. {way_out}"]


def _inspect(model, shapes, nonspiking):
    """Return what `inspect_model` finds at some shapes, or at any; and notes on these."""
    if shapes is None and open_inputs(model):
        try:
            found = inspect_model(model, input_shapes=any_shapes(model), nonspiking=nonspiking)
        except ValueError:
            # The sizes that stand in for open ones do not fit: nothing more can be found out.
            return inspect_model(model, nonspiking=nonspiking), []
        named = " and ".join(f"'{name}' {shape}" for name, shape in open_inputs(model).items())
        note = (
            f"Open sizes: {named}, checked at {', '.join(map(str, any_shapes(model)))}. To convert it, give "
            "calibration_data of the sizes to run at; check takes it too, or input_shapes."
        )
        return found, [note]
    return inspect_model(model, input_shapes=shapes, nonspiking=nonspiking), []


def _why_nonspiking(nodes):
    """Return why a layer does not spike, and what to do instead."""
    for node in nodes:
        if isinstance(node, kinds.Opaque):
            return f"{node.reason}, so it runs on averages, without spikes", node.way_out
    function = next(node.function for node in nodes if isinstance(node, kinds.Activation))
    return (f"activation={function!r} acts on the average of its input, without spikes",)


def _becomes(nodes, once, at_end):
    """Return what the nodes of one layer become together.

    Args:
        nodes: The nodes.
        once: Names of the nodes that see the input alone.
        at_end: Names of those that are part of the read-out.
    """
    activations = [node for node in nodes if isinstance(node, kinds.Activation)]
    if any(node.becomes_spiking for node in activations):
        return "neurons"
    stay = {
        node.name
        for node in nodes
        if isinstance(node, kinds.Activation) or (isinstance(node, kinds.Opaque) and not node.is_linear)
    }
    if stay:
        return "computed once" if stay <= once else "read-out" if stay <= at_end else "non-spiking"
    if any(isinstance(node, kinds.Pool) and node.function == "max" for node in nodes):
        return "max pooling"
    return "linear" if nodes else "nothing"
