"""What a simulation returns."""

import dataclasses

import numpy as np

__all__ = ["SimulationResult"]


@dataclasses.dataclass(frozen=True, eq=False)
class SimulationResult:
    """Outputs and records of a simulation.

    Attributes:
        outputs: Read-out after the last step, `(batch, …)`, nested as the model returns it.
        outputs_over_time: Read-out after every step, `(batch, timesteps, …)`.
        accuracy_over_time: Fraction of samples whose largest output is at their label, after
            every step, `(timesteps,)`; `None` without labels or if the model does not classify.
        timesteps: Number of steps with input.
        settling: Number of steps behind them, without input, until no neuron fired.
        records: Dict of what was recorded: by record name, by layer name.
        steps_used: Steps after which each sample was done, `(batch,)`, where that is not all of them:
            with `exit`. Its outputs stay as they were then.
    """

    outputs: object
    outputs_over_time: object
    accuracy_over_time: np.ndarray | None
    timesteps: int
    records: dict
    settling: int = 0
    steps_used: np.ndarray | None = None

    @property
    def spike_counts(self):
        """Spikes of every neuron, `(batch, …)`, by layer name."""
        return self._recorded("spike_counts")

    @property
    def spike_trains(self):
        """Spikes, `(batch, timesteps, …)`, by layer name."""
        return self._recorded("spike_trains")

    @property
    def membrane_potentials(self):
        """Potential after every step, in the unit of `v_threshold`, `(batch, timesteps, …)`."""
        return self._recorded("membrane_potentials")

    @property
    def firing_rates(self):
        """Spikes per step of every neuron, mean over the batch, by layer name."""
        return {name: counts.mean(axis=0) / self.timesteps for name, counts in self.spike_counts.items()}

    def _recorded(self, name):
        if name not in self.records:
            raise ValueError(
                f"'{name}' was not recorded. Received: record={sorted(self.records)}. "
                f"Call simulate(x, record=['{name}'])."
            )
        return self.records[name]
