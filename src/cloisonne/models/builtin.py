"""Model families with provenance: the built-in family's folder, its members, and a check that they belong together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError

BUILTIN = Path(__file__).parent / "weights"
"""The family in the package: a diffusers pipeline folder with further members in it."""

CLIPSEG = "clipseg"
"""The member that segments an image by a text."""

PROVENANCE = "provenance.json"
"""File in a member's folder: how, and from which parents, it was trained."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a family.

    bytes: the size of its weights. provenance: its training data, parents and measured quality.
    """

    name: str
    bytes: int
    sha256: str
    provenance: Mapping[str, Any]


def digest(folder: Path) -> str:
    """SHA-256 over a member's weights and configuration, in the order of their names, without its provenance."""
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".json") and file.name != PROVENANCE:
            total.update(file.name.encode())
            total.update(file.read_bytes())
    return total.hexdigest()


def members(family: Path = BUILTIN) -> list[Member]:
    """The members with provenance, by name; empty for a published checkpoint, which has none.

    Raises CheckpointError where a member does not match its provenance, or was trained with another parent.
    """
    folders = sorted(file.parent for file in family.glob(f"*/{PROVENANCE}"))
    records = {folder: _record(folder) for folder in folders}
    named = {folder.name for folder in folders} | {name for record in records.values() for name in record["parents"]}
    digests = {name: digest(family / name) for name in sorted(named) if (family / name).is_dir()}
    for folder, record in records.items():
        for name, sha256 in [(folder.name, record["sha256"]), *record["parents"].items()]:
            if digests.get(name) != sha256:
                raise CheckpointError(
                    f'"{family / name}" is not the one that "{folder.name}" was made with: its files changed or are '
                    "missing; restore the folder, or train the family again."
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
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return {**record, "sha256": str(record["sha256"]), "parents": dict(record["parents"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{folder / PROVENANCE}" is damaged; restore it from its source.') from error
