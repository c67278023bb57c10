"""The untrained text encoder and UNet of the base; ``stage`` trains them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from cloisonne.methods.reco import Vocabulary
from cloisonne.world.glyphs import COLOURS, CORE

WIDTH = 192
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def build_text(tokenizer: Any, *, sines: bool = True) -> CLIPTextModel:
    """CLIP text encoder. With ``sines``, position token embeddings start as sinusoids of the coordinate."""
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
    if not sines:
        return model
    v = Vocabulary.of(tokenizer)
    at = torch.arange(v.bins) / (v.bins - 1)
    frequency = torch.pi * 2 ** torch.linspace(-1, 5, WIDTH // 2)
    rows = torch.cat([torch.sin(at[:, None] * frequency), torch.cos(at[:, None] * frequency)], -1)
    with torch.no_grad():
        table: Any = model.get_input_embeddings()
        table.weight[v.first_bin : v.first_bin + v.bins] = rows * 0.05
    return model


def build_unet() -> UNet2DConditionModel:
    """UNet with three levels, so that the deepest covers the whole canvas; attention only on the two coarser levels.

    On the finest level attention would cost a third of the training speed on a CPU.
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
    """Dense heads on the UNet's last but one up block: object class and colour of each latent cell. Not exported."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.classes = nn.Conv2d(channels, len(CORE) + 1, 1)
        self.colours = nn.Conv2d(channels, len(COLOURS) + 1, 1)

    def heads(self) -> tuple[nn.Module, nn.Module]:
        """The heads of classes and of colours."""
        return self.classes, self.colours


def alphas() -> Tensor:
    """Cumulative alphas [1000] of Stable Diffusion's scaled-linear schedule."""
    betas = (
        torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, int(SCHEDULE["num_train_timesteps"]))
        ** 2
    )
    return torch.cumprod(1 - betas, 0)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that ``tokenizer.save`` wrote."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def load_autoencoder(folder: Path) -> Any:
    """The exported autoencoder in float32, to encode training images."""
    module: Any = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False)
    return module.float().eval()
