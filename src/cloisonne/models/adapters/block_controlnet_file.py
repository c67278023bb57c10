"""ControlNets of diffusion transformers in one safetensors file, by the names of diffusers.

A file has no configuration: it is read from the shapes of its tensors, and what these do not have from the network that
it is for and from the published ControlNets.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.fill import filled
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed

Config = Mapping[str, Any]
Tensors = dict[str, Tensor]
MARKS = {
    "flux": ("controlnet_x_embedder.weight", "transformer_blocks.0.attn.to_q.weight"),
    "sd3": ("pos_embed_input.proj.weight", "transformer_blocks.0.attn.to_q.weight"),
    "zimage": ("control_all_x_embedder.2-1.weight", "control_layers.0.attention.to_q.weight"),
}
"""Tensors of each family's ControlNets; those by original names have not all of them."""
FIRST, SECOND = 5, 2
"""Of how many layers of Z-Image one takes residuals, in the published unions of version 1 and of version 2."""
BEFORE = "control_noise_refiner.0.before_proj.weight"


def read_controlnet_file(kind: Any, file: Path, family: str, base: Config, dtype: torch.dtype) -> nn.Module:
    """The network of a file. kind: its class in diffusers. base: the configuration of the network that it is for.

    Raises CheckpointError where it is none, is by other names, or its places in the network are not known.
    """
    tensors = dict(TensorFile.open(file).tensors)
    if missing := [name for name in MARKS[family] if name not in tensors]:
        raise CheckpointError(
            f'"{file}" lacks {listed(missing)}, so it is no ControlNet of this model by the names of diffusers: its '
            f"tensors are {listed(tensors)}; give the ControlNet's diffusers folder with config.json."
        )
    config = _CONFIGS[family](tensors, base, file)
    with torch.device("meta"):
        module = kind(**config)
    cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    return filled(module, cast, len(cast), file, "the ControlNet")


def _count(t: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in t if name.startswith(prefix)})


def _flux(t: Tensors, base: Config, file: Path) -> dict[str, Any]:
    hints, modes = t.get("input_hint_block.conv_out.weight"), t.get("controlnet_mode_embedder.weight")
    own = ("num_attention_heads", "attention_head_dim", "joint_attention_dim", "pooled_projection_dim")
    return {
        **{name: base[name] for name in (*own, "axes_dims_rope")},
        "in_channels": t["x_embedder.weight"].shape[1],
        "patch_size": 1 if hints is None else 2,
        "num_layers": _count(t, "transformer_blocks."),
        "num_single_layers": _count(t, "single_transformer_blocks."),
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in t,
        "num_mode": None if modes is None else len(modes),
        "conditioning_embedding_channels": None if hints is None else len(hints),
    }


def _sd3(t: Tensors, base: Config, file: Path) -> dict[str, Any]:
    own = ("sample_size", "patch_size", "in_channels", "num_attention_heads", "attention_head_dim")
    layers, positions, text = _count(t, "transformer_blocks."), t.get("pos_embed.pos_embed"), "context_embedder.weight"
    dual = (i for i in range(layers) if f"transformer_blocks.{i}.attn2.to_q.weight" in t)
    return {
        **{name: base[name] for name in (*own, "pooled_projection_dim")},
        "num_layers": layers,
        "joint_attention_dim": t[text].shape[1] if text in t else None,
        "caption_projection_dim": base["num_attention_heads"] * base["attention_head_dim"],
        "pos_embed_max_size": base["pos_embed_max_size"] if positions is None else math.isqrt(positions.shape[1]),
        "extra_conditioning_channels": t["pos_embed_input.proj.weight"].shape[1] - base["in_channels"],
        "dual_attention_layers": tuple(dual),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in t else None,
        "use_pos_embed": positions is not None,
        # Those with positions of their own are InstantX's, which take no pooled text; Stability AI's take it.
        "force_zeros_for_pooled_projection": positions is not None,
    }


def _zimage(t: Tensors, base: Config, file: Path) -> dict[str, Any]:
    count, layers = _count(t, "control_layers."), int(base["n_layers"])
    every = layers // count if layers % count == 0 else 0
    if every not in (FIRST, SECOND):
        raise CheckpointError(
            f'"{file}" has {count} layers for a network of {layers}; which of these they control is not known, so give '
            "the ControlNet's diffusers folder with config.json."
        )
    refiner = None
    if every == SECOND:
        before = t.get(BEFORE)
        # Of version 2.0 these layers are not used.
        refiner = "control_layers" if before is None or not bool(before.any()) else "control_noise_refiner"
    if refiner == "control_layers":
        for name in [name for name in t if name.startswith("control_noise_refiner.")]:
            del t[name]
    own = ("dim", "n_heads", "n_kv_heads", "n_refiner_layers")
    return {
        **{name: base[name] for name in own},
        "control_layers_places": list(range(0, layers, every)),
        "control_refiner_layers_places": None if refiner is None else list(range(int(base["n_refiner_layers"]))),
        "control_in_dim": t[MARKS["zimage"][0]].shape[1] // 4,
        "add_control_noise_refiner": refiner,
    }


_CONFIGS: Mapping[str, Callable[[Tensors, Config, Path], dict[str, Any]]] = {
    "flux": _flux,
    "sd3": _sd3,
    "zimage": _zimage,
}
