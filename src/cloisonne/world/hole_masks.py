"""Inpainting masks: rectangles and blobs around the box of an object, and the square crop that contains them.

Yang et al., CVPR 2023, arXiv 2211.13227, section 3.2. Coordinates are fractions of the image, or of the crop window.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.geometry import Box

STRETCH = 0.4
"""Each side of the box moves outwards by up to this fraction of the space beyond it."""
SHRINK = 0.6
"""The window shrinks by up to this fraction of the smallest margin around the hole."""
JITTER = 0.01
"""Largest shift of the outline points, as a fraction of the window side."""
_ALONG = 0.05 * np.arange(1, 19)


def stretched(box: Box, rng: np.random.Generator) -> Box:
    """The box with each side moved outwards at random."""
    x0, y0, x1, y1 = box
    a, b, c, d = rng.random(4) * STRETCH
    return (x0 - a * x0, y0 - b * y0, x1 + c * (1 - x1), y1 + d * (1 - y1))


@dataclass(frozen=True)
class Window:
    """A crop window in pixels of the image."""

    left: int
    top: int
    right: int
    bottom: int

    def seen(self, box: Box, width: int, height: int) -> Box:
        """Convert a box from fractions of the image to fractions of the window."""
        wide, tall = self.right - self.left, self.bottom - self.top
        x0, y0, x1, y1 = box
        return (
            (x0 * width - self.left) / wide,
            (y0 * height - self.top) / tall,
            (x1 * width - self.left) / wide,
            (y1 * height - self.top) / tall,
        )


def window(box: Box, width: int, height: int, rng: np.random.Generator) -> Window:
    """A random square window that contains the box; the whole image if no square does."""
    x0, y0 = int(np.floor(box[0] * width)), int(np.floor(box[1] * height))
    x1, y1 = int(np.ceil(box[2] * width)), int(np.ceil(box[3] * height))
    side = min(width, height)
    places = rng.random(3)
    if max(x1 - x0, y1 - y0) > side:
        return Window(0, 0, width, height)
    left = _between(max(0, x1 - side), min(x0, width - side), places[0])
    top = _between(max(0, y1 - side), min(y0, height - side), places[1])
    free = min(x0 - left, y0 - top, left + side - x1, top + side - y1)
    inwards = int(places[2] * (SHRINK * free + 1))
    return Window(left + inwards, top + inwards, left + side - inwards, top + side - inwards)


def _between(first: int, last: int, at: float) -> int:
    return first + int(at * (last - first + 1))


def rectangle(box: Box, size: int) -> NDArray[np.bool_]:
    """Mask [size, size], True in the box; at least one pixel."""
    mask = np.zeros((size, size), bool)
    x0, y0 = (min(round(v * size), size - 1) for v in box[:2])
    x1, y1 = (round(v * size) for v in box[2:])
    mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return mask


def blob(box: Box, reach: Box, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask [size, size], True in a shape that contains the box. Its sides are quadratic Bezier curves that bulge
    halfway to ``reach``, with 18 jittered points each."""
    (x0, y0, x1, y1), (left, top, right, bottom) = box, reach
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    pulls = [(middle[0], top), (right, middle[1]), (middle[0], bottom), (left, middle[1])]
    t = _ALONG[:, None]
    sides = [
        (1 - t) ** 2 * np.array(a) + 2 * t * (1 - t) * np.array(pull) + t**2 * np.array(b)
        for a, pull, b in zip(corners, pulls, (*corners[1:], corners[0]), strict=True)
    ]
    points = np.concatenate(sides)
    points = np.clip(points + rng.uniform(-JITTER, JITTER, points.shape), 0, 1)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * (size - 1)).astype(np.int32)], 1)
    return mask.astype(bool) | rectangle(box, size)
