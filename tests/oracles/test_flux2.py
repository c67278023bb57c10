"""Images of FLUX.2 klein are those of diffusers' pipelines, from the same noise."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flux2 import write_flux2
from PIL import Image
from torch import Tensor

from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

KINDS = {"distilled": True, "base": False}
SIZES = {"square": (64, 64), "wide": (128, 96)}
"""Width and height in pixels."""
CAPTION = "a red cat on the beach"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_flux2(tmp_path_factory.mktemp(kind), distilled=own) for kind, own in KINDS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


def pipeline_of(folder: Path, kind: str = "Flux2KleinPipeline") -> Any:
    pipeline: Any = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Latents of a canvas of size (width, height)."""
    shape = (1, 128, size[1] // 16, size[0] // 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def own(found: Tensor, model: Model) -> Tensor:
    """Latents as diffusers returns them: the autoencoder's own, without its statistics."""
    scale, shift = (torch.tensor(value)[:, None, None] for value in (model.vae.scale, model.vae.shift))
    return F.pixel_shuffle(found / scale + shift, 2)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_text_to_image(folders: dict[str, Path], models: dict[str, Model], kind: str, size: str) -> None:
    """With base by guidance against an empty text, as the pipeline does; without guidance if distilled."""
    width, height = SIZES[size]
    latents, guidance = noise((width, height)), 1.0 if KINDS[kind] else 4.0
    expected = pipeline_of(folders[kind])(
        prompt=CAPTION,
        num_inference_steps=4,
        guidance_scale=guidance,
        width=width,
        height=height,
        latents=latents,
        output_type="latent",
    ).images
    scene = Scene(caption=CAPTION, seed=0, steps=4, guidance=guidance, width=width, height=height)
    result = generate(scene, models[kind], latents=latents)
    close(own(result.latents, models[kind]), expected)
    assert result.report["rows"] == (4 if KINDS[kind] else 8)


def test_a_negative_of_its_own(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size, pipeline = SIZES["wide"], pipeline_of(folders["base"])
    expected = pipeline(
        prompt=CAPTION,
        negative_prompt_embeds=pipeline.encode_prompt("blue dog")[0],
        num_inference_steps=4,
        guidance_scale=3.0,
        width=size[0],
        height=size[1],
        latents=noise(size),
        output_type="latent",
    ).images
    scene = Scene(caption=CAPTION, negative="blue dog", seed=0, steps=4, guidance=3.0, width=size[0], height=size[1])
    close(own(generate(scene, models["base"], latents=noise(size)).latents, models["base"]), expected)


def test_pixels(folders: dict[str, Path], models: dict[str, Model]) -> None:
    size = SIZES["wide"]
    expected = pipeline_of(folders["distilled"])(
        prompt=CAPTION,
        num_inference_steps=2,
        guidance_scale=1.0,
        width=size[0],
        height=size[1],
        latents=noise(size),
        output_type="np",
    ).images[0]
    scene = Scene(caption=CAPTION, seed=0, steps=2, width=size[0], height=size[1])
    found = np.asarray(generate(scene, models["distilled"], latents=noise(size)).image, np.float32) / 255
    assert np.abs(found - expected).max() <= 0.51 / 255 + 1e-4


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))


def test_latents_of_an_image_are_the_pipeline_s(folders: dict[str, Path], models: dict[str, Model]) -> None:
    pixels = as_tensor(np.asarray(picture((64, 96))))
    expected = pipeline_of(folders["base"])._encode_vae_image(pixels, None)
    torch.testing.assert_close(models["base"].vae.encode(pixels), expected, atol=1e-5, rtol=1e-5)
    decoded = models["base"].vae.decode(expected)
    with torch.no_grad():
        theirs = models["base"].vae.module.decode(own(expected, models["base"]), return_dict=False)[0]
    torch.testing.assert_close(decoded, theirs, atol=1e-5, rtol=1e-5)


def test_a_background_is_repainted(models: dict[str, Model]) -> None:
    size = SIZES["wide"]
    image, mask = picture(size), np.zeros((size[1], size[0]), np.uint8)
    mask[:32, :40] = 255
    scene = Scene(
        caption=CAPTION,
        background=image,
        regions=[Region(name="hole", mask=Image.fromarray(mask), phrase="a cat")],
        seed=0,
        steps=2,
        width=size[0],
        height=size[1],
    )
    result = generate(scene, models["distilled"])
    assert result.report["identical_outside"] is True
    assert not np.array_equal(np.asarray(result.image)[:32, :40], np.asarray(image)[:32, :40])


REFERENCES = {"square": (64, 64), "of another size": (100, 150), "large": (1200, 1000)}
"""Width and height of reference images."""


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_exemplar_of_the_whole_canvas_is_the_pipeline_s_image(
    folders: dict[str, Path], models: dict[str, Model], kind: str, reference: str
) -> None:
    size, guidance, image = SIZES["wide"], 1.0 if KINDS[kind] else 4.0, picture(REFERENCES[reference])
    if reference == "large" and kind == "base":
        pytest.skip("the same as of the distilled model, at twice its time")
    expected = pipeline_of(folders[kind])(
        image=image,
        prompt=CAPTION,
        num_inference_steps=2 if reference == "large" else 4,
        guidance_scale=guidance,
        width=size[0],
        height=size[1],
        latents=noise(size),
        output_type="latent",
    ).images
    whole = Region(box=(0.0, 0.0, 1.0, 1.0), exemplar=image)
    scene = Scene(
        caption=CAPTION, regions=(whole,), seed=0, steps=2 if reference == "large" else 4, guidance=guidance,
        width=size[0], height=size[1],
    )  # fmt: skip
    result = generate(scene, models[kind], latents=noise(size))
    close(own(result.latents, models[kind]), expected)
    plain = generate(scene.replace(regions=()), models[kind], latents=noise(size))
    assert (plain.latents - result.latents).abs().max() > 1e-3
    phrased = scene.replace(caption="", regions=(whole.replace(phrase=CAPTION),))
    close(own(generate(phrased, models[kind], latents=noise(size)).latents, models[kind]), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_inpainting_of_the_whole_image(folders: dict[str, Path], models: dict[str, Model], kind: str) -> None:
    """diffusers' pipeline gives the network the image that it repaints as a reference; here it is an exemplar."""
    size, guidance, image = SIZES["wide"], 1.0 if KINDS[kind] else 4.0, picture(SIZES["wide"])
    expected = pipeline_of(folders[kind], "Flux2KleinInpaintPipeline")(
        prompt=CAPTION,
        image=image,
        mask_image=Image.new("L", size, 255),
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    scene = Scene(
        caption=CAPTION, background=image, regions=(Region(box=(0, 0, 1, 1), exemplar=image),), strength=0.75, seed=0,
        steps=4, guidance=guidance, width=size[0], height=size[1],
    )  # fmt: skip
    close(own(generate(scene, models[kind], latents=noise(size, 7)).latents, models[kind]), expected)
