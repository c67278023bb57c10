"""Read a diffusers pipeline folder into its parts; only safetensors and JSON. Transformers have a file of their own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cloisonne.errors import CheckpointError
from cloisonne.models.builtin import members
from cloisonne.models.checkpoints.files import check_weights, files_of, pretrained, read, read_json, variant_notes
from cloisonne.models.checkpoints.network_config import check_network, check_text, check_unet
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.checkpoints.scheduler_config import scheduler_of
from cloisonne.models.families import FAMILIES, family_of
from cloisonne.models.model import Native

KINDS = "Stable Diffusion 1.x, 2.x or XL"


def read_folder(folder: Path, dtype: torch.dtype, variant: str | None = None, transformer: Path | None = None) -> Parts:
    """Read the parts in a folder with ``model_index.json``. Raises CheckpointError where it is damaged or unsupported.

    variant: of the weights, such as "fp16"; None means the plain weights or, where a member has none, its variant.
    transformer: a file whose transformer replaces the folder's own.
    """
    index = _index(folder)
    if "transformer" in index:
        from cloisonne.models.checkpoints.mmdit.folder import read_transformer_folder
        from cloisonne.models.checkpoints.mmdit.members import PipelineFolder

        given = PipelineFolder(path=folder, index=index, dtype=dtype, variant=variant, transformer=transformer)
        return read_transformer_folder(given)
    classes = FAMILIES["sdxl" if "text_encoder_2" in index else "sd1"].members
    _check_index(folder, index, classes)
    taken = {member: check_weights(folder / member, variant=variant) for member in classes if "tokenizer" not in member}
    members(folder)
    scheduler = scheduler_of(folder, scheduler_class(index))
    notes, warnings = variant_notes(folder.name, {} if variant else taken)
    warn = [*warnings]
    unet = read_member(UNet2DConditionModel, folder / "unet", dtype, taken["unet"], warn)
    return Parts(
        family="builtin" if (folder / "family.json").is_file() else family_of(unet.config),
        network=unet,
        vae=read_member(AutoencoderKL, folder / "vae", dtype, taken["vae"], warn),
        texts=tuple(_texts(folder, taken, dtype, warn)),
        scheduler=scheduler,
        zeros_for_empty="text_encoder_2" in classes and bool(index.get("force_zeros_for_empty_prompt", True)),
        files=files_of([folder / member for member in (*classes, "scheduler")]),
        notes=notes,
        warnings=tuple(warn),
    )


def scheduler_class(index: Mapping[str, Any]) -> str | None:
    """The scheduler's class in ``model_index.json``, None where it names none."""
    listed = index.get("scheduler")
    return listed[1] if isinstance(listed, list) and len(listed) == 2 else None


def read_member(kind: Any, member: Path, dtype: torch.dtype, variant: str | None, warn: list[str]) -> Any:
    """Read a UNet or an autoencoder and check its configuration. warn: sentences about unused tensors are appended."""
    file = member / "config.json"
    config = read_json(file)
    check_network(file, config, kind)
    if kind is UNet2DConditionModel:
        check_unet(file, config)
    # low_cpu_mem_usage of diffusers needs accelerate, only for a lower peak of memory.
    theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": False, "variant": variant}
    return read(member, lambda path: pretrained(kind, path, warn=warn, **theirs))


def native_of(folder: Path) -> Native | None:
    """The native values in the folder's ``family.json``, None without one."""
    if not (folder / "family.json").is_file():
        return None
    try:
        return Native(**read_json(folder / "family.json")["native"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f'"{folder / "family.json"}" lacks a table "native" of width, height, steps, guidance, sampler and '
            "method; restore it from its source."
        ) from error


def _texts(folder: Path, taken: Mapping[str, str | None], dtype: torch.dtype, warn: list[str]) -> Iterator[TextPart]:
    kinds = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
    for number, kind in kinds.items():
        member = folder / f"text_encoder{number}"
        if member.name not in taken:
            continue
        tokenizer = read(folder / f"tokenizer{number}", CLIPTokenizer.from_pretrained)
        check_text(member / "config.json", read_json(member / "config.json"), CLIPTextConfig)
        theirs = {"dtype": dtype, "variant": taken[member.name]}
        module = read(member, lambda path, kind=kind, theirs=theirs: pretrained(kind, path, warn=warn, **theirs))
        yield TextPart(module, tokenizer)


def _index(folder: Path) -> dict[str, Any]:
    if not (folder / "model_index.json").is_file():
        needed = ", ".join(FAMILIES["sd1"].members)
        raise CheckpointError(
            f'"{folder}" has no model_index.json; give a diffusers folder with {needed} and scheduler.'
        )
    return read_json(folder / "model_index.json")


def _check_index(folder: Path, index: Mapping[str, Any], classes: Mapping[str, tuple[str, ...]]) -> None:
    if "text_encoder_2" in index and index.get("text_encoder", [None])[0] is None:
        raise CheckpointError(
            f'"{folder}" is a refiner of Stable Diffusion XL, which has one text encoder and only runs the last steps; '
            "it is not supported: give the base checkpoint."
        )
    for member, allowed in classes.items():
        listed = index.get(member)
        found = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
        if found not in allowed:
            raise CheckpointError(f'"{folder}" has {found} as its {member}; {KINDS} with {allowed[0]} is needed.')
