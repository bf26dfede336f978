"""NIR files, which simulators and the tool chains of chips read.

A file has layers, weights and neurons. It has no field for how a neuron is reset, where
it starts, and how long a step is: files written here have these in their metadata, and readers have to
be configured.
"""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Literal, get_args

import keras
import numpy as np

from keras_snn import neurons
from keras_snn._files import output_path, replacing
from keras_snn._validation import check_choice, check_number, check_timesteps
from keras_snn._version import __version__
from keras_snn.conversion.place_neurons import place_readouts
from keras_snn.errors import ExportError, list_parts
from keras_snn.export.from_nir import graph_of
from keras_snn.export.nir_neurons import settings_of
from keras_snn.export.pools import without_pools
from keras_snn.export.to_nir import nir_graph, write_neuron
from keras_snn.graph import nodes as kinds
from keras_snn.graph.graph import Graph, free_name
from keras_snn.graph.program import make_program, without_readouts
from keras_snn.neurons.integrate_and_fire import Reset
from keras_snn.neurons.thresholds import plain
from keras_snn.simulation.building import build
from keras_snn.simulation.from_layers import as_spiking_model, is_handwritten
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import program_of

__all__ = ["export_nir", "import_nir"]

# What readers may do otherwise than these neurons.
Difference = Literal["reset", "threshold", "initial_potential"]
PoolingForm = Literal["sum", "average", "convolution"]
OutputForm = Literal["current", "spikes"]
_OF_OTHER_FORMATS = (".onnx", ".tflite", ".keras", ".pb")
# What the text of NIR demands, what ours do, and how to comply with the text.
_DIFFERENCES = {
    "reset": (
        "NIR resets to v_reset; these subtract the threshold",
        "convert with IntegrateAndFire(reset='zero')",
    ),
    "threshold": (
        "NIR fires at v > v_threshold; these at v ≥ v_threshold, and what they subtract is v_threshold",
        "reset to zero, which the file expresses exactly",
    ),
    "initial_potential": (
        "NIR has no potential before the first step, and readers start at 0",
        "convert with IntegrateAndFire(initial_potential=0.0)",
    ),
}


def export_nir(
    snn: keras.Model,
    path: str | os.PathLike,
    *,
    dt: float = 1.0,
    accept: Difference | Iterable[Difference] = (),
    pooling: PoolingForm = "sum",
    output: OutputForm = "current",
    output_threshold: float = 1.0,
    compact: bool = False,
) -> None:
    """Write a spiking network as a NIR file.

    Weights are written as they are, channels first; every layer of neurons is one `IF`, or `LIF` if it
    leaks, whose arrays have the shape of its values. What the format has no field for is in the metadata
    of the graph and of each layer of neurons. The package `nir` from 1.0.4 on reads it.

    Args:
        snn: A `SpikingModel`; or a Sequential or Functional model of spiking layers.
        path: Name of the file, mostly `.nir`; none that ends in the suffix of another format.
        dt: Length of a time step, in the unit that the reader uses. r of the neurons is 1 / dt, so that a
            step adds the current as it is; not all readers take another r than 1.
        accept: Names of what readers may do differently, as they follow the text of NIR and not the
            metadata: any of `"reset"`, `"threshold"` and `"initial_potential"`. What is written does not
            depend on it. With reset to zero there is nothing to accept of the threshold: it is the next
            smaller number, so that v > threshold is v ≥ v_threshold.
        pooling: Average pooling as `"sum"`: `SumPool2d`, and what it is divided by goes into the next
            weights; `"average"`: `AvgPool2d`; `"convolution"`: `Conv2d`, which all readers know.
        output: `"current"`: the last layer gives currents, to be averaged over time. `"spikes"`:
            neurons after it, to be counted.
        output_threshold: Activation of the last layer that one spike per step stands for, with
            `output="spikes"`; negative ones give no spikes.
        compact: Whether grouped convolutions and kernels that are not square are written as such. They
            are smaller, but `nir.read` rejects them unless `type_check=False`; otherwise zeros fill them.

    Raises:
        ExportError: If the network has parts that NIR cannot express, or that it defines differently and
            that are not accepted; lists all of them.
        TypeError, ValueError: If an argument is not what it may be.
        ImportError: If the package `nir` is not installed.

    Source:
        Pedersen et al. (2024), "Neuromorphic intermediate representation", Nature Communications 15:8122,
        doi:10.1038/s41467-024-52259-9; where that and the package `nir` differ, the package.
    """
    nir = _nir()
    check_number("dt", dt, above=0)
    check_choice("pooling", pooling, get_args(PoolingForm))
    check_choice("output", output, get_args(OutputForm))
    check_number("output_threshold", output_threshold, above=0)
    accept = _checked_accept(accept)
    path = output_path("path", path)
    if path.suffix in _OF_OTHER_FORMATS:
        raise ValueError(
            f"`path` must end in .nir. Received: path='{path}', the name of another format. "
            "Change the name, or use snn.export."
        )

    model = as_spiking_model(snn) if is_handwritten(snn) else snn
    graph = program_of(model).graph
    readouts, obstacles = _readouts(graph)
    if output != "spikes":
        graph = _without_scales(graph)
    graph = without_readouts(graph)
    if output == "spikes":
        graph, readouts = _with_output_neurons(graph, output_threshold), {}
    _check_differences(model.name, graph, accept)
    graph, sums = without_pools(graph, pooling)
    nodes, edges, more = nir_graph(
        graph,
        sums,
        lambda neuron, dtype: write_neuron(neuron, dtype, dt=dt),
        compact=compact,
    )
    if obstacles or more:
        raise ExportError(list_parts(model.name, "that a NIR file cannot express", [*obstacles, *more]))
    metadata = _metadata(model, graph, dt=dt) | readouts
    if model.weight_bits is not None:
        metadata |= {"weight_bits": model.weight_bits, "takes": "integers"}
    written = nir.NIRGraph(nodes, edges, metadata=metadata, type_check=not compact)
    with replacing(path) as (temporary,):
        nir.write(temporary, written)
        _drop_v_reset(temporary)


def import_nir(
    path: str | os.PathLike,
    *,
    timesteps: int | None = None,
    input_encoding: Literal["current", "events"] | None = None,
    reset: Reset | None = None,
    initial_potential: float | None = None,
    dt: float | None = None,
    name: str | None = None,
) -> SpikingModel:
    """Read a NIR file as a spiking network.

    Args:
        path: Name of the file.
        timesteps: Number of steps of a call.
        input_encoding: `"current"`, the same input at every step; or `"events"`, input with a time axis.
        reset: `"zero"` or `"subtract"`.
        initial_potential: Potential of the neurons before the first step, as a fraction of the threshold.
        dt: Length of a time step, in the unit of the time constants.
        name: Name of the model.
            What is `None` is taken from the metadata of a file of `export_nir`; else `timesteps` is 64, the
            input a current, and neurons are as in the text of NIR, of which a warning informs: reset to zero,
            fire above the threshold, start at 0, with steps so long that a current adds as it is.

    Returns:
        A `SpikingModel`. Its inputs have channels last. It returns the average over time of what the
        file gives, with the activation that its metadata names.

    Raises:
        UnsupportedLayerError: If the file has nodes or parameters that this package cannot express; lists
            all of them.
        ValueError: If it is no NIR file, or an argument is not what it may be.
        ImportError: If the package `nir` is not installed.
    """
    nir = _nir()
    path = pathlib.Path(path)
    if input_encoding is not None:
        check_choice("input_encoding", input_encoding, ("current", "events"))
    if reset is not None:
        check_choice("reset", reset, ("zero", "subtract"))
    if initial_potential is not None:
        check_number("initial_potential", initial_potential)
    if dt is not None:
        check_number("dt", dt, above=0)
    if timesteps is not None:
        check_timesteps(timesteps)
    if not path.is_file():
        raise ValueError(f"`path` must name a NIR file. Received: path='{path}', no such file.")
    try:
        source = nir.read(path, type_check=False)
    except Exception as error:
        raise ValueError(f"`path` must name a NIR file. Received: path='{path}' ({error}).") from error
    if not isinstance(source, nir.NIRGraph):
        raise ValueError(f"`path` must hold a NIRGraph. Received: a {type(source).__name__}.")
    given = {"reset": reset, "initial_potential": initial_potential, "dt": dt}
    settings = settings_of(source.metadata, given)
    graph, assumed = graph_of(source, settings)
    if assumed:
        warnings.warn(
            f"'{path.name}' lacks {', '.join(assumed)}. Assumed: "
            f"{'; '.join(assumed.values())}. Give import_nir what the network was trained with.",
            stacklevel=2,
        )
    metadata = source.metadata
    encoding = input_encoding or metadata.get("input", "current")
    program = make_program(
        _with_averages(place_readouts(graph), metadata),
        timesteps=metadata.get("timesteps", 64) if timesteps is None else timesteps,
        events=encoding == "events",
    )
    return build(program, name=name or path.stem)


def _checked_accept(accept):
    """Return `accept` as a tuple."""
    if isinstance(accept, str):
        accept = (accept,)
    if not isinstance(accept, Iterable):
        raise TypeError(
            f"`accept` must be names of differences. Received: accept={accept!r}. Use any of "
            f"{', '.join(map(repr, get_args(Difference)))}."
        )
    return tuple(check_choice("accept", name, get_args(Difference)) for name in accept)


def _nir():
    try:
        import nir
    except ImportError as error:
        raise ImportError(
            f"NIR files need the package nir. Received: {error}. Install it: pip install 'keras-snn[nir]'."
        ) from error
    return nir


def _neurons(graph):
    return [node for node in graph.nodes.values() if isinstance(node, kinds.Spike)]


def _check_differences(name, graph, accept):
    """Raise for what a reader that follows the text would compute otherwise, and that is not accepted."""
    found = {}
    for node in _neurons(graph):
        neuron = node.neuron
        if neuron.nir_form(1.0) is None:
            # The writer refuses it.
            continue
        subtracts = neuron.reset == "subtract"
        differs = {
            "reset": subtracts,
            "threshold": subtracts,
            "initial_potential": neuron.initial_potential != 0,
        }
        for what in get_args(Difference):
            if differs[what] and what not in accept:
                found.setdefault(what, []).append(node.origins[0] if node.origins else node.name)
    if not found:
        return
    lines = [f"Model '{name}' does {len(found)} things that a NIR file has no field for:"]
    for what, layers in found.items():
        text, way_out = _DIFFERENCES[what]
        lines.append(f"  - {what}: {text} ({', '.join(map(repr, layers))}). Instead: {way_out}.")
    everything = (*accept, *found)
    lines.append(
        f"To write it anyway, with this in the metadata, call export_nir(…, accept={everything!r}), and "
        "configure the reader as docs/deploying.md shows."
    )
    raise ExportError("\n".join(lines))


def _readouts(graph):
    """Return what is after the outputs, as metadata of the graph, and obstacles.

    It is `"output_activation"` for what nir 1.0.4 could not read as metadata of the node `"output"`.
    """
    readouts, obstacles = {}, []
    for i, name in enumerate(graph.output_names):
        node = graph.nodes[name]
        averages = isinstance(node, kinds.Readout)
        # Spikes of a softmax are averaged by a read-out of their own.
        before = graph.nodes[node.inputs[0]] if averages else node
        for one in (node, before):
            if isinstance(one, kinds.Encode) or (isinstance(one, kinds.Readout) and one.draws):
                way_out = "convert with softmax='potential'"
                obstacles.append((one.origins[0], "SpikingSoftmax", "no random spikes", way_out))
        metadata = {"readout": "mean over time" if averages else "last step"}
        if averages and node.delay:
            metadata["readout_delay"] = node.delay
        if averages and node.weighting != "uniform":
            metadata["readout_weighting"] = node.weighting
        if averages and node.scale != 1:
            metadata["scale"] = np.asarray(node.scale)
        if averages and node.shift != 0:
            metadata["shift"] = np.asarray(node.shift)
        if averages and node.function != "linear":
            metadata["activation"] = node.function
            if node.function == "softmax":
                metadata["axis"] = node.axis
        output = "output" if len(graph.output_names) == 1 else f"output_{i}"
        readouts |= {f"{output}_{what}": value for what, value in metadata.items()}
    return readouts, obstacles


def _without_scales(graph):
    """Return the graph whose read-outs do not multiply, which readers of the metadata do."""
    nodes = {
        name: dataclasses.replace(node, scale=1.0) if isinstance(node, kinds.Readout) else node
        for name, node in graph.nodes.items()
    }
    return graph.with_nodes(nodes)


# How a read-out averages: in the metadata, in the node, and what makes the one from the other.
_AVERAGES = (
    ("scale", "scale", plain),
    ("shift", "shift", plain),
    ("readout_delay", "delay", int),
    ("readout_weighting", "weighting", str),
)


def _with_averages(graph, metadata):
    """Return the graph whose read-outs average as the metadata has it."""
    nodes, names = dict(graph.nodes), graph.output_names
    for i, name in enumerate(names):
        output = "output" if len(names) == 1 else f"output_{i}"
        found = {
            field: read(metadata[f"{output}_{what}"])
            for what, field, read in _AVERAGES
            if f"{output}_{what}" in metadata
        }
        nodes[name] = dataclasses.replace(nodes[name], **found)
    return graph.with_nodes(nodes)


def _with_output_neurons(graph, v_threshold):
    """Return the graph with neurons instead of activations after its outputs."""
    for name in dict.fromkeys(graph.output_names):
        node = graph.nodes[name]
        if isinstance(node, kinds.Activation):
            graph = graph.with_nodes(graph.nodes, {name: node.inputs[0]})
    known = [node.neuron for node in _neurons(graph)]
    neuron = known[-1] if known else neurons.IntegrateAndFire()
    neuron = neuron.with_threshold(v_threshold)
    for name in dict.fromkeys(graph.output_names):
        node = graph.nodes[name]
        if not isinstance(node, kinds.Spike):
            spike = kinds.Spike(
                name=free_name(f"{name}/spike", graph.nodes),
                inputs=(name,),
                shape=node.shape,
                origins=node.origins,
                neuron=neuron,
            )
            # With other users of the node, only the output is after the neurons.
            outputs = [spike.name if output == name else output for output in graph.output_names]
            graph = Graph({**graph.nodes, spike.name: spike}, graph.inputs, tuple(outputs))
    return graph


def _metadata(model, graph, *, dt):
    """Return the metadata of the graph, plain values."""
    found = {
        "reset": {node.neuron.reset for node in _neurons(graph)},
        "initial_potential": {node.neuron.initial_potential for node in _neurons(graph)},
    }
    metadata = {what: values.pop() for what, values in found.items() if len(values) == 1}
    above = metadata.get("reset") == "zero"
    return {
        **metadata,
        "threshold": ">" if above else ">=",
        "dt": float(dt),
        "timesteps": model.timesteps,
        "input": "events" if internals(model).network.events else "current",
        "written_by": f"keras_snn {__version__}",
    }


def _drop_v_reset(path):
    """Leave out v_reset where it is 0, which readers take it for; before nir 1.0.5 they do not know it."""
    import h5py

    with h5py.File(path, "r+") as file:
        for node in file["node/nodes"].values():
            if "v_reset" in node and not np.any(node["v_reset"][()]):
                del node["v_reset"]
