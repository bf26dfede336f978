"""Parts of the data, analysed apart and added up.

Each function runs a spiking model on some of the samples and returns a `Summary`, which is small and goes
into a file. `Summary.merge` adds those of all parts up, in any order, and `result` makes of it what the
function of the same name returns on one machine.
"""

from typing import Any, Literal

import keras

from keras_snn._summary import Summary, Totals
from keras_snn._types import Data
from keras_snn.analysis import counting, diagnosis, exit_calibration
from keras_snn.conversion.calibration import CalibrationPass, RemoteData
from keras_snn.reporting import report as reporting
from keras_snn.simulation.model import SpikingModel
from keras_snn.simulation.source import alone, check_spiking, digest_of
from keras_snn.simulation.statistics import (
    SimulationStatistics,
    read_parts,
    statistics_of,
    summarize_simulation,
)

__all__ = [
    "CalibrationPass",
    "RemoteData",
    "SimulationStatistics",
    "Summary",
    "calibrate_exit",
    "count_operations",
    "diagnose",
    "evaluate",
    "read_parts",
    "report",
    "result",
    "simulate",
]


def count_operations(
    model: SpikingModel,
    x: Data,
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
    first_row: int = 0,
) -> Summary:
    """Return the summary of `keras_snn.count_operations`, whose arguments these are.

    `first_row` is the number of the first of these samples among all, as of the other functions here.
    """
    with alone(model):
        return counting.summarize_operations(
            model, x, timesteps=timesteps, batch_size=batch_size, verbose=verbose, first_row=first_row
        )


def diagnose(
    model: SpikingModel,
    x: Data,
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
    first_row: int = 0,
) -> Summary:
    """Return the summary of `keras_snn.diagnose`, whose arguments these are.

    `first_row` is the number of the first of these samples among all: pairs of an activation and a rate are
    kept of the samples with the lowest numbers.
    """
    with alone(model):
        return diagnosis.summarize_diagnosis(
            model, x, timesteps=timesteps, batch_size=batch_size, verbose=verbose, first_row=first_row
        )


def report(
    model: SpikingModel,
    x: Data,
    y: Data | None = None,
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
    first_row: int = 0,
) -> Summary:
    """Return the summary of `keras_snn.report`, whose arguments these are.

    `first_row` is the number of the first of these samples among all: spikes are kept of the sample with the
    lowest number.
    """
    options = {"timesteps": timesteps, "batch_size": batch_size, "verbose": verbose, "first_row": first_row}
    with alone(model):
        return reporting.summarize_report(model, x, y, **options)


def calibrate_exit(
    model: SpikingModel,
    x: Data,
    y: Data | None = None,
    *,
    timesteps: int | None = None,
    batch_size: int = 32,
    verbose: int = 0,
) -> Summary:
    """Return the summary of `keras_snn.calibrate_exit`, whose arguments these are.

    `max_loss` is one of `result`: one summary serves all of them. The levels that are tried are
    m/(1 + m) for 32 leads m per octave from 2⁻⁴⁰ to 2²⁴; of each the summary has the steps of all samples and
    the right decisions, as integers.
    """
    return exit_calibration.summarize_exits(
        model, x, y, timesteps=timesteps, batch_size=batch_size, verbose=verbose
    )


def simulate(
    model: SpikingModel,
    x: Data,
    y: Data | None = None,
    *,
    timesteps: int | None = None,
    record: Any = (),
    exit: Literal["confidence"] | None = None,  # noqa: A002 - what the field calls it
    level: float | None = None,
    batch_size: int = 32,
    verbose: int = 0,
    folder: Any = None,
    first_row: int = 0,
) -> Summary:
    """Return the summary of `SpikingModel.simulate`, whose arguments these are.

    `result` makes `SimulationStatistics` of it: accuracies, and with `record="spike_counts"` firing rates.

    What grows with the number of samples, outputs and records, goes into `folder`, an `.npz` file for every
    batch, which `read_parts` reads; `None` is nowhere, and allows spike counts alone to be recorded, of which
    sums stay. `first_row` is the number of the first of these samples among all; files are named by it.
    """
    return summarize_simulation(
        model,
        x,
        y,
        timesteps=timesteps,
        record=record,
        exit=exit,
        level=level,
        batch_size=batch_size,
        verbose=verbose,
        folder=folder,
        first_row=first_row,
    )


def evaluate(
    model: SpikingModel, x: Data, y: Data | None = None, *, batch_size: int = 32, verbose: int = 0
) -> Summary:
    """Return the summary of `SpikingModel.evaluate`, whose arguments these are.

    It has the variables of the loss and of the metrics, which add up, as they do on several devices. `result`
    needs a model that has evaluated something, so that its metrics have variables.
    """
    check_spiking(model)
    totals = Totals()
    with alone(model):
        model.evaluate(x, y, batch_size=batch_size, verbose=verbose)
        for i, variable in enumerate(model.metrics_variables):
            totals.add(str(i), keras.ops.convert_to_numpy(variable).astype("float64"))
        # The mean of the loss begins with its sum and the number of samples.
        samples = round(float(totals.sums["1"]))
        return Summary.of("evaluate", digest_of(model), {}, samples, totals)


def _evaluated(model, summary):
    """Return a dict of the loss and the metrics of a summary of `evaluate`."""
    variables = model.metrics_variables
    if len(variables) != len(summary.sums):
        raise ValueError(
            "`model` must be compiled as that of the summary, and must have evaluated something. Received: "
            f"{len(variables)} variables of metrics, not {len(summary.sums)}. Evaluate it on a sample first."
        )
    for i, variable in enumerate(variables):
        variable.assign(summary.sums[str(i)])
    return {name: float(value) for name, value in model.get_metrics_result().items()}


_RESULTS = {
    "evaluate": _evaluated,
    "count_operations": counting.operations_of,
    "diagnose": diagnosis.diagnosis_of,
    "report": reporting.report_of,
    "calibrate_exit": exit_calibration.exits_of,
    "simulate": statistics_of,
}


def result(model: SpikingModel, summary: Summary, **options: Any) -> Any:
    """Return what the function of the same name returns for all samples of a summary.

    Args:
        model: The model that the summary is of.
        summary: A `Summary`, merged of those of all parts.
        options: Of a report `energy`, of an exit `max_loss`, of a simulation the `folder` of its parts.

    Returns:
        An `OperationCounts`, `Diagnosis`, `Report`, `ExitCalibration` or `SimulationStatistics`; a dict of
        `evaluate`.

    Raises:
        ValueError: If the summary is of another model.
    """
    with alone(model):
        check_is_of(summary, model)
        return _RESULTS[summary.kind](model, summary, **options)


def check_is_of(summary, model):
    """Raise a `ValueError` if a summary is of another model."""
    if summary.model != digest_of(model):
        raise ValueError(
            f"`summary` must be of this model, '{model.name}'. Received: one of another model, or of other "
            "weights. Load the model that it was made of."
        )
