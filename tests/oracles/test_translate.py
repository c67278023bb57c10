"""Translations by an IP-Adapter are what diffusers makes of its published file: one estimate, and a whole denoising."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from pictured import SD_LIKE, SIDE, published, tower
from PIL import Image
from safetensors.torch import save_file
from tiny import write_checkpoint
from torch import Tensor
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.core.guidance import Single
from cloisonne.core.inversion.ddim import invert
from cloisonne.core.plan import Conditioning, Plan, View
from cloisonne.core.predict import predict
from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.translation.concept_conditioning import ConceptConditioning, reference_concept
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FILES = {
    "plain": "ip-adapter_sd15.safetensors",
    "plus": "ip-adapter-plus_sd15.safetensors",
    "full": "ip-adapter-full-face_sd15.safetensors",
}
"""As h94/IP-Adapter has them in ``models``, with ``image_encoder`` next to it."""
GUIDANCE = 4.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, vision = tmp_path_factory.mktemp("ip"), tower(32)
    write_checkpoint(folder / "sd", unet=SD_LIKE)
    vision.save_pretrained(folder / "models" / "image_encoder")
    for kind, file in FILES.items():
        save_file(published(folder / "sd", kind, vision), folder / "models" / file)
    return folder


def file_of(root: Path, kind: str) -> Path:
    return root / "models" / FILES[kind]


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8))


def pipeline(root: Path, kind: str) -> Any:
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    made: Any = diffusers.StableDiffusionPipeline.from_pretrained(
        root / "sd",
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(root / "models" / "image_encoder"),
        feature_extractor=CLIPImageProcessorPil(size=SIDE, crop_size=SIDE),
        low_cpu_mem_usage=False,
        safety_checker=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    made.load_ip_adapter(str(root), subfolder="models", weight_name=FILES[kind], low_cpu_mem_usage=False)
    return made


def conditioning_of(model: Model, reference: Image.Image) -> ConceptConditioning:
    return reference_concept(model, reference, (64, 64), lambda pixels: torch.zeros(4, 8, 8))


def view(concept: ConceptConditioning, branch: Conditioning) -> View:
    return View(name="one", net=concept.net, branches={"cond": branch}, guide=Single(), weight=torch.ones(8, 8))


@pytest.mark.parametrize("kind", FILES)
def test_the_estimate_is_that_of_diffusers_by_the_same_file(root: Path, kind: str) -> None:
    """The concept and the unconditional tokens, each with an empty text."""
    model, theirs = load(root / "sd", exemplar=file_of(root, kind)), pipeline(root, kind)
    own, reference, z = conditioning_of(model, picture(1)), picture(1), torch.randn(1, 4, 8, 8)
    embeds = theirs.prepare_ip_adapter_image_embeds([reference], None, "cpu", 1, True)[0]
    words = theirs.encode_prompt("", "cpu", 1, False)[0]
    steps = prepare(Scene(steps=5, sampler="ddim"), model).steps
    for branch, embed in zip((own.nothing, own.concept), embeds, strict=True):
        for step in steps:
            with torch.no_grad():
                noise: Tensor = theirs.unet(
                    z, step.t, encoder_hidden_states=words, added_cond_kwargs={"image_embeds": [embed[None]]}
                ).sample
                found = predict(Plan(views=(view(own, branch),)), z, step)
            torch.testing.assert_close((z - step.alpha * found) / step.s, noise, atol=1e-4, rtol=0)
    assert not torch.allclose(own.nothing.image_prompts[0].value, own.concept.image_prompts[0].value, atol=0.05)


@pytest.mark.parametrize("kind", FILES)
def test_without_shared_attention_it_is_diffusers_pipeline_from_the_inverted_noise(root: Path, kind: str) -> None:
    model = load(root / "sd", exemplar=file_of(root, kind))
    region = Region(name="all", box=(0, 0, 1, 1), concept=picture(1), guidance=GUIDANCE)
    fields = {"steps": 10, "sampler": "ddim", "seed": 0, "translating": {"preset": "fast", "self_attention_share": 0.0}}
    scene = Scene(background=picture(0), regions=(region,), **fields)
    found = generate(scene, model, output_type="latent")
    own = conditioning_of(model, picture(1))
    pixels = torch.from_numpy(np.asarray(picture(0)) / np.float32(127.5) - 1).permute(2, 0, 1)
    known = model.vae.encode(pixels[None])
    up = invert(Plan(views=(view(own, own.nothing),)), known, prepare(scene, model).steps)
    expected: Tensor = pipeline(root, kind)(
        "",
        ip_adapter_image=picture(1),
        num_inference_steps=10,
        guidance_scale=GUIDANCE,
        latents=up.noise,
        height=64,
        width=64,
        output_type="latent",
    ).images
    torch.testing.assert_close(found.latents, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(expected, known, atol=0.1)
    assert found.report["rows"] == explain(scene, model).rows == 10 * 4


def test_the_command_takes_the_published_file(root: Path, workdir: Path) -> None:
    picture(0, (61, 97)).save("a.png")
    picture(1).save("b.png")
    command = ["translate", "a.png", "--reference", "b.png", "--steps", "2", "--model", str(root / "sd")]
    adapter = ["--exemplar-model", str(file_of(root, "plain"))]
    done = CliRunner().invoke(app, [*command, *adapter, "-o", "out.png"])
    assert done.exit_code == 0, done.output
    with Image.open("out.png") as made:
        assert made.size == (97, 61)
    named = [*adapter, "--image-encoder", str(root / "models" / "image_encoder")]
    assert CliRunner().invoke(app, [*command, *named, "-o", "again.png"]).exit_code == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    with pytest.raises(CapabilityError, match="--exemplar-model PATH"):
        CliRunner().invoke(app, [*command, "-o", "none.png"], catch_exceptions=False)
    lonely = Path("x.safetensors")
    lonely.write_bytes(file_of(root, "plain").read_bytes())
    with pytest.raises(CheckpointError, match=r"No image encoder .* --image-encoder FOLDER"):
        CliRunner().invoke(app, [*command, "--exemplar-model", str(lonely), "-o", "none.png"], catch_exceptions=False)
    assert not Path("none.png").exists()


def test_one_for_inpainting_is_refused(root: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "sd", unet=SD_LIKE, inpaint=True)
    model = load(tmp_path / "sd", exemplar=file_of(root, "plain"))
    region = Region(name="all", box=(0, 0, 1, 1), concept=picture(1))
    for verb in (generate, explain):
        with pytest.raises(CapabilityError, match="cannot transfer a concept with an IP-Adapter; load"):
            verb(Scene(background=picture(0), regions=(region,)), model)
