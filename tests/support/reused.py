"""Runs whose networks reuse features of earlier predictions, and what every form of reuse must hold."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cloisonne.core.plan import Step
from cloisonne.core.predict import predict
from cloisonne.core.run import EXACT, ReuseSchedule, Run
from cloisonne.core.sample import sample
from cloisonne.models.model import Model
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.scene import Scene


def noise(prepared: Prepared, model: Model) -> Tensor:
    """[1, C, H, W]: what a run starts at."""
    return torch.randn(1, model.vae.channels, *prepared.grid, generator=torch.Generator().manual_seed(7))


def sampled(scene: Scene, model: Model, reuse: ReuseSchedule) -> tuple[Tensor, Run]:
    """Final latents, and the run."""
    prepared, run = prepare(scene, model), Run(reuse=reuse)
    z = noise(prepared, model)
    return sample(prepared.plan, prepared.sampler, z, prepared.steps, noise=lambda: z, run=run), run


def predictions(scene: Scene, model: Model, reuse: ReuseSchedule) -> tuple[Sequence[Step], list[Tensor], list[int]]:
    """Estimates of x0 at each step, from the same z, and the forwards so far that reused."""
    prepared, run = prepare(scene, model), Run(reuse=reuse)
    z, found, reused = noise(prepared, model), list[Tensor](), list[int]()
    for step in prepared.steps:
        found.append(predict(prepared.plan, z, step, run))
        reused.append(run.reused)
    return prepared.steps, found, reused


@torch.no_grad()
def check_boundaries(scene: Scene, model: Model, reuse: ReuseSchedule, boundaries: Sequence[int]) -> None:
    """All layers run at the first step and at these, and at no other step of a schedule that always reuses."""
    steps, exact, _ = predictions(scene, model, EXACT)
    _, found, reused = predictions(scene, model, reuse)
    for step in steps:
        whole = step.index in (0, *boundaries)
        assert torch.equal(found[step.index], exact[step.index]) == whole, step.index
    assert reused[-1] > 0
