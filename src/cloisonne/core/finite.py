"""Whether latents are numbers: networks that overflow give NaN or infinity, which would be drawn as black."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.step import Step
from cloisonne.errors import NotFiniteError


def check_finite(z: Float[Tensor, "S C H W"], step: Step, doing: str = "step") -> None:
    """NotFiniteError, naming the step, where latents [S, C, H, W] hold NaN or infinity."""
    if not bool(torch.isfinite(z).all()):
        raise NotFiniteError(f"The latents hold NaN or infinity after {doing} {step.index + 1} of {step.count}.")


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first of these tensors that holds NaN or infinity."""
    return next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)
