"""The analyses of the package on several machines, by Ray Data: `pip install 'keras-snn[ray]'`.

Each function takes a `ray.data.Dataset` and returns what the function of the same name returns on one
machine. The columns are named as the inputs of the model, or there is one beside the labels, whose column is
`labels`. Workers sum up one part of the data after the other, and these summaries are merged here, so that
memory does not grow with the data. A worker that dies is started again, and its part runs again.

All take the arguments of `Cluster` too: `address`, `workers`, `cpus`, `gpus`, `part_size`, `fan_in`, `resume`
and `verbose`.
"""

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Literal

import keras

from keras_snn import summaries
from keras_snn._types import AnyModel
from keras_snn.analysis.diagnosis import Diagnosis
from keras_snn.analysis.energy import Figures, check_figures
from keras_snn.analysis.exit_calibration import ExitCalibration
from keras_snn.analysis.operation_counts import OperationCounts
from keras_snn.conversion.calibration import RemoteData
from keras_snn.conversion.convert import convert as convert_here
from keras_snn.distributed.candidates import cheapest
from keras_snn.distributed.cluster import Cluster, columns_of, first_rows, merged
from keras_snn.distributed.worker import Analysis, CalibrationTask
from keras_snn.graph.tracing import names_of_inputs
from keras_snn.reporting.report import Report
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import check_spiking
from keras_snn.simulation.statistics import SimulationStatistics

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = [
    "Cluster",
    "calibrate_exit",
    "convert",
    "count_operations",
    "diagnose",
    "evaluate",
    "report",
    "simulate",
]


def evaluate(
    model: SpikingModel, dataset: "Dataset", labels: str, *, batch_size: int = 32, **cluster: Any
) -> dict[str, float]:
    """Return the loss and the metrics of a compiled spiking model, as `evaluate(…, return_dict=True)` does.

    Metrics add up as on several devices: their variables are summed.

    Args:
        model: A `SpikingModel`, compiled.
        dataset: The samples; see `keras_snn.distributed`.
        labels: Column of the labels.
        batch_size: Samples that run together.
        cluster: Arguments of `Cluster`.

    Returns:
        A dict of numbers by name.

    Raises:
        TypeError, ValueError, ImportError: If an argument is not what it may be, or Ray is not installed.
    """
    summary = _summary(model, "evaluate", dataset, labels, cluster, batch_size=batch_size)
    # So that metrics have their variables here.
    x, y = first_rows(dataset, columns_of(dataset, _names_of(model), labels), labels, 1)
    model.evaluate(x if len(x) > 1 else next(iter(x.values())), y, verbose=0)
    return summaries.result(model, summary)


def simulate(
    model: SpikingModel,
    dataset: "Dataset",
    labels: str | None = None,
    *,
    timesteps: int | None = None,
    record: Any = (),
    exit: Literal["confidence"] | None = None,  # noqa: A002 - what the field calls it
    level: float | None = None,
    folder: str | os.PathLike | None = None,
    batch_size: int = 32,
    **cluster: Any,
) -> SimulationStatistics:
    """Simulate a spiking model: accuracies and firing rates, and outputs and records part by part.

    Args:
        model: A `SpikingModel`.
        dataset: The samples; see `keras_snn.distributed`.
        labels: Column of the labels, or `None`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        record: What is kept of every neuron, as of `SpikingModel.simulate`.
        exit: As of `SpikingModel.simulate`.
        level: Confidence at which a sample ends, with `exit`.
        folder: Folder, the same on all machines, where workers write what grows with the samples, for
            `keras_snn.summaries.read_parts`; `None` for nowhere, which allows spike counts alone to be
            recorded.
        batch_size: Samples that run together.
        cluster: Arguments of `Cluster`.

    Returns:
        A `SimulationStatistics`.

    Raises:
        TypeError, ValueError, ImportError: If an argument is not what it may be, or Ray is not installed.
    """
    options = {
        "timesteps": timesteps,
        "record": record,
        "exit": exit,
        "level": level,
        "batch_size": batch_size,
    }
    if folder is not None:
        options["folder"] = os.path.abspath(folder)
    summary = _summary(model, "simulate", dataset, labels, cluster, **options)
    return summaries.result(model, summary, folder=folder)


def count_operations(
    model: SpikingModel,
    dataset: "Dataset",
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    **cluster: Any,
) -> OperationCounts:
    """Count the operations of a spiking model, as `keras_snn.count_operations` does.

    Args:
        model: A `SpikingModel`.
        dataset: The samples; see `keras_snn.distributed`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        cluster: Arguments of `Cluster`.

    Returns:
        An `OperationCounts`.

    Raises:
        TypeError, ValueError, ImportError: If an argument is not what it may be, or Ray is not installed.
    """
    options = {"timesteps": timesteps, "batch_size": batch_size}
    return summaries.result(model, _summary(model, "count_operations", dataset, None, cluster, **options))


def diagnose(
    model: SpikingModel,
    dataset: "Dataset",
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    **cluster: Any,
) -> Diagnosis:
    """Compare rates with activations, as `keras_snn.diagnose` does.

    Args:
        model: A `SpikingModel`.
        dataset: The samples; see `keras_snn.distributed`.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        cluster: Arguments of `Cluster`.

    Returns:
        A `Diagnosis`.

    Raises:
        TypeError, ValueError, ImportError: If an argument is not what it may be, or Ray is not installed.
    """
    options = {"timesteps": timesteps, "batch_size": batch_size}
    return summaries.result(model, _summary(model, "diagnose", dataset, None, cluster, **options))


def calibrate_exit(
    model: SpikingModel,
    dataset: "Dataset",
    labels: str,
    *,
    max_loss: float = 0.001,
    timesteps: int | None = None,
    batch_size: int = 32,
    **cluster: Any,
) -> ExitCalibration:
    """Choose the confidence at which samples may leave early, as `keras_snn.calibrate_exit` does.

    Args:
        model: A `SpikingModel` that classifies.
        dataset: The samples; see `keras_snn.distributed`.
        labels: Column of the labels.
        max_loss: Accuracy that may be lost, a fraction.
        timesteps: Number of steps; `model.timesteps` if `None`.
        batch_size: Samples that run together.
        cluster: Arguments of `Cluster`.

    Returns:
        An `ExitCalibration`.

    Raises:
        TypeError, ValueError, ImportError: If an argument is not what it may be, or Ray is not installed.
    """
    options = {"timesteps": timesteps, "batch_size": batch_size}
    summary = _summary(model, "calibrate_exit", dataset, labels, cluster, **options)
    return summaries.result(model, summary, max_loss=max_loss)


def report(
    model: SpikingModel,
    dataset: "Dataset",
    labels: str | None = None,
    *,
    path: str | os.PathLike | None = "report.html",
    timesteps: int | None = None,
    energy: Figures = "45nm_float32",
    batch_size: int = 32,
    **cluster: Any,
) -> Report:
    """Report accuracy, costs and losses of a spiking model, as `keras_snn.report` does.

    Args:
        model: A `SpikingModel`.
        dataset: The samples; see `keras_snn.distributed`.
        labels: Column of the labels, or `None`.
        path: Where to write the HTML file, with a .json file beside it; `None` to write nothing.
        timesteps: Number of steps; `model.timesteps` if `None`.
        energy: Figures of the energy estimate, as of `keras_snn.report`.
        batch_size: Samples that run together.
        cluster: Arguments of `Cluster`.

    Returns:
        A `Report`.

    Raises:
        TypeError, ValueError, ImportError: If an argument is not what it may be, or Ray is not installed.
    """
    check_figures("energy", energy)
    options = {"timesteps": timesteps, "batch_size": batch_size}
    summary = _summary(model, "report", dataset, labels, cluster, **options)
    found = summaries.result(model, summary, energy=energy)
    if path is not None:
        found.save(path)
    return found


def convert(
    model: AnyModel,
    dataset: "Dataset",
    labels: str | None = None,
    *,
    samples: int = 1000,
    **options: Any,
) -> SpikingModel:
    """Convert a model with scales that follow from all of a dataset, as `keras_snn.convert` does.

    Args:
        model: The trained model.
        dataset: The calibration data; see `keras_snn.distributed`.
        labels: Column of the labels, for `max_loss`; or `None`.
        samples: How many of the first rows come here, for whatever else is chosen on the data, which takes
            some hundred samples at most; and for `max_loss`, which takes all of these and searches each kind
            of neuron on a worker of its own.
        options: Arguments of `Cluster`, and the other ones of `keras_snn.convert`.

    Returns:
        A `SpikingModel`.

    Raises:
        TypeError, ValueError, ImportError: As of `keras_snn.convert`, or Ray is not installed.
    """
    names = {field.name for field in dataclasses.fields(Cluster)}
    cluster = Cluster(**{name: options.pop(name) for name in names if name in options})
    verbose = cluster.verbose
    cluster.join()
    inputs = columns_of(dataset, _names_of(model), labels)
    x, y = first_rows(dataset, inputs, labels, samples)
    only = x if len(x) > 1 else next(iter(x.values()))
    if options.get("max_loss") is not None:
        return cheapest(model, only, y, cluster, **options)

    def summarize(calibration):
        return merged(CalibrationTask(calibration), dataset, inputs, labels, cluster)

    return convert_here(model, RemoteData(only, summarize), verbose=verbose, **options)


def _summary(model, kind, dataset, labels, cluster, **options):
    """Return the merged `Summary` of a function of `keras_snn.summaries`."""
    check_spiking(model)
    cluster = Cluster(**cluster)
    cluster.join()
    inputs = columns_of(dataset, _names_of(model), labels)
    return merged(Analysis.of(kind, model, options), dataset, inputs, labels, cluster)


def _names_of(model):
    """Return the names of the inputs of a model."""
    if isinstance(model, SpikingModel):
        names = internals(model).network.inputs
        return list(names) if isinstance(names, dict) else keras.tree.flatten(names)
    return names_of_inputs(model)
