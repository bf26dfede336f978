"""The search of `convert(max_loss=…)` with each kind of neuron on a worker of its own."""

import dataclasses
import math
import pathlib
import pickle
import tempfile
import warnings

import keras

from keras_snn.conversion.convert import convert
from keras_snn.conversion.search import Wish
from keras_snn.distributed.worker import bytes_of_model

__all__ = ["cheapest"]


def cheapest(model, x, y, cluster, *, max_loss, minimize="operations", neurons=None, **options):
    """Return the spiking model that costs least of those that the searches of all kinds of neurons choose.

    Args:
        model: The source network.
        x: Samples.
        y: Labels, or `None`.
        cluster: A `Cluster`.
        max_loss: As of `convert`, like the others.
        minimize: As of `convert`.
        neurons: As of `convert`; each is searched in a task of its own.
        options: The other arguments of `convert`.

    Raises:
        ValueError: If no candidate can be converted so; the error of the last one.
    """
    ray, _ = cluster.join()
    kinds = Wish(max_loss=max_loss, minimize=minimize, neurons=neurons).kinds
    given = {"max_loss": max_loss, "minimize": minimize, "verbose": 0, **options}
    held = ray.put((bytes_of_model(model), x, y, given))
    places = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
    task = ray.remote(**places, runtime_env={"env_vars": cluster.environment()})(_search)
    found = [pickle.loads(content) for content in ray.get([task.remote(held, kind) for kind in kinds])]
    searches = [search for _, search in found if not isinstance(search, Exception)]
    if not searches:
        raise found[-1][1]
    content, chosen = min(
        (pair for pair in found if not isinstance(pair[1], Exception)), key=lambda pair: _order(pair[1])
    )
    snn = _loaded(content)
    snn.conversion_report = dataclasses.replace(
        snn.conversion_report, search=_together(chosen, searches, alone=len(found) == 1)
    )
    if not chosen.met:
        warnings.warn(chosen.stopped, stacklevel=3)
    return snn


def _search(given, kind):
    """Return the bytes of `(content of the model, its search)` for one kind of neuron, or of an error."""
    content, x, y, options = given
    try:
        with warnings.catch_warnings():
            # Whether the wish is met is known once all are done.
            warnings.simplefilter("ignore")
            snn = convert(_loaded(content), x, y, neurons=(kind,), **options)
    except ValueError as error:
        return pickle.dumps((b"", error))
    return pickle.dumps((bytes_of_model(snn), snn.conversion_report.search))


def _loaded(content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        path.write_bytes(content)
        return keras.models.load_model(path, safe_mode=False)


def _chosen(search):
    return next(trial for trial in search.trials if trial.outcome == "chosen")


def _order(search):
    """Return what puts the searches whose wish is met first, by cost, and the others by their loss."""
    chosen = _chosen(search)
    cost = math.inf if chosen.cost is None else chosen.cost
    return (0, cost) if search.met else (1, chosen.upper)


def _together(chosen, searches, alone):
    """Return the search that was chosen, with the trials of all."""
    trials = []
    for search in searches:
        for trial in search.trials:
            is_other = search is not chosen and trial.outcome == "chosen"
            outcome = "costs more" if search.met else "may lose more"
            trials.append(dataclasses.replace(trial, outcome=outcome) if is_other else trial)
    source = next((search.source for search in searches if search.source is not None), None)
    stopped = chosen.stopped if alone else f"{chosen.stopped} Each kind of neuron was searched apart."
    return dataclasses.replace(chosen, trials=tuple(trials), source=source, stopped=stopped)
