"""Configurations of transformers by their original names, read from the shapes of their tensors; their tensors by the
names of diffusers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor

from cloisonne.models.checkpoints.mmdit.original_names import originals_of
from cloisonne.models.mmdit.zimage_network import PATCH, JointZImage
from cloisonne.models.quantized.layers import Stored

Tensors = Mapping[str, Tensor | Stored]
SD3_HEAD = 64
"""Width of Stable Diffusion 3's heads, which no tensor has without normalised queries and keys."""


def _count(t: Tensors, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in t if name.startswith(prefix)})


def _flux_config(t: Tensors) -> dict[str, Any]:
    head = len(t["double_blocks.0.img_attn.norm.query_norm.scale"])
    return {
        "patch_size": 1,
        "in_channels": t["img_in.weight"].shape[1],
        "out_channels": len(t["final_layer.linear.weight"]),
        "num_layers": _count(t, "double_blocks."),
        "num_single_layers": _count(t, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": len(t["img_in.weight"]) // head,
        "joint_attention_dim": t["txt_in.weight"].shape[1],
        "pooled_projection_dim": t["vector_in.in_layer.weight"].shape[1],
        "guidance_embeds": "guidance_in.in_layer.weight" in t,
        # An eighth of each head for the axis of texts, the rest for rows and columns.
        "axes_dims_rope": (head // 8, head // 16 * 7, head // 16 * 7),
    }


def _sd3_config(t: Tensors) -> dict[str, Any]:
    patches, layers = t["x_embedder.proj.weight"], _count(t, "joint_blocks.")
    dual = (i for i in range(layers) if f"joint_blocks.{i}.x_block.attn2.qkv.weight" in t)
    return {
        "sample_size": 128,
        "patch_size": patches.shape[-1],
        "in_channels": patches.shape[1],
        "out_channels": len(t["final_layer.linear.weight"]) // patches.shape[-1] ** 2,
        "num_layers": layers,
        "attention_head_dim": SD3_HEAD,
        "num_attention_heads": len(patches) // SD3_HEAD,
        "joint_attention_dim": t["context_embedder.weight"].shape[1],
        "caption_projection_dim": len(t["context_embedder.weight"]),
        "pooled_projection_dim": t["y_embedder.mlp.0.weight"].shape[1],
        "pos_embed_max_size": math.isqrt(t["pos_embed"].shape[1]),
        "dual_attention_layers": tuple(dual),
        "qk_norm": "rms_norm" if "joint_blocks.0.x_block.attn.ln_q.weight" in t else None,
    }


def _flux2_config(t: Tensors) -> dict[str, Any]:
    head, feed = len(t["double_blocks.0.img_attn.norm.query_norm.scale"]), t["double_blocks.0.img_mlp.2.weight"]
    return {
        "in_channels": t["img_in.weight"].shape[1],
        "num_layers": _count(t, "double_blocks."),
        "num_single_layers": _count(t, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": len(t["img_in.weight"]) // head,
        "joint_attention_dim": t["txt_in.weight"].shape[1],
        "timestep_guidance_channels": t["time_in.in_layer.weight"].shape[1],
        "mlp_ratio": feed.shape[1] / len(feed),
        "guidance_embeds": "guidance_in.in_layer.weight" in t,
        "axes_dims_rope": (head // 4,) * 4,
    }


def _zimage_config(t: Tensors) -> dict[str, Any]:
    width, head = len(t["x_embedder.weight"]), len(t["layers.0.attention.q_norm.weight"])
    heads = width // head
    pairs = head // 8
    return {
        "in_channels": t["x_embedder.weight"].shape[1] // PATCH**2,
        "dim": width,
        "n_layers": _count(t, "layers."),
        "n_refiner_layers": _count(t, "noise_refiner."),
        "n_heads": heads,
        "n_kv_heads": (len(t["layers.0.attention.qkv.weight"]) // head - heads) // 2,
        "cap_feat_dim": t["cap_embedder.1.weight"].shape[1],
        "siglip_feat_dim": t["siglip_embedder.1.weight"].shape[1] if "siglip_embedder.1.weight" in t else None,
        # A quarter of each head for the axis of texts, the rest for rows and columns.
        "axes_dims": (2 * pairs, 3 * pairs, 3 * pairs),
        "axes_lens": (1536, 512, 512),
    }


class OriginalNetwork(NamedTuple):
    """How a family's transformer is read. config: of its class in diffusers, from the shapes of its tensors."""

    kind: Any
    config: Callable[[Tensors], dict[str, Any]]


def converted(family: str, tensors: Tensors, network: Any) -> dict[str, Tensor | Stored]:
    """The tensors of a family's network by diffusers' names; what is unknown keeps its name."""
    left = dict(tensors)
    found: dict[str, Tensor | Stored] = {}
    if "pos_embed" in left:
        found["pos_embed.pos_embed"] = left.pop("pos_embed")
    sizes = {name: len(tensor) for name, tensor in network.state_dict().items() if tensor.ndim}
    for original in originals_of(family, network.config):
        for end in ("weight", "bias", "scale"):
            tensor = left.pop(f"{original.name}.{end}", None)
            if tensor is None:
                continue
            names = [f"{layer}.{'weight' if end == 'scale' else end}" for layer in original.layers]
            if original.swapped:
                tensor = tensor.swapped() if isinstance(tensor, Stored) else torch.cat(tensor.chunk(2)[::-1])
            rows = [sizes.get(name, 0) for name in names]
            parts = tensor.split(rows) if sum(rows) == len(tensor) else [tensor]
            found |= dict(zip(names, parts, strict=False))
    return found | left


NETWORKS: Mapping[str, OriginalNetwork] = {
    "flux": OriginalNetwork(FluxTransformer2DModel, _flux_config),
    "kontext": OriginalNetwork(FluxTransformer2DModel, _flux_config),
    "sd3": OriginalNetwork(SD3Transformer2DModel, _sd3_config),
    "flux2": OriginalNetwork(Flux2Transformer2DModel, _flux2_config),
    "zimage": OriginalNetwork(JointZImage, _zimage_config),
}
