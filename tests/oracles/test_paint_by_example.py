"""Paint by Example's published folder gives diffusers' images, from the same latents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_exemplar
from torch import Tensor

from cloisonne.errors import CapabilityError
from cloisonne.models.adapters.paint_by_example import preprocessed
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exemplar(tmp_path_factory.mktemp("pbe"))


def picture(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def mask_of(*boxes: tuple[int, int, int, int]) -> Image.Image:
    mask = np.zeros((64, 64), np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 255
    return Image.fromarray(mask)


def theirs(
    folder: Path, source: Image.Image, mask: Image.Image, exemplar: Image.Image, latents: Tensor, s: float
) -> Tensor:
    from diffusers import AutoencoderKL, DDIMScheduler, PaintByExamplePipeline, UNet2DConditionModel
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
    from transformers import CLIPImageProcessorPil

    pipeline: Any = PaintByExamplePipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False),
        image_encoder=PaintByExampleImageEncoder.from_pretrained(folder / "image_encoder"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=CLIPImageProcessorPil(),  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pixels = torch.from_numpy(np.array(source)).permute(2, 0, 1)[None] / 127.5 - 1
    keep = 1 - torch.from_numpy(np.array(mask))[None, None] / 255
    with torch.no_grad():
        known = pipeline.vae.encode(pixels * keep).latent_dist.mean * pipeline.vae.config.scaling_factor
    # Their pipeline samples the masked image's latents; here both sides take the mean.
    pipeline._encode_vae_image = lambda image, generator: known
    # Their feature extractor would cut the ends off an oblong exemplar.
    ours = load(folder).exemplar
    assert ours is not None
    return pipeline(
        example_image=preprocessed(exemplar, ours.encoder.side),
        image=source,
        mask_image=mask,
        num_inference_steps=20,
        guidance_scale=s,
        latents=latents.clone(),
        output_type="latent",
    ).images


@pytest.mark.parametrize("similarity", [1.0, 5.0])
def test_one_exemplar(folder: Path, similarity: float) -> None:
    source, mask, exemplar, latents = (
        picture(0),
        mask_of((0, 0, 24, 40), (32, 32, 64, 64)),
        picture(1, 50),
        torch.randn(1, 4, 8, 8),
    )
    expected = theirs(folder, source, mask, exemplar, latents, similarity)
    region = Region(name="pet", mask=mask, exemplar=exemplar, similarity=similarity)
    scene = Scene(background=source, regions=[region], seed=0, steps=20, sampler="ddim")
    result = generate(scene, load(folder), latents=latents)
    torch.testing.assert_close(result.latents, expected, atol=1e-4, rtol=0)
    assert result.report["identical_outside"] is True
    assert (result.report["forwards"], result.report["rows"]) == (20, 20 if similarity == 1 else 40)


def test_a_mask_between_latent_pixels_read_as_diffusers_reads_it(folder: Path) -> None:
    source, mask, exemplar, latents = picture(0), mask_of((3, 5, 61, 44)), picture(1), torch.randn(1, 4, 8, 8)
    expected = theirs(folder, source, mask, exemplar, latents, 3.0)
    region = Region(name="pet", mask=mask, exemplar=exemplar, similarity=3.0)
    scene = Scene(background=source, regions=[region], seed=0, steps=20, sampler="ddim", composite=False)
    nearest, plain = load(folder, mask_resampling="nearest"), load(folder)
    torch.testing.assert_close(generate(scene, nearest, latents=latents).latents, expected, atol=1e-4, rtol=0)
    assert (generate(scene, plain, latents=latents).latents - expected).abs().max() > 1e-3
    assert nearest.hash != plain.hash


def test_an_unknown_resampling_names_those_that_there_are(folder: Path) -> None:
    with pytest.raises(CapabilityError, match=r"cubic.*nearest"):
        load(folder, mask_resampling="cubic")  # type: ignore[arg-type]


def test_exemplar_k_meets_image_k(folder: Path) -> None:
    """Two images of each of two scenes: the batch order that diffusers gets wrong."""
    model = load(folder)
    mask = mask_of((0, 0, 64, 32), (0, 56, 8, 64))
    for k in (1, 2):
        region = Region(name="pet", mask=mask, exemplar=picture(k))
        scene = Scene(background=picture(0), regions=[region], seed=5, steps=20, sampler="ddim")
        latents = torch.randn(2, 4, 8, 8)
        ours = generate(scene, model, latents=latents, num_images=2).latents
        for n in range(2):
            expected = theirs(folder, picture(0), mask, picture(k), latents[n : n + 1], 5.0)
            torch.testing.assert_close(ours[n : n + 1], expected, atol=1e-4, rtol=0)
