"""An estimate of the energy of a network, from published figures of single operations."""

import dataclasses
from typing import Literal, TypeAlias

from keras_snn._validation import check_choice, check_number

__all__ = ["ENERGY_FIGURES", "EnergyEstimate", "Figures", "check_figures"]

# Names of published figures, or those of the user.
Figures: TypeAlias = Literal["45nm_float32", "45nm_float16", "45nm_int32", "45nm_int8"] | tuple[float, float]

_HOROWITZ = "Horowitz (2014), ISSCC, figure 1.1.9, 45 nm"
ENERGY_FIGURES = {
    "45nm_float32": (3.7 + 0.9, 0.9, _HOROWITZ),
    "45nm_float16": (1.1 + 0.4, 0.4, _HOROWITZ),
    "45nm_int32": (3.1 + 0.1, 0.1, _HOROWITZ),
    "45nm_int8": (0.2 + 0.03, 0.03, _HOROWITZ),
}
"""By name: picojoules of a multiplication with an addition, and of an addition alone; and the source."""


@dataclasses.dataclass(frozen=True)
class EnergyEstimate:
    """An estimate of the energy for one sample, in joules; `print` it with its assumptions.

    Attributes:
        ann: All multiply-adds of the source network, and its biases.
        ann_effective: Those whose input is not 0.
        snn: Additions of the spiking network, for events, biases, constant currents and updates of neurons;
            and its multiply-adds, for values that are no spikes.
        mac: Picojoules of a multiply-add.
        ac: Picojoules of an addition.
        source: Where these figures are from.
        updates: The part of `snn` for updates of neurons, one addition each.
    """

    ann: float
    ann_effective: float
    snn: float
    mac: float
    ac: float
    source: str
    updates: float = 0.0

    @property
    def assumptions(self) -> str:
        """What the estimate rests on, as a sentence."""
        return (
            f"An estimate: {self.mac:g} pJ for every multiply-add and {self.ac:g} pJ for every addition "
            f"({self.source}). In the SNN each event is an addition at every synapse, and each update of a "
            "neuron is one. It leaves out memory traffic, pooling and read-out, which on real hardware may "
            "be most of the energy."
        )

    @property
    def comparison(self) -> str:
        """Both networks beside each other, without the assumptions."""
        return f"{_joules(self.snn)}, against {_joules(self.ann)} of the source network"

    def __str__(self):
        ann, effective, snn = (_joules(energy) for energy in (self.ann, self.ann_effective, self.snn))
        updates = _joules(self.updates)
        return (
            f"ANN {ann} ({effective} without zeros), SNN {snn}, of it updates {updates}. {self.assumptions}"
        )


def check_figures(name, figures):
    """Return the picojoules of a multiply-add and of an addition, and the source.

    Args:
        name: Name of the argument that has them.
        figures: As of `OperationCounts.energy`.
    """
    if not isinstance(figures, (tuple, list)):
        return ENERGY_FIGURES[check_choice(name, figures, tuple(ENERGY_FIGURES))]
    if len(figures) != 2:
        raise ValueError(
            f"`{name}` must be a name or two numbers, (mac, ac) in picojoules. Received: {name}={figures!r}."
        )
    mac, ac = (check_number(name, figure, above=0) for figure in figures)
    return mac, ac, "figures of the user"


def _joules(energy):
    """Return an energy as text.

    >>> _joules(3.21e-7)
    '0.321 µJ'
    """
    for power, unit in ((1e-3, "mJ"), (1e-6, "µJ")):
        if energy >= 0.1 * power:
            return f"{energy / power:.3g} {unit}"
    return f"{energy / 1e-9:.3g} nJ"
