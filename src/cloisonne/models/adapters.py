"""What is added to a checkpoint: LoRAs, fused into its weights or held beside them, and learned words.

LoRAs are read here (``lora_file.py``); words go through diffusers' own loader, on a pipeline that lives only as long.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.lora import Added, Dense, Lora, LowRank, unmaskable
from cloisonne.models.lora_changes import Change
from cloisonne.models.lora_file import LoraFile
from cloisonne.models.lora_names import modules_of
from cloisonne.models.parts import Parts
from cloisonne.models.tensor_file import read_tensors


def add_loras(parts: Parts, loras: Sequence[tuple[Path, float]]) -> Parts:
    """The parts with LoRAs of any trainer fused into UNet and text encoders, each at its scale.

    Raises CheckpointError, in one sentence, for a file that is none, is of a form that is not read, or was made for
    another line; what of a file is not used is told in the parts' warnings.
    """
    warnings = list(parts.warnings)
    for file, scale in loras:
        found = LoraFile.read(file, parts)
        warnings += found.warnings
        if not scale:
            continue
        modules = modules_of(parts)
        changed = [_fuse(modules[part].get_submodule(name), c, scale) for (part, name), c in found.changes.items()]
        if not any(changed):
            raise CheckpointError(f'"{file}" changes no layer of the model: all that it would add is zero.')
    return replace(parts, warnings=tuple(warnings))


@torch.no_grad()
def _fuse(module: Any, change: Change, scale: float) -> bool:
    """Add a change to a layer's weight and bias; whether that changed anything."""
    before, bias = module.weight, change.bias(tuple(module.bias.shape) if module.bias is not None else (), scale)
    after = change.fused(before, scale)
    changed = not torch.equal(before, after) or (bias is not None and bool(bias.any()))
    before.copy_(after)
    if bias is not None:
        module.bias.add_(bias.to(module.bias.dtype))
    return changed


def read_lora(parts: Parts, file: Path) -> Lora:
    """What a LoRA of any trainer changes of the UNet, to be held beside it; the parts stay what they are.

    Raises CheckpointError as :func:`add_loras` does, and for one that changes layers which belong to no place.
    """
    found = LoraFile.read(file, parts)
    own = {layer.name: change for layer, change in found.changes.items() if layer.part == 0}
    words = any(layer.part > 0 for layer in found.changes)
    if magnitudes := [name for name, change in own.items() if change.has_magnitude]:
        raise CheckpointError(
            f'"{file}" is a LoRA with magnitudes (DoRA) of {len(magnitudes)} layers, such as "{magnitudes[0]}", which '
            "cannot count by region; fuse it for all of the picture: load(..., lora=FILE), or --lora FILE."
        )
    for name in own:
        if not isinstance(parts.unet.get_submodule(name), nn.Linear | nn.Conv2d):
            raise CheckpointError(
                f'"{file}" changes the norm "{name}", which cannot count by region; fuse it for all of the picture: '
                "load(..., lora=FILE), or --lora FILE."
            )
    held = {name: _held(parts.unet.get_submodule(name), change) for name, change in own.items()}
    layers = {name: one for name, one in held.items() if one is not None}
    if not layers:
        raise CheckpointError(f'"{file}" fits no layer of the UNet; load a LoRA that was made for its line.')
    if (layer := unmaskable(parts.unet, sorted(layers))) is not None:
        raise CheckpointError(
            f'"{file}" changes the layer "{layer}", which acts on all of the picture at once, so that it cannot count '
            "by region; fuse it: load(..., lora=FILE), or --lora FILE."
        )
    return Lora(layers, words, found.warnings)


def _held(module: Any, change: Change) -> Added | None:
    """A change as it is added to a layer's output; None where it is zero."""
    shape = tuple(module.weight.shape)
    if change.low_rank:
        down, up = (change.slots[slot].float() for slot in ("down", "up"))
        if not bool(up.any()):
            return None
        if isinstance(module, nn.Conv2d):
            down, up = down.reshape(*down.shape[:2], *(down.shape[2:] or (1, 1))), up.reshape(*up.shape[:2], 1, 1)
        else:
            down, up = down.flatten(1), up.flatten(1)
        return LowRank(down.clone(), up * change.scale)
    weight = change.weight(shape)
    bias = change.bias(() if module.bias is None else tuple(module.bias.shape))
    weight = torch.zeros(shape) if weight is None else weight
    return Dense(weight, bias) if bool(weight.any()) or (bias is not None and bool(bias.any())) else None


def add_embeddings(parts: Parts, files: Sequence[tuple[Path, str | None]]) -> Parts:
    """The parts with learned words (textual inversion), which prompts may then use.

    files: each with the word it is called by; None means the name that the file gives it, else the file's own. One of
    several vectors is written as one word all the same.
    """
    for file, word in files:
        tensors = _safetensors(file, "embedding")
        with _reading(file, "embedding", parts):
            pipeline = _pipeline(parts)
            if {"clip_l", "clip_g"} <= tensors.keys():
                called = word or file.stem
                for part, name in zip(parts.texts, ("clip_l", "clip_g"), strict=True):
                    own = {called: tensors[name]}
                    pipeline.load_textual_inversion(own, called, text_encoder=part.module, tokenizer=part.tokenizer)
            else:
                named = {file.stem if name == "emb_params" else name: tensor for name, tensor in tensors.items()}
                name, tensor = next(iter(named.items()))
                pipeline.load_textual_inversion({word or name: tensor}, word or name)
    return parts


def _safetensors(file: Path, what: str) -> dict[str, Tensor]:
    if not file.is_file():
        raise CheckpointError(f'There is no {what} "{file}"; check its path.')
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f'The {what} "{file}" is no .safetensors file; convert it once: cloisonne convert {file} OUT.safetensors.'
        )
    return read_tensors(file)


@contextmanager
def _reading(file: Path, what: str, parts: Parts) -> Iterator[None]:
    try:
        yield
    # Whatever does not fit surfaces as any of these, over several lines.
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        why = str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f'The {what} "{file}" does not fit the model, which is of the line {parts.family} ({why[:200]}); load one '
            "that was made for it."
        ) from error


def _pipeline(parts: Parts) -> Any:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    first = {"text_encoder": parts.texts[0].module, "tokenizer": parts.texts[0].tokenizer}
    shared: dict[str, Any] = {
        "vae": parts.vae,
        "unet": parts.unet,
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        **first,
    }
    if len(parts.texts) > 1:
        second = {"text_encoder_2": parts.texts[1].module, "tokenizer_2": parts.texts[1].tokenizer}
        return StableDiffusionXLPipeline(**shared, **second, add_watermarker=False)
    none: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**shared, **none)
