"""Small networks of every line, and the tensors of a single file of them."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from ldm import ldm_clip, ldm_open_clip, ldm_unet, ldm_vae
from tiny import tiny_tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from cloisonne.models.checkpoints.ldm.constants import SCHEDULER
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.families import family_of

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
SD1 = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": (DOWN, DOWN, DOWN, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", UP, UP, UP),
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
    "sample_size": 64,
}
SD2 = SD1 | {
    "block_out_channels": (64, 64, 128, 128),
    "use_linear_projection": True,
    "attention_head_dim": (1, 1, 2, 2),
    "sample_size": 96,
}
XL = {
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("DownBlock2D", DOWN, DOWN),
    "up_block_types": (UP, UP, "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "cross_attention_dim": 64 + 128,
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 6 * 16 + 80,
    "sample_size": 128,
}


def text(
    kind: Any = CLIPTextModel, *, act: str, width: int = 64, length: int = 77, bins: int = 0, **more: Any
) -> TextPart:
    tokenizer = tiny_tokenizer(bins)
    tokenizer.model_max_length = length
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=width // 64,
        max_position_embeddings=length,
        hidden_act=act,
        pad_token_id=tokenizer.pad_token_id,
        **ids,
        **more,
    )
    return TextPart(kind(config).eval(), tokenizer)


def parts(line: str) -> Parts:
    """The networks that a file is made of."""
    torch.manual_seed(0)
    family = line.split()[0]
    config: dict[str, Any] = {"sd1": SD1, "reco": SD1, "sd2": SD2, "xl": XL}[family]
    inputs = 9 if "inpaint" in line else 4
    unet = UNet2DConditionModel(**config, in_channels=inputs).eval()
    if family == "sd2":
        torch.nn.init.uniform_(unet.up_blocks[3].attentions[2].transformer_blocks[0].norm1.bias, -1, 1)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025 if family == "xl" else 0.18215,
    ).eval()
    texts = {
        "sd1": lambda: (text(act="quick_gelu"),),
        "reco": lambda: (text(act="quick_gelu", length=616, bins=1000),),
        "sd2": lambda: (text(act="gelu"),),
        "xl": lambda: (
            text(act="quick_gelu"),
            text(CLIPTextModelWithProjection, act="gelu", width=128, projection_dim=80),
        ),
    }[family]()
    predicts = "v_prediction" if family == "sd2" else "epsilon"
    if len(texts) > 1 or family == "sd2":
        texts[-1].tokenizer.pad_token = "!"
    return Parts(
        family=family_of(unet.config),
        network=unet,
        vae=vae,
        texts=texts,
        scheduler=SCHEDULER | {"prediction_type": predicts},
        zeros_for_empty=family == "xl",
    )


def tensors_of(made: Parts, line: str) -> dict[str, Tensor]:
    found = ldm_unet(made.network) | ldm_vae(made.vae)
    module = made.texts[0].module
    if line.startswith("xl"):
        found |= ldm_clip(module, "conditioner.embedders.0.transformer.")
        found |= ldm_open_clip(made.texts[1].module, "conditioner.embedders.1.model.")
    elif line.startswith("sd2"):
        found |= ldm_open_clip(module, "cond_stage_model.model.", unused=1)
    else:
        found |= ldm_clip(module)
    found |= {"betas": torch.rand(1000), "alphas_cumprod": torch.rand(1000), "model_ema.decay": torch.tensor(0.9)}
    return {name: tensor.contiguous() for name, tensor in found.items()}
