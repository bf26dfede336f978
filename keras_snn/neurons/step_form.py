"""A step of neurons in numbers."""

import dataclasses
import math

__all__ = ["StepForm", "form_of"]


@dataclasses.dataclass(frozen=True)
class StepForm:
    """A step of neurons in numbers, for engines that do not run `Neuron.step`.

    With u the potential before the reset, θ = `threshold`, ε = `unit` and n the sum of all spikes so far, a
    spike is s = ε·floor(u/(θ·ε)), but at least `lowest`, and −n if `takes_back`, and at most `largest`, and
    `levels` − n. Charge θ·s leaves the potential, or all of it.

    Attributes:
        threshold: θ; a tuple of one for each channel where they differ.
        reset: `"subtract"` or `"zero"`.
        leak: By what a potential is multiplied before a step.
        current: What is added to the current of every step, by channel; empty for nothing.
        delay: Number of first steps without spikes and without integration.
        unit: ε, the smallest spike.
        largest: The largest spike in a step; a tuple of one for each channel where they differ.
        lowest: The lowest spike in a step.
        levels: The most that all spikes add up to.
        takes_back: Whether n is kept, and spikes are negative where the potential is.
    """

    threshold: float | tuple[float, ...]
    reset: str
    leak: float = 1.0
    current: tuple[float, ...] = ()
    delay: int = 0
    unit: float = 1.0
    largest: float | tuple[float, ...] = 1.0
    lowest: float = 0.0
    levels: float = math.inf
    takes_back: bool = False

    @property
    def is_binary(self) -> bool:
        """Whether all spikes are 1."""
        return not self.takes_back and self.lowest == 0 and self.unit == self.largest == 1


def form_of(neuron):
    """Return the `StepForm` of a neuron, or `None` if it has none, or a step of its own that has another."""
    classes = type(neuron).__mro__

    def depth(name):
        return next((i for i, kind in enumerate(classes) if name in vars(kind)), len(classes))

    own = [name for name in ("step", "_spikes", "initial_state") if depth(name) < depth("step_form")]
    return None if own else neuron.step_form()
