"""The exemplar as it is shown: cut out, squashed to the tower's square, and changed so that copying does not help."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.geometry import Box

PADDING = 0.02
"""The cut reaches beyond the box by up to this share of the picture's longer side, on each side."""
FLIP, TURN, BLUR, WARP = 0.5, 0.5, 0.3, 0.3
"""Probabilities."""
DEGREES = 20.0
WARPED = 50 / 224
"""How far the affine warp moves its three points, as a share of the side."""

Picture = NDArray[np.uint8]


def cut(rgb: Picture, box: Box, side: int, rng: np.random.Generator) -> Picture:
    """[side, side, 3]: the box of the picture, a little wider, squashed to a square."""
    height, width = rgb.shape[:2]
    reach = rng.uniform(0, PADDING * max(width, height), 4)
    x0, y0 = max(0, int(box[0] * width - reach[0])), max(0, int(box[1] * height - reach[1]))
    x1, y1 = int(np.ceil(min(width, box[2] * width + reach[2]))), int(np.ceil(min(height, box[3] * height + reach[3])))
    return squashed(rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], side)


def squashed(rgb: Picture, side: int) -> Picture:
    """[side, side, 3]: the whole picture."""
    shrinks = rgb.shape[0] > side
    return cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC).astype(np.uint8)


def changed(rgb: Picture, rng: np.random.Generator) -> Picture:
    """The square picture mirrored, turned by up to 20 degrees, blurred and warped, each with its probability.

    The published augmentation (its elastic grid, which moves nothing visible at its settings, apart).
    """
    side = rgb.shape[0]
    toss = rng.random(4)
    if toss[0] < FLIP:
        rgb = np.ascontiguousarray(rgb[:, ::-1])
    if toss[1] < TURN:
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-DEGREES, DEGREES), 1.0)
        rgb = _moved(rgb, turn)
    if toss[2] < BLUR:
        width = int(rng.integers(1, max(2, round(3 * side / 224) + 1))) * 2 + 1
        rgb = cv2.blur(rgb, (width, width)).astype(np.uint8)
    if toss[3] < WARP:
        middle, third = side / 2, side / 3
        places = np.array([[1, 1], [1, -1], [-1, -1]]) * third + middle
        moved = places + rng.uniform(-WARPED * side, WARPED * side, (3, 2))
        rgb = _moved(rgb, cv2.getAffineTransform(places.astype(np.float32), moved.astype(np.float32)))
    return rgb


def _moved(rgb: Picture, matrix: Any) -> Picture:
    side = rgb.shape[0]
    out = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return out.astype(np.uint8)
