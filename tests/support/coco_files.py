"""Annotation files in COCO's format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CLASSES = ("person", "cat", "dog", "apple")
WIDTH, HEIGHT = 200, 100
"""Of every photograph."""

Pixels = tuple[float, float, float, float]
"""x, y, width, height."""


def write_instances(path: Path, photos: Mapping[int, Sequence[tuple[str, Pixels] | tuple[str, Pixels, int]]]) -> Path:
    """instances_*.json: class and box of the objects of each photograph by its id; a third entry is ``iscrowd``."""
    annotations: list[dict[str, Any]] = []
    for image, objects in photos.items():
        for label, box, *crowd in objects:
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": 10 + CLASSES.index(label)}
            annotations.append(entry | {"bbox": list(box), "iscrowd": crowd[0] if crowd else 0})
    categories = [{"id": 10 + k, "name": name} for k, name in enumerate(CLASSES)]
    path.write_text(json.dumps({"images": images(photos), "annotations": annotations, "categories": categories}))
    return path


def write_captions(path: Path, captions: Mapping[int, Sequence[str]]) -> Path:
    """captions_*.json: the captions of each photograph by its id; the last one is written first."""
    entries = [{"image_id": image, "caption": text} for image, texts in captions.items() for text in texts]
    numbered = [{"id": number, **entry} for number, entry in enumerate(entries)]
    path.write_text(json.dumps({"images": images(captions), "annotations": numbered[::-1]}))
    return path


def images(photos: Mapping[int, Any]) -> list[dict[str, Any]]:
    """The entries of ``images``."""
    return [{"id": k, "width": WIDTH, "height": HEIGHT, "file_name": f"{k:012d}.jpg"} for k in photos]
