"""Scenes sampled together are the scenes sampled alone: to the bit in forwards of their own, else up to rounding."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from controlled import photo
from torch import Tensor

from cloisonne.core.attention.token_maps import TokenMaps
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.batch import batches, sample_batch
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="cat", box=(0.0, 0.1, 0.6, 0.9), phrase="a cat", stop=0.5)
CAR = Region(name="car", ellipse=(0.3, 0.2, 1.0, 0.8), phrase="a red car", negative="a dog")
READER = TokenMaps(stream="image", words=(1, 2), grid=(4, 4))


def scene(seed: int, *regions: Region, **fields: Any) -> Scene:
    return Scene(**{"caption": "on the beach", "seed": seed, "steps": 3} | fields, regions=regions)


@pytest.fixture
def prepared(tiny: Model) -> list[Prepared]:
    """Scenes of one, two and four streams' worth of views."""
    scenes = (
        scene(1, CAT, CAR, sampler="euler-ancestral"),
        scene(2, sampler="euler-ancestral", guidance=1.0),
        scene(3, CAT, CAR, sampler="euler-ancestral", method="multidiffusion"),
    )
    return [prepare(one, tiny) for one in scenes]


def noise_of(one: Prepared) -> Noise:
    assert one.scene.seed is not None
    return Noise([Seed(one.scene.seed)], (4, *one.grid))


def alone(prepared: Sequence[Prepared], plans: Sequence[Plan], runs: Sequence[Run]) -> list[Tensor]:
    found = []
    for one, plan, run in zip(prepared, plans, runs, strict=True):
        noise = noise_of(one)
        found.append(sample(plan, one.sampler, noise(), one.steps, noise=noise, run=run))
    return found


@pytest.mark.parametrize("per_scene", [True, False, None])
def test_together_is_alone(prepared: list[Prepared], tiny: Model, per_scene: bool | None) -> None:
    plans = [one.plan + Plan(edits=(READER,)) for one in prepared]
    runs, merged = ([Run() for _ in plans] for _ in range(2))
    expected = alone(prepared, plans, runs)
    forwards: list[int] = []
    seen: dict[int, list[Tensor]] = {index: [] for index in range(len(plans))}
    noises = [noise_of(one) for one in prepared]
    hook = tiny.net.unet.register_forward_hook(lambda module, args, out: forwards.append(len(args[0])))
    with hook:
        found = sample_batch(
            plans,
            prepared[0].sampler,
            [noise() for noise in noises],
            prepared[0].steps,
            noises=noises,
            callbacks=[lambda step, z, x0, own=own: own.append(z) for own in seen.values()],
            runs=merged,
            per_scene=per_scene,
        )
    for index, (own, other) in enumerate(zip(found, expected, strict=True)):
        if per_scene is False:
            torch.testing.assert_close(own, other, atol=1e-4, rtol=0)
        else:
            assert torch.equal(own, other)
        assert len(seen[index]) == 3
        assert torch.equal(seen[index][-1], own)
        ours, theirs = READER.mean(merged[index]), READER.mean(runs[index])
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert [run.rows for run in merged] == [run.rows for run in runs]
    assert sum(forwards) == sum(run.rows for run in runs)
    assert len(forwards) == (3 if per_scene is False else sum(run.forwards for run in runs))
    assert [run.forwards for run in merged] == ([3] * 3 if per_scene is False else [run.forwards for run in runs])


def test_only_scenes_of_equal_networks_sizes_steps_and_samplers_share(tiny: Model, tiny_family: Any) -> None:
    other = load(tiny_family)
    concept = Region(name="all", box=(0.0, 0.0, 1.0, 1.0), concept=photo(1))
    given: list[tuple[Scene, Model]] = [
        (scene(1, CAT), tiny),
        (scene(2, CAT, steps=4), tiny),
        (scene(3, CAR, method="multidiffusion"), tiny),
        (scene(4, sampler="euler"), tiny),
        (scene(5, width=128), tiny),
        (scene(6), other),
        (scene(7, background=photo(2), strength=0.5, steps=6), tiny),
        (scene(8, eta=0.5), tiny),
        (scene(9, concept, background=photo(3), caption=""), tiny),
        (scene(10, concept, background=photo(4), caption=""), tiny),
        (scene(11, width=128), tiny),
        (scene(12, CAT, CAR), tiny),
    ]
    prepared = [prepare(one, model, blank=True) for one, model in given]
    assert batches(prepared) == [[0, 2, 11], [1], [3], [4, 10], [5], [6], [7], [8], [9]]
    assert batches(prepared, most=2)[-1] == [11]
    assert batches([]) == []
