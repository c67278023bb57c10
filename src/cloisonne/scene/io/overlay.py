"""Draws the outlines and names of regions over an image."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cloisonne.scene.region import Region

MIN_SIDE = 512
"""Smaller images are enlarged by a whole factor, so that names are readable."""

_Colour = tuple[int, int, int]


def draw_regions(picture: Image.Image, regions: Sequence[Region]) -> Image.Image:
    """Draw each region's outline and name over ``picture`` (upright). Masks are outlined at half of their maximum.

    Returns:
        An RGB image, enlarged if the given one is smaller than MIN_SIDE.
    """
    factor = max(1, -(-MIN_SIDE // min(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    pixels = np.array(picture.convert("RGB").resize(size, Image.Resampling.NEAREST))
    labels = []
    for index, region in enumerate(regions):
        inside, colour = _inside(region, size[1], size[0]), _colour(index)
        _outline(pixels, inside, colour)
        labels.append((region.name or "", _corner(inside), colour))
    drawn = Image.fromarray(pixels)
    for name, corner, colour in labels:
        _label(drawn, name, corner, colour)
    return drawn


def _inside(region: Region, height: int, width: int) -> NDArray[np.uint8]:
    mask = region.replace(feather=0.0).soft_mask(height, width)
    return (mask >= 0.5 * mask.max()).astype(np.uint8)


def _colour(index: int) -> _Colour:
    """Distinct hues for any number of regions: steps of the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((0.05 + index * 0.618034) % 1, 0.75, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(pixels: NDArray[np.uint8], inside: NDArray[np.uint8], colour: _Colour) -> None:
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(2, min(inside.shape) // 200)
    cv2.drawContours(pixels, outlines, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(pixels, outlines, -1, colour, thickness)


def _corner(inside: NDArray[np.uint8]) -> tuple[int, int]:
    """x, y of the first pixel inside, in row order."""
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(x), int(y)


def _label(drawn: Image.Image, name: str, corner: tuple[int, int], colour: _Colour) -> None:
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(max(12, min(drawn.size) // 32))
    left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = max(0, min(corner[0] + 4, drawn.width - int(width)))
    y = min(corner[1] + 4, drawn.height - int(height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 3 - left, y + 3 - top), name, fill=(0, 0, 0), font=font)
