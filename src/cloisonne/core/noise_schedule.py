"""What sampling needs of a noise schedule, whatever its family: diffusion (``schedule.py``) or flow
(``flow_schedule.py``)."""

from typing import Protocol, runtime_checkable

from cloisonne.core.parameterization import Parameterization
from cloisonne.core.step import Step


@runtime_checkable
class NoiseSchedule(Protocol):
    """Levels ``z = alpha * x0 + s * n`` of a trained network."""

    @property
    def prediction(self) -> Parameterization:
        """What the network's output means."""
        ...

    def steps(self, count: int, *, ends_clean: bool, strength: float = 1.0, num_tokens: int = 0) -> tuple[Step, ...]:
        """The steps of sampling, noisy to clean.

        Args:
            count: Number of steps.
            ends_clean: Whether the sampler ends at alpha 1, s 0 and not at the schedule's own final level.
            strength: Take only the last ``int(count * strength)`` steps.
            num_tokens: Image tokens of the canvas, on which dynamic shifts depend; 0 where none is known.

        Raises:
            SceneError: A value is out of range for this schedule.
        """
        ...

    def trained(self) -> tuple[Step, ...]:
        """All levels of training, noisy to clean, one a step."""
        ...

    def spaced(self, spacing: str, spread: str) -> "NoiseSchedule":
        """The same levels with steps spread otherwise; SceneError where the schedule has no such spacing."""
        ...
