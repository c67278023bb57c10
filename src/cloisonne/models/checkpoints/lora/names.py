"""Match a LoRA's tensor names, in all common naming schemes, to the layers of a checkpoint."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

from cloisonne.models.checkpoints.mmdit.original_names import originals_of
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.families import FAMILIES
from cloisonne.models.quantized.layers import QuantizedLinear

SLOTS: Mapping[str, str] = {
    # Low rank: kohya's names, PEFT's with and without the adapter's name, and three of diffusers' own schemes.
    **dict.fromkeys(("lora_down.weight", "lora_A.weight", "lora_A.default.weight"), "down"),
    **dict.fromkeys(("lora.down.weight", "lora_linear_layer.down.weight"), "down"),
    **dict.fromkeys(("lora_up.weight", "lora_B.weight", "lora_B.default.weight"), "up"),
    **dict.fromkeys(("lora.up.weight", "lora_linear_layer.up.weight"), "up"),
    **dict.fromkeys(("lora_B.bias", "lora_B.default.bias"), "up_bias"),
    "lora_mid.weight": "mid",
    "alpha": "alpha",
    # DoRA: LyCORIS' name, whose shape gives the axis, and PEFT's, which is always of the outputs.
    "dora_scale": "dora_scale",
    **dict.fromkeys(("lora_magnitude_vector", "lora_magnitude_vector.weight"), "magnitude"),
    **dict.fromkeys(("lora_magnitude_vector.default", "lora_magnitude_vector.default.weight"), "magnitude"),
    # LyCORIS: LoHa, LoKr, full differences and norms.
    **{f"hada_{slot}": f"hada_{slot}" for slot in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{slot}": f"lokr_{slot}" for slot in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{slot: slot for slot in ("diff", "diff_b", "w_norm", "b_norm")},
}
"""Suffixes of tensor names after the layer's name, and their slots in the layer's change."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("oft_blocks", "oft_diag", "oft_R.weight", "oft_R.default.weight"), "an OFT"),
    **dict.fromkeys(("boft_R", "boft_s"), "a BOFT"),
    **dict.fromkeys(("a1.weight", "a2.weight", "b1.weight", "b2.weight"), "a GLoRA"),
    "on_input": "an (IA)3",
    "lokr_t1": "a LoKr with a Tucker core of its first factor",
    **dict.fromkeys(("lora_embedding_A", "lora_embedding_B"), "a LoRA of the token embeddings"),
    **dict.fromkeys(("bias_indices", "bias_values", "bias_size"), "a LyCORIS file with sparse biases"),
    **dict.fromkeys(("set_weight", "reshape_weight"), "a replacement of layers"),
    **dict.fromkeys(("scalar", "rescale"), "a network with a trained scale of its own"),
}
"""Unsupported forms, by the suffixes of their tensor names."""

_SLOT = re.compile(rf"^(.+?)(_lora)?\.({'|'.join(map(re.escape, sorted(SLOTS, key=len, reverse=True)))})$")
_OLD = re.compile(r"^(.+)_lora\.(down|up)\.weight$")
_REFUSED = re.compile(rf"^(.+?)\.({'|'.join(map(re.escape, REFUSED))})$")


class Layer(NamedTuple):
    """A layer of a checkpoint's networks. part: 0 for the denoising network, then the text encoders. name: of the
    module."""

    part: int
    name: str


class Target(NamedTuple):
    """The layers that a layer of a file changes, in the order of its outputs; one, or those of a fused projection.

    swapped: the two halves of the outputs of the only layer are in the other order in the file.
    """

    layers: tuple[Layer, ...]
    swapped: bool = False


def modules_of(parts: Parts) -> tuple[Any, ...]:
    """The networks, in the order of ``Layer.part``."""
    return (parts.network, *(text.module for text in parts.texts))


def slot_of(tensor: str) -> tuple[str, str] | None:
    """The layer's name as in the file, and the slot; None for an unknown name."""
    if old := _OLD.match(tensor):
        return old[1], old[2]
    found = _SLOT.match(tensor)
    return (found[1], SLOTS[found[3]]) if found and found[2] is None else None


def refused_form(tensor: str) -> tuple[str, str] | None:
    """The layer's name and the form's, where a tensor's name is of an unsupported form; else None."""
    found = _REFUSED.match(tensor)
    return (found[1], REFUSED[found[2]]) if found else None


def has_transformer(parts: Parts) -> bool:
    """Whether the denoising network is a diffusion transformer."""
    return "transformer" in FAMILIES[parts.family].members


def component(layer: Layer, parts: Parts) -> str:
    """The network's name in a pipeline: "unet" or "transformer", "text_encoder", "text_encoder_2", ..."""
    network = "transformer" if has_transformer(parts) else "unet"
    return (network, "text_encoder", "text_encoder_2", "text_encoder_3")[layer.part]


def plain(name: str) -> str:
    """A layer's name with kohya's underscores for dots, and without the ``processor`` of older diffusers names."""
    return name.replace(".processor.", ".").replace(".", "_")


def layer_names(parts: Parts) -> dict[str, Target]:
    """Every layer with a weight, by all its possible names in a file, as of :func:`plain`."""
    found: dict[str, Target] = {}
    transformer = has_transformer(parts)
    all_prefixes = _ON_TRANSFORMERS.get(parts.family, (_TRANSFORMER,)) if transformer else _PREFIXES
    for part, (module, prefixes) in enumerate(zip(modules_of(parts), all_prefixes, strict=False)):
        layers = {
            name: Target((Layer(part, name),))
            for name, child in module.named_modules()
            if name and (isinstance(child, QuantizedLinear) or isinstance(getattr(child, "weight", None), nn.Parameter))
        }
        for name, target in layers.items():
            names = _text_names(name) if part else (name,) if transformer else _unet_names(name, parts)
            found |= {
                prefix + plain(own): target for own in names for prefix in prefixes if prefix + plain(own) not in found
            }
        for original in originals_of(parts.family, module.config) if transformer and part == 0 else ():
            if all(layer in layers for layer in original.layers):
                target = Target(tuple(Layer(0, layer) for layer in original.layers), original.swapped)
                found |= {prefix + plain(original.name): target for prefix in prefixes}
    return found


_PREFIXES = (
    ("lora_unet_", "unet_", "base_model_model_", "unet_base_model_model_"),
    ("lora_te_", "lora_te1_", "text_encoder_", "text_encoder_base_model_model_"),
    ("lora_te2_", "text_encoder_2_", "text_encoder_2_base_model_model_"),
)
_TRANSFORMER = (
    *("transformer_", "lora_unet_", "lora_transformer_", "diffusion_model_", "model_diffusion_model_"),
    *("base_model_model_", "transformer_base_model_model_", ""),
)
_CLIP_L = ("lora_te_", "lora_te1_", "text_encoder_", "text_encoders_clip_l_transformer_")
_OF_FLUX = (_TRANSFORMER, _CLIP_L, ("lora_te3_", "text_encoder_2_", "text_encoders_t5xxl_transformer_"))
_ON_TRANSFORMERS = {
    "flux": _OF_FLUX,
    "kontext": _OF_FLUX,
    "sd3": (
        _TRANSFORMER,
        _CLIP_L,
        ("lora_te2_", "text_encoder_2_", "text_encoders_clip_g_transformer_"),
        ("lora_te3_", "text_encoder_3_", "text_encoders_t5xxl_transformer_"),
    ),
}
"""The prefixes of the networks in the order of ``Layer.part``: of diffusers and PEFT, kohya, OneTrainer and ComfyUI. Of
other families, only LoRAs of the transformer are read."""


def _text_names(name: str) -> Iterator[str]:
    """Names with and without ``text_model.``, as in different versions of transformers, and diffusers' old names."""
    bare = name.removeprefix("text_model.")
    for written in (bare, f"text_model.{bare}"):
        yield written
        if ".self_attn." in written:
            head, _, last = written.rpartition(".")
            yield f"{head}.to_{last.removesuffix('_proj')}"


def _unet_names(name: str, parts: Parts) -> Iterator[str]:
    yield name
    if name.endswith(".to_out.0"):
        yield name.removesuffix(".0")
    layers = parts.network.config["layers_per_block"]
    # The original repositories have one number for all levels.
    for original in _ldm_names(name, layers) if isinstance(layers, int) else ():
        yield original
        if original.endswith(".to_out.0"):
            yield original.removesuffix(".0")


_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(
    r"^(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$"
)


def _ldm_names(name: str, layers: int) -> tuple[str, ...]:
    """The layer's names in the original repositories' UNet: none, one, or two for upsamplers. layers: of a block."""
    if name in _OUTSIDE:
        return (_OUTSIDE[name],)
    if (found := _BLOCK.match(name)) is None:
        return ()
    side, level, kind, count, rest = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
    inner = _RESNET.get(rest) if kind == "resnets" else rest
    if inner is None:
        return ()
    if side == "mid_block":
        return (f"middle_block.{1 if kind == 'attentions' else 2 * count}.{inner}",)
    position, first = int(kind == "attentions"), level * (layers + 1)
    if kind == "downsamplers":
        return (f"input_blocks.{first + layers + 1}.0.op",)
    if kind == "upsamplers":
        # After the attention, where the block has one.
        return tuple(f"output_blocks.{first + layers}.{after}.{inner}" for after in (1, 2))
    side_name, number = ("input_blocks", first + 1) if side == "down_blocks" else ("output_blocks", first)
    return (f"{side_name}.{number + count}.{position}.{inner}",)
