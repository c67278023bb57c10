"""``layout_guidance``: latents follow the gradient of the attention that phrases lack in their regions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_checkpoint
from transformer_family import FAMILY, tiny_transformer

from cloisonne.core.attention.layout_guidance import LayoutGuidance, _missing_attention
from cloisonne.core.plan import Plan, Step
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate, generate_batched
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="cat", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
CAR = Region(name="car", box=(0.5, 0.5, 1.0, 1.0), phrase="a red car")
SCENE = Scene(caption="on the beach", seed=3, steps=4, method="bounded", region_boost=20.0, regions=(CAT, CAR))
GUIDED = SCENE.replace(layout_guidance=0.01)


@pytest.fixture(scope="module")
def models(tiny: Model, tiny_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    sd2 = write_checkpoint(tmp_path_factory.mktemp("sd2"), unet={"use_linear_projection": True})
    return {"family": tiny, "sd": load(sd2), "xl": load(tiny_xl)}


def canvas_of(plan: Plan, model: Model) -> torch.Tensor:
    grid = plan.views[0].weight.shape
    return torch.randn(1, model.vae.channels, *grid, generator=torch.Generator().manual_seed(1))


def loss(plan: Plan, z: torch.Tensor, step: Step) -> float:
    views = LayoutGuidance(1.0).views(plan, step)
    return float(_missing_attention(plan, views, z.clone().requires_grad_(), step, Run()).detach())


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_a_step_has_its_length_and_lowers_the_loss_as_its_gradient_foretells(
    models: dict[str, Model], line: str
) -> None:
    prepared = prepare(GUIDED, models[line])
    plan, step = prepared.compiled.plan, prepared.steps[0]
    z, length = canvas_of(plan, models[line]), 1e-2
    moved = LayoutGuidance(length)(plan, z, step, Run())
    assert float((moved - z).norm() / z.norm()) == pytest.approx(length, rel=1e-4)
    # The slope along the move, by central differences at a tenth of it, is the steepest: no other direction falls more.
    away = (moved - z) / 10
    slope = loss(plan, z + away, step) - loss(plan, z - away, step)
    other = torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    other *= away.norm() / other.norm()
    across = loss(plan, z + other, step) - loss(plan, z - other, step)
    assert slope < 0
    assert abs(across) < abs(slope)
    assert loss(plan, moved, step) < loss(plan, z, step)


def test_the_loss_is_of_the_attention_in_the_regions(tiny: Model) -> None:
    """The more a phrase counts, the less attention it lacks; it lacks none where it has all of it."""
    found: list[float] = []
    for boost in (2.0, 20.0, 1000.0, 1e6):
        prepared = prepare(GUIDED.replace(region_boost=boost), tiny)
        found.append(loss(prepared.compiled.plan, canvas_of(prepared.compiled.plan, tiny), prepared.steps[0]))
    assert found == sorted(found, reverse=True)
    assert 0.2 < found[0] < 1
    assert found[-1] < 1e-4


def test_the_second_half_of_the_steps_is_not_guided(tiny: Model) -> None:
    prepared = prepare(GUIDED, tiny)
    plan = prepared.compiled.plan
    z = canvas_of(plan, tiny)
    moved = [not torch.equal(plan.updates[0](plan, z, step, Run()), z) for step in prepared.steps]
    assert moved == [True, True, False, False]


def test_a_length_of_0_is_no_guidance(tiny: Model) -> None:
    assert prepare(GUIDED.replace(layout_guidance=0), tiny).compiled.plan.updates == ()
    plain, guided = (generate(scene, tiny, output_type="latent").latents for scene in (SCENE, GUIDED))
    assert not torch.equal(plain, guided)


@pytest.mark.parametrize(
    ("sampler", "speed"), [("ddim", "exact"), ("ddim", "fast"), ("heun", "exact"), ("dpmpp-2m", "exact")]
)
def test_explain_counts_its_forwards(tiny: Model, sampler: str, speed: str) -> None:
    scene = GUIDED.replace(sampler=sampler, speed=speed)
    plain, guided = explain(scene.replace(layout_guidance=0), tiny), explain(scene, tiny)
    assert (guided.forwards - plain.forwards, guided.rows - plain.rows) == (2, 2)
    assert guided.flops > plain.flops + 5 * (plain.flops / plain.rows)
    assert "layout guidance of 0.01: steps 1-2, a forward and a backward pass each" in str(guided)
    report = generate(scene, tiny, output_type="latent").report
    assert (report["forwards"], report["rows"]) == (guided.forwards, guided.rows)


def test_phrases_count_from_where_their_interval_begins(tiny: Model) -> None:
    late = GUIDED.replace(regions=(CAT.replace(start=0.25),))
    assert explain(late, tiny).forwards == generate(late, tiny, output_type="latent").report["forwards"] == 5


def test_a_batch_guides_each_scene_as_alone(tiny: Model) -> None:
    scenes = [GUIDED, SCENE.replace(seed=4), GUIDED.replace(seed=5, layout_guidance=0.05, regions=(CAR,))]
    alone = [generate(scene, tiny, output_type="latent") for scene in scenes]
    together = generate_batched(scenes, tiny, [None] * 3, output_type="latent")
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.latents, other.latents, rtol=1e-4, atol=1e-4)
        assert one.report["rows"] == other.report["rows"]


def test_inpainting_keeps_what_is_outside(tiny: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    scene = GUIDED.replace(background=Image.fromarray(pixels), regions=(CAT,))
    found = np.asarray(generate(scene, tiny).image)
    assert np.array_equal(found[40:], pixels[40:])
    assert not np.array_equal(found, np.asarray(generate(scene.replace(layout_guidance=0), tiny).image))


def test_windows_are_guided_each(tiny: Model) -> None:
    side = tiny.native.width
    scene = GUIDED.replace(width=2 * side, height=side, windows=0.25)
    found = explain(scene, tiny)
    assert found.forwards == generate(scene, tiny, output_type="latent").report["forwards"]
    assert found.rows > explain(scene.replace(layout_guidance=0), tiny).rows


@pytest.mark.parametrize(
    "changes",
    [{"method": "attention"}, {"region_boost": 1.0}, {"regions": ()}, {"regions": (CAT.replace(weight=0.0),)}],
)
def test_it_warns_where_no_phrase_is_boosted(tiny: Model, changes: dict[str, object]) -> None:
    asked = GUIDED.replace(**changes)
    found = generate(asked, tiny, output_type="latent")
    assert any(
        "layout_guidance changes nothing here: no phrase is boosted" in text for text in found.report["warnings"]
    )
    plain = generate(asked.replace(layout_guidance=0), tiny, output_type="latent")
    assert torch.equal(found.latents, plain.latents)


def test_a_network_without_cross_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, FAMILY.name, FAMILY)
    with pytest.raises(CapabilityError, match=r"layout_guidance is 0\.01, but .* no cross-attention.*leave it out"):
        prepare(GUIDED, tiny_transformer())


def test_edits_are_refused(tiny: Model) -> None:
    changed = CAT.replace(phrase="", edit={"kind": "change", "before": "a cat", "after": "a dog"})
    with pytest.raises(SceneError, match=r"layout_guidance is 0\.01, but edits"):
        edit(GUIDED.replace(regions=(changed,)), tiny)


def test_translations_are_refused(tiny: Model) -> None:
    picture = Image.new("RGB", (64, 64), "teal")
    concept = Region(name="style", box=(0.0, 0.0, 1.0, 1.0), phrase="", concept={"image": picture})
    with pytest.raises(SceneError, match=r"layout_guidance is 0\.01, but translations"):
        generate(GUIDED.replace(background=picture, regions=(concept,)), tiny)


@pytest.mark.parametrize("length", [-0.1, 0.3, "much", True])
def test_other_lengths_are_refused(length: object) -> None:
    with pytest.raises(SceneError, match="layout_guidance"):
        SCENE.replace(layout_guidance=length)
