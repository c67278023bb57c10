"""Reads all COCO annotation files of a folder into one table of images and one of annotations."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.errors import TrainingError
from cloisonne.scene.io.importers import coco_id
from cloisonne.scene.values import brief

MAIN = "annotations.json"


@dataclass(frozen=True)
class Coco:
    """images: by id, normalised by ``coco_id``. categories: names by id. digest: SHA-256 of the files."""

    images: Mapping[str, Mapping[str, Any]]
    annotations: tuple[Mapping[str, Any], ...]
    categories: Mapping[str, str]
    digest: str


def read_coco(folder: Path) -> Coco:
    """Read ``annotations.json``, or else all ``*.json`` of the folder, such as COCO's instances and captions.

    Entries in ``images`` with the same id are merged. Raises TrainingError if the folder or its annotations are missing
    or invalid.
    """
    if not folder.is_dir():
        raise TrainingError(f'There is no folder "{folder}" of training images; give a folder with {MAIN}, or "world".')
    files = [folder / MAIN] if (folder / MAIN).is_file() else sorted(folder.glob("*.json"))
    if not files:
        raise TrainingError(f'"{folder}" has no JSON file; add COCO annotations as {MAIN}.')
    images: dict[str, dict[str, Any]] = {}
    annotations: list[Mapping[str, Any]] = []
    categories: dict[str, str] = {}
    total = hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        total.update(data)
        found = _parsed(file, data)
        for image in _entries(file, found, "images"):
            images[coco_id(image.get("id"))] = images.get(coco_id(image.get("id")), {}) | dict(image)
        annotations += _entries(file, found, "annotations")
        for category in _entries(file, found, "categories"):
            categories[coco_id(category.get("id"))] = str(category.get("name") or "")
    return Coco(images, tuple(annotations), categories, total.hexdigest())


def _parsed(file: Path, data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise TrainingError(f'"{file}" cannot be read as JSON ({error}); give COCO annotations.') from None
    if not isinstance(value, Mapping) or not isinstance(value.get("images"), list):
        raise TrainingError(f'"{file}" has no list "images"; give COCO annotations, as {MAIN}.')
    return value


def _entries(file: Path, found: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = found.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise TrainingError(f'"{file}" has {brief(entries)} as its {name}; give a list of objects, as COCO does.')
    for entry in entries:
        if name != "annotations" and not isinstance(entry.get("id"), int | str):
            raise TrainingError(f'"{file}" has {brief(entry.get("id"))} as an id in {name}; give a number.')
    return entries
