"""A step of neurons in numbers."""

import dataclasses

__all__ = ["StepForm"]


@dataclasses.dataclass(frozen=True)
class StepForm:
    """A step of neurons that send 0 or 1, in numbers, for engines that do not run `Neuron.step`.

    Attributes:
        threshold: At which potential they fire.
        reset: `"subtract"` or `"zero"`.
        leak: By what a potential is multiplied before a step.
        current: What is added to the current of every step, by channel; empty for nothing.
        delay: Number of first steps without spikes and without integration.
    """

    threshold: float
    reset: str
    leak: float = 1.0
    current: tuple[float, ...] = ()
    delay: int = 0
