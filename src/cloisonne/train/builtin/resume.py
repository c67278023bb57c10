"""Training a finished family on: what is kept, and what is begun with."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.adapters.clipseg import CLIPSEG
from cloisonne.models.builtin import digest, members
from cloisonne.models.checkpoints.files import pretrained, read
from cloisonne.models.family_members import CLIP, EXEMPLAR
from cloisonne.train.loop import Progress

KEPT = ("vae", "tokenizer", "judge", CLIP, CLIPSEG)
"""Members that do not depend on the base."""


def taken(begin: Path | None, state: Path) -> Path | None:
    """The family that the training whose state lies here begins with: a copy, which stays as it is; None: nothing.

    Raises CheckpointError where ``begin`` is no family whose members belong together, and OutputError where the
    training began with another one.
    """
    own = state / "start"
    if begin is None:
        return own if own.is_dir() else None
    if not members(begin):
        raise CheckpointError(f'"{begin}" is no trained family; give a folder that "cloisonne train family" made.')
    if own.is_dir():
        same = digest(own / "unet") == digest(begin / "unet")
    else:
        same = not state.is_dir()
    if not same:
        raise OutputError(f'The training in "{state.parent}" did not begin with "{begin}"; choose another folder.')
    if not own.is_dir():
        partial = state.with_name("start.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(begin, partial)
        state.mkdir(parents=True)
        partial.rename(own)
    return own


def keep(start: Path, family: Path) -> None:
    """Copy the members that stay."""
    for name in KEPT:
        if not (family / name).is_dir():
            shutil.copytree(start / name, family / name)


def base_of(start: Path) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Its text encoder and UNet, in float32."""
    text = read(start, lambda path: pretrained(CLIPTextModel, path / "text_encoder"))
    unet = read(start, lambda path: pretrained(UNet2DConditionModel, path / "unet", low_cpu_mem_usage=False))
    return text.float(), unet.float()


def _first_layer(family: Path) -> Any:
    """Of its UNet."""
    return base_of(family)[1].conv_in


def before(start: Path, member: str) -> Progress:
    """How far a member was trained already."""
    record = json.loads((start / member / "provenance.json").read_text())
    return Progress(step=record["steps"], seconds=60 * record["minutes"], pictures=record["pictures"])


def exemplar_adapter(start: Path, family: Path, folder: Path) -> Path:
    """What its exemplar's training can begin with on the family's base, in ``folder``.

    Low-rank changes are of the base, but its first layer is whole: there the change from its own base is taken over.
    """
    tensors = {name: t.float() for name, t in load_file(start / EXEMPLAR / "model.safetensors").items()}
    old, new = (_first_layer(place) for place in (start, family))
    with torch.no_grad():
        tensors["unet.conv_in.weight"][:, : old.in_channels] += new.weight - old.weight
        tensors["unet.conv_in.bias"] += new.bias - old.bias
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
