"""DDIM inversion: from a clean canvas back to the noise that it comes from, and sampling that ends where it began.

DDIM's own way back (Song et al., arXiv 2010.02502, section 4.3) is approximate. Its canvases are stored, and sampling
is put back onto them after every step (DirectInversion, Ju et al., arXiv 2310.01506), which is exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.finite import check_finite
from cloisonne.core.plan import Plan
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.sample import StepCallback, no_callback
from cloisonne.core.samplers import Ddim, Denoise, Sampler
from cloisonne.core.step import Step


@dataclass(frozen=True, eq=False)
class Retrace:
    """A solver that is put back onto a path after every step (DirectInversion, arXiv 2310.01506, algorithm 1).

    path: z [S, C, H, W] at every level, noisiest first. places: the streams, by their number, that are put back; None
    means all. The others go on as ``solver`` gives.
    """

    solver: Sampler[Any]
    path: tuple[Float[Tensor, "S C H W"], ...]
    places: tuple[int, ...] | None = None

    @property
    def ends_clean(self) -> bool:
        return self.solver.ends_clean

    def init(self, z: Tensor) -> Any:
        return self.solver.init(z)

    def step(
        self, denoise: Denoise, z: Tensor, step: Step, state: Any, noise: Callable[[], Tensor]
    ) -> tuple[Tensor, Any]:
        z, state = self.solver.step(denoise, z, step, state, noise)
        known = self.path[step.index + 1]
        if self.places is None:
            return known, state
        z = z.clone()
        z[list(self.places)] = known
        return z, state


@dataclass(frozen=True, eq=False)
class Inverted:
    """An inverted canvas.

    path: z [S, C, H, W] at every level, the noisiest first and the given canvas last. sampler: from ``path[0]`` to
    exactly the given canvas, under any conditioning and guidance. run: the counts.
    """

    path: tuple[Float[Tensor, "S C H W"], ...]
    sampler: Sampler[Any]
    run: Run

    @property
    def noise(self) -> Float[Tensor, "S C H W"]:
        """The noisy end, [S, C, H, W]."""
        return self.path[0]


@torch.no_grad()
def invert(
    plan: Plan, z: Tensor, steps: Sequence[Step], *, on_step: StepCallback = no_callback, run: Run | None = None
) -> Inverted:
    """Invert canvases, from clean to noisy.

    Args:
        plan: The conditioning and the guidance.
        z: [S, C, H, W], in the order of ``plan.streams``, at the end of the last step.
        steps: The denoising steps, noisy to clean.
        on_step: Called after each step with the step, z at its noisy end and the last estimate of x0.
        run: Receives the counts.

    Raises:
        NotFiniteError: z is NaN or infinite after a step.
    """
    run = Run() if run is None else run
    pruned = plan.without_empty_views()
    path = [z]
    for step in reversed(steps):
        # At a clean end without noise there is no n to ask for: the network is asked one level on.
        asked = step if step.s_next == 0 else step.at_next()
        x0 = predict(pruned, z, asked, run)
        n = (z - asked.alpha * x0) / asked.s
        z = step.alpha / step.alpha_next * (z - step.s_next * n) + step.s * n
        path.append(z)
        check_finite(z, step, "the inversion of step")
        on_step(step, z, x0)
    levels = tuple(reversed(path))
    return Inverted(levels, Retrace(Ddim(), levels), run)
