"""Random IP-Adapters in the published layouts, and a tiny image encoder for them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

SD_LIKE = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
}
"""Attention on the first level and in the middle, as Stable Diffusion 1.x has it."""
SIDE = 28


def tower(width: int) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(3)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=14,
            projection_dim=width - 8,
        )
    ).eval()


def projection(kind: str, vision: Any, width: int) -> dict[str, Tensor]:
    """``image_proj`` in the published layouts, to tokens of ``width``."""
    pooled, hidden = vision.config.projection_dim, vision.config.hidden_size
    norm = {"norm.weight": torch.rand(width) + 0.5, "norm.bias": torch.randn(width)}
    if kind == "plain":
        return {"proj.weight": torch.randn(4 * width, pooled), "proj.bias": torch.randn(4 * width), **norm}
    if kind == "full":
        linear = {"proj.0": (hidden, hidden), "proj.2": (width, hidden)}
        out = {f"{name}.weight": torch.randn(shape) / 4 for name, shape in linear.items()}
        out |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in linear.items()}
        return out | {name.replace("norm", "proj.3"): tensor for name, tensor in norm.items()}
    inner = 64
    out = {name.replace("norm", "norm_out"): tensor for name, tensor in norm.items()}
    out |= {"latents": torch.randn(1, 16, inner), "proj_in.weight": torch.randn(inner, hidden) / 4}
    out |= {"proj_in.bias": torch.randn(inner), "proj_out.weight": torch.randn(width, inner) / 4}
    out["proj_out.bias"] = torch.randn(width)
    for layer in range(4):
        weights = {"0.to_q": inner, "0.to_kv": 2 * inner, "0.to_out": inner, "1.1": 4 * inner}
        out |= {f"layers.{layer}.{name}.weight": torch.randn(rows, inner) / 8 for name, rows in weights.items()}
        out[f"layers.{layer}.1.3.weight"] = torch.randn(inner, 4 * inner) / 16
        for name in ("0.norm1", "0.norm2", "1.0"):
            out[f"layers.{layer}.{name}.weight"] = torch.rand(inner) + 0.5
            out[f"layers.{layer}.{name}.bias"] = torch.randn(inner) / 8
    return out


def published(base: Path, kind: str, vision: Any) -> dict[str, Tensor]:
    """An IP-Adapter's tensors for a base, numbered as published: by all of the UNet's attention layers."""
    torch.manual_seed(4)
    unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", low_cpu_mem_usage=False)
    out = {f"image_proj.{k}": v for k, v in projection(kind, vision, unet.config.cross_attention_dim).items()}
    for number, name in enumerate(unet.attn_processors):
        shape = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
        if name.endswith("attn2.processor"):
            out |= {f"ip_adapter.{number}.to_{which}_ip.weight": torch.randn(shape) / 4 for which in "kv"}
    return out
