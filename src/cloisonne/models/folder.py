"""A diffusers pipeline folder of Stable Diffusion 1.x, 2.x or XL, read into its parts; safetensors and JSON only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cloisonne.errors import CheckpointError
from cloisonne.models.builtin import members
from cloisonne.models.files import check_weights, files_of, pretrained, read, read_json
from cloisonne.models.model import Native
from cloisonne.models.parts import Parts, TextPart, family_of

_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": _TOKENIZERS,
}
"""The members that are loaded, and the classes they may have in model_index.json; the scheduler's class is ours."""

_CLASSES_XL = {**_CLASSES, "text_encoder_2": ("CLIPTextModelWithProjection",), "tokenizer_2": _TOKENIZERS}

KINDS = "Stable Diffusion 1.x, 2.x or XL"


def read_folder(folder: Path, dtype: torch.dtype) -> Parts:
    """The parts in a folder with ``model_index.json``. Raises CheckpointError, in one sentence, where it is damaged."""
    index = _index(folder)
    classes = _CLASSES_XL if "text_encoder_2" in index else _CLASSES
    _check_index(folder, index, classes)
    for member in classes:
        if not member.startswith("tokenizer"):
            check_weights(folder / member)
    members(folder)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    # low_cpu_mem_usage of diffusers needs accelerate's meta device for nothing but a shorter peak of memory.
    theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    unet = read(folder / "unet", lambda path: pretrained(UNet2DConditionModel, path, **theirs))
    return Parts(
        family="builtin" if (folder / "family.json").is_file() else family_of(unet.config),
        unet=unet,
        vae=read(folder / "vae", lambda path: pretrained(AutoencoderKL, path, **theirs)),
        texts=tuple(_texts(folder, classes, dtype)),
        scheduler=scheduler,
        zeros_for_empty=len(classes) > len(_CLASSES) and bool(index.get("force_zeros_for_empty_prompt", True)),
        files=files_of([folder / member for member in (*classes, "scheduler")]),
    )


def native_of(folder: Path) -> Native | None:
    """The family's own values, where it has any."""
    if not (folder / "family.json").is_file():
        return None
    try:
        return Native(**read_json(folder / "family.json")["native"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f'"{folder / "family.json"}" lacks a table "native" of width, height, steps, guidance, sampler and '
            "method; restore it from where the family came."
        ) from error


def _texts(folder: Path, classes: Mapping[str, Any], dtype: torch.dtype) -> Iterator[TextPart]:
    kinds = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
    for number, kind in kinds.items():
        if f"text_encoder{number}" not in classes:
            continue
        tokenizer = read(folder / f"tokenizer{number}", CLIPTokenizer.from_pretrained)
        module = read(folder / f"text_encoder{number}", lambda path, kind=kind: pretrained(kind, path, dtype=dtype))
        yield TextPart(module, tokenizer)


def _index(folder: Path) -> dict[str, Any]:
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f'"{folder}" has no model_index.json; give a diffusers folder with {", ".join(_CLASSES)} and scheduler.'
        )
    return read_json(folder / "model_index.json")


def _check_index(folder: Path, index: Mapping[str, Any], classes: Mapping[str, tuple[str, ...]]) -> None:
    if "transformer" in index or "text_encoder_3" in index:
        raise CheckpointError(
            f'"{folder}" holds a {index.get("_class_name")}, which is not supported; give a folder of {KINDS}.'
        )
    for member, allowed in classes.items():
        listed = index.get(member)
        found = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
        if found not in allowed:
            raise CheckpointError(f'"{folder}" has {found} as its {member}; {KINDS} with {allowed[0]} is needed.')
