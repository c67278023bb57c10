"""A diffusers pipeline folder of Stable Diffusion 1.x, 2.x or XL, read into its parts; safetensors and JSON only."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from cloisonne.errors import CheckpointError, CloisonneError
from cloisonne.models.builtin import members
from cloisonne.models.model import Native
from cloisonne.models.parts import Parts, TextPart, family_of

T = TypeVar("T")

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


def files_of(parts: list[Path]) -> tuple[Path, ...]:
    """Of these folders, all that decides what the model draws, in the order of the paths."""
    kinds = (".json", ".safetensors", ".txt")
    found = [file for part in parts for file in part.iterdir() if file.suffix in kinds]
    return tuple(sorted(file for file in found if file.name != "provenance.json"))


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


def check_weights(member: Path) -> None:
    """Weights are there as safetensors, and all of them inside of the member's folder."""
    stem = "model" if "encoder" in member.name else "diffusion_pytorch_model"
    if (member / f"{stem}.safetensors").is_file():
        return
    index = member / f"{stem}.safetensors.index.json"
    if not index.is_file():
        pickles = member.is_dir() and any(file.suffix in (".bin", ".ckpt", ".pt") for file in member.iterdir())
        why = (
            "; pickles are not loaded, so run cloisonne convert on the folder once"
            if pickles
            else "; download it again"
        )
        raise CheckpointError(f'"{member}" has no {stem}.safetensors{why}.')
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f'"{index}" has no weight_map; download it again.')
    for shard in sorted(set(map(str, shards.values()))):
        if PurePath(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f'"{index}" names "{shard}", which is no safetensors file of its folder; repair it.')
        if not (member / shard).is_file():
            raise CheckpointError(f'"{member}" lacks {shard}; download it again.')


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError where the file holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f'"{path.parent}" has no {path.name}; download it again.') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'"{path}" cannot be read as JSON; download it again.') from error
    if not isinstance(value, dict):
        raise CheckpointError(f'"{path}" is not a JSON object; download it again.')
    return value


def read(path: Path, reader: Callable[[Path], T]) -> T:
    """What ``reader`` makes of a member's folder, its many kinds of errors made one."""
    try:
        with _quiet():
            return reader(path)
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


def pretrained(kind: Any, path: Path, **options: Any) -> Any:
    """A network with all its weights: loaders fill what a file lacks with noise and only log it, so that is checked."""
    module, info = kind.from_pretrained(
        path, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    if missing := sorted(map(str, info["missing_keys"])):
        raise CheckpointError(f'"{path}" lacks {len(missing)} tensors, such as {missing[0]}; download it again.')
    return module
