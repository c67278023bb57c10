"""Tiny random checkpoints in the layouts of published ones, for tests."""

import json
from pathlib import Path
from typing import Any

WORDS = """
a an on in the beach night sky doughnut cat dog car red orange blue stars small large square left right top
"""
"""Words that are one token for the tiny tokenizer; others are spelt."""

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def write_checkpoint(
    folder: Path,
    *,
    bins: int = 0,
    vae: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    unet: dict[str, Any] | None = None,
    native: dict[str, Any] | None = None,
    inpaint: bool = False,
) -> Path:
    """A pipeline folder of one text encoder with random weights."""
    import torch

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(bins)
    parts = {
        "tokenizer": tokenizer,
        "text_encoder": tiny_text(tokenizer),
        "unet": tiny_unet(in_channels=9 if inpaint else 4, **(unet or {})),
        "vae": tiny_vae(**(vae or {})),
        "scheduler": tiny_scheduler(**(scheduler or {})),
    }
    name = "StableDiffusionInpaintPipeline" if inpaint else "StableDiffusionPipeline"
    write_folder(folder, {"_class_name": name}, parts)
    if native is not None:
        (folder / "family.json").write_text(json.dumps({"version": 1, "native": native}))
    return folder


def write_xl(
    folder: Path,
    *,
    inpaint: bool = False,
    zeros: bool = True,
    scheduler: dict[str, Any] | None = None,
    unet: dict[str, Any] | None = None,
) -> Path:
    """A pipeline folder in the layout of Stable Diffusion XL: two text encoders, pooled text, size conditioning."""
    import torch

    torch.manual_seed(0)
    first, second = tiny_tokenizer(0), tiny_tokenizer(0)
    second.pad_token = "!"
    parts = {
        "tokenizer": first,
        "tokenizer_2": second,
        "text_encoder": tiny_text(first),
        "text_encoder_2": tiny_text(second, width=24, projected=20),
        "unet": tiny_unet(
            in_channels=9 if inpaint else 4,
            cross_attention_dim=40,
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            attention_head_dim=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 20,
            **(unet or {}),
        ),
        "vae": tiny_vae(),
        "scheduler": tiny_scheduler(**(scheduler or {})),
    }
    name = "StableDiffusionXLInpaintPipeline" if inpaint else "StableDiffusionXLPipeline"
    write_folder(folder, {"_class_name": name, "force_zeros_for_empty_prompt": zeros}, parts)
    return folder


def write_exemplar(folder: Path) -> Path:
    """A pipeline folder in the layout of Fantasy-Studio/Paint-by-Example."""
    import torch
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
    from transformers import CLIPVisionConfig

    torch.manual_seed(1)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=9,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=16,
    )
    unet = tiny_unet(in_channels=9)
    torch.manual_seed(0)
    parts = {
        "image_encoder": PaintByExampleImageEncoder(vision),
        "unet": unet,
        "vae": tiny_vae(),
        "scheduler": tiny_scheduler(),
    }
    write_folder(folder, {"_class_name": "PaintByExamplePipeline"}, parts)
    index = json.loads((folder / "model_index.json").read_text())
    index["image_encoder"] = ["paint_by_example", "PaintByExampleImageEncoder"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_folder(folder: Path, index: dict[str, Any], parts: dict[str, Any]) -> None:
    """The parts as diffusers and transformers save them, and model_index.json."""
    import diffusers

    index["_diffusers_version"] = diffusers.__version__
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        library = "transformers" if name.startswith(("tokenizer", "text_encoder")) else "diffusers"
        index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def tiny_unet(**changes: Any) -> Any:
    """Two levels on 8 x 8 latents of four channels."""
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": None,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
    }
    return UNet2DConditionModel(**config | changes)


def tiny_vae(**changes: Any) -> Any:
    """Eight-fold downsampling of RGB unless told otherwise."""
    from diffusers import AutoencoderKL

    config: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "block_out_channels": (4, 4, 8, 8)} | changes
    levels = len(config["block_out_channels"])
    return AutoencoderKL(
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        scaling_factor=0.5,
        **config,
    )


def tiny_text(tokenizer: Any, width: int = 16, projected: int | None = None) -> Any:
    """A CLIP text encoder of two layers; with a projection to ``projected`` numbers if there is one."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=projected or width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config) if projected is None else CLIPTextModelWithProjection(config)


def tiny_scheduler(**changes: Any) -> Any:
    """Stable Diffusion's schedule."""
    from diffusers import DDIMScheduler

    config: dict[str, Any] = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **BETAS}
    return DDIMScheduler(**config | changes)


def tiny_tokenizer(bins: int) -> Any:
    """CLIP's tokenizer of single letters and ``WORDS``, with position tokens <bin000> and so on."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    symbols = dict.fromkeys(alphabet + [f"{symbol}</w>" for symbol in alphabet])
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        left, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for right in rest:
            merges += [] if (left, right) in merges else [(left, right)]
            left += right
            symbols[left] = None
    vocab = {symbol: i for i, symbol in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.add_tokens([f"<bin{i:03d}>" for i in range(bins)])
    return tokenizer
