"""From the parts of a checkpoint to a model: check that they fit, place them, and find their native values."""

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from transformers import PreTrainedModel, T5EncoderModel

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.mmdit.flow_scheduler import FLOW_SCHEDULERS
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.compiled import compile_blocks
from cloisonne.models.families import FAMILIES, Family
from cloisonne.models.model import Model, Native
from cloisonne.models.options import CompileMode, Offload
from cloisonne.models.spec import NetSpec
from cloisonne.models.staged import move
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.vae import Autoencoder, Number, Vae


class Placement(NamedTuple):
    """Where networks run. offload: keep each in the CPU's memory except while it runs; "group": each block of a
    transformer, and each layer of a text encoder.

    move: whether the base's networks are moved there; add-ons always are. compile: the mode in which the blocks of the
    base's network are compiled.
    """

    device: torch.device
    dtype: torch.dtype
    offload: Offload = False
    move: bool = True
    compile: CompileMode | None = None


def assemble(parts: Parts, *, name: str, placement: Placement, native: Native | None = None) -> Model:
    """A model of the parts. native: None means the usual values of the parts' kind.

    Raises CheckpointError where the parts do not fit one another.
    """
    vae = Vae(parts.vae, placement.device)
    family = FAMILIES[parts.family]
    text = family.text(
        parts.texts, device=placement.device, zero_when_empty=parts.zeros_for_empty, **parts.text_options
    )
    schedule = family.schedule(parts.scheduler)
    latent = latent_id(vae, parts.scheduler)
    spec = family.spec(parts.network.config, latent=latent, vae_factor=vae.factor, prediction=schedule.prediction)
    _check_fit(spec, vae, text)
    if placement.move:
        put([*text.modules, parts.network, parts.vae], placement, together=text.modules)
    notes = parts.notes
    if placement.compile is not None:
        compile_blocks(parts.network, placement.compile, placement.device)
        notes = (*notes, f'The network is compiled ("{placement.compile}"), so that the first image takes longer.')
    return Model(
        name=name,
        family=parts.family,
        net=family.denoiser(parts.network, spec),
        vae=vae,
        text=text,
        schedule=schedule,
        clip=scheduler_clip(parts.scheduler),
        native=native or parts.native or _native(family, spec, text),
        device=placement.device,
        dtype=placement.dtype,
        files=parts.files,
        scheduler=parts.scheduler.get("_class_name"),
        notes=notes,
        compile=placement.compile,
        warnings=parts.warnings,
    )


def put(modules: Sequence[nn.Module], placement: Placement, *, together: Sequence[nn.Module] = ()) -> None:
    """Move the networks to their device; with offload, each when it runs, and off it when another one runs.

    together: those that stay while one of them runs, such as the text encoders of a model.
    """
    for module in modules:
        dtype = _dtype(module, placement.dtype)
        if any(tensor.dtype != dtype for tensor in module.parameters()):
            # Not diffusers' own "to", whose warnings are about other networks.
            nn.Module.to(module, dtype=dtype)
        module.eval().requires_grad_(False)
    if not placement.offload:
        for module in modules:
            if any(tensor.device != placement.device for tensor in module.parameters()):
                move(module, placement.device)
        return
    from accelerate import cpu_offload_with_hook

    whole = [module for module in modules if placement.offload != "group" or isinstance(module, Autoencoder)]
    for module in modules:
        if module not in whole:
            _offload_groups(module, placement.device)
    hooks: list[Any] = [cpu_offload_with_hook(module, placement.device)[1] for module in whole]
    lock, shared = threading.RLock(), {id(module) for module in together}

    def alone(function: Callable[..., Any], others: Sequence[Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            # One thread at a time, because each network moves the others off the device, also after a run that failed.
            with lock:
                for hook in others:
                    if next(hook.model.parameters()).device.type != "cpu":
                        hook.offload()
                return function(*args, **given)

        return call

    for module in modules:
        staying = {id(module)} | (shared if id(module) in shared else set())
        others = [hook for hook in hooks if id(hook.model) not in staying]
        for name in ("forward", "encode", "decode"):
            if (function := getattr(module, name, None)) is not None:
                setattr(module, name, alone(function, others))


def _offload_groups(module: nn.Module, device: torch.device) -> None:
    """Keep a network in the CPU's memory except the block that runs, or of a text encoder the layer that runs."""
    from diffusers.hooks import apply_group_offloading

    by_layer = isinstance(module, PreTrainedModel)
    level = "leaf_level" if by_layer else "block_level"
    apply_group_offloading(module, device, offload_type=level, num_blocks_per_group=None if by_layer else 1)


def _dtype(module: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """The module's dtype. In place of float16, float32 for autoencoders with ``force_upcast`` (Stable Diffusion XL) and
    bfloat16 for T5."""
    config: Any = getattr(module, "config", {})
    if isinstance(module, T5EncoderModel) and dtype == torch.float16:
        return torch.bfloat16  # it overflows float16
    upcast = isinstance(module, AutoencoderKL) and config.get("force_upcast") and dtype == torch.float16
    return torch.float32 if upcast else dtype


def _native(family: Family, spec: NetSpec, text: TextEncoder) -> Native:
    """The family's usual values at the size that the network was trained on."""
    native = replace(family.native, width=spec.native_size, height=spec.native_size)
    if not text.has_positions:
        return native
    # Position tokens mark a ReCo checkpoint; its authors use guidance 4.
    return replace(native, guidance=4.0, method=native.method if text.pooled_width else "reco")


def latent_id(vae: Vae, scheduler: Mapping[str, Any]) -> str:
    """The id of a latent space and noise schedule: networks of equal ids can share a canvas."""
    start = f"{vae.channels} channels, {vae.factor} pixels each, scaled by {_named(vae.scale)} from {_named(vae.shift)}"
    if scheduler.get("_class_name") in FLOW_SCHEDULERS:
        return f"{start}, rectified flow"
    betas = f"{scheduler.get('beta_start')} to {scheduler.get('beta_end')} {scheduler.get('beta_schedule')}"
    if (trained := scheduler.get("trained_betas")) is not None:
        digest = hashlib.sha256(repr([float(beta) for beta in trained]).encode()).hexdigest()
        betas = f"of {len(trained)} steps, {digest[:12]}"
    if scheduler.get("rescale_betas_zero_snr"):
        betas += ", rescaled to zero terminal SNR"
    return f"{start}, betas {betas}"


def _named(number: Number) -> str:
    """A number, or a digest of those of each channel."""
    if isinstance(number, float | int):
        return str(number)
    return f"{len(number)} numbers ({hashlib.sha256(repr(number).encode()).hexdigest()[:12]})"


def scheduler_clip(scheduler: Mapping[str, Any]) -> float | None:
    """The bound that a scheduler's configuration puts on estimates of x0."""
    return scheduler.get("clip_sample_range", 1.0) if scheduler.get("clip_sample") else None


def _check_fit(spec: NetSpec, vae: Vae, text: TextEncoder) -> None:
    channels = spec.latent_channels
    if channels != vae.channels:
        raise CheckpointError(
            f"The network works on {channels} latent channels and the vae has {vae.channels}; take both from one "
            "checkpoint."
        )
    if spec.extra_channels and not spec.inpaints:
        raise CheckpointError(
            f"The network takes {channels + spec.extra_channels} input channels for {channels} latent ones; load a "
            f"checkpoint with {channels}, or with {2 * channels + 1} for inpainting."
        )
    if spec.token_width != text.width:
        raise CheckpointError(
            f"The network takes text of width {spec.token_width} and the text encoder gives {text.width}; take both "
            "from one checkpoint."
        )
    if spec.pooled_width != text.pooled_width:
        raise CheckpointError(
            f"The network takes pooled text of width {spec.pooled_width} and the text encoder gives "
            f"{text.pooled_width}; take both from one checkpoint."
        )


def base_name(source: str | Path) -> str:
    """A checkpoint's name in records: the name of its file or folder, without the path."""
    path = Path(source)
    return path.stem if path.suffix in (".safetensors", ".gguf") else path.name
