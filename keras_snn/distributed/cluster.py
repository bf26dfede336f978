"""Running an analysis on a cluster, by Ray Data."""

import contextlib
import dataclasses
import logging
import math
import os

import keras
import numpy as np

from keras_snn._summary import Summary
from keras_snn._validation import check_integer, check_number
from keras_snn.distributed.worker import ROW, Worker, merge_cells, raised, versions

__all__ = ["Cluster", "columns_of", "first_rows", "merged", "parts_of"]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where an analysis runs.

    Args:
        address: Address of a Ray cluster, as of `ray.init`; `None` for that which is connected, or else this
            machine.
        workers: Number of worker processes; `None` for as many as there is room for.
        cpus: Cores of each, which may be a fraction; as many threads compute, at least one.
        gpus: Graphics cards of each.
        part_size: Rows that a worker runs at once and sums up; the more, the less is sent.
        fan_in: How many summaries are merged on the cluster before they come here; 1 for none. For so many
            workers that merging here would take longer than they do.
        resume: Folder, the same on all machines, for the summaries of parts that are done; a call with the
            same model, options and data goes on from there. `None` for none.
        verbose: 1 shows the progress.

    Raises:
        TypeError, ValueError: If an argument is not what it may be.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    part_size: int = 512
    fan_in: int = 1
    resume: str | os.PathLike | None = None
    verbose: int = 0

    def __post_init__(self):
        if self.workers is not None:
            check_integer("workers", self.workers, minimum=1)
        check_integer("part_size", self.part_size, minimum=1)
        check_integer("fan_in", self.fan_in, minimum=1)
        check_number("cpus", self.cpus, above=0)
        check_number("gpus", self.gpus)

    def join(self):
        """Return the module `ray`, connected; and the number of workers.

        Raises:
            ImportError: If Ray is not installed.
            ValueError: If the cluster is too small.
        """
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ImportError(
                f"keras_snn.distributed needs the package ray. Received: {error}. Install it: pip install "
                "'keras-snn[ray]'."
            ) from error
        if not ray.is_initialized():
            # On one machine reading the data takes a place beside the workers, and little time.
            places = {} if self.address else {"num_cpus": (os.cpu_count() or 1) + 1}
            ray.init(
                self.address, include_dashboard=None if self.address else False, log_to_driver=False, **places
            )
        found = ray.cluster_resources()
        room = math.floor((found.get("CPU", 0) - 1) / self.cpus + 1e-9)
        if self.gpus:
            room = min(room, math.floor(found.get("GPU", 0) / self.gpus + 1e-9))
        if max(self.workers or 1, 1) > room:
            raise ValueError(
                f"The cluster must have room for the workers, and one CPU to read data. Received: "
                f"workers={self.workers or 1} with cpus={self.cpus:g} and gpus={self.gpus:g} each, of "
                f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs. Ask for less, or start more "
                "nodes first."
            )
        return ray, self.workers or room

    def environment(self):
        """Return the variables of the environment that a worker starts with."""
        threads = str(max(1, math.floor(self.cpus)))
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")
        return {
            "KERAS_BACKEND": keras.backend.backend(),
            "TF_CPP_MIN_LOG_LEVEL": level,
            **dict.fromkeys(names, threads),
        }


def columns_of(dataset, names, labels):
    """Return the column of every input of a model, by its name.

    Args:
        dataset: A `ray.data.Dataset`.
        names: Names of the inputs.
        labels: Column of the labels, or `None`.

    Raises:
        TypeError, ValueError: If it is no dataset, or there are no such columns.
    """
    if not hasattr(dataset, "map_batches") or not hasattr(dataset, "columns"):
        raise TypeError(
            f"`dataset` must be a ray.data.Dataset. Received: {type(dataset).__name__}. Read it with "
            "ray.data.read_parquet, read_images, from_numpy or another of its functions."
        )
    columns = list(dataset.columns() or ())
    if labels is not None and labels not in columns:
        raise ValueError(
            f"`labels` must name a column of the dataset. Received: labels={labels!r}, columns {columns}."
        )
    if all(name in columns for name in names):
        return {name: name for name in names}
    others = [column for column in columns if column != labels]
    if len(names) == 1 and "x" in others:
        return {names[0]: "x"}
    if len(names) == 1 and len(others) == 1:
        return {names[0]: others[0]}
    raise ValueError(
        f"`dataset` must have columns named as the inputs, {', '.join(map(repr, names))}, or one x, or one "
        f"beside the labels. Received: {columns}, labels={labels!r}. Rename them with dataset.rename_columns."
    )


def parts_of(task, dataset, inputs, labels, cluster):
    """Yield the bytes of the summary of every part of a dataset, as they are done.

    Args:
        task: An `Analysis` or `CalibrationTask`.
        dataset: A `ray.data.Dataset`.
        inputs: Columns, as of `columns_of`.
        labels: Column of the labels, or `None`.
        cluster: A `Cluster`.

    Raises:
        ValueError, TypeError: What a worker raises, with the row.
    """
    ray, workers = cluster.join()
    # It stays as long as workers may start again.
    held = ray.put(task)
    numbered = dataset.with_column(ROW, _row_numbers())
    resume = None if cluster.resume is None else os.path.abspath(cluster.resume)
    with _context(ray, cluster):
        found = numbered.map_batches(
            Worker,
            fn_constructor_args=(_Held(held), inputs, labels, versions(), resume),
            batch_size=cluster.part_size,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": cluster.environment()},
        )
        if cluster.fan_in > 1:
            found = found.map_batches(
                merge_cells,
                batch_size=cluster.fan_in,
                batch_format="numpy",
                runtime_env={"env_vars": cluster.environment()},
            )
        for row in found.iter_rows():
            if row["error"]:
                raise raised(row["error"])
            yield row["summary"]


def merged(task, dataset, inputs, labels, cluster):
    """Return the `Summary` of a whole dataset; arguments and errors as of `parts_of`."""
    whole = None
    for content in parts_of(task, dataset, inputs, labels, cluster):
        part = Summary.from_bytes(content)
        whole = part if whole is None else whole.merge(part)
    if whole is None:
        raise ValueError("`dataset` must hold at least one row. Received: none. Read some.")
    return whole


@dataclasses.dataclass(frozen=True)
class _Held:
    """Gets what is in the store of a cluster."""

    reference: object

    def __call__(self):
        import ray

        return ray.get(self.reference)


def _row_numbers():
    from ray.data.expressions import monotonically_increasing_id

    return monotonically_increasing_id()


@contextlib.contextmanager
def _context(ray, cluster):
    """In this context Ray Data shows progress or is quiet, and keeps the order where a run may go on."""
    context = ray.data.DataContext.get_current()
    options = context.execution_options
    before = context.enable_progress_bars, options.preserve_order
    context.enable_progress_bars = bool(cluster.verbose)
    logger = logging.getLogger("ray.data")
    level = logger.level
    if not cluster.verbose:
        logger.setLevel(logging.ERROR)
    # Parts are then of the same rows in every run.
    options.preserve_order = cluster.resume is not None or before[1]
    try:
        yield
    finally:
        context.enable_progress_bars, options.preserve_order = before
        logger.setLevel(level)


def first_rows(dataset, inputs, labels, number):
    """Return `(x, y)` of the first rows of a dataset: a dict of arrays by input, and labels or `None`."""
    batch = dataset.take_batch(number, batch_format="numpy")
    x = {name: np.asarray(batch[column]) for name, column in inputs.items()}
    return x, None if labels is None else np.asarray(batch[labels])
