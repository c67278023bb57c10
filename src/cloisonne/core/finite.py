"""Whether latents are numbers: networks that overflow give NaN or infinity, which would be drawn as black."""

import torch
from torch import Tensor

from cloisonne.core.step import Step
from cloisonne.errors import NotFiniteError


def check_finite(z: Tensor, step: Step, doing: str = "step") -> None:
    """NotFiniteError, naming the step, where latents [S, C, H, W] hold NaN or infinity."""
    if not bool(torch.isfinite(z).all()):
        raise NotFiniteError(f"The latents hold NaN or infinity after {doing} {step.index + 1} of {step.count}.")
