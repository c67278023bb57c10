# pyright: strict, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
"""The shapes of a region as fields that check what is given: box, ellipse, polygon, run-length encoding."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ValidationInfo

from cloisonne.errors import SceneError
from cloisonne.scene.shapes.geometry import Box, Point
from cloisonne.scene.shapes.rle import Rle
from cloisonne.scene.values import brief

MAX_POINTS = 10_000
"""Of a polygon."""


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """``value`` as ``count`` finite floats, or None if it is anything else."""
    plain = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(plain, list | tuple) or len(plain) != count:
        return None
    if any(isinstance(number, bool) or not isinstance(number, int | float | np.number) for number in plain):
        return None
    try:
        numbers = tuple(float(number) for number in plain)
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _checked_box(value: Any, info: ValidationInfo) -> Any:
    box = _numbers(value, 4)
    given = f"{info.field_name} is {brief(value)}"
    if box is None:
        raise SceneError(f"{given}; give four numbers [x0, y0, x1, y1], fractions of the canvas from 0 to 1.")
    if not all(0 <= number <= 1 for number in box):
        raise SceneError(f"{given}, which reaches outside the canvas; keep its fractions (not pixels) from 0 to 1.")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise SceneError(f"{given}, which is inverted or empty; give [x0, y0, x1, y1] with x0 < x1 and y0 < y1.")
    return box


def _checked_polygon(value: Any) -> Any:
    plain = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(plain, list | tuple) or not 3 <= len(plain) <= MAX_POINTS:
        raise SceneError(f"polygon is {brief(plain)}; give a list of 3 to {MAX_POINTS} points [x, y].")
    points = [_numbers(point, 2) for point in plain]
    for point, given in zip(points, plain, strict=True):
        if point is None:
            raise SceneError(f"polygon has the point {brief(given)}; give two numbers [x, y], fractions of the canvas.")
        if not all(0 <= number <= 1 for number in point):
            raise SceneError(
                f"polygon has the point {brief(given)}, which lies outside the canvas; "
                "keep its fractions (not pixels) from 0 to 1."
            )
    if _on_a_line(np.array(points)):
        raise SceneError(f"polygon is {brief(plain)}, whose points lie on a line; give corners around an area.")
    return tuple(points)


def _on_a_line(points: NDArray[np.float64]) -> bool:
    spokes = points - points[0]
    x, y = spokes[np.square(spokes).sum(axis=1).argmax()]
    return bool(np.abs(x * spokes[:, 1] - y * spokes[:, 0]).max() <= 1e-12)


def _checked_rle(value: Any) -> Any:
    if not isinstance(value, Mapping | Rle):
        raise SceneError(f'rle is {brief(value)}; give an object {{"size": [height, width], "counts": [...]}}.')
    return value


BoxField = Annotated[Box, BeforeValidator(_checked_box)]
PolygonField = Annotated[tuple[Point, ...], BeforeValidator(_checked_polygon)]
RleField = Annotated[Rle, BeforeValidator(_checked_rle)]
