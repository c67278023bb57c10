"""Gradient-domain blending: a composite without a visible border."""

import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.masks import extent

ITERATIONS = 40
"""Jacobi iterations; the correction reaches about so many pixels to the square root."""
EDGE = 48
"""Grey levels up to which a difference at the border is corrected; it counts less above, and nothing at twice this."""


def matched(pixels: NDArray[np.uint8], source: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``pixels`` with colours that meet those of ``source`` at the border of ``inside``.

    The difference ``source - pixels`` outside continues into the mask as a solution of Laplace's equation (Perez et
    al., "Poisson Image Editing", 2003, eq. 4). The iteration starts at 0 and stops early, so that it fades out within
    some 6 pixels and the colours of what was generated stay. A difference far above ``EDGE`` is an object that the
    border cuts; it stays as it is, so that thin masks keep what they show.

    Args:
        pixels: RGB uint8 [H, W, 3], a generated image.
        source: RGB uint8 [H, W, 3], the image around it.
        inside: [H, W], where ``pixels`` will replace ``source``; outside of it they are returned as they are.
    """
    box = extent(inside.astype(np.float32))
    if box is None or inside.all():
        return pixels
    height, width = inside.shape
    rows = slice(max(round(box[1] * height) - 1, 0), round(box[3] * height) + 1)
    columns = slice(max(round(box[0] * width) - 1, 0), round(box[2] * width) + 1)
    own, mask = pixels[rows, columns].astype(np.float32), inside[rows, columns, None]
    difference = source[rows, columns] - own
    difference *= np.clip(2 - np.abs(difference).max(2, keepdims=True) / EDGE, 0, 1)
    difference[inside[rows, columns]] = 0
    for _ in range(ITERATIONS):
        near = np.pad(difference, ((1, 1), (1, 1), (0, 0)), "edge")
        mean = (near[:-2, 1:-1] + near[2:, 1:-1] + near[1:-1, :-2] + near[1:-1, 2:]) / 4
        difference = np.where(mask, mean, difference)
    result = pixels.copy()
    result[rows, columns] = np.where(mask, (own + difference).round().clip(0, 255), own).astype(np.uint8)
    return result
