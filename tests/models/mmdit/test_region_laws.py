"""The laws of regions in joint attention, on every family of transformers."""

from typing import Any

import pytest
import torch
from joint_networks import NETWORKS, Network, loaded
from torch import Tensor

from cloisonne.core.plan import Plan
from cloisonne.core.predict import predict
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat", negative="dog", guidance=3.0)
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0, priority=1)
SKY = Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.4)], phrase="stars", stop=0.5, feather=0.1)
SCENE = Scene(caption="on the beach", seed=3, steps=2, guidance=2.0, width=128, height=128, regions=(CAT, CAR, SKY))
WHOLE = (0.0, 0.0, 1.0, 1.0)
METHODS = ("isolated", "bounded")
METHOD = pytest.mark.parametrize("method", METHODS)
EVERY_METHOD = pytest.mark.parametrize("method", [*METHODS, "multidiffusion"])


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(network.write(tmp_path_factory.mktemp("network")))


@pytest.fixture(scope="module")
def shallow(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One block, in which what an image token attends to is all that a text can change."""
    return loaded(network.shallow(tmp_path_factory.mktemp("shallow")))


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
@METHOD
def test_order_of_regions_changes_nothing(model: Model, method: Any, overlap: Any) -> None:
    scene = SCENE.replace(method=method, overlap=overlap)
    orders = (scene.regions, scene.regions[::-1], (CAR, CAT, SKY))
    first, *others = (latents(scene.replace(regions=order), model) for order in orders)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("absent", [{"weight": 0.0}, {"start": 0.4, "stop": 0.4}])
@EVERY_METHOD
def test_weight_0_or_an_empty_interval_is_absent(model: Model, method: Any, absent: dict[str, float]) -> None:
    scene = SCENE.replace(method=method)
    without = latents(scene.replace(regions=(CAT, SKY)), model)
    assert torch.equal(latents(scene.replace(regions=(CAT, CAR.replace(**absent), SKY)), model), without)
    assert not torch.equal(latents(scene, model), without)


@EVERY_METHOD
def test_a_full_region_without_a_caption_is_the_plain_prompt(model: Model, method: Any) -> None:
    region = Region(box=WHOLE, phrase="a red car on the beach", negative="dog", guidance=3.0)
    scene = SCENE.replace(caption="", method=method, region_boost=1, regions=(region,))
    plain = scene.replace(method="caption", caption=region.phrase, negative="dog", guidance=3.0, regions=())
    torch.testing.assert_close(latents(scene, model), latents(plain, model), atol=1e-5, rtol=0)


def test_a_full_region_that_counts_once_is_the_plain_prompt(model: Model) -> None:
    region = Region(box=WHOLE, phrase="a red car", negative="dog", guidance=3.0)
    scene = SCENE.replace(method="bounded", region_boost=1, regions=(region,))
    plain = scene.replace(method="caption", caption="on the beach, a red car", negative="dog", guidance=3.0, regions=())
    torch.testing.assert_close(latents(scene, model), latents(plain, model), atol=1e-5, rtol=0)
    assert not torch.allclose(latents(scene.replace(region_boost=30), model), latents(plain, model), atol=1e-4)


@pytest.mark.parametrize("method", [*METHODS, "multidiffusion", "words"])
def test_without_regions_it_is_the_plain_prompt(model: Model, method: Any) -> None:
    scene = SCENE.replace(regions=(), negative="dog")
    assert torch.equal(latents(scene.replace(method=method), model), latents(scene.replace(method="caption"), model))


@METHOD
def test_a_region_of_all_steps_in_two_parts_is_that_region(model: Model, method: Any) -> None:
    scene = SCENE.replace(method=method, regions=(CAT,))
    halves = (CAT.replace(name="a", stop=0.5), CAT.replace(name="b", start=0.5))
    whole = latents(scene, model)
    torch.testing.assert_close(latents(scene.replace(regions=halves), model), whole, atol=1e-5, rtol=0)
    assert not torch.equal(latents(scene.replace(regions=halves[:1]), model), whole)


def test_two_regions_of_one_phrase_are_their_union(shallow: Model) -> None:
    """In one block: later, each copy of the phrase has attended to its own region."""
    scene = SCENE.replace(steps=1, guidance=1.0, isolate=0.0)
    halves = [Region(name=name, box=(x, 0.0, x + 0.5, 0.5), phrase="a cat") for name, x in (("a", 0.0), ("b", 0.5))]
    whole = Region(name="a", box=(0.0, 0.0, 1.0, 0.5), phrase="a cat")
    found = latents(scene.replace(regions=halves), shallow)
    torch.testing.assert_close(found, latents(scene.replace(regions=[whole]), shallow), atol=1e-5, rtol=0)


@METHOD
def test_a_phrase_changes_its_region_alone(shallow: Model, method: Any) -> None:
    scene = SCENE.replace(method=method, steps=1, guidance=1.0, regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    inside = part(changed, (0.0, 0.0, 0.5, 0.75))
    assert bool(inside.all())
    # The pooled text of bounded has the phrases.
    pooled = method == "bounded" and shallow.spec.pooled_width > 0
    assert changed.sum() == (changed.numel() if pooled else inside.numel())


@METHOD
def test_early_steps_keep_regions_apart(shallow: Model, method: Any) -> None:
    """While image tokens are isolated, the noise of the rest changes nothing inside of a region."""
    z = noise(shallow)
    half = z.shape[-1] // 2
    other = z.clone()
    other[..., half:] += 1
    region = Region(name="pet", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
    for isolate, apart in ((None, True), (0.15, True), (0.0, False)):
        scene = SCENE.replace(method=method, regions=(region,), guidance=1.0, isolate=isolate)
        run = prepare(scene, shallow)
        found = [predict(run.plan, given, run.steps[0])[..., :half] for given in (z, other)]
        assert torch.equal(*found) is apart


@METHOD
def test_regions_hold_in_every_block_or_in_every_second(model: Model, method: Any) -> None:
    scene = SCENE.replace(method=method, regions=(CAT,))
    usual, first, second = (latents(scene.replace(blocks=blocks), model) for blocks in (None, 1, 2))
    assert torch.equal(usual, first)
    assert not torch.equal(usual, second)


@pytest.mark.parametrize("option", [{"isolate": 0.5}, {"blocks": 2}], ids=["isolate", "blocks"])
@pytest.mark.parametrize("method", ["isolated", "bounded", "multidiffusion", "caption"])
def test_options_of_joint_attention_are_warned_of_where_they_change_nothing(
    model: Model, method: Any, option: dict[str, Any]
) -> None:
    (name,) = option
    found = prepare(SCENE.replace(method=method, **option), model).compiled.warnings
    said = [text for text in found if text.startswith(f"{name} changes nothing here: the method")]
    assert bool(said) == (method not in METHODS)
    assert not any(text.startswith(name) for text in prepare(SCENE.replace(method=method), model).compiled.warnings)


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
@METHOD
def test_every_option_counts(model: Model, method: Any, changes: dict[str, Any]) -> None:
    scene = SCENE.replace(method=method, regions=(CAT,))
    assert not torch.equal(latents(scene, model), latents(scene.replace(regions=(CAT.replace(**changes),)), model))


def test_a_negative_of_a_region_counts_there_alone(shallow: Model) -> None:
    scene = SCENE.replace(steps=1, regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(negative="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    inside = part(changed, (0.0, 0.0, 0.5, 0.75))
    assert bool(inside.all())
    assert changed.sum() == inside.numel()


@pytest.mark.parametrize("count", [0, 1, 3])
@METHOD
def test_rows_do_not_depend_on_the_number_of_regions(model: Model, method: Any, count: int) -> None:
    scene = SCENE.replace(method=method, regions=(CAT, CAR, SKY)[:count])
    assert generate(scene, model, output_type="latent").report["rows"] == 4


@METHOD
def test_an_explanation_counts_the_tokens_of_each_row(model: Model, method: Any) -> None:
    """Of the caption, the phrases and the null branch; work of the network follows their number."""
    scene = SCENE.replace(method=method, regions=(CAT, CAR), isolate=0.5, blocks=2)
    explained = explain(scene, model)
    run = prepare(scene, model)
    branches: Any = run.plan.views[0].branches
    counts = {name: sum(len(text.value) for text in branch.tokens) for name, branch in branches.items()}
    assert len(branches["cond"].tokens) > 2
    assert explained.tokens == sum(counts.values())
    rows = [model.net.cost(run.grid, count).flops for count in counts.values()]
    assert explained.flops == 2 * sum(rows) + model.vae.cost(run.grid).flops
    assert "regions attend only to themselves in the first 1 step; regions hold in every second block" in str(explained)


@METHOD
def test_merged_scenes_are_separate_scenes(model: Model, method: Any) -> None:
    scenes = [SCENE.replace(regions=(CAT,)), SCENE.replace(regions=(CAR, CAT), caption="at night")]
    plans = [prepare(scene.replace(method=method), model).compiled.plan for scene in scenes]
    step, z = prepare(SCENE, model).steps[0], noise(model, 2)
    alone = [predict(plan, own[None], step)[0] for plan, own in zip(plans, z, strict=True)]
    merged = sum((plan.in_scene(str(k)) for k, plan in enumerate(plans)), Plan())
    assert torch.equal(predict(merged, z, step), torch.stack(alone))
