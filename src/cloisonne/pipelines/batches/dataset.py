"""COCO annotations of the images of a batch: what was asked for is the label."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cloisonne.errors import OutputError, SceneError
from cloisonne.pipelines.batches.manifest import Line
from cloisonne.pipelines.batches.output_folder import finished_lines
from cloisonne.scene.io.scene_list import ANNOTATIONS
from cloisonne.scene.prompt import plain
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.rle import encode

VISIBLE = 0.5
"""Share above which a pixel of a soft mask belongs to the region."""


def write_dataset(folder: Path) -> Path:
    """Write ``annotations.json`` for the finished images of a folder, from the scenes that they carry.

    The images are in the order of their names; each has its scene's caption and seed. Each region with a phrase that
    the model took is an annotation: its box [x, y, width, height] in pixels, its mask as runs, its phrase as
    ``caption``, and a category of that phrase. Regions may overlap; each annotation has the whole region.

    Raises:
        OutputError: the file cannot be written.
        SceneError: an image carries no scene.
    """
    path = folder / ANNOTATIONS
    partial = folder / f".{ANNOTATIONS}.tmp"
    try:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as images, partial.open("w", encoding="utf-8") as file:
            _write(finished_lines(folder), folder, images, file)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f'"{path}" cannot be written ({error.strerror}); free space on its disk.') from None
    return path


def _write(lines: list[Line], folder: Path, images: TextIO, file: TextIO) -> None:
    """Write the annotations while the entries of the images are collected in another file."""
    categories: dict[str, int] = {}
    count = 0
    file.write('{"annotations": [')
    for number, line in enumerate(lines, 1):
        scene = Scene.from_png(folder / line.file)
        entry = {"id": number, "file_name": line.file, "width": line.width, "height": line.height, "seed": line.seed}
        _add(images, entry | {"caption": plain(scene.caption).strip()}, first=number == 1)
        for annotation in _annotations(scene, line):
            category = categories.setdefault(annotation["caption"], len(categories) + 1)
            count += 1
            _add(file, {"id": count, "image_id": number, "category_id": category, **annotation}, first=count == 1)
    images.seek(0)
    file.write('],\n"images": [')
    while part := images.read(2**20):
        file.write(part)
    named = [{"id": number, "name": name} for name, number in categories.items()]
    file.write(f'],\n"categories": {json.dumps(named, ensure_ascii=False)}}}\n')


def annotations_of(folder: Path, line: Line) -> Iterator[dict[str, Any]]:
    """The annotations of one image, in the order of the file, without their ids. Raises SceneError."""
    return _annotations(Scene.from_png(folder / line.file), line)


def _add(file: TextIO, entry: dict[str, Any], *, first: bool) -> None:
    file.write(("\n" if first else ",\n") + json.dumps(entry, ensure_ascii=False))


def _annotations(scene: Scene, line: Line) -> Iterator[dict[str, Any]]:
    for region in scene.active_regions:
        phrase = plain(region.phrase).strip()
        if not phrase or region.name in line.dropped:
            continue
        mask = _mask(region, line)
        if mask is None:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        yield {
            "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            "area": int(mask.sum()),
            "segmentation": {"size": [line.height, line.width], "counts": encode(mask)},
            "iscrowd": 0,
            "caption": phrase,
        }


def _mask(region: Region, line: Line) -> Any:
    """The hard mask [h, w] of a region; None where it covers no pixel."""
    try:
        mask = region.soft_mask(line.height, line.width) >= VISIBLE
    except SceneError:  # covers no pixel
        return None
    return mask if mask.any() else None
