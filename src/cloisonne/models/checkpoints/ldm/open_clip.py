"""Rename the tensors of OpenCLIP's text encoder to transformers' names."""

import re

from torch import Tensor

from cloisonne.models.checkpoints.ldm.shapes import Tensors

_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_TOP = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
IGNORED = ("logit_scale", "attn_mask")


def renamed(t: Tensors, *, layers: int) -> dict[str, Tensor]:
    """Tensors of an OpenCLIP text tower as those of a CLIPTextModel of its first ``layers`` layers.

    The fused projection of queries, keys and values is split. A ``text_projection`` is transposed and named
    ``text_projection.weight``.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in t.items():
        if name in _TOP:
            found[_TOP[name]] = tensor
        elif name == "text_projection":
            found["text_projection.weight"] = tensor.T.contiguous()
        elif match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name):
            if int(match[1]) < layers:
                found |= _layer(f"encoder.layers.{match[1]}", match[2], tensor)
        elif name not in IGNORED:
            found[name] = tensor
    return found


def _layer(place: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{place}.self_attn.{letter}_proj.{kind}": part.contiguous() for letter, part in parts}
    layer, _, kind = name.rpartition(".")
    return {f"{place}.{_NAMES.get(layer, layer)}.{kind}": tensor}
