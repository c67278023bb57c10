"""The laws of regions by isolated texts, on every family of transformers with Qwen's text."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flux2 import write_flux2
from torch import Tensor
from zimage import write_zimage

from cloisonne.core.plan import Plan
from cloisonne.core.predict import predict
from cloisonne.methods import METHODS
from cloisonne.methods.isolated import Isolated
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat", negative="dog", guidance=3.0)
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0, priority=1)
SKY = Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.4)], phrase="stars", stop=0.5, feather=0.1)
SCENE = Scene(caption="on the beach", seed=3, steps=2, guidance=2.0, width=128, height=128, regions=(CAT, CAR, SKY))
WRITERS: dict[str, tuple[Callable[..., Path], dict[str, int]]] = {
    "flux2": (write_flux2, {"double": 1, "single": 0}),
    "zimage": (write_zimage, {"layers": 1, "refiners": 0}),
}
"""What writes a checkpoint, and how it gets one block."""


@pytest.fixture(scope="module", params=WRITERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(family: str, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(WRITERS[family][0](tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="module")
def shallow(family: str, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One block, in which what an image token attends to is all that a text can change."""
    write, options = WRITERS[family]
    return load(write(tmp_path_factory.mktemp(family), **options))


def latents(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def noise(model: Model, count: int = 1) -> Tensor:
    spec = model.spec
    return torch.randn(count, spec.latent_channels, *[128 // spec.vae_factor] * 2)


def part(values: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """The pixels [..., h, w] of a box, x0, y0, x1, y1 in fractions."""
    x0, y0, x1, y1 = (int(edge * values.shape[-1]) for edge in box)
    return values[..., y0:y1, x0:x1]


@pytest.mark.parametrize("overlap", ["blend", "priority", "union"])
def test_order_of_regions_changes_nothing(model: Model, overlap: str) -> None:
    scene = SCENE.replace(overlap=overlap)
    first, *others = (latents(scene.replace(regions=order), model) for order in itertools.permutations(scene.regions))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("absent", [{"weight": 0.0}, {"start": 0.4, "stop": 0.4}])
def test_weight_0_or_an_empty_interval_is_absent(model: Model, absent: dict[str, float]) -> None:
    without = latents(SCENE.replace(regions=(CAT, SKY)), model)
    assert torch.equal(latents(SCENE.replace(regions=(CAT, CAR.replace(**absent), SKY)), model), without)
    assert not torch.equal(latents(SCENE, model), without)


@pytest.mark.parametrize("method", ["isolated", "multidiffusion"])
def test_a_full_region_without_a_caption_is_the_plain_prompt(model: Model, method: str) -> None:
    region = Region(box=(0.0, 0.0, 1.0, 1.0), phrase="a red car on the beach", negative="dog", guidance=3.0)
    scene = SCENE.replace(caption="", method=method, regions=(region,))
    plain = scene.replace(method="caption", caption=region.phrase, negative="dog", guidance=3.0, regions=())
    torch.testing.assert_close(latents(scene, model), latents(plain, model), atol=1e-5, rtol=0)


def test_without_regions_it_is_the_plain_prompt(model: Model) -> None:
    scene = SCENE.replace(regions=(), negative="dog")
    assert torch.equal(latents(scene, model), latents(scene.replace(method="caption"), model))


def test_a_region_of_all_steps_in_two_parts_is_that_region(model: Model) -> None:
    scene = SCENE.replace(regions=(CAT,))
    halves = (CAT.replace(name="a", stop=0.5), CAT.replace(name="b", start=0.5))
    whole = latents(scene, model)
    torch.testing.assert_close(latents(scene.replace(regions=halves), model), whole, atol=1e-5, rtol=0)
    assert not torch.equal(latents(scene.replace(regions=halves[:1]), model), whole)


def test_a_phrase_changes_its_region_alone(shallow: Model) -> None:
    scene = SCENE.replace(steps=1, guidance=1.0, regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    inside = part(changed, (0.0, 0.0, 0.5, 0.75))
    assert bool(inside.all())
    assert changed.sum() == inside.numel()


def test_early_steps_keep_regions_apart(shallow: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """While image tokens are isolated, the noise of the rest changes nothing inside of a region."""
    z = noise(shallow)
    half = z.shape[-1] // 2
    other = z.clone()
    other[..., half:] += 1
    region = Region(name="pet", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
    for isolate, apart in ((0.15, True), (0.0, False)):
        monkeypatch.setitem(METHODS, "isolated", Isolated(isolate=isolate))
        run = prepare(SCENE.replace(regions=(region,), guidance=1.0), shallow)
        found = [predict(run.plan, given, run.steps[0])[..., :half] for given in (z, other)]
        assert torch.equal(*found) is apart


def test_a_higher_priority_hides_the_phrase_below(shallow: Model) -> None:
    scene = SCENE.replace(steps=1, guidance=1.0, overlap="priority", regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    assert bool(part(changed, (0.0, 0.0, 0.5, 0.5)).all())
    assert not bool(part(changed, (0.25, 0.5, 0.5, 0.75)).any())


@pytest.mark.parametrize(
    "changes",
    [{"negative": "car"}, {"weight": 0.3}, {"stop": 0.5}, {"guidance": 4.0}, {"seed": 5}, {"phrase": "a dog"},
     {"feather": 0.2}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_every_option_counts(model: Model, changes: dict[str, Any]) -> None:
    scene = SCENE.replace(regions=(CAT,))
    assert not torch.equal(latents(scene, model), latents(scene.replace(regions=(CAT.replace(**changes),)), model))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_do_not_depend_on_the_number_of_regions(model: Model, count: int) -> None:
    scene = SCENE.replace(regions=(CAT, CAR, SKY)[:count])
    assert generate(scene, model, output_type="latent").report["rows"] == 4


def test_merged_scenes_are_separate_scenes(model: Model) -> None:
    scenes = [SCENE.replace(regions=(CAT,)), SCENE.replace(regions=(CAR, CAT), caption="at night")]
    plans = [prepare(scene, model).compiled.plan for scene in scenes]
    step, z = prepare(SCENE, model).steps[0], noise(model, 2)
    alone = [predict(plan, own[None], step)[0] for plan, own in zip(plans, z, strict=True)]
    merged = sum((plan.in_scene(str(k)) for k, plan in enumerate(plans)), Plan())
    assert torch.equal(predict(merged, z, step), torch.stack(alone))
