"""What one layer needs: additions and multiplications at its weights, and updates of its neurons."""

import dataclasses

import numpy as np

__all__ = ["LayerOperations", "NeuronOperations"]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerOperations:
    """Operations of one layer with weights, or of one sum of layers, for one sample, mean over the samples.

    Attributes:
        name: Name of its call.
        macs: Multiply-adds of the analog layer: outputs times inputs of each, padding included.
        biases: Outputs that have a bias.
        dense: Synaptic operations of one pass: inputs times the outputs that each reaches.
        weights, zeros: Number of weights without biases, and of those that are 0.
        footprint: Bytes of weights and biases; 0 at a further call of the layer.
        share: What the source network has of these synaptic operations, as a share, where it adds up inputs
            first, or has several maps in a row.
        weight_share: The same of the weights.
        is_factor: Whether it has one weight for each value, and adds up nothing.
        sums: Values that the source network adds without a weight, as in a residual connection.
        is_analog: Whether its input is the same at every step, so that it is computed once.
        reads: Values that are added at every step and came with no spike: constant currents.
        additions: Additions at each step for events that came, and for numbers where there is no weight,
            `(timesteps,)`; `None` of an analog network.
        multiply_adds: Multiply-adds at each step for values that are no spikes, `(timesteps,)`, or `None`.
        units: Additions at each step if each spike came as its smallest spikes, `(timesteps,)`, or `None`.
        ones, graded: Synaptic operations of all steps whose input is −1 or 1, and of those whose input is
            another value than 0.
        ann_additions, ann_multiply_adds: The same of the source network; or `None`.
        ann_zero_skipping: Operations of the source network whose input and weight are not 0, or `None`.
        zero_skipping: The same of the source network with activations of the levels of the neurons.
        is_estimated: Whether the last four are estimates: the source network has several maps in a row here,
            and what is between them, which this network does not compute, counts as not 0.
    """

    name: str
    macs: int
    biases: int
    dense: int
    weights: int
    zeros: int
    footprint: int
    is_factor: bool = False
    share: float = 1.0
    weight_share: float = 1.0
    sums: int = 0
    is_analog: bool = False
    reads: int = 0
    additions: np.ndarray | None = None
    multiply_adds: np.ndarray | None = None
    units: np.ndarray | None = None
    ones: float = 0.0
    graded: float = 0.0
    ann_additions: float | None = None
    ann_multiply_adds: float | None = None
    ann_zero_skipping: float | None = None
    zero_skipping: float | None = None
    is_estimated: bool = False

    @property
    def is_of_source(self) -> bool:
        """Whether its weights are the source network's: a factor without a shift may be part of others."""
        return not self.is_factor or self.biases > 0

    @property
    def ann_biases(self) -> int:
        """Additions of the source network without a weight; a factor and its shift are one multiply-add."""
        return self.sums + (0 if self.is_factor else self.biases)

    @property
    def ann_operations(self) -> int:
        """2·macs + biases + sums: additions and multiplications of the analog layer."""
        return 2 * self.macs * self.is_of_source + self.ann_biases

    @property
    def snn_operations(self) -> np.ndarray:
        """Operations up to and with each step, `(timesteps,)`."""
        steps = np.arange(1, len(self.additions) + 1)
        if self.is_analog:
            # Computed once, without zeros; then its current is added at every step.
            return self.ann_zero_skipping + self.reads * steps
        return np.cumsum(self.additions + 2 * self.multiply_adds) + (self.biases + self.reads) * steps

    @property
    def events(self) -> float:
        """These additions of all steps."""
        return float(self.additions.sum())

    @property
    def snn_dense(self) -> int:
        """Synaptic operations of all steps, if no input were 0."""
        return self.dense * (1 if self.is_analog else len(self.additions))

    @property
    def ann_effective(self) -> tuple[float, float]:
        """`(MACs, ACs)` of the source network; see `OperationCounts.effective_macs`."""
        return _macs_and_acs(self.ann_additions, self.ann_multiply_adds)

    @property
    def snn_effective(self) -> tuple[float, float]:
        """`(MACs, ACs)` of all steps; see `OperationCounts.effective_macs`."""
        return self.ann_effective if self.is_analog else _macs_and_acs(self.ones, self.graded)


def _macs_and_acs(additions, multiply_adds):
    """Return what is counted as MACs, and as ACs: one of them, for all inputs of a layer."""
    return (additions + multiply_adds, 0.0) if multiply_adds else (0.0, additions)


@dataclasses.dataclass(frozen=True)
class NeuronOperations:
    """A layer of neurons, or its activation in the source network; mean over the samples.

    Attributes:
        name: Name of its call.
        neurons: How many there are.
        timesteps: Number of steps; of a time code, those of its window.
        spikes: Spikes of all neurons and steps.
        ann_active: Activations of the source network that are not 0.
        footprint: Bytes of the state of one sample.
        updates_each: How often a neuron is updated, if that is not at every one of these steps: neurons of
            time codes are when they receive.
        events: Events of these spikes, each one addition at every synapse: the thresholds that fire, the
            spikes of a burst, the digits that are not 0.
        units: What they are worth in smallest spikes.
    """

    name: str
    neurons: int
    timesteps: int
    spikes: float
    ann_active: float
    footprint: int
    updates_each: int | None = None
    events: float = 0.0
    units: float = 0.0

    @property
    def updates(self) -> int:
        """Updates of the neurons: each one at every step in which it integrates."""
        return self.neurons * (self.timesteps if self.updates_each is None else self.updates_each)

    @property
    def activation_sparsity(self) -> float:
        """Fraction of neurons and steps without a spike."""
        return 1 - self.spikes / (self.neurons * self.timesteps)

    @property
    def ann_activation_sparsity(self) -> float:
        """Fraction of activations of the source network that are 0."""
        return 1 - self.ann_active / self.neurons
