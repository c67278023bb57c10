"""One denoising step, and intervals of the steps."""

import math
from dataclasses import dataclass, replace

from cloisonne.errors import SceneError


@dataclass(frozen=True, kw_only=True)
class Step:
    """One denoising step from noise level ``(alpha, s)`` to ``(alpha_next, s_next)``.

    ``t`` is the timestep that the network gets: an index of the training schedule. alpha is 0 at zero terminal
    SNR and at the start of a flow schedule; s is 0 only at the clean end.
    """

    index: int
    count: int
    t: float
    alpha: float
    s: float
    t_next: float
    alpha_next: float
    s_next: float

    @property
    def sigma(self) -> float:
        """Noise per unit of signal, ``s / alpha``; infinite where alpha is 0."""
        return self.s / self.alpha if self.alpha > 0 else math.inf

    @property
    def progress(self) -> float:
        """Fraction of the steps that are done, in [0, 1)."""
        return self.index / self.count

    def at_next(self) -> "Step":
        """This step seen from its end: the level at which a second-order solver asks again."""
        return replace(self, t=self.t_next, alpha=self.alpha_next, s=self.s_next)


@dataclass(frozen=True)
class Interval:
    """An interval of the steps, as fractions: ``start <= progress < stop``. Use as ``step in interval``."""

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.start <= 1.0 and 0.0 <= self.stop <= 1.0):
            raise SceneError(f"An interval of {self.start} to {self.stop} is no part of the steps; give 0 to 1.")

    def __contains__(self, step: Step) -> bool:
        return self.start <= step.progress < self.stop

    @property
    def empty(self) -> bool:
        return self.start >= self.stop

    def __and__(self, other: "Interval") -> "Interval":
        """What both have in common; empty where that is nothing."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))


ALWAYS = Interval()
"""All steps."""
