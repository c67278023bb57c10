"""Read a diffusers pipeline folder of FLUX.1 dev, schnell, Fill or Kontext into its parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel

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

SCHNELL_LENGTH = 256
"""Tokens of T5 that schnell was trained with, in place of its tokenizer's 512 (its model card)."""
SCHNELL = Native(width=1024, height=1024, steps=4, guidance=1.0, sampler="euler", method="isolated")
FILL = Native(width=1024, height=1024, steps=50, guidance=30.0, sampler="euler", method="isolated")


def read_flux(
    folder: Path, index: Mapping[str, Any], dtype: torch.dtype, variant: str | None, *, family: str = "flux"
) -> Parts:
    """FluxTransformer2DModel, CLIP's and T5's text encoders, AutoencoderKL; schnell is without embedded guidance.

    family: "flux", or "kontext", whose networks are those of dev by their configurations.
    """
    members = FAMILIES[family].members
    taken = checked_members(folder, index, members, variant)
    notes, warnings = variant_notes(folder.name, {} if variant else taken)
    warn = list(warnings)
    network = read_network(FluxTransformer2DModel, folder / "transformer", dtype, taken["transformer"], warn)
    embedded = bool(network.config["guidance_embeds"])
    clip = TextPart(
        read_text_encoder(CLIPTextModel, folder / "text_encoder", dtype, taken["text_encoder"], warn),
        read(folder / "tokenizer", CLIPTokenizer.from_pretrained),
    )
    t5 = TextPart(
        read_text_encoder(T5EncoderModel, folder / "text_encoder_2", dtype, taken["text_encoder_2"], warn),
        read_t5_tokenizer(folder / "tokenizer_2", None if embedded else SCHNELL_LENGTH),
    )
    listed = index.get("scheduler")
    return Parts(
        family=family,
        network=network,
        vae=read_network(AutoencoderKL, folder / "vae", dtype, taken["vae"], warn),
        texts=(clip, t5),
        scheduler=flow_scheduler_of(folder, listed[1] if isinstance(listed, list) else None),
        native=native_of(network.config),
        files=files_of([folder / member for member in (*members, "scheduler")]),
        notes=notes,
        warnings=tuple(warn),
    )


def native_of(config: Mapping[str, Any]) -> Native | None:
    """The usual values of schnell and Fill by the transformer's configuration; None for the family's own."""
    if not config["guidance_embeds"]:
        return SCHNELL
    return FILL if config.get("out_channels") not in (None, config["in_channels"]) else None
