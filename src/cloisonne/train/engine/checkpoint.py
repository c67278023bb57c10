"""Training checkpoints: tensors in safetensors, the rest in JSON. A checkpoint folder appears atomically."""

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
"""Tensors by file name (without suffix) and tensor name."""


def write_checkpoint(output: Path, step: int, groups: Groups, state: Mapping[str, Any], limit: int | None) -> Path:
    """Write ``checkpoint-<step>``; keep the newest ``limit`` checkpoints, all if None."""
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
        raise OutputError(
            f'The checkpoint "{place}" cannot be written ({error.strerror}); free space or choose another output.'
        ) from None
    return place


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    found = [entry for entry in output.glob("checkpoint-*") if _NAME.fullmatch(entry.name) and entry.is_dir()]
    return sorted(found, key=lambda entry: int(entry.name.removeprefix("checkpoint-")))


def find_checkpoint(settings: Settings) -> Path | None:
    """The checkpoint to resume from, or None to start a new run.

    Raises:
        OutputError: The output is a file, or is not empty and not to be resumed.
        CheckpointError: ``resume_from_checkpoint`` names no checkpoint.
    """
    requested, output = settings.resume_from_checkpoint, settings.output
    if requested not in (None, LATEST):
        named = next((place for place in (Path(requested), output / requested) if (place / _STATE).is_file()), None)
        if named is None:
            raise CheckpointError(f'"{requested}" is not a training checkpoint; give a folder checkpoint-<step>.')
        return named
    if requested == LATEST and (found := checkpoints(output)):
        return found[-1]
    if output.exists() and not output.is_dir():
        raise OutputError(f'The output "{output}" is a file; give a folder.')
    if output.is_dir() and any(not entry.name.endswith(".partial") for entry in output.iterdir()):
        advice = "choose another" if requested == LATEST else 'resume with "--resume", or choose another'
        state = "is not empty and has no checkpoint" if requested else "is not empty"
        raise OutputError(f'The output "{output}" {state}; {advice}.')
    return None


def read_state(place: Path, decisive: Mapping[str, Any]) -> dict[str, Any]:
    """Read the JSON state of a checkpoint. Raises CheckpointError if it is damaged or differs from ``decisive``."""
    try:
        state = json.loads((place / _STATE).read_text(encoding="utf-8"))
        saved, step = state["decisive"], int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{place / _STATE}" is damaged ({error}); resume from an earlier checkpoint.') from None
    for name, value in decisive.items():
        if saved.get(name) != value:
            raise CheckpointError(
                f'The checkpoint "{place}" was trained with {name} {saved.get(name)}, but now {name} is {value}; '
                "use the same value, or another output."
            )
    return state | {"step": step}


def read_tensors(place: Path, group: str, device: torch.device) -> dict[str, Tensor]:
    """Read the tensors of a group onto a device. Raises CheckpointError if the file is damaged."""
    try:
        return load_file(place / _file(group), device=str(device))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'"{place / _file(group)}" is damaged ({error}); resume from an earlier checkpoint.'
        ) from None


def _file(group: str) -> str:
    return f"{group}.safetensors"
