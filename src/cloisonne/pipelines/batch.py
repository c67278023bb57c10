"""Scenes that are sampled together: which ones share their forward passes, and the merged run."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from cloisonne.core.plan import Plan, Step
from cloisonne.core.run import EXACT, AttentionReadings, Run
from cloisonne.core.sample import StepCallback, no_callback, sample
from cloisonne.core.samplers import Sampler
from cloisonne.pipelines.prepare import Prepared

MOST = 8
"""Scenes of one batch, unless fewer are asked for."""


def batches(prepared: Sequence[Prepared], most: int = MOST) -> list[list[int]]:
    """Group scenes that can be sampled in one forward a step.

    Such scenes have the same networks, latent size, steps, sampler and speed. A scene with a concept is sampled alone,
    because its start depends on an inversion.

    Args:
        prepared: The scenes.
        most: The largest number of scenes in a group.

    Returns:
        Indices into ``prepared``, each once, in ascending order within a group; groups by their first index.
    """
    found: list[tuple[Hashable, Sampler[Any], list[int]]] = []
    for index, one in enumerate(prepared):
        nets = frozenset(view.net for view in one.compiled.plan.views)
        key = (nets, one.grid, one.steps, one.scene.speed)
        for other, sampler, indices in found:
            if (key, one.sampler) == (other, sampler) and len(indices) < most and one.scene.translated is None:
                indices.append(index)
                break
        else:
            # A key that no other scene has.
            found.append((key if one.scene.translated is None else index, one.sampler, [index]))
    return [indices for _, _, indices in found]


def sample_batch(
    plans: Sequence[Plan],
    sampler: Sampler[Any],
    latents: Sequence[Tensor],
    steps: Sequence[Step],
    *,
    noises: Sequence[Callable[[], Tensor]],
    callbacks: Sequence[StepCallback] | None = None,
    runs: Sequence[Run] | None = None,
    per_scene: bool | None = None,
) -> list[Tensor]:
    """Sample the plans of several scenes as one merged plan.

    Args:
        plans: One for each scene of a group of :func:`batches`.
        sampler: The common solver.
        latents: [S, C, H, W] for each scene, in the order of its plan's streams.
        steps: The common denoising steps.
        noises: For each scene the next unit noise [S, C, H, W] of a stochastic sampler.
        callbacks: One for each scene, called after each step as by :func:`~cloisonne.core.sample.sample`.
        runs: One for each scene; each receives the counts of its own rows and its attention maps.
        per_scene: True gives each scene a forward of its own, so that its bytes are those of sampling it alone. None:
            on the CPU alone.

    Returns:
        The final latents of each scene, [S, C, H, W].

    Raises:
        SceneError, NotFiniteError: As :func:`~cloisonne.core.sample.sample`, for the whole batch.
    """
    names = [f"{index:06d}" for index in range(len(plans))]
    runs = [Run() for _ in plans] if runs is None else runs
    callbacks = [no_callback] * len(plans) if callbacks is None else callbacks
    renamed = [plan.in_scene(name) for name, plan in zip(names, plans, strict=True)]
    merged = sum(renamed, Plan())
    places = [[merged.streams.index(stream) for stream in plan.streams] for plan in renamed]

    def joined(parts: Sequence[Tensor]) -> Tensor:
        """[all S, C, H, W] in the order of the merged plan's streams."""
        order = torch.tensor([place for own in places for place in own]).argsort()
        return torch.cat(list(parts))[order.to(parts[0].device)]

    def on_step(step: Step, z: Tensor, x0: Tensor) -> None:
        for own, callback in zip(places, callbacks, strict=True):
            callback(step, z[own], x0[own])

    reuse = runs[0].reuse if runs else EXACT
    run = Run(scenes=dict(zip(names, runs, strict=True)), reuse=reuse)
    z = sample(
        merged,
        sampler,
        joined(latents),
        steps,
        noise=lambda: joined([noise() for noise in noises]),
        on_step=on_step,
        run=run,
        per_scene=per_scene,
    )
    for plan, own, target in zip(plans, renamed, runs, strict=True):
        _copy_maps(plan, own, run, target)
    return [z[own] for own in places]


def _copy_maps(plan: Plan, renamed: Plan, run: Run, target: Run) -> None:
    """Give a scene's run the attention maps that the merged run recorded of it. renamed: the plan as it was merged."""
    for reader, read in zip(plan.edits, renamed.edits, strict=True):
        if read in run.maps:
            target.maps.setdefault(reader, AttentionReadings()).extend(run.maps[read])
