"""Exports the regions of a scene as COCO annotations of one image.

A region is an annotation with ``bbox``, ``area``, ``segmentation`` (a polygon, or an RLE of the image's size) and its
phrase as ``caption``; each phrase is a category. ``scene/io/importers.py: from_coco`` reads them.
"""

from typing import Any

import numpy as np

from cloisonne.scene.io.interchange.imported_values import Report
from cloisonne.scene.prompt import plain
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box, Point
from cloisonne.scene.shapes.masks import extent
from cloisonne.scene.shapes.rle import Rle

_CARRIED = {"name", "box", "ellipse", "polygon", "mask", "mask_channel", "rle", "phrase"}
"""Fields of a region that annotations have too."""
_SCENE_CARRIED = {"version", "width", "height", "caption", "regions"}


def to_coco(scene: Scene, size: tuple[int, int]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The COCO annotations of a scene, and a sentence for each part of it that they cannot hold.

    Soft masks become hard at 0.5.

    Args:
        scene: the scene.
        size: width and height of the image in pixels.
    """
    warnings: list[str] = []
    image = {"id": 1, "file_name": "image.png", "width": size[0], "height": size[1], "caption": plain(scene.caption)}
    categories: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    written = scene.to_dict()["regions"] if scene.regions else []
    for region, fields in zip(scene.regions, written, strict=True):
        phrase = plain(region.phrase).strip()
        if not region.active or not phrase:
            why = "has weight 0" if not region.active else "has no phrase"
            warnings.append(f'Region "{region.name}" {why} and was left out.')
            continue
        if lost := [field for field in fields if field not in _CARRIED]:
            warnings.append(f'Region "{region.name}": COCO annotations have no {", ".join(lost)}.')
        own = {
            "id": len(annotations) + 1,
            "image_id": 1,
            "category_id": categories.setdefault(phrase, len(categories) + 1),
        }
        annotations.append({**own, **_shape(region, size, warnings.append), "iscrowd": 0, "caption": phrase})
    if lost := [field for field in scene.to_dict() if field not in _SCENE_CARRIED]:
        warnings.append(f"COCO annotations have no {', '.join(lost)} of the scene.")
    named = [{"id": number, "name": name, "supercategory": "region"} for name, number in categories.items()]
    return {"images": [image], "annotations": annotations, "categories": named}, tuple(warnings)


def _shape(region: Region, size: tuple[int, int], report: Report) -> dict[str, Any]:
    """bbox, area and segmentation of a region."""
    if (box := region.box) is not None:
        corners = ((box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3]))
        return _outlined(corners, box, size)
    if region.polygon is not None:
        return _outlined(region.polygon, region.bounding_box(), size)
    mask = region.replace(feather=0.0).soft_mask(size[1], size[0])
    hard = mask >= 0.5
    if not hard.any():
        hard = mask > 0
    if ((mask > 0) & (mask < 1)).any():
        report(f'Region "{region.name}": its soft mask became hard at 0.5.')
    found = extent(hard.astype(np.float32))
    assert found is not None, "the mask has pixels"
    return {"bbox": _pixels(found, size), "area": int(hard.sum()), "segmentation": Rle.of(hard).model_dump(mode="json")}


def _outlined(points: tuple[Point, ...], box: Box, size: tuple[int, int]) -> dict[str, Any]:
    xs, ys = np.array(points).T * np.array(size)[:, None]
    twice = float(xs @ np.roll(ys, -1) - ys @ np.roll(xs, -1))
    flat = [round(float(side), 3) for point in zip(xs, ys, strict=True) for side in point]
    return {"bbox": _pixels(box, size), "area": round(abs(twice) / 2, 3), "segmentation": [flat]}


def _pixels(box: Box, size: tuple[int, int]) -> list[float]:
    """x, y, width and height in pixels."""
    x0, y0, x1, y1 = (round(side * length, 3) for side, length in zip(box, (*size, *size), strict=True))
    return [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]
