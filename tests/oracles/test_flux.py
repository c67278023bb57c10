"""Images of FLUX.1 are those of diffusers' pipelines, from the same noise."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from flux import LENGTH, write_flux
from PIL import Image
from torch import Tensor

from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import packed, unpacked
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

KINDS = {"dev": True, "schnell": False}
OTHERS = {"Fill": "FluxFillPipeline", "Kontext": "FluxKontextPipeline"}
SIZES = {"square": (64, 64), "wide": (128, 96)}
"""Width and height in pixels."""
CAPTION = "a red cat on the beach"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: write_flux(tmp_path_factory.mktemp(kind), embedded=own) for kind, own in KINDS.items()}
    return made | {kind: write_flux(tmp_path_factory.mktemp(kind), pipeline=own) for kind, own in OTHERS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


def pipeline_of(folder: Path, kind: str = "FluxPipeline") -> Any:
    pipeline: Any = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Latents of a canvas of size (width, height)."""
    shape = (1, 16, size[1] // 8, size[0] // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unpacked_on(latents: Tensor, size: tuple[int, int]) -> Tensor:
    return unpacked(latents, (size[1] // 16, size[0] // 16), 2)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_text_to_image(folders: dict[str, Path], models: dict[str, Model], kind: str, size: str) -> None:
    width, height = SIZES[size]
    latents = noise((width, height))
    guidance = 3.5 if KINDS[kind] else 1.0
    expected = pipeline_of(folders[kind])(
        CAPTION,
        num_inference_steps=4,
        guidance_scale=guidance,
        width=width,
        height=height,
        latents=packed(latents, 2),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    scene = Scene(caption=CAPTION, seed=0, steps=4, guidance=guidance, width=width, height=height)
    close(generate(scene, models[kind], latents=latents).latents, unpacked_on(expected, (width, height)))


def test_pixels(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size = SIZES["wide"]
    expected = pipeline_of(folders["dev"])(
        CAPTION,
        num_inference_steps=2,
        width=size[0],
        height=size[1],
        latents=packed(noise(size), 2),
        max_sequence_length=LENGTH,
        output_type="np",
    ).images[0]
    scene = Scene(caption=CAPTION, seed=0, steps=2, width=size[0], height=size[1])
    found = np.asarray(generate(scene, models["dev"], latents=noise(size)).image, np.float32) / 255
    assert np.abs(found - expected).max() <= 0.51 / 255 + 1e-4


def test_the_scale_of_embedded_guidance_counts(models: dict[str, Model]) -> None:
    scene = Scene(caption=CAPTION, seed=0, steps=2, width=64, height=64)
    results = [generate(scene.replace(guidance=scale), models["dev"]) for scale in (1.0, 3.5)]
    assert not torch.equal(results[0].latents, results[1].latents)
    assert [result.report["rows"] for result in results] == [2, 2]


def test_true_guidance(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size = SIZES["wide"]
    expected = pipeline_of(folders["schnell"])(
        CAPTION,
        negative_prompt="blue dog",
        true_cfg_scale=4.0,
        num_inference_steps=4,
        width=size[0],
        height=size[1],
        latents=packed(noise(size), 2),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    scene = Scene(caption=CAPTION, negative="blue dog", seed=0, steps=4, guidance=4.0, width=size[0], height=size[1])
    close(generate(scene, models["schnell"], latents=noise(size)).latents, unpacked_on(expected, size))


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))


def known(model: Model, image: Image.Image) -> Tensor:
    """The mean of the distribution that diffusers samples; its pipelines take latents in place of an image."""
    return model.vae.encode(as_tensor(np.asarray(image)))


@pytest.mark.parametrize("strength", [0.5, 0.75])
@pytest.mark.parametrize("kind", KINDS)
def test_image_to_image(folders: dict[str, Path], models: dict[str, Model], kind: str, strength: float) -> None:
    """Where steps * strength is whole: diffusers rounds the number of steps up, cloisonne down as for all families."""
    size = SIZES["wide"]
    expected = pipeline_of(folders[kind], "FluxImg2ImgPipeline")(
        CAPTION,
        image=known(models[kind], picture(size)),
        strength=strength,
        num_inference_steps=4,
        guidance_scale=3.5,
        width=size[0],
        height=size[1],
        generator=torch.Generator().manual_seed(7),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    guidance = 3.5 if KINDS[kind] else 1.0
    scene = Scene(
        caption=CAPTION, background=picture(size), strength=strength, seed=0, steps=4, guidance=guidance,
        width=size[0], height=size[1],
    )  # fmt: skip
    result = generate(scene, models[kind], latents=noise(size, 7))
    close(result.latents, unpacked_on(expected, size))
    assert result.report["forwards"] == 4 * strength


@pytest.mark.parametrize("strength", [0.75, 1.0])
def test_inpainting(folders: dict[str, Path], models: dict[str, Model], strength: float) -> None:
    size = SIZES["wide"]
    image, mask = picture(size), np.zeros((size[1], size[0]), np.uint8)
    mask[:32, :40] = mask[56:, 72:] = 255
    expected = pipeline_of(folders["dev"], "FluxInpaintPipeline")(
        CAPTION,
        image=known(models["dev"], image),
        mask_image=Image.fromarray(mask),
        masked_image_latents=torch.zeros(1, 16, size[1] // 8, size[0] // 8),  # only Fill reads them
        strength=strength,
        num_inference_steps=4,
        guidance_scale=3.5,
        width=size[0],
        height=size[1],
        generator=torch.Generator().manual_seed(7),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    scene = Scene(
        caption=CAPTION,
        background=image,
        regions=[Region(name="hole", mask=Image.fromarray(mask), phrase="a cat")],
        method="caption",
        strength=strength,
        seed=0,
        steps=4,
        width=size[0],
        height=size[1],
    )
    result = generate(scene, models["dev"], latents=noise(size, 7))
    close(result.latents, unpacked_on(expected, size))
    assert result.report["identical_outside"] is True


@pytest.mark.parametrize("size", SIZES)
def test_fill(folders: dict[str, Path], models: dict[str, Model], size: str) -> None:
    """Its own values: 50 steps and guidance 30; here of 4 steps."""
    width, height = SIZES[size]
    image, mask = picture((width, height)), np.zeros((height, width), np.uint8)
    mask[:33, :40] = mask[56:, 51:] = 255
    expected = pipeline_of(folders["Fill"], "FluxFillPipeline")(
        CAPTION,
        image=image,
        mask_image=Image.fromarray(mask),
        num_inference_steps=4,
        guidance_scale=30.0,
        width=width,
        height=height,
        latents=packed(noise((width, height), 7), 2),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    hole = Region(name="hole", mask=Image.fromarray(mask), phrase="a cat")
    scene = Scene(
        caption=CAPTION, background=image, regions=[hole], method="caption", seed=0, steps=4, width=width, height=height
    )
    result = generate(scene, models["Fill"], latents=noise((width, height), 7))
    close(result.latents, unpacked_on(expected, (width, height)))
    assert result.report["identical_outside"] is True
    assert (models["Fill"].native.steps, models["Fill"].native.guidance) == (50, 30.0)


def test_fill_by_region_and_without_a_background(models: dict[str, Model]) -> None:
    regions = [Region(name="hole", box=(0, 0, 0.5, 1), phrase="a cat")]
    scene = Scene(caption=CAPTION, seed=0, steps=2, width=64, height=64, regions=regions)
    plain, repainted = (generate(own, models["Fill"]) for own in (scene, scene.replace(background=picture((64, 64)))))
    assert not torch.equal(plain.latents, repainted.latents)
    assert repainted.report["identical_outside"] is True


REFERENCES = {"square": (64, 64), "wide": (150, 100), "long": (64, 200)}
"""Width and height of reference images."""


@pytest.mark.parametrize("reference", REFERENCES)
def test_an_exemplar_of_the_whole_canvas_is_kontext_s_image(
    folders: dict[str, Path], models: dict[str, Model], reference: str
) -> None:
    size, image = SIZES["wide"], picture(REFERENCES[reference])
    expected = pipeline_of(folders["Kontext"], "FluxKontextPipeline")(
        image=image,
        prompt=CAPTION,
        num_inference_steps=2,
        guidance_scale=2.5,
        width=size[0],
        height=size[1],
        max_area=size[0] * size[1],
        latents=packed(noise(size), 2),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    whole = Region(box=(0.0, 0.0, 1.0, 1.0), exemplar=image)
    scene = Scene(caption=CAPTION, regions=(whole,), seed=0, steps=2, width=size[0], height=size[1])
    result = generate(scene, models["Kontext"], latents=noise(size))
    close(result.latents, unpacked_on(expected, size))
    plain = generate(scene.replace(regions=()), models["Kontext"], latents=noise(size))
    assert (plain.latents - result.latents).abs().max() > 1e-3
    assert models["Kontext"].native.guidance == 2.5
