"""Import scenes from other tools' formats. Shapes are clipped to the image, with a warning.

Each importer returns the scene and its warnings, one sentence each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.scene.io import elements
from cloisonne.scene.io.interchange.imported_values import ROUNDING, inside, literal, numbers
from cloisonne.scene.io.mrgd_layout import caption_of, layout_of, scene_fields
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Point, bounds
from cloisonne.scene.shapes.masks import polygon_mask
from cloisonne.scene.shapes.rle import Rle
from cloisonne.scene.values import brief


def from_gligen(
    gligen_phrases: Sequence[str], gligen_boxes: Sequence[Sequence[float]], caption: str = ""
) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from the arguments of diffusers' GLIGEN pipelines. Boxes are (x0, y0, x1, y1) in fractions."""
    if len(gligen_phrases) != len(gligen_boxes):
        counts = f"{len(gligen_phrases)} gligen_phrases and {len(gligen_boxes)} gligen_boxes"
        raise SceneError(f"There are {counts}; give one phrase for each box.")
    warnings: list[str] = []
    regions = []
    for index, (phrase, given) in enumerate(zip(gligen_phrases, gligen_boxes, strict=True)):
        name = f"region-{index}"
        box = inside(numbers(given, 4, "box", name), name, warnings.append)
        regions.append(Region(name=name, box=box, phrase=literal(phrase)))
    return Scene(caption=literal(caption), regions=regions), tuple(warnings)


def from_coco(
    data: Mapping[str, Any], image_id: int | str | None = None, *, strict: bool = False
) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from the COCO annotations of one image.

    Each annotation becomes a region. Its shape is the ``segmentation`` (polygons or RLE), else the ``bbox`` (pixels x,
    y, width, height); its phrase is the ``caption``, else the category's name. An annotation with only a caption gives
    the scene's caption. The canvas takes the model's default size.

    Args:
        data: the annotation file's JSON object.
        image_id: may be omitted if there is only one image; 7 and "7" are the same id.
        strict: refuse annotations that are not valid regions, such as those without area. Otherwise they are skipped
            and counted in a warning.

    Raises:
        SceneError: the annotations are malformed, there is no such image, or none of its annotations is a valid region.
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
    warnings += _skip_warnings(skipped, len(regions), image)
    return Scene(caption=literal(caption), regions=regions), tuple(warnings)


def coco_id(value: Any) -> str:
    """An id of a COCO file as text, so that 7, 7.0 and "7" are equal."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def _coco_region(
    annotation: Mapping[str, Any], image: Mapping[str, Any], name: str, phrase: Any, warnings: list[str]
) -> Region:
    region = Region(name=name, phrase=literal(phrase), **_coco_shape(annotation, image, name, warnings))
    if region.rle is not None and not region.rle.pixels().any():
        raise SceneError("segmentation covers no pixel; remove the region.", region=name)
    return region


def _skip_warnings(skipped: Sequence[str], used: int, image: Mapping[str, Any]) -> list[str]:
    """The warning about skipped annotations. Raises SceneError if all were skipped."""
    of = f"of image {image.get('id')}"
    if skipped and not used:
        raise SceneError(f"None of the {len(skipped)} annotations {of} is a valid region; the first: {skipped[0]}")
    if skipped:
        count = f"{len(skipped)} of {len(skipped) + used} annotations {of} were skipped"
        return [f"{count}; the first: {skipped[0]}"]
    return [] if used else [f"No annotation {of} is a region; check the image_id of the annotations."]


def from_mrgd(layout: Mapping[str, Any] | str, caption: str = "") -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from an MRGD layout (``bbox_controls``), or from the parameters text of an MRGD image.

    Background records get priority -1. AdditionForeground, RemovalForeground and pairs of EditedSource and EditedTarget
    become edits.

    Args:
        layout: the layout or the text.
        caption: prompt of the whole image; by default the one in the text.
    """
    warnings: list[str] = []
    if isinstance(layout, str):
        caption, layout = caption or caption_of(layout), layout_of(layout)
    return Scene(**scene_fields(layout, caption, warnings.append)), tuple(warnings)


def from_elements(data: Mapping[str, Any] | Sequence[Any]) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from ComfyUI's ``elements``; the forms and what becomes of them are in ``scene/io/elements.py``."""
    warnings: list[str] = []
    return Scene(**elements.scene_fields(data, warnings.append)), tuple(warnings)


def _entries(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = data.get(name, []) if isinstance(data, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise SceneError(f"The COCO annotations have no list of objects {brief(name)}; give COCO's annotation JSON.")
    return entries


def _coco_image(images: list[Mapping[str, Any]], image_id: int | str | None) -> Mapping[str, Any]:
    found = [image for image in images if image_id is None or coco_id(image.get("id")) == coco_id(image_id)]
    if len(found) != 1:
        ids = ", ".join(str(image.get("id")) for image in images[:5])
        given = "missing" if image_id is None else f"{image_id}"
        raise SceneError(
            f"image_id is {given}, but the COCO annotations have {len(images)} images ({ids}); give the id of one."
        )
    size = [found[0].get(side) for side in ("width", "height")]
    if not all(isinstance(side, int | float) and 1 <= side < 10**6 for side in size):
        raise SceneError(f"The COCO image {found[0].get('id')} has the size {brief(size)}; give its width and height.")
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
            raise SceneError(f"segmentation is {brief(segmentation)}; give polygons or an RLE.", region=name)
        rings = [_ring(flat, width, height, name, warnings) for flat in segmentation]
        if len(rings) == 1:
            return _rectangle(rings[0]) or {"polygon": rings[0]}
        pixels = [polygon_mask(ring, int(height), int(width)) for ring in rings]
        return {"rle": Rle.of(np.max(pixels, axis=0) > 0)}
    x, y, w, h = numbers(annotation["bbox"], 4, "bbox", name)
    return {"box": inside((x / width, y / height, (x + w) / width, (y + h) / height), name, warnings.append)}


def _rectangle(ring: tuple[Point, ...]) -> dict[str, Any] | None:
    """The box that a polygon is, as the fields of a region; None for another polygon."""
    x0, y0, x1, y1 = bounds(ring)
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return {"box": (x0, y0, x1, y1)} if ring == corners and x0 < x1 and y0 < y1 else None


def _ring(flat: Any, width: float, height: float, name: str, warnings: list[str]) -> tuple[Point, ...]:
    """Convert COCO's x1, y1, x2, y2, ... in pixels to points in fractions."""
    count = len(flat) if isinstance(flat, list) and len(flat) >= 6 and len(flat) % 2 == 0 else 6
    points = np.array(numbers(flat, count, "segmentation", name)).reshape(-1, 2) / (width, height)
    within = np.clip(points, 0, 1)
    if np.abs(points - within).max() > ROUNDING:
        warnings.append(f'Region "{name}": its polygon reaches outside the image and was clipped.')
    return tuple((float(x), float(y)) for x, y in within)
