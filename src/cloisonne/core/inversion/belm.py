"""O-BELM: a second-order solver that is its own inverse (Wang et al., NeurIPS 2024, arXiv 2410.07273, section 4).

Each step is a formula of three neighbouring canvases and the velocity at the middle one, which can be solved for the
noisier canvas as for the cleaner one. So an inversion and the sampling after it ask the network the same, and two
canvases restore the given one.

Canvases are ``y = z / (alpha + s)`` at the levels ``t = s / (alpha + s)``, as a flow has them: there the velocity is
``dy/dt = n - x0`` at every level of every schedule, also where alpha is 0 (the paper divides by alpha). With levels
counted from the clean end and ``h_i = t_i - t_(i-1)``

    y_(i-1) = r y_(i+1) + (1 - r) y_i - h_i (h_i + h_(i+1)) / h_(i+1) v(y_i),   r = (h_i / h_(i+1))^2
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.finite import check_finite
from cloisonne.core.inversion.ddim import Inverted
from cloisonne.core.plan import Plan
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.sample import StepCallback, no_callback
from cloisonne.core.samplers import Denoise
from cloisonne.core.step import Step


class Neighbours(NamedTuple):
    """Two neighbouring canvases y, float64, the noisier one first, and the length of t between them."""

    before: Float[Tensor, "S C H W"]
    now: Float[Tensor, "S C H W"]
    length: float


@dataclass(frozen=True, eq=False)
class Belm:
    """O-BELM as a sampler; the first step is Euler's.

    ends: of an inversion, its noisy canvas and the next one, y [1, C, H, W] float64; None for none. place: the stream
    that begins there and retraces it. The others' first step has the same correction of Euler's.
    """

    ends: tuple[Float[Tensor, "1 C H W"], Float[Tensor, "1 C H W"]] | None = None
    place: int = 0
    ends_clean: bool = True

    def init(self, z: Float[Tensor, "S C H W"]) -> Neighbours | None:
        return None

    def step(
        self,
        denoise: Denoise,
        z: Float[Tensor, "S C H W"],
        step: Step,
        state: Neighbours | None,
        noise: Callable[[], Tensor],
    ) -> tuple[Float[Tensor, "S C H W"], Neighbours]:
        length, slope = _level(step) - _level(step.at_next()), _velocity(denoise, z, step)
        if state is None:
            now = _flow_canvas(z, step)
            after = now - length * slope
            if self.ends is not None:
                first, second = self.ends
                after = after + (second - after[self.place])
                now, after = now.clone(), after.clone()
                now[self.place], after[self.place] = first[0], second[0]
        else:
            r, c = _factors(length, state.length)
            now = state.now
            after = r * state.before + (1 - r) * now - c * slope
        return (after * (step.alpha_next + step.s_next)).to(z), Neighbours(now, after, length)


def _factors(length: float, before: float) -> tuple[float, float]:
    """r and the factor of the velocity, of a step of this length after one of length ``before``."""
    return (length / before) ** 2, length * (length + before) / before


def _level(step: Step) -> float:
    return step.s / (step.alpha + step.s)


def _flow_canvas(z: Tensor, step: Step) -> Tensor:
    return z.double() / (step.alpha + step.s)


def _velocity(denoise: Denoise, z: Tensor, step: Step) -> Tensor:
    """``n - x0`` at the step's beginning, float64."""
    x0 = denoise(z, step).double()
    return (z.double() - step.alpha * x0) / step.s - x0


@torch.no_grad()
def invert_by_belm(
    plan: Plan, z: Tensor, steps: Sequence[Step], *, on_step: StepCallback = no_callback, run: Run | None = None
) -> Inverted:
    """Invert a canvas, from clean to noisy; its sampler restores it under the same plan.

    Args:
        plan: The conditioning and the guidance.
        z: [1, C, H, W], at the end of the last step.
        steps: The denoising steps, noisy to clean.
        on_step: Called after each step with the step, z at its noisy end and the last estimate of x0.
        run: Receives the counts.

    Raises:
        NotFiniteError: z is NaN or infinite after a step.
    """
    run = Run() if run is None else run
    pruned = plan.without_empty_views()
    estimates: list[Tensor] = []

    def denoise(z: Tensor, step: Step) -> Tensor:
        estimates.append(predict(pruned, z, step, run))
        return estimates[-1]

    path, found = [z], None
    for step in reversed(steps):
        found = _noisier(found, denoise, path[-1], step)
        path.append((found.before * (step.alpha + step.s)).to(z))
        check_finite(path[-1], step, "the inversion of step")
        on_step(step, path[-1], estimates[-1])
    assert found is not None, "there are steps"
    return Inverted(tuple(reversed(path)), Belm(ends=(found.before, found.now)), run)


def _noisier(found: Neighbours | None, denoise: Denoise, z: Tensor, step: Step) -> Neighbours:
    """The canvases at the step's beginning and end, from those at its end and behind it. z: at its end, float32."""
    length = _level(step) - _level(step.at_next())
    if found is None:
        # At a clean end without noise there is no n to ask for: the network is asked one level on.
        now = _flow_canvas(z, step.at_next())
        slope = _velocity(denoise, z, step if step.s_next == 0 else step.at_next())
        return Neighbours(now + length * slope, now, length)
    r, c = _factors(found.length, length)
    slope = _velocity(denoise, z, step.at_next())
    return Neighbours((found.now - (1 - r) * found.before + c * slope) / r, found.before, length)
