"""Whether an image given as a mask is a photograph. Masks are flat or smooth, and have one colour on black."""

import numpy as np
from numpy.typing import NDArray

MIDDLE = 0.25
"""An image may be a photograph above this fraction of pixels that are neither nearly black nor nearly white."""
VARIATION = 5.0
"""Least total variation of a photograph's rows, in multiples of their range; 1 in a gradient, 2 in a soft stroke."""

FEW = 4
"""Largest number of colours in brush strokes."""

_ROWS = 512
"""Number of rows that are examined, spread over the image."""


def is_photo(grey: NDArray[np.uint8], where: NDArray[np.bool_]) -> bool:
    """Whether uint8 [h, w] has greys throughout that vary like a photograph's in most rows, at the pixels ``where``."""
    every = max(len(grey) // _ROWS, 1)
    rows, inside = grey[::every].astype(np.int32), where[::every]
    middle = inside & (rows > 16) & (rows < 239)
    if int(middle.sum()) <= MIDDLE * max(int(inside.sum()), 1):
        return False
    both = inside[:, 1:] & inside[:, :-1]
    total = (np.abs(np.diff(rows, axis=1)) * both).sum(axis=1)
    spread = np.where(inside, rows, 0).max(axis=1) - np.where(inside, rows, 255).min(axis=1)
    varied = spread > 32
    return bool(varied.any()) and float(np.median(total[varied] / spread[varied])) >= VARIATION


def has_colours(rgb: NDArray[np.uint8], where: NDArray[np.bool_]) -> bool:
    """Whether uint8 [h, w, 3] has more than shades of one colour, at the pixels ``where`` [h, w]."""
    every = max(len(rgb) // _ROWS, 1)
    pixels = rgb[::every][where[::every]].astype(np.float64)
    bright = pixels[pixels.max(axis=1, initial=0) > 32] if pixels.size else pixels
    coloured = bright[np.ptp(bright, axis=1) > 32] if bright.size else bright
    if len(coloured) <= 0.01 * len(pixels):
        return False
    direction = coloured.mean(axis=0)
    direction /= np.linalg.norm(direction)
    apart = np.linalg.norm(bright - (bright @ direction)[:, None] * direction, axis=1)
    return bool((apart > 24).mean() > 0.05)


def many_colours(pixels: NDArray[np.uint8]) -> bool:
    """Whether the FEW commonest colours of uint8 [n, 3], in steps of 32, cover less than 95 % of it."""
    coarse = pixels.astype(np.uint32) >> 5
    counts = np.bincount((coarse[:, 0] << 6) | (coarse[:, 1] << 3) | coarse[:, 2])
    return int(np.sort(counts)[::-1][:FEW].sum()) < 0.95 * len(pixels)
