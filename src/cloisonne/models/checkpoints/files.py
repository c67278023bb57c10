"""Read a checkpoint's files: only safetensors and JSON, only in a member's folder, all errors as CheckpointError."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeVar

from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from transformers.utils import logging as transformers_logging

from cloisonne.errors import CheckpointError, CloisonneError
from cloisonne.models.checkpoints.json_file import read_json as read_json
from cloisonne.models.checkpoints.tensor_file import UNUSED_SUFFIXES, listed, reason, unknown_entries
from cloisonne.models.mapped import MAPPED, mapped, without_random_values

T = TypeVar("T")


def files_of(parts: list[Path]) -> tuple[Path, ...]:
    """All files in these folders that determine the model's outputs, sorted by path."""
    kinds = (".json", ".safetensors", ".txt", ".jinja")
    found = [file for part in parts for file in part.iterdir() if file.suffix in kinds]
    return tuple(sorted(file for file in found if file.name != "provenance.json"))


VARIANTS = ("fp16", "bf16", "fp32")
"""Variants that are the same weights in another dtype, in order of preference."""


def check_weights(member: Path, stem: str | None = None, variant: str | None = None) -> str | None:
    """The variant of a member's weights to read; None means the plain file.

    stem: of the file's name; None derives it from the folder's name. variant: "fp16" for "STEM.fp16.safetensors"; None
    means the plain file or, without one, the first variant in the folder. Raises CheckpointError where there are no
    weights as safetensors, or not all of them are in the member's folder.
    """
    stem = stem or ("model" if "encoder" in member.name else "diffusion_pytorch_model")
    found = _variants(member, stem)
    taken = variant if variant is not None or None in found or not found else found[0]
    if taken not in found:
        raise CheckpointError(f'"{member}" has no {_name(stem, taken)}{_instead(member, stem, found)}.')
    if not (member / _name(stem, taken)).is_file():
        _check_shards(member, member / _index(stem, taken))
    return taken


def weight_files(member: Path, stem: str, variant: str | None) -> list[Path]:
    """The file or the shards of a variant that :func:`check_weights` returned."""
    if (whole := member / _name(stem, variant)).is_file():
        return [whole]
    shards = read_json(member / _index(stem, variant))["weight_map"]
    return [member / shard for shard in sorted(set(map(str, shards.values())))]


def _name(stem: str, variant: str | None) -> str:
    return f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors"


def _index(stem: str, variant: str | None) -> str:
    return f"{stem}.safetensors.index.json" if variant is None else f"{stem}.safetensors.index.{variant}.json"


def _variants(member: Path, stem: str) -> list[str | None]:
    """The variants in a folder, the plain file first, as None."""
    names = [file.name for file in member.iterdir()] if member.is_dir() else []
    whole = (re.fullmatch(rf"{re.escape(stem)}(?:\.([^.]+))?\.safetensors", name) for name in names)
    parts = (re.fullmatch(rf"{re.escape(stem)}\.safetensors\.index(?:\.([^.]+))?\.json", name) for name in names)
    found = {match[1] for match in (*whole, *parts) if match is not None}
    found = {name for name in found if name is None or not re.search(r"-of-\d+$", name)}
    order = {name: place for place, name in enumerate((None, *VARIANTS))}
    return sorted(found, key=lambda name: (order.get(name, len(order)), name or ""))


def _instead(member: Path, stem: str, found: list[str | None]) -> str:
    if found:
        have = ", ".join(_name(stem, name) for name in found)
        return f"; it has {have}: choose one of these variants, or leave the variant out"
    if member.is_dir() and any(file.suffix in (".bin", ".ckpt", ".pt") for file in member.iterdir()):
        return "; pickles are not loaded, so run cloisonne convert on the folder once"
    return "; download it again"


def _check_shards(member: Path, index: Path) -> None:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f'"{index}" has no weight_map; download it again.')
    for shard in sorted(set(map(str, shards.values()))):
        if PurePath(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f'"{index}" names "{shard}", which is no safetensors file of its folder; repair it.')
        if not (member / shard).is_file():
            raise CheckpointError(f'"{member}" lacks {shard}; download it again.')


def variant_notes(name: str, variants: Mapping[str, str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and warnings about variants read in place of plain weights; a warning where the weights may differ."""
    found: tuple[list[str], list[str]] = ([], [])
    for variant in sorted({variant for variant in variants.values() if variant is not None}):
        members = ", ".join(member for member, own in variants.items() if own == variant)
        found[variant not in VARIANTS].append(f'"{name}" holds only the variant "{variant}" of {members}; it was read.')
    return tuple(found[0]), tuple(found[1])


def read(path: Path, reader: Callable[[Path], T]) -> T:
    """``reader(path)``, with every error as CheckpointError."""
    try:
        with quiet():
            return reader(path)
    except CloisonneError:
        raise
    # Damaged files surface as any of OSError, ValueError, KeyError, RuntimeError, SafetensorError, TypeError, ...
    except Exception as error:
        raise CheckpointError(f'"{path}" cannot be loaded ({reason(error)}); download it again.') from error


@contextmanager
def quiet() -> Iterator[None]:
    """In this context, diffusers and transformers show no progress bars and log only errors.

    This package reports problems of files itself, and the bars would vanish before they can be read.
    """
    libraries = (transformers_logging, diffusers_logging)
    with_bars = [library for library in libraries if library.is_progress_bar_enabled()]
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, verbosity in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
        for library in with_bars:
            library.enable_progress_bar()


def pretrained(
    kind: Any, path: Path, *, warn: list[str] | None = None, variant: str | None = None, **options: Any
) -> Any:
    """Load a network whose weights are mapped (``mapped.py``), or by ``from_pretrained`` of its library.

    Raises CheckpointError for missing tensors, which the libraries only log.

    warn: sentences about unused tensors and unknown header entries are appended to it. variant: as
    :func:`check_weights` returned it. options: of ``from_pretrained``.
    """
    if kind.__name__ in MAPPED:
        files = weight_files(path, _stem(path, variant), variant)
        module, missing, unused = mapped(kind, path, files, options.get("torch_dtype", options.get("dtype")))
    else:
        with without_random_values():
            module, info = kind.from_pretrained(
                path, use_safetensors=True, local_files_only=True, output_loading_info=True, variant=variant, **options
            )
        missing, unused = info["missing_keys"], info["unexpected_keys"]
    if missing := sorted(map(str, missing)):
        raise CheckpointError(f'"{path}" lacks {len(missing)} tensors, such as {missing[0]}; download it again.')
    more = sorted(name for name in map(str, unused) if not name.endswith(UNUSED_SUFFIXES))
    if more and warn is not None:
        count = "1 tensor that is" if len(more) == 1 else f"{len(more)} tensors that are"
        warn.append(f'"{path}" holds {count} not used: {listed(more)}.')
    if warn is not None:
        warn.extend(_unknown_entries(path, variant))
    return module


def _stem(member: Path, variant: str | None) -> str:
    """The stem of the names of a member's weights."""
    stems = ("model", "diffusion_pytorch_model")
    return next(stem for stem in stems if any((member / name(stem, variant)).is_file() for name in (_name, _index)))


def _unknown_entries(member: Path, variant: str | None) -> Iterator[str]:
    """Sentences about header entries of a member's weights that are no notes."""
    for file in weight_files(member, _stem(member, variant), variant):
        with safe_open(file, "pt") as opened:
            if sentence := unknown_entries(f'file "{file}"', opened.metadata() or {}):
                yield sentence
