"""Checkpoints: tensors in safetensors, the rest in JSON, a folder that is there whole or not at all."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cloisonne.errors import CheckpointError, OutputError
from cloisonne.train.engine.settings import LATEST, Settings

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "state.json"

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by the file they go to."""


def write_checkpoint(output: Path, step: int, groups: Groups, state: Mapping[str, Any], limit: int | None) -> Path:
    """Write ``checkpoint-<step>`` and remove the oldest ones beyond ``limit``."""
    place = output / f"checkpoint-{step}"
    partial = output / f"{place.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for group, tensors in groups.items():
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial / _file(group))
        (partial / _STATE).write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(partial, place)
        for old in checkpoints(output)[: -limit if limit else 0]:
            shutil.rmtree(old)
    except OSError as error:
        raise OutputError(f'"{place}" cannot be written ({error.strerror}); make room, or choose another.') from None
    return place


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    found = [entry for entry in output.glob("checkpoint-*") if _NAME.fullmatch(entry.name) and entry.is_dir()]
    return sorted(found, key=lambda entry: int(entry.name.removeprefix("checkpoint-")))


def find_start(settings: Settings) -> Path | None:
    """The checkpoint to go on from, or None to begin.

    Raises OutputError where something lies in the output that is not to be continued, CheckpointError where the named
    checkpoint is not there.
    """
    asked, output = settings.resume_from_checkpoint, settings.output
    if asked not in (None, LATEST):
        named = next((place for place in (Path(asked), output / asked) if (place / _STATE).is_file()), None)
        if named is None:
            raise CheckpointError(f'"{asked}" is no checkpoint of a training; name a folder checkpoint-<step>.')
        return named
    if asked == LATEST and (found := checkpoints(output)):
        return found[-1]
    if output.exists() and not output.is_dir():
        raise OutputError(f'The output "{output}" is a file; give the name of a folder.')
    if output.is_dir() and any(not entry.name.endswith(".partial") for entry in output.iterdir()):
        do = "choose another" if asked == LATEST else 'go on with "--resume", or choose another'
        raise OutputError(f'The output "{output}" is not empty{" and has no checkpoint" if asked else ""}; {do}.')
    return None


def read_state(place: Path, decisive: Mapping[str, Any]) -> dict[str, Any]:
    """The counters of a checkpoint. Raises CheckpointError where it is damaged or of another run than ``decisive``."""
    try:
        state = json.loads((place / _STATE).read_text(encoding="utf-8"))
        theirs, step = state["decisive"], int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{place / _STATE}" is damaged ({error}); resume from an earlier checkpoint.') from None
    for name, value in decisive.items():
        if theirs.get(name) != value:
            raise CheckpointError(
                f'"{place}" was trained with {name} {theirs.get(name)}, and now it is {value}; '
                "give what it was, or another output."
            )
    return state | {"step": step}


def read_tensors(place: Path, group: str, device: torch.device) -> dict[str, Tensor]:
    """The tensors of a group, on a device."""
    try:
        return load_file(place / _file(group), device=str(device))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'"{place / _file(group)}" is damaged ({error}); resume from an earlier one.') from None


def _file(group: str) -> str:
    return f"{group}.safetensors"
