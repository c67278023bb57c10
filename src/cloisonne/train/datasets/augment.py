"""Augmentation of a training image and its boxes: random mirror, scaling and square crop."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from cloisonne.scene.shapes.geometry import Box, area, clipped
from cloisonne.train.datasets.training_image import TrainingImage

MIN_LEFT = 0.3
"""A region is dropped if the crop leaves less than this fraction of its area."""
MIN_SIDE_PX = 8
"""A region is dropped if its shorter side is below this many pixels, one latent pixel of Stable Diffusion."""

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def augmented(image: TrainingImage, rng: np.random.Generator, size: int, *, flip: bool = True) -> TrainingImage:
    """Scale the shorter side to ``size`` and crop at random to [size, size, 3].

    With ``flip``, mirror with probability 0.5. Returns a new image; ``image`` is not modified.
    """
    coin, x, y = rng.random(3)
    if flip and coin < 0.5:
        image = mirrored(image)
    height, width = image.rgb.shape[:2]
    scale = size / min(width, height)
    wide, tall = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = int(x * (wide - size + 1)), int(y * (tall - size + 1))
    pil = Image.fromarray(image.rgb)
    if (wide, tall) != (width, height):
        pil = pil.resize((wide, tall), Image.Resampling.BICUBIC)
    pixels = np.asarray(pil)[top : top + size, left : left + size].copy()
    window = (left / wide, top / tall, (left + size) / wide, (top + size) / tall)
    return TrainingImage(pixels, image.caption, tuple(_inside(image.regions, window, size)))


def mirrored(image: TrainingImage) -> TrainingImage:
    """Mirror the image horizontally; "left" and "right" in its texts are swapped."""
    regions = tuple(((1 - x1, y0, 1 - x0, y1), sides_swapped(text)) for (x0, y0, x1, y1), text in image.regions)
    return replace(
        image, rgb=np.ascontiguousarray(image.rgb[:, ::-1]), caption=sides_swapped(image.caption), regions=regions
    )


def sides_swapped(text: str) -> str:
    """Swap the words "left" and "right", preserving case. Microbatches of other words ("upright") stay."""
    return _SIDES.sub(lambda found: _other(found.group()), text)


def _other(side: str) -> str:
    other = {"left": "right", "right": "left"}[side.lower()]
    return other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other


def _inside(regions: tuple[tuple[Box, str], ...], window: Box, size: int) -> Iterator[tuple[Box, str]]:
    """The regions with enough area inside the window, clipped, as fractions of the window."""
    x0, y0, x1, y1 = window
    for box, text in regions:
        placed = (
            (box[0] - x0) / (x1 - x0),
            (box[1] - y0) / (y1 - y0),
            (box[2] - x0) / (x1 - x0),
            (box[3] - y0) / (y1 - y0),
        )
        visible = clipped(placed)
        shorter = min(visible[2] - visible[0], visible[3] - visible[1]) * size
        if area(visible) >= MIN_LEFT * area(placed) > 0 and shorter >= MIN_SIDE_PX:
            yield visible, text
