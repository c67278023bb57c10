"""Configurations of networks in LDM layout, read from the shapes of their tensors.

In this layout, ``input_blocks.i`` are residual blocks (``.0.in_layers``), each with or without attention
(``.1.transformer_blocks``), and downsamplings (``.0.op``).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

Tensors = Mapping[str, Tensor]


def unet_config(t: Tensors, *, heads: int | None, head_width: int | None) -> dict[str, Any]:
    """A UNet's configuration, from its tensors without their prefix.

    heads: attention heads of every level; or head_width: channels of each head.
    """
    widths, depths, blocks = [], [], 0
    index, level_blocks, depth = 1, 0, 0
    while any(name.startswith(f"input_blocks.{index}.") for name in t):
        if f"input_blocks.{index}.0.op.weight" in t:
            depths.append(depth)
            blocks, level_blocks, depth = max(blocks, level_blocks), 0, 0
        else:
            width = len(t[f"input_blocks.{index}.0.out_layers.3.weight"])
            widths += [width] if level_blocks == 0 else []
            depth = _count(t, f"input_blocks.{index}.1.transformer_blocks.")
            level_blocks += 1
        index += 1
    depths.append(depth)
    first = next(name for name in t if name.endswith("attn2.to_k.weight"))
    projection = next(name for name in t if name.endswith(".1.proj_in.weight"))
    attends = [depth > 0 for depth in depths]
    config: dict[str, Any] = {
        "in_channels": t["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(t["out.2.weight"]),
        "block_out_channels": widths,
        "layers_per_block": max(blocks, level_blocks),
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "transformer_layers_per_block": [max(depth, 1) for depth in depths],
        "cross_attention_dim": t[first].shape[1],
        "use_linear_projection": t[projection].ndim == 2,
        "attention_head_dim": heads or [max(width // (head_width or width), 1) for width in widths],
    }
    # diffusers gives the middle block the depth of the last level, which here may have no attention.
    if not attends[-1]:
        config["transformer_layers_per_block"][-1] = _count(t, "middle_block.1.transformer_blocks.")
    return config


def vae_config(t: Tensors) -> dict[str, Any]:
    """An autoencoder's configuration, from its tensors without their prefix."""
    levels = _count(t, "encoder.down.")
    return {
        "block_out_channels": [len(t[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels)],
        "layers_per_block": _count(t, "encoder.down.0.block."),
        "latent_channels": t["decoder.conv_in.weight"].shape[1],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def clip_text_config(t: Tensors) -> dict[str, Any]:
    """CLIP's text configuration, from its tensors (transformers' names without ``text_model.``)."""
    vocabulary, width = t["embeddings.token_embedding.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": len(t["encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": _count(t, "encoder.layers."),
        "num_attention_heads": max(width // 64, 1),
        "max_position_embeddings": len(t["embeddings.position_embedding.weight"]),
    }


def clip_vision_config(t: Tensors) -> dict[str, Any]:
    """CLIP's vision configuration, from its tensors (transformers' names without ``vision_model.``)."""
    width, _, patch, _ = t["embeddings.patch_embedding.weight"].shape
    patches = len(t["embeddings.position_embedding.weight"]) - 1
    return {
        "hidden_size": width,
        "intermediate_size": len(t["encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": _count(t, "encoder.layers."),
        "num_attention_heads": max(width // 64, 1),
        "patch_size": patch,
        "image_size": round(patches**0.5) * patch,
    }


def _count(t: Tensors, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in t if name.startswith(prefix)})
