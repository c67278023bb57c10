"""Tiny ControlNets of diffusion transformers that do something: nothing in them is zero."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxControlNetModel, SD3ControlNetModel, ZImageControlNetModel

FLUX = {"in_channels": 64, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 24} | {
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 6, 6),
    "num_layers": 2,
    "num_single_layers": 1,
}
SD3 = {"sample_size": 16, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2} | {
    "caption_projection_dim": 32,
    "joint_attention_dim": 48,
    "pooled_projection_dim": 36,
    "pos_embed_max_size": 12,
}
ZIMAGE = {"dim": 48, "n_heads": 2, "n_kv_heads": 2, "control_in_dim": 16, "control_layers_places": [0, 2]}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "flux": (FluxControlNetModel, FLUX | {"guidance_embeds": True}),
    "flux union": (FluxControlNetModel, FLUX | {"num_mode": 4, "num_single_layers": 0}),
    "flux hints": (
        FluxControlNetModel,
        FLUX | {"conditioning_embedding_channels": 16, "patch_size": 2, "num_single_layers": 0},
    ),
    "sd3": (SD3ControlNetModel, SD3),
    "sd3 pooled": (SD3ControlNetModel, SD3 | {"force_zeros_for_pooled_projection": False}),
    "sd3 large": (
        SD3ControlNetModel,
        SD3 | {"joint_attention_dim": None, "use_pos_embed": False, "force_zeros_for_pooled_projection": False},
    ),
    "zimage": (ZImageControlNetModel, ZIMAGE),
    "zimage refined": (
        ZImageControlNetModel,
        ZIMAGE
        | {"control_in_dim": 33, "add_control_noise_refiner": "control_noise_refiner"}
        | {"control_refiner_layers_places": [0, 1]},
    ),
    "zimage shared": (
        ZImageControlNetModel,
        ZIMAGE | {"add_control_noise_refiner": "control_layers", "control_refiner_layers_places": [0, 1]},
    ),
}
"""diffusers' class and the configuration of each kind; a kind's name begins with its family's."""


def write_block_controlnet(folder: Path, kind: str, seed: int = 5, **changes: Any) -> Path:
    torch.manual_seed(seed)
    make, config = KINDS[kind]
    module = make(**config | changes)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    module.save_pretrained(folder)
    return folder


def without_variance(folder: Path) -> Path:
    """A pipeline folder whose autoencoder's posterior has no variance, so that a sample is its mean."""
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae")
    last, channels = vae.encoder.conv_out, vae.config.latent_channels
    last.weight.data[channels:] = 0
    last.bias.data[channels:] = -30
    vae.save_pretrained(folder / "vae")
    return folder
