"""Read a checkpoint in one ``.safetensors`` file in LDM layout, as the original repositories and other tools write it.

The names of its tensors give the model family, their shapes the sizes, and ``FAMILY_CONSTANTS`` what shapes do not
determine. Nothing is unpickled or downloaded.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTokenizer

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.constants import FAMILY_CONSTANTS, NOISE_SIDE, SCHEDULER, FamilyConstants
from cloisonne.models.checkpoints.ldm.fill import filled, within
from cloisonne.models.checkpoints.ldm.names import (
    CLIP_L,
    HARMLESS,
    LABELS,
    MARKS,
    OPEN_CLIP,
    UNET,
    VAE,
    XL_SECOND,
    read_names,
)
from cloisonne.models.checkpoints.ldm.prediction import declared_by, prediction_of
from cloisonne.models.checkpoints.ldm.shapes import Tensors, unet_config, vae_config
from cloisonne.models.checkpoints.ldm.texts import TEXTS, read_tokenizer, texts_of
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.families import FAMILIES
from cloisonne.models.vae import Vae


def read_single_file(
    file: Path,
    *,
    dtype: torch.dtype,
    tokenizer: Path | None = None,
    prediction: Parameterization | None = None,
) -> Parts:
    """Read the parts of a checkpoint in one file. Raises CheckpointError where it is none.

    tokenizer: a folder of CLIP's tokenizer; None searches the hub's local cache. prediction: what the
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
    second: dict[str, Any] = {"addition_embed_type": "text_time"} if FAMILIES[family].takes_size else {}
    texts = tuple(texts_of(family, file, words))
    config = unet_config(within(tensors, UNET), heads=constants.heads, head_width=constants.head_width)
    if second:
        hidden = tensors[LABELS].shape[1]
        pooled: Any = texts[1].module.config.projection_dim
        second |= {"projection_class_embeddings_input_dim": hidden, "addition_time_embed_dim": (hidden - pooled) // 6}
    vae = vae_of(tensors, _scaling(file, constants), source)
    side = (
        FAMILIES[family].native.width
        if predicts != "epsilon"
        else NOISE_SIDE.get(family, FAMILIES[family].native.width)
    )
    unet = unet_of(tensors, config | second | {"sample_size": side // Vae(vae).factor}, source)
    scheduler = {key: value for key, value in SCHEDULER.items() if key != "_class_name"}
    scheduler |= {"prediction_type": predicts}
    if declared.zero_snr:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return Parts(
        family=family,
        network=unet,
        vae=vae,
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


def _settled(file: TensorFile, family: str) -> tuple[str, ...]:
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


def family_of_names(tensors: Tensors, source: Path) -> str:
    """The model family that has tensors of these names. Raises CheckpointError where they are no whole checkpoint."""
    marks: dict[str, str] = {XL_SECOND: "sdxl", OPEN_CLIP: "sd2", CLIP_L: "sd1"}
    found: str | None = next(
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
        vae = AutoencoderKL(**vae_config(within(own, VAE)), scaling_factor=scaling, sample_size=512)
    return filled(vae, convert_ldm_vae_checkpoint(own, dict(vae.config)), len(own), source, VAE)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
