"""Imports the JSON of InstanceDiffusion: a caption, and instances with a mask, a box, a scribble or a point.

    {"caption": ..., "width": W, "height": H, "annos": [
        {"bbox": [x, y, width, height], "mask": [] or RLE, "category_name": ..., "caption": ...,
         "scribble": [[x, y], ...], "point": [x, y]}]}

All in pixels. Of several shapes of an instance the finest one is the region's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.scene.io.images import MAX_PIXELS
from cloisonne.scene.io.interchange.imported_values import Report, inside, literal, numbers
from cloisonne.scene.io.interchange.pixels import stroke_mask
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import clipped
from cloisonne.scene.shapes.rle import Rle
from cloisonne.scene.values import brief

_ANNOTATIONS = "annos"
_SHAPES = ("mask", "bbox", "scribble", "point")
"""From the finest to the coarsest."""
_POINT, _SCRIBBLE = 0.1, 0.05
"""Diameter of a point's circle and width of a scribble's line, as fractions of the image's shorter side."""


def is_instance_diffusion(data: Any) -> bool:
    """Whether a JSON object is one of InstanceDiffusion's."""
    return isinstance(data, Mapping) and isinstance(data.get(_ANNOTATIONS), list)


def from_instance_diffusion(data: Mapping[str, Any]) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from the JSON object of an InstanceDiffusion demo.

    A point becomes a small circle and a scribble a line with a width. The canvas takes the model's default size.

    Raises:
        SceneError: an instance is malformed or has no shape; names its region.
    """
    if not is_instance_diffusion(data) or not all(isinstance(one, Mapping) for one in data[_ANNOTATIONS]):
        raise SceneError(f"The JSON has no list of objects {brief(_ANNOTATIONS)}; give InstanceDiffusion's JSON.")
    width, height = (data.get(side) for side in ("width", "height"))
    if not all(isinstance(side, int | float) and side >= 1 for side in (width, height)):
        raise SceneError(f"The image has the size {brief([width, height])}; give its width and height.")
    assert width is not None, "both are numbers"
    assert height is not None, "both are numbers"
    if width * height > MAX_PIXELS:
        raise SceneError(f"The image has {width} x {height} pixels; give at most {MAX_PIXELS // 10**6} megapixels.")
    warnings: list[str] = []
    regions = []
    for index, one in enumerate(data[_ANNOTATIONS]):
        name = f"region-{index}"
        phrase = one.get("caption") or one.get("category_name") or ""
        shape = _shape(one, (round(width), round(height)), name, warnings.append)
        if shape is None:
            warnings.append(f'Region "{name}", {brief(phrase)}, has an empty box and was left out.')
        else:
            regions.append({"name": name, **shape, "phrase": literal(phrase)})
    return Scene(caption=literal(data.get("caption", "")), regions=regions), tuple(warnings)


def _shape(one: Mapping[str, Any], size: tuple[int, int], name: str, report: Report) -> dict[str, Any] | None:
    """The finest shape of an instance, as a field of a region; None for a box without area."""
    given = [kind for kind in _SHAPES if one.get(kind)]
    if not given:
        raise SceneError(f"The instance has no shape; give it one of {', '.join(_SHAPES)}.", region=name)
    kind, *others = given
    if lost := [other for other in others if other != "bbox"]:
        report(f'Region "{name}": its {" and its ".join(lost)} {"was" if len(lost) == 1 else "were"} not carried.')
    width, height = size
    if kind == "mask":
        return {"rle": _rle(one["mask"], name)}
    if kind == "bbox":
        x, y, w, h = numbers(one["bbox"], 4, "bbox", name)
        if w <= 0 or h <= 0:
            return None
        return {"box": inside((x / width, y / height, (x + w) / width, (y + h) / height), name, report)}
    shorter = min(size)
    if kind == "point":
        x, y = numbers(one["point"], 2, "point", name)
        radius = _POINT * shorter / 2
        box = ((x - radius) / width, (y - radius) / height, (x + radius) / width, (y + radius) / height)
        report(f'Region "{name}": its point became a circle of {2 * radius:g} pixels.')
        return {"box" if clipped(box) != box else "ellipse": inside(box, name, report)}
    points = _points(one["scribble"], name)
    mask = stroke_mask(points, np.full(len(points), _SCRIBBLE * shorter / 2), size)
    if not mask.any():
        raise SceneError("The scribble lies outside the image; remove the region.", region=name)
    report(f'Region "{name}": its scribble became a line {_SCRIBBLE * shorter:g} pixels wide.')
    return {"rle": Rle.of(mask)}


def _rle(given: Any, name: str) -> Rle:
    try:
        rle = Rle(**given) if isinstance(given, Mapping) else None
    except SceneError as error:
        raise SceneError(str(error), region=name) from None
    if rle is None or not rle.pixels().any():
        raise SceneError(f"mask is {brief(given)}; give an RLE of at least one pixel.", region=name)
    return rle


def _points(given: Any, name: str) -> np.ndarray:
    """The points [n, 2] of a scribble, as pairs or as x1, y1, x2, y2, ..."""
    if not isinstance(given, list):
        raise SceneError(f"scribble is {brief(given)}; give a list of points.", region=name)
    flat = all(isinstance(one, int | float) for one in given)
    values = given if flat else [side for point in given for side in numbers(point, 2, "scribble", name)]
    return np.array(numbers(values, len(values) + len(values) % 2, "scribble", name)).reshape(-1, 2)
