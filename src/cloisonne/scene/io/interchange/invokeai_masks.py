"""The shapes of a layer on InvokeAI's canvas: strokes, rectangles, ovals, polygons and lassos, as a region's shape.

A layer is a list of objects that draw or erase one after the other. Strokes are the area around straight lines between
their points. Images are in the metadata by name only, unless they are embedded.
"""

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.io.interchange.imported_values import Report, numbers
from cloisonne.scene.io.interchange.pixels import placed, stroke_mask
from cloisonne.scene.io.quiet import without_warnings
from cloisonne.scene.shapes.geometry import Box, Point, area, clipped
from cloisonne.scene.shapes.masks import box_mask, ellipse_mask, polygon_mask
from cloisonne.scene.shapes.rle import Rle
from cloisonne.scene.values import brief

_LEAST_PRESSURE = 0.05
"""Fraction of a stroke's width that it has where the pen hardly presses."""
_ERASE, _INSIDE_ONLY = "destination-out", "source-atop"
_Mask = Bool[np.ndarray, "_ _"]


def layer_shape(layer: Mapping[str, Any], size: tuple[int, int], region: str, report: Report) -> dict[str, Any] | None:
    """The shape of a layer as a field of a region; None if it has no pixel on the canvas.

    Args:
        layer: its ``objects`` and its ``position``.
        size: width and height of the canvas in pixels.
        region: the name that messages have.
        report: called with a sentence for each object that was left out.
    """
    objects = layer.get("objects")
    if not isinstance(objects, list) or not all(isinstance(one, Mapping) for one in objects):
        raise SceneError(f"objects is {brief(objects)}; give a list of objects.", region=region)
    place = layer.get("position") or {"x": 0, "y": 0}
    given = [place.get(side) for side in ("x", "y")] if isinstance(place, Mapping) else place
    offset = numbers(given, 2, "position", region)
    canvas = _Canvas(size, (offset[0], offset[1]), region, report)
    if len(objects) == 1 and (shape := canvas.vector(objects[0])) is not None:
        return shape
    mask = np.zeros((size[1], size[0]), bool)
    for one in objects:
        canvas.draw(one, mask)
    return {"rle": Rle.of(mask)} if mask.any() else None


class _Canvas:
    """Draws objects of one layer."""

    def __init__(self, size: tuple[int, int], offset: Point, region: str, report: Report) -> None:
        self._size, self._offset, self._region, self._report = size, offset, region, report

    def vector(self, one: Mapping[str, Any]) -> dict[str, Any] | None:
        """The only object of a layer as a box, an ellipse or a polygon, if it is one that lies inside the canvas."""
        kind = one.get("type")
        if one.get("clip") is not None or one.get("compositeOperation", "source-over") != "source-over":
            return None
        if kind in ("rect", "oval"):
            box = self._box(one.get("rect"))
            if kind == "rect":
                return {"box": clipped(box)} if area(clipped(box)) > 0 else None
            return {"ellipse": box} if clipped(box) == box and area(box) > 0 else None
        if kind in ("polygon", "lasso"):
            points = self._points(one, 2)
            within = all(0 <= side <= 1 for point in points for side in point)
            return {"polygon": points} if within and len(set(points)) >= 3 else None
        return None

    def draw(self, one: Mapping[str, Any], mask: _Mask) -> None:
        """Draw an object on ``mask``, or erase it from there."""
        kind = str(one.get("type"))
        pixels: Callable[[Mapping[str, Any]], _Mask] | None = {
            "rect": lambda one: self._raster(box_mask, self._box(one.get("rect"))),
            "oval": lambda one: self._raster(ellipse_mask, self._box(one.get("rect"))),
            "polygon": lambda one: self._raster(polygon_mask, self._points(one, 2)),
            "lasso": lambda one: self._raster(polygon_mask, self._points(one, 2)),
            "brush_line": self._stroke,
            "eraser_line": self._stroke,
            "brush_line_with_pressure": self._stroke,
            "eraser_line_with_pressure": self._stroke,
            "image": self._image,
        }.get(kind)
        if pixels is None:
            self._report(f'Region "{self._region}": its object of the type {brief(kind)} was left out.')
            return
        drawn = pixels(one)
        if one.get("clip") is not None:
            drawn = drawn & self._raster(box_mask, self._box(one["clip"]))
        how = one.get("compositeOperation") or one.get("globalCompositeOperation") or "source-over"
        if kind.startswith("eraser") or how == _ERASE:
            mask &= ~drawn
        elif how != _INSIDE_ONLY:
            mask |= drawn

    def _raster(self, draw: Callable[[Any, int, int], NDArray[Any]], shape: Any) -> _Mask:
        return draw(shape, self._size[1], self._size[0]) > 0

    def _fraction(self, x: float, y: float) -> Point:
        """A point of the layer as a fraction of the canvas."""
        return (x + self._offset[0]) / self._size[0], (y + self._offset[1]) / self._size[1]

    def _box(self, rect: Any) -> Box:
        given = [rect.get(side) for side in ("x", "y", "width", "height")] if isinstance(rect, Mapping) else rect
        x, y, width, height = numbers(given, 4, "rect", self._region)
        return *self._fraction(x, y), *self._fraction(x + width, y + height)

    def _values(self, one: Mapping[str, Any], each: int) -> NDArray[np.float64]:
        """The points of an object, [n, each], in pixels of its layer."""
        given = one.get("points")
        count = len(given) if isinstance(given, list) and given and len(given) % each == 0 else each
        return np.array(numbers(given, count, "points", self._region)).reshape(-1, each)

    def _points(self, one: Mapping[str, Any], each: int) -> tuple[Point, ...]:
        return tuple(self._fraction(float(x), float(y)) for x, y in self._values(one, each))

    def _stroke(self, one: Mapping[str, Any]) -> _Mask:
        """The pixels nearer to the line than half its width, which follows the pressure of a pen."""
        pressed = str(one.get("type")).endswith("with_pressure")
        values = self._values(one, 3 if pressed else 2)
        (width,) = numbers([one.get("strokeWidth")], 1, "strokeWidth", self._region)
        wide = np.full(len(values), width / 2)
        if pressed and one.get("pressureAffectsWidth", True):
            wide *= np.clip(values[:, 2], _LEAST_PRESSURE, 1)
        return stroke_mask(values[:, :2] + self._offset, wide, self._size)

    def _image(self, one: Mapping[str, Any]) -> _Mask:
        """An embedded image's opaque pixels, at the layer's place."""
        image = one.get("image")
        uri = image.get("dataURL") if isinstance(image, Mapping) else None
        if not isinstance(uri, str):
            name = brief(image.get("image_name")) if isinstance(image, Mapping) else brief(image)
            self._report(f'Region "{self._region}": its image {name} is not in the file, which has its name only.')
            return np.zeros((self._size[1], self._size[0]), bool)
        return placed(self._alpha(uri), (round(self._offset[0]), round(self._offset[1])), self._size, False)

    def _alpha(self, uri: str) -> _Mask:
        try:
            data = base64.b64decode(uri.partition(";base64,")[2], validate=True)
            with without_warnings(), Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "JPEG"]) as image:
                return np.asarray(image.convert("RGBA"))[..., 3] >= 128
        # The decoder raises all kinds of exceptions for damaged files.
        except Exception as error:
            raise SceneError(f"Its embedded image cannot be read ({error}).", region=self._region) from None
