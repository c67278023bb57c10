"""Read a diffusers pipeline folder of FLUX.1 dev, schnell, Fill or Kontext into its parts."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel

from cloisonne.models.checkpoints.files import read
from cloisonne.models.checkpoints.mmdit.members import PipelineFolder, read_t5_tokenizer
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.model import Native

SCHNELL_LENGTH = 256
"""Tokens of T5 that schnell was trained with, in place of its tokenizer's 512 (its model card)."""
SCHNELL = Native(width=1024, height=1024, steps=4, guidance=1.0, sampler="euler", method="isolated")
FILL = Native(width=1024, height=1024, steps=50, guidance=30.0, sampler="euler", method="isolated")


def read_flux(folder: PipelineFolder, family: str = "flux") -> Parts:
    """FluxTransformer2DModel, CLIP's and T5's text encoders, AutoencoderKL; schnell is without embedded guidance.

    family: "flux", or "kontext", whose networks are those of dev by their configurations.
    """
    members = folder.members(family)
    network = members.transformer(FluxTransformer2DModel)
    embedded = bool(network.config["guidance_embeds"])
    clip = TextPart(members.text_encoder(CLIPTextModel), read(folder.path / "tokenizer", CLIPTokenizer.from_pretrained))
    t5 = TextPart(
        members.text_encoder(T5EncoderModel, "text_encoder_2"),
        read_t5_tokenizer(folder.path / "tokenizer_2", None if embedded else SCHNELL_LENGTH),
    )
    return members.parts(
        network=network,
        vae=members.network(AutoencoderKL, "vae"),
        texts=(clip, t5),
        scheduler=members.scheduler(),
        native=native_of(network.config),
    )


def native_of(config: Mapping[str, Any]) -> Native | None:
    """The usual values of schnell and Fill by the transformer's configuration; None for the family's own."""
    if not config["guidance_embeds"]:
        return SCHNELL
    return FILL if config.get("out_channels") not in (None, config["in_channels"]) else None
