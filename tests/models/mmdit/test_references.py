"""Exemplars as reference images, on FLUX.2 klein and FLUX.1 Kontext: an explicit mask, and the laws of regions."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor
from flux import write_flux
from flux2 import write_flux2
from joint_bias import Token, explicit_bias, shares_of
from PIL import Image
from torch import Tensor

from cloisonne.core.attention.references import Reference
from cloisonne.core.collate import collate, passes
from cloisonne.core.plan import Conditioning
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.references import reference_pixels
from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import packed, unpacked
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.conditions.exemplar import Exemplar
from cloisonne.scene.io.source_image import matched
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def picture(seed: int, size: tuple[int, int] = (64, 80)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8))


CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat", exemplar=Exemplar(image=picture(1), strength=0.5))
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0)
HAT = Region(name="hat", box=(0.5, 0.0, 1.0, 0.25), exemplar=picture(2, (96, 64)))
SCENE = Scene(caption="on the beach", seed=3, steps=2, guidance=1.0, width=128, height=128, regions=(CAT, CAR, HAT))


WRITERS: dict[str, Callable[..., Path]] = {
    "FLUX.2 klein": write_flux2,
    "FLUX.1 Kontext": partial(write_flux, pipeline="FluxKontextPipeline"),
}
SIZES = ((64, 80), (96, 64))
"""Width and height of Kontext's references here; those that it was trained with have a megapixel."""


def made(folder: Path) -> Model:
    model = load(folder)
    net: Any = model.net
    net.spec = replace(net.spec, reference_sizes=SIZES if net.spec.reference_sizes else ())
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("whole")) for name, write in WRITERS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {name: made(folder) for name, folder in folders.items()}


@pytest.fixture(params=WRITERS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(models: dict[str, Model], family: str) -> Model:
    return models[family]


@pytest.fixture
def klein(models: dict[str, Model]) -> Model:
    return models["FLUX.2 klein"]


def latents(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


class Masked(Flux2AttnProcessor):
    """diffusers' own attention of double blocks, with a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:3], self.mask[None, None], *args[4:], **given)


class MaskedSingle(Flux2ParallelSelfAttnProcessor):
    """The same of single blocks."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:2], self.mask[None, None], *args[3:], **given)


class MaskedFlux(FluxAttnProcessor):
    """The same of all blocks of FLUX.1."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:3], self.mask[None, None], *args[4:], **given)


def places(images: Sequence[Tensor], patch: int, reference: int, axes: int) -> Tensor:
    """Positions of the canvas and references: of the image, row, column, and zeros."""
    sides = [map(torch.arange, (own.shape[-2] // patch, own.shape[-1] // patch, *[1] * (axes - 3))) for own in images]
    return torch.cat([torch.cartesian_prod(torch.tensor([reference if i else 0]), *own) for i, own in enumerate(sides)])


def klein_flow(folder: Path, texts: Sequence[Tensor], images: Sequence[Tensor], bias: Tensor, level: float) -> Tensor:
    network: Any = Flux2Transformer2DModel.from_pretrained(folder / "transformer")
    network.set_attn_processor(
        {own: MaskedSingle(bias) if "single" in own else Masked(bias) for own in network.attn_processors}
    )
    flow = network(
        hidden_states=torch.cat([packed(own, 1) for own in images], 1),
        encoder_hidden_states=torch.cat([*texts])[None],
        timestep=torch.tensor([level]),
        txt_ids=torch.cat([torch.cartesian_prod(*[torch.arange(n) for n in (1, 1, 1, len(t))]) for t in texts]),
        img_ids=places(images, 1, 10, 4),
        return_dict=False,
    )[0][:, :64]
    return unpacked(flow, (8, 8), 1)


def kontext_flow(
    folder: Path, texts: Sequence[Tensor], images: Sequence[Tensor], bias: Tensor, level: float, pooled: Tensor
) -> Tensor:
    network: Any = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    network.set_attn_processor(dict.fromkeys(network.attn_processors, MaskedFlux(bias)))
    flow = network(
        hidden_states=torch.cat([packed(own, 2) for own in images], 1),
        encoder_hidden_states=torch.cat([*texts])[None],
        pooled_projections=pooled[None],
        timestep=torch.tensor([level]),
        guidance=torch.ones(1),
        txt_ids=torch.zeros(sum(map(len, texts)), 3),
        img_ids=places(images, 2, 1, 3).float(),
        return_dict=False,
    )[0][:, :64]
    return unpacked(flow, (8, 8), 2)


@pytest.mark.parametrize("at", [0, 1], ids=["isolated step", "last step"])
def test_references_by_region_are_an_explicit_mask(folders: Any, model: Model, family: str, at: int) -> None:
    run, patch = prepare(SCENE, model), model.spec.patch
    step, z = run.steps[at], torch.randn(1, model.spec.latent_channels, 8 * patch, 8 * patch)
    conditioning = run.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    phrased = [next(own for own in SCENE.regions if own.name == text.region) for text in conditioning.tokens[1:]]
    shown = [next(own for own in SCENE.regions if own.name == one.region) for one in conditioning.references]
    assert sorted(region.name for region in shown) == ["hat", "pet"]
    share = {own.name: one for own, one in zip(SCENE.regions, shares_of(SCENE.regions, 8), strict=True)}
    strength = {"pet": 0.5, "hat": 1.0}
    shares = [share[own.name] for own in phrased] + [share[own.name] * strength[own.name] for own in shown]
    caption = model.text.encode(pieces("on the beach"))
    texts = [caption.tokens, *(model.text.encode(pieces(region.phrase)).without_padding for region in phrased)]
    pixels = [
        reference_pixels(own.exemplar.rgb(), 16, sizes=model.spec.reference_sizes) for own in shown if own.exemplar
    ]
    images = [z, *map(model.vae.encode, pixels)]
    tokens = [Token("caption")] * len(texts[0])
    for k, text in enumerate(texts[1:]):
        tokens += [Token("phrase", k)] * len(text)
    tokens += [Token("pixel", p) for p in range(64)]
    for k, image in enumerate(images[1:], len(phrased)):
        tokens += [Token("reference", k)] * (image.shape[-2:].numel() // patch**2)
    bias = explicit_bias(tokens, shares, isolated=at == 0)
    flow_of = klein_flow if caption.pooled is None else partial(kontext_flow, pooled=caption.pooled)
    with torch.no_grad():
        expected = z - step.s * flow_of(folders[family], texts, images, bias, step.s)
    torch.testing.assert_close(predict(run.plan, z, step), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_inpainting_by_a_soft_mask_is_an_explicit_loop(folders: Any, model: Model, family: str) -> None:
    """Steps of diffusers' network with an explicit mask; what no region covers is set to the background's at each."""
    mask = np.zeros((128, 128))
    mask[:, :64], mask[:64, :64], mask[112:, 112:] = 0.5, 1.0, 0.25
    hole = Region(name="hole", mask=mask, phrase="a cat", exemplar=picture(1))
    background = picture(5, (128, 128))
    scene = SCENE.replace(regions=(hole,), background=background, steps=3)
    patch = model.spec.patch
    noise = torch.randn(1, model.spec.latent_channels, 8 * patch, 8 * patch)
    result, steps = generate(scene, model, latents=noise), prepare(scene, model).steps
    share = torch.from_numpy(mask).unfold(0, 16, 16).unfold(1, 16, 16).mean((-1, -2)).float().flatten()
    caption, phrase = model.text.encode(pieces("on the beach")), model.text.encode(pieces("a cat"))
    texts = [caption.tokens, phrase.without_padding]
    pixels = reference_pixels(picture(1), 16, sizes=model.spec.reference_sizes)
    reference = model.vae.encode(pixels)
    tokens = [Token("caption")] * len(texts[0]) + [Token("phrase", 0)] * len(texts[1])
    tokens += [Token("pixel", p) for p in range(64)]
    tokens += [Token("reference", 1)] * (reference.shape[-2:].numel() // patch**2)
    known = model.vae.encode(as_tensor(np.asarray(background)))
    free = (share > 0).float().reshape(8, 8).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    start = steps[0].alpha * known + steps[0].s * noise
    z = start + free * (noise - start)
    flow_of = klein_flow if caption.pooled is None else partial(kontext_flow, pooled=caption.pooled)
    for i, step in enumerate(steps):
        bias = explicit_bias(tokens, [share, share], isolated=i == 0)
        x0 = z - step.s * flow_of(folders[family], texts, [z, reference], bias, step.s)
        x0 = known + free * (x0 - known)
        z = step.alpha_next * x0 + step.s_next * (z - step.alpha * x0) / step.s
    torch.testing.assert_close(result.latents, z, atol=1e-4, rtol=1e-4)
    painted = ((model.vae.decode(z)[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    painted = matched(painted, np.asarray(background), mask > 0)
    expected = np.asarray(background) * (1 - mask[..., None]) + painted * mask[..., None]
    assert np.abs(np.asarray(result.image) - expected).max() <= 1.5
    assert np.array_equal(np.asarray(result.image)[mask == 0], np.asarray(background)[mask == 0])


def test_order_of_regions_changes_nothing(model: Model) -> None:
    first, *others = (latents(SCENE.replace(regions=order), model) for order in itertools.permutations(SCENE.regions))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(
    "absent", [{"weight": 0.0}, {"start": 0.4, "stop": 0.4}, {"exemplar": Exemplar(image=picture(2), strength=0.0)}]
)
def test_without_weight_steps_or_strength_it_is_absent(model: Model, absent: dict[str, Any]) -> None:
    without = latents(SCENE.replace(regions=(CAT, CAR)), model)
    assert torch.equal(latents(SCENE.replace(regions=(CAT, CAR, HAT.replace(**absent))), model), without)
    assert not torch.equal(latents(SCENE, model), without)


def test_an_exemplar_changes_its_region_alone(family: str, tmp_path: Path) -> None:
    """Of one block, in which what an image token attends to is all that a reference can change."""
    shallow, scene = made(WRITERS[family](tmp_path, double=1, single=0)), SCENE.replace(steps=1)
    other = scene.replace(regions=(CAT, CAR, HAT.replace(exemplar=picture(7))))
    changed = packed((latents(scene, shallow) != latents(other, shallow)).float(), shallow.spec.patch)
    changed = changed[0].any(1).unflatten(0, (8, 8))
    assert bool(changed[:2, 4:].all())
    assert changed.sum() == changed[:2, 4:].numel()


def test_similarity_is_the_region_s_guidance(klein: Model) -> None:
    scenes = [SCENE.replace(regions=(HAT.replace(**own),)) for own in ({}, {"similarity": 3.0}, {"guidance": 3.0})]
    plain, similar, guided = (latents(scene, klein) for scene in scenes)
    assert torch.equal(similar, guided)
    assert not torch.equal(plain, similar)


def test_where_guidance_is_an_input_similarity_is_warned_of(models: dict[str, Model]) -> None:
    scene = SCENE.replace(regions=(CAT, HAT.replace(similarity=3.0)))
    warnings = explain(scene, models["FLUX.1 Kontext"]).warnings
    assert any(text.startswith('Region "hat": its similarity changes nothing here') for text in warnings)
    assert not any("similarity" in text for text in explain(scene, models["FLUX.2 klein"]).warnings)


def test_references_of_both_branches_are_in_every_row(klein: Model) -> None:
    (view,) = prepare(SCENE.replace(guidance=3.0), klein).plan.views
    branches: Any = view.branches
    assert {name: len(branch.references) for name, branch in branches.items()} == {"cond": 2, "null": 2}


def test_an_explanation_counts_the_run(model: Model) -> None:
    explained = explain(SCENE, model)
    assert explained.rows == generate(SCENE, model, output_type="latent").report["rows"] == 2
    without = explain(SCENE.replace(regions=(CAT.replace(exemplar=None), CAR)), model)
    assert explained.tokens - without.tokens == 4 * 5 + 6 * 4  # of 64 x 80 and 96 x 64 pixels
    assert explained.flops > without.flops
    assert "reference image of 20 tokens on" in str(explained)


@pytest.mark.parametrize("size", [(63, 80), (64, 520)])
def test_what_is_too_small_or_long_is_refused_by_region(klein: Model, size: tuple[int, int]) -> None:
    with pytest.raises(SceneError, match=rf'^Region "hat": the exemplar has {size[0]} x {size[1]} pixels'):
        generate(SCENE.replace(regions=(HAT.replace(exemplar=picture(2, size)),)), klein)


def test_a_unet_takes_no_references(tiny: Model) -> None:
    run = prepare(SCENE.replace(method="caption", width=64, height=64, regions=()), tiny)
    batch = passes(run.plan.views, run.steps[0], per_scene=True)[0]
    call = collate(batch, [torch.zeros(4, 8, 8)] * len(batch), run.steps[0], (), Run())
    with pytest.raises(CapabilityError, match="no reference images"):
        tiny.net(replace(call, references=((Reference(torch.zeros(4, 2, 2)),),) * len(batch)))
