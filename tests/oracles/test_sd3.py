"""Images of Stable Diffusion 3 and 3.5 are those of diffusers' pipelines, from the same noise."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from sd3 import KINDS, write_sd3
from torch import Tensor

from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

SIZES = {"square": (64, 64), "wide": (128, 96)}
"""Width and height in pixels."""
CAPTION, NEGATIVE = "a red cat on the beach", "blue dog"
MEDIUM = "3.5 medium"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: write_sd3(tmp_path_factory.mktemp("sd3"), kind) for kind in KINDS}
    return made | {"without T5": write_sd3(tmp_path_factory.mktemp("sd3"), MEDIUM, t5=False)}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


def pipeline_of(folder: Path, kind: str = "StableDiffusion3Pipeline") -> Any:
    without = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline: Any = getattr(diffusers, kind).from_pretrained(folder, **without)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Latents of a canvas of size (width, height)."""
    shape = (1, 16, size[1] // 8, size[0] // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def options(size: tuple[int, int]) -> dict[str, Any]:
    """Of diffusers' pipelines."""
    own = {"negative_prompt": NEGATIVE, "guidance_scale": 4.5, "num_inference_steps": 4, "output_type": "latent"}
    return {**own, "width": size[0], "height": size[1]}


def scene_of(size: tuple[int, int], **changes: Any) -> Scene:
    own = {"caption": CAPTION, "negative": NEGATIVE, "guidance": 4.5, "seed": 0, "steps": 4}
    return Scene(**{**own, "width": size[0], "height": size[1], **changes})


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", [*KINDS, "without T5"])
def test_text_to_image(folders: dict[str, Path], models: dict[str, Model], kind: str, size: tuple[int, int]) -> None:
    expected = pipeline_of(folders[kind])(CAPTION, latents=noise(size), **options(size)).images
    result = generate(scene_of(size), models[kind], latents=noise(size))
    close(result.latents, expected)
    assert result.report["rows"] == 8


def test_without_guidance(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size = SIZES["wide"]
    given = options(size) | {"guidance_scale": 1.0, "negative_prompt": None}
    expected = pipeline_of(folders[MEDIUM])(CAPTION, latents=noise(size), **given).images
    result = generate(scene_of(size, guidance=1.0, negative=""), models[MEDIUM], latents=noise(size))
    close(result.latents, expected)
    assert result.report["rows"] == 4


def test_a_text_longer_than_clip_reads(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size, caption = SIZES["square"], "a cat on the beach, " * 20
    expected = pipeline_of(folders["3"])(caption, latents=noise(size), **options(size)).images
    assert models["3"].text.count(caption) > 77
    close(generate(scene_of(size, caption=caption), models["3"], latents=noise(size)).latents, expected)


def test_pixels(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size = SIZES["wide"]
    given = options(size) | {"output_type": "np"}
    expected = pipeline_of(folders[MEDIUM])(CAPTION, latents=noise(size), **given).images[0]
    found = np.asarray(generate(scene_of(size), models[MEDIUM], latents=noise(size)).image, np.float32) / 255
    assert np.abs(found - expected).max() <= 0.51 / 255 + 1e-4


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))


def known(model: Model, image: Image.Image) -> Tensor:
    """The mean of the distribution that diffusers samples; its pipelines take latents in place of an image."""
    return model.vae.encode(as_tensor(np.asarray(image)))


@pytest.mark.parametrize("strength", [0.5, 0.75])
def test_image_to_image(folders: dict[str, Path], models: dict[str, Model], strength: float) -> None:
    """Where steps * strength is whole: diffusers rounds the number of steps up, cloisonne down as for all families."""
    size, image = SIZES["wide"], picture(SIZES["wide"])
    expected = pipeline_of(folders[MEDIUM], "StableDiffusion3Img2ImgPipeline")(
        CAPTION,
        image=known(models[MEDIUM], image),
        strength=strength,
        generator=torch.Generator().manual_seed(7),
        **options(size),
    ).images
    scene = scene_of(size, background=image, strength=strength)
    result = generate(scene, models[MEDIUM], latents=noise(size, 7))
    close(result.latents, expected)
    assert result.report["forwards"] == 4 * strength


@pytest.mark.parametrize("strength", [0.75, 1.0])
def test_inpainting(folders: dict[str, Path], models: dict[str, Model], strength: float) -> None:
    size = SIZES["wide"]
    image, mask = picture(size), np.zeros((size[1], size[0]), np.uint8)
    mask[:32, :40] = mask[56:, 72:] = 255
    expected = pipeline_of(folders[MEDIUM], "StableDiffusion3InpaintPipeline")(
        CAPTION,
        image=known(models[MEDIUM], image),
        mask_image=Image.fromarray(mask),
        masked_image_latents=torch.zeros(1, 16, size[1] // 8, size[0] // 8),  # only inpainting networks read them
        strength=strength,
        generator=torch.Generator().manual_seed(7),
        **options(size),
    ).images
    hole = Region(name="hole", mask=Image.fromarray(mask), phrase="a cat")
    scene = scene_of(size, background=image, regions=[hole], method="caption", strength=strength)
    result = generate(scene, models[MEDIUM], latents=noise(size, 7))
    close(result.latents, expected)
    assert result.report["identical_outside"] is True
