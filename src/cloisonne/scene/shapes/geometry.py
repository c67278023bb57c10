"""Where things are: boxes in fractions of the canvas, and windows of whole pixels."""

import math
from collections.abc import Iterable
from typing import NamedTuple

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of the canvas: x to the right, y downwards, (0, 0) the top left corner."""

Point = tuple[float, float]
"""x, y as fractions of the canvas."""


class Window(NamedTuple):
    """A rectangle of whole pixels; ``x1`` and ``y1`` are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.y1 - self.y0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an array [H, W, ...]."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def pixel_window(box: Box, width: int, height: int) -> Window:
    """The smallest window of whole pixels that covers ``box`` on a canvas of ``width`` x ``height`` pixels."""
    x0, y0, x1, y1 = box
    return Window(
        math.floor(_settled(x0 * width)),
        math.floor(_settled(y0 * height)),
        math.ceil(_settled(x1 * width)),
        math.ceil(_settled(y1 * height)),
    )


def _settled(pixels: float) -> float:
    """A pixel's edge that was written as a fraction stays that edge: 0.07 * 100 is 7, not 7.000000000000001."""
    return round(pixels, 6)


def crop_window(window: Window, width: int, height: int, context: float = 0.5, least: float = 0.0) -> Window:
    """The square to work in when only ``window`` of a picture of ``width`` x ``height`` pixels is to change.

    Its side is the window's longer one plus the share ``context`` of it, or ``least`` pixels if these are more, and it
    is centred on the window. At the edges of the picture it is moved inwards; where the picture is narrower than the
    square, it ends with the picture.
    """
    side = math.ceil(max(max(window.width, window.height) * (1 + context), least))
    x0, x1 = _around(window.x0, window.x1, side, width)
    y0, y1 = _around(window.y0, window.y1, side, height)
    return Window(x0, y0, x1, y1)


def _around(start: int, stop: int, length: int, limit: int) -> tuple[int, int]:
    length = min(length, limit)
    first = min(max(start - (length - (stop - start)) // 2, 0), limit - length)
    return first, first + length


def bounds(points: Iterable[Point]) -> Box:
    """The smallest box around ``points``."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def clipped(box: Box) -> Box:
    """What of ``box`` lies on the canvas; a box without area where nothing does."""
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in box)
    return x0, y0, x1, y1


def area(box: Box) -> float:
    """Share of the canvas that ``box`` covers."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def overlap(a: Box, b: Box) -> float:
    """Share of the canvas that both boxes cover."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes with area, in [0, 1]."""
    shared = overlap(a, b)
    return shared / (area(a) + area(b) - shared)
