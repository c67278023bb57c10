"""Regions on Stable Diffusion 3 and 3.5: isolated texts equal diffusers' network with an explicit mask; the laws."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from sd3 import write_sd3
from torch import Tensor

from cloisonne.core.plan import Conditioning, Plan
from cloisonne.core.predict import predict
from cloisonne.methods import METHODS
from cloisonne.methods.isolated import Isolated
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat", negative="dog", guidance=3.0)
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0, priority=1)
SKY = Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.4)], phrase="stars", stop=0.5, feather=0.1)
PLAIN = CAT.replace(negative="", guidance=None)
"""Without a null branch of its own."""
SIDE, PIXELS = 128, 64
"""Pixels of the image, and image tokens, 8 x 8."""
SCENE = Scene(caption="on the beach", seed=3, steps=4, guidance=2.0, width=SIDE, height=SIDE, regions=(CAT, CAR, SKY))
KINDS = ("3", "3.5 medium")
MEDIUM = "3.5 medium"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_sd3(tmp_path_factory.mktemp("sd3"), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def model(models: dict[str, Model]) -> Model:
    return models[MEDIUM]


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One block, in which what an image token attends to is all that a text can change."""
    return load(write_sd3(tmp_path_factory.mktemp("shallow"), MEDIUM, layers=1))


def latents(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def prepared(scene: Scene, model: Model) -> Prepared:
    return prepare(scene, model)


class Masked(JointAttnProcessor2_0):
    """diffusers' own attention with the mask of its block, of which a layer without text takes the image's part."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = bias

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, *_: Any, **__: Any) -> Any:
        bias = self.bias if encoder_hidden_states is not None else self.bias[:PIXELS, :PIXELS]
        attention = F.scaled_dot_product_attention
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: attention(q, k, v, attn_mask=bias))
            return super().__call__(attn, hidden_states, encoder_hidden_states)


def share_of_tokens(region: Region, others: list[Region]) -> Tensor:
    """[64]: a region's share by the rule of overlap "blend", from its box in whole tokens."""

    def mask(own: Region) -> Tensor:
        found = torch.zeros(8, 8)
        assert own.box is not None
        x0, y0, x1, y1 = (int(side * 8) for side in own.box)
        found[y0:y1, x0:x1] = own.weight
        return found.flatten()

    total = torch.stack([mask(own) for own in others]).sum(0)
    return mask(region) / total.clamp_min(1)


def explicit_bias(caption: int, lengths: list[int], shares: list[Tensor], *, isolated: bool) -> Tensor:
    """[S, S] to add to the logits of [image, caption, phrases], entry by entry."""
    starts = [PIXELS, *(PIXELS + end for end in itertools.accumulate([caption, *lengths]))]
    bias = torch.zeros(starts[-1], starts[-1])
    for k, share in enumerate(shares):
        own = range(starts[k + 1], starts[k + 2])
        for token, key in itertools.product(own, range(PIXELS, starts[-1])):
            bias[token, key] = 0.0 if key in own else -torch.inf
        for token, pixel in itertools.product(own, range(PIXELS)):
            bias[token, pixel] = 0.0 if share[pixel] > 0 else -torch.inf
            bias[pixel, token] = share[pixel].log()
    for p, q in itertools.product(range(PIXELS), repeat=2) if isolated else ():
        covered = [(bool(share[p] > 0), bool(share[q] > 0)) for share in shares]
        together = any(a and b for a, b in covered) or not any(a or b for a, b in covered)
        bias[p, q] = 0.0 if together else -torch.inf
    return bias


def explicit(
    folder: Path, model: Model, regions: list[Region], z: Tensor, level: float, biases: list[Tensor]
) -> Tensor:
    """x0 by diffusers' network and processors, with the mask of each block."""
    network: Any = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    network.set_attn_processor({name: Masked(biases[int(name.split(".")[1])]) for name in network.attn_processors})
    caption = model.text.encode(pieces("on the beach"))
    phrases = [model.text.encode(pieces(region.phrase)).without_padding for region in regions]
    assert caption.pooled is not None
    with torch.no_grad():
        flow = network(
            hidden_states=z,
            encoder_hidden_states=torch.cat([caption.tokens, *phrases])[None],
            pooled_projections=caption.pooled[None],
            timestep=torch.tensor([level * 1000]),
            return_dict=False,
        )[0]
    return z - level * flow


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("at", [0, 3], ids=["isolated step", "last step"])
@pytest.mark.parametrize("regions", [[PLAIN], [PLAIN, CAR], [PLAIN.replace(weight=0.25)]], ids=["1", "2", "soft"])
@pytest.mark.parametrize("kind", KINDS)
def test_isolated_is_an_explicit_mask(
    folders: dict[str, Path],
    models: dict[str, Model],
    kind: str,
    regions: list[Region],
    at: int,
    every: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(METHODS, "isolated", Isolated(every=every))
    model = models[kind]
    run = prepared(SCENE.replace(regions=regions, guidance=1.0), model)
    step, z = run.steps[at], torch.randn(1, 16, 16, 16)
    # Regions are taken in their canonical order: area, then name.
    conditioning = run.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    ordered = [next(own for own in regions if own.name == text.region) for text in conditioning.tokens[1:]]
    lengths = [len(model.text.encode(pieces(region.phrase)).without_padding) for region in ordered]
    shares = [share_of_tokens(region, ordered) for region in ordered]
    regional = explicit_bias(model.text.length, lengths, shares, isolated=at == 0)
    between = explicit_bias(model.text.length, lengths, [torch.zeros(PIXELS) for _ in ordered], isolated=False)
    biases = [regional if block % every == 0 else between for block in range(3)]
    expected = explicit(folders[kind], model, ordered, z, step.s, biases)
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


def test_a_region_of_all_steps_in_two_parts_is_that_region(model: Model) -> None:
    scene = SCENE.replace(regions=(CAT,))
    halves = (CAT.replace(name="a", stop=0.5), CAT.replace(name="b", start=0.5))
    torch.testing.assert_close(latents(scene.replace(regions=halves), model), latents(scene, model), atol=1e-5, rtol=0)


def test_a_phrase_changes_its_region_alone(shallow: Model) -> None:
    """The second layer of the block mixes only what was there before."""
    scene = SCENE.replace(steps=1, guidance=1.0, regions=(CAT, CAR))
    other = scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR))
    changed = (latents(scene, shallow) != latents(other, shallow))[0].any(0)
    assert bool(changed[:12, :8].all())
    changed[:12, :8] = False
    assert not bool(changed.any())


def test_early_steps_keep_regions_apart(shallow: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """While image tokens are isolated, in both layers, the noise of the rest changes nothing inside of a region."""
    z = torch.randn(1, 16, 16, 16)
    other = z.clone()
    other[..., 8:] += 1
    region = PLAIN.replace(box=(0.0, 0.0, 0.5, 1.0))
    for isolate, apart in ((0.15, True), (0.0, False)):
        monkeypatch.setitem(METHODS, "isolated", Isolated(isolate=isolate))
        run = prepared(SCENE.replace(regions=(region,), guidance=1.0), shallow)
        found = [predict(run.plan, given, run.steps[0])[..., :8] for given in (z, other)]
        assert torch.equal(*found) is apart


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
