"""A diffusers folder of PaintByExamplePipeline, as a model of its own or as another model's network for exemplars."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPVisionConfig

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.paint_by_example import ExemplarEncoder, ExemplarEngine, encoder_of, used_names
from cloisonne.models.checkpoints.assemble import Placement, latent_id, put, scheduler_clip
from cloisonne.models.checkpoints.files import check_weights, files_of, read, read_json, variant_notes, weight_files
from cloisonne.models.checkpoints.folder import read_member, scheduler_class
from cloisonne.models.checkpoints.network_config import check_vision
from cloisonne.models.checkpoints.scheduler_config import scheduler_of
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.models.spec import NetSpec
from cloisonne.models.vae import Vae

FAMILY = FAMILIES["pbe"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExemplarParts:
    """The parts of a Paint by Example folder.

    unet: of 2C + 1 input channels. scheduler: a checked diffusers ``scheduler_config.json``. notes, warnings: as in
    Model.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoder: ExemplarEncoder
    scheduler: Mapping[str, Any]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_exemplar_folder(folder: Path, dtype: torch.dtype, variant: str | None = None) -> ExemplarParts:
    """Read the parts in a folder. variant: of its weights. Raises CheckpointError where it is damaged."""
    taken = {member: check_weights(folder / member, variant=variant) for member in FAMILY.members}
    encoder = folder / "image_encoder"
    scheduler = scheduler_of(folder, scheduler_class(read_json(folder / "model_index.json")))
    notes, warnings = variant_notes(folder.name, {} if variant else taken)
    warn = [*warnings]
    files = weight_files(encoder, "model", taken["image_encoder"])
    return ExemplarParts(
        unet=read_member(UNet2DConditionModel, folder / "unet", dtype, taken["unet"], warn),
        vae=read_member(AutoencoderKL, folder / "vae", dtype, taken["vae"], warn),
        encoder=read(encoder, lambda path: _encoder(path, files, warn)),
        scheduler=scheduler,
        files=files_of([folder / member for member in (*FAMILY.members, "scheduler")]),
        notes=notes,
        warnings=tuple(warn),
    )


def _encoder(folder: Path, files: list[Path], warn: list[str]) -> ExemplarEncoder:
    """The image encoder. warn: collects warnings about unused tensors and header entries."""
    config = read_json(folder / "config.json")
    check_vision(folder / "config.json", config, CLIPVisionConfig, also=("pooled",))
    opened = [TensorFile.open(file) for file in files]
    encoder = encoder_of(config, {name: tensor for file in opened for name, tensor in file.tensors.items()})
    for file in opened:
        for name in used_names(encoder, file.keys):
            file.take(name)
        file.skip(lambda name: ".attn1.to_q." in name or ".attn1.to_k." in name, "the softmax of one token is 1")
        warn += file.settle("image encoder")
    return encoder


def engine_of(parts: ExemplarParts, placement: Placement) -> ExemplarEngine:
    """The exemplar network of the parts. Raises CheckpointError where they do not fit one another."""
    vae = Vae(parts.vae)
    schedule = FAMILY.schedule(parts.scheduler)
    spec = NetSpec.from_unet(
        parts.unet.config,
        latent=latent_id(vae, parts.scheduler),
        vae_factor=vae.factor,
        prediction=schedule.prediction,
    )
    if not spec.inpaints:
        raise CheckpointError(
            f"The UNet takes {spec.latent_channels + spec.extra_channels} input channels; Paint by Example's takes "
            f"{2 * spec.latent_channels + 1}: noisy latents, the masked image's latents, and the mask."
        )
    if spec.token_width != parts.encoder.project.out_features:
        raise CheckpointError(
            f"The UNet takes tokens of width {spec.token_width} and the image encoder gives "
            f"{parts.encoder.project.out_features}; take both from one checkpoint."
        )
    put([parts.encoder, parts.unet], placement)
    net = FAMILY.denoiser(parts.unet, spec)
    return ExemplarEngine(net=net, encoder=parts.encoder, device=placement.device)


def model_of(parts: ExemplarParts, *, name: str, placement: Placement) -> Model:
    """A model that takes only exemplars, no text."""
    engine = engine_of(parts, placement)
    spec = engine.net.spec
    put([parts.vae], placement)
    side = spec.native_size
    return Model(
        name=name,
        family=FAMILY.name,
        net=engine.net,
        vae=Vae(parts.vae, placement.device),
        text=FAMILY.text(name, spec.token_width),
        schedule=FAMILY.schedule(parts.scheduler),
        clip=scheduler_clip(parts.scheduler),
        native=replace(FAMILY.native, width=side, height=side),
        device=placement.device,
        dtype=placement.dtype,
        files=parts.files,
        exemplar=engine,
        scheduler=parts.scheduler["_class_name"],
        notes=parts.notes,
        warnings=parts.warnings,
    )
