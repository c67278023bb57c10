"""Random masks inside which a control map applies (arXiv 2602.01991, section 3), on a square image."""

import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.masks import box_mask, ellipse_mask

LEAST = 10_000 / 512**2
"""Smallest box area, as a fraction of the image."""
RADII = (50 / 512, 128 / 512)
"""Smallest and largest radius of a circle, and half side of a square, as fractions of the side."""


def training_mask(shape: str, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A mask [size, size], 1 where the control map applies.

    shape: "bbox" (a box with two uniform corners), "alternate" (one or two circles or squares), "fixed" (the central
    quarter), or "none" (the whole image).
    """
    match shape:
        case "bbox":
            return box_mask(_box(rng), size, size)
        case "alternate":
            masks = [_circle_or_square(size, rng) for _ in range(int(rng.integers(1, 3)))]
            return np.maximum.reduce(masks)
        case "fixed":
            return box_mask((0.25, 0.25, 0.75, 0.75), size, size)
        case _:
            return np.ones((size, size), np.float32)


def _box(rng: np.random.Generator) -> tuple[float, float, float, float]:
    while True:
        (x0, x1), (y0, y1) = np.sort(rng.random((2, 2)), axis=1)
        if (x1 - x0) * (y1 - y0) >= LEAST:
            return (float(x0), float(y0), float(x1), float(y1))


def _circle_or_square(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    radius = rng.uniform(*RADII)
    x, y = rng.uniform(radius, 1 - radius, 2)
    box = (float(x - radius), float(y - radius), float(x + radius), float(y + radius))
    return ellipse_mask(box, size, size) if rng.random() < 0.5 else box_mask(box, size, size)
