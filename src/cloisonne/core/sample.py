"""The loop: the only one, for every method and sampler."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cloisonne.core.finite import check_finite
from cloisonne.core.plan import Plan, Step
from cloisonne.core.predict import Run, predict
from cloisonne.core.samplers import Sampler
from cloisonne.errors import SceneError

Watch = Callable[[Step, Tensor, Tensor], None]
"""Called after each step with the step, z at its end and the last estimate of x0, both [S, C, H, W]."""


def silent(step: Step, z: Tensor, x0: Tensor) -> None:
    """The watcher that does nothing."""


@torch.no_grad()
def sample(
    plan: Plan,
    sampler: Sampler[Any],
    z: Tensor,
    steps: Sequence[Step],
    *,
    noise: Callable[[], Tensor],
    watch: Watch = silent,
    run: Run | None = None,
) -> Tensor:
    """Walk z [S, C, H, W] (in the order of ``plan.streams``) down the steps and return it.

    noise: the next unit noise for stochastic samplers, usually a :class:`~cloisonne.core.noise.Noise`. watch may raise,
    for example :class:`~cloisonne.errors.Cancelled`: nothing outlives the walk, so the networks stay usable. run
    receives the counts; give a fresh one. Raises SceneError where a canvas or a latent pixel is covered by no view,
    NotFiniteError where z is NaN or infinite after a step.
    """
    run = Run() if run is None else run
    pruned = plan.without_empty_views()
    if pruned.streams != plan.streams:
        bare = ", ".join(sorted(set(plan.streams) - set(pruned.streams)))
        raise SceneError(f'No view of "{bare}" has any weight; give a region weight, or a view of the whole canvas.')
    last = z

    def denoise(z: Tensor, step: Step) -> Tensor:
        nonlocal last
        last = predict(pruned, z, step, run)
        return last

    state = sampler.init(z)
    for step in steps:
        z, state = sampler.step(denoise, z, step, state, noise)
        check_finite(z, step)
        watch(step, z, last)
    return z
