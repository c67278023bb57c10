"""Tiny random checkpoints in the layout of FLUX.1 dev, schnell, Fill and Kontext."""

from pathlib import Path
from typing import Any

from tiny import WORDS, tiny_text, tiny_tokenizer, write_folder

LENGTH = 24
"""Tokens of the tiny T5."""
DEV = {"shift": 3.0, "use_dynamic_shifting": True}
SCHNELL = {"shift": 1.0, "use_dynamic_shifting": False}
SHIFTS = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 16, "max_image_seq_len": 64}


def write_flux(
    folder: Path,
    *,
    embedded: bool = True,
    double: int = 2,
    single: int = 2,
    transformer: dict[str, Any] | None = None,
    pipeline: str = "FluxPipeline",
) -> Path:
    """A pipeline folder with random weights: eight pixels to a latent pixel, sixteen to an image token.

    embedded: guidance as an input, and a dynamic shift, as dev; without both, as schnell. pipeline: its class. The
    autoencoder of Fill, whose pipeline samples the distribution of a given image, has one without variance.
    """
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    torch.manual_seed(0)
    clip, t5 = tiny_tokenizer(0), tiny_t5_tokenizer()
    config: dict[str, Any] = {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 24,
        "pooled_projection_dim": 16,
        "guidance_embeds": embedded,
        "axes_dims_rope": (4, 6, 6),
    }
    fills = pipeline == "FluxFillPipeline"
    config |= {"in_channels": 64 + 64 + 4 * 64, "out_channels": 64} if fills else {}
    parts = {
        "tokenizer": clip,
        "tokenizer_2": t5,
        "text_encoder": tiny_text(clip),
        "text_encoder_2": tiny_t5(t5),
        "transformer": FluxTransformer2DModel(**config | (transformer or {})),
        "vae": flux_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(**SHIFTS | (DEV if embedded else SCHNELL)),
    }
    if fills:
        last = parts["vae"].encoder.conv_out
        torch.nn.init.zeros_(last.weight[16:])
        torch.nn.init.constant_(last.bias[16:], -30.0)
    write_folder(folder, {"_class_name": pipeline}, parts)
    return folder


def tiny_t5_tokenizer() -> Any:
    """T5's unigram tokenizer of ``WORDS`` and single letters."""
    from transformers import T5TokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz,.()"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS.split()] + [(letter, -4.0) for letter in letters]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, additional_special_tokens=None, model_max_length=LENGTH)


def tiny_t5(tokenizer: Any, width: int = 24) -> Any:
    """A T5 v1.1 encoder of two layers."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    )


def flux_vae(width: int = 4, groups: int = 4) -> Any:
    """FLUX.1's autoencoder of 16 channels, with a shift and without quantisation convolutions."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(width,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=groups,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )
