"""Tiny checkpoints with ControlNets that do something, and scenes whose regions they are to obey."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image
from tiny import write_checkpoint, write_xl
from torch import Tensor

from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FULL, LEFT, RIGHT = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
MID = {"mid_block_type": "UNetMidBlock2DCrossAttn", "layers_per_block": 2}
SD1 = MID | {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SD2 = SD1 | {"use_linear_projection": True, "attention_head_dim": (1, 2)}
BASES = {"sd1": {"unet": SD1}, "sd2": {"unet": SD2}, "inpaint": {"unet": SD1, "inpaint": True}}


def photo(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def beside(base: Path, seed: int, **changes: Any) -> ControlNetModel:
    """A ControlNet of a checkpoint's UNet that does something from the start: nothing in it is zero."""
    torch.manual_seed(seed)
    unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", low_cpu_mem_usage=False)
    if unet.config.in_channels == 9:  # as the published ones for inpainting: shown the canvas alone
        unet = UNet2DConditionModel.from_config(dict(unet.config) | {"in_channels": 4})
    net: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8), **changes)
    zero = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and not m.weight.any()]
    assert len(zero) == 2 + len(net.controlnet_down_blocks)
    for layer in zero:
        torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(layer.bias, std=0.1)
    return net.eval()


def write_controlled(root: Path) -> Path:
    """Checkpoints by the names of ``BASES`` and "xl", each with "NAME-canny"; "sd1-depth" is another one."""
    for name, changes in BASES.items():
        write_checkpoint(root / name, **changes)
    write_xl(root / "xl", unet=MID)
    for name in (*BASES, "xl"):
        beside(root / name, 5).save_pretrained(root / f"{name}-canny")
    beside(root / "sd1", 6).save_pretrained(root / "sd1-depth")
    return root


def drawn(model: Model, scene: Scene, **options: Any) -> Tensor:
    return generate(scene, model, output_type="latent", **options).latents


def wall(
    box: Any = FULL,
    strength: float = 0.7,
    kind: str = "canny",
    seed: int = 0,
    conditional_only: bool | None = None,
    **changes: Any,
) -> Region:
    control = {"kind": kind, "image": photo(seed), "strength": strength, "conditional_only": conditional_only}
    return Region(**{"name": f"{kind} {box}", "box": box, "control": control} | changes)


def scene_of(*regions: Region, **changes: Any) -> Scene:
    fields = {"caption": "a red cat", "negative": "dog", "guidance": 6.0, "method": "attention", "sampler": "ddim"}
    return Scene(**fields | {"seed": 0, "steps": 20, "regions": regions} | changes)
