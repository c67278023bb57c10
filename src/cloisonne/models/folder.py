"""A diffusers pipeline folder of Stable Diffusion 1.x or 2.x as a :class:`Model`; safetensors and JSON only."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from cloisonne.core.schedule import Schedule
from cloisonne.errors import CheckpointError, CloisonneError
from cloisonne.models.builtin import members
from cloisonne.models.model import Model, Native
from cloisonne.models.net import DiffusersNet
from cloisonne.models.spec import NetSpec
from cloisonne.models.text import TextEncoder
from cloisonne.models.vae import Vae

T = TypeVar("T")

_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
"""The members that are loaded, and the classes they may have in model_index.json; the scheduler's class is ours."""

_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def load_folder(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> Model:
    """The model in a folder with ``model_index.json``. Raises CheckpointError, in one sentence, where it is damaged."""
    _check_index(folder)
    for member in _WEIGHTS:
        _check_weights(folder / member)
    members(folder)
    scheduler = _json(folder / "scheduler" / "scheduler_config.json")
    schedule = Schedule.from_config(scheduler)
    tokenizer = _read(folder / "tokenizer", CLIPTokenizer.from_pretrained)
    # low_cpu_mem_usage needs accelerate, which is not a dependency; diffusers warns where it may and cannot use it.
    theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    text = _read(folder / "text_encoder", lambda path: _pretrained(CLIPTextModel, path, dtype=dtype)).to(device)
    unet = _read(folder / "unet", lambda path: _pretrained(UNet2DConditionModel, path, **theirs)).to(device)
    vae = Vae(_read(folder / "vae", lambda path: _pretrained(AutoencoderKL, path, **theirs)).to(device))
    _check_fit(unet.config, vae, text.config.hidden_size)
    spec = NetSpec.from_unet(
        unet.config, latent=_latent(vae, scheduler), vae_factor=vae.factor, prediction=schedule.prediction
    )
    return Model(
        name=name,
        net=DiffusersNet(unet, spec),
        vae=vae,
        text=TextEncoder(text, tokenizer),
        schedule=schedule,
        clip=scheduler.get("clip_sample_range", 1.0) if scheduler.get("clip_sample") else None,
        native=_native(folder, spec, tokenizer),
        device=device,
        dtype=dtype,
        files=_files(folder),
    )


def _native(folder: Path, spec: NetSpec, tokenizer: CLIPTokenizer) -> Native:
    """The family's own values where it has any; else what its kind is commonly drawn with."""
    if (folder / "family.json").is_file():
        try:
            return Native(**_json(folder / "family.json")["native"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f'"{folder / "family.json"}" lacks a table "native" of width, height, steps, guidance, sampler and '
                "method; restore it from where the family came."
            ) from error
    # Position tokens mark a ReCo checkpoint; its authors draw with guidance 4.
    positions = "<bin000>" in tokenizer.get_vocab()
    return Native(
        width=spec.native_size,
        height=spec.native_size,
        steps=20,
        guidance=4.0 if positions else 7.5,
        sampler="dpmpp-2m",
        method="reco" if positions else "attention",
    )


def _latent(vae: Vae, scheduler: Mapping[str, Any]) -> str:
    betas = f"{scheduler.get('beta_start')} to {scheduler.get('beta_end')} {scheduler.get('beta_schedule')}"
    return f"{vae.channels} channels scaled by {vae.scale}, betas {betas}"


def _files(folder: Path) -> tuple[Path, ...]:
    """All that decides what the model draws, in the order of the paths."""
    parts = [folder / member for member in (*_CLASSES, "scheduler")]
    kinds = (".json", ".safetensors", ".txt")
    found = [file for part in parts for file in part.iterdir() if file.suffix in kinds]
    return tuple(sorted(file for file in found if file.name != "provenance.json"))


def _check_index(folder: Path) -> None:
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f'"{folder}" has no model_index.json; give a diffusers folder with {", ".join(_CLASSES)} and scheduler.'
        )
    index = _json(folder / "model_index.json")
    if "text_encoder_2" in index or "transformer" in index:
        raise CheckpointError(
            f'"{folder}" holds a {index.get("_class_name")}, which is not yet supported; '
            "give a folder of Stable Diffusion 1.x or 2.x."
        )
    for member, allowed in _CLASSES.items():
        listed = index.get(member)
        found = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
        if found not in allowed:
            raise CheckpointError(
                f'"{folder}" has {found} as its {member}; Stable Diffusion 1.x or 2.x with {allowed[0]} is needed.'
            )


def _check_weights(member: Path) -> None:
    """Weights are there as safetensors, and all of them inside of the member's folder."""
    stem = _WEIGHTS[member.name]
    if (member / f"{stem}.safetensors").is_file():
        return
    index = member / f"{stem}.safetensors.index.json"
    if not index.is_file():
        pickles = member.is_dir() and any(file.suffix in (".bin", ".ckpt", ".pt") for file in member.iterdir())
        why = "; pickles are not loaded, so convert its weights to safetensors" if pickles else "; download it again"
        raise CheckpointError(f'"{member}" has no {stem}.safetensors{why}.')
    shards = _json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f'"{index}" has no weight_map; download it again.')
    for shard in sorted(set(map(str, shards.values()))):
        if PurePath(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f'"{index}" names "{shard}", which is no safetensors file of its folder; repair it.')
        if not (member / shard).is_file():
            raise CheckpointError(f'"{member}" lacks {shard}; download it again.')


def _check_fit(unet: Mapping[str, Any], vae: Vae, width: int) -> None:
    if unet["in_channels"] != unet["out_channels"]:
        raise CheckpointError(
            f"The UNet takes {unet['in_channels']} input channels for {unet['out_channels']} latent ones, as for "
            "inpainting; load a text-to-image checkpoint: cloisonne repaints with those."
        )
    if unet["out_channels"] != vae.channels:
        raise CheckpointError(
            f"The UNet works on {unet['out_channels']} latent channels and the vae makes {vae.channels}; "
            "take both from one checkpoint."
        )
    if unet["cross_attention_dim"] != width:
        raise CheckpointError(
            f"The UNet hears text of width {unet['cross_attention_dim']} and the text encoder gives {width}; "
            "take both from one checkpoint."
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f'"{path.parent}" has no {path.name}; download it again.') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'"{path}" cannot be read as JSON; download it again.') from error
    if not isinstance(value, dict):
        raise CheckpointError(f'"{path}" is not a JSON object; download it again.')
    return value


def _read(path: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of a member's folder, its many kinds of errors made one."""
    try:
        with _quiet():
            return read(path)
    except CloisonneError:
        raise
    # Damaged files surface as any of OSError, ValueError, KeyError, RuntimeError, SafetensorError, TypeError, ...
    except Exception as error:
        lines = [line.strip(" .") for line in str(error).splitlines() if line.strip(" .")]
        why = lines[0] if lines else type(error).__name__
        raise CheckpointError(f'"{path}" cannot be loaded ({why}); download it again.') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Both libraries show progress bars for each model; ours load in less time than it takes to read them."""
    shown = [library for library in (transformers_logging, diffusers_logging) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def _pretrained(kind: Any, path: Path, **options: Any) -> Any:
    """A network ready to be used. Loaders fill what a file lacks with noise and only log it, so that is looked at."""
    module, info = kind.from_pretrained(
        path, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    if missing := sorted(map(str, info["missing_keys"])):
        raise CheckpointError(f'"{path}" lacks {len(missing)} tensors, such as {missing[0]}; download it again.')
    return module.eval().requires_grad_(False)
