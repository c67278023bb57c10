"""Stage "vae": the autoencoder, f8 with 8 latent channels, on 4 × 4 pixel-unshuffled images (full-resolution layers are
too slow on a CPU)."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from cloisonne.train.data import as_tensor, pixels
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.picture import EVERYTHING, Recipe

PATCH = 4
_CORE = Recipe(styled=0.05)
BATCH = 16


def build() -> AutoencoderKL:
    """The untrained autoencoder: 3 · PATCH² input and output channels and two levels, f8 in total."""
    config: dict[str, Any] = {
        "in_channels": 3 * PATCH**2,
        "out_channels": 3 * PATCH**2,
        "latent_channels": 8,
        "block_out_channels": (80, 144),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "sample_size": 128 // PATCH,
        "scaling_factor": 1.0,
    }
    return AutoencoderKL(**config)


def stage(vae: Any, minutes: float, device: torch.device = CPU) -> Stage:
    """The training stage: squared and absolute pixel error, gradient error, and a small KL term."""

    images = Prefetch(_images, processes(device))

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        true = as_tensor(images(step)).to(device)
        x = F.pixel_unshuffle(true, PATCH).contiguous(memory_format=torch.channels_last)
        with autocast(device):
            latent = vae.encode(x, return_dict=False)[0]
            y = vae.decode(latent.sample(), return_dict=False)[0]
        y = F.pixel_shuffle(y.float(), PATCH)
        error = y - true
        mse = error.square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        kl = 0.5 * (latent.mean.float().square() + latent.var.float() - 1 - latent.logvar.float()).mean()
        total = 4 * mse + 0.5 * error.abs().mean() + 0.25 * edges + 2e-4 * kl
        return total, {
            "psnr": float(10 * torch.log10(4 / mse.detach())),
            "kl": float(kl.detach()),
            "std": float(latent.mean.detach().float().std()),
        }

    return Stage(
        name="vae",
        modules={"vae": vae},
        loss=loss,
        minutes=minutes,
        pictures_per_step=BATCH,
        device=device,
        lr=1.5e-3,
        outer=("conv_in", "conv_out", "quant_conv"),
        decay_from=0.5,
    )


def _images(step: int) -> np.ndarray:
    """Training images uint8 [n, h, w, 3]: half with core glyphs, half with any training glyph."""
    return pixels(step, BATCH, lambda k: _CORE if k % 2 else EVERYTHING)
