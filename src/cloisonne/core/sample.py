"""The sampling loop: the only one, for every method and sampler."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cloisonne.core.finite import check_finite
from cloisonne.core.plan import Plan, Step
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.samplers import Sampler
from cloisonne.errors import SceneError

StepCallback = Callable[[Step, Tensor, Tensor], None]
"""Called after each step with the step, z at its end and the last estimate of x0, both [S, C, H, W]."""


def no_callback(step: Step, z: Tensor, x0: Tensor) -> None:
    """A step callback that does nothing."""


@torch.no_grad()
def sample(
    plan: Plan,
    sampler: Sampler[Any],
    z: Tensor,
    steps: Sequence[Step],
    *,
    noise: Callable[[], Tensor],
    on_step: StepCallback = no_callback,
    run: Run | None = None,
    per_scene: bool | None = None,
) -> Tensor:
    """Denoise z [S, C, H, W] (in the order of ``plan.streams``) by all steps.

    Args:
        plan: The plan; it is not changed, and any number of runs can use it at once.
        sampler: The solver.
        z: The latents at the noise level of the first step, or as the sampler takes them.
        steps: The denoising steps, noisy to clean.
        noise: The next unit noise for stochastic samplers, usually a :class:`~cloisonne.core.noise.Noise`.
        on_step: May raise, for example :class:`~cloisonne.errors.Cancelled`: nothing of the run outlives it.
        run: Receives the counts and the recorded attention maps; give a fresh one.
        per_scene: As in :func:`~cloisonne.core.predict.predict`.

    Returns:
        z at the end of the last step, [S, C, H, W].

    Raises:
        SceneError: A canvas or a latent pixel is covered by no view.
        NotFiniteError: z is NaN or infinite after a step.
    """
    run = Run() if run is None else run
    pruned = plan.without_empty_views()
    if pruned.streams != plan.streams:
        bare = ", ".join(sorted(set(plan.streams) - set(pruned.streams)))
        raise SceneError(f'No view of "{bare}" has any weight; give a region weight, or a view of the whole canvas.')
    last = z

    def denoise(z: Tensor, step: Step) -> Tensor:
        nonlocal last
        last = predict(pruned, z, step, run, per_scene=per_scene)
        return last

    state = sampler.init(z)
    for step in steps:
        for update in pruned.updates:
            z = update(pruned, z, step, run)
        z, state = sampler.step(denoise, z, step, state, noise)
        check_finite(z, step)
        on_step(step, z, last)
    return z
