"""Scenes from other tools' files. What reaches outside the picture is clipped to it and reported.

Each importer returns the scene and its warnings, one sentence each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.scene.io.mrgd_layout import caption_of, layout_of, scene_fields
from cloisonne.scene.prompt import escaped
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box, Point, area, clipped
from cloisonne.scene.shapes.masks import polygon_mask
from cloisonne.scene.shapes.rle import Rle
from cloisonne.scene.values import shown

_ROUNDING = 1e-6
"""Outside by less than this share of the picture is a rounding error, not worth a report."""


def from_gligen(
    gligen_phrases: Sequence[str], gligen_boxes: Sequence[Sequence[float]], caption: str = ""
) -> tuple[Scene, tuple[str, ...]]:
    """The scene of diffusers' GLIGEN arguments: boxes (x0, y0, x1, y1) as fractions, a phrase each."""
    if len(gligen_phrases) != len(gligen_boxes):
        counts = f"{len(gligen_phrases)} gligen_phrases and {len(gligen_boxes)} gligen_boxes"
        raise SceneError(f"There are {counts}; give one phrase for each box.")
    warnings: list[str] = []
    regions = []
    for index, (phrase, given) in enumerate(zip(gligen_phrases, gligen_boxes, strict=True)):
        name = f"region-{index}"
        box = _inside(_numbers(given, 4, "box", name), name, warnings)
        regions.append(Region(name=name, box=box, phrase=_words(phrase)))
    return Scene(caption=_words(caption), regions=regions), tuple(warnings)


def from_coco(
    data: Mapping[str, Any], image_id: int | str | None = None, *, strict: bool = False
) -> tuple[Scene, tuple[str, ...]]:
    """The scene of one image of COCO annotations.

    Each annotation is a region: its ``segmentation`` (polygons or RLE), else its ``bbox`` (pixels x, y, width, height),
    with its ``caption`` as phrase, else its category's name. An annotation that has nothing but a caption gives the
    scene's. image_id: may be left out where there is one image; 7 and "7" are one id. strict: refuse an annotation
    that cannot be a region, such as one without area; else it is left out, and counted in a warning. The canvas is left
    to the model's native size. Raises SceneError, also where no annotation of the image can be a region.
    """
    image = _coco_image(_entries(data, "images"), image_id)
    categories = {coco_id(category.get("id")): category.get("name") for category in _entries(data, "categories")}
    warnings: list[str] = []
    regions: list[Region] = []
    skipped: list[str] = []
    caption = image.get("caption", "")
    for annotation in _entries(data, "annotations"):
        if coco_id(annotation.get("image_id")) != coco_id(image.get("id")):
            continue
        if not (annotation.get("bbox") or annotation.get("segmentation")):
            caption = caption or annotation.get("caption", "")
            continue
        name = f"region-{len(regions)}"
        phrase = annotation.get("caption") or categories.get(coco_id(annotation.get("category_id"))) or ""
        own: list[str] = []
        try:
            regions.append(_coco_region(annotation, image, name, phrase, own))
        except SceneError as error:
            if strict:
                raise
            skipped.append(str(error).removeprefix(f'Region "{name}": '))
        else:
            warnings += own
    warnings += _left_out(skipped, len(regions), image)
    return Scene(caption=_words(caption), regions=regions), tuple(warnings)


def coco_id(value: Any) -> str:
    """An id in COCO's files as text, so that 7, 7.0 and "7" are one."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def _coco_region(
    annotation: Mapping[str, Any], image: Mapping[str, Any], name: str, phrase: Any, warnings: list[str]
) -> Region:
    region = Region(name=name, phrase=_words(phrase), **_coco_shape(annotation, image, name, warnings))
    if region.rle is not None and not region.rle.pixels().any():
        raise SceneError("segmentation covers no pixel; remove the region.", region=name)
    return region


def _left_out(skipped: Sequence[str], used: int, image: Mapping[str, Any]) -> list[str]:
    """The warning about annotations that could not be regions. Raises SceneError where there are no others."""
    of = f"of image {image.get('id')}"
    if skipped and not used:
        raise SceneError(f"None of the {len(skipped)} annotations {of} can be a region; the first: {skipped[0]}")
    if skipped:
        count = f"{len(skipped)} of {len(skipped) + used} annotations {of} were left out"
        return [f"{count}, the first because: {skipped[0]}"]
    return [] if used else [f"No annotation is a region {of}; check the image_id of the annotations."]


def _words(text: Any) -> Any:
    """Words of a file, in which brackets are no syntax; what is no text is left to be refused."""
    return escaped(text) if isinstance(text, str) else text


def from_mrgd(layout: Mapping[str, Any] | str, caption: str = "") -> tuple[Scene, tuple[str, ...]]:
    """The scene of one of MRGD's layouts (``bbox_controls``), or of the text in a picture that it made.

    Background records lie behind the others (priority -1); AdditionForeground, RemovalForeground and a pair of
    EditedSource and EditedTarget are edits. caption: the prompt of the whole picture; a picture's text has it itself.
    """
    warnings: list[str] = []
    if isinstance(layout, str):
        caption, layout = caption or caption_of(layout), layout_of(layout)
    return Scene(**scene_fields(layout, caption, warnings.append)), tuple(warnings)


def _entries(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = data.get(name, []) if isinstance(data, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise SceneError(f"The COCO annotations have no list of objects {shown(name)}; give COCO's annotation JSON.")
    return entries


def _coco_image(images: list[Mapping[str, Any]], image_id: int | str | None) -> Mapping[str, Any]:
    found = [image for image in images if image_id is None or coco_id(image.get("id")) == coco_id(image_id)]
    if len(found) != 1:
        ids = ", ".join(str(image.get("id")) for image in images[:5])
        asked = "no image was asked for" if image_id is None else f"image {image_id} was asked for"
        raise SceneError(
            f"The COCO annotations have {len(images)} images ({ids}) and {asked}; give image_id, one of them."
        )
    size = [found[0].get(side) for side in ("width", "height")]
    if not all(isinstance(side, int | float) and 1 <= side < 10**6 for side in size):
        raise SceneError(f"The COCO image {found[0].get('id')} has the size {shown(size)}; give its width and height.")
    return found[0]


def _coco_shape(
    annotation: Mapping[str, Any], image: Mapping[str, Any], name: str, warnings: list[str]
) -> dict[str, Any]:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        return {"rle": segmentation}
    width, height = image["width"], image["height"]
    if segmentation:
        if not isinstance(segmentation, list):
            raise SceneError(f"segmentation is {shown(segmentation)}; give polygons or an RLE.", region=name)
        rings = [_ring(flat, width, height, name, warnings) for flat in segmentation]
        if len(rings) == 1:
            return {"polygon": rings[0]}
        pixels = [polygon_mask(ring, int(height), int(width)) for ring in rings]
        return {"rle": Rle.of(np.max(pixels, axis=0) > 0)}
    x, y, w, h = _numbers(annotation["bbox"], 4, "bbox", name)
    return {"box": _inside((x / width, y / height, (x + w) / width, (y + h) / height), name, warnings)}


def _ring(flat: Any, width: float, height: float, name: str, warnings: list[str]) -> tuple[Point, ...]:
    """The corners, in fractions, of COCO's x1, y1, x2, y2, ... in pixels."""
    count = len(flat) if isinstance(flat, list) and len(flat) >= 6 and len(flat) % 2 == 0 else 6
    numbers = np.array(_numbers(flat, count, "segmentation", name)).reshape(-1, 2) / (width, height)
    inside = np.clip(numbers, 0, 1)
    if np.abs(numbers - inside).max() > _ROUNDING:
        warnings.append(f'Region "{name}": its polygon reached outside the picture and was clipped.')
    return tuple((float(x), float(y)) for x, y in inside)


def _inside(box: tuple[float, ...], name: str, warnings: list[str]) -> Box:
    whole = (box[0], box[1], box[2], box[3])
    inside = clipped(whole)
    if area(whole) > 0 and area(inside) == 0:
        raise SceneError(f"The box {_rounded(whole)} lies outside the picture; remove the region.", region=name)
    if max(abs(a - b) for a, b in zip(whole, inside, strict=True)) > _ROUNDING:
        given = f"the box {_rounded(whole)} reached outside the picture"
        warnings.append(f'Region "{name}": {given} and was clipped to {_rounded(inside)}.')
    return inside


def _rounded(box: Box) -> str:
    return shown([round(number, 4) for number in box])


def _numbers(values: Any, count: int, what: str, name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise SceneError(f"{what} is {shown(values)}; give {count} numbers.", region=name)
    return numbers
