"""Stages "base" and "reco": text encoder and UNet, trained together on captions, ReCo sequences and place words."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.grounding import grounding_loss, record
from cloisonne.train.latents import LatentStore
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.telling import SHARES, tell
from cloisonne.world.glyphs import COLOURS, CORE

WIDTH = 192
BATCH = 32
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def build_text(tokenizer: Any) -> CLIPTextModel:
    """CLIP text encoder; the rows of the position tokens begin as sines of the coordinate."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModel(config)
    v = Vocabulary.of(tokenizer)
    at = torch.arange(v.bins) / (v.bins - 1)
    frequency = torch.pi * 2 ** torch.linspace(-1, 5, WIDTH // 2)
    sines = torch.cat([torch.sin(at[:, None] * frequency), torch.cos(at[:, None] * frequency)], -1)
    with torch.no_grad():
        table: Any = model.get_input_embeddings()
        table.weight[v.first_bin : v.first_bin + v.bins] = sines * 0.05
    return model


def build_unet() -> UNet2DConditionModel:
    """Three levels, so that the deepest sees the whole canvas; attention on the two coarser ones only.

    On the finest level attention would cost a third of a CPU's speed.
    """
    config: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": (80, 160, 160),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": None,
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "attention_head_dim": (2, 5, 5),  # diffusers' name for the number of heads
        "cross_attention_dim": WIDTH,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(**config)


class Labels(nn.Module):
    """Dense heads on the UNet's last but one up block: object class and colour of each latent cell; dropped at
    export."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.classes = nn.Conv2d(channels, len(CORE) + 1, 1)
        self.colours = nn.Conv2d(channels, len(COLOURS) + 1, 1)


def alphas() -> Tensor:
    """Cumulative alphas [1000] of Stable Diffusion's scaled-linear schedule."""
    betas = (
        torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, int(SCHEDULE["num_train_timesteps"]))
        ** 2
    )
    return torch.cumprod(1 - betas, 0)


def stage(
    text: CLIPTextModel,
    unet: UNet2DConditionModel,
    tokenizer: Any,
    store: LatentStore,
    minutes: float,
    device: torch.device = CPU,
) -> Stage:
    """v-prediction with uniform weight, half of all t above 400, dense labels and grounding at weight 0.3."""
    abar = alphas().to(device)
    v = Vocabulary.of(tokenizer)
    up = unet.up_blocks[-2]
    channels = unet.config["block_out_channels"][1]
    labels = Labels(channels)
    features: list[Any] = []
    attended = record(unet)
    up.register_forward_hook(lambda module, args, out: features.append(out))
    text.train()
    unet.train()

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([step, 7])
        chosen = store.choose(rng, BATCH, progress)
        ways = rng.choice(list(SHARES), BATCH, p=list(SHARES.values()))
        told = [tell(store, int(k), way, rng, tokenizer, v) for k, way in zip(chosen, ways, strict=True)]
        ids, owners = (torch.tensor([getattr(x, name) for x in told]).to(device) for name in ("ids", "owners"))
        placed = torch.tensor([float(x.placed) for x in told]).to(device)
        z0, classes, colours = (x.to(device) for x in store.batch(chosen))
        t = torch.where(
            torch.rand(BATCH) < 0.5, torch.randint(400, 1000, (BATCH,)), torch.randint(0, 1000, (BATCH,))
        ).to(device)
        noise = torch.randn_like(z0)
        a, s = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
        z = (a * z0 + s * noise).contiguous(memory_format=torch.channels_last)
        features.clear()
        attended.clear()
        with torch.autocast(device.type, torch.bfloat16), _attention(device):
            heard = text(ids).last_hidden_state
            out = unet(z, t, encoder_hidden_states=heard).sample
            seen_class, seen_colour = labels.classes(features[0]), labels.colours(features[0])
        error = (out.float() - (a * noise - s * z0)).square().mean((1, 2, 3))
        ce = F.cross_entropy(seen_class.float(), classes) + 0.5 * F.cross_entropy(seen_colour.float(), colours)
        ground = grounding_loss(attended, owners, store.items(chosen).to(device), placed)
        noisy = t > 700
        right = (seen_class.argmax(1) == classes) & (classes > 0)
        figures = {"v": float(error.detach().mean()), "ce": float(ce.detach()), "ground": float(ground.detach())}
        if noisy.any():
            figures["named"] = float(right[noisy].sum() / (classes[noisy] > 0).sum().clamp(min=1))
        return error.mean() + 0.3 * ce + 0.3 * ground, figures

    return Stage(
        name="base",
        device=device,
        modules={"text": text, "unet": unet, "labels": labels},
        loss=loss,
        minutes=minutes,
        pictures_per_step=BATCH,
        lr=1e-3,
        outer=("conv_in", "conv_out", "labels", "time_emb", "time_proj"),
        ema=0.999,
        decay_from=0.7,
    )


def _attention(device: torch.device) -> AbstractContextManager[Any]:
    """On a CPU the explicit form of attention trains faster than the fused kernel, whose backward pass is slow."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that ``tokenizer.save`` wrote."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)
