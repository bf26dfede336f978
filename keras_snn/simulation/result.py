"""What a simulation returns."""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np

from keras_snn._arrays import as_labels
from keras_snn._results import PlottedResult, Rows
from keras_snn._types import Data
from keras_snn._validation import check_integer
from keras_snn.simulation.classes import among_largest, class_numbers

__all__ = ["Record", "SimulationResult"]

# What can be kept of every neuron.
Record = Literal["spike_counts", "spike_trains", "membrane_potentials", "spike_times"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SimulationResult(PlottedResult):
    """Outputs and records of a simulation.

    Attributes:
        outputs: Read-out after the last step, `(batch, …)`, nested as the model returns it.
        outputs_over_time: Read-out after every step, `(batch, timesteps, …)`.
        accuracy_over_time: Fraction of samples whose largest output is at their label, after
            every step, `(timesteps,)`; of one sigmoid, and of several with a label each, that of labels whose
            output is on their side of the threshold, as in Keras' binary accuracy. `None` without labels or
            if the model does not classify.
        timesteps: Number of steps with input.
        settling: Number of steps after them, without input, until no neuron fired.
        records: Dict of what was recorded: by record name, by layer name.
        steps_used: Steps after which each sample was done, `(batch,)`, where that is not all of them:
            with `exit`. Its outputs stay as they were then.
    """

    outputs: Any
    outputs_over_time: Any
    accuracy_over_time: np.ndarray | None
    timesteps: int
    records: dict
    settling: int = 0
    steps_used: np.ndarray | None = None

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        samples = len(keras.tree.flatten(self.outputs)[0])
        parts = [f"{samples:,} samples", f"{self.timesteps} time steps"]
        if self.accuracy_over_time is not None:
            parts.append(f"accuracy {self.accuracy_over_time[-1]:.2%}")
        return ", ".join([*parts, *(f"{name} of {len(kept)} layers" for name, kept in self.records.items())])

    def tables(self) -> list[Rows]:
        """Return the tables that notebooks show: accuracies, and rates if spikes were recorded."""
        found = []
        if self.accuracy_over_time is not None:
            last = len(self.accuracy_over_time)
            shown = sorted({2**i for i in range(last.bit_length())} | {last})
            rows = [(step, f"{self.accuracy_over_time[step - 1]:.2%}") for step in shown]
            found.append([("time steps", "accuracy"), *rows])
        if "spike_counts" in self.records:
            rows = [(name, f"{rates.mean():.4f}") for name, rates in self.firing_rates.items()]
            found.append([("layer", "spikes per neuron and step"), *rows])
        return found

    def top_k_accuracy_over_time(self, y: Data, k: int = 5) -> np.ndarray:
        """Return the fraction of samples whose label is among the `k` largest outputs, after every step.

        Args:
            y: Labels, class numbers `(batch,)` or one-hot `(batch, classes)`.
            k: Number of outputs. Outputs that tie with the last of them count too, as in Keras.

        Returns:
            Array `(timesteps,)`.

        Raises:
            TypeError, ValueError: If the model has no single output of several classes, or an argument is
                not what it may be.
        """
        outputs, k = self.outputs_over_time, check_integer("k", k, minimum=1)
        if not isinstance(outputs, np.ndarray) or outputs.ndim != 3 or outputs.shape[-1] < 2:
            raise ValueError(
                "`top_k_accuracy_over_time` needs one output of at least two classes. Received: "
                f"{[leaf.shape[2:] for leaf in keras.tree.flatten(outputs)]}. Use outputs_over_time."
            )
        classes = class_numbers(as_labels(y), len(outputs), outputs.shape[-1])
        return among_largest(outputs, classes, k).mean(axis=0)

    @property
    def spike_counts(self) -> dict[str, np.ndarray]:
        """Spikes of every neuron, `(batch, …)`, by layer name."""
        return self._recorded("spike_counts")

    @property
    def spike_trains(self) -> dict[str, np.ndarray]:
        """Spikes, `(batch, timesteps, …)`, by layer name."""
        return self._recorded("spike_trains")

    @property
    def membrane_potentials(self) -> dict[str, np.ndarray]:
        """Potential after every step, in the unit of `v_threshold`, `(batch, timesteps, …)`."""
        return self._recorded("membrane_potentials")

    @property
    def spike_times(self) -> dict[str, np.ndarray]:
        """Step of the first spike in the window, from 1, `(batch, …)`, by layer name; 0 if there is none."""
        return self._recorded("spike_times")

    @property
    def firing_rates(self) -> dict[str, np.ndarray]:
        """Spikes per step of every neuron, mean over the batch, by layer name."""
        return {name: counts.mean(axis=0) / self.timesteps for name, counts in self.spike_counts.items()}

    def _recorded(self, name):
        if name not in self.records:
            raise ValueError(
                f"'{name}' was not recorded. Received: record={sorted(self.records)}. "
                f"Call simulate(x, record=['{name}'])."
            )
        return self.records[name]
