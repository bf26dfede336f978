"""Callbacks that watch the spikes of a model while Keras runs it."""

import collections
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

from keras_snn._arrays import as_labels
from keras_snn._data import Batches
from keras_snn._types import Data
from keras_snn._validation import check_integer
from keras_snn.reporting import plots
from keras_snn.reporting.drawing import check_matplotlib
from keras_snn.reporting.event_files import EventFile, tensorboard_writers
from keras_snn.simulation.classes import labels_for
from keras_snn.simulation.compiled_functions import set_watch
from keras_snn.simulation.internals import internals
from keras_snn.simulation.model import SpikingModel

__all__ = ["SpikeRateTensorBoard"]

# Samples of `accuracy_data` whose spikes are recorded.
_SAMPLES = 4


class SpikeRateTensorBoard(keras.callbacks.Callback):
    """Writes firing rates for TensorBoard, in `predict`, `evaluate` and `fit`.

    For every layer of neurons it writes `firing_rate`, in spikes per neuron and step, and the fractions
    of neurons that were `silent` or `saturated`: that fired at no step, or at every step, of a sample. For
    all together `sparsity`, the fraction of neurons and steps without a spike. And the conversion report.
    `fit` writes at the end of every epoch, as the runs `train` and `validation`. `predict` and `evaluate`
    write once, at the end, as runs of their names; there the step is the number of earlier ones.

    Counting happens in the compiled function of a model that is watched, and in no other.
    Show it with `tensorboard --logdir logs`.

    Args:
        log_dir: Folder to write to; made if it is not there.
        histogram_freq: Epochs of `fit` from one histogram of the firing rates of each layer to the next; 0
            for none. Else `predict` and `evaluate` write them too.
        accuracy_data: `(x, y)`. When a run is over, the model simulates them, and `accuracy_over_time` is
            written with the time step as the step; so is the firing rate of each layer for the first of them,
            `firing_rate_over_time`. With matplotlib the curve and the spikes are pictures too, under Images,
            where nothing smooths them.

    Raises:
        ImportError: If TensorBoard is not installed.
        TypeError, ValueError: If an argument is not what it may be, or the model is not spiking.
        OSError: Before the run starts, if `log_dir` cannot be written.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike = "logs",
        *,
        histogram_freq: int = 0,
        accuracy_data: tuple[Data, Data] | None = None,
    ) -> None:
        super().__init__()
        self.log_dir = pathlib.Path(log_dir)
        self.histogram_freq = check_integer("histogram_freq", histogram_freq, minimum=0)
        if accuracy_data is not None and not (isinstance(accuracy_data, tuple) and len(accuracy_data) == 2):
            came = type(accuracy_data).__name__
            raise ValueError(
                f"`accuracy_data` must be a tuple (x, y). Received: {came}. Give samples and their labels."
            )
        self.accuracy_data = accuracy_data
        self._board = tensorboard_writers()
        self._files = {}
        self._times = collections.Counter()
        self._epoch = None

    def set_model(self, model: keras.Model) -> None:
        """Take the model of a run, and have it count."""
        if not isinstance(model, SpikingModel):
            raise TypeError(
                f"SpikeRateTensorBoard watches a keras_snn.SpikingModel. Received: model '{model.name}' "
                f"({type(model).__name__}). Convert it with keras_snn.convert."
            )
        super().set_model(model)
        if self.accuracy_data is not None:
            self._check_accuracy_data(model)
        self._epoch = None
        set_watch(model, True)

    def _check_accuracy_data(self, model):
        """Raise before the run for what would end it when all but the accuracy is written."""
        x, y = self.accuracy_data
        y = as_labels(y)
        data = (x, y)
        given = {"batch_size": 32, "argument": "accuracy_data"}
        for _ in Batches(
            data, internals(model).network.inputs, internals(model).inputs.given_shapes, **given
        ):
            pass
        if y is None or not labels_for(model, y, "accuracy_data"):
            raise ValueError(
                f"`accuracy_data` must have class numbers or one-hot labels for model '{model.name}'. "
                f"Received: labels of shape {np.shape(y)}. Leave it out if the model does not classify."
            )

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin("train")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._write("train", epoch)

    def on_train_end(self, logs: Any = None) -> None:
        self._epoch = None
        self._write_accuracy("train")

    def on_test_begin(self, logs: Any = None) -> None:
        if self._epoch is not None:
            # The same counter serves the validation of an epoch.
            self._write("train", self._epoch)
        self._begin(self._test_run)

    def on_test_end(self, logs: Any = None) -> None:
        if self._epoch is not None:
            self._write(self._test_run, self._epoch)
        else:
            self._end(self._test_run)

    def on_predict_begin(self, logs: Any = None) -> None:
        self._begin("predict")

    def on_predict_end(self, logs: Any = None) -> None:
        self._end("predict")

    @property
    def _test_run(self):
        return "evaluate" if self._epoch is None else "validation"

    def _begin(self, run):
        if run not in self._files:
            self._files[run] = EventFile(self.log_dir / run, self._board)
            report = self.model.conversion_report
            if report is not None:
                self._files[run].append([self._board.text("conversion_report", report.to_markdown())])
        internals(self.model).counter.reset()

    def _end(self, run):
        self._write(run, self._times[run])
        self._times[run] += 1
        self._write_accuracy(run)

    def _write(self, run, step):
        """Write what was counted since the last time, if anything was."""
        counter = internals(self.model).counter
        firing = counter.read(self.model.passes)
        counter.reset()
        if not firing:
            return
        unsure = [name for name, layer in firing.items() if layer.unsure]
        if unsure:
            warnings.warn(
                f"Layers {', '.join(map(repr, unsure))} have potentials so large that rounding hides spikes: "
                "their rates are about right. snn.simulate(x, record='spike_counts') counts every spike.",
                stacklevel=2,
            )
        board, summaries = self._board, []
        for name, layer in firing.items():
            summaries += [
                board.scalar(f"firing_rate/{name}", layer.firing_rate),
                board.scalar(f"silent/{name}", layer.silent / layer.neurons),
                board.scalar(f"saturated/{name}", layer.saturated / layer.neurons),
            ]
            if self.histogram_freq and (self._epoch is None or self._epoch % self.histogram_freq == 0):
                summaries.append(board.histogram(f"firing_rates/{name}", layer.histogram))
        neurons = sum(layer.neurons for layer in firing.values())
        spikes = sum(layer.spikes for layer in firing.values())
        summaries.append(board.scalar("sparsity", 1 - spikes / (neurons * self.model.passes)))
        self._files[run].append(summaries, step)

    def _write_accuracy(self, run):
        if self.accuracy_data is None:
            return
        x, y = self.accuracy_data
        accuracy = self.model.simulate(x, y).accuracy_over_time
        trains = self.model.simulate(_first(x), record=["spike_trains"]).spike_trains
        self._times["accuracy"] += 1
        times = self._times["accuracy"]
        suffix = f"_{times}" if times > 1 else ""
        curves = {f"accuracy_over_time{suffix}": accuracy}
        for name, train in trains.items():
            rates = np.abs(train).reshape(*train.shape[:2], -1).mean(axis=(0, 2))
            curves[f"firing_rate_over_time{suffix}/{name}"] = rates
        for step in range(1, max(map(len, curves.values())) + 1):
            values = [(tag, curve[step - 1]) for tag, curve in curves.items() if step <= len(curve)]
            self._files[run].append([self._board.scalar(tag, value) for tag, value in values], step)
        self._files[run].append(self._pictures(accuracy, trains), times)

    def _pictures(self, accuracy, trains):
        """Return the summaries of what is drawn; none without matplotlib."""
        try:
            check_matplotlib()
        except ImportError:
            return []
        drawn = {"pictures/accuracy_over_time": plots.accuracy_over_time(accuracy)}
        drawn |= {
            f"pictures/spikes of {name}": plots.spike_raster(train[0]) for name, train in trains.items()
        }
        return [self._board.image(tag, ax.figure) for tag, ax in drawn.items()]


def _first(x):
    """Return some first samples of nested arrays."""
    return keras.tree.map_structure(lambda values: np.asarray(values)[:_SAMPLES], x)
