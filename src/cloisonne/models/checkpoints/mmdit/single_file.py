"""Read FLUX.1 and Stable Diffusion 3 in one ``.safetensors`` file, as ComfyUI loads it: the original repository's
transformer, text encoders by the names of transformers, and the autoencoder. Tokenizers are of a folder.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.checkpoints.files import read
from cloisonne.models.checkpoints.ldm.fill import filled, within
from cloisonne.models.checkpoints.ldm.shapes import clip_text_config, vae_config
from cloisonne.models.checkpoints.mmdit.flux import SCHNELL_LENGTH
from cloisonne.models.checkpoints.mmdit.flux import native_of as flux_native
from cloisonne.models.checkpoints.mmdit.members import read_t5_tokenizer
from cloisonne.models.checkpoints.mmdit.sd3 import native_of as sd3_native
from cloisonne.models.checkpoints.mmdit.shapes import NETWORKS, converted
from cloisonne.models.checkpoints.mmdit.transformer_file import with_stored
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed
from cloisonne.models.families import FAMILIES
from cloisonne.models.quantized.layers import Stored
from cloisonne.models.quantized.scaled_float8 import with_scales

NETWORK = "model.diffusion_model."
VAES = ("first_stage_model.", "vae.")
MARKS = {"double_blocks.0.img_attn.qkv.weight": "flux", "joint_blocks.0.x_block.attn.qkv.weight": "sd3"}
"""A tensor of each family's transformer."""
TEXTS = {"flux": ("clip_l", "t5xxl"), "sd3": ("clip_l", "clip_g", "t5xxl")}
"""The text encoders in the order of the pipeline's members; T5 of Stable Diffusion 3 may be missing."""
_FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


class Constants(NamedTuple):
    """What shapes do not determine: of the autoencoder, and of the noise levels with and without embedded guidance."""

    scaling: float
    shift: float
    scheduler: Mapping[str, Any]
    unguided: Mapping[str, Any]


CONSTANTS = {
    "flux": Constants(0.3611, 0.1159, _FLOW | {"use_dynamic_shifting": True}, _FLOW | {"shift": 1.0}),
    "sd3": Constants(1.5305, 0.0609, _FLOW, _FLOW),
}


def family_of_file(names: Iterable[str]) -> str | None:
    """The family of the transformer that a file with tensors of these names holds; None where it holds none."""
    known = {name.removeprefix(NETWORK) for name in names}
    return next((family for mark, family in MARKS.items() if mark in known), None)


def is_transformer_file(file: Path) -> bool:
    """Whether a safetensors file holds one of these transformers; only its header is read."""
    try:
        with safe_open(file, "pt") as opened:
            return family_of_file(opened.keys()) is not None
    except Exception:  # its reader says what is wrong
        return False


def read_transformer_file(file: TensorFile, dtype: torch.dtype, tokenizer: Path | None) -> Parts:
    """The parts of a file. tokenizer: a pipeline folder, or one with its members tokenizer, tokenizer_2 and so on.

    Raises CheckpointError where the file is not whole, or the folder lacks a tokenizer.
    """
    source, family = Path(file.source), family_of_file(file.keys)
    assert family is not None, "it holds a transformer"
    _check_whole(file, family)
    stored = with_scales(file.tensors, source)
    own = {name.removeprefix(NETWORK): tensor for name, tensor in stored.items() if name.startswith(NETWORK)}
    network = _network(family, own, source, dtype)
    found = {name: _plain(tensor, dtype) for name, tensor in stored.items() if not name.startswith(NETWORK)}
    embedded = bool(network.config.get("guidance_embeds"))
    texts = tuple(_texts(family, found, tokenizer, source, None if family == "sd3" or embedded else SCHNELL_LENGTH))
    constants = CONSTANTS[family]
    prefix = next(prefix for prefix in VAES if any(name.startswith(prefix) for name in found))
    vae = _vae(within(found, prefix), constants, source, prefix)
    for name in file.keys:
        if name.startswith((NETWORK, prefix, *(_prefix(one) for one in TEXTS[family]))):
            file.take(name)
    native = sd3_native(network.config) if family == "sd3" else flux_native(network.config)
    return Parts(
        family=family,
        network=network,
        vae=vae,
        texts=texts,
        text_options={"width": int(network.config["joint_attention_dim"])} if family == "sd3" else {},
        scheduler=constants.scheduler if embedded or family == "sd3" else constants.unguided,
        native=native,
        files=(source,),
        warnings=file.settle("checkpoint"),
    )


def _plain(tensor: Tensor | Stored, dtype: torch.dtype) -> Tensor:
    if isinstance(tensor, Stored):
        return tensor.numbers(dtype)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _prefix(encoder: str) -> str:
    return f"text_encoders.{encoder}.transformer."


def _check_whole(file: TensorFile, family: str) -> None:
    texts = [_prefix(one) for one in TEXTS[family] if one != "t5xxl" or family == "flux"]
    missing = [prefix for prefix in texts if not any(name.startswith(prefix) for name in file.keys)]
    if not any(name.startswith(VAES) for name in file.keys):
        missing.append(VAES[0])
    if not missing and not any(name.startswith(NETWORK) for name in file.keys):
        missing = [NETWORK]
    if missing:
        raise CheckpointError(
            f'"{file.source}" is no whole checkpoint of {FAMILIES[family].title}: it has no tensors under '
            f"{listed(missing)}; load a file with text encoders and autoencoder, or a diffusers folder with its "
            f"transformer: {spelled('load(FOLDER, transformer=FILE)', '--model FOLDER --transformer FILE')}."
        )


def _network(family: str, tensors: Mapping[str, Tensor | Stored], source: Path, dtype: torch.dtype) -> Any:
    """The transformer of tensors by their original names."""
    reader = NETWORKS[family]
    with torch.device("meta"):
        network = reader.kind(**reader.config(tensors))
    return with_stored(network, converted(family, tensors, network), source, dtype)


def _vae(tensors: Mapping[str, Tensor], constants: Constants, source: Path, prefix: str) -> AutoencoderKL:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    plain: dict[str, Any] = {"use_quant_conv": False, "use_post_quant_conv": False, "force_upcast": True}
    with torch.device("meta"):
        vae = AutoencoderKL(
            **vae_config(tensors), **plain, scaling_factor=constants.scaling, shift_factor=constants.shift
        )
    return filled(vae, convert_ldm_vae_checkpoint(dict(tensors), dict(vae.config)), len(tensors), source, prefix)


def _texts(
    family: str, tensors: Mapping[str, Tensor], folder: Path | None, source: Path, most: int | None
) -> Iterable[TextPart]:
    for number, encoder in enumerate(TEXTS[family]):
        prefix = _prefix(encoder)
        own = {name: t for name, t in within(tensors, prefix).items() if not name.endswith("position_ids")}
        if not own:
            continue
        member = _tokenizer(folder, f"tokenizer{'' if number == 0 else f'_{number + 1}'}")
        if encoder == "t5xxl":
            tokenizer = read_t5_tokenizer(member, most)
            module: nn.Module = T5EncoderModel(_t5_config(own))
            # Its two names of the embeddings are one tensor.
            own |= {name: own["shared.weight"] for name in module.state_dict() if name.endswith("embed_tokens.weight")}
        else:
            tokenizer = read(member, CLIPTokenizer.from_pretrained)
            module, own = _clip(encoder, own, tokenizer, projected=family == "sd3")
        yield TextPart(filled(module, own, len(own), source, prefix), tokenizer)


def _clip(
    encoder: str, tensors: dict[str, Tensor], tokenizer: Any, *, projected: bool
) -> tuple[nn.Module, dict[str, Tensor]]:
    bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    projection = bare.pop("text_projection.weight", None)
    config: dict[str, Any] = clip_text_config(bare) | {"hidden_act": "quick_gelu" if encoder == "clip_l" else "gelu"}
    config |= {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    if projected and projection is not None:
        module: nn.Module = CLIPTextModelWithProjection(CLIPTextConfig(**config, projection_dim=len(projection)))
    else:
        module = CLIPTextModel(CLIPTextConfig(**config))
    prefixed = any(name.startswith("text_model.") for name in module.state_dict())
    own = {f"text_model.{name}" if prefixed else name: tensor for name, tensor in bare.items()}
    return module, own | ({"text_projection.weight": projection} if projected and projection is not None else {})


def _t5_config(t: Mapping[str, Tensor]) -> T5Config:
    bias = t["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    config: Any = T5Config  # transformers annotates no further keywords
    return config(
        vocab_size=len(t["shared.weight"]),
        d_model=t["shared.weight"].shape[1],
        d_kv=len(t["encoder.block.0.layer.0.SelfAttention.q.weight"]) // bias.shape[1],
        d_ff=len(t["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]),
        num_layers=len({name.split(".")[2] for name in t if name.startswith("encoder.block.")}),
        num_heads=bias.shape[1],
        relative_attention_num_buckets=len(bias),
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


def _tokenizer(folder: Path | None, member: str) -> Path:
    """The folder of a tokenizer."""
    if folder is not None and (folder / member).is_dir():
        return folder / member
    given = f'"{folder}" has none of the name {member}' if folder is not None else "none is given"
    raise CheckpointError(
        f"A single file holds no tokenizers, and {given}; give a folder with them, such as a diffusers folder of the "
        f"model: {spelled('load(..., tokenizer=FOLDER)', '--tokenizer FOLDER')}."
    )
