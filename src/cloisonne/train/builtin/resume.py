"""Fine-tuning a finished family: the members to copy, and the initial weights of the others."""

import json
import shutil
from pathlib import Path

from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.adapters.clipseg import CLIPSEG
from cloisonne.models.builtin import PROVENANCE, digest, members
from cloisonne.models.checkpoints.files import pretrained, read
from cloisonne.models.family_members import CLIP
from cloisonne.train.loop import Progress

COPIED = ("vae", "tokenizer", "judge", CLIP, CLIPSEG)
"""Members that do not depend on the base and are copied."""


def start_family(begin: Path | None, state: Path) -> Path | None:
    """The start family of the training in ``state``: a copy of ``begin``, made once; None if there is none.

    Raises:
        CheckpointError: ``begin`` is no family with consistent members.
        OutputError: The training started from another family, or from scratch.
    """
    own = state / "start"
    if begin is None:
        return own if own.is_dir() else None
    if not members(begin):
        raise CheckpointError(f'"{begin}" is not a trained family; give a family made by "cloisonne train family".')
    if own.is_dir():
        same = digest(own / "unet") == digest(begin / "unet")
    else:
        same = not state.is_dir()
    if not same:
        raise OutputError(f'The training in "{state.parent}" did not start from "{begin}"; choose another folder.')
    if not own.is_dir():
        partial = state.with_name("start.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(begin, partial)
        state.mkdir(parents=True)
        partial.rename(own)
    return own


def copy_members(start: Path, family: Path) -> None:
    """Copy the members that do not depend on the base."""
    for name in COPIED:
        if not (family / name).is_dir():
            shutil.copytree(start / name, family / name)


def base_of(start: Path) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """The text encoder and UNet of a family, in float32."""
    text = read(start, lambda path: pretrained(CLIPTextModel, path / "text_encoder"))
    unet = read(start, lambda path: pretrained(UNet2DConditionModel, path / "unet", low_cpu_mem_usage=False))
    return text.float(), unet.float()


def progress_of_member(start: Path, member: str) -> Progress:
    """Training progress of a member, from its provenance."""
    record = json.loads((start / member / PROVENANCE).read_text())
    return Progress(step=record["steps"], seconds=60 * record["minutes"], pictures=record["pictures"])
