"""Inversion: from a clean canvas back to the noise that it comes from, and sampling that ends where it began.

Methods, by name (``INVERSION_METHODS``): ``ddim`` (Song et al., arXiv 2010.02502, section 4.3), ``fixed-point``
(ReNoise's iteration without averages, arXiv 2403.14602), ``lattice`` (exact to the last bit, ``belm.py``), and
``direct`` (Ju et al., arXiv 2310.01506): the states of DDIM inversion are kept, and sampling is put back onto them
after every step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.finite import check_finite
from cloisonne.core.inversion.belm import Lattice, Pair, lattice, noise_of
from cloisonne.core.plan import Plan
from cloisonne.core.predict import Run, predict
from cloisonne.core.sample import Watch, silent
from cloisonne.core.samplers import Ddim, Denoise, Sampler
from cloisonne.core.step import Step
from cloisonne.errors import SceneError

InversionMethod = Literal["ddim", "fixed-point", "direct", "lattice"]
INVERSION_METHODS: tuple[InversionMethod, ...] = ("ddim", "fixed-point", "direct", "lattice")
ITERATIONS = 10
"""Of the fixed point, for each step."""


@dataclass(frozen=True, eq=False)
class Inverted:
    """A canvas walked up to noise.

    path: z [S, C, H, W] at every level, the noisiest first and the given canvas last. sampler: walks down from
    ``path[0]`` by the same steps to (nearly) the given canvas. run: what was asked on the way.
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
    plan: Plan,
    z: Float[Tensor, "S C H W"],
    steps: Sequence[Step],
    way: str = "lattice",
    *,
    iterations: int = ITERATIONS,
    watch: Watch = silent,
    run: Run | None = None,
) -> Inverted:
    """Invert the canvases z [S, C, H, W] (in the order of ``plan.streams``), from clean to noisy.

    steps: the denoising steps, noisy to clean; z is at the end of the last one. The plan gives the conditioning and
    the guidance; exact reconstruction needs the same plan for denoising (all ways but ``direct``, which only needs
    the path). watch is called after each step with the step, z at its noisy end and the last estimate of x0.
    Raises SceneError for a way that there is not, or that the schedule does not allow; NotFiniteError where z is NaN or
    infinite after a step.
    """
    if way not in INVERSION_METHODS:
        raise SceneError(f'There is no inversion "{way}"; choose one of {", ".join(INVERSION_METHODS)}.')
    run = Run() if run is None else run
    pruned = plan.without_empty_views()
    last = z

    def denoise(z: Tensor, step: Step) -> Tensor:
        nonlocal last
        last = predict(pruned, z, step, run)
        return last

    def seen(step: Step, z: Tensor) -> None:
        check_finite(z, step, "the inversion of step")
        watch(step, z, last)

    if way == "lattice":
        path, pair = _up_lattice(denoise, z, steps, seen)
        return Inverted(path, replace(lattice(steps), start=pair), run)
    path = _up(denoise, z, steps, seen, iterations if way == "fixed-point" else 0)
    return Inverted(path, Retrace(Ddim(), path) if way == "direct" else Ddim(), run)


def _up(
    denoise: Denoise, z: Tensor, steps: Sequence[Step], seen: Callable[[Step, Tensor], None], iterations: int
) -> tuple[Tensor, ...]:
    """DDIM upwards. Where a step begins, n is asked at its clean end; iterations then ask at the noisy end again."""
    path = [z]
    for step in reversed(steps):
        # At a clean end without noise there is no n to ask for: the network is asked one level on.
        asked = step if step.s_next == 0 else step.at_next()
        n = noise_of(denoise, z, asked)
        up = _renoised(z, n, step)
        for _ in range(iterations):
            up = _renoised(z, noise_of(denoise, up, step), step)
        z = up
        path.append(z)
        seen(step, z)
    return tuple(reversed(path))


def _renoised(z: Tensor, n: Tensor, step: Step) -> Tensor:
    """The z at a step's noisy end from which noise n leads to z at its clean end."""
    return step.alpha / step.alpha_next * (z - step.s_next * n) + step.s * n


def _up_lattice(
    denoise: Denoise, z: Tensor, steps: Sequence[Step], seen: Callable[[Step, Tensor], None]
) -> tuple[tuple[Tensor, ...], Pair]:
    solver: Lattice = lattice(steps)
    below = solver.hold(z, 0)
    first = steps[-1]
    asked = first if first.s_next == 0 else first.at_next()
    above = solver.hold(_renoised(z, noise_of(denoise, z, asked), first), 1)
    path = [solver.z(below, 0), solver.z(above, 1)]
    seen(first, path[-1])
    for i in range(1, len(steps)):
        step = steps[len(steps) - i]
        below, above = above, below - solver.added(denoise, above, step, i)
        path.append(solver.z(above, i + 1))
        seen(steps[len(steps) - 1 - i], path[-1])
    return tuple(reversed(path)), Pair(before=above, now=below)


@dataclass(frozen=True, eq=False)
class Retrace:
    """A solver that is put back onto a path after every step (DirectInversion, arXiv 2310.01506, algorithm 1).

    path: z [S, C, H, W] at every level, noisiest first. places: the streams, by their number, that are put back; None
    means all. The others walk on as ``solver`` says.
    """

    solver: Sampler[Any]
    path: tuple[Tensor, ...]
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
