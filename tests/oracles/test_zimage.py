"""Images of Z-Image and Z-Image Turbo are those of diffusers' pipeline, from the same noise."""

import importlib
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from zimage import write_zimage

from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

KINDS = {"turbo": True, "base": False}
SIZES = {"square": (128, 64), "padded": (112, 96)}
"""Width and height in pixels: of 32 image tokens, and of 42, which are padded to 64."""
CAPTION = "a red cat on the beach"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_zimage(tmp_path_factory.mktemp(kind), turbo=own) for kind, own in KINDS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


def pipeline_of(folder: Path, kind: str = "ZImagePipeline") -> Any:
    pipeline: Any = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Latents of a canvas of size (width, height)."""
    shape = (1, 16, size[1] // 8, size[0] // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("negative", ["", "blue dog on a large orange car at night in the sky with small stars, left"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_text_to_image(folders: dict[str, Path], models: dict[str, Model], kind: str, size: str, negative: str) -> None:
    """The pipeline counts guidance from 0. A long negative is padded to another length than the caption."""
    width, height = SIZES[size]
    guidance = 1.0 if KINDS[kind] else 5.0
    expected = pipeline_of(folders[kind])(
        CAPTION,
        negative_prompt=negative,
        num_inference_steps=4,
        guidance_scale=guidance - 1,
        width=width,
        height=height,
        latents=noise((width, height)),
        output_type="latent",
    ).images
    scene = Scene(caption=CAPTION, negative=negative, seed=0, steps=4, guidance=guidance, width=width, height=height)
    result = generate(scene, models[kind], latents=noise((width, height)))
    close(result.latents, expected)
    assert result.report["rows"] == (4 if KINDS[kind] else 8)


def test_pixels(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size = SIZES["padded"]
    expected = pipeline_of(folders["turbo"])(
        CAPTION,
        num_inference_steps=2,
        guidance_scale=0.0,
        width=size[0],
        height=size[1],
        latents=noise(size),
        output_type="np",
    ).images[0]
    scene = Scene(caption=CAPTION, seed=0, steps=2, width=size[0], height=size[1])
    found = np.asarray(generate(scene, models["turbo"], latents=noise(size)).image, np.float32) / 255
    assert np.abs(found - expected).max() <= 0.51 / 255 + 1e-4


@pytest.mark.parametrize("strength", [0.5, 0.75])
def test_image_to_image(folders: dict[str, Path], models: dict[str, Model], strength: float) -> None:
    """Where steps * strength is whole. diffusers takes latents in place of an image."""
    size, model = SIZES["padded"], models["base"]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))
    pipeline = pipeline_of(folders["base"], "ZImageImg2ImgPipeline")
    known = model.vae.encode(as_tensor(np.asarray(image)))
    noisy = pipeline.scheduler
    noisy.set_timesteps(4, sigmas=torch.linspace(1.0, 0.25, 4).tolist())
    start = noisy.scale_noise(known, noisy.timesteps[4 - int(4 * strength)][None], noise(size, 7))
    expected = pipeline(
        CAPTION,
        image=image,
        latents=start,
        strength=strength,
        num_inference_steps=4,
        guidance_scale=4.0,
        width=size[0],
        height=size[1],
        output_type="latent",
    ).images
    scene = Scene(
        caption=CAPTION, background=image, strength=strength, seed=0, steps=4, guidance=5.0,
        width=size[0], height=size[1],
    )  # fmt: skip
    close(generate(scene, model, latents=noise(size, 7)).latents, expected)


@pytest.mark.parametrize("strength", [0.75, 1.0])
def test_inpainting(
    folders: dict[str, Path], models: dict[str, Model], strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers' pipeline samples the encoded image; here it takes the mean, as ours does."""
    module = importlib.import_module("diffusers.pipelines.z_image.pipeline_z_image_inpaint")
    monkeypatch.setattr(module, "retrieve_latents", lambda encoded, generator=None: encoded.latent_dist.mode())
    size, model = SIZES["padded"], models["base"]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[:32, :40] = mask[56:, 72:] = 255
    expected = pipeline_of(folders["base"], "ZImageInpaintPipeline")(
        CAPTION,
        image=image,
        mask_image=Image.fromarray(mask),
        strength=strength,
        num_inference_steps=4,
        guidance_scale=4.0,
        width=size[0],
        height=size[1],
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    hole = Region(name="hole", mask=Image.fromarray(mask), phrase="a cat")
    scene = Scene(
        caption=CAPTION, background=image, regions=[hole], method="caption", strength=strength, seed=0, steps=4,
        guidance=5.0, width=size[0], height=size[1],
    )  # fmt: skip
    result = generate(scene, model, latents=noise(size, 7))
    close(result.latents, expected)
    assert result.report["identical_outside"] is True
