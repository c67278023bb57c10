"""What a network's output means, and the estimate of x0 that follows from it; ``z = alpha * x0 + s * n``."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from cloisonne.core.step import Step

Parameterization = Literal["epsilon", "v_prediction", "sample", "flow"]
"""The network's output: the noise n, the velocity ``v = alpha * n - s * x0`` (arXiv 2202.00512), x0 itself, or the flow
``n - x0`` (rectified flow, arXiv 2209.03003).

v is defined for variance-preserving levels, ``alpha**2 + s**2 == 1``; flow for ``alpha == 1 - s``.
"""


def to_x0(
    output: Float[Tensor, "*size"], z: Float[Tensor, "*size"], step: Step, kind: Parameterization
) -> Float[Tensor, "*size"]:
    """The estimate of x0. Finite for v and x0 at zero terminal SNR; for epsilon only where alpha > 0."""
    match kind:
        case "epsilon":
            return (z - step.s * output) / step.alpha
        case "v_prediction":
            return step.alpha * z - step.s * output
        case "sample":
            return output
        case "flow":
            return z - step.s * output


def from_x0(
    x0: Float[Tensor, "*size"], z: Float[Tensor, "*size"], step: Step, kind: Parameterization
) -> Float[Tensor, "*size"]:
    """The output that means this x0, for s > 0."""
    match kind:
        case "epsilon":
            return (z - step.alpha * x0) / step.s
        case "v_prediction":
            return (step.alpha * z - x0) / step.s
        case "sample":
            return x0
        case "flow":
            return (z - x0) / step.s
