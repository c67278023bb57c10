"""From the parts of a checkpoint to a model: check that they fit, place them, and find their native values."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

from cloisonne.core.schedule import Schedule
from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.model import Model, Native
from cloisonne.models.spec import NetSpec
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.unet.denoiser import DiffusersNet
from cloisonne.models.vae import Vae


class Placement(NamedTuple):
    """Where networks run. offload: keep each in the CPU's memory except while it runs."""

    device: torch.device
    dtype: torch.dtype
    offload: bool = False


def assemble(
    parts: Parts, *, name: str, placement: Placement, native: Native | None = None, options: tuple[str, ...] = ()
) -> Model:
    """A model of the parts. native: None means the usual values of the parts' kind.

    Raises CheckpointError where the parts do not fit one another.
    """
    vae = Vae(parts.vae, placement.device)
    text = TextEncoder(parts.texts, device=placement.device, silent=parts.zeros_for_empty)
    schedule = Schedule.from_config(parts.scheduler)
    spec = NetSpec.from_unet(
        parts.unet.config, latent=latent_id(vae, parts.scheduler), vae_factor=vae.factor, prediction=schedule.prediction
    )
    _check_fit(spec, vae, text)
    put([*text.modules, parts.unet, parts.vae], placement)
    return Model(
        name=name,
        family=parts.family,
        net=DiffusersNet(parts.unet, spec),
        vae=vae,
        text=text,
        schedule=schedule,
        clip=scheduler_clip(parts.scheduler),
        native=native or _native(spec, text),
        device=placement.device,
        dtype=placement.dtype,
        files=parts.files,
        options=options,
        scheduler=parts.scheduler.get("_class_name"),
        notes=parts.notes,
        warnings=parts.warnings,
    )


def put(modules: list[nn.Module], placement: Placement) -> None:
    """Move the networks to their device; give them in the order in which they run."""
    for module in modules:
        # Not diffusers' own "to", whose warnings are about other networks.
        nn.Module.to(module, dtype=_dtype(module, placement.dtype)).eval().requires_grad_(False)
    if not placement.offload:
        for module in modules:
            module.to(placement.device)
        return
    from accelerate import cpu_offload_with_hook

    hook: Any = None
    for module in modules:
        _, hook = cpu_offload_with_hook(module, placement.device, prev_module_hook=hook)


def _dtype(module: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """The module's dtype: float32 in place of float16 for autoencoders with ``force_upcast`` (Stable Diffusion XL)."""
    config: Any = getattr(module, "config", {})
    upcast = isinstance(module, AutoencoderKL) and config.get("force_upcast") and dtype == torch.float16
    return torch.float32 if upcast else dtype


def _native(spec: NetSpec, text: TextEncoder) -> Native:
    # Position tokens mark a ReCo checkpoint; its authors use guidance 4.
    return Native(
        width=spec.native_size,
        height=spec.native_size,
        steps=20,
        guidance=4.0 if text.has_positions else 7.5,
        sampler="dpmpp-2m",
        method="reco" if text.has_positions and not text.pooled_width else "bounded",
    )


def latent_id(vae: Vae, scheduler: Mapping[str, Any]) -> str:
    """The id of a latent space and noise schedule: networks of equal ids can share a canvas."""
    betas = f"{scheduler.get('beta_start')} to {scheduler.get('beta_end')} {scheduler.get('beta_schedule')}"
    if (trained := scheduler.get("trained_betas")) is not None:
        digest = hashlib.sha256(repr([float(beta) for beta in trained]).encode()).hexdigest()
        betas = f"of {len(trained)} steps, {digest[:12]}"
    if scheduler.get("rescale_betas_zero_snr"):
        betas += ", rescaled to zero terminal SNR"
    return f"{vae.channels} channels, {vae.factor} pixels each, scaled by {vae.scale} from {vae.shift}, betas {betas}"


def scheduler_clip(scheduler: Mapping[str, Any]) -> float | None:
    """The bound that a scheduler's configuration puts on estimates of x0."""
    return scheduler.get("clip_sample_range", 1.0) if scheduler.get("clip_sample") else None


def _check_fit(spec: NetSpec, vae: Vae, text: TextEncoder) -> None:
    channels = spec.latent_channels
    if channels != vae.channels:
        raise CheckpointError(
            f"The UNet works on {channels} latent channels and the vae has {vae.channels}; take both from one "
            "checkpoint."
        )
    if spec.extra_channels and not spec.inpaints:
        raise CheckpointError(
            f"The UNet takes {channels + spec.extra_channels} input channels for {channels} latent ones; load a "
            f"checkpoint with {channels}, or with {2 * channels + 1} for inpainting."
        )
    if spec.token_width != text.width:
        raise CheckpointError(
            f"The UNet takes text of width {spec.token_width} and the text encoder gives {text.width}; take both from "
            "one checkpoint."
        )
    if spec.pooled_width != text.pooled_width:
        raise CheckpointError(
            f"The UNet takes pooled text of width {spec.pooled_width} and the text encoder gives {text.pooled_width}; "
            "take both from one checkpoint."
        )


def base_name(source: str | Path) -> str:
    """A checkpoint's name in records: the name of its file or folder, without the path."""
    path = Path(source)
    return path.stem if path.suffix == ".safetensors" else path.name
