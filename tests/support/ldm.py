"""Tiny checkpoints in LDM layout: the names that original repositories and other tools give to tensors."""

import re
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def ldm_unet(unet: Any) -> dict[str, Tensor]:
    """A UNet's tensors by their names in LDM layout, under their prefix."""
    layers = unet.config["layers_per_block"]
    attends = ["CrossAttn" in kind for kind in unet.config["up_block_types"]]
    return {f"model.diffusion_model.{_unet_name(n, layers, attends)}": t for n, t in unet.state_dict().items()}


def _unet_name(name: str, layers: int, attends: list[bool]) -> str:
    layer, _, kind = name.rpartition(".")
    if layer in UNET_TOP:
        return f"{UNET_TOP[layer]}.{kind}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name):
        place = 2 * int(match[2]) + (match[1] == "attentions")
        return f"middle_block.{place}.{_inner(match[1], match[3])}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    assert match, name
    side, block, part, number, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if side == "down":
        first = block * (layers + 1) + 1
        if part == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{first + number}.{int(part == 'attentions')}.{_inner(part, rest)}"
    first = block * (layers + 1)
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{1 + attends[block]}.{rest}"
    return f"output_blocks.{first + number}.{int(part == 'attentions')}.{_inner(part, rest)}"


def _inner(part: str, rest: str) -> str:
    if part == "attentions":
        return rest
    layer, _, kind = rest.rpartition(".")
    return f"{RESNET[layer]}.{kind}"


def ldm_controlnet(net: Any, prefix: str = "control_model.") -> dict[str, Tensor]:
    """A ControlNet's tensors by their original names."""
    found = {}
    for name, tensor in net.state_dict().items():
        new = name.replace("controlnet_mid_block", "middle_block_out.0")
        new = re.sub(r"controlnet_down_blocks\.(\d+)", r"zero_convs.\1.0", new)
        new = re.sub(r"controlnet_cond_embedding\.conv_in", "input_hint_block.0", new)
        new = re.sub(r"controlnet_cond_embedding\.conv_out", "input_hint_block.14", new)
        new = re.sub(
            r"controlnet_cond_embedding\.blocks\.(\d+)", lambda m: f"input_hint_block.{2 * int(m[1]) + 2}", new
        )
        new = _unet_name(name, net.config["layers_per_block"], []) if new == name else new
        found[prefix + new] = tensor
    return found


VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def ldm_vae(vae: Any) -> dict[str, Tensor]:
    """An autoencoder's tensors by their names in LDM layout, under their prefix."""
    levels = len(vae.config["block_out_channels"])
    found = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", new)
        new = re.sub(r"(up\.\d+)\.resnets\.(\d+)", r"\1.block.\2", new)
        new = new.replace("upsamplers.0", "upsample")
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda match: f"mid.block_{int(match[1]) + 1}", new)
        if "mid_block.attentions.0." in new:
            head, _, rest = new.partition("mid_block.attentions.0.")
            layer, _, kind = rest.rpartition(".")
            new = f"{head}mid.attn_1.{VAE_ATTENTION[layer]}.{kind}"
            tensor = tensor[..., None, None] if kind == "weight" and tensor.ndim == 2 else tensor
        found[f"first_stage_model.{new}"] = tensor
    return found


def ldm_clip(text: Any, prefix: str = "cond_stage_model.transformer.") -> dict[str, Tensor]:
    """A CLIP text encoder's tensors by the names they had when these checkpoints were published."""
    names = {name: name.removeprefix("text_model.") for name in text.state_dict()}
    found = {f"{prefix}text_model.{names[name]}": tensor for name, tensor in text.state_dict().items()}
    # An artefact that is longer than the table in some of them.
    found[f"{prefix}text_model.embeddings.position_ids"] = torch.arange(1000)[None]
    return found


OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def ldm_open_clip(text: Any, prefix: str, *, unused: int = 0) -> dict[str, Tensor]:
    """A text encoder's tensors as OpenCLIP names them; unused: layers behind the last one, which are never asked."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items()}
    width = text.config.hidden_size
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
        "text_projection": state.get("text_projection.weight", torch.randn(width, width)).T.contiguous(),
    }
    layers = text.config.num_hidden_layers
    for layer in range(layers + unused):
        own = f"encoder.layers.{min(layer, layers - 1)}"
        place = f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            fused = torch.cat([state[f"{own}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"])
            found[f"{place}.attn.in_proj_{kind}"] = fused
            for theirs, ours in OPEN_CLIP.items():
                found[f"{place}.{ours}.{kind}"] = state[f"{own}.{theirs}.{kind}"].clone()
    return {f"{prefix}{name}": tensor for name, tensor in found.items()}
