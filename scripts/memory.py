"""What the weights of diffusion transformers take in memory, by the kind of quantisation, computed from shapes.

    python scripts/memory.py

Networks of the published configurations are made without weights (on torch's device "meta"). Nothing is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

GB = 1e9
EIGHT, FOUR = "float8, int8", "Q4_K, nf4"
BITS = {"bfloat16": 16.0, EIGHT: 8.0, "Q8_0": 34 * 8 / 32, "Q6_K": 210 * 8 / 256, FOUR: 144 * 8 / 256}
"""Bits of a number, with the scales of its block, if all matrices are stored so; norms and biases are in bfloat16."""

_FLUX: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
_SD3: dict[str, Any] = {"sample_size": 128, "joint_attention_dim": 4096, "pooled_projection_dim": 2048}
_MEDIUM = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384}
_LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192}
_KLEIN = {"in_channels": 128, "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24}
_KLEIN_9B = {"in_channels": 128, "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32}
_QWEN: dict[str, Any] = {"vocab_size": 151936, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
_QWEN_4B = {**_QWEN, "hidden_size": 2560, "intermediate_size": 9728}
_QWEN_8B = {**_QWEN, "hidden_size": 4096, "intermediate_size": 12288}
_T5 = {"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24, "feed_forward_proj": "gated-gelu"}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_VAE = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
_BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
_SIZES: dict[str, Any] = {**_VAE, **_BLOCKS, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}


@dataclass(frozen=True, kw_only=True)
class Published:
    """The configurations of a published model: of its transformer, its text encoders, and its autoencoder."""

    transformer: tuple[str, Mapping[str, Any]]
    texts: tuple[tuple[str, Mapping[str, Any]], ...]
    vae: str = "AutoencoderKL"


_TEXTS_OF_FLUX = (("CLIPTextModel", _CLIP_L), ("T5EncoderModel", _T5))
_TEXTS_OF_SD3 = (*_TEXTS_OF_FLUX, ("CLIPTextModelWithProjection", {**_CLIP_G, "projection_dim": 1280}))
# Layers after the last hidden state that FLUX.2 klein reads, the 27th, are not kept in memory.
_READ_LAYERS = {"num_hidden_layers": 28}

MODELS = {
    "FLUX.1 dev, Kontext": Published(transformer=("FluxTransformer2DModel", _FLUX), texts=_TEXTS_OF_FLUX),
    "FLUX.1 Fill": Published(
        transformer=("FluxTransformer2DModel", {**_FLUX, "in_channels": 384, "out_channels": 64}), texts=_TEXTS_OF_FLUX
    ),
    "FLUX.1 schnell": Published(
        transformer=("FluxTransformer2DModel", {**_FLUX, "guidance_embeds": False}), texts=_TEXTS_OF_FLUX
    ),
    "Stable Diffusion 3.5 Medium": Published(
        transformer=(
            "SD3Transformer2DModel",
            {**_SD3, **_MEDIUM, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))},
        ),
        texts=_TEXTS_OF_SD3,
    ),
    "Stable Diffusion 3.5 Large": Published(
        transformer=("SD3Transformer2DModel", {**_SD3, **_LARGE, "qk_norm": "rms_norm"}), texts=_TEXTS_OF_SD3
    ),
    "FLUX.2 klein 4B": Published(
        transformer=(
            "Flux2Transformer2DModel",
            {**_KLEIN, "joint_attention_dim": 3 * 2560, "guidance_embeds": False},
        ),
        texts=(("Qwen3Model", {**_QWEN_4B, **_READ_LAYERS}),),
        vae="AutoencoderKLFlux2",
    ),
    "FLUX.2 klein 9B": Published(
        transformer=(
            "Flux2Transformer2DModel",
            {**_KLEIN_9B, "joint_attention_dim": 3 * 4096, "guidance_embeds": False},
        ),
        texts=(("Qwen3Model", {**_QWEN_8B, **_READ_LAYERS}),),
        vae="AutoencoderKLFlux2",
    ),
    "Z-Image, Turbo": Published(
        transformer=("ZImageTransformer2DModel", {}), texts=(("Qwen3Model", {**_QWEN_4B, "num_hidden_layers": 36}),)
    ),
}


@dataclass(frozen=True)
class Size:
    """Numbers of a network's weights: in the matrices of linear layers, and others."""

    matrices: int
    others: int

    @property
    def count(self) -> int:
        """All numbers."""
        return self.matrices + self.others

    def gigabytes(self, kind: str = "bfloat16") -> float:
        """In memory, the matrices in a kind of ``BITS``."""
        return (self.matrices * BITS[kind] / 8 + self.others * 2) / GB


def size_of(network: nn.Module) -> Size:
    """The numbers of a network's weights."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    matrices = sum(layer.weight.numel() for layer in layers)
    return Size(matrices, sum(weight.numel() for weight in network.parameters()) - matrices)


def made(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """A network of a class of diffusers or transformers, without weights."""
    with torch.device("meta"):
        if hasattr(diffusers, kind):
            return getattr(diffusers, kind)(**config)
        network: Any = getattr(transformers, kind)
        return network(network.config_class(**config))


def largest_part(network: nn.Module) -> float:
    """Gigabytes in bfloat16 of what is on the device at once with group offload: a block, and what is around them."""
    children = list(network.children())
    lists = [child for child in children if isinstance(child, nn.ModuleList)]
    inside = [size_of(block).gigabytes() for blocks in lists for block in blocks]
    return size_of(network).gigabytes() - sum(inside) + max(inside)


@cache
def sizes(name: str) -> tuple[Size, tuple[Size, ...], Size]:
    """The sizes of a published model's transformer, text encoders and autoencoder."""
    model = MODELS[name]
    vae = made(model.vae, _SIZES if model.vae == "AutoencoderKL" else {})
    return size_of(made(*model.transformer)), tuple(size_of(made(*text)) for text in model.texts), size_of(vae)


def markdown() -> str:
    """The table of docs/checkpoints.md, in gigabytes (10**9 bytes)."""
    head = ["", "transformer", *BITS, "a block and the rest", "text encoders, the largest of them", "in 8 bits, in 4"]
    head.append("autoencoder")
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name in MODELS:
        network, texts, vae = sizes(name)
        each = [text.gigabytes() for text in texts]
        encoders = f"{sum(each):.1f} GB, {max(each):.1f} GB" if len(each) > 1 else f"{each[0]:.1f} GB"
        numbers = [f"{network.gigabytes(kind):.1f} GB" for kind in BITS]
        numbers.append(f"{largest_part(made(*MODELS[name].transformer)):.1f} GB")
        small = ", ".join(f"{sum(text.gigabytes(kind) for text in texts):.1f} GB" for kind in (EIGHT, FOUR))
        count = f"{network.count / 1e9:.1f} billion"
        lines.append([name, count, *numbers, encoders, small, f"{vae.gigabytes():.2f} GB"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(markdown())
