"""Reading a checkpoint's files: safetensors and JSON only, nothing outside of a member's folder, one kind of error."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeVar

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from cloisonne.errors import CheckpointError, CloisonneError

T = TypeVar("T")


def files_of(parts: list[Path]) -> tuple[Path, ...]:
    """Of these folders, all that decides what the model draws, in the order of the paths."""
    kinds = (".json", ".safetensors", ".txt")
    found = [file for part in parts for file in part.iterdir() if file.suffix in kinds]
    return tuple(sorted(file for file in found if file.name != "provenance.json"))


def check_weights(member: Path, stem: str | None = None) -> None:
    """Weights are there as safetensors, and all of them inside of the member's folder.

    stem: of their file; None means by the folder's name.
    """
    stem = stem or ("model" if "encoder" in member.name else "diffusion_pytorch_model")
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
        with quiet():
            return reader(path)
    except CloisonneError:
        raise
    # Damaged files surface as any of OSError, ValueError, KeyError, RuntimeError, SafetensorError, TypeError, ...
    except Exception as error:
        lines = [line.strip(" .") for line in str(error).splitlines() if line.strip(" .")]
        why = lines[0] if lines else type(error).__name__
        raise CheckpointError(f'"{path}" cannot be loaded ({why}); download it again.') from error


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, diffusers and transformers show no progress bars and log errors alone: what is wrong with a file is
    said here, and every model's bar would be gone before it is read."""
    libraries = (transformers_logging, diffusers_logging)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, verbosity in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
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
