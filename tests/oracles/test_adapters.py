"""Controls with full masks are diffusers' T2I-Adapter pipelines; with masks they act only where they are."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, T2IAdapter
from PIL import Image
from safetensors.torch import save_file
from tiny import write_checkpoint, write_xl
from torch import Tensor

from cloisonne.errors import CapabilityError, CheckpointError, ImageError
from cloisonne.methods.control import masked
from cloisonne.models.adapters.t2i_adapter import read_adapter
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FULL, LEFT, NOTHING = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.01, 0.01)
KINDS = {
    "full_adapter": {"in_channels": 1, "channels": [8, 16], "downscale_factor": 8},
    "light_adapter": {"in_channels": 3, "channels": [8], "num_res_blocks": 4, "downscale_factor": 8},
    "full_adapter_xl": {"in_channels": 1, "channels": [8, 16, 16, 16], "downscale_factor": 16},
}


SD_LIKE = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
"""Attention on the first level, as Stable Diffusion 1.x has it."""


def adapter(kind: str, **changes: Any) -> T2IAdapter:
    torch.manual_seed(5)
    module = T2IAdapter(adapter_type=kind, **{"num_res_blocks": 2, **KINDS[kind], **changes})
    return module.eval()


def edges(side: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray((np.random.default_rng(seed).random((side, side)) > 0.7).astype(np.uint8) * 255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapted")
    write_checkpoint(root / "sd", unet=SD_LIKE)
    write_xl(root / "xl")
    for kind in KINDS:
        adapter(kind).save_pretrained(root / kind)
    return root


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder / "sd", adapters={"canny": folder / "full_adapter"})


def drawn(model: Model, scene: Scene, **options: Any) -> Tensor:
    return generate(scene, model, output_type="latent", **options).latents


def scene_of(box: tuple[float, float, float, float] = FULL, strength: float = 0.8, **changes: Any) -> Scene:
    control = {"kind": "canny", "image": edges(), "strength": strength}
    region = Region(name="wall", box=box, control=control)
    fields = {"caption": "a red cat", "negative": "dog", "guidance": 6.0, "method": "attention", "sampler": "ddim"}
    return Scene(**fields | {"seed": 0, "steps": 20, "regions": [region]} | changes)


@pytest.mark.parametrize(
    ("base", "kind", "steps"),
    [("sd", "full_adapter", 20), ("xl", "full_adapter_xl", 20), *(("sd", "full_adapter", few) for few in (1, 2, 4, 8))],
)
def test_full_mask_is_diffusers_pipeline(folder: Path, base: str, kind: str, steps: int) -> None:
    """With guidance in many steps, and as a distilled network draws in few: trailing ones without guidance."""
    name = "StableDiffusionXLAdapterPipeline" if base == "xl" else "StableDiffusionAdapterPipeline"
    side = 128 if base == "xl" else 64
    none = {} if base == "xl" else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    theirs: Any = getattr(diffusers, name).from_pretrained(
        folder / base, adapter=adapter(kind), low_cpu_mem_usage=False, **none
    )
    guidance, spacing = (6.0, "leading") if steps == 20 else (1.0, "trailing")
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, timestep_spacing=spacing)
    theirs.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, side // 8, side // 8)
    expected = theirs(
        "a red cat",
        negative_prompt="dog",
        image=edges(side),
        adapter_conditioning_scale=0.8,
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=side,
        width=side,
        latents=latents.clone(),
        output_type="latent",
    ).images
    region = Region(name="wall", box=FULL, control={"kind": "canny", "image": edges(side), "strength": 0.8})
    scene = scene_of(regions=[region], width=side, height=side, steps=steps, guidance=guidance, spacing=spacing)
    ours = drawn(load(folder / base, adapters={"canny": folder / kind}), scene, latents=latents)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(ours, drawn(load(folder / base), scene.replace(regions=[]), latents=latents), atol=1e-2)


@pytest.mark.parametrize("changes", [{"strength": 0.0}, {"absent": True}])
def test_no_mask_and_no_strength_are_no_adapter(model: Model, changes: dict[str, Any]) -> None:
    plain = drawn(model, scene_of(regions=[]))
    weak = scene_of(strength=changes.get("strength", 1.0))
    if changes.get("absent"):
        weak = weak.replace(regions=[weak.regions[0].replace(weight=0.0)])
    assert torch.equal(drawn(model, weak), plain)
    assert masked(torch.randn(3, 8, 8), torch.zeros(8, 8)).abs().max() == 0


def test_masks_are_soft_at_every_level() -> None:
    mask = torch.zeros(9, 11)
    mask[:, :5] = 1.0
    for size in ((9, 11), (5, 6), (3, 3), (18, 22)):
        seen = masked(torch.ones(2, *size), mask)
        assert seen.shape == (2, *size)
        assert float(seen.mean()) == pytest.approx(5 / 11, abs=0.06)


def test_controls_of_several_regions_add_up(folder: Path) -> None:
    both = load(folder / "sd", adapters={"canny": folder / "full_adapter", "sketch": folder / "full_adapter"})
    halves = [
        Region(name=name, box=box, control={"kind": kind, "image": edges(), "strength": 0.8})
        for name, box, kind in [("a", LEFT, "canny"), ("b", (0.5, 0.0, 1.0, 1.0), "sketch")]
    ]
    whole = drawn(both, scene_of(steps=4))
    torch.testing.assert_close(drawn(both, scene_of(steps=4, regions=halves)), whole, atol=1e-5, rtol=0)
    assert torch.equal(
        drawn(both, scene_of(steps=4, regions=halves[::-1])), drawn(both, scene_of(steps=4, regions=halves))
    )


@pytest.mark.parametrize("method", ["attention", "multidiffusion", "caption", "words"])
def test_phrase_and_control_in_one_region(model: Model, method: str) -> None:
    scene = scene_of(LEFT, steps=3, method=method)
    control = {"kind": "canny", "image": edges().resize((88, 72))}
    region = scene.regions[0].replace(phrase="a dog", stop=0.7, control=control)
    result = generate(scene.replace(regions=[region], width=88, height=72, background=None), model)
    assert result.latents.isfinite().all()


def test_map_is_computed_from_a_photo_and_travels_with_the_image(model: Model, tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).resize((64, 64))
    photo.save(tmp_path / "photo.png")
    region = Region(name="wall", box=LEFT, control={"kind": "canny", "from": str(tmp_path / "photo.png")})
    result = generate(scene_of(steps=2, regions=[region]), model)
    (path,) = result.save(tmp_path / "out.png")
    again = Scene.from_png(path)
    assert again.to_dict()["regions"][0]["control"].keys() == {"kind", "from"}
    assert generate(again, model).save(tmp_path / "again.png")[0].read_bytes() == path.read_bytes()


def test_in_a_background_the_map_follows_its_window(model: Model) -> None:
    background = Image.new("RGB", (160, 120), "green")
    region = Region(
        name="wall", box=(0.1, 0.1, 0.4, 0.5), control={"kind": "canny", "image": edges(160).resize((160, 120))}
    )
    result = generate(scene_of(steps=2, background=background, regions=[region]), model)
    assert result.report["identical_outside"] is True


def tencent_arc(module: T2IAdapter) -> dict[str, Tensor]:
    """The published names: blocks counted through, light adapters' blocks in "body"."""
    config: Any = module.config
    light = config["adapter_type"] == "light_adapter"
    renamed = {}
    for name, tensor in module.state_dict().items():
        parts = name.removeprefix("adapter.").split(".")
        if parts[0] == "body" and light:
            parts = ["body", parts[1], *(["body", *parts[3:]] if parts[2] == "resnets" else parts[2:])]
        elif parts[0] == "body":
            first = int(parts[1]) * config["num_res_blocks"]
            parts = (
                ["body", str(first + int(parts[3])), *parts[4:]]
                if parts[2] == "resnets"
                else ["body", str(first), *parts[2:]]
            )
        renamed[".".join(parts)] = tensor.contiguous()
    return renamed


PUBLISHED = {
    "full_adapter": {"channels": [8, 16, 16, 24]},
    "light_adapter": {"channels": [8, 16, 24]},
    "full_adapter_xl": {},
}


@pytest.mark.parametrize("layout", ["tencent arc", "diffusers", "wrapped"])
@pytest.mark.parametrize("kind", KINDS)
def test_published_layouts_are_read(tmp_path: Path, kind: str, layout: str) -> None:
    module = adapter(kind, **PUBLISHED[kind])
    tensors = tencent_arc(module) if layout == "tencent arc" else module.state_dict()
    prefix = "module." if layout == "wrapped" else ""
    save_file({prefix + name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "x.safetensors")
    read = read_adapter(tmp_path / "x.safetensors", torch.float32, torch.device("cpu"))
    assert read.warnings == ()
    found = read.module
    pixels = torch.rand(1, module.config["in_channels"], 128, 128)
    for ours, theirs in zip(found(pixels), module(pixels), strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_not_used_is_warned_of_or_refused(folder: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in adapter("full_adapter").state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors", {"gain": "2"})
    (header,) = load(folder / "sd", adapters={"canny": tmp_path / "x.safetensors"}).warnings
    assert '"gain"' in header
    save_file(tensors | {"adapter.twist.weight": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(CheckpointError, match=r"is no T2I-Adapter of a known layout .*Unexpected"):
        load(folder / "sd", adapters={"canny": tmp_path / "y.safetensors"})


def test_names_are_the_published_ones() -> None:
    full = tencent_arc(adapter("full_adapter", channels=[8, 16, 16, 24]))
    assert {"conv_in.weight", "body.0.block1.weight", "body.2.in_conv.weight", "body.7.block2.bias"} <= full.keys()
    light = tencent_arc(adapter("light_adapter", channels=[8, 16, 24]))
    assert {"body.0.in_conv.weight", "body.3.body.3.block2.weight", "body.3.out_conv.bias"} <= light.keys()


def test_what_cannot_be_is_refused(folder: Path, model: Model, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r'^Region "wall": .* cannot do control of kind canny; load one'):
        drawn(load(folder / "sd"), scene_of())
    with pytest.raises(CapabilityError, match='There is no kind of control "magic"'):
        load(folder / "sd", adapters={"magic": folder / "full_adapter"})
    with pytest.raises(CheckpointError, match="does not fit"):
        load(folder / "sd", adapters={"canny": folder / "full_adapter_xl"})
    with pytest.raises(CheckpointError, match="There is no adapter"):
        load(folder / "sd", adapters={"canny": tmp_path / "none"})
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load(folder / "sd", adapters={"canny": tmp_path / "x.pth"})
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="is no T2I-Adapter of a known layout"):
        load(folder / "sd", adapters={"canny": tmp_path / "x.safetensors"})
    wide = scene_of().regions[0].replace(control={"kind": "canny", "image": edges().resize((90, 64))})
    with pytest.raises(ImageError, match=r'^Region "wall": The control.s image is 90 x 64 .* crop the image'):
        drawn(model, scene_of(regions=[wide]))


def test_photo_in_place_of_edges_is_warned_of(model: Model) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(60, 190, (64, 64), np.uint8))
    region = scene_of().regions[0].replace(control={"kind": "canny", "image": photo})
    (warning,) = generate(scene_of(steps=1, regions=[region]), model).report["warnings"]
    assert 'give it as "from"' in warning
