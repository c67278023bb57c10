"""Images of plain and inpainting checkpoints of every family are diffusers' own, from the same latents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_checkpoint, write_xl
from torch import Tensor

from cloisonne.core.noise import Noise, Seed
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

V = {"prediction_type": "v_prediction"}
SD2 = {"use_linear_projection": True, "attention_head_dim": (1, 2)}
FAMILIES: dict[str, dict[str, Any]] = {
    "sd1": {"write": write_checkpoint},
    "sd2": {"write": write_checkpoint, "unet": SD2, "scheduler": V},
    "sd2 base": {"write": write_checkpoint, "unet": SD2},
    "zero terminal snr": {
        "write": write_checkpoint,
        "scheduler": V | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    },
    "xl": {"write": write_xl},
    "xl without zeros": {"write": write_xl, "zeros": False},
}


@dataclass(frozen=True)
class Case:
    """A sampler of ours and the scheduler of diffusers that it is, with the scene's further fields."""

    sampler: str
    scheduler: str
    theirs: dict[str, Any]
    spacing: str = "default"


SAMPLERS = {
    "ddim": Case("ddim", "DDIMScheduler", {}),
    "euler": Case("euler", "EulerDiscreteScheduler", {}),
    "dpm++ 2m karras": Case("dpmpp-2m", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "karras"),
}
PROMPTS = {
    "negative": {"negative": "blue dog", "guidance": 7.5},
    "empty negative": {"guidance": 5.0},
    "unguided": {"guidance": 1.0},
    "rescaled": {"negative": "dog", "guidance": 7.5, "guidance_rescale": 0.7},
}


def pipeline_of(folder: Path, case: Case, kind: str) -> Any:
    pipeline: Any = getattr(diffusers, kind).from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    config = dict(pipeline.scheduler.config)
    pipeline.scheduler = getattr(diffusers, case.scheduler).from_config(config, **case.theirs)
    return pipeline


def prompts(fields: dict[str, Any]) -> dict[str, Any]:
    """The scene's prompts for diffusers, where an empty negative is None."""
    names = {"negative": "negative_prompt", "guidance": "guidance_scale", "guidance_rescale": "guidance_rescale"}
    return {names[name]: value for name, value in fields.items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    """Checkpoints by family, plain and for inpainting."""
    made = {}
    for name, options in FAMILIES.items():
        for inpaint in (False, True):
            given = {key: value for key, value in options.items() if key != "write"}
            made[name, inpaint] = options["write"](tmp_path_factory.mktemp("model"), inpaint=inpaint, **given)
    return made


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_text_to_image(folders: dict[tuple[str, bool], Path], family: str, sampler: str, prompt: str) -> None:
    if family == "zero terminal snr" and sampler != "ddim":
        pytest.skip("diffusers clamps the infinite sigma that these begin at")
    folder, case, fields = folders[family, False], SAMPLERS[sampler], PROMPTS[prompt]
    kind = "StableDiffusionXLPipeline" if family.startswith("xl") else "StableDiffusionPipeline"
    latents = torch.randn(1, 4, 8, 8)
    expected = pipeline_of(folder, case, kind)(
        "a red cat on the beach",
        num_inference_steps=20,
        height=64,
        width=64,
        latents=latents.clone(),
        output_type="latent",
        **prompts(fields),
    ).images
    scene = Scene(
        caption="a red cat on the beach", seed=0, steps=20, sampler=case.sampler, spacing=case.spacing, **fields
    )
    torch.testing.assert_close(generate(scene, load(folder), latents=latents).latents, expected, atol=1e-4, rtol=0)


SPACINGS = {
    **{
        f"dpm++ 2m {name}": Case("dpmpp-2m", "DPMSolverMultistepScheduler", {"timestep_spacing": name}, name)
        for name in ("leading", "trailing", "linspace")
    },
    "euler leading": Case("euler", "EulerDiscreteScheduler", {"timestep_spacing": "leading"}, "leading"),
    "pndm": Case("pndm", "PNDMScheduler", {"skip_prk_steps": True}),
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
def test_spacings(folders: dict[tuple[str, bool], Path], family: str, spacing: str) -> None:
    if (family, spacing) == ("sd2", "pndm"):
        pytest.skip("diffusers sums up v of several levels, where the paper sums up noises")
    folder, case = folders[family, False], SPACINGS[spacing]
    kind = "StableDiffusionXLPipeline" if family == "xl" else "StableDiffusionPipeline"
    latents = torch.randn(1, 4, 8, 8)
    expected = pipeline_of(folder, case, kind)(
        "a red cat", num_inference_steps=9, height=64, width=64, latents=latents.clone(), output_type="latent"
    ).images
    scene = Scene(
        caption="a red cat",
        seed=0,
        steps=9,
        sampler=case.sampler,
        spacing=case.spacing,
        guidance=5.0 if family == "xl" else 7.5,
    )
    torch.testing.assert_close(generate(scene, load(folder), latents=latents).latents, expected, atol=1e-4, rtol=0)


def hole() -> tuple[Image.Image, Image.Image]:
    """An image, and a mask of whole latent pixels that reaches all its sides."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:24, :32] = mask[40:, 16:] = 255
    return Image.fromarray(noise), Image.fromarray(mask)


def masked_latents(vae: Any, picture: Image.Image, mask: Image.Image) -> Tensor:
    """The mean of the distribution that diffusers samples."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    masked = pixels * (torch.from_numpy(np.array(mask)) < 128)
    with torch.no_grad():
        return vae.encode(masked).latent_dist.mean * vae.config.scaling_factor


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
def test_inpainting(folders: dict[tuple[str, bool], Path], family: str, sampler: str) -> None:
    folder, case = folders[family, True], SAMPLERS[sampler]
    kind = "StableDiffusionXLInpaintPipeline" if family == "xl" else "StableDiffusionInpaintPipeline"
    pipeline = pipeline_of(folder, case, kind)
    picture, mask = hole()
    latents = torch.randn(1, 4, 8, 8)
    expected = pipeline(
        "a red cat",
        negative_prompt="dog",
        image=picture,
        mask_image=mask,
        masked_image_latents=masked_latents(pipeline.vae, picture, mask),
        strength=1.0,
        num_inference_steps=20,
        guidance_scale=6.0,
        height=64,
        width=64,
        latents=latents.clone(),
        output_type="latent",
    ).images
    scene = Scene(
        caption="a red cat",
        negative="dog",
        background=picture,
        regions=[Region(name="pet", mask=mask, phrase="a cat")],
        seed=0,
        steps=20,
        guidance=6.0,
        sampler=case.sampler,
        spacing=case.spacing,
        method="caption",
    )
    result = generate(scene, load(folder), latents=latents)
    torch.testing.assert_close(result.latents, expected, atol=1e-4, rtol=0)
    assert result.report["identical_outside"] is True


@pytest.mark.parametrize("guidance", [1.0, 8.5])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_latent_consistency_model_is_diffusers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, guidance: float
) -> None:
    """Its network takes the scale of guidance as an input. Both draw the same noise between the steps."""
    folder = write_checkpoint(tmp_path / "lcm", unet={"time_cond_proj_dim": 32})
    pipeline = pipeline_of(folder, Case("lcm", "LCMScheduler", {}), "StableDiffusionPipeline")
    latents, noise = torch.randn(1, 4, 8, 8), Noise([Seed(3)], (4, 8, 8))
    noise()  # what sampling starts from, unless latents are given
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *args, **options: noise())
    expected = pipeline(
        "a red cat",
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=64,
        width=64,
        latents=latents.clone(),
        output_type="latent",
    ).images
    scene = Scene(caption="a red cat", guidance=guidance, steps=steps, sampler="lcm", seed=3, width=64, height=64)
    found = generate(scene, load(folder), latents=latents).latents
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
