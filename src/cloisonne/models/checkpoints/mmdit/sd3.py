"""Read a diffusers pipeline folder of Stable Diffusion 3 or 3.5 into its parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import files_of, read, variant_notes
from cloisonne.models.checkpoints.mmdit.flow_scheduler import flow_scheduler_of
from cloisonne.models.checkpoints.mmdit.members import (
    checked_members,
    read_network,
    read_t5_tokenizer,
    read_text_encoder,
)
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Native

T5 = ("text_encoder_3", "tokenizer_3")
"""The members that a folder may leave out."""
MEDIUM = Native(width=1024, height=1024, steps=40, guidance=4.5, sampler="euler", method="isolated")
"""Of Stable Diffusion 3.5 Medium (its model card)."""
LARGE = Native(width=1024, height=1024, steps=28, guidance=3.5, sampler="euler", method="isolated")
"""Of Stable Diffusion 3.5 Large (its model card)."""


def read_sd3(folder: Path, index: Mapping[str, Any], dtype: torch.dtype, variant: str | None) -> Parts:
    """SD3Transformer2DModel, two CLIP text encoders, T5's or none, AutoencoderKL."""
    with_t5 = _has_t5(folder, index)
    members = {name: kinds for name, kinds in FAMILIES["sd3"].members.items() if with_t5 or name not in T5}
    taken = checked_members(folder, index, members, variant)
    notes, warnings = variant_notes(folder.name, {} if variant else taken)
    warn = list(warnings)
    network = read_network(SD3Transformer2DModel, folder / "transformer", dtype, taken["transformer"], warn)
    texts = [
        TextPart(
            read_text_encoder(CLIPTextModelWithProjection, folder / name, dtype, taken[name], warn),
            read(folder / name.replace("text_encoder", "tokenizer"), CLIPTokenizer.from_pretrained),
        )
        for name in ("text_encoder", "text_encoder_2")
    ]
    if with_t5:
        module = read_text_encoder(T5EncoderModel, folder / T5[0], dtype, taken[T5[0]], warn)
        texts.append(TextPart(module, read_t5_tokenizer(folder / T5[1])))
    else:
        notes = (*notes, f'"{folder.name}" has no T5: texts are encoded by its two CLIPs alone.')
    listed = index.get("scheduler")
    return Parts(
        family="sd3",
        network=network,
        vae=read_network(AutoencoderKL, folder / "vae", dtype, taken["vae"], warn),
        texts=tuple(texts),
        text_options={"width": int(network.config["joint_attention_dim"])},
        scheduler=flow_scheduler_of(folder, listed[1] if isinstance(listed, list) else None),
        native=native_of(network.config),
        files=files_of([folder / member for member in (*members, "scheduler")]),
        notes=notes,
        warnings=tuple(warn),
    )


def _has_t5(folder: Path, index: Mapping[str, Any]) -> bool:
    """Whether the index lists T5. Raises CheckpointError where it does and there is none."""
    listed = index.get(T5[0])
    if not listed or listed[0] is None:
        return False
    if not (folder / T5[0]).is_dir():
        raise CheckpointError(
            f'"{folder}" has no folder {T5[0]} (T5), which its model_index.json lists; download it, or set {T5[0]} and '
            f"{T5[1]} to [null, null] there to use the model without T5."
        )
    return True


def native_of(config: Mapping[str, Any]) -> Native | None:
    """The usual values of 3.5, which normalises queries and keys; None for 3."""
    if config.get("qk_norm") is None:
        return None
    return MEDIUM if config.get("dual_attention_layers") else LARGE
