"""One square training picture out of a shown one: mirrored or not, scaled, cropped, its boxes with it."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from cloisonne.scene.shapes.geometry import Box, area, clipped
from cloisonne.train.datasets.shown import Shown

MIN_LEFT = 0.3
"""A region of which the crop leaves less than this share of its area is not told: its words would be of a sliver."""
MIN_SIDE_PX = 8
"""Nor one that is narrower than this, a latent pixel of Stable Diffusion."""

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def augmented(shown: Shown, rng: np.random.Generator, size: int, *, flip: bool = True) -> Shown:
    """[size, size, 3]: mirrored half of the time if ``flip``, the shorter side scaled to ``size``, cropped at random.

    ``shown`` stays as it is.
    """
    toss, x, y = rng.random(3)
    if flip and toss < 0.5:
        shown = mirrored(shown)
    height, width = shown.rgb.shape[:2]
    scale = size / min(width, height)
    wide, tall = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = int(x * (wide - size + 1)), int(y * (tall - size + 1))
    image = Image.fromarray(shown.rgb)
    if (wide, tall) != (width, height):
        image = image.resize((wide, tall), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)[top : top + size, left : left + size].copy()
    window = (left / wide, top / tall, (left + size) / wide, (top + size) / tall)
    return Shown(pixels, shown.caption, tuple(_inside(shown.regions, window, size)))


def mirrored(shown: Shown) -> Shown:
    """The picture as in a mirror, and its words with it."""
    regions = tuple(((1 - x1, y0, 1 - x0, y1), sides_swapped(words)) for (x0, y0, x1, y1), words in shown.regions)
    return replace(
        shown, rgb=np.ascontiguousarray(shown.rgb[:, ::-1]), caption=sides_swapped(shown.caption), regions=regions
    )


def sides_swapped(text: str) -> str:
    """The words "left" and "right" exchanged, capitals kept; parts of other words ("upright") stay."""
    return _SIDES.sub(lambda found: _other(found.group()), text)


def _other(side: str) -> str:
    other = {"left": "right", "right": "left"}[side.lower()]
    return other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other


def _inside(regions: tuple[tuple[Box, str], ...], window: Box, size: int) -> Iterator[tuple[Box, str]]:
    """The regions of which enough lies in the window, in fractions of it."""
    x0, y0, x1, y1 = window
    for box, words in regions:
        placed = (
            (box[0] - x0) / (x1 - x0),
            (box[1] - y0) / (y1 - y0),
            (box[2] - x0) / (x1 - x0),
            (box[3] - y0) / (y1 - y0),
        )
        left = clipped(placed)
        shorter = min(left[2] - left[0], left[3] - left[1]) * size
        if area(left) >= MIN_LEFT * area(placed) > 0 and shorter >= MIN_SIDE_PX:
            yield left, words
