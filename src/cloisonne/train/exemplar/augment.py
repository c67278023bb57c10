"""Exemplar preparation: crop, resize to the square input of the image encoder, and augment against copying."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.geometry import Box

PADDING = 0.02
"""Largest margin of the crop around the box on each side, as a fraction of the longer side of the image."""
FLIP, TURN, BLUR, WARP = 0.5, 0.5, 0.3, 0.3
"""Probabilities of mirroring, rotation, blur and affine warp."""
DEGREES = 20.0
WARPED = 50 / 224
"""Largest shift of the three points of the affine warp, as a fraction of the side."""

Picture = NDArray[np.uint8]


def crop(rgb: Picture, box: Box, side: int, rng: np.random.Generator) -> Picture:
    """Crop the box with a random margin and resize it to [side, side, 3]."""
    height, width = rgb.shape[:2]
    margin = rng.uniform(0, PADDING * max(width, height), 4)
    x0, y0 = max(0, int(box[0] * width - margin[0])), max(0, int(box[1] * height - margin[1]))
    x1, y1 = (
        int(np.ceil(min(width, box[2] * width + margin[2]))),
        int(np.ceil(min(height, box[3] * height + margin[3]))),
    )
    return resized(rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], side)


def resized(rgb: Picture, side: int) -> Picture:
    """Resize to [side, side, 3], ignoring the aspect ratio."""
    shrinks = rgb.shape[0] > side
    return cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC).astype(np.uint8)


def augmented(rgb: Picture, rng: np.random.Generator) -> Picture:
    """Mirror, rotate by up to 20 degrees, blur and warp a square image, each with its probability.

    The published augmentation without its elastic grid, which has no visible effect at the published settings.
    """
    side = rgb.shape[0]
    coins = rng.random(4)
    if coins[0] < FLIP:
        rgb = np.ascontiguousarray(rgb[:, ::-1])
    if coins[1] < TURN:
        rotation = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-DEGREES, DEGREES), 1.0)
        rgb = _warped(rgb, rotation)
    if coins[2] < BLUR:
        width = int(rng.integers(1, max(2, round(3 * side / 224) + 1))) * 2 + 1
        rgb = cv2.blur(rgb, (width, width)).astype(np.uint8)
    if coins[3] < WARP:
        middle, third = side / 2, side / 3
        places = np.array([[1, 1], [1, -1], [-1, -1]]) * third + middle
        moved = places + rng.uniform(-WARPED * side, WARPED * side, (3, 2))
        rgb = _warped(rgb, cv2.getAffineTransform(places.astype(np.float32), moved.astype(np.float32)))
    return rgb


def _warped(rgb: Picture, matrix: Any) -> Picture:
    side = rgb.shape[0]
    out = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return out.astype(np.uint8)
