"""Read a diffusers pipeline folder of Stable Diffusion 3 or 3.5 into its parts."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import read
from cloisonne.models.checkpoints.mmdit.members import PipelineFolder, read_t5_tokenizer
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.model import Native

T5 = ("text_encoder_3", "tokenizer_3")
"""The members that a folder may leave out."""
MEDIUM = Native(width=1024, height=1024, steps=40, guidance=4.5, sampler="euler", method="isolated")
"""Of Stable Diffusion 3.5 Medium (its model card)."""
LARGE = Native(width=1024, height=1024, steps=28, guidance=3.5, sampler="euler", method="isolated")
"""Of Stable Diffusion 3.5 Large (its model card)."""


def read_sd3(folder: PipelineFolder) -> Parts:
    """SD3Transformer2DModel, two CLIP text encoders, T5's or none, AutoencoderKL."""
    with_t5 = _has_t5(folder)
    members = folder.members("sd3", without=() if with_t5 else T5)
    network = members.transformer(SD3Transformer2DModel)
    texts = [
        TextPart(
            members.text_encoder(CLIPTextModelWithProjection, name),
            read(folder.path / name.replace("text_encoder", "tokenizer"), CLIPTokenizer.from_pretrained),
        )
        for name in ("text_encoder", "text_encoder_2")
    ]
    if with_t5:
        texts.append(TextPart(members.text_encoder(T5EncoderModel, T5[0]), read_t5_tokenizer(folder.path / T5[1])))
    else:
        members.notes.append(f'"{folder.path.name}" has no T5: texts are encoded by its two CLIPs alone.')
    return members.parts(
        network=network,
        vae=members.network(AutoencoderKL, "vae"),
        texts=tuple(texts),
        text_options={"width": int(network.config["joint_attention_dim"])},
        scheduler=members.scheduler(),
        native=native_of(network.config),
    )


def _has_t5(folder: PipelineFolder) -> bool:
    """Whether the index lists T5. Raises CheckpointError where it does and there is none."""
    listed = folder.index.get(T5[0])
    if not listed or listed[0] is None:
        return False
    if not (folder.path / T5[0]).is_dir():
        raise CheckpointError(
            f'"{folder.path}" has no folder {T5[0]} (T5), which its model_index.json lists; download it, or set '
            f"{T5[0]} and {T5[1]} to [null, null] there to use the model without T5."
        )
    return True


def native_of(config: Mapping[str, Any]) -> Native | None:
    """The usual values of 3.5, which normalises queries and keys; None for 3."""
    if config.get("qk_norm") is None:
        return None
    return MEDIUM if config.get("dual_attention_layers") else LARGE
