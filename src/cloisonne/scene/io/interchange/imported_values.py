"""Values in other tools' files: numbers, boxes and texts, checked and converted."""

from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.scene.prompt import escaped
from cloisonne.scene.shapes.geometry import Box, area, clipped
from cloisonne.scene.values import brief

Report: TypeAlias = Callable[[str], object]
"""Called with a sentence for each part of a file that a scene cannot hold, or that was changed."""

_MOST = 1e9
"""Larger numbers are no coordinates, and overflow in computations with them."""
ROUNDING = 1e-6
"""Shapes outside by less than this fraction of the image are clipped without a warning."""

_LONGEST = 90
"""Characters of a title that become a name, which has room for a number then."""


def literal(text: Any) -> Any:
    """Escape prompt syntax in text from a file. Other types are returned as they are, for validation to refuse."""
    return escaped(text) if isinstance(text, str) else text


def numbers(values: Any, count: int, what: str, region: str | None) -> tuple[float, ...]:
    """``values`` as ``count`` finite floats. Raises SceneError, which calls them ``what``, for anything else."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        found = ()
    if len(found) != count or not (np.abs(found) <= _MOST).all():
        raise SceneError(f"{what} is {brief(values)}; give {count} numbers.", region=region)
    return found


def region_name(title: Any, taken: Collection[str]) -> str:
    """A region's name from a layer's title, with a number where the title is ``taken``."""
    first = " ".join(str(title).split())[:_LONGEST] or "region"
    return next(one for k in range(1, len(taken) + 2) if (one := first if k == 1 else f"{first} {k}") not in taken)


def canvas_size(width: int, height: int, report: Report) -> dict[str, int]:
    """The size of an image as fields of a scene; {}, with a sentence, where a canvas cannot have it."""
    if all(64 <= side <= 4096 and side % 8 == 0 for side in (width, height)):
        return {"width": width, "height": height}
    report(f"The size {width} x {height} was not carried: sides are multiples of 8, from 64 to 4096 pixels.")
    return {}


def inside(box: tuple[float, ...], region: str, report: Report) -> Box:
    """The part of a box (fractions) inside the image. Raises SceneError if there is none."""
    whole = (box[0], box[1], box[2], box[3])
    part = clipped(whole)
    if area(whole) > 0 and area(part) == 0:
        raise SceneError(f"The box {_rounded(whole)} lies outside the image; remove the region.", region=region)
    if max(abs(a - b) for a, b in zip(whole, part, strict=True)) > ROUNDING:
        given = f"its box {_rounded(whole)} reaches outside the image"
        report(f'Region "{region}": {given} and was clipped to {_rounded(part)}.')
    return part


def _rounded(box: Box) -> str:
    return brief([round(number, 4) for number in box])
