"""Boxes in fractions of the canvas, windows of whole pixels, and the part of an image that the canvas is."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image

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


class Frame(NamedTuple):
    """The canvas, and the part of an image that it is.

    canvas, image: sizes (width, height) in pixels. window: the part of the image that is resized to the canvas.
    """

    canvas: tuple[int, int]
    image: tuple[int, int]
    window: Window

    @classmethod
    def whole(cls, canvas: tuple[int, int]) -> "Frame":
        """A canvas that is an image of its own."""
        return cls(canvas, canvas, Window(0, 0, *canvas))

    def of(self, image: Image.Image) -> Image.Image:
        """What of an image of any size lies on the canvas, at the canvas's size; the image is stretched to fit."""
        if image.size != self.image:
            image = image.resize(self.image, Image.Resampling.LANCZOS)
        if self.window != (0, 0, *self.image):
            image = image.crop(self.window)
        return image if image.size == self.canvas else image.resize(self.canvas, Image.Resampling.LANCZOS)


def pixel_window(box: Box, width: int, height: int) -> Window:
    """The smallest window of whole pixels that covers ``box`` on a canvas of ``width`` x ``height`` pixels."""
    x0, y0, x1, y1 = box
    return Window(
        math.floor(_snapped(x0 * width)),
        math.floor(_snapped(y0 * height)),
        math.ceil(_snapped(x1 * width)),
        math.ceil(_snapped(y1 * height)),
    )


def _snapped(pixels: float) -> float:
    """Round off floating-point errors of pixel edges: 0.07 * 100 is 7, not 7.000000000000001."""
    return round(pixels, 6)


def crop_window(window: Window, width: int, height: int, context: float = 0.5, least: float = 0.0) -> Window:
    """The square crop to work in when only ``window`` of an image is to change.

    It is centred on the window, moved inwards at the edges of the image, and cut where the image is narrower.

    Args:
        window: the pixels to change.
        width, height: size of the image in pixels.
        context: margin, as a fraction of the window's longer side.
        least: smallest side of the crop in pixels.
    """
    side = math.ceil(max(max(window.width, window.height) * (1 + context), least))
    x0, x1 = _extended(window.x0, window.x1, side, width)
    y0, y1 = _extended(window.y0, window.y1, side, height)
    return Window(x0, y0, x1, y1)


def _extended(start: int, stop: int, length: int, limit: int) -> tuple[int, int]:
    length = min(length, limit)
    first = min(max(start - (length - (stop - start)) // 2, 0), limit - length)
    return first, first + length


def bounds(points: Iterable[Point]) -> Box:
    """The smallest box around ``points``."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def clipped(box: Box) -> Box:
    """The part of ``box`` on the canvas; a box without area if there is none."""
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in box)
    return x0, y0, x1, y1


def area(box: Box) -> float:
    """Fraction of the canvas that ``box`` covers."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def overlap(a: Box, b: Box) -> float:
    """Fraction of the canvas that both boxes cover."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes with area, in [0, 1]."""
    shared = overlap(a, b)
    return shared / (area(a) + area(b) - shared)
