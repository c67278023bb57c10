"""Tiny random checkpoints in the layout of Z-Image."""

from pathlib import Path
from typing import Any

from flux import flux_vae
from flux2 import tiny_qwen, tiny_qwen_tokenizer
from tiny import write_folder


def write_zimage(
    folder: Path, *, turbo: bool = True, layers: int = 2, refiners: int = 2, transformer: dict[str, Any] | None = None
) -> Path:
    """A pipeline folder with random weights: eight pixels to a latent pixel, sixteen to an image token."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel

    torch.manual_seed(0)
    tokenizer = tiny_qwen_tokenizer()
    config: dict[str, Any] = {
        "dim": 48,
        "n_layers": layers,
        "n_refiner_layers": refiners,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 16,
        "axes_dims": (8, 8, 8),
        "axes_lens": (1024, 64, 64),
    }
    network = ZImageTransformer2DModel(**config | (transformer or {}))
    for pad in (network.x_pad_token, network.cap_pad_token):
        torch.nn.init.normal_(pad)
    parts = {
        "tokenizer": tokenizer,
        "text_encoder": tiny_qwen(tokenizer, layers=4).model,
        "transformer": network,
        "vae": flux_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0 if turbo else 6.0),
    }
    write_folder(folder, {"_class_name": "ZImagePipeline"}, parts)
    return folder
