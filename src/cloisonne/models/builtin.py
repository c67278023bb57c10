"""Families with provenance: where the built-in one lies, what its members are, and whether they belong together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError

BUILTIN = Path(__file__).parent / "weights"
"""The family that ships with the package: a diffusers pipeline folder with further members beside."""

CLIPSEG = "clipseg"
"""The member that finds words in pictures."""

_PROVENANCE = "provenance.json"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a family. bytes: of its weights. provenance: what it was made of and how well it does."""

    name: str
    bytes: int
    sha256: str
    provenance: Mapping[str, Any]


def digest(folder: Path) -> str:
    """SHA-256 over a member's weights and configuration, in the order of their names; provenance apart."""
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".json") and file.name != _PROVENANCE:
            total.update(file.name.encode())
            total.update(file.read_bytes())
    return total.hexdigest()


def members(family: Path = BUILTIN) -> list[Member]:
    """The members with provenance, by name; none for a checkpoint of somebody else's.

    Raises CheckpointError where a member is not the one its provenance speaks of, or was made with another parent.
    """
    folders = sorted(file.parent for file in family.glob(f"*/{_PROVENANCE}"))
    records = {folder: _record(folder) for folder in folders}
    named = {folder.name for folder in folders} | {name for record in records.values() for name in record["parents"]}
    digests = {name: digest(family / name) for name in sorted(named) if (family / name).is_dir()}
    for folder, record in records.items():
        for name, sha256 in [(folder.name, record["sha256"]), *record["parents"].items()]:
            if digests.get(name) != sha256:
                raise CheckpointError(
                    f'"{family / name}" is not the one that "{folder.name}" was made with: its files changed or are '
                    "missing; restore the folder, or train the family anew."
                )
    return [
        Member(
            name=folder.name,
            bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
            sha256=record["sha256"],
            provenance=record,
        )
        for folder, record in records.items()
    ]


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / _PROVENANCE).read_text(encoding="utf-8"))
        return {**record, "sha256": str(record["sha256"]), "parents": dict(record["parents"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{folder / _PROVENANCE}" is damaged; restore it from where the family came.') from error
