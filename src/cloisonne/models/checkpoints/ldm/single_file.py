"""Read a checkpoint in one ``.safetensors`` file in LDM layout, as the original repositories and other tools write it.

The names of its tensors give the model family, their shapes the sizes, and ``FAMILY_CONSTANTS`` what shapes do not
determine. Nothing is unpickled or downloaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.checkpoints.files import read
from cloisonne.models.checkpoints.ldm.names import (
    CLIP_L,
    HARMLESS,
    LABELS,
    MARKS,
    OPEN_CLIP,
    UNET,
    VAE,
    XL_FIRST,
    XL_SECOND,
    read_names,
)
from cloisonne.models.checkpoints.ldm.open_clip import renamed
from cloisonne.models.checkpoints.ldm.prediction import declared_by, prediction_of
from cloisonne.models.checkpoints.ldm.shapes import Tensors, clip_text_config, unet_config, vae_config
from cloisonne.models.checkpoints.parts import Family, Parts, TextPart
from cloisonne.models.checkpoints.tensor_file import TensorFile

TEXTS: dict[Family, tuple[str, ...]] = {
    "sd1": (CLIP_L,),
    "sd2": (OPEN_CLIP,),
    "sdxl": (XL_FIRST, XL_SECOND),
}
"""Prefixes of the text encoders, by model family."""

VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Either of these files holds a tokenizer's vocabulary."""
TOKENIZER = "openai/clip-vit-large-patch14"
"""The tokenizer of all these families; searched for in the hub's local cache."""

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""The noise schedule of all these families; the prediction type is added."""


@dataclass(frozen=True, kw_only=True)
class FamilyConstants:
    """What shapes do not determine.

    heads or head_width: of the UNet's attention. side: of its native latents. scaling: the autoencoder's
    ``scaling_factor``.
    """

    heads: int | None = None
    head_width: int | None = None
    side: int
    scaling: float


FAMILY_CONSTANTS: dict[Family, FamilyConstants] = {
    "sd1": FamilyConstants(heads=8, side=64, scaling=0.18215),
    "sd2": FamilyConstants(head_width=64, side=96, scaling=0.18215),
    "sdxl": FamilyConstants(head_width=64, side=128, scaling=0.13025),
}


def read_single_file(
    file: Path,
    *,
    dtype: torch.dtype,
    tokenizer: Path | None = None,
    prediction: Parameterization | None = None,
) -> Parts:
    """Read the parts of a checkpoint in one file. Raises CheckpointError where it is none.

    tokenizer: a folder of CLIP's tokenizer, or a pipeline's; None looks in the hub's local cache. prediction: what the
    network predicts; None means as the file declares, else noise for Stable Diffusion 1.x and XL.
    """
    return parts_of(TensorFile.open(file), words=lambda: read_tokenizer(tokenizer), prediction=prediction, dtype=dtype)


def parts_of(
    given: TensorFile,
    *,
    words: Callable[[], CLIPTokenizer],
    prediction: Parameterization | None = None,
    dtype: torch.dtype | None = None,
) -> Parts:
    """The parts of tensors in LDM layout, of any file. dtype: None keeps that of the tensors."""
    file = read_names(given)
    source = Path(file.source)
    if dtype is not None:
        file.tensors = {name: _cast(tensor, dtype) for name, tensor in file.tensors.items()}
    tensors = file.tensors
    family = family_of_names(tensors, source)
    constants = FAMILY_CONSTANTS[family]
    declared = declared_by(file, family, prediction)
    predicts = prediction_of(file, family, declared)
    second: dict[str, Any] = {"addition_embed_type": "text_time"} if family == "sdxl" else {}
    texts = tuple(_texts(family, file, words))
    config = unet_config(_within(tensors, UNET), heads=constants.heads, head_width=constants.head_width)
    if second:
        hidden = tensors[LABELS].shape[1]
        pooled: Any = texts[1].module.config.projection_dim
        second |= {"projection_class_embeddings_input_dim": hidden, "addition_time_embed_dim": (hidden - pooled) // 6}
    side = 64 if family == "sd2" and predicts == "epsilon" else constants.side
    unet = unet_of(tensors, config | second | {"sample_size": side}, source)
    scheduler = {key: value for key, value in SCHEDULER.items() if key != "_class_name"}
    scheduler |= {"prediction_type": predicts}
    if declared.zero_snr:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return Parts(
        family=family,
        unet=unet,
        vae=vae_of(tensors, _scaling(file, constants), source),
        texts=texts,
        scheduler=scheduler,
        zeros_for_empty=family == "sdxl",
        files=(source,),
        warnings=(*declared.warnings, *_settled(file, family)),
    )


def _scaling(file: TensorFile, constants: FamilyConstants) -> float:
    """The autoencoder's ``scaling_factor``: the file's own ``scale_factor`` where it has one, else the family's."""
    own = file.tensors.get("scale_factor")
    if own is None or own.numel() != 1 or abs(float(own) - 1) < 1e-6:
        return constants.scaling
    return float(own)


def _settled(file: TensorFile, family: Family) -> tuple[str, ...]:
    """Warnings about unused tensors; networks themselves refuse unknown tensors under their prefixes."""
    file.skip(
        lambda name: name.startswith(HARMLESS) or name in MARKS, "schedule buffers, averages, marks, training state"
    )
    for name in file.keys:
        if name.startswith((UNET, VAE, *TEXTS[family])):
            file.take(name)
    for entry in file.header:
        if entry.startswith("sd_merge_"):
            file.entry(entry)
    return file.settle("checkpoint")


def family_of_names(tensors: Tensors, source: Path) -> Family:
    """The model family that has tensors of these names. Raises CheckpointError where they are no whole checkpoint."""
    marks: dict[str, Family] = {XL_SECOND: "sdxl", OPEN_CLIP: "sd2", CLIP_L: "sd1"}
    found: Family | None = next(
        (family for mark, family in marks.items() if any(name.startswith(mark) for name in tensors)), None
    )
    missing = [part for part in (UNET, VAE) if not any(name.startswith(part) for name in tensors)]
    if found is None or missing:
        lacks = [*missing, *([] if found else ["a text encoder"])]
        raise CheckpointError(
            f'"{source}" is no whole checkpoint of Stable Diffusion 1.x, 2.x or XL in LDM layout: it lacks '
            f"{' and '.join(lacks)}; load a LoRA, an embedding or an adapter together with a model, by its own option."
        )
    return found


def unet_of(tensors: Tensors, config: Mapping[str, Any], source: Path) -> UNet2DConditionModel:
    """The UNet of the tensors under its prefix."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    own = {name: tensor for name, tensor in tensors.items() if name.startswith(UNET)}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return filled(unet, convert_ldm_unet_checkpoint(own, dict(unet.config)), len(own), source, UNET)


def vae_of(tensors: Tensors, scaling: float, source: Path) -> AutoencoderKL:
    """The autoencoder of the tensors under its prefix."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    own = {name: tensor for name, tensor in tensors.items() if name.startswith(VAE) and ".loss." not in name}
    own = {name: tensor for name, tensor in own.items() if not name.startswith(f"{VAE}model_ema.")}
    with torch.device("meta"):
        vae = AutoencoderKL(**vae_config(_within(own, VAE)), scaling_factor=scaling, sample_size=512)
    return filled(vae, convert_ldm_vae_checkpoint(own, dict(vae.config)), len(own), source, VAE)


def filled(module: Any, tensors: Tensors, given: int, source: Path, prefix: str) -> Any:
    """Load exactly these tensors into the module; given: how many the file holds for it.

    Raises CheckpointError where a tensor is missing, unknown or misshapen.
    """
    wanted: dict[str, Tensor] = module.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f'"{source}" lacks the tensor "{name}" (under {prefix}); download it again.')
        if name not in wanted or len(tensors) != given:
            what = f'"{name}"' if name not in wanted else f"{abs(given - len(tensors))} tensors"
            raise CheckpointError(
                f'"{source}" holds {what} under {prefix} that its model family does not have; load another file.'
            )
        if tensors[name].shape != wanted[name].shape:
            shapes = f"{list(tensors[name].shape)}, not {list(wanted[name].shape)}"
            raise CheckpointError(f'"{source}" has "{name}" (under {prefix}) of shape {shapes}; download it again.')
    module.load_state_dict(dict(tensors), assign=True)
    return module


def _texts(family: Family, file: TensorFile, words: Callable[[], CLIPTokenizer]) -> tuple[TextPart, ...]:
    tensors, source = file.tensors, Path(file.source)
    if family == "sd1":
        return (_clip(_within(tensors, CLIP_L), words(), source, CLIP_L),)
    if family == "sd2":
        return (_open_clip(_within(tensors, OPEN_CLIP), words(), source, OPEN_CLIP, unused=1),)
    first = _clip(_within(tensors, XL_FIRST), words(), source, XL_FIRST)
    return first, _open_clip(_within(tensors, XL_SECOND), words(), source, XL_SECOND, unused=0)


def _clip(tensors: Tensors, tokenizer: CLIPTokenizer, source: Path, prefix: str) -> TextPart:
    """CLIP's text encoder; embeddings beyond the tokenizer's vocabulary are ReCo's position tokens."""
    own = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
    config = clip_text_config(own)
    bins = config["vocab_size"] - len(tokenizer)
    if bins < 0:
        raise CheckpointError(
            f'"{source}" has {config["vocab_size"]} token embeddings and its tokenizer {len(tokenizer)} tokens; give '
            "its own tokenizer."
        )
    tokenizer.add_tokens([f"<bin{k:03d}>" for k in range(bins)])
    tokenizer.model_max_length = config["max_position_embeddings"]
    return _text_part(CLIPTextModel, config | {"hidden_act": "quick_gelu"}, own, tokenizer, source, prefix)


def _open_clip(tensors: Tensors, tokenizer: CLIPTokenizer, source: Path, prefix: str, *, unused: int) -> TextPart:
    """OpenCLIP's text encoder without its last ``unused`` layers; its projection gives pooled text."""
    layers = len({name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}) - unused
    own = renamed(tensors, layers=layers)
    projection = own.get("text_projection.weight")
    if unused:
        own.pop("text_projection.weight", None)
    config = clip_text_config(own) | {"hidden_act": "gelu"}
    # These tokenizers pad with their first token.
    tokenizer.pad_token = "!"
    if unused or projection is None:
        return _text_part(CLIPTextModel, config, own, tokenizer, source, prefix)
    config["projection_dim"] = len(projection)
    return _text_part(CLIPTextModelWithProjection, config, own, tokenizer, source, prefix)


def _text_part(
    kind: Any, config: dict[str, Any], tensors: Tensors, tokenizer: CLIPTokenizer, source: Path, prefix: str
) -> TextPart:
    ids: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"pad_token_id": tokenizer.pad_token_id}
    # Not on the meta device: position ids are computed, not read.
    module: nn.Module = kind(CLIPTextConfig(**config, **ids))
    prefixed = any(name.startswith("text_model.") for name in module.state_dict())
    own = {
        f"text_model.{name}" if prefixed and not name.startswith("text_projection") else name: tensor
        for name, tensor in tensors.items()
    }
    return TextPart(filled(module, own, len(own), source, prefix), tokenizer)


def read_tokenizer(folder: Path | None) -> CLIPTokenizer:
    """A new CLIP tokenizer, of a folder or of the hub's local cache."""
    folders = [_cached()] if folder is None else [folder / "tokenizer", folder]
    for one in folders:
        # An empty folder would be read as a tokenizer of an empty vocabulary.
        if one and any((one / name).is_file() for name in VOCABULARIES):
            return read(one, CLIPTokenizer.from_pretrained)
    wanted = f'"{TOKENIZER}" in the local cache of the hub' if folder is None else f'a CLIP tokenizer in "{folder}"'
    raise CheckpointError(
        f"A single file holds no tokenizer, and {wanted} was not found; give the folder of one: "
        f"{spelled('load(..., tokenizer=FOLDER)', '--tokenizer FOLDER')}."
    )


def _cached() -> Path | None:
    """The tokenizer's folder in the hub's local cache."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(TOKENIZER, name) for name in VOCABULARIES)
    return next((Path(file).parent for file in found if isinstance(file, str)), None)


def _within(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
