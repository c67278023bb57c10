"""Regions on FLUX.1: isolated texts equal diffusers' network with an explicit mask, and the laws of every method."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from flux import LENGTH, write_flux
from torch import Tensor

from cloisonne.core.plan import Conditioning, Plan
from cloisonne.core.predict import predict
from cloisonne.methods import METHODS
from cloisonne.methods.isolated import Isolated
from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat", negative="dog", guidance=3.0)
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0, priority=1)
SKY = Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.4)], phrase="stars", stop=0.5, feather=0.1)
SIDE, GRID = 128, (8, 8)
"""Pixels, and image tokens."""
SCENE = Scene(caption="on the beach", seed=3, steps=4, guidance=2.0, width=SIDE, height=SIDE, regions=(CAT, CAR, SKY))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux"), embedded=False)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder)


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One block, in which what an image token attends to is all that a text can change."""
    return load(write_flux(tmp_path_factory.mktemp("shallow"), embedded=False, double=1, single=0))


def latents(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def prepared(scene: Scene, model: Model) -> Prepared:
    return prepare(scene, model)


class Masked(FluxAttnProcessor):
    """diffusers' own attention with the mask of its block."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:3], self.mask[None, None], *args[4:], **given)


def share_of_tokens(region: Region, others: list[Region]) -> Tensor:
    """[8, 8]: a region's share by the rule of overlap "blend", from its box or its mask in whole tokens."""

    def mask(own: Region) -> Tensor:
        found = torch.zeros(GRID)
        x0, y0, x1, y1 = (int(side * 8) for side in own.box or (0, 0, 0.5, 1))
        found[y0:y1, x0:x1] = 0.5 if own.box is None else 1.0
        return found

    total = torch.stack([mask(own) * own.weight for own in others])
    rest = (1 - total.sum(0)).clamp_min(0)
    return mask(region) * region.weight / (total.sum(0) + rest)


def explicit_bias(lengths: list[int], shares: list[Tensor], *, isolated: bool) -> Tensor:
    """[S, S] to add to the logits of [caption, phrases, image], entry by entry."""
    starts = [0, *itertools.accumulate([LENGTH, *lengths])]
    image = starts[-1]
    bias = torch.zeros(image + 64, image + 64)
    for k, share in enumerate(own.flatten() for own in shares):
        start, stop = starts[k + 1], starts[k + 2]
        for token in range(start, stop):
            bias[token, :start] = bias[token, stop:image] = -torch.inf
            for pixel in range(64):
                bias[token, image + pixel] = 0.0 if share[pixel] > 0 else -torch.inf
                bias[image + pixel, token] = share[pixel].log()
    if isolated:
        for p, q in itertools.product(range(64), repeat=2):
            covered = [(bool(own.flatten()[p] > 0), bool(own.flatten()[q] > 0)) for own in shares]
            together = any(a and b for a, b in covered) or not any(a or b for a, b in covered)
            bias[image + p, image + q] = 0.0 if together else -torch.inf
    return bias


def explicit(
    folder: Path, model: Model, regions: list[Region], z: Tensor, level: float, biases: list[Tensor]
) -> Tensor:
    """x0 by diffusers' network and processors, with the mask of each block."""
    network: Any = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    network.set_attn_processor({name: Masked(mask) for name, mask in zip(network.attn_processors, biases, strict=True)})
    caption = model.text.encode(pieces("on the beach"))
    phrases = [model.text.encode(pieces(region.phrase)).without_padding for region in regions]
    tokens = torch.cat([caption.tokens, *phrases])
    assert caption.pooled is not None
    with torch.no_grad():
        flow = network(
            hidden_states=packed(z, 2),
            encoder_hidden_states=tokens[None],
            pooled_projections=caption.pooled[None],
            timestep=torch.tensor([level]),
            txt_ids=torch.zeros(len(tokens), 3),
            img_ids=image_positions(GRID, 3),
            return_dict=False,
        )[0]
    return z - level * unpacked(flow, GRID, 2)


GREY = np.zeros((SIDE, SIDE))
GREY[:, : SIDE // 2] = 0.5
SOFT = Region(name="soft", mask=GREY, phrase="a red car")
PLAIN = CAT.replace(negative="", guidance=None)
"""Without a null branch of its own."""
LAYOUTS = {
    "one": [PLAIN],
    "overlapping": [PLAIN, CAR],
    "weight below 1": [PLAIN.replace(weight=0.25)],
    "grey mask": [SOFT],
    "all": [PLAIN, CAR, SOFT],
}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("at", [0, 3], ids=["isolated step", "last step"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_isolated_is_an_explicit_mask(
    folder: Path, model: Model, name: str, at: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "isolated", Isolated(every=every))
    regions = LAYOUTS[name]
    run = prepared(SCENE.replace(regions=regions, guidance=1.0), model)
    step, z = run.steps[at], torch.randn(1, 16, 16, 16)
    # Regions are taken in their canonical order: area, then name.
    conditioning = run.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    ordered = [next(own for own in regions if own.name == text.region) for text in conditioning.tokens[1:]]
    lengths = [len(model.text.encode(pieces(region.phrase)).without_padding) for region in ordered]
    shares = [share_of_tokens(region, ordered) for region in ordered]
    regional = explicit_bias(lengths, shares, isolated=at == 0)
    between = explicit_bias(lengths, [torch.zeros(GRID) for _ in ordered], isolated=False)
    biases = [regional if block % every == 0 else between for block in range(4)]
    expected = explicit(folder, model, ordered, z, step.s, biases)
    torch.testing.assert_close(predict(run.plan, z, step), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("overlap", ["blend", "priority", "union"])
@pytest.mark.parametrize("method", ["isolated", "multidiffusion"])
def test_order_of_regions_changes_nothing(model: Model, method: str, overlap: str) -> None:
    scene = SCENE.replace(method=method, overlap=overlap, steps=2)
    first, *others = (latents(scene.replace(regions=order), model) for order in itertools.permutations(scene.regions))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("absent", [{"weight": 0.0}, {"start": 0.4, "stop": 0.4}])
@pytest.mark.parametrize("method", ["isolated", "multidiffusion"])
def test_weight_0_or_an_empty_interval_is_absent(model: Model, method: str, absent: dict[str, float]) -> None:
    scene = SCENE.replace(method=method, steps=2)
    without = latents(scene.replace(regions=(CAT, SKY)), model)
    assert torch.equal(latents(scene.replace(regions=(CAT, CAR.replace(**absent), SKY)), model), without)
    assert not torch.equal(latents(scene, model), without)


@pytest.mark.parametrize("method", ["isolated", "multidiffusion"])
def test_a_full_region_without_a_caption_is_the_plain_prompt(model: Model, method: str) -> None:
    region = Region(box=(0.0, 0.0, 1.0, 1.0), phrase="a red car on the beach", negative="dog", guidance=3.0)
    scene = SCENE.replace(caption="", method=method, regions=(region,))
    plain = scene.replace(method="caption", caption=region.phrase, negative="dog", guidance=3.0, regions=())
    torch.testing.assert_close(latents(scene, model), latents(plain, model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["isolated", "multidiffusion", "words"])
def test_without_regions_it_is_the_plain_prompt(model: Model, method: str) -> None:
    scene = SCENE.replace(regions=(), negative="dog")
    assert torch.equal(latents(scene.replace(method=method), model), latents(scene.replace(method="caption"), model))


@pytest.mark.parametrize("method", ["isolated", "multidiffusion"])
def test_a_region_of_all_steps_in_two_parts_is_that_region(model: Model, method: str) -> None:
    scene = SCENE.replace(method=method, regions=(CAT,))
    halves = (CAT.replace(name="a", stop=0.5), CAT.replace(name="b", start=0.5))
    whole = latents(scene, model)
    torch.testing.assert_close(latents(scene.replace(regions=halves), model), whole, atol=1e-5, rtol=0)
    assert not torch.equal(latents(scene.replace(regions=halves[:1]), model), whole)


def test_two_regions_of_one_phrase_are_their_union(shallow: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block: later, each copy of the phrase has attended to its own region."""
    monkeypatch.setitem(METHODS, "isolated", Isolated(isolate=0.0))
    scene = SCENE.replace(steps=1, guidance=1.0)
    halves = [Region(name=name, box=(x, 0.0, x + 0.5, 0.5), phrase="a cat") for name, x in (("a", 0.0), ("b", 0.5))]
    whole = Region(name="a", box=(0.0, 0.0, 1.0, 0.5), phrase="a cat")
    found = latents(scene.replace(regions=halves), shallow)
    torch.testing.assert_close(found, latents(scene.replace(regions=[whole]), shallow), atol=1e-5, rtol=0)


def test_a_phrase_changes_its_region_alone(shallow: Model) -> None:
    scene = SCENE.replace(steps=1, guidance=1.0, regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    assert bool(changed[:12, :8].all())
    changed[:12, :8] = False
    assert not bool(changed.any())


def test_early_steps_keep_regions_apart(shallow: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """While image tokens are isolated, the noise of the rest changes nothing inside of a region."""
    z = torch.randn(1, 16, 16, 16)
    other = z.clone()
    other[..., 8:] += 1
    region = PLAIN.replace(box=(0.0, 0.0, 0.5, 1.0))
    for isolate, apart in ((0.15, True), (0.0, False)):
        monkeypatch.setitem(METHODS, "isolated", Isolated(isolate=isolate))
        run = prepared(SCENE.replace(regions=(region,), guidance=1.0), shallow)
        found = [predict(run.plan, given, run.steps[0])[..., :8] for given in (z, other)]
        assert torch.equal(*found) is apart


def test_a_higher_priority_hides_the_phrase_below(shallow: Model) -> None:
    scene = SCENE.replace(steps=1, guidance=1.0, overlap="priority", regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    assert bool(changed[:8, :8].all())
    assert not bool(changed[8:12, 4:8].any())


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
    scene = SCENE.replace(steps=2, regions=(CAT, CAR, SKY)[:count])
    assert generate(scene, model, output_type="latent").report["rows"] == 4


def test_merged_scenes_are_separate_scenes(model: Model) -> None:
    scenes = [SCENE.replace(regions=(CAT,)), SCENE.replace(regions=(CAR, CAT), caption="at night")]
    plans = [prepared(scene, model).compiled.plan for scene in scenes]
    step, z = prepared(SCENE, model).steps[0], torch.randn(2, 16, 16, 16)
    alone = [predict(plan, own[None], step)[0] for plan, own in zip(plans, z, strict=True)]
    merged = sum((plan.in_scene(str(k)) for k, plan in enumerate(plans)), Plan())
    assert torch.equal(predict(merged, z, step), torch.stack(alone))
