"""FlowEdit: changes a given canvas without inversion (Kulikov et al., arXiv 2412.08629, algorithm 1), in x0 space.

The paper moves the edited canvas by the difference of two velocities at a shared noise. With ``v = (z - x0) / s`` that
is a difference of two estimates of x0, so that any network and any schedule can take the step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.plan import Plan
from cloisonne.core.refines import Follow
from cloisonne.core.samplers import Ddim, Denoise, Sampler
from cloisonne.core.step import Interval, Step


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowEdit:
    """A solver of two clean canvases: the source X, which stays as it is, and the edited E, which begins as X.

    At every step both get the same noise n, ``z_src = alpha X + s n`` and ``z_tar = z_src + (alpha + s)(E - X)``, and
    then ``E <- E + (1 - f_next / f)((X + x0_tar - x0_src) - E)``, where ``f = s / (alpha + s)`` is the level as a flow
    has it. Where alpha + s is 1 this is the paper's ``E <- E + (t_next - t)(v_tar - v_src)``. Refines of the estimates
    restrict the difference to regions.

    source, target: indices of the two streams. n_avg: noises of a step whose differences are averaged. anew: [H, W], 1
    where the edited canvas is no E but a noisy z that ``solver`` denoises; None means nowhere.
    """

    source: int
    target: int
    n_avg: int = 1
    anew: Float[Tensor, "H W"] | None = None
    solver: Sampler[Any] = field(default_factory=Ddim)

    @property
    def ends_clean(self) -> bool:
        return self.solver.ends_clean

    def init(self, z: Float[Tensor, "S C H W"]) -> Any:
        return self.solver.init(z[self.target][None])

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: Any, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], Any]:
        known, edited = z[self.source], z[self.target]
        estimates: list[Tensor] = []

        def estimate(own: Tensor, at: Step) -> Tensor:
            drawn = [denoise(self._noised(z, own[0], at, noise()[0]), at) for _ in range(self.n_avg)]
            estimates.append(torch.stack(drawn).mean(0))
            return estimates[-1][self.target][None]

        if self.anew is None:
            own = estimate(edited[None], step)
        else:
            own, state = self.solver.step(estimate, edited[None], step, state, noise)
        difference = estimates[0][self.target] - estimates[0][self.source]
        left = _flow_level(step.alpha_next, step.s_next) / _flow_level(step.alpha, step.s)
        moved = edited + (1 - left) * ((known + difference) - edited)
        z = z.clone()
        z[self.target] = moved if self.anew is None else torch.where(self.anew > 0, own[0], moved)
        return z, state

    def _noised(self, z: Tensor, own: Tensor, at: Step, noise: Tensor) -> Tensor:
        """Both canvases at a noise level, [2, C, H, W]. own: the edited canvas where it is painted anew."""
        known, edited = z[self.source], z[self.target]
        noised = at.alpha * known + at.s * noise
        shifted = noised + (at.alpha + at.s) * (edited - known)
        both = z.clone()
        both[self.source] = noised
        both[self.target] = shifted if self.anew is None else torch.where(self.anew > 0, own, shifted)
        return both


def _flow_level(alpha: float, s: float) -> float:
    """The level t of a flow, ``(1 - t) x0 + t n``, at which a canvas has the noise per signal of ``alpha x0 + s n``."""
    return s / (alpha + s)


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowTiming:
    """Where and when the edited canvas changes.

    source, target: the streams. num_steps: of sampling. counts: the numbers of the last steps in which parts of the
    canvas flow (the paper's n_max), and these parts, [H, W] in [0, 1]. anew: [H, W], 1 where it is painted anew in all
    steps.
    """

    source: str
    target: str
    num_steps: int
    counts: tuple[tuple[int, Float[Tensor, "H W"]], ...]
    anew: Float[Tensor, "H W"]

    @property
    def flows(self) -> bool:
        """Whether any part flows."""
        return bool(self.counts)

    @property
    def paints(self) -> bool:
        """Whether any part is painted anew."""
        return bool((self.anew > 0).any())

    @property
    def count(self) -> int:
        """Number of the last steps that are needed: all where a part is painted anew."""
        return self.num_steps if self.paints else max(count for count, _ in self.counts)

    def solver(self, plan: Plan, solver: Sampler[Any], n_avg: int) -> FlowEdit:
        """The solver of a plan of both streams."""
        source, target = (plan.streams.index(stream) for stream in (self.source, self.target))
        anew = self.anew if self.paints else None
        return FlowEdit(source=source, target=target, n_avg=n_avg, anew=anew, solver=solver)

    def latents(self, plan: Plan, known: Float[Tensor, "C H W"], noise: Float[Tensor, "C H W"]) -> Tensor:
        """Both canvases before the first step, [2, C, H, W]: the known one, with noise where it is painted anew."""
        return plan.stack({self.source: known, self.target: torch.where(self.anew > 0, noise, known)})

    def follows(self) -> tuple[Follow, ...]:
        """Refines that restrict the difference of the estimates to the parts that have begun to change."""
        edges = sorted({0, self.count, *(self.count - own for own, _ in self.counts)})
        return tuple(
            Follow(
                source=self.source,
                target=self.target,
                mask=self._free(first),
                when=Interval(first / self.count, last / self.count),
            )
            for first, last in pairwise(edges)
        )

    def _free(self, index: int) -> Tensor:
        """[H, W]: the parts that change at a step."""
        begun = [part for own, part in self.counts if self.count - own <= index]
        return torch.stack([self.anew, *begun]).amax(0)


def last_steps(steps: Sequence[Step], count: int) -> tuple[Step, ...]:
    """The last ``count`` steps, counted from 0."""
    left = steps[len(steps) - count :]
    return tuple(replace(step, index=i, count=count) for i, step in enumerate(left))
